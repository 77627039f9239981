"""Goods that come back: received, inspected, listed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query, Request
from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import Row

from contracts.envelope import Code, Id, PlaceId, SkuId
from eventing import UnitOfWork
from fulfillment import handlers, store, tables
from fulfillment.api.runtime import runtime_of
from fulfillment.domain import LineError
from webapi.callers import Principal, Viewer, requires
from webapi.models import StrictModel, UtcTime
from webapi.operators import Reason, record_manual_act
from webapi.paging import Keyset, Page, Paging
from webapi.problems import FieldError, Problem
from webapi.routing import Router

router = Router(prefix="/v1", tags=["returns"])

RETURNS = Keyset(
    "returns", (tables.goods_return.c.received_at, datetime), (tables.goods_return.c.return_id, UUID), descending=True
)
RETURNS_OLDEST = Keyset("returns", (tables.goods_return.c.received_at, datetime), (tables.goods_return.c.return_id, UUID))
Why = Literal["buyer_return", "refused_delivery", "recalled"]
Units = Annotated[int, Field(ge=0, le=1_000_000)]


class InspectedLineBody(StrictModel):
    """Units of a line by condition. The origin may be left out: then lines with that SKU are taken in turn."""

    sku_id: SkuId
    origin_order_id: UUID | None = None
    origin_line: Annotated[int, Field(ge=1, le=500)] | None = None
    good: Units = 0
    bad: Units = 0
    missing: Annotated[Units, Field(description="Announced, and not in the parcel.")] = 0

    @model_validator(mode="after")
    def _some(self) -> InspectedLineBody:
        if not self.good + self.bad + self.missing:
            raise PydanticCustomError("no_units", "no units")
        return self


class ReturnBody(StrictModel):
    """Names the parcel by shipment_id, by carrier and waybill_no, or by order_id (all its parcels, first left first)."""

    shipment_id: UUID | None = None
    carrier: Code | None = None
    waybill_no: Id | None = None
    order_id: UUID | None = None
    reference: Annotated[Id, Field(description="Your own id of the return: sent again, it counts once.")]
    why: Why
    place_id: PlaceId | None = Field(default=None, description="Where the goods are now. Unset: at the place they left.")
    lines: Annotated[list[InspectedLineBody], Field(min_length=1, max_length=500)]
    reason: Reason | None = Field(default=None, description="Why a person reports it; needed from everybody but a WMS.")

    @model_validator(mode="after")
    def _one(self) -> ReturnBody:
        named = [self.shipment_id is not None, self.waybill_no is not None, self.order_id is not None]
        if sum(named) != 1 or (self.carrier is None) != (self.waybill_no is None):
            raise PydanticCustomError("name_one_parcel", "name the goods in one way")
        return self


class ReturnedLineView(BaseModel):
    origin_order_id: UUID
    origin_line: int
    sku_id: str
    grade: str
    quantity: int
    paid_minor: int
    receivable_minor: int
    tax_minor: int


class ReturnView(BaseModel):
    return_id: UUID
    reference: str
    shipment_id: UUID
    order_id: UUID
    root_id: UUID
    place_id: str
    reason: str
    received_at: UtcTime
    recorded_by: str


class ReturnDetail(ReturnView):
    lines: list[ReturnedLineView]


class ReturnsAnswer(BaseModel):
    returns: list[ReturnDetail] = Field(description="One per parcel that units came back of.")


@router.post("/returns", status_code=201)
async def receive_return(
    request: Request, body: ReturnBody, principal: Annotated[Principal, Depends(requires("wms", "operator"))]
) -> ReturnsAnswer:
    """Goods came back and were inspected: after delivery, or undelivered. Never more than left and has not come back."""
    if body.reason is None and not principal.has("wms"):
        raise Problem("invalid_request", status=422, errors=[FieldError("reason", "field_missing")])
    async with runtime_of(request).work() as work:
        shipments = await _shipments(body, work)
        if body.place_id is not None and await store.find_place(work.connection, body.place_id) is None:
            raise Problem("invalid_request", status=422, errors=[FieldError("place_id", "place_not_found")])
        report = handlers.ReturnReport(
            reference=body.reference,
            reason=body.why,
            place_id=body.place_id,
            lines=[
                handlers.InspectedLine(
                    sku_id=line.sku_id,
                    good=line.good,
                    bad=line.bad,
                    missing=line.missing,
                    origin_order_id=line.origin_order_id,
                    origin_line=line.origin_line,
                )
                for line in body.lines
            ],
        )
        try:
            made = await handlers.receive_return(shipments, report, work, who=principal.name)
        except handlers.ReferenceReusedError:
            raise Problem("reference_reused", status=409) from None
        except LineError as error:
            field = FieldError(f"lines.{error.index}", error.code, {"left": error.left})
            raise Problem("return_too_much", status=409, errors=[field]) from None
        if body.reason is not None:
            await record_manual_act(
                work.connection,
                tables.manual_act,
                who=principal.name,
                act="receive_return",
                subject=body.reference,
                why=body.reason,
                at=work.now,
                detail={"returns": [str(one) for one in made]},
            )
        return ReturnsAnswer(returns=[await _detail(work, return_id) for return_id in made])


@router.get("/returns")
async def list_returns(
    request: Request,
    paging: Paging,
    principal: Viewer,
    order_id: Annotated[UUID | None, Query()] = None,
    shipment_id: Annotated[UUID | None, Query()] = None,
    place_id: Annotated[PlaceId | None, Query()] = None,
    reason: Annotated[Why | None, Query()] = None,
    received_from: Annotated[UtcTime | None, Query(description="From this moment on.")] = None,
    received_to: Annotated[UtcTime | None, Query(description="Before this moment.")] = None,
    sort: Annotated[Literal["-received_at", "received_at"], Query()] = "-received_at",
) -> Page[ReturnView]:
    """Returns, newest first."""
    keyset = RETURNS if sort == "-received_at" else RETURNS_OLDEST
    statement = store.returns_query(
        order_id=order_id,
        shipment_id=shipment_id,
        place_id=place_id,
        reason=reason,
        received_from=received_from,
        received_to=received_to,
    )
    statement = statement.where(keyset.after(keyset.decode(paging.next))).order_by(*keyset.order_by)
    async with runtime_of(request).work() as work:
        rows = (await work.connection.execute(statement.limit(paging.limit + 1))).all()
    return keyset.page(rows, paging, key=lambda row: (row.received_at, row.return_id), item=_view)


@router.get("/returns/{return_id}")
async def get_return(request: Request, return_id: UUID, principal: Viewer) -> ReturnDetail:
    """One return with its lines."""
    async with runtime_of(request).work() as work:
        return await _detail(work, return_id)


async def _shipments(body: ReturnBody, work: UnitOfWork) -> list[UUID]:
    if body.shipment_id is not None:
        found = [body.shipment_id] if await store.find_shipment(work.connection, body.shipment_id) else []
    else:
        found = await store.ids_of_shipments(
            work.connection, order_id=body.order_id, carrier=body.carrier, waybill_no=body.waybill_no
        )
    if not found:
        raise Problem("shipment_not_found", status=404)
    return found


async def _detail(work: UnitOfWork, return_id: UUID) -> ReturnDetail:
    row = await store.find_return(work.connection, return_id)
    if row is None:
        raise Problem("return_not_found", status=404)
    lines = await store.lines_of_returns(work.connection, [return_id])
    return ReturnDetail(
        **_view(row).model_dump(), lines=[ReturnedLineView.model_validate(one, from_attributes=True) for one in lines]
    )


def _view(row: Row[Any]) -> ReturnView:
    return ReturnView.model_validate(row, from_attributes=True)
