"""`stock.allocated`: an order has its place and its units; stops and changes follow it on the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from contracts import AllocatedOrderChanged, ChangeSettled, StockAllocated, StopRequested
from eventing import NewTask, Received, UnitOfWork, Waiting
from fulfillment import store
from fulfillment.domain import (
    AtPlace,
    FulfilmentOrder,
    Kind,
    Policy,
    Report,
    RequestStatus,
    Shipment,
    StopRequest,
    UnknownOrderError,
    accept,
    hand_over,
)
from fulfillment.handlers.counter import PICK_UP_EXPIRY
from fulfillment.handlers.departure import SHIP, record_shipments, ship_due
from fulfillment.handlers.desk import Desk
from fulfillment.handlers.goods import Goods, allocation_of, content_of, progress_of, units_of
from fulfillment.handlers.wms import INSTRUCT

Told = TypeVar("Told", StockAllocated, AllocatedOrderChanged)
CHANGEABLE = frozenset({"receiver", "note"})
"""Fields of a change that can be applied while an order lies at a place."""


async def on_stock_allocated(
    received: Sequence[Received[StockAllocated]], work: UnitOfWork, *, policy: Policy, pick_up_days: timedelta
) -> Sequence[Waiting]:
    """Make the fulfilment orders; what is due leaves at once. An order to ship waits for its sealed receiver."""
    events, waiting = await _with_receivers(received, work)
    tracked = await store.lock_orders(work.connection, {event.order_id: event.root_id for event in events})
    fresh = [event for event in events if tracked[event.order_id].take(event.attempt)]
    if not fresh:
        return waiting
    places = await store.find_places(work.connection, {event.place_id for event in fresh})
    rules = await store.find_carrier_rules(work.connection)
    goods: dict[UUID, Goods] = {}
    orders: list[FulfilmentOrder] = []
    handed_over: list[Shipment] = []
    for event in fresh:
        connector = places[event.place_id].connector
        order = accept(allocation_of(event), connector=connector, policy=policy, now=work.now, rules=rules)
        if order.kind is Kind.ALREADY_HANDED_OVER:
            order, shipment = hand_over(order, at=event.order.fulfilment.handed_over_at or work.now)
            handed_over.append(shipment)
        goods[order.fulfilment_order_id] = Goods(event.order, event.part)
        orders.append(order)
    await store.add_contents(work.connection, {key: content_of(one) for key, one in goods.items()})
    orders, parcels = await ship_due(orders, work)
    await store.add_fulfilment_orders(work.connection, orders)
    left = [(shipment, goods[shipment.fulfilment_order_id]) for shipment in (*handed_over, *parcels)]
    await record_shipments(left, tracked, places, work, policy=policy)
    await store.save_orders(work.connection, [tracked[event.order_id] for event in fresh])
    work.add_tasks(
        NewTask(SHIP, str(order.fulfilment_order_id), order.ship_at)
        for order in orders
        if order.ship_at is not None and order.ship_at > work.now
    )
    work.add_tasks(
        NewTask(INSTRUCT, str(order.fulfilment_order_id), work.now)
        for order in orders
        if order.request_status is RequestStatus.UNSUBMITTED and order.is_open
    )
    work.add_tasks(
        NewTask(PICK_UP_EXPIRY, str(order.fulfilment_order_id), work.now + pick_up_days)
        for order in orders
        if order.kind is Kind.PICK_UP
    )
    return waiting


async def on_stop_requested(received: Sequence[Received[StopRequested]], work: UnitOfWork, *, policy: Policy) -> None:
    """Spread each stop over what is open under its root; whatever becomes of it, it is answered once."""
    events = [item.event for item in received]
    desk = await Desk.open({event.root_id: event.root_id for event in events}, work)
    known = await store.known_stop_requests(work.connection, [(event.root_id, event.request_id) for event in events])
    new: list[tuple[StopRequest, str]] = []
    for event in events:
        if (event.root_id, event.request_id) in known:
            continue  # Asked for before, under another event id: answered or about to be.
        known.add((event.root_id, event.request_id))
        request = StopRequest(request_id=event.request_id, root_id=event.root_id, asked=units_of(event.lines))
        new.append((request, event.reason))
    await store.add_stop_requests(work.connection, new, now=work.now)
    desk.requests += [request for request, _ in new]
    await desk.save(policy=policy)


async def on_allocated_order_changed(
    received: Sequence[Received[AllocatedOrderChanged]], work: UnitOfWork, *, policy: Policy
) -> Sequence[Waiting]:
    """Apply a new receiver or note where nobody has been told the old one yet; say so, or that it is too late."""
    events, waiting = await _with_receivers(received, work)
    if not events:
        return waiting
    desk = await Desk.open({event.order_id: event.root_id for event in events}, work)
    for event in events:
        tracked = desk.tracked[event.order_id]
        if tracked.attempt < 0:
            raise UnknownOrderError("a change of an order that was never allocated here")
        fields = list(dict.fromkeys(event.fields))
        place = next((one for one in desk.places(event.root_id) if one.order.order_id == event.order_id), None)
        possible = place is not None and not place.order.is_told and not place.order.parcels
        applied = [one for one in fields if one in CHANGEABLE] if possible else []
        refused = [one for one in fields if one not in applied]
        if place is not None and applied:
            _change(desk, place, event, applied)
        stage = "allocated" if place is not None and not place.order.parcels else "shipped" if tracked.live else "returned"
        code = "change_refused" if refused else "change_applied"
        work.emit(
            [
                ChangeSettled(
                    root_id=event.root_id,
                    order_id=event.order_id,
                    progress=progress_of(Report(stage, code, {"fields": ", ".join(refused or applied)}), tracked),
                    request_id=event.request_id,
                    settled_by="fulfillment",
                    applied=applied,
                    refused=refused,
                    code=code,
                )
            ]
        )
    await desk.save(policy=policy)
    return waiting


def _change(desk: Desk, place: AtPlace, event: AllocatedOrderChanged, applied: Sequence[str]) -> None:
    key = place.order.fulfilment_order_id
    goods = desk.goods[key]
    new = event.order
    values: dict[str, object] = {}
    if "receiver" in applied:
        values |= {"receiver_ref": new.receiver_ref, "destination": new.destination}
        desk.apply_order(replace(place.order, receiver_ref=new.receiver_ref))
    if "note" in applied:
        values["notes"] = new.notes
    desk.change_goods(key, replace(goods, order=goods.order.model_copy(update=values)))


async def _with_receivers(received: Sequence[Received[Told]], work: UnitOfWork) -> tuple[list[Told], list[Waiting]]:
    """Part the events whose receiver is here, or that need none, from those that must wait for it."""
    wanted = {ref for item in received if (ref := _receiver_of(item.event)) is not None}
    missing = wanted - await store.find_receivers(work.connection, wanted) if wanted else wanted
    if missing:  # Rare: only for these is the arrival locked out, and looked for again.
        await work.expect("receiver", [str(ref) for ref in missing])
        missing -= await store.find_receivers(work.connection, missing)
    events: list[Told] = []
    waiting: list[Waiting] = []
    for item in received:
        ref = _receiver_of(item.event)
        if ref in missing:
            waiting.append(Waiting(item, kind="receiver", key=str(ref)))
        else:
            events.append(item.event)
    return events, waiting


def _receiver_of(event: StockAllocated | AllocatedOrderChanged) -> UUID | None:
    """The receiver that must be here first: a label is printed only for what is shipped."""
    return event.order.receiver_ref if event.order.fulfilment.kind == Kind.TO_SHIP else None
