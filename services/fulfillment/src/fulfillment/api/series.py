"""Waybill series: which numbers are left, and setting up blocks of them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import BaseModel, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import Row

from contracts.envelope import Code, PlaceId
from fulfillment import handlers, store, tables
from fulfillment.api.runtime import runtime_of
from fulfillment.domain import SeriesInUseError, SeriesOverlapError, SeriesRange
from webapi.callers import Admin, Viewer
from webapi.models import UtcTime
from webapi.operators import ManualReason, record_manual_act
from webapi.paging import Keyset, Page, Paging
from webapi.problems import Problem
from webapi.routing import Router

router = Router(prefix="/v1", tags=["waybill series"])

SERIES = Keyset("waybill_series", (tables.waybill_series.c.series_id, int))


class SeriesView(BaseModel):
    carrier: str
    place_id: str | None = Field(description="None: for every place.")
    prefix: str
    digits: int
    first_no: int
    next_no: int
    until_no: int
    left: int = Field(description="Numbers still to give.")
    updated_at: UtcTime


class SeriesBody(ManualReason):
    """A block of numbers. The same carrier, prefix, digits and first_no name the same block again."""

    carrier: Code
    place_id: PlaceId | None = Field(default=None, description="None: for every place; a place's own block goes first.")
    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9-]{0,20}$")] = ""
    digits: Annotated[int, Field(ge=1, le=18)] = 12
    first_no: Annotated[int, Field(ge=0)] = 1
    until_no: Annotated[int, Field(ge=0, description="The last number; first_no - 1 closes a block that gave none.")]

    @model_validator(mode="after")
    def _fits(self) -> SeriesBody:
        if self.until_no < self.first_no - 1:
            raise PydanticCustomError("block_reversed", "until_no is below first_no - 1")
        if self.until_no >= 10**self.digits:
            raise PydanticCustomError("block_too_wide", "until_no has more digits")
        return self


@router.get("/waybill-series")
async def list_series(
    request: Request,
    paging: Paging,
    principal: Viewer,
    carrier: Annotated[Code | None, Query()] = None,
    place_id: Annotated[PlaceId | None, Query()] = None,
) -> Page[SeriesView]:
    """The blocks of waybill numbers and how many are left in each."""
    statement = store.series_query(carrier=carrier, place_id=place_id)
    statement = statement.where(SERIES.after(SERIES.decode(paging.next))).order_by(*SERIES.order_by)
    async with runtime_of(request).work() as work:
        rows = (await work.connection.execute(statement.limit(paging.limit + 1))).all()
    return SERIES.page(rows, paging, key=lambda row: (row.series_id,), item=_series_view)


@router.put("/waybill-series")
async def put_series(request: Request, body: SeriesBody, principal: Admin) -> SeriesView:
    """Set up a block of waybill numbers, or change its end or its place. Orders that wait for the carrier are tried again.

    A carrier without any block gets a common one by itself at its first parcel. `until_no` of the last number given closes
    a block.
    """
    numbers = SeriesRange(prefix=body.prefix, digits=body.digits, first_no=body.first_no, until_no=body.until_no)
    async with runtime_of(request).work() as work:
        try:
            await handlers.put_series(body.carrier, numbers, work, place_id=body.place_id)
        except SeriesOverlapError:
            raise Problem("series_overlaps", status=409) from None
        except SeriesInUseError:
            raise Problem("series_in_use", status=409) from None
        block = f"{body.carrier} {body.prefix}{body.first_no:0{body.digits}d}"
        await record_manual_act(
            work.connection,
            tables.manual_act,
            who=principal.name,
            act="put_waybill_series",
            subject=block,
            why=body.reason,
            at=work.now,
            detail={"place_id": body.place_id, "until_no": body.until_no},
        )
        row = await store.get_series(work.connection, body.carrier, numbers)
    return _series_view(row)


def _series_view(row: Row[Any]) -> SeriesView:
    return SeriesView(**row._asdict(), left=row.until_no - row.next_no + 1)
