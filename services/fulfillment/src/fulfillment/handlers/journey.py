"""Parcels on their way: what the automatic connector and the carriers report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from eventing import Task, UnitOfWork
from fulfillment import store
from fulfillment.domain import FINISHED, Shipment, State, TrackedOrder, moves, report_of_state
from fulfillment.handlers.departure import DELIVER
from fulfillment.handlers.goods import Goods, goods_of, progressed


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierReport:
    """One carrier event, told by the carrier, the WMS or a person."""

    state: State
    occurred_at: datetime
    reference: str
    """The reporter's own id of it: the same one is recorded once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    applied: bool
    """False: it came late; the shipment was there or further already."""
    conflict: bool = False
    """The same reference came before with other content."""


async def on_deliver_due(tasks: Sequence[Task], work: UnitOfWork) -> None:
    """The automatic connector reports delivery, as of the moment it was due."""
    reports = {UUID(task.key): (State.DELIVERED, task.due_at) for task in tasks}
    tracked = await store.lock_orders(work.connection, await store.roots_of_shipments(work.connection, list(reports)))
    await _move(reports, tracked, work)


async def record_carrier_report(shipment_id: UUID, report: CarrierReport, work: UnitOfWork, *, who: str) -> Recorded | None:
    """Note a carrier event and move the shipment forward if it says so. None where there is no such shipment."""
    roots = await store.roots_of_shipments(work.connection, [shipment_id])
    if not roots:
        return None
    tracked = await store.lock_orders(work.connection, roots)
    before = await store.find_carrier_event(work.connection, shipment_id, report.reference)
    if before is not None:
        same = (before.state, before.occurred_at) == (report.state, report.occurred_at)
        return Recorded(applied=before.applied, conflict=not same)
    applied = bool(await _move({shipment_id: (report.state, report.occurred_at)}, tracked, work))
    if applied and report.state in FINISHED:
        work.cancel_tasks(DELIVER, [str(shipment_id)])
    await store.add_carrier_event(
        work.connection,
        shipment_id=shipment_id,
        reference=report.reference,
        state=report.state,
        occurred_at=report.occurred_at,
        applied=applied,
        recorded_at=work.now,
        recorded_by=who,
    )
    return Recorded(applied=applied)


async def _move(
    reports: Mapping[UUID, tuple[State, datetime]], tracked: Mapping[UUID, TrackedOrder], work: UnitOfWork
) -> list[Shipment]:
    """Move shipments forward, and say so; what is there or further already stays. Return those that moved."""
    moved: list[tuple[Shipment, Goods]] = []
    for shipment, content in await store.find_shipments(work.connection, list(reports)):
        state, at = reports[shipment.shipment_id]
        if moves(shipment.state, state):
            moved.append((replace(shipment, state=state, state_at=at), goods_of(content)))
    await store.save_states(work.connection, [shipment for shipment, _ in moved])
    arrived = {shipment.order_id for shipment, goods in moved if not goods.whole and shipment.state is State.DELIVERED}
    under_way = await store.orders_under_way(work.connection, arrived) if arrived else set()
    for shipment, goods in moved:
        report = report_of_state(shipment.state, more=shipment.order_id in under_way)
        work.emit([progressed(shipment, goods, report, tracked[shipment.order_id])])
    await store.save_orders(work.connection, [tracked[shipment.order_id] for shipment, _ in moved])
    return [shipment for shipment, _ in moved]
