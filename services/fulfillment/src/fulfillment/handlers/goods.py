"""Translation between contracts and this service's own values: what comes in with an allocation, what events carry on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from contracts import (
    AllocationReturned,
    Order,
    OriginQuantity,
    Part,
    PartLine,
    Progress,
    ShipmentCreated,
    ShipmentProgressed,
    StockAllocated,
    StopAnswered,
)
from contracts.spine import StoppedLine
from fulfillment import store
from fulfillment.domain import Allocation, Key, Report, Return, Shipment, StopRequest, TrackedOrder, Units

_RETURN_REASONS = frozenset({"stopped", "place_rejected", "short_pick", "wms_refused"})


@dataclass(frozen=True, slots=True)
class Goods:
    """What an event about a fulfilment order carries on, untouched."""

    order: Order
    part: Part
    whole: bool = True
    """The part is the one that was allocated; else some units of it have gone already."""

    def units(self) -> dict[Key, int]:
        return {line.key: line.quantity for line in self.part.lines}

    def grams(self, units: Units | None = None) -> int:
        """What these units weigh, or all of them."""
        return sum(
            line.unit_weight_grams * (line.quantity if units is None else units.get(line.key, 0)) for line in self.part.lines
        )

    def take(self, units: Units) -> tuple[Part | None, Part | None]:
        """The first so many units of each line with their money and the freight, and the rest."""
        taken: list[PartLine] = []
        rest: list[PartLine] = []
        for line in self.part.lines:
            quantity = units.get(line.key, 0)
            if 0 < quantity < line.quantity:
                first, other = line.divide(quantity)
                taken.append(first)
                rest.append(other)
            else:
                (taken if quantity else rest).append(line)
        return self._part(taken, freight=True), self._part(rest, freight=False)

    def _part(self, lines: list[PartLine], *, freight: bool) -> Part | None:
        if not lines:
            return None
        return self.part.model_copy(update={"lines": lines, "freight": self.part.freight if freight else []})


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
        shop_id=event.order.shop_id,
        region_code=event.order.destination.region_code if event.order.destination else "",
        wanted_carrier=event.order.wanted_carrier,
    )


def content_of(goods: Goods) -> store.Content:
    return store.Content(order_json=goods.order.model_dump_json(), part_json=goods.part.model_dump_json())


def goods_of(content: store.Content) -> Goods:
    """What is left, where units have gone already."""
    part = Part.model_validate_json(content.left_json or content.part_json)
    return Goods(Order.model_validate_json(content.order_json), part, whole=content.left_json is None)


def all_goods_of(contents: Mapping[UUID, store.Content]) -> dict[UUID, Goods]:
    """**Shapes**: by fulfilment_order_id."""
    return {key: goods_of(content) for key, content in contents.items()}


def lines_of(units: Units) -> list[OriginQuantity]:
    return [
        OriginQuantity(origin_order_id=order_id, origin_line=line, sku_id=sku_id, quantity=units[order_id, line, sku_id])
        for order_id, line, sku_id in sorted(units)
    ]


def units_of(lines: Iterable[OriginQuantity]) -> dict[Key, int]:
    """Two entries of one line are one wish."""
    units: dict[Key, int] = {}
    for line in lines:
        units[line.key] = units.get(line.key, 0) + line.quantity
    return units


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
        progress=progress_of(report, tracked),
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
        progress=progress_of(report, tracked),
        order=goods.order,
        part=goods.part,
        shipment_id=shipment.shipment_id,
        place_id=shipment.place_id,
        carrier=shipment.carrier,
        waybill_no=shipment.waybill_no,
        state=shipment.state.value,
        occurred_at=shipment.state_at,
    )


def returned(back: Return, tracked: TrackedOrder, *, place: str) -> AllocationReturned:
    order = back.order
    stage = "returned" if back.whole else "shipped" if order.parcels else "allocated"
    units = sum(back.units.values())
    code = back.reason if back.reason in _RETURN_REASONS else "allocation_returned"
    return AllocationReturned(
        root_id=order.root_id,
        order_id=order.order_id,
        progress=progress_of(Report(stage, code, {"place": place, "units": units}), tracked),
        attempt=order.attempt,
        return_no=order.returns,
        place_id=order.place_id,
        place_no=order.place_no,
        lines=lines_of(back.units),
        reason=back.reason,
        stock_effect=back.stock_effect,
        whole=back.whole,
    )


def stop_answered(request: StopRequest, stopped: Units, tracked: TrackedOrder, *, stage: str) -> StopAnswered:
    """About the root, which may be several orders by now."""
    params: dict[str, str | int | None] = {"stopped": sum(stopped.values()), "asked": sum(request.asked.values())}
    return StopAnswered(
        root_id=request.root_id,
        order_id=request.root_id,
        progress=progress_of(Report(stage, "stop_answered", params), tracked),
        request_id=request.request_id,
        lines=[
            StoppedLine(origin_order_id=order_id, origin_line=line, sku_id=sku_id, stopped=stopped[order_id, line, sku_id])
            for order_id, line, sku_id in sorted(stopped)
        ],
    )


def progress_of(report: Report, tracked: TrackedOrder) -> Progress:
    return Progress(
        step=tracked.next_step(),
        stage=report.stage,
        code=report.code,
        params=report.params,
        attempt=max(0, tracked.attempt),
    )
