"""From facts to vouchers: pure, linear in the amounts, and balanced because the templates are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

from ledger.domain.chain import Content, Posting, batch_digest, voucher_hash
from ledger.domain.period import first_day, local_date, period_of
from ledger.domain.template import Amounts, Template, collection_of, in_force, total_of


class FactLine(NamedTuple):
    """Units of one origin line; origin line 0 is the buyer's freight."""

    origin_order_id: UUID
    origin_line: int
    sku_id: str
    quantity: int
    amounts: Amounts
    cost_known: bool = True


REVERSAL = "reversal"
MANUAL = "manual"
BY_HAND = frozenset({REVERSAL, MANUAL})
"""Vouchers that a person makes: no template says how they are posted."""
DERIVED = frozenset({"recognised", "recognition_overlap", "cost_overlap", "loss_overlap"})
"""Vouchers that follow from the others of their origin: to reverse one alone would only have it posted again."""


class Home(NamedTuple):
    """Where an amount belongs in reports, when that is not the event that caused it."""

    order_id: UUID
    shipment_id: UUID | None
    channel: str
    shop_id: str
    paid_on: date


class Fact(NamedTuple):
    """What one event says about money or goods, in the ledger's words."""

    template: str
    claim_id: UUID
    """With the template, what is posted once for ever: the event, or the shipment, refund, return, document it speaks of."""
    event_id: UUID
    event_time: datetime
    """Chooses the template's version."""
    content_hash: bytes
    root_id: UUID
    order_id: UUID
    shipment_id: UUID | None
    channel: str
    """Empty for a stock document, which belongs to no order."""
    shop_id: str
    reference: str
    """The channel's order number, or the document's own."""
    collection: str
    currency: str
    paid_at: datetime
    occurred_at: datetime
    lines: tuple[FactLine, ...]
    deferred: tuple[FactLine, ...] = ()
    """Units that arrived, but whose recognition waits, or has been before: noted, not posted."""
    paid_at_of: Mapping[UUID, datetime] | None = None
    """When the other orders of a merge were paid."""
    home: Home | None = None
    unknown: str = ""
    """A word of an open enum that nobody knows here, and that a person should look at."""

    @property
    def all_lines(self) -> tuple[FactLine, ...]:
        return (*self.lines, *self.deferred) if self.deferred else self.lines

    @property
    def own_home(self) -> Home:
        return Home(self.order_id, self.shipment_id, self.channel, self.shop_id, local_date(self.paid_at))

    @property
    def has_profit(self) -> bool:
        """Stock documents move what goods are worth, not what orders bring; a reversal takes back what was noted before."""
        return bool(self.channel) and self.template not in BY_HAND

    def is_changed_copy(self, event_id: UUID, content_hash: bytes) -> bool:
        """Whether this is the event that was posted, with other content. Another event of the same claim says it again."""
        return self.event_id == event_id and self.content_hash != content_hash

    def origin_paid_at(self, origin_order_id: UUID) -> datetime:
        return self.paid_at_of.get(origin_order_id, self.paid_at) if self.paid_at_of else self.paid_at


ENTANGLING = frozenset({"changed", "refunded", "return_good", "return_bad", "return_missing", "lost", REVERSAL})
"""What makes it possible that something is counted twice, so that accounts of its origins are to be settled from now on."""
CONFIRMING = "receipt_confirmed"
PAID = "paid"


class Touch(NamedTuple):
    """An origin whose row a fact locks beside its own order's, or marks."""

    origin_order_id: UUID
    entangles: bool
    confirms: bool


def touches_of(fact: Fact) -> list[Touch]:
    """None for a plain order: it is its own only origin."""
    confirms = fact.template == CONFIRMING
    marks = confirms or fact.template in ENTANGLING
    own = fact.order_id
    if not marks and all(line[0] == own for line in fact.all_lines):
        return []
    if not fact.channel:
        return []
    return [Touch(origin, marks, confirms) for origin in sorted({line[0] for line in fact.all_lines}) if marks or origin != own]


def derived_claim(*parts: object) -> UUID:
    """A claim of several parts; written as JSON, so that ("a", "b:c") and ("a:b", "c") differ."""
    return UUID(bytes=blake2b(json.dumps([str(part) for part in parts]).encode(), digest_size=16).digest())


class Voucher(NamedTuple):
    """A voucher without its number. One without postings is only a claim: it keeps the event from ever being posted again."""

    content: Content
    fact: Fact
    word: str
    occurred_on: date
    postings: tuple[Posting, ...]
    total_minor: int
    hash: bytes

    @property
    def voucher_id(self) -> UUID:
        return self.content.voucher_id

    @property
    def origins(self) -> set[UUID]:
        return {line.origin_order_id for line in self.fact.all_lines}

    @property
    def claim(self) -> tuple[UUID, str]:
        return self.fact.claim_id, self.content.template


def draft_voucher(fact: Fact, template: Template, voucher_id: UUID) -> Voucher:
    """The postings of a fact. Zero amounts leave none; a negative amount stands on the other side."""
    postings = []
    debits = 0
    order_amounts = total_of(line.amounts for line in fact.lines)
    for account, weights, per_line in template.steps[collection_of(fact.collection)]:
        amounts = (
            [(line.origin_order_id, line.origin_line, line.amounts) for line in fact.lines]
            if per_line
            else [(None, None, order_amounts)]
        )
        for origin_order_id, origin_line, base in amounts:
            amount = 0
            for index, factor in weights:
                amount += factor * base[index]
            if amount > 0:
                debits += amount
                postings.append(Posting(account, amount, 0, origin_order_id, origin_line))
            elif amount < 0:
                postings.append(Posting(account, 0, -amount, origin_order_id, origin_line))
    content = Content(
        voucher_id=voucher_id,
        event_id=fact.event_id,
        template=template.code,
        template_version=template.version,
        content_hash=fact.content_hash,
        root_id=fact.root_id,
        order_id=fact.order_id,
        shipment_id=fact.shipment_id,
        channel=fact.channel,
        shop_id=fact.shop_id,
        currency=fact.currency,
        occurred_at=fact.occurred_at,
        summary=f"{template.name} {fact.channel} {fact.reference}" if fact.channel else f"{template.name} {fact.reference}",
    )
    return Voucher(
        content=content,
        fact=fact,
        word=template.word,
        occurred_on=local_date(fact.occurred_at),
        postings=tuple(postings),
        total_minor=debits,
        hash=voucher_hash(content, postings),
    )


def draft_by_hand(fact: Fact, postings: Sequence[Posting], *, summary: str, word: str, voucher_id: UUID) -> Voucher:
    """A voucher that a person makes; its postings must balance."""
    content = Content(
        voucher_id=voucher_id,
        event_id=fact.event_id,
        template=fact.template,
        template_version=0,
        content_hash=fact.content_hash,
        root_id=fact.root_id,
        order_id=fact.order_id,
        shipment_id=fact.shipment_id,
        channel=fact.channel,
        shop_id=fact.shop_id,
        currency=fact.currency,
        occurred_at=fact.occurred_at,
        summary=summary,
    )
    return Voucher(
        content=content,
        fact=fact,
        word=word,
        occurred_on=local_date(fact.occurred_at),
        postings=tuple(postings),
        total_minor=sum(posting.debit_minor for posting in postings),
        hash=voucher_hash(content, postings),
    )


def reversed_postings(postings: Iterable[Posting]) -> list[Posting]:
    """The red entry: the same accounts, each amount on the other side, for amounts are never negative."""
    return [posting._replace(debit_minor=posting.credit_minor, credit_minor=posting.debit_minor) for posting in postings]


def about_of(content: Content) -> str:
    """What a voucher speaks of: an order, a stock document, or nothing but itself (or the one by hand that it reverses)."""
    if content.channel:
        return "order"
    return "manual" if content.order_id == content.event_id else "stock"


class Repeated(NamedTuple):
    """An event that was already posted from."""

    fact: Fact
    content_changed: bool


def draft_vouchers(
    facts: Iterable[Fact], templates: Mapping[str, Sequence[Template]], new_id: Callable[[], UUID]
) -> tuple[list[Voucher], list[Repeated]]:
    """One voucher per claim and template, in event order; a second copy inside the batch is set aside.

    Errors: LookupError where no version of a template is in force at the event's time.
    """
    vouchers: dict[tuple[UUID, str], Voucher] = {}
    repeated = []
    for fact in facts:
        # An order is paid once, under whatever event id it is told.
        claim = (fact.order_id if fact.template == PAID else fact.claim_id, fact.template)
        earlier = vouchers.get(claim)
        if earlier is not None:
            repeated.append(Repeated(fact, fact.is_changed_copy(earlier.fact.event_id, earlier.fact.content_hash)))
            continue
        template = in_force(templates.get(fact.template, ()), fact.event_time)
        if template is None:
            raise LookupError(f"no version of template {fact.template} is in force at {fact.event_time.isoformat()}")
        vouchers[claim] = draft_voucher(fact, template, new_id())
    return list(vouchers.values()), repeated


RECEIPT = Template.of(code=CONFIRMING, version=0, valid_from=datetime.min.replace(tzinfo=UTC), word="", name="", lines=())
"""A confirmed receipt posts nothing by itself: what it lets recognise depends on what was shipped and recognised before."""


class Series(NamedTuple):
    """Vouchers that take the next numbers of one period and word, in this order."""

    period: str
    word: str
    vouchers: Sequence[Voucher]
    digest: bytes


def series_of(vouchers: Iterable[Voucher], *, first_open_period: str) -> list[Series]:
    """Vouchers by period and word, sorted as their counters are locked; a closed period's go to the open one."""
    by_counter: dict[tuple[str, str], list[Voucher]] = {}
    for voucher in vouchers:
        if voucher.postings:
            period = max(period_of(voucher.occurred_on), first_open_period)
            by_counter.setdefault((period, voucher.word), []).append(voucher)
    return [
        Series(period, word, members, batch_digest([voucher.hash for voucher in members]))
        for (period, word), members in sorted(by_counter.items())
    ]


def posted_on(voucher: Voucher, period: str) -> date:
    """The voucher's date in the books: the day it happened, or the open period's first day if that came too late."""
    return voucher.occurred_on if period_of(voucher.occurred_on) == period else first_day(period)


class Delta(NamedTuple):
    """What a batch adds to one account in one period."""

    period: str
    account: str
    currency: str
    debit_minor: int
    credit_minor: int


RECEIVABLE = "1122"
"""应收账款: the account whose balance is also kept by channel, shop and day of payment, so that it can be aged."""


class OwedDelta(NamedTuple):
    """What a batch adds to the receivable of one channel and shop, for orders paid on one day."""

    account: str
    channel: str
    shop_id: str
    currency: str
    paid_on: date
    posted_on: date
    amount_minor: int


def deltas_of(series: Iterable[Series]) -> tuple[list[Delta], list[OwedDelta]]:
    """Balances as few rows, whatever the number of vouchers."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    owed: dict[tuple[str, str, str, str, date, date], int] = {}
    for period, _, vouchers, _ in series:
        for voucher in vouchers:
            for account, debit_minor, credit_minor, _, _ in voucher.postings:
                debit_and_credit = sums.setdefault((period, account, voucher.content.currency), [0, 0])
                debit_and_credit[0] += debit_minor
                debit_and_credit[1] += credit_minor
                if account[:4] == RECEIVABLE:
                    content, paid_on = voucher.content, local_date(voucher.fact.paid_at)
                    key = (account, content.channel, content.shop_id, content.currency, paid_on, posted_on(voucher, period))
                    owed[key] = owed.get(key, 0) + debit_minor - credit_minor
    deltas = [Delta(*key, debit, credit) for key, (debit, credit) in sorted(sums.items())]
    return deltas, [OwedDelta(*key, amount) for key, amount in sorted(owed.items()) if amount]


def share_by_weight(amount_minor: int, weights: Sequence[int]) -> list[int]:
    """Split an amount exactly, by largest remainder; equal shares where nothing weighs anything."""
    if not weights:
        return []
    if not any(weights):
        weights = [1] * len(weights)
    whole = sum(weights)
    shares = [amount_minor * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda index: (-(amount_minor * weights[index] % whole), index))
    for index in by_remainder[: amount_minor - sum(shares)]:
        shares[index] += 1
    return shares
