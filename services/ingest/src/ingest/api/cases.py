"""What people must look at: refused changes, refunds of goods that are out, uneven bundles, versions in conflict."""

import json
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Request
from pydantic import BaseModel

from contracts import text_of
from ingest import store, tables
from ingest.api.common import runtime_of
from ingest.store.book import AnyRow
from ingest.store.requests import CASES
from webapi.callers import Operator, Viewer
from webapi.models import UtcTime
from webapi.operators import ManualReason, record_manual_act
from webapi.paging import Page, Paging
from webapi.problems import Problem
from webapi.routing import Router

router = Router(prefix="/v1", tags=["cases"])


class CaseView(BaseModel):
    case_id: UUID
    order_id: UUID
    channel: str
    shop_id: str
    channel_order_no: str
    kind: str
    subject: str
    """The request, refund or version that it is about."""
    why: str
    why_zh: str
    params: dict[str, Any]
    opened_at: UtcTime
    closed_at: UtcTime | None
    closed_by: str | None
    close_reason: str | None


class Closed(BaseModel):
    closed: bool = True


@router.get("/cases", summary="Cases, oldest first")
async def list_cases(
    request: Request,
    principal: Viewer,
    paging: Paging,
    order_id: UUID | None = None,
    kind: Annotated[str | None, Query(max_length=40)] = None,
    is_open: Annotated[bool | None, Query(alias="open", description="Only open ones, or only closed ones.")] = True,
) -> Page[CaseView]:
    """Open ones unless asked otherwise (`open=false`)."""
    async with runtime_of(request).work() as work:
        rows = await store.requests.list_cases(
            work.connection,
            order_id=order_id,
            kind=kind,
            is_open=is_open,
            after=CASES.decode(paging.next),
            limit=paging.limit,
        )
    return CASES.page(rows, paging, key=lambda row: (row.opened_at, row.case_id), item=_view)


@router.post("/cases/{case_id}/close", summary="Close a case")
async def close_case(request: Request, principal: Operator, case_id: UUID, body: ManualReason) -> Closed:
    """Noted with who and why. 409 when it is closed already."""
    async with runtime_of(request).work() as work:
        closed = await store.requests.close_case(work, case_id, by=principal.name, why=body.reason)
        if not closed:
            raise Problem("case_not_found", status=404) if closed is None else Problem("case_closed", status=409)
        await record_manual_act(
            work.connection,
            tables.manual_act,
            who=principal.name,
            act="close_case",
            subject=str(case_id),
            why=body.reason,
            at=work.now,
        )
    return Closed()


def _view(row: AnyRow) -> CaseView:
    params = json.loads(row.params)
    return CaseView(
        case_id=row.case_id,
        order_id=row.order_id,
        channel=row.channel,
        shop_id=row.shop_id,
        channel_order_no=row.channel_order_no,
        kind=row.kind,
        subject=row.subject,
        why=text_of(row.kind, params),
        why_zh=text_of(row.kind, params, chinese=True),
        params=params,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        closed_by=row.closed_by,
        close_reason=row.close_reason,
    )
