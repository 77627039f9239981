"""Call-backs of a WMS: what it says of an order, once per event id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from eventing import UnitOfWork
from fulfillment import store
from fulfillment.domain import FulfilmentOrder, LineError, LineRef, Policy, RequestStatus, TransitionError
from fulfillment.handlers import floor
from fulfillment.handlers.desk import Desk


@dataclass(frozen=True, slots=True, kw_only=True)
class WmsReport:
    """One call-back, whatever it says; what a kind does not use stays empty."""

    event_id: str
    content_hash: bytes
    fulfilment_order_id: UUID
    kind: Literal["accepted", "rejected", "stopped", "stop_refused", "shipped", "short_pick"]
    cause: str = "other"
    stock_effect: str | None = None
    stop_id: UUID | None = None
    lines: Sequence[LineRef] = ()
    parcels: Sequence[floor.ParcelReport] = ()
    final: bool = True


class ReportRefusedError(Exception):
    """It does not count. **Shapes**: `code`, `status` as HTTP has them; `keep`: what was recorded about it is to stay."""

    def __init__(self, code: str, status: int, *, field: str = "") -> None:
        super().__init__(code)
        self.code, self.status, self.field = code, status, field


async def on_wms_report(place_id: str, report: WmsReport, work: UnitOfWork, *, policy: Policy) -> str | None:
    """Record a call-back. Returns the code it was refused with for good: it is recorded too, with a case where goods moved.

    **Errors**: ReportRefusedError (not recorded, it may come again), LineError, WaybillError.
    """
    roots = await store.roots_of_fulfilment_orders(work.connection, [report.fulfilment_order_id])
    desk = await Desk.open(roots, work)
    found = await store.find_fulfilment_orders(work.connection, [report.fulfilment_order_id])
    if not found or found[0].place_id != place_id:
        raise ReportRefusedError("fulfilment_order_not_found", 404)
    before = await store.find_wms_event(work.connection, place_id, report.event_id)
    if before is not None:
        if before.content_hash != report.content_hash:
            raise ReportRefusedError("event_id_reused", 409)
        code: str | None = before.code
        return code
    refused = await _apply(desk, found[0], report, policy)
    is_new = await store.add_wms_event(
        work.connection,
        place_id=place_id,
        event_id=report.event_id,
        content_hash=report.content_hash,
        fulfilment_order_id=report.fulfilment_order_id,
        kind=report.kind,
        code=refused,
        received_at=work.now,
    )
    if not is_new:  # Another order's call-back took the id at this moment.
        raise ReportRefusedError("event_id_reused", 409)
    await desk.save(policy=policy)
    return refused


async def _apply(desk: Desk, order: FulfilmentOrder, report: WmsReport, policy: Policy) -> str | None:
    key = report.fulfilment_order_id
    place = desk.place(key)
    if report.kind == "stop_refused" and place is None:
        return None  # It had shipped: that was told before.
    if place is None:
        if report.kind == "shipped":
            return await _conflict(desk, order, report)
        return "order_not_open"
    if place.order.request_status is RequestStatus.UNSUBMITTED:
        raise ReportRefusedError("order_not_submitted", 409)
    floor.accept_order(desk, key)
    if report.kind == "rejected":
        floor.reject(desk, key, cause=report.cause, stock_effect=report.stock_effect, reason="place_rejected")
    elif report.kind == "short_pick":
        floor.short_pick(desk, key, report.lines, stock_effect=report.stock_effect or "missing")
    elif report.kind in ("stopped", "stop_refused"):
        lines = report.lines if report.kind == "stopped" else ()
        if not await floor.answer_stop(desk, key, lines, stop_id=report.stop_id):
            raise ReportRefusedError("stop_not_found", 404, field="stop_id")
    elif report.kind == "shipped":
        try:
            await floor.ship_parcels(desk, key, report.parcels, final=report.final, policy=policy)
        except LineError as error:
            if error.code == "more_than_left" and (order.returns or order.parcels):
                return await _conflict(desk, order, report)
            raise
        except TransitionError:
            return await _conflict(desk, order, report)
    return None


async def _conflict(desk: Desk, order: FulfilmentOrder, report: WmsReport) -> str:
    """Goods are said to have left that were stopped, returned or shipped before: people must look, stock may be wrong."""
    kind = "shipped_after_stop" if order.returns else "shipped_too_much"
    detail = {
        "event_id": report.event_id,
        "parcels": [
            {
                "carrier": parcel.carrier,
                "waybill_no": parcel.waybill_no,
                "lines": [{"sku_id": line.sku_id, "quantity": line.quantity} for line in parcel.lines],
            }
            for parcel in report.parcels
        ],
    }
    work = desk.work
    await store.add_case(work.connection, work.new_id(), order, kind=kind, detail=detail, now=work.now)
    return kind
