"""From facts to vouchers: pure, linear in the amounts, and balanced because the templates are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
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


class Fact(NamedTuple):
    """What one event says about money or goods, in the ledger's words."""

    template: str
    event_id: UUID
    event_time: datetime
    """Chooses the template's version."""
    content_hash: bytes
    root_id: UUID
    order_id: UUID
    shipment_id: UUID | None
    channel: str
    shop_id: str
    channel_order_no: str
    collection: str
    currency: str
    paid_on: date
    occurred_at: datetime
    lines: tuple[FactLine, ...]


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
    def claim(self) -> tuple[UUID, str]:
        return self.content.event_id, self.content.template


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
        summary=f"{template.name} {fact.channel} {fact.channel_order_no}",
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


class Repeated(NamedTuple):
    """An event that was already posted from."""

    fact: Fact
    content_changed: bool


def draft_vouchers(
    facts: Iterable[Fact], templates: Mapping[str, Sequence[Template]], new_id: Callable[[], UUID]
) -> tuple[list[Voucher], list[Repeated]]:
    """One voucher per event and template, in event order; a second copy inside the batch is set aside.

    Errors: LookupError where no version of a template is in force at the event's time.
    """
    vouchers: dict[tuple[UUID, str], Voucher] = {}
    repeated = []
    for fact in facts:
        earlier = vouchers.get((fact.event_id, fact.template))
        if earlier is not None:
            repeated.append(Repeated(fact, earlier.fact.content_hash != fact.content_hash))
            continue
        template = in_force(templates.get(fact.template, ()), fact.event_time)
        if template is None:
            raise LookupError(f"no version of template {fact.template} is in force at {fact.event_time.isoformat()}")
        vouchers[fact.event_id, fact.template] = draft_voucher(fact, template, new_id())
    return list(vouchers.values()), repeated


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


def deltas_of(series: Iterable[Series]) -> list[Delta]:
    """Balances as few rows, whatever the number of vouchers."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    for period, _, vouchers, _ in series:
        for voucher in vouchers:
            for account, debit_minor, credit_minor, _, _ in voucher.postings:
                debit_and_credit = sums.setdefault((period, account, voucher.content.currency), [0, 0])
                debit_and_credit[0] += debit_minor
                debit_and_credit[1] += credit_minor
    return [Delta(*key, debit, credit) for key, (debit, credit) in sorted(sums.items())]


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
