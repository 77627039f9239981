"""`stock.allocated`: an order has its place and its units; here begins the work of getting it to the buyer."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from contracts import StockAllocated
from eventing import NewTask, Received, UnitOfWork, Waiting
from fulfillment import store
from fulfillment.domain import FulfilmentOrder, Kind, Policy, Shipment, accept, hand_over
from fulfillment.handlers.departure import SHIP, record_shipments, ship_due
from fulfillment.handlers.goods import Goods, allocation_of, content_of


async def on_stock_allocated(
    received: Sequence[Received[StockAllocated]], work: UnitOfWork, *, policy: Policy
) -> Sequence[Waiting]:
    """Make the fulfilment orders; what is due leaves at once. An order to ship waits for its sealed receiver."""
    events, waiting = await _with_receivers(received, work)
    tracked = await store.lock_orders(work.connection, {event.order_id: event.root_id for event in events})
    fresh = [event for event in events if tracked[event.order_id].take(event.attempt)]
    if not fresh:
        return waiting
    places = await store.find_places(work.connection, {event.place_id for event in fresh})
    goods: dict[UUID, Goods] = {}
    orders: list[FulfilmentOrder] = []
    handed_over: list[Shipment] = []
    for event in fresh:
        connector = places[event.place_id].connector
        order = accept(allocation_of(event), connector=connector, policy=policy, now=work.now)
        if order.kind is Kind.ALREADY_HANDED_OVER:
            order, shipment = hand_over(order, at=event.order.fulfilment.handed_over_at or work.now)
            handed_over.append(shipment)
        goods[order.fulfilment_order_id] = Goods(event.order, event.part)
        orders.append(order)
    await store.add_contents(work.connection, {key: content_of(one) for key, one in goods.items()})
    orders, parcels = await ship_due(orders, work)
    await store.add_fulfilment_orders(work.connection, orders)
    await record_shipments([*handed_over, *parcels], goods, tracked, places, work, policy=policy)
    await store.save_orders(work.connection, [tracked[event.order_id] for event in fresh])
    work.add_tasks(
        NewTask(SHIP, str(order.fulfilment_order_id), order.ship_at)
        for order in orders
        if order.ship_at is not None and order.ship_at > work.now
    )
    return waiting


async def _with_receivers(
    received: Sequence[Received[StockAllocated]], work: UnitOfWork
) -> tuple[list[StockAllocated], list[Waiting]]:
    """Part the events whose receiver is here, or that need none, from those that must wait for it."""
    wanted = {ref for item in received if (ref := _receiver_of(item.event)) is not None}
    missing = wanted - await store.find_receivers(work.connection, wanted) if wanted else wanted
    if missing:  # Rare: only for these is the arrival locked out, and looked for again.
        await work.expect("receiver", [str(ref) for ref in missing])
        missing -= await store.find_receivers(work.connection, missing)
    events: list[StockAllocated] = []
    waiting: list[Waiting] = []
    for item in received:
        ref = _receiver_of(item.event)
        if ref in missing:
            waiting.append(Waiting(item, kind="receiver", key=str(ref)))
        else:
            events.append(item.event)
    return events, waiting


def _receiver_of(event: StockAllocated) -> UUID | None:
    """The receiver that must be here first: a label is printed only for what is shipped."""
    return event.order.receiver_ref if event.order.fulfilment.kind == Kind.TO_SHIP else None
