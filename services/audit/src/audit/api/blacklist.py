"""The blacklist: who is not served without a person looking."""

from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy import Row

from audit import tables
from audit.api.shared import note, note_each, page_of, runtime_of
from audit.store import rules as store
from webapi.callers import Operator, Viewer
from webapi.models import StrictModel, UtcTime
from webapi.operators import ManualReason
from webapi.paging import Keyset, Page, Paging
from webapi.problems import Problem
from webapi.routing import Router

router = Router()
TokenKind = Literal["buyer", "receiver", "phone", "address"]
Token = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""As ingest makes them. Whatever else people might paste (a phone) must not stand here in clear."""


class BlacklistEntry(StrictModel):
    kind: TokenKind
    token: Token = Field(description="As ingest makes it: POST /v1/tokens there.")


class BlacklistBody(ManualReason):
    entries: list[BlacklistEntry] = Field(min_length=1, max_length=1000)


class BlacklistView(BaseModel):
    kind: str
    token: str
    reason: str
    added_by: str
    added_at: UtcTime


class BlacklistAdded(BaseModel):
    added: int
    already_listed: int


class BlacklistRemoval(BaseModel):
    kind: TokenKind
    token: Token
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]


BLACKLIST = Keyset("blacklist.token", (tables.blacklist.c.kind, str), (tables.blacklist.c.token, str))


@router.get("/blacklist", tags=["blacklist"], summary="Who is not served without a person looking")
async def list_blacklist(
    request: Request, paging: Paging, principal: Viewer, kind: TokenKind | None = None
) -> Page[BlacklistView]:
    rows = await page_of(request, store.blacklisted(kind), BLACKLIST, paging)
    return BLACKLIST.page(rows, paging, key=lambda row: (row.kind, row.token), item=blacklist_view)


@router.post("/blacklist", tags=["blacklist"], summary="Put tokens on the blacklist")
async def add_to_blacklist(body: BlacklistBody, request: Request, principal: Operator) -> BlacklistAdded:
    """Counts for orders that arrive from now on. What is listed already keeps its first reason."""
    entries = [(entry.kind, entry.token) for entry in body.entries]
    async with runtime_of(request).work() as work:
        added = await store.add_blacklisted(work, entries, reason=body.reason, added_by=principal.name)
        await note_each(work, principal.name, "blacklist_add", [f"{kind}:{token}" for kind, token in added], body.reason)
    return BlacklistAdded(added=len(added), already_listed=len(set(entries)) - len(added))


@router.delete("/blacklist", tags=["blacklist"], status_code=204, summary="Take a token off the blacklist")
async def remove_from_blacklist(removal: Annotated[BlacklistRemoval, Query()], request: Request, principal: Operator) -> None:
    async with runtime_of(request).work() as work:
        if not await store.remove_blacklisted(work, removal.kind, removal.token):
            raise Problem("token_not_listed", status=404)
        await note(work, principal.name, "blacklist_remove", f"{removal.kind}:{removal.token}", removal.reason)


def blacklist_view(row: Row[Any]) -> BlacklistView:
    return BlacklistView(kind=row.kind, token=row.token, reason=row.reason, added_by=row.added_by, added_at=row.added_at)
