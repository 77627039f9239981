"""From events to facts to the books. Order does not matter here: every template posts from its own event alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from contracts import (
    Order,
    OrderReceived,
    Part,
    PartLine,
    Progress,
    ShipmentCreated,
    ShipmentProgressed,
    VoucherEntry,
    VoucherPosted,
)
from eventing import NewTask, Received, Task, UnitOfWork
from ledger.domain.period import local_date
from ledger.domain.posting import Fact, FactLine, Repeated, Voucher, deltas_of, draft_vouchers, series_of, share_by_weight
from ledger.domain.template import Amounts
from ledger.store import books, setup
from ledger.store.books import Flag, Numbers
from ledger.store.setup import Chart

FactEvent = OrderReceived | ShipmentCreated | ShipmentProgressed


class Bookkeeper:
    """Posts facts into one book."""

    def __init__(self, book: str) -> None:
        self.book = book
        self._setup = setup.SetupReader(book)

    async def on_facts(self, received: Sequence[Received[FactEvent]], work: UnitOfWork) -> None:
        """Post what events say. One handler for all three, so that a batch locks its counters once, and last."""
        facts = [fact for one in received if (fact := fact_of(one)) is not None]
        if facts:
            await self._post(facts, work)

    async def _post(self, facts: Sequence[Fact], work: UnitOfWork) -> None:
        connection = work.connection
        await setup.share_gate(connection)
        known = await self._setup.read(connection)
        vouchers, repeated = draft_vouchers(facts, known.templates, work.new_id)
        steps = await books.claim_vouchers(connection, vouchers, now=work.now)
        claimed = [voucher for voucher in vouchers if voucher.voucher_id in steps]
        if len(claimed) < len(facts):
            repeated += await _posted_before(work, [v.fact for v in vouchers if v.voucher_id not in steps])
        if flags := [*_flags_of_repeated(repeated, work), *_flags_of_cost(claimed, work)]:
            await books.add_flags(connection, flags, now=work.now)
        posted = [voucher for voucher in claimed if voucher.postings]
        if not posted:
            return
        await books.add_postings(connection, posted)
        series = series_of(posted, first_open_period=known.first_open_period)
        deltas = deltas_of(series)
        taken = await books.take_numbers(connection, self.book, series)  # From here others wait: no more preparing.
        numbers = books.numbers_of(series, taken)
        await books.add_numbers(connection, self.book, numbers, series, taken, deltas, now=work.now)
        work.emit(events_of(numbers, steps, self.book, known.chart))


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
        await books.fold_balances(work.connection, limit=self._rows)
        self.schedule(work)


def fact_of(received: Received[FactEvent]) -> Fact | None:
    """What an event says about money or goods: paid, shipped, delivered. Other carrier events move neither."""
    event = received.event
    match event:
        case OrderReceived():
            # The platform, the payment provider or the courier owes us, and we owe the goods.
            return _fact("paid", received, event.order.paid_at or event.order.received_at, _lines(event.part))
        case ShipmentCreated():
            # Goods left the place, or were handed over there; the carrier will want its freight.
            weights = [line.unit_weight_grams * line.quantity for line in event.part.lines]
            freight = share_by_weight(event.freight_cost_minor, weights)
            return _fact("shipped", received, event.shipped_at, _lines(event.part, freight, costed=True))
        case ShipmentProgressed(state="delivered"):
            # Now revenue, output VAT and cost of sales are recognised.
            return _fact("delivered", received, event.occurred_at, _lines(event.part, costed=True))
        case _:
            return None


def _fact(
    template: str,
    received: Received[FactEvent],
    occurred_at: datetime,
    lines: tuple[FactLine, ...],
) -> Fact:
    event = received.event
    order: Order = event.order
    return Fact(
        template=template,
        event_id=received.id,
        event_time=received.time,
        content_hash=received.content_hash,
        root_id=event.root_id,
        order_id=event.order_id,
        shipment_id=None if isinstance(event, OrderReceived) else event.shipment_id,
        channel=order.channel,
        shop_id=order.shop_id,
        channel_order_no=order.channel_order_no,
        collection=order.collection,
        currency=order.currency,
        paid_on=local_date(order.paid_at or order.received_at),
        occurred_at=occurred_at.astimezone(UTC),
        lines=lines,
    )


def _lines(part: Part, freight_estimates: Sequence[int] | None = None, *, costed: bool = False) -> tuple[FactLine, ...]:
    """The part's goods, then the buyer's freight as origin line 0: what moves, and the only quantities anybody uses."""
    estimates = freight_estimates or [0] * len(part.lines)
    goods = [_goods(line, estimate, costed) for line, estimate in zip(part.lines, estimates, strict=True)]
    for freight in part.freight:
        amounts = Amounts(freight.paid_minor, freight.receivable_minor - freight.paid_minor, freight.tax_minor)
        if any(amounts):
            goods.append(FactLine(freight.origin_order_id, 0, "", 0, amounts))
    return tuple(goods)


def _goods(line: PartLine, freight_estimate: int, costed: bool) -> FactLine:
    unit_cost = line.unit_cost_minor if costed else 0
    amounts = Amounts(
        line.paid_minor,
        line.receivable_minor - line.paid_minor,
        line.tax_minor,
        (unit_cost or 0) * line.quantity,
        freight_estimate,
    )
    return FactLine(line.origin_order_id, line.origin_line, line.sku_id, line.quantity, amounts, unit_cost is not None)


async def _posted_before(work: UnitOfWork, facts: Sequence[Fact]) -> list[Repeated]:
    if not facts:
        return []
    known = await books.find_claims(work.connection, facts)
    return [Repeated(fact, known[fact.event_id, fact.template] != fact.content_hash) for fact in facts]


def _flags_of_repeated(repeated: Iterable[Repeated], work: UnitOfWork) -> Iterable[Flag]:
    for fact, content_changed in repeated:
        if content_changed:
            yield Flag(work.new_id(), fact, "content_changed", {"template": fact.template})


def _flags_of_cost(vouchers: Iterable[Voucher], work: UnitOfWork) -> Iterable[Flag]:
    for voucher in vouchers:
        skus = [line.sku_id for line in voucher.fact.lines if not line.cost_known]
        if skus:
            yield Flag(work.new_id(), voucher.fact, "cost_unknown", {"skus": skus})


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
                    step=steps[content.voucher_id] - to_come[content.order_id],
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
            )
        )
    return events
