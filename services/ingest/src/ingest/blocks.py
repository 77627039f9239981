"""From a channel order in clear to the block and part that travel: checked, priced, numbered, free of personal data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from contracts import ChannelOrder, DiscountShare, Fulfilment, Order, OrderLine, Part, PartLine
from ingest.domain.arrival import (
    COLLECTIONS,
    FULFILMENT_KINDS,
    GROUP_STATES,
    PAYMENT_STATES,
    REFUND_STATES,
    TRADE_STATES,
    Facts,
    Refusal,
    unknown_word,
)
from ingest.domain.bundles import explode
from ingest.domain.money import ImpossibleMoney, LineMoney, PricedOrder, price_order
from ingest.privacy import Tokens, destination_of, note_flags_of
from ingest.store.catalog import Item

SHOP = "shop"
LINES_MOST = 500
MONEY_FLAGS = frozenset(
    {"money_mismatch", "line_money_mismatch", "total_money_mismatch", "payments_mismatch", "discount_exceeds_price"}
)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
UNKNOWN = Item(weight_grams=0, tax_rate_bp=0)


def refusals_of(order: ChannelOrder) -> list[Refusal]:
    """Words that cannot be read, times outside the calendar, a missing place, money that cannot be."""
    found = [
        unknown_word("trade_state", order.trade_state, TRADE_STATES),
        unknown_word("payment_state", order.payment_state, PAYMENT_STATES),
        unknown_word("refund_state", order.refund_state, REFUND_STATES),
        unknown_word("collection", order.collection, COLLECTIONS),
        unknown_word("group_state", order.group_state, GROUP_STATES),
        unknown_word("fulfilment.kind", order.fulfilment.kind, FULFILMENT_KINDS),
    ]
    for index, line in enumerate(order.lines):
        if line.refund_state not in REFUND_STATES:
            found.append(Refusal(f"lines.{index}.refund_state", "unknown_value"))
        if line.ship_not_before is not None and not EARLIEST <= line.ship_not_before < LATEST:
            found.append(Refusal(f"lines.{index}.ship_not_before", "time_out_of_range"))
    for name, moment in (
        ("source_modified_at", order.source_modified_at),
        ("placed_at", order.placed_at),
        ("paid_at", order.paid_at),
        ("ship_before", order.ship_before),
        ("fulfilment.handed_over_at", order.fulfilment.handed_over_at),
        *((f"payments.{index}.paid_at", payment.paid_at) for index, payment in enumerate(order.payments)),
    ):
        if moment is not None and not EARLIEST <= moment < LATEST:
            found.append(Refusal(name, "time_out_of_range"))
    if order.fulfilment.kind in ("pick_up", "already_handed_over") and order.fulfilment.place_id is None:
        found.append(Refusal("fulfilment.place_id", "place_missing"))
    refusals = [refusal for refusal in found if refusal is not None]
    if not refusals and isinstance(impossible := price_order(*_money(order, {})), ImpossibleMoney):
        where = {None: "freight_discounts", -1: "paid_minor"}.get(impossible.line, f"lines.{impossible.line}")
        refusals.append(Refusal(where, "impossible_money"))
    return refusals


def facts_of(order: ChannelOrder, missing: tuple[str, ...]) -> Facts:
    return Facts(
        trade_state=order.trade_state,
        payment_state=order.payment_state,
        refund_states=frozenset((order.refund_state, *(line.refund_state for line in order.lines))),
        every_line_refunded=all(line.refund_state == "refunded" for line in order.lines),
        fulfilment_kind=order.fulfilment.kind,
        group_state=order.group_state,
        risk_locked=order.risk_locked,
        unknown_skus=missing,
    )


def price(order: ChannelOrder, items: Mapping[str, Item]) -> PricedOrder:
    """Price an order that passed `refusals_of`. Rates decide taxes only, so a second look cannot find it impossible."""
    priced = price_order(*_money(order, items))
    if isinstance(priced, ImpossibleMoney):
        raise TypeError("impossible money passed the examination")
    return priced


def money_flags(order: ChannelOrder, priced: PricedOrder) -> list[str]:
    """Codes of what does not add up; never a reason to refuse."""
    flags = list(priced.flags)
    is_paid = bool(order.payments) and order.payment_state == "paid"
    if is_paid and sum(payment.amount_minor for payment in order.payments) != priced.paid_minor:
        flags.append("payments_mismatch")
    return flags


def numbers_of(order: ChannelOrder, told: Order | None, used: Collection[int] = ()) -> list[int]:
    """The origin number of each line: the one it had when it was told before, the next free one where it is new.

    `used`: numbers that were given to lines which are gone.
    """
    if told is None:
        return list(range(1, len(order.lines) + 1))
    known: dict[tuple[str, int], int] = {}
    seen: dict[str, int] = {}
    for line in told.lines:
        count = seen[line.channel_line_id] = seen.get(line.channel_line_id, 0) + 1
        known[line.channel_line_id, count] = line.line
    seen.clear()
    numbers: list[int | None] = []
    for given in order.lines:  # A channel may give two lines one id: the first of them is the first again.
        count = seen[given.channel_line_id] = seen.get(given.channel_line_id, 0) + 1
        numbers.append(known.get((given.channel_line_id, count)))
    if None not in numbers:
        return [number for number in numbers if number is not None]
    kept = {number for number in numbers if number is not None}
    last = max((*known.values(), *used))
    # Never used before, as long as there are any; then those of lines that are gone.
    spare = iter([*range(last + 1, LINES_MOST + 1), *(number for number in range(1, last + 1) if number not in kept)])
    return [next(spare) if number is None else number for number in numbers]


@dataclass(frozen=True, slots=True)
class Normaliser:
    """Makes order blocks, with the keys and tables that never change while the process runs."""

    tokens: Tokens
    note_keywords: Mapping[str, str]

    def block(
        self,
        order: ChannelOrder,
        order_id: UUID,
        *,
        numbers: Sequence[int],
        priced: PricedOrder,
        items: Mapping[str, Item],
        flags: Sequence[str],
        received_at: datetime,
        receiver_ref: UUID | None,
    ) -> Order:
        """The block of one version of an order."""
        lines = []
        for number, line, money in zip(numbers, order.lines, priced.lines, strict=True):
            item = items.get(line.sku_id, UNKNOWN)
            lines.append(
                {
                    "line": number,
                    "channel_line_id": line.channel_line_id,
                    "sku_id": line.sku_id,
                    "title": line.title,
                    "quantity": line.quantity,
                    "unit_list_price_minor": line.unit_list_price_minor,
                    "adjust_minor": line.adjust_minor,
                    "discounts": _declared_shares(line.discounts),
                    "paid_minor": money.paid_minor,
                    "receivable_minor": money.receivable_minor,
                    "tax_rate_bp": item.tax_rate_bp if line.tax_rate_bp is None else line.tax_rate_bp,
                    "tax_minor": money.tax_minor,
                    "unit_weight_grams": item.weight_grams,
                    "gift": line.gift,
                    "refund_state": line.refund_state,
                    "ship_not_before": line.ship_not_before,
                }
            )
        is_shipped = order.fulfilment.kind == "to_ship" or order.receiver is not None
        return Order.model_validate(
            {
                "order_id": order_id,
                "channel": order.channel,
                "shop_id": order.shop_id,
                "channel_order_no": order.channel_order_no,
                "source_version": order.source_version,
                "received_at": received_at,
                "placed_at": order.placed_at,
                "paid_at": order.paid_at,
                "trade_state": order.trade_state,
                "payment_state": order.payment_state,
                "refund_state": order.refund_state,
                "collection": order.collection,
                "currency": order.currency,
                "lines": lines,
                "freight": {
                    "list_minor": order.freight_list_minor,
                    "discounts": _declared_shares(order.freight_discounts),
                    "paid_minor": priced.freight.paid_minor,
                    "receivable_minor": priced.freight.receivable_minor,
                    "tax_rate_bp": _freight_rate(order, items),
                    "tax_minor": priced.freight.tax_minor,
                },
                "paid_minor": priced.paid_minor,
                "receivable_minor": priced.receivable_minor,
                "payment_methods": list(dict.fromkeys(payment.method for payment in order.payments)),
                "fulfilment": Fulfilment(
                    kind=order.fulfilment.kind,
                    place_id=order.fulfilment.place_id,
                    handed_over_at=order.fulfilment.handed_over_at,
                ),
                "receiver_ref": receiver_ref,
                "destination": destination_of(order.receiver, self.tokens) if is_shipped else None,
                "buyer_token": self.tokens.buyer(order.channel, order.buyer),
                "notes": note_flags_of(order.notes, self.note_keywords),
                "invoice_kind": order.invoice.kind,
                "presale": order.presale,
                "group_state": order.group_state,
                "risk_locked": order.risk_locked,
                "wanted_carrier": order.wanted_carrier,
                "ship_before": order.ship_before,
                "quality_flags": list(flags),
            }
        )


def whole(block: Order, items: Mapping[str, Item], left: Mapping[int, int] | None = None) -> Part:
    """The part that an order is before anybody splits it: all of it, bundles as their parts.

    `left`: by line, units to send where some were cancelled before; a line of which none is left is missing.
    """
    lines: list[PartLine | dict[str, Any]] = []
    for line in block.lines:
        if left is None and not items.get(line.sku_id, UNKNOWN).bundle:
            lines.append(_plain(block, line))  # Nearly all there are: validated with the part, at once.
            continue
        units = line.quantity if left is None else left.get(line.line, line.quantity)
        if units:
            lines.extend(portion(moving, moving.quantity // line.quantity * units) for moving in moved_by(block, line, items))
    freight = block.freight
    return Part.model_validate(
        {
            "order_id": block.order_id,
            "root_id": block.order_id,
            "lines": lines,
            "freight": [
                {
                    "origin_order_id": block.order_id,
                    "paid_minor": freight.paid_minor,
                    "receivable_minor": freight.receivable_minor,
                    "tax_minor": freight.tax_minor,
                }
            ]
            if freight.receivable_minor
            else [],
        }
    )


def moved_by(block: Order, line: OrderLine, items: Mapping[str, Item]) -> list[PartLine]:
    """What a line moves: itself, or each SKU of its bundle."""
    bundle = items.get(line.sku_id, UNKNOWN).bundle
    if not bundle:
        return [PartLine.model_validate(_plain(block, line))]
    return [
        PartLine(
            origin_order_id=block.order_id,
            origin_line=line.line,
            sku_id=moving.sku_id,
            quantity=moving.quantity,
            paid_minor=moving.paid_minor,
            receivable_minor=moving.receivable_minor,
            tax_minor=moving.tax_minor,
            unit_weight_grams=items.get(moving.sku_id, UNKNOWN).weight_grams,
        )
        for moving in explode(line.quantity, line.paid_minor, line.receivable_minor, line.tax_minor, bundle)
    ]


def _plain(block: Order, line: OrderLine) -> dict[str, Any]:
    return {
        "origin_order_id": block.order_id,
        "origin_line": line.line,
        "sku_id": line.sku_id,
        "quantity": line.quantity,
        "paid_minor": line.paid_minor,
        "receivable_minor": line.receivable_minor,
        "tax_minor": line.tax_minor,
        "unit_weight_grams": line.unit_weight_grams,
    }


def bundles_of(block: Order, items: Mapping[str, Item]) -> dict[int, dict[str, int]]:
    """By line of a bundle: units of each SKU in one of it."""
    return {
        line.line: {moving.sku_id: moving.quantity // line.quantity for moving in moved_by(block, line, items)}
        for line in block.lines
        if items.get(line.sku_id, UNKNOWN).bundle
    }


def portion(line: PartLine, units: int) -> PartLine:
    """The first `units` of a line: a cancel takes the last ones, everywhere, so that what is kept has the odd fens."""
    return line if units == line.quantity else line.divide(units)[0]


def _money(order: ChannelOrder, items: Mapping[str, Item]) -> tuple[list[LineMoney], LineMoney, int | None]:
    lines = []
    for line in order.lines:
        shop, others = _shares(line.discounts)
        rate = line.tax_rate_bp
        if rate is None:
            rate = items.get(line.sku_id, UNKNOWN).tax_rate_bp
        lines.append(
            LineMoney(line.quantity, line.unit_list_price_minor, line.adjust_minor, shop, others, line.paid_minor, rate)
        )
    shop, others = _shares(order.freight_discounts)
    freight = LineMoney(1, order.freight_list_minor, 0, shop, others, None, _freight_rate(order, items))
    return lines, freight, order.paid_minor


def _freight_rate(order: ChannelOrder, items: Mapping[str, Item]) -> int:
    """Freight billed with goods is part of a mixed sale: where the channel names no rate, the goods' highest."""
    if order.freight_tax_rate_bp is not None:
        return order.freight_tax_rate_bp
    return max(
        items.get(line.sku_id, UNKNOWN).tax_rate_bp if line.tax_rate_bp is None else line.tax_rate_bp for line in order.lines
    )


def _shares(shares: Sequence[DiscountShare]) -> tuple[int, int]:
    shop = others = 0
    for share in shares:
        if share.payer == SHOP:
            shop += share.amount_minor
        else:
            others += share.amount_minor
    return shop, others


def _declared_shares(shares: Sequence[DiscountShare]) -> list[DiscountShare]:
    """Shares without fields that we do not know: those may name a person, and the order block goes everywhere."""
    return [
        DiscountShare(payer=share.payer, amount_minor=share.amount_minor, promotion_id=share.promotion_id, name=share.name)
        for share in shares
    ]
