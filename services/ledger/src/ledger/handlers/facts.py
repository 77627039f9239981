"""From events to facts: what each of them says about money or goods, in the ledger's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from contracts import (
    ChangeRequested,
    Order,
    OrderReceived,
    Part,
    PartLine,
    ReceiptConfirmed,
    RefundSettled,
    ReturnReceived,
    ShipmentCreated,
    ShipmentProgressed,
    StockAdjusted,
)
from eventing import Received
from ledger.domain.posting import Fact, FactLine, derived_claim, share_by_weight
from ledger.domain.template import Amounts

OrderFactEvent = (
    OrderReceived | ChangeRequested | ReceiptConfirmed | ShipmentCreated | ShipmentProgressed | ReturnReceived | RefundSettled
)
FactEvent = OrderFactEvent | StockAdjusted

_GRADES = {"good": "return_good", "bad": "return_bad", "missing": "return_missing"}
_STOCK = {
    "receipt": "stock_received",
    "adjustment": "stock_difference",
    "count": "stock_difference",
    "place_reject": "stock_difference",
    "damage": "stock_damaged",
    "transfer_out": "stock_transfer_out",
    "transfer_in": "stock_transfer_in",
}
_LEAVING = frozenset({"stock_damaged", "stock_transfer_out"})
"""Templates whose amounts are what left the goods for sale; the event counts that as negative."""


def facts_of(received: Received[FactEvent]) -> Sequence[Fact]:
    """One fact per event, mostly; a return brings one per line and grade. What moves neither money nor goods brings none."""
    event = received.event
    match event:
        case OrderReceived():
            if event.revives is not None:
                return ()  # Its money was booked with the order that it takes up again.
            # The platform, the payment provider or the courier owes us, and we owe the goods.
            at = event.order.paid_at or event.order.received_at
            return (_fact("paid", received, event, received.id, at, _lines(event.part)),)
        case ShipmentCreated():
            # Goods left the place, or were handed over there; the carrier will want its freight.
            weights = [line.unit_weight_grams * line.quantity for line in event.part.lines]
            freight = share_by_weight(event.freight_cost_minor, weights)
            lines = _lines(event.part, freight, costed=True)
            return (_fact("shipped", received, event, event.shipment_id, event.shipped_at, lines),)
        case ShipmentProgressed(state="delivered"):
            # Now revenue, output VAT and cost of sales are recognised, if the book does not wait for the buyer.
            lines = _lines(event.part, costed=True)
            return (_fact("delivered", received, event, event.shipment_id, event.occurred_at, lines),)
        case ShipmentProgressed(state="lost"):
            lines = tuple(_goods_alone(line) for line in event.part.lines)
            return (_fact("lost", received, event, event.shipment_id, event.occurred_at, lines),)
        case ShipmentProgressed():
            return ()  # Refused goods post when they come back.
        case ReceiptConfirmed():
            lines = tuple(
                FactLine(line.origin_order_id, line.origin_line, line.sku_id, line.quantity, Amounts()) for line in event.lines
            )
            claim_id = derived_claim(event.order_id, event.reference)
            return (_fact("receipt_confirmed", received, event, claim_id, event.confirmed_at, lines),)
        case ChangeRequested():
            lines = tuple(_changes(event))
            return (_fact("changed", received, event, event.request_id, received.time, lines),) if lines else ()
        case RefundSettled():
            lines = tuple(
                FactLine(
                    line.origin_order_id,
                    line.origin_line,
                    line.sku_id or "",
                    0,
                    Amounts(line.paid_minor, line.receivable_minor - line.paid_minor, line.tax_minor),
                )
                for line in event.lines
            )
            claim_id = derived_claim(event.order.channel, event.order.shop_id, event.refund_id)
            return (_fact("refunded", received, event, claim_id, event.settled_at, lines),)
        case ReturnReceived():
            return tuple(_returns(received, event))
        case StockAdjusted():
            return (_stock_fact(received, event),)


def _fact(
    template: str,
    received: Received[Any],
    event: OrderFactEvent,
    claim_id: UUID,
    occurred_at: datetime,
    lines: tuple[FactLine, ...],
    *,
    unknown: str = "",
) -> Fact:
    order: Order = event.order
    return Fact(
        template=template,
        claim_id=claim_id,
        event_id=received.id,
        event_time=received.time,
        content_hash=received.content_hash,
        root_id=event.root_id,
        order_id=event.order_id,
        shipment_id=getattr(event, "shipment_id", None),
        channel=order.channel,
        shop_id=order.shop_id,
        reference=order.channel_order_no,
        collection=order.collection,
        currency=order.currency,
        paid_at=order.paid_at or order.received_at,
        occurred_at=_happened_at(occurred_at, received),
        lines=lines,
        paid_at_of=_paid_at_of(order) if order.merged_with else None,
        unknown=unknown,
    )


def _happened_at(told: datetime, received: Received[Any]) -> datetime:
    """Nothing has happened before it was told: a carrier that calls China's time UTC would post to a period not yet begun."""
    return min(told, received.time).astimezone(UTC)


def _paid_at_of(order: Order) -> Mapping[UUID, datetime]:
    return {other.order_id: other.paid_at or other.received_at for other in order.merged_with}


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


def _goods_alone(line: PartLine) -> FactLine:
    """Units without their money, which moves by refunds."""
    cost = (line.unit_cost_minor or 0) * line.quantity
    known = line.unit_cost_minor is not None
    return FactLine(line.origin_order_id, line.origin_line, line.sku_id, line.quantity, Amounts(cost=cost), known)


def _changes(event: ChangeRequested) -> Iterable[FactLine]:
    for change in event.money:
        paid, receivable, tax = (
            getattr(change.current, name) - getattr(change.previous, name)
            for name in ("paid_minor", "receivable_minor", "tax_minor")
        )
        amounts = Amounts(paid, receivable - paid, tax)
        if any(amounts):
            yield FactLine(change.origin_order_id, change.origin_line, change.sku_id or "", 0, amounts)


def _returns(received: Received[Any], event: ReturnReceived) -> Iterable[Fact]:
    """One per line and grade, for each of them is inspected once for ever, in one event or in several."""
    units: dict[tuple[UUID, int, str, str], FactLine] = {}
    for returned in event.lines:
        line, key = _goods_alone(returned), (*returned.key, returned.grade)
        if (before := units.get(key)) is not None:
            amounts = before.amounts._replace(cost=before.amounts.cost + line.amounts.cost)
            known = before.cost_known and line.cost_known
            line = line._replace(quantity=before.quantity + line.quantity, amounts=amounts, cost_known=known)
        units[key] = line
    for key, line in units.items():
        grade = key[-1]
        # A condition that nobody knows here is not for sale: it stands in suspense until a person has looked.
        template = _GRADES.get(grade, "return_missing")
        unknown = "" if grade in _GRADES else grade
        claim_id = derived_claim(event.return_id, *key)
        yield _fact(template, received, event, claim_id, event.received_at, (line,), unknown=unknown)


def _stock_fact(received: Received[Any], event: StockAdjusted) -> Fact:
    template = _STOCK.get(event.kind, "stock_difference")
    if event.kind == "place_reject" and event.reason == "damaged":
        template = "stock_damaged"
    sign = -1 if template in _LEAVING else 1
    lines = tuple(
        FactLine(
            event.document_id,
            number,
            line.sku_id,
            line.quantity,
            Amounts(cost=sign * line.quantity * line.unit_cost_minor),
        )
        for number, line in enumerate(event.lines, 1)
    )
    return Fact(
        template=template,
        # A long document, or one of several reasons, is told in several events; a transfer is received bit by bit.
        claim_id=received.id,
        event_id=received.id,
        event_time=received.time,
        content_hash=received.content_hash,
        root_id=event.document_id,
        order_id=event.document_id,
        shipment_id=None,
        channel="",
        shop_id="",
        reference=f"{event.place_id} {event.reference}",
        collection="other",
        currency=event.currency,
        paid_at=event.occurred_at,
        occurred_at=_happened_at(event.occurred_at, received),
        lines=lines,
        unknown="" if event.kind in _STOCK else event.kind,
    )
