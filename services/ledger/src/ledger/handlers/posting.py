"""From facts to the books: claim, settle what is counted twice, number, tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from contracts import Progress, VoucherEntry, VoucherPosted
from eventing import NewTask, Received, Task, UnitOfWork
from ledger.domain.account import Adjustment, Units, settle
from ledger.domain.policy import apply_policies, recognition_of
from ledger.domain.posting import (
    Fact,
    FactLine,
    Repeated,
    Voucher,
    about_of,
    deltas_of,
    derived_claim,
    draft_vouchers,
    series_of,
)
from ledger.domain.template import Amounts
from ledger.handlers.facts import FactEvent, facts_of
from ledger.store import books, numbering, setup
from ledger.store.books import Flag
from ledger.store.numbering import Numbers
from ledger.store.setup import Chart, Setup


class Bookkeeper:
    """Posts facts into one book."""

    def __init__(self, book: str) -> None:
        self.book = book
        self._setup = setup.SetupReader(book)

    async def on_facts(self, received: Sequence[Received[FactEvent]], work: UnitOfWork) -> None:
        """Post what events say. One handler for all of them, so that a batch locks its counters once, and last."""
        facts = [fact for one in received for fact in facts_of(one)]
        if facts:
            await self._post(facts, await self.prepare(work), work)

    async def prepare(self, work: UnitOfWork) -> Setup:
        """Keep the set-up as it is until the transaction ends: before every other lock, and before `record`."""
        await setup.share_gate(work.connection)
        return await self._setup.read(work.connection)

    async def _post(self, facts: Sequence[Fact], known: Setup, work: UnitOfWork) -> None:
        connection = work.connection
        arriving = {line.origin_order_id for fact in facts if fact.template == "delivered" for line in fact.lines}
        confirmed = {line.origin_order_id for fact in facts if fact.template == "receipt_confirmed" for line in fact.lines}
        if arriving:
            confirmed |= await books.find_confirmed(connection, arriving)
        facts = [apply_policies(fact, known.policies, confirmed) for fact in facts]
        vouchers, repeated = draft_vouchers(facts, known.templates, work.new_id)
        claims = await books.claim_vouchers(connection, vouchers, now=work.now)
        claimed = [voucher for voucher in vouchers if voucher.voucher_id in claims.voucher_ids]
        if len(claimed) < len(facts):
            repeated += await _posted_before(work, [v.fact for v in vouchers if v.voucher_id not in claims.voucher_ids])
        if flags := [*_flags_of_repeated(repeated), *_flags_of_facts(claimed)]:
            await books.add_flags(connection, flags, now=work.now)
        if claimed:
            await self.record(claimed, claims, known, work)

    async def record(self, vouchers: Sequence[Voucher], claims: books.Claims, known: Setup, work: UnitOfWork) -> None:
        """Write claimed vouchers, what follows from them, and their numbers."""
        connection = work.connection
        await books.add_postings(connection, vouchers)
        steps = claims.steps
        if claims.entangled and (more := await _settle(vouchers, claims.entangled, known, work)):
            steps = {**steps, **(await books.claim_vouchers(connection, more, now=work.now)).steps}
            await books.add_postings(connection, more)
            vouchers = [*vouchers, *more]
        posted = [voucher for voucher in vouchers if voucher.postings]
        if not posted:
            return
        series = series_of(posted, first_open_period=known.first_open_period)
        deltas, owed = deltas_of(series)
        taken = await numbering.take_numbers(connection, self.book, series)  # From here others wait: no more preparing.
        numbers = numbering.numbers_of(series, taken)
        await numbering.add_numbers(connection, self.book, numbers, series, taken, deltas, owed, now=work.now)
        work.emit(events_of(numbers, steps, self.book, known.chart))


async def _settle(vouchers: Sequence[Voucher], entangled: Collection[UUID], known: Setup, work: UnitOfWork) -> list[Voucher]:
    """What the accounts of origins call for, now that these vouchers are in them; each origin once, by its last voucher."""
    causes: dict[tuple[UUID, str], Voucher] = {}
    for voucher in vouchers:
        for origin_order_id in voucher.origins:
            if origin_order_id in entangled:
                causes[origin_order_id, voucher.content.currency] = voucher
    facts = []
    accounts = await books.get_origin_facts(work.connection, {origin_order_id for origin_order_id, _ in causes})
    for (origin_order_id, currency), account in accounts.items():
        cause = causes.get((origin_order_id, currency))
        if cause is None:
            continue  # An account in a currency that nothing was posted in now.
        recognition = recognition_of(cause.fact, origin_order_id, known.policies)
        occurred_at = max(cause.content.occurred_at, account.last_occurred_at)
        for adjustment in settle(account.facts, recognition):
            fact = cause.fact._replace(occurred_at=occurred_at)
            facts.append(_fact_of_adjustment(adjustment, fact, origin_order_id))
    return draft_vouchers(facts, known.templates, work.new_id)[0]


def _fact_of_adjustment(adjustment: Adjustment, cause: Fact, origin_order_id: UUID) -> Fact:
    home = adjustment.home
    return cause._replace(
        template=adjustment.template,
        claim_id=derived_claim(cause.claim_id, cause.template, origin_order_id, home.shipment_id),
        shipment_id=home.shipment_id,
        lines=tuple(
            FactLine(origin_order_id, line, sku_id, units.quantity, _amounts_of(units))
            for line, sku_id, units in adjustment.lines
        ),
        deferred=(),
        home=home,
    )


def _amounts_of(units: Units) -> Amounts:
    """Who pays is no longer told apart: what is recognised is a sum, and so is what is taken back of it."""
    return Amounts(paid=units.net + units.tax, tax=units.tax, cost=units.cost)


FOLD = "fold_balances"


class Folder:
    """Folds balance deltas, over and over."""

    def __init__(self, book: str, *, every_seconds: int, rows: int) -> None:
        self._book = book
        self._every = timedelta(seconds=every_seconds)
        self._rows = rows

    def schedule(self, work: UnitOfWork) -> None:
        work.add_tasks([NewTask(FOLD, self._book, work.now + self._every)])

    async def on_fold_due(self, _tasks: Sequence[Task], work: UnitOfWork) -> None:
        await numbering.fold_balances(work.connection, limit=self._rows)
        self.schedule(work)


async def _posted_before(work: UnitOfWork, facts: Sequence[Fact]) -> list[Repeated]:
    if not facts:
        return []
    known = await books.find_claims(work.connection, facts)
    return [Repeated(fact, fact.is_changed_copy(*known[fact.claim_id, fact.template])) for fact in facts]


SKUS_NAMED = 10
"""Of an order of 500 lines the first ones do: who looks at the flag looks at the order."""


def _flags_of_repeated(repeated: Iterable[Repeated]) -> Iterable[Flag]:
    for fact, content_changed in repeated:
        if content_changed:
            yield Flag(fact, "content_changed", {"template": fact.template})


def _flags_of_facts(vouchers: Iterable[Voucher]) -> Iterable[Flag]:
    for voucher in vouchers:
        skus = list(dict.fromkeys(line.sku_id for line in voucher.fact.all_lines if not line.cost_known))
        if len(skus) > SKUS_NAMED:
            skus[SKUS_NAMED:] = [f"… {len(skus) - SKUS_NAMED}"]
        if skus:
            yield Flag(voucher.fact, "cost_unknown", {"skus": skus})
        if voucher.fact.unknown:
            yield Flag(voucher.fact, "unknown_value", {"word": voucher.fact.unknown})


def events_of(numbers: Sequence[Numbers], steps: Mapping[UUID, int], book: str, chart: Chart) -> list[VoucherPosted]:
    """One event per voucher, in number order; the steps of an order count up to the one it has reached."""
    to_come = Counter(voucher.content.order_id for voucher, *_ in numbers)
    events = []
    for voucher, period, word, number in numbers:
        content = voucher.content
        to_come[content.order_id] -= 1
        events.append(
            VoucherPosted(
                root_id=content.root_id,
                order_id=content.order_id,
                progress=Progress(
                    step=steps[content.order_id] - to_come[content.order_id],
                    stage="posted",
                    code="voucher_posted",
                    params={
                        "word": word,
                        "number": number,
                        "template": content.template,
                        "total_minor": voucher.total_minor,
                    },
                ),
                voucher_id=content.voucher_id,
                book=book,
                period=period,
                word=word,
                number=number,
                template=content.template,
                event_id=content.event_id,
                occurred_at=content.occurred_at,
                currency=content.currency,
                total_minor=voucher.total_minor,
                entries=[
                    VoucherEntry(
                        account=account,
                        account_name=chart.accounts[account].name,
                        debit_minor=debit_minor,
                        credit_minor=credit_minor,
                        summary=content.summary,
                    )
                    for account, debit_minor, credit_minor, _, _ in voucher.postings
                ],
                about=about_of(content),
            )
        )
    return events
