"""Fulfilment orders: lists, one with all that happened to it, its label."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import Row

from contracts import Order, Part
from contracts.envelope import PlaceId
from eventing import UnitOfWork
from fulfillment import label, store, tables
from fulfillment.api.runtime import runtime_of
from fulfillment.api.shipments import LineView, ShipmentView, shipment_view
from fulfillment.domain import OPEN_STATUSES, Kind, RequestStatus, Shipment, Status, Units, WaitingFor
from fulfillment.settings import Settings
from webapi.callers import PiiReader, Viewer
from webapi.models import UtcTime
from webapi.operators import record_manual_act
from webapi.paging import Keyset, Page, Paging
from webapi.problems import Problem
from webapi.routing import Router

router = Router(prefix="/v1", tags=["fulfilment orders"])

ORDERS = Keyset(
    "fulfilment_orders",
    (tables.fulfilment_order.c.created_at, datetime),
    (tables.fulfilment_order.c.fulfilment_order_id, UUID),
    descending=True,
)
ORDERS_OLDEST = Keyset(
    "fulfilment_orders",
    (tables.fulfilment_order.c.created_at, datetime),
    (tables.fulfilment_order.c.fulfilment_order_id, UUID),
)
MOST_PARCELS = 1_000


class FulfilmentOrderView(BaseModel):
    fulfilment_order_id: UUID
    order_id: UUID
    root_id: UUID
    attempt: int = Field(description="The allocation it comes from; 0: goods handed over before they came here.")
    kind: Kind
    place_id: str
    connector: str = Field(description="How the place is driven.")
    carrier: str | None
    weight_grams: int
    freight_cost_minor: int
    promised_on: date | None
    status: Status = Field(description="Where the work stands at the place.")
    request_status: RequestStatus = Field(description="What the place said to being asked.")
    waiting_for: WaitingFor | None = Field(description="waybill: the carrier's numbers are used up; buyer: to be picked up.")
    ship_at: UtcTime | None
    created_at: UtcTime
    updated_at: UtcTime


class AllocationReturnView(BaseModel):
    return_no: int
    reason: str
    stock_effect: str
    lines: list[LineView]
    returned_at: UtcTime


class StopView(BaseModel):
    stop_id: UUID
    request_id: UUID
    open: bool = Field(description="The place has not said yet what it stopped.")
    asked: list[LineView]
    stopped: list[LineView]


class WmsEventView(BaseModel):
    event_id: str
    kind: str
    code: str | None = Field(description="Why it does not count; null: it does.")
    received_at: UtcTime


class FulfilmentOrderDetail(FulfilmentOrderView):
    lines: list[LineView] = Field(description="As allocated.")
    left: list[LineView] = Field(description="Neither shipped nor given back yet.")
    shipments: list[ShipmentView] = Field(description="The first that left first; at most 1,000.")
    returns: list[AllocationReturnView] = Field(description="Units that the place gave back unshipped.")
    stops: list[StopView] = Field(description="What was asked to be stopped here.")
    wms_events: list[WmsEventView] = Field(description="What the WMS said, the latest first; at most 100.")


class LabelView(BaseModel):
    fulfilment_order_id: UUID
    carrier: str | None
    waybill_no: str | None
    name: str
    phone: str
    address: str
    postal_code: str
    sender: str
    text: str = Field(description="The whole label as lines, for a printer's template.")


@router.get("/fulfilment-orders")
async def list_fulfilment_orders(
    request: Request,
    paging: Paging,
    principal: Viewer,
    place_id: Annotated[PlaceId | None, Query()] = None,
    status: Annotated[Status | None, Query()] = None,
    request_status: Annotated[RequestStatus | None, Query()] = None,
    waiting_for: Annotated[WaitingFor | None, Query()] = None,
    order_id: Annotated[UUID | None, Query()] = None,
    sort: Annotated[Literal["-created_at", "created_at"], Query(description="Newest first, or oldest first.")] = "-created_at",
) -> Page[FulfilmentOrderView]:
    """Fulfilment orders, newest first. `status=in_progress&place_id=…` is a place's work list."""
    keyset = ORDERS if sort == "-created_at" else ORDERS_OLDEST
    statement = store.fulfilment_orders_query(
        order_id=order_id, place_id=place_id, status=status, request_status=request_status, waiting_for=waiting_for
    )
    statement = statement.where(keyset.after(keyset.decode(paging.next))).order_by(*keyset.order_by)
    async with runtime_of(request).work() as work:
        rows = (await work.connection.execute(statement.limit(paging.limit + 1))).all()
    return keyset.page(rows, paging, key=lambda row: (row.created_at, row.fulfilment_order_id), item=_order_view)


@router.get("/fulfilment-orders/{fulfilment_order_id}")
async def get_fulfilment_order(request: Request, fulfilment_order_id: UUID, principal: Viewer) -> FulfilmentOrderDetail:
    """One fulfilment order with its lines, what is left of them, and everything that happened to it."""
    async with runtime_of(request).work() as work:
        return await order_detail(work, fulfilment_order_id)


@router.get("/fulfilment-orders/{fulfilment_order_id}/label")
async def get_label(
    request: Request,
    response: Response,
    fulfilment_order_id: UUID,
    principal: PiiReader,
    shipment_id: Annotated[UUID | None, Query(description="The parcel, where the order has several.")] = None,
) -> LabelView:
    """The label with the receiver in clear: of a parcel, or of what is still at the place. Each look is noted."""
    settings: Settings = request.app.state.settings
    async with runtime_of(request).work() as work:
        row = await order_row(work, fulfilment_order_id)
        if row.receiver_ref is None:
            raise Problem("label_without_receiver", status=409)
        sealed = await store.find_receiver(work.connection, row.receiver_ref)
        shipment, content = await _on_label(row, shipment_id, work)
        place = await store.find_place(work.connection, row.place_id)
        await record_manual_act(
            work.connection,
            tables.manual_act,
            who=principal.name,
            act="read_label",
            subject=str(fulfilment_order_id),
            why="label",
            at=work.now,
        )
    if sealed is None:
        raise Problem("receiver_not_here", status=409, retry_after_seconds=5)
    try:
        receiver = label.open_receiver(sealed, settings.keks())
    except label.LabelError as error:
        raise Problem(error.code, status=410 if error.code == "receiver_erased" else 409) from None
    parcel = label.Parcel(
        carrier=shipment.carrier if shipment else row.carrier,
        waybill_no=shipment.waybill_no if shipment else None,
        sender=place.name if place else row.place_id,
        goods=_goods_on_label(content),
    )
    response.headers["Cache-Control"] = "no-store"
    return LabelView(
        fulfilment_order_id=fulfilment_order_id,
        carrier=parcel.carrier,
        waybill_no=parcel.waybill_no,
        name=receiver.name,
        phone=receiver.phone,
        address=label.address_of(receiver),
        postal_code=receiver.postal_code,
        sender=parcel.sender,
        text=label.render(receiver, parcel),
    )


async def _on_label(row: Row[Any], shipment_id: UUID | None, work: UnitOfWork) -> tuple[Shipment | None, store.Content]:
    """The parcel, and what is in it; where none has left, what would be."""
    ids = await store.ids_of_shipments(work.connection, order_id=row.order_id)
    parcels = {
        one.shipment_id: (one, content)
        for one, content in await store.find_shipments(work.connection, ids)
        if one.fulfilment_order_id == row.fulfilment_order_id
    }
    if shipment_id is not None:
        if shipment_id not in parcels:
            raise Problem("shipment_not_found", status=404)
        return parcels[shipment_id]
    if len(parcels) > 1:
        raise Problem("label_of_which_parcel", status=409)
    for found in parcels.values():
        return found
    return None, (await store.find_contents(work.connection, [row.fulfilment_order_id]))[row.fulfilment_order_id]


async def order_detail(work: UnitOfWork, fulfilment_order_id: UUID) -> FulfilmentOrderDetail:
    row = await order_row(work, fulfilment_order_id)
    content = (await store.find_contents(work.connection, [fulfilment_order_id]))[fulfilment_order_id]
    parcels = store.shipments_query(order_id=row.order_id).order_by("shipped_at", "shipment_id").limit(MOST_PARCELS)
    shipments = (await work.connection.execute(parcels)).all()
    returns = await store.allocation_returns_of(work.connection, fulfilment_order_id)
    claims = await store.claims_of(work.connection, fulfilment_order_id)
    events = await store.wms_events_of(work.connection, fulfilment_order_id)
    is_open = Status(row.status) in OPEN_STATUSES
    left = Part.model_validate_json(content.left_json or content.part_json).lines if is_open else []
    return FulfilmentOrderDetail(
        **_order_view(row).model_dump(),
        lines=[
            LineView.model_validate(line, from_attributes=True) for line in Part.model_validate_json(content.part_json).lines
        ],
        left=[LineView.model_validate(line, from_attributes=True) for line in left],
        shipments=[shipment_view(one) for one in shipments if one.fulfilment_order_id == fulfilment_order_id],
        returns=[
            AllocationReturnView(
                return_no=one.return_no,
                reason=one.reason,
                stock_effect=one.stock_effect,
                lines=_lines(store.units_of(one.units)),
                returned_at=one.returned_at,
            )
            for one in returns
        ],
        stops=[
            StopView(
                stop_id=one.stop_id,
                request_id=one.request_id,
                open=one.open,
                asked=_lines(one.asked),
                stopped=_lines(one.stopped),
            )
            for one in claims
        ],
        wms_events=[WmsEventView.model_validate(one, from_attributes=True) for one in events],
    )


def _lines(units: Units) -> list[LineView]:
    return [
        LineView(origin_order_id=order_id, origin_line=line, sku_id=sku_id, quantity=units[order_id, line, sku_id])
        for order_id, line, sku_id in sorted(units)
    ]


async def order_row(work: UnitOfWork, fulfilment_order_id: UUID) -> Row[Any]:
    row = await store.find_fulfilment_order(work.connection, fulfilment_order_id)
    if row is None:
        raise Problem("fulfilment_order_not_found", status=404)
    return row


def _order_view(row: Row[Any]) -> FulfilmentOrderView:
    return FulfilmentOrderView.model_validate(row, from_attributes=True)


def _goods_on_label(content: store.Content) -> tuple[tuple[str, int], ...]:
    order, part = (
        Order.model_validate_json(content.order_json),
        Part.model_validate_json(content.left_json or content.part_json),
    )
    titles = {(order.order_id, line.line): line.title for line in order.lines}
    return tuple((titles.get((line.origin_order_id, line.origin_line)) or line.sku_id, line.quantity) for line in part.lines)
