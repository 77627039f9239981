"""Call-backs of WMS. The signature is the authentication; see docs/wms-http.md."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends, Path, Request
from pydantic import BaseModel, Field

from contracts.envelope import Id, PlaceId
from fulfillment import handlers, store
from fulfillment.api.lines import Cause, Lines, Parcels, StockEffect, problems
from fulfillment.api.runtime import runtime_of
from fulfillment.handlers.callback import ReportRefusedError
from fulfillment.settings import Settings
from fulfillment.signature import is_signed
from webapi.callers import public
from webapi.models import StrictModel, UtcTime
from webapi.problems import FieldError, Problem
from webapi.routing import Router

router = Router(prefix="/v1/wms", tags=["WMS call-backs"])


class _EventBody(StrictModel):
    event_id: Annotated[Id, Field(description="Your own id of the event: sent again, it counts once.")]
    fulfilment_order_id: UUID
    occurred_at: UtcTime


class AcceptedBody(_EventBody):
    kind: Literal["accepted"]


class RejectedBody(_EventBody):
    kind: Literal["rejected"]
    cause: Cause = "other"
    stock_effect: StockEffect | None = None


class StoppedBody(_EventBody):
    kind: Literal["stopped"]
    stop_id: UUID
    lines: Lines


class StopRefusedBody(_EventBody):
    kind: Literal["stop_refused"]
    stop_id: UUID


class ShippedBody(_EventBody):
    kind: Literal["shipped"]
    parcels: Parcels
    final: bool = Field(default=True, description="Nothing more will come: what is left counts as picked short.")


class ShortPickBody(_EventBody):
    kind: Literal["short_pick"]
    lines: Lines
    stock_effect: StockEffect = "missing"


WmsEventBody = Annotated[
    AcceptedBody | RejectedBody | StoppedBody | StopRefusedBody | ShippedBody | ShortPickBody, Field(discriminator="kind")
]


class WmsEventAnswer(BaseModel):
    event_id: str
    recorded: bool = True


async def signed_by_wms(request: Request, place_id: Annotated[PlaceId, Path()]) -> None:
    """Let in only what the place's WMS has signed within the last minutes."""
    settings: Settings = request.app.state.settings
    async with runtime_of(request).work() as work:
        endpoint, now = await store.find_endpoint(work.connection, place_id), work.now
    # The same answer for a place that is not known, so that nobody learns which ones are.
    secret = settings.wms_keys().get(endpoint.secret_name) if endpoint else None
    path = request.scope.get("raw_path", request.url.path.encode()).decode("ascii", "replace").split("?")[0]
    body = await request.body()
    if secret is None or not is_signed(secret, request.headers, now=now, method="POST", path=path, body=body):
        raise Problem("signature_wrong", status=401)


@router.post(
    "/{place_id:path}/events",
    dependencies=[Depends(public("signed by the WMS; see signed_by_wms")), Depends(signed_by_wms)],
)
async def receive_event(request: Request, place_id: Annotated[PlaceId, Path()], body: WmsEventBody) -> WmsEventAnswer:
    """What a WMS says of an order. The same `event_id` with the same content is answered as before.

    404 and 422 are not recorded and may be sent again once put right. A 409 that names a case is for good: people look.
    """
    settings: Settings = request.app.state.settings
    refused = None
    async with runtime_of(request).work() as work:
        with problems("parcels" if isinstance(body, ShippedBody) else "lines"):
            try:
                refused = await handlers.on_wms_report(place_id, _report(body), work, policy=settings.policy())
            except ReportRefusedError as error:
                fields = [FieldError(error.field, error.code)] if error.field else []
                raise Problem(error.code, status=error.status, errors=fields) from None
    if refused is not None:
        raise Problem(refused, status=409)
    return WmsEventAnswer(event_id=body.event_id)


def _report(body: WmsEventBody) -> handlers.WmsReport:
    lines = body.lines if isinstance(body, StoppedBody | ShortPickBody) else []
    parcels = body.parcels if isinstance(body, ShippedBody) else []
    return handlers.WmsReport(
        event_id=body.event_id,
        content_hash=hashlib.sha256(body.model_dump_json().encode()).digest(),
        fulfilment_order_id=body.fulfilment_order_id,
        kind=body.kind,
        cause=body.cause if isinstance(body, RejectedBody) else "other",
        stock_effect=body.stock_effect if isinstance(body, RejectedBody | ShortPickBody) else None,
        stop_id=body.stop_id if isinstance(body, StoppedBody | StopRefusedBody) else None,
        lines=[line.ref() for line in lines],
        parcels=[parcel.report() for parcel in parcels],
        final=body.final if isinstance(body, ShippedBody) else True,
    )
