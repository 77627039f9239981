"""Places: as inventory announced them, and how each is driven."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Request
from pydantic import BaseModel
from sqlalchemy import Row

from contracts.envelope import PlaceId
from fulfillment import store, tables
from fulfillment.api.runtime import runtime_of
from fulfillment.domain import Connector
from webapi.callers import Admin, Viewer
from webapi.operators import ManualReason, record_manual_act
from webapi.paging import Keyset, Page, Paging
from webapi.problems import Problem
from webapi.routing import Router

router = Router(prefix="/v1", tags=["places"])

PLACES = Keyset("places", (tables.place.c.place_id, str))


class PlaceView(BaseModel):
    place_id: str
    place_no: int
    name: str
    kind: str
    region_code: str
    deleted: bool
    connector: str


class ConnectorBody(ManualReason):
    connector: Connector


@router.get("/places")
async def list_places(request: Request, paging: Paging, principal: Viewer) -> Page[PlaceView]:
    """The places, as inventory announced them, and how each is driven."""
    statement = store.places_query().where(PLACES.after(PLACES.decode(paging.next))).order_by(*PLACES.order_by)
    async with runtime_of(request).work() as work:
        rows = (await work.connection.execute(statement.limit(paging.limit + 1))).all()
    return PLACES.page(rows, paging, key=lambda row: (row.place_id,), item=_place_view)


@router.put("/places/{place_id}/connector")
async def put_connector(
    request: Request, place_id: Annotated[PlaceId, Path()], body: ConnectorBody, principal: Admin
) -> PlaceView:
    """Choose how a place is driven; orders that it has already stay as they are."""
    async with runtime_of(request).work() as work:
        if await store.find_place(work.connection, place_id) is None:
            raise Problem("place_not_found", status=404)
        await store.put_connector(work.connection, place_id, body.connector, now=work.now)
        await record_manual_act(
            work.connection,
            tables.manual_act,
            who=principal.name,
            act="put_connector",
            subject=place_id,
            why=body.reason,
            at=work.now,
            detail={"connector": body.connector},
        )
        row = await store.find_place(work.connection, place_id)
    return _place_view(row)


def _place_view(row: Row[Any] | None) -> PlaceView:
    if row is None:
        raise Problem("place_not_found", status=404)
    values = row._asdict()
    return PlaceView(**values | {"connector": values["connector"] or Connector.AUTOMATIC})
