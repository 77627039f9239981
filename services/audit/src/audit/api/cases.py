"""Cases: what audit could not do and a person should look at."""

import json
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Request
from pydantic import BaseModel
from sqlalchemy import Row

from audit import tables
from audit.api.shared import note, page_of, runtime_of
from audit.store import cases as store
from contracts import text_of
from contracts.envelope import Code, Id
from webapi.callers import Operator, Viewer
from webapi.models import UtcTime
from webapi.operators import ManualReason
from webapi.paging import Keyset, Page, Paging
from webapi.problems import Problem, language_of
from webapi.routing import Router
from webapi.texts import Language

router = Router()


class CaseView(BaseModel):
    case_id: UUID
    kind: str
    """change_refused: a newer version came too late for these fields; goods go on as they were sent before."""
    text: str
    order_id: UUID
    """The root order."""
    request_id: UUID
    channel: str
    shop_id: str
    fields: list[str]
    source_version: int
    opened_at: UtcTime
    status: str
    closed_at: UtcTime | None
    closed_by: str | None
    reason: str | None


class CaseFilter(BaseModel):
    status: Literal["open", "closed"] | None = None
    kind: Code | None = None
    channel: Code | None = None
    shop_id: Id | None = None
    order_id: UUID | None = None


CASES = Keyset("cases.opened_at", (tables.audit_case.c.opened_at, datetime), (tables.audit_case.c.case_id, UUID))


@router.get("/cases", tags=["cases"], summary="What waits for a person, oldest first")
async def list_cases(
    request: Request, paging: Paging, wanted: Annotated[CaseFilter, Query()], principal: Viewer
) -> Page[CaseView]:
    language = language_of(request)
    given = wanted.model_dump(exclude={"status", "order_id"})
    statement = store.cases_where({**given, "state": wanted.status, "root_id": wanted.order_id})
    rows = await page_of(request, statement, CASES, paging)
    return CASES.page(rows, paging, key=lambda row: (row.opened_at, row.case_id), item=lambda row: case_view(row, language))


@router.post("/cases/{case_id}/close", tags=["cases"], summary="Close a case")
async def close_case(case_id: UUID, body: ManualReason, request: Request, principal: Operator) -> CaseView:
    """Closing again changes nothing and answers the same."""
    async with runtime_of(request).work() as work:
        row = await store.close_case(work, case_id, by=principal.name, reason=body.reason)
        if row is None:
            raise Problem("case_not_found", status=404)
        await note(work, principal.name, "close_case", case_id, body.reason)
    return case_view(row, language_of(request))


def case_view(row: Row[Any], language: Language) -> CaseView:
    fields = json.loads(row.fields)
    return CaseView(
        case_id=row.case_id,
        kind=row.kind,
        text=text_of(row.kind, {"fields": fields}, chinese=language == "zh"),
        order_id=row.root_id,
        request_id=row.request_id,
        channel=row.channel,
        shop_id=row.shop_id,
        fields=fields,
        source_version=row.source_version,
        opened_at=row.opened_at,
        status=row.state,
        closed_at=row.closed_at,
        closed_by=row.closed_by,
        reason=row.close_reason,
    )
