"""Cases: what people have to look at."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Request
from pydantic import BaseModel
from sqlalchemy import Row

from contracts.envelope import Code, PlaceId
from fulfillment import store, tables
from fulfillment.api.runtime import runtime_of
from webapi.callers import Operator, Viewer
from webapi.models import UtcTime
from webapi.operators import ManualReason, record_manual_act
from webapi.paging import Keyset, Page, Paging
from webapi.problems import Problem
from webapi.routing import Router

router = Router(prefix="/v1", tags=["cases"])

CASES = Keyset("cases", (tables.exception_case.c.opened_at, datetime), (tables.exception_case.c.case_id, UUID), descending=True)


class CaseView(BaseModel):
    case_id: UUID
    kind: str
    fulfilment_order_id: UUID
    order_id: UUID
    place_id: str
    detail: dict[str, Any]
    opened_at: UtcTime
    closed_at: UtcTime | None
    closed_by: str | None


@router.get("/cases")
async def list_cases(
    request: Request,
    paging: Paging,
    principal: Viewer,
    kind: Annotated[
        Code | None, Query(description="shipped_after_stop | shipped_too_much | stop_not_understood | pick_up_expired")
    ] = None,
    place_id: Annotated[PlaceId | None, Query()] = None,
    fulfilment_order_id: Annotated[UUID | None, Query()] = None,
    is_open: Annotated[bool, Query(alias="open", description="Only those that nobody has closed.")] = True,
) -> Page[CaseView]:
    """Cases, newest first."""
    statement = store.cases_query(kind=kind, place_id=place_id, fulfilment_order_id=fulfilment_order_id, open_only=is_open)
    statement = statement.where(CASES.after(CASES.decode(paging.next))).order_by(*CASES.order_by)
    async with runtime_of(request).work() as work:
        rows = (await work.connection.execute(statement.limit(paging.limit + 1))).all()
    return CASES.page(rows, paging, key=lambda row: (row.opened_at, row.case_id), item=_view)


@router.post("/cases/{case_id}/close")
async def close_case(request: Request, case_id: UUID, body: ManualReason, principal: Operator) -> CaseView:
    """Somebody has looked at it, and says what came of it."""
    async with runtime_of(request).work() as work:
        if await store.find_case(work.connection, case_id) is None:
            raise Problem("case_not_found", status=404)
        if not await store.close_case(work.connection, case_id, who=principal.name, now=work.now):
            raise Problem("case_closed", status=409)
        await record_manual_act(
            work.connection,
            tables.manual_act,
            who=principal.name,
            act="close_case",
            subject=str(case_id),
            why=body.reason,
            at=work.now,
        )
        row = await store.find_case(work.connection, case_id)
    return _view(row)


def _view(row: Row[Any] | None) -> CaseView:
    return CaseView.model_validate(row, from_attributes=True)
