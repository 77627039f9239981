"""Shipments: lists, one with what carriers reported, and reporting."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import Row

from contracts.envelope import Code, Id, PlaceId
from eventing import UnitOfWork
from fulfillment import handlers, store, tables
from fulfillment.api.runtime import runtime_of
from fulfillment.domain import Kind, State
from webapi.callers import Principal, Viewer, requires
from webapi.models import StrictModel, UtcTime
from webapi.operators import Reason, record_manual_act
from webapi.paging import Keyset, Page, Paging
from webapi.problems import FieldError, Problem
from webapi.routing import Router

router = Router(prefix="/v1", tags=["shipments"])

SHIPMENTS = Keyset(
    "shipments", (tables.shipment.c.shipped_at, datetime), (tables.shipment.c.shipment_id, UUID), descending=True
)
SHIPMENTS_OLDEST = Keyset("shipments", (tables.shipment.c.shipped_at, datetime), (tables.shipment.c.shipment_id, UUID))
# Carriers' clocks run ahead a little; what lies further ahead is a typing slip or a wrong time zone.
CLOCK_SLACK = timedelta(minutes=10)


class LineView(BaseModel):
    origin_order_id: UUID
    origin_line: int
    sku_id: str
    quantity: int


class ShipmentView(BaseModel):
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
    shipped_at: UtcTime
    state: State
    state_at: UtcTime


class CarrierEventView(BaseModel):
    reference: str
    state: State
    occurred_at: UtcTime
    applied: bool = Field(description="False: it came late, the shipment was there or further already.")
    recorded_at: UtcTime


class ShipmentDetail(ShipmentView):
    lines: list[LineView]
    events: list[CarrierEventView] = Field(description="What carriers reported, by the time it happened; at most 500.")


class CarrierEventBody(StrictModel):
    """One carrier event."""

    state: Literal["picked_up", "in_transit", "out_for_delivery", "delivered", "refused", "lost"]
    occurred_at: UtcTime
    reference: Annotated[Id, Field(description="Your own id of the event: sent again, it is recorded once.")]
    reason: Reason | None = Field(default=None, description="Why a person reports it; needed from everybody but a WMS.")


@router.get("/shipments")
async def list_shipments(
    request: Request,
    paging: Paging,
    principal: Viewer,
    waybill_no: Annotated[Id | None, Query()] = None,
    carrier: Annotated[Code | None, Query()] = None,
    place_id: Annotated[PlaceId | None, Query()] = None,
    order_id: Annotated[UUID | None, Query()] = None,
    state: Annotated[State | None, Query()] = None,
    shipped_from: Annotated[UtcTime | None, Query(description="From this moment on.")] = None,
    shipped_to: Annotated[UtcTime | None, Query(description="Before this moment.")] = None,
    sort: Annotated[Literal["-shipped_at", "shipped_at"], Query(description="Newest first, or oldest first.")] = "-shipped_at",
) -> Page[ShipmentView]:
    """Shipments, newest first."""
    if shipped_from is not None and shipped_to is not None and shipped_to <= shipped_from:
        raise Problem("invalid_request", status=422, errors=[FieldError("shipped_to", "period_reversed")])
    keyset = SHIPMENTS if sort == "-shipped_at" else SHIPMENTS_OLDEST
    statement = store.shipments_query(
        order_id=order_id,
        place_id=place_id,
        carrier=carrier,
        waybill_no=waybill_no,
        state=state,
        shipped_from=shipped_from,
        shipped_to=shipped_to,
    )
    statement = statement.where(keyset.after(keyset.decode(paging.next))).order_by(*keyset.order_by)
    async with runtime_of(request).work() as work:
        rows = (await work.connection.execute(statement.limit(paging.limit + 1))).all()
    return keyset.page(rows, paging, key=lambda row: (row.shipped_at, row.shipment_id), item=shipment_view)


@router.get("/shipments/{shipment_id}")
async def get_shipment(request: Request, shipment_id: UUID, principal: Viewer) -> ShipmentDetail:
    """One shipment with its lines and what carriers reported of it."""
    async with runtime_of(request).work() as work:
        return await _shipment_detail(work, shipment_id)


@router.post("/shipments/{shipment_id}/progress")
async def add_carrier_event(
    request: Request,
    shipment_id: UUID,
    body: CarrierEventBody,
    principal: Annotated[Principal, Depends(requires("wms", "operator"))],
) -> ShipmentDetail:
    """Report a carrier event.

    Shipments only move forward, and end once: what comes late is recorded with `applied: false` and changes nothing. The
    same `reference` with the same content is answered as before.
    """
    if body.reason is None and not principal.has("wms"):
        raise Problem("invalid_request", status=422, errors=[FieldError("reason", "field_missing")])
    async with runtime_of(request).work() as work:
        if body.occurred_at > work.now + CLOCK_SLACK:
            raise Problem("invalid_request", status=422, errors=[FieldError("occurred_at", "in_the_future")])
        report = handlers.CarrierReport(state=State(body.state), occurred_at=body.occurred_at, reference=body.reference)
        recorded = await handlers.record_carrier_report(shipment_id, report, work, who=principal.name)
        if recorded is None:
            raise Problem("shipment_not_found", status=404)
        if recorded.conflict:
            raise Problem("reference_reused", status=409)
        if body.reason is not None:
            await record_manual_act(
                work.connection,
                tables.manual_act,
                who=principal.name,
                act="report_carrier_event",
                subject=str(shipment_id),
                why=body.reason,
                at=work.now,
                detail={"state": body.state, "reference": body.reference},
            )
        return await _shipment_detail(work, shipment_id)


def shipment_view(row: Row[Any]) -> ShipmentView:
    return ShipmentView.model_validate(row, from_attributes=True)


async def _shipment_detail(work: UnitOfWork, shipment_id: UUID) -> ShipmentDetail:
    row = await store.find_shipment(work.connection, shipment_id)
    if row is None:
        raise Problem("shipment_not_found", status=404)
    lines = await store.lines_of(work.connection, shipment_id)
    events = await store.carrier_events_of(work.connection, shipment_id)
    return ShipmentDetail(
        **shipment_view(row).model_dump(),
        lines=[LineView.model_validate(line, from_attributes=True) for line in lines],
        events=[CarrierEventView.model_validate(event, from_attributes=True) for event in events],
    )
