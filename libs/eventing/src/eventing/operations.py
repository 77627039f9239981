"""What operators see and may do: parked keys, quarantined records, what is overdue, the breaker.

HTTP only sets wishes; the consumer carries them out, in order, and judges anew. Reading needs the sealer, wishing does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from eventing import database, envelope, parking
from eventing.clock import Clock
from eventing.errors import InvalidRecordError
from eventing.reading import Reader
from eventing.sealing import Sealer
from eventing.tables import RuntimeTables
from eventing.work import UnitOfWork

WAITING_ALARM = timedelta(minutes=2)
TASK_ALARM = timedelta(minutes=5)
TASK_ATTEMPTS = 10

_LIST_PARKED = text(
    """
    SELECT k.consumer, k.key, k.reason_code, k.reason, k.field, k.topic, k.parked_at, k.wish,
        (SELECT count(*) FROM parked_record r WHERE r.consumer = k.consumer AND r.key = k.key) AS records
    FROM parked_key k
    WHERE k.cause = 'parked'
        AND (CAST(:key AS text) IS NULL OR k.key = CAST(:key AS text))
        AND (CAST(:code AS text) IS NULL OR k.reason_code = CAST(:code AS text))
        AND (CAST(:after_consumer AS text) IS NULL
            OR (k.consumer, k.key) > (CAST(:after_consumer AS text), CAST(:after_key AS text)))
    ORDER BY k.consumer, k.key LIMIT :limit
    """
)
_LIST_RECORDS = text(
    """
    SELECT id, consumer, key, position, topic, partition, record_offset, ce_id, type, received_at, content_hash, body
    FROM parked_record WHERE key = CAST(:key AS text) ORDER BY consumer, position LIMIT 1000
    """
)
_LIST_QUARANTINED = text(
    """
    SELECT id, consumer, topic, partition, record_offset, reason_code, reason, field, content_hash, at, wish
    FROM quarantine
    WHERE (CAST(:code AS text) IS NULL OR reason_code = CAST(:code AS text))
        AND (CAST(:after AS uuid) IS NULL OR id > CAST(:after AS uuid))
    ORDER BY id LIMIT :limit
    """
)
_LIST_OVERDUE = text(
    """
    SELECT * FROM (
        SELECT 'waiting' AS source, kind, key, since, 0 AS attempts, NULL AS last_error, NULL AS task_id
        FROM waiting WHERE since < CAST(:waiting_before AS timestamptz)
        UNION ALL
        SELECT 'task', kind, key, least(due_at, created_at), attempt, last_error, id
        FROM task WHERE due_at < CAST(:due_before AS timestamptz) OR attempt >= :attempts
    ) AS overdue
    WHERE (CAST(:kind AS text) IS NULL OR kind = CAST(:kind AS text))
        AND (CAST(:after_kind AS text) IS NULL
            OR (kind, key) > (CAST(:after_kind AS text), CAST(:after_key AS text)))
    ORDER BY kind, key LIMIT :limit
    """
)
_WISH = text(
    """
    UPDATE parked_key k SET wish = CAST(:wish AS text), wished_at = CAST(:now AS timestamptz)
    FROM (
        SELECT consumer, key FROM parked_key WHERE key = CAST(:key AS text) ORDER BY consumer FOR UPDATE
    ) AS locked
    WHERE k.consumer = locked.consumer AND k.key = locked.key
    """
)
_PARKED_RECORD = text(
    """
    SELECT r.* FROM parked_record r JOIN parked_key k USING (consumer, key)
    WHERE r.id = CAST(:id AS uuid) AND r.key = CAST(:key AS text) FOR UPDATE OF k, r
    """
)
_EDIT_PARKED = text(
    """
    UPDATE parked_record SET ce_id = CAST(:ce_id AS uuid), headers = :headers, body = :body, content_hash = :content_hash,
        edited_by = CAST(:principal AS text)
    WHERE id = CAST(:id AS uuid)
    """
)
_WISH_QUARANTINE = text(
    """
    UPDATE quarantine SET wish = CAST(:wish AS text), wished_at = CAST(:now AS timestamptz) WHERE id = CAST(:id AS uuid)
    """
)
_QUARANTINED = text("SELECT * FROM quarantine WHERE id = CAST(:id AS uuid) FOR UPDATE")
_EDIT_QUARANTINE = text(
    """
    UPDATE quarantine SET body = :body, content_hash = :content_hash, edited_by = CAST(:principal AS text),
        wish = 'retry', wished_at = CAST(:now AS timestamptz)
    WHERE id = CAST(:id AS uuid)
    """
)
_RETRY_TASK = text(
    """
    UPDATE task SET due_at = CAST(:now AS timestamptz), attempt = 0
    WHERE id = CAST(:id AS uuid) AND (lease_until IS NULL OR lease_until < now()) RETURNING kind
    """
)
_DISCARD_TASK = text("DELETE FROM task WHERE id = CAST(:id AS uuid)")
_BREAKERS = text("SELECT consumer, scope, opened_at, half_open_at, version, reason FROM breaker ORDER BY consumer, scope")
_CLOSE_BREAKERS = text(
    """
    DELETE FROM breaker WHERE (CAST(:consumer AS text) IS NULL OR consumer = CAST(:consumer AS text))
        AND (CAST(:scope AS text) IS NULL OR scope = CAST(:scope AS text))
    """
)


@dataclass(frozen=True, slots=True)
class ParkedKey:
    consumer: str
    key: str
    reason_code: str
    reason: str
    field: str
    topic: str
    parked_at: datetime
    records: int
    wish: str | None

    @property
    def cursor(self) -> tuple[str, str]:
        return (self.consumer, self.key)


@dataclass(frozen=True, slots=True)
class ParkedRecord:
    id: UUID
    consumer: str
    key: str
    position: int
    topic: str
    partition: int
    offset: int
    ce_id: UUID | None
    type: str
    received_at: datetime
    content_hash: bytes
    body: bytes | None
    """Opened only where it was asked for: it may hold personal data."""


@dataclass(frozen=True, slots=True)
class QuarantinedRecord:
    id: UUID
    consumer: str
    topic: str
    partition: int
    offset: int
    reason_code: str
    reason: str
    field: str
    content_hash: bytes
    at: datetime
    wish: str | None

    @property
    def cursor(self) -> UUID:
        return self.id


@dataclass(frozen=True, slots=True)
class OverdueItem:
    source: str
    """`waiting` for a fact, or a `task`."""
    kind: str
    key: str
    since: datetime
    attempts: int
    last_error: str | None
    task_id: UUID | None

    @property
    def cursor(self) -> tuple[str, str]:
        return (self.kind, self.key)


@dataclass(frozen=True, slots=True)
class BreakerState:
    consumer: str
    scope: str
    """Empty: the whole consumer."""
    opened_at: datetime
    half_open_at: datetime
    version: str
    reason: str


class Operations:
    """The operators' side of a runtime."""

    def __init__(
        self,
        engine: AsyncEngine,
        tables: RuntimeTables,
        *,
        clock: Clock,
        readers: Callable[[], Mapping[str, Reader]],
        sealer: Sealer,
    ) -> None:
        self._engine = engine
        self.tables = tables
        self._clock = clock
        self._readers = readers
        self._sealer = sealer

    async def list_parked(
        self, limit: int, after: tuple[str, str] | None = None, key: str | None = None, code: str | None = None
    ) -> list[ParkedKey]:
        """**Shapes**: ordered by (consumer, key); `after` is the last one's `cursor`."""
        after_consumer, after_key = after or (None, None)
        rows = await self._read(
            _LIST_PARKED, limit=limit, key=key, code=code, after_consumer=after_consumer, after_key=after_key
        )
        return [ParkedKey(**row) for row in rows]

    async def list_parked_records(self, key: str, *, open_bodies: bool = False) -> list[ParkedRecord]:
        """Show the first thousand records of a stash, in the order in which they will be handled."""
        return [
            ParkedRecord(
                row["id"],
                row["consumer"],
                row["key"],
                row["position"],
                row["topic"],
                row["partition"],
                row["record_offset"],
                row["ce_id"],
                row["type"],
                row["received_at"],
                row["content_hash"],
                self._sealer.open(row["body"]) if open_bodies else None,
            )
            for row in await self._read(_LIST_RECORDS, key=key)
        ]

    async def list_quarantined(self, limit: int, after: UUID | None = None, code: str | None = None) -> list[QuarantinedRecord]:
        """**Shapes**: ordered by id, that is by time; `after` is the last one's `cursor`."""
        rows = await self._read(_LIST_QUARANTINED, limit=limit, after=after, code=code)
        return [
            QuarantinedRecord(**{("offset" if name == "record_offset" else name): row[name] for name in row}) for row in rows
        ]

    async def open_quarantined(self, record_id: UUID) -> bytes:
        """Show a quarantined body in clear.

        **Errors**: LookupError.
        """
        rows = await self._read(text("SELECT body FROM quarantine WHERE id = CAST(:id AS uuid)"), id=record_id)
        if not rows:
            raise LookupError(f"no quarantined record {record_id}")
        return self._sealer.open(rows[0]["body"])

    async def list_overdue(
        self, limit: int, after: tuple[str, str] | None = None, kind: str | None = None
    ) -> list[OverdueItem]:
        """Show what waits for a fact for over two minutes, and tasks five minutes late or after ten attempts."""
        after_kind, after_key = after or (None, None)
        now = self._clock.now()
        rows = await self._read(
            _LIST_OVERDUE,
            limit=limit,
            kind=kind,
            after_kind=after_kind,
            after_key=after_key,
            waiting_before=now - WAITING_ALARM,
            due_before=now - TASK_ALARM,
            attempts=TASK_ATTEMPTS,
        )
        return [OverdueItem(**row) for row in rows]

    async def wish(self, work: UnitOfWork, key: str, wish: Literal["retry", "discard"]) -> None:
        """Ask for a stash to be handled again, or dropped.

        **Errors**: LookupError where the key has none.
        """
        changed = await work.connection.execute(_WISH, {"key": key, "wish": wish, "now": work.now})
        if changed.rowcount == 0:
            raise LookupError(f"nothing is parked under {key}")
        work.woke_waiting = True

    async def edit_parked(self, work: UnitOfWork, key: str, record_id: UUID, body: bytes, principal: str) -> None:
        """Replace a parked record's body: it becomes a new record, with the old id as its cause.

        **Errors**: LookupError; InvalidRecordError that names field and reason.
        """
        row = (await work.connection.execute(_PARKED_RECORD, {"id": record_id, "key": key})).one_or_none()
        if row is None:
            raise LookupError(f"no record {record_id} is parked under {key}")
        sealer = self._sealer
        headers = dict(parking.open_headers(row.headers, sealer))
        event_type = headers.get("ce_type", b"").decode(errors="replace")
        self._validate(row.consumer, row.topic, event_type, body)
        new_id = work.new_id()
        if cause := headers.get("ce_id"):
            headers["ce_causationid"] = cause
        headers["ce_id"] = str(new_id).encode()
        await work.connection.execute(
            _EDIT_PARKED,
            {
                "id": record_id,
                "ce_id": new_id,
                "headers": parking.seal_headers(headers.items(), sealer),
                "body": sealer.seal(body),
                "content_hash": envelope.content_hash(event_type, body),
                "principal": principal,
            },
        )

    async def retry_quarantined(self, work: UnitOfWork, record_id: UUID) -> None:
        """Ask for a quarantined record to be judged again.

        **Errors**: LookupError.
        """
        await self._wish_quarantined(work, record_id, "retry")

    async def discard_quarantined(self, work: UnitOfWork, record_id: UUID) -> None:
        """Ask for a quarantined record to be dropped.

        **Errors**: LookupError.
        """
        await self._wish_quarantined(work, record_id, "discard")

    async def edit_quarantined(self, work: UnitOfWork, record_id: UUID, body: bytes, principal: str) -> None:
        """Replace a quarantined record's body and have it judged again.

        **Errors**: LookupError; InvalidRecordError that names field and reason.
        """
        row = (await work.connection.execute(_QUARANTINED, {"id": record_id})).one_or_none()
        if row is None:
            raise LookupError(f"no quarantined record {record_id}")
        self._validate(row.consumer, row.topic, "", body)
        await work.connection.execute(
            _EDIT_QUARANTINE,
            {
                "id": record_id,
                "body": self._sealer.seal(body),
                "content_hash": envelope.content_hash("", body),
                "principal": principal,
                "now": work.now,
            },
        )
        work.woke_waiting = True

    async def retry_task(self, work: UnitOfWork, task_id: UUID) -> None:
        """Make a task due now, its attempts forgotten.

        **Errors**: LookupError where there is none, or it is running.
        """
        kind = (await work.connection.execute(_RETRY_TASK, {"id": task_id, "now": work.now})).scalar_one_or_none()
        if kind is None:
            raise LookupError(f"no idle task {task_id}")
        work.task_kinds.add(kind)

    async def discard_task(self, work: UnitOfWork, task_id: UUID) -> None:
        """Drop a task; the answer of a running one is dropped with it.

        **Errors**: LookupError.
        """
        if (await work.connection.execute(_DISCARD_TASK, {"id": task_id})).rowcount == 0:
            raise LookupError(f"no task {task_id}")

    async def breaker(self) -> list[BreakerState]:
        """List the open breakers."""
        return [BreakerState(**row) for row in await self._read(_BREAKERS)]

    async def close_breaker(self, work: UnitOfWork, consumer: str | None = None, scope: str | None = None) -> None:
        """Let records through again; workers notice within a second."""
        await work.connection.execute(_CLOSE_BREAKERS, {"consumer": consumer, "scope": scope})

    async def _wish_quarantined(self, work: UnitOfWork, record_id: UUID, wish: str) -> None:
        changed = await work.connection.execute(_WISH_QUARANTINE, {"id": record_id, "wish": wish, "now": work.now})
        if changed.rowcount == 0:
            raise LookupError(f"no quarantined record {record_id}")
        work.woke_waiting = True

    def _validate(self, consumer: str, topic: str, event_type: str, body: bytes) -> None:
        models = self._readers()[consumer].models(topic) if consumer in self._readers() else []
        fitting = [model for model in models if not event_type or event_type == model.TYPE]
        if models and not fitting:
            raise InvalidRecordError("unknown_type", "no handler knows the type", "ce_type")
        for model in fitting:
            envelope.validate(body, model)
        if fitting:
            envelope.refuse_duplicate_keys(body)

    async def _read(self, statement: Any, **values: Any) -> Sequence[Mapping[str, Any]]:
        async with database.begin(self._engine) as connection:
            return [dict(row) for row in (await connection.execute(statement, values)).mappings()]
