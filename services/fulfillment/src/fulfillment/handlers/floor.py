"""What a place says of an order, whoever says it: a WMS that calls back, people at a store, an operator who was phoned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from eventing import NewTask, UnitOfWork
from fulfillment import store
from fulfillment.domain import (
    AtPlace,
    Connector,
    Kind,
    LineRef,
    Policy,
    RequestStatus,
    Shipment,
    Status,
    TransitionError,
    answer,
    give_back,
    resolve,
    taken_on,
)
from fulfillment.handlers.departure import SHIP
from fulfillment.handlers.desk import STOP, Desk
from fulfillment.handlers.series import lock_waybill_pool
from fulfillment.handlers.wms import INSTRUCT

_STOCK_EFFECTS = {
    "not_in_stock": "nothing_left",
    "mismatch": "missing",
    "damaged": "damaged",
    "too_busy": "none",
    "closed": "none",
    "other": "none",
}
CAUSES = tuple(_STOCK_EFFECTS)


class WaybillError(Exception):
    """A waybill number cannot be used. **Shapes**: `code`: waybill_taken | waybill_of_series | waybill_exhausted."""

    def __init__(self, index: int, code: str) -> None:
        super().__init__(code)
        self.index, self.code = index, code


@dataclass(frozen=True, slots=True, kw_only=True)
class ParcelReport:
    """One parcel as it left. No lines: all that is left of the order."""

    lines: Sequence[LineRef] = ()
    carrier: str | None = None
    waybill_no: str | None = None
    weight_grams: int | None = None


async def desk_of(fulfilment_order_id: UUID, work: UnitOfWork) -> Desk:
    return await Desk.open(await store.roots_of_fulfilment_orders(work.connection, [fulfilment_order_id]), work)


def open_place(desk: Desk, fulfilment_order_id: UUID) -> AtPlace:
    """**Errors**: TransitionError where nothing of the order is left at its place."""
    place = desk.place(fulfilment_order_id)
    if place is None:
        raise TransitionError("the order is not open")
    return place


def accept_order(desk: Desk, fulfilment_order_id: UUID) -> None:
    """The place takes the order on. **Errors**: TransitionError."""
    place = open_place(desk, fulfilment_order_id)
    if place.order.request_status is RequestStatus.UNSUBMITTED:
        raise TransitionError("the place was not asked yet")
    desk.apply(taken_on(place, desk.claims()))


def reject(desk: Desk, fulfilment_order_id: UUID, *, cause: str, stock_effect: str | None, reason: str) -> None:
    """The place will not ship what is left. **Errors**: TransitionError."""
    place = open_place(desk, fulfilment_order_id)
    effect = stock_effect or _STOCK_EFFECTS.get(cause, "none")
    desk.apply(give_back(place, desk.claims(), place.left, reason=reason, stock_effect=effect))


def short_pick(desk: Desk, fulfilment_order_id: UUID, lines: Sequence[LineRef], *, stock_effect: str) -> None:
    """The place did not find these units. **Errors**: TransitionError, LineError."""
    place = open_place(desk, fulfilment_order_id)
    units = resolve(lines, place.left, known=desk.goods[fulfilment_order_id].units())
    desk.apply(give_back(place, desk.claims(), units, reason="short_pick", stock_effect=stock_effect))


async def answer_stop(desk: Desk, fulfilment_order_id: UUID, lines: Sequence[LineRef], *, stop_id: UUID | None) -> bool:
    """What the place stopped, for a stop or for the oldest one. False: there is no such stop. **Errors**: LineError."""
    claims = desk.claims_at(fulfilment_order_id)
    claim = next((one for one in claims if (one.open if stop_id is None else one.stop_id == stop_id)), None)
    if claim is None:  # Then it is answered, or there never was one.
        return any(one.stop_id == stop_id for one in await store.claims_of(desk.work.connection, fulfilment_order_id))
    place = desk.place(fulfilment_order_id)
    if place is None or not claim.open:
        return True
    units = resolve(lines, place.left, known=desk.goods[fulfilment_order_id].units())
    desk.apply(answer(place, desk.claims(), request_id=claim.request_id, stopped=units))
    return True


async def ship_parcels(
    desk: Desk, fulfilment_order_id: UUID, parcels: Sequence[ParcelReport], *, final: bool, policy: Policy
) -> list[Shipment]:
    """Parcels have left. `final`: nothing more will come, what is left was not found.

    **Errors**: TransitionError, LineError, WaybillError.
    """
    place = open_place(desk, fulfilment_order_id)
    order = place.order
    if order.kind is not Kind.TO_SHIP or order.carrier is None:
        raise TransitionError("the order is handed over, not shipped")
    known = desk.goods[fulfilment_order_id].units()
    resolved = []
    left = dict(place.left)
    for parcel in parcels:
        units = resolve(parcel.lines, left, known=known) if parcel.lines else dict(left)
        left = {key: quantity - units.get(key, 0) for key, quantity in left.items()}
        resolved.append({key: quantity for key, quantity in units.items() if quantity})
    if not all(resolved):
        raise TransitionError("nothing is left for a parcel")
    carriers = [parcel.carrier or order.carrier for parcel in parcels]
    numbers = await _waybills(order.place_id, parcels, carriers, desk.work)
    missing = {key: quantity for key, quantity in left.items() if quantity}
    if final and missing:
        # First, as inventory takes it: then both divide the line's money alike, whatever the parcels are.
        desk.apply(give_back(place, desk.claims(), missing, reason="short_pick", stock_effect="missing"))
    return [
        desk.ship(
            fulfilment_order_id,
            units,
            carrier=carrier,
            waybill_no=number,
            weight_grams=parcel.weight_grams,
            at=desk.work.now,
            policy=policy,
        )
        for parcel, units, carrier, number in zip(parcels, resolved, carriers, numbers, strict=True)
    ]


async def _waybills(place_id: str, parcels: Sequence[ParcelReport], carriers: Sequence[str], work: UnitOfWork) -> list[str]:
    """The number of each parcel: as given, or the next of the carrier's blocks, whose rows are locked last."""
    given = [(carrier, one.waybill_no) for one, carrier in zip(parcels, carriers, strict=True) if one.waybill_no]
    taken = await store.lock_waybills(work.connection, given) if given else set()
    seen: set[tuple[str, str]] = set()
    for index, (carrier, parcel) in enumerate(zip(carriers, parcels, strict=True)):
        if parcel.waybill_no is None:
            continue
        pair = (carrier, parcel.waybill_no)
        if pair in taken or pair in seen:
            raise WaybillError(index, "waybill_taken")
        seen.add(pair)
    if given and await store.is_in_series(work.connection, given):
        # The blocks would give the number once more, to another parcel.
        raise WaybillError(0, "waybill_of_series")
    wanted = [carrier for carrier, one in zip(carriers, parcels, strict=True) if not one.waybill_no]
    pool = await lock_waybill_pool([(place_id, carrier) for carrier in wanted], work) if wanted else None
    numbers: list[str] = []
    for index, (carrier, parcel) in enumerate(zip(carriers, parcels, strict=True)):
        number = parcel.waybill_no or (pool.take(place_id, carrier) if pool else None)
        if number is None:
            raise WaybillError(index, "waybill_exhausted")
        numbers.append(number)
    if pool is not None:
        await store.save_series(work.connection, pool.touched(), now=work.now)
    return numbers


def hold(desk: Desk, fulfilment_order_id: UUID) -> None:
    """Let nothing of it leave for now. **Errors**: TransitionError, also where a WMS is at it already."""
    place = open_place(desk, fulfilment_order_id)
    if place.order.is_told:
        raise TransitionError("the WMS has it already")
    desk.apply_order(place.order.moved(Status.ON_HOLD))


def release(desk: Desk, fulfilment_order_id: UUID) -> None:
    """Let it go on. **Errors**: TransitionError."""
    order = open_place(desk, fulfilment_order_id).order
    if order.status is not Status.ON_HOLD:
        raise TransitionError("the order is not on hold")
    began = order.request_status not in (RequestStatus.UNSUBMITTED, RequestStatus.SUBMITTED)
    desk.apply_order(order.moved(Status.IN_PROGRESS if began else Status.OPEN))
    key = str(fulfilment_order_id)
    if order.ship_at is not None:
        desk.work.add_tasks([NewTask(SHIP, key, max(order.ship_at, desk.work.now))])
    elif order.request_status is RequestStatus.UNSUBMITTED:
        desk.work.add_tasks([NewTask(INSTRUCT, key, desk.work.now)])


def resend(desk: Desk, fulfilment_order_id: UUID) -> None:
    """Tell the WMS again, under the same idempotency key, also what it was asked to stop. **Errors**: TransitionError."""
    order = open_place(desk, fulfilment_order_id).order
    if order.connector != Connector.HTTP or order.kind is not Kind.TO_SHIP:
        raise TransitionError("no WMS drives the place of this order")
    key = str(fulfilment_order_id)
    desk.work.add_tasks([NewTask(INSTRUCT, key, desk.work.now, {"again": True})])
    waiting = [one for one in desk.claims_at(fulfilment_order_id) if one.open]
    for claim in waiting:
        desk.put_claim(replace(claim, pending=False))
    if waiting:
        desk.work.add_tasks([NewTask(STOP, key, desk.work.now)])
