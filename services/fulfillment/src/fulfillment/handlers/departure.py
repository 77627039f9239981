"""Goods leave their place: by the automatic connector, when their time has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from eventing import NewTask, Task, UnitOfWork
from fulfillment import store
from fulfillment.domain import (
    FulfilmentOrder,
    Policy,
    Shipment,
    State,
    TrackedOrder,
    WaitingFor,
    report_of_departure,
    report_of_state,
    ship,
)
from fulfillment.handlers.goods import Goods, all_goods_of, created, progressed, shipped_lines
from fulfillment.handlers.series import RETRY_WAYBILL, lock_waybill_pool

SHIP = "ship"
DELIVER = "deliver"
RETRY_WAYBILL_SECONDS = 30.0  # A new block wakes its carrier's orders at once; this is for whatever slips past that.
RETRY_WAYBILL_ORDERS = 200


async def on_ship_due(tasks: Sequence[Task], work: UnitOfWork, *, policy: Policy) -> None:
    """The automatic connector sends off what it was given `ship_seconds` ago."""
    await _ship_by_ids([UUID(task.key) for task in tasks], work, policy=policy)


async def on_retry_waybill(tasks: Sequence[Task], work: UnitOfWork, *, policy: Policy) -> None:
    """Try again the orders that found their carrier's numbers used up, those that were tried longest ago first."""
    found = await store.find_waiting_for_waybill(work.connection, [task.key for task in tasks], most=RETRY_WAYBILL_ORDERS)
    left = await _ship_by_ids([order_id for ids in found.values() for order_id in ids], work, policy=policy)
    stuck = {order.carrier for order in left}
    work.add_tasks(
        NewTask(RETRY_WAYBILL, carrier, work.now)
        for carrier, ids in found.items()
        if len(ids) == RETRY_WAYBILL_ORDERS and carrier not in stuck
    )


async def ship_due(orders: Sequence[FulfilmentOrder], work: UnitOfWork) -> tuple[list[FulfilmentOrder], list[Shipment]]:
    """Give numbers to the orders that are due; those that get none wait, and are tried again.

    **Shapes**: every order comes back, in the same sequence.
    """
    due = [order for order in orders if order.is_due(work.now)]
    if not due:
        return list(orders), []
    pool = await lock_waybill_pool([(order.place_id, order.carrier) for order in due], work)
    after: list[FulfilmentOrder] = []
    shipments: list[Shipment] = []
    for order in orders:
        if not order.is_due(work.now):
            after.append(order)
            continue
        shipped, shipment = ship(order, pool, now=work.now)
        after.append(shipped)
        if shipment is not None:
            shipments.append(shipment)
    await store.save_series(work.connection, pool.touched(), now=work.now)
    work.add_tasks(
        NewTask(RETRY_WAYBILL, carrier, work.now + timedelta(seconds=RETRY_WAYBILL_SECONDS))
        for carrier in sorted({order.carrier or "" for order in after if order.waiting_for is WaitingFor.WAYBILL})
    )
    return after, shipments


async def record_shipments(
    shipments: Sequence[tuple[Shipment, Goods]],
    tracked: Mapping[UUID, TrackedOrder],
    places: Mapping[str, store.Place],
    work: UnitOfWork,
    *,
    policy: Policy,
) -> None:
    """Write what has left, and say so; what was handed over is delivered in the same breath.

    **Shapes**: each shipment with what is in it, `places` by place_id, `tracked` by order_id: their steps move on, the caller
    saves them.
    """
    lines = [line for shipment, one in shipments for line in shipped_lines(shipment, one)]
    parts = [None if one.whole else one.part.model_dump_json() for _, one in shipments]
    await store.add_shipments(work.connection, [shipment for shipment, _ in shipments], lines, parts)
    for shipment, one in shipments:
        order, place = tracked[shipment.order_id], places[shipment.place_id].name
        work.emit([created(shipment, one, report_of_departure(shipment, place=place), order)])
        if shipment.state is State.DELIVERED:
            work.emit([progressed(shipment, one, report_of_state(shipment.state), order)])
    if policy.delivery_seconds is not None:
        after = timedelta(seconds=policy.delivery_seconds)
        work.add_tasks(
            NewTask(DELIVER, str(shipment.shipment_id), shipment.shipped_at + after)
            for shipment, _ in shipments
            if shipment.state is State.SHIPPED
        )


async def _ship_by_ids(ids: Sequence[UUID], work: UnitOfWork, *, policy: Policy) -> list[FulfilmentOrder]:
    """Ship those that are open and due; return those that could not go."""
    tracked = await store.lock_orders(work.connection, await store.roots_of_fulfilment_orders(work.connection, ids))
    due = [order for order in await store.find_fulfilment_orders(work.connection, ids) if order.is_due(work.now)]
    if not due:
        return []
    goods = all_goods_of(await store.find_contents(work.connection, [order.fulfilment_order_id for order in due]))
    places = await store.find_places(work.connection, [order.place_id for order in due])
    orders, shipments = await ship_due(due, work)
    await store.save_fulfilment_orders(work.connection, orders, now=work.now)
    parcels = [(shipment, goods[shipment.fulfilment_order_id]) for shipment in shipments]
    await record_shipments(parcels, tracked, places, work, policy=policy)
    await store.save_orders(work.connection, [tracked[shipment.order_id] for shipment in shipments])
    return [order for order in orders if order.waiting_for is WaitingFor.WAYBILL]
