"""What people do by hand: the log of manual acts, and the routes for parked, quarantined and overdue work.

Every act needs a reason and is noted with who, why and when in the transaction that does it. Bodies of records may hold
personal data: they are shown to `pii.read` only, and each look is noted as well.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import fields
from datetime import datetime
from typing import Annotated, Any, Protocol
from uuid import UUID

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import Column, DateTime, Index, MetaData, Table, Text, Uuid, insert, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from uuid_utils import uuid7

from eventing.errors import InvalidRecordError
from eventing.operations import Operations, ParkedRecord, QuarantinedRecord
from eventing.work import UnitOfWork
from telemetry import get_logger, mask_text
from webapi.callers import Operator, PiiReader, Principal, Viewer
from webapi.models import StrictModel, UtcTime
from webapi.paging import Cursor, Keyset, Page, Paging
from webapi.problems import FieldError, Problem
from webapi.routing import Router

_log = get_logger(__name__)
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class ManualReason(StrictModel):
    """The body of a manual act; add fields in a subclass."""

    reason: Reason


def manual_act_table(metadata: MetaData) -> Table:
    """The service's log of manual acts; its DDL is `webapi.migrations.create`."""
    return Table(
        "manual_act",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("who", Text, nullable=False),
        Column("act", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("why", Text, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False),
        Column("detail", JSONB, nullable=False),
        Index("manual_act_at", "at", "id"),
        Index("manual_act_subject", "subject"),
    )


async def record_manual_act(
    connection: AsyncConnection,
    table: Table,
    *,
    who: str,
    act: str,
    subject: str,
    why: str,
    at: datetime,
    detail: dict[str, Any] | None = None,
) -> None:
    """Note one manual act, in the transaction that does it. `detail` must not hold personal data."""
    await connection.execute(
        insert(table).values(id=UUID(str(uuid7())), who=who, act=act, subject=subject, why=why, at=at, detail=detail or {})
    )


class OperatorRuntime(Protocol):
    """What the routes need of `eventing.Runtime`."""

    @property
    def operations(self) -> Operations: ...

    def work(self) -> AbstractAsyncContextManager[UnitOfWork]: ...


class EditedRecord(ManualReason):
    """A record's corrected body: it is validated, and becomes a new record with the old one as its cause."""

    body: dict[str, Any]


class ClosedBreaker(ManualReason):
    """Which breaker to close; without a consumer, all of the service's."""

    consumer: Annotated[str, Field(max_length=200)] | None = None
    scope: Annotated[str, Field(max_length=200)] | None = None


class _View(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ParkedKeyView(_View):
    consumer: str
    key: str
    reason_code: str
    reason: str
    field: str
    topic: str
    parked_at: UtcTime
    records: int
    wish: str | None


class ParkedRecordView(_View):
    """A parked record without its body, which may hold personal data."""

    id: UUID
    consumer: str
    position: int
    topic: str
    partition: int
    offset: int
    ce_id: UUID | None
    type: str
    received_at: UtcTime
    content_hash: str


class QuarantinedRecordView(_View):
    """A quarantined record without its body, which may hold personal data."""

    id: UUID
    consumer: str
    topic: str
    partition: int
    offset: int
    reason_code: str
    reason: str
    field: str
    content_hash: str
    at: UtcTime
    wish: str | None


class OverdueView(_View):
    source: str
    kind: str
    key: str
    since: UtcTime
    attempts: int
    last_error: str | None
    task_id: UUID | None


class BreakerView(_View):
    consumer: str
    scope: str
    opened_at: UtcTime
    half_open_at: UtcTime
    version: str
    reason: str


class ManualActView(_View):
    id: UUID
    who: str
    act: str
    subject: str
    why: str
    at: UtcTime
    detail: dict[str, Any]


class Done(BaseModel):
    """The act is noted; the consumer carries it out within about a second."""

    noted: bool = True


Key = Annotated[str, Path(min_length=1, max_length=200)]
Code = Annotated[str | None, Query(max_length=100)]
ReadReason = Annotated[Reason, Query(description="Why the body is looked at; noted with your name.")]
_PARKED = Cursor("operations.parked", str, str)
_QUARANTINED = Cursor("operations.quarantined", UUID)
_OVERDUE = Cursor("operations.overdue", str, str)


def operator_routes(runtime_of: Callable[[Request], OperatorRuntime], manual_act: Table) -> Router:
    """The routes by which people see and move what got stuck in this service."""
    router = Router(prefix="/v1/operations", tags=["operations"])
    acts = Keyset("operations.acts", (manual_act.c.at, datetime), (manual_act.c.id, UUID), descending=True)

    @asynccontextmanager
    async def noted(
        request: Request, principal: Principal, act: str, subject: object, why: str, **detail: Any
    ) -> AsyncIterator[tuple[Operations, UnitOfWork]]:
        """One act in one transaction with its note; what is not there is a 404, what does not fit a 422."""
        runtime = runtime_of(request)
        try:
            async with runtime.work() as work:
                yield runtime.operations, work
                await record_manual_act(
                    work.connection,
                    manual_act,
                    who=principal.name,
                    act=act,
                    subject=str(subject),
                    why=why,
                    at=work.now,
                    detail=detail,
                )
        except (KeyError, IndexError):
            raise  # Those are slips of ours, not "there is no such record".
        except LookupError as error:
            raise Problem("record_not_found", status=404) from error
        except InvalidRecordError as error:
            field = mask_text(f"body.{error.field}" if error.field else "body")
            raise Problem(
                "edit_refused",
                status=422,
                params={"cause": f": {mask_text(error.reason)}"},
                errors=[FieldError(field, "invalid_value")],
            ) from error

    @router.get("/parked")
    async def list_parked(
        request: Request, principal: Viewer, paging: Paging, key: Code = None, code: Code = None
    ) -> Page[ParkedKeyView]:
        """Keys that are set aside because handling a record of theirs failed, and why."""
        operations = runtime_of(request).operations
        rows = await operations.list_parked(paging.limit + 1, _two(_PARKED.decode(paging.next)), key, code)
        return _PARKED.page(rows, paging, key=lambda row: row.cursor, item=ParkedKeyView.model_validate)

    @router.get("/parked/{key}")
    async def list_parked_records(request: Request, principal: Viewer, key: Key) -> list[ParkedRecordView]:
        """The records of one parked key, in the order in which they will be handled; at most a thousand, without bodies."""
        rows = await runtime_of(request).operations.list_parked_records(key)
        if not rows:
            raise Problem("record_not_found", status=404)
        return [ParkedRecordView.model_validate(_hexed(row)) for row in rows]

    @router.get("/parked/{key}/records/{record_id}/raw")
    async def read_parked_record(
        request: Request, principal: PiiReader, key: Key, record_id: UUID, reason: ReadReason
    ) -> Response:
        """A parked record's body in clear. Noted with who and why."""
        async with noted(request, principal, "read_parked", key, reason, record_id=str(record_id)) as (operations, _):
            rows = await operations.list_parked_records(key, open_bodies=True)
            body = next((row.body for row in rows if row.id == record_id), None)
            if body is None:
                raise Problem("record_not_found", status=404)
        return _raw(body, principal, key)

    @router.post("/parked/{key}/retry", status_code=202)
    async def retry_parked(request: Request, principal: Operator, key: Key, body: ManualReason) -> Done:
        """Handle the key's records again, in order."""
        async with noted(request, principal, "retry_parked", key, body.reason) as (operations, work):
            await operations.wish(work, key, "retry")
        return Done()

    @router.post("/parked/{key}/discard", status_code=202)
    async def discard_parked(request: Request, principal: Operator, key: Key, body: ManualReason) -> Done:
        """Drop the key's records: their effects never happen here."""
        async with noted(request, principal, "discard_parked", key, body.reason) as (operations, work):
            await operations.wish(work, key, "discard")
        return Done()

    @router.put("/parked/{key}/records/{record_id}")
    async def edit_parked(request: Request, principal: Operator, key: Key, record_id: UUID, body: EditedRecord) -> Done:
        """Replace a parked record's body; then retry the key."""
        async with noted(request, principal, "edit_parked", key, body.reason, record_id=str(record_id)) as (operations, work):
            await operations.edit_parked(work, key, record_id, _json(body.body), principal.name)
        return Done()

    @router.get("/quarantined")
    async def list_quarantined(
        request: Request, principal: Viewer, paging: Paging, code: Code = None
    ) -> Page[QuarantinedRecordView]:
        """Records of foreign senders that could not be understood: which field, and why."""
        after = _QUARANTINED.decode(paging.next)
        rows = await runtime_of(request).operations.list_quarantined(paging.limit + 1, after[0] if after else None, code)
        return _QUARANTINED.page(
            rows, paging, key=lambda row: (row.cursor,), item=lambda row: QuarantinedRecordView.model_validate(_hexed(row))
        )

    @router.get("/quarantined/{record_id}/raw")
    async def read_quarantined(request: Request, principal: PiiReader, record_id: UUID, reason: ReadReason) -> Response:
        """A quarantined record's body in clear. Noted with who and why."""
        async with noted(request, principal, "read_quarantined", record_id, reason) as (operations, _):
            body = await operations.open_quarantined(record_id)
        return _raw(body, principal, str(record_id))

    @router.post("/quarantined/{record_id}/retry", status_code=202)
    async def retry_quarantined(request: Request, principal: Operator, record_id: UUID, body: ManualReason) -> Done:
        """Judge the record again, after a rule or a setting was corrected."""
        async with noted(request, principal, "retry_quarantined", record_id, body.reason) as (operations, work):
            await operations.retry_quarantined(work, record_id)
        return Done()

    @router.post("/quarantined/{record_id}/discard", status_code=202)
    async def discard_quarantined(request: Request, principal: Operator, record_id: UUID, body: ManualReason) -> Done:
        """Drop the record for good."""
        async with noted(request, principal, "discard_quarantined", record_id, body.reason) as (operations, work):
            await operations.discard_quarantined(work, record_id)
        return Done()

    @router.put("/quarantined/{record_id}")
    async def edit_quarantined(request: Request, principal: Operator, record_id: UUID, body: EditedRecord) -> Done:
        """Replace the record's body and judge it again."""
        async with noted(request, principal, "edit_quarantined", record_id, body.reason) as (operations, work):
            await operations.edit_quarantined(work, record_id, _json(body.body), principal.name)
        return Done()

    @router.get("/overdue")
    async def list_overdue(request: Request, principal: Viewer, paging: Paging, kind: Code = None) -> Page[OverdueView]:
        """What waits too long: for another topic's fact (over two minutes), or as a task (five minutes late, ten attempts)."""
        rows = await runtime_of(request).operations.list_overdue(paging.limit + 1, _two(_OVERDUE.decode(paging.next)), kind)
        return _OVERDUE.page(rows, paging, key=lambda row: row.cursor, item=OverdueView.model_validate)

    @router.post("/tasks/{task_id}/retry", status_code=202)
    async def retry_task(request: Request, principal: Operator, task_id: UUID, body: ManualReason) -> Done:
        """Run the task now, its attempts forgotten."""
        async with noted(request, principal, "retry_task", task_id, body.reason) as (operations, work):
            await operations.retry_task(work, task_id)
        return Done()

    @router.post("/tasks/{task_id}/discard", status_code=202)
    async def discard_task(request: Request, principal: Operator, task_id: UUID, body: ManualReason) -> Done:
        """Drop the task; a running one's answer is dropped with it."""
        async with noted(request, principal, "discard_task", task_id, body.reason) as (operations, work):
            await operations.discard_task(work, task_id)
        return Done()

    @router.get("/breaker")
    async def list_breakers(request: Request, principal: Viewer) -> list[BreakerView]:
        """Consumers that stopped because too many keys failed at once; empty when all run."""
        return [BreakerView.model_validate(state) for state in await runtime_of(request).operations.breaker()]

    @router.post("/breaker/close", status_code=202)
    async def close_breaker(request: Request, principal: Operator, body: ClosedBreaker) -> Done:
        """Let records through again, once the cause is gone."""
        subject = f"{body.consumer or '*'}/{body.scope or '*'}"
        async with noted(request, principal, "close_breaker", subject, body.reason) as (operations, work):
            await operations.close_breaker(work, body.consumer, body.scope)
        return Done()

    @router.get("/acts")
    async def list_acts(request: Request, principal: Viewer, paging: Paging, subject: Code = None) -> Page[ManualActView]:
        """What people did by hand, newest first: who, why, when."""
        statement = (
            select(manual_act).where(acts.after(acts.decode(paging.next))).order_by(*acts.order_by).limit(paging.limit + 1)
        )
        if subject is not None:
            statement = statement.where(manual_act.c.subject == subject)
        async with runtime_of(request).work() as work:
            rows = (await work.connection.execute(statement)).all()
        return acts.page(rows, paging, key=lambda row: (row.at, row.id), item=ManualActView.model_validate)

    return router


def _two(key: tuple[Any, ...] | None) -> tuple[str, str] | None:
    return None if key is None else (key[0], key[1])


def _hexed(row: ParkedRecord | QuarantinedRecord) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row)} | {"content_hash": row.content_hash.hex()}


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _raw(body: bytes, principal: Principal, subject: str) -> Response:
    _log.warning("personal_data_read", principal=principal.name, subject=subject)
    # To be saved, never rendered: whoever sent it may have written a script.
    headers = {"Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return Response(body, media_type="application/octet-stream", headers=headers)
