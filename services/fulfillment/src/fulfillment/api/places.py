"""Places: as inventory announced them, and how each is driven."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Path, Request
from pydantic import BaseModel, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import Row

from contracts.envelope import PlaceId
from fulfillment import store, tables
from fulfillment.api.runtime import runtime_of
from fulfillment.domain import Connector
from fulfillment.settings import Settings
from webapi.callers import Admin, Viewer
from webapi.operators import ManualReason, record_manual_act
from webapi.paging import Keyset, Page, Paging
from webapi.problems import FieldError, Problem
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
    base_url: str | None = Field(description="Where the place's WMS answers; of an http connector.")
    secret_name: str | None = Field(description="Names a secret of OMS_FULFILLMENT_WMS_SECRETS. The secret is never shown.")
    timeout_seconds: int | None


class ConnectorBody(ManualReason):
    connector: Connector
    base_url: Annotated[str, StringConstraints(max_length=500)] | None = None
    secret_name: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    timeout_seconds: Annotated[int, Field(ge=1, le=20)] = 10

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and not _is_plain_url(value):
            raise PydanticCustomError("not_a_base_url", "not a base URL")
        return value

    @model_validator(mode="after")
    def _fits(self) -> ConnectorBody:
        if (self.connector is Connector.HTTP) != (self.base_url is not None and self.secret_name is not None):
            raise PydanticCustomError("connector_incomplete", "base_url and secret_name go with http")
        return self


def _is_plain_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return (
            value.isascii()
            and value.isprintable()
            and " " not in value
            and parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and "@" not in parts.netloc
            and not parts.query
            and not parts.fragment
        )
    except ValueError:
        return False


@router.get("/places")
async def list_places(request: Request, paging: Paging, principal: Viewer) -> Page[PlaceView]:
    """The places, as inventory announced them, and how each is driven."""
    statement = store.places_query().where(PLACES.after(PLACES.decode(paging.next))).order_by(*PLACES.order_by)
    async with runtime_of(request).work() as work:
        rows = (await work.connection.execute(statement.limit(paging.limit + 1))).all()
    return PLACES.page(rows, paging, key=lambda row: (row.place_id,), item=_place_view)


@router.put("/places/{place_id:path}/connector")
async def put_connector(
    request: Request, place_id: Annotated[PlaceId, Path()], body: ConnectorBody, principal: Admin
) -> PlaceView:
    """Choose how a place is driven; orders that it has already stay as they are.

    `automatic`: parcels leave by themselves after a set time. `manual`: people say over HTTP what they do. `http`: a WMS is
    told and calls back (docs/wms-http.md); it needs `base_url` and `secret_name`.
    """
    settings: Settings = request.app.state.settings
    endpoint = None
    if body.base_url is not None and body.secret_name is not None:
        if body.secret_name not in settings.wms_keys():
            raise Problem("invalid_request", status=422, errors=[FieldError("secret_name", "secret_unknown")])
        endpoint = store.Endpoint(base_url=body.base_url, secret_name=body.secret_name, timeout_seconds=body.timeout_seconds)
    async with runtime_of(request).work() as work:
        if await store.find_place(work.connection, place_id) is None:
            raise Problem("place_not_found", status=404)
        await store.put_connector(work.connection, place_id, body.connector, endpoint=endpoint, now=work.now)
        await record_manual_act(
            work.connection,
            tables.manual_act,
            who=principal.name,
            act="put_connector",
            subject=place_id,
            why=body.reason,
            at=work.now,
            detail={"connector": body.connector, "base_url": body.base_url, "secret_name": body.secret_name},
        )
        row = await store.find_place(work.connection, place_id)
    return _place_view(row)


def _place_view(row: Row[Any] | None) -> PlaceView:
    if row is None:
        raise Problem("place_not_found", status=404)
    values = row._asdict()
    return PlaceView(**values | {"connector": values["connector"] or Connector.AUTOMATIC})
