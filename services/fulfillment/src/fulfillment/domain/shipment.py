"""Parcels: how they leave, where they are, which carrier event counts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5

from fulfillment.domain.errors import FulfilmentError
from fulfillment.domain.order import FulfilmentOrder, Kind, Status, WaitingFor
from fulfillment.domain.waybill import WaybillPool


class State(StrEnum):
    """Where a shipment is."""

    SHIPPED = "shipped"
    PICKED_UP = "picked_up"
    IN_TRANSIT = "in_transit"
    OUT_FOR_DELIVERY = "out_for_delivery"
    DELIVERED = "delivered"
    REFUSED = "refused"
    LOST = "lost"


FINISHED = frozenset({State.DELIVERED, State.REFUSED, State.LOST})
_RANK = {
    State.SHIPPED: 0,
    State.PICKED_UP: 1,
    State.IN_TRANSIT: 2,
    State.OUT_FOR_DELIVERY: 3,
    State.DELIVERED: 4,
    State.REFUSED: 4,
    State.LOST: 4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """One parcel that has left, or goods handed over at a place."""

    shipment_id: UUID
    fulfilment_order_id: UUID
    order_id: UUID
    root_id: UUID
    place_id: str
    kind: Kind
    carrier: str | None
    waybill_no: str | None
    weight_grams: int
    freight_cost_minor: int
    shipped_at: datetime
    state: State
    state_at: datetime


@dataclass(frozen=True, slots=True)
class Report:
    """Stage, reason code and its parameters, as the order book shows them."""

    stage: str
    code: str
    params: dict[str, str | int | None] = field(default_factory=dict)


def shipment_id(of_fulfilment_order: UUID, parcel_no: int) -> UUID:
    return uuid5(of_fulfilment_order, f"parcel:{parcel_no}")


def ship(order: FulfilmentOrder, pool: WaybillPool, *, now: datetime) -> tuple[FulfilmentOrder, Shipment | None]:
    """Send the parcel off under a number of the carrier's; where none is left the order waits in sight."""
    if order.carrier is None:
        raise FulfilmentError("an order to ship has no carrier")
    waybill_no = pool.take(order.place_id, order.carrier)
    if waybill_no is None:
        return replace(order, waiting_for=WaitingFor.WAYBILL), None
    return _closed(order), _shipment(order, State.SHIPPED, now, waybill_no=waybill_no)


def hand_over(order: FulfilmentOrder, *, at: datetime) -> tuple[FulfilmentOrder, Shipment]:
    """The buyer took the goods at the place: no carrier, no number; left and delivered in one moment."""
    return _closed(order), _shipment(order, State.DELIVERED, at, waybill_no=None)


def pack(
    order: FulfilmentOrder,
    *,
    at: datetime,
    carrier: str,
    waybill_no: str,
    weight_grams: int,
    freight_cost_minor: int,
) -> Shipment:
    """One parcel of an order that may have several. The order itself moves on by `stopping.depart`."""
    shipment = _shipment(order, State.SHIPPED, at, waybill_no=waybill_no)
    return replace(shipment, carrier=carrier, weight_grams=weight_grams, freight_cost_minor=freight_cost_minor)


def moves(current: State, state: State) -> bool:
    """Whether a carrier event changes anything: forward only, and nothing after the end."""
    return _RANK[state] > _RANK[current]


def report_of_departure(shipment: Shipment, *, place: str) -> Report:
    if shipment.kind is Kind.TO_SHIP:
        return Report(
            "shipped",
            "parcel_shipped",
            {"place": place, "carrier": shipment.carrier, "waybill_no": shipment.waybill_no},
        )
    return Report("shipped", "goods_handed_over", {"place": place})


def report_of_state(state: State, *, more: bool = False) -> Report:
    """Until the end the order's stage stays "shipped": where the parcel is on its way is detail. So it does while there is
    `more` of the order under way or at its place: one parcel's arrival must not hide that."""
    arrived = state in FINISHED and not (more and state is State.DELIVERED)
    return Report(state.value if arrived else "shipped", f"parcel_{state.value}")


def _closed(order: FulfilmentOrder) -> FulfilmentOrder:
    return replace(order, status=Status.CLOSED, waiting_for=None, parcels=order.parcels + 1)


def _shipment(order: FulfilmentOrder, state: State, at: datetime, *, waybill_no: str | None) -> Shipment:
    return Shipment(
        shipment_id=shipment_id(order.fulfilment_order_id, order.parcels + 1),
        fulfilment_order_id=order.fulfilment_order_id,
        order_id=order.order_id,
        root_id=order.root_id,
        place_id=order.place_id,
        kind=order.kind,
        carrier=order.carrier if waybill_no else None,
        waybill_no=waybill_no,
        weight_grams=order.weight_grams,
        freight_cost_minor=order.freight_cost_minor,
        shipped_at=at,
        state=state,
        state_at=at,
    )
