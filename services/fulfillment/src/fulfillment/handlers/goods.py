"""Translation between contracts and this service's own values: what comes in with an allocation, what events carry on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from contracts import Order, Part, Progress, ShipmentCreated, ShipmentProgressed, StockAllocated
from fulfillment import store
from fulfillment.domain import Allocation, Report, Shipment, TrackedOrder


@dataclass(frozen=True, slots=True)
class Goods:
    """What an event about a fulfilment order carries on, untouched."""

    order: Order
    part: Part


def allocation_of(event: StockAllocated) -> Allocation:
    return Allocation(
        order_id=event.order_id,
        root_id=event.root_id,
        attempt=event.attempt,
        kind=event.order.fulfilment.kind,
        place_id=event.place_id,
        place_no=event.place_no,
        carrier=event.carrier,
        landed_cost_minor=event.landed_cost_minor,
        promised_on=event.promised_on,
        goods_grams=sum(line.unit_weight_grams * line.quantity for line in event.part.lines),
        receiver_ref=event.order.receiver_ref,
        handed_over_at=event.order.fulfilment.handed_over_at,
    )


def content_of(goods: Goods) -> store.Content:
    return store.Content(order_json=goods.order.model_dump_json(), part_json=goods.part.model_dump_json())


def goods_of(content: store.Content) -> Goods:
    return Goods(Order.model_validate_json(content.order_json), Part.model_validate_json(content.part_json))


def all_goods_of(contents: Mapping[UUID, store.Content]) -> dict[UUID, Goods]:
    """**Shapes**: by fulfilment_order_id."""
    return {key: goods_of(content) for key, content in contents.items()}


def shipped_lines(shipment: Shipment, goods: Goods) -> list[store.ShippedLine]:
    return [
        store.ShippedLine(
            shipment_id=shipment.shipment_id,
            origin_order_id=line.origin_order_id,
            origin_line=line.origin_line,
            sku_id=line.sku_id,
            quantity=line.quantity,
        )
        for line in goods.part.lines
    ]


def created(shipment: Shipment, goods: Goods, report: Report, tracked: TrackedOrder) -> ShipmentCreated:
    return ShipmentCreated(
        root_id=shipment.root_id,
        order_id=shipment.order_id,
        progress=_progress(report, tracked),
        order=goods.order,
        part=goods.part,
        shipment_id=shipment.shipment_id,
        place_id=shipment.place_id,
        fulfilment_kind=shipment.kind.value,
        carrier=shipment.carrier,
        waybill_no=shipment.waybill_no,
        weight_grams=shipment.weight_grams,
        freight_cost_minor=shipment.freight_cost_minor,
        shipped_at=shipment.shipped_at,
    )


def progressed(shipment: Shipment, goods: Goods, report: Report, tracked: TrackedOrder) -> ShipmentProgressed:
    return ShipmentProgressed(
        root_id=shipment.root_id,
        order_id=shipment.order_id,
        progress=_progress(report, tracked),
        order=goods.order,
        part=goods.part,
        shipment_id=shipment.shipment_id,
        place_id=shipment.place_id,
        carrier=shipment.carrier,
        waybill_no=shipment.waybill_no,
        state=shipment.state.value,
        occurred_at=shipment.state_at,
    )


def _progress(report: Report, tracked: TrackedOrder) -> Progress:
    return Progress(step=tracked.next_step(), stage=report.stage, code=report.code, params=report.params)
