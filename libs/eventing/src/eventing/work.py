"""The unit of work: one transaction's connection, clock reading and ids, and what it will send and schedule.

Lock order: inbox claims < parked_key < what the handlers lock < tasks < outbox. Tasks and outbox rows are written last, in one
statement each, so nothing that others wait for is ever taken after them.

**No transaction's first write is an outbox row.** The relay's floor (relay.py) rests on it: whoever has drawn a `seq` must
already hold a transaction id. A transaction that only draws sequence values has none, and one that gets its id with the insert
itself has it *after* `nextval`: the relay could note the sequence, then draw an id below that late one, and pass the row for
ever. So an id is fixed before the first outbox insert: by the inbox claim or a task's completion where there was one, else by
`pg_current_xact_id()` in a statement of its own. (Which of several rows of one transaction has which xid does not matter;
there is one per transaction, and it precedes every seq that the transaction draws.)
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from uuid import UUID

from opentelemetry import trace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts import Event
from eventing.clock import IdSource
from eventing.envelope import OutboxRow, encode, encode_body
from eventing.errors import LeaseLostError, describe
from eventing.routes import NewTask, Task

log = logging.getLogger(__name__)

_ADD_OUTBOX = text(
    """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, headers, ce_time, shard)
    SELECT id, topic, key, type, payload, headers, CAST(:now AS timestamptz), shard
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:topics AS text[]), CAST(:keys AS text[]), CAST(:types AS text[]),
        CAST(:payloads AS bytea[]), CAST(:headers AS bytea[]), CAST(:shards AS smallint[])
    ) AS r(id, topic, key, type, payload, headers, shard)
    """
)
_FIX_TRANSACTION_ID = text("SELECT pg_current_xact_id()")
_ADD_TASKS = text(
    """
    INSERT INTO task (id, kind, key, due_at, payload, created_at)
    SELECT id, kind, key, due_at, CAST(payload AS jsonb), CAST(:now AS timestamptz)
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:kinds AS text[]), CAST(:keys AS text[]), CAST(:due AS timestamptz[]),
        CAST(:payloads AS text[])
    ) AS r(id, kind, key, due_at, payload)
    ON CONFLICT (kind, key) DO UPDATE SET
        due_at = CASE WHEN task.lease_until IS NULL AND task.attempt = 0
            THEN least(task.due_at, excluded.due_at) ELSE task.due_at END,
        payload = CASE WHEN task.lease_until IS NULL AND task.attempt = 0 THEN excluded.payload ELSE task.payload END,
        -- It runs or has run without a known end: this one comes after it, under an idempotency key of its own.
        again_at = CASE WHEN task.lease_until IS NULL AND task.attempt = 0
            THEN task.again_at ELSE least(task.again_at, excluded.due_at) END,
        again_payload = CASE WHEN task.lease_until IS NULL AND task.attempt = 0
            THEN task.again_payload ELSE excluded.payload END
    """
)
_CANCEL_TASKS = text(
    """
    DELETE FROM task WHERE id IN (
        SELECT id FROM task WHERE kind = CAST(:kind AS text) AND key = ANY(CAST(:keys AS text[])) ORDER BY key FOR UPDATE
    )
    """
)
_COMPLETE_TASKS = text(
    """
    DELETE FROM task WHERE id = ANY(CAST(:ids AS uuid[])) AND lease_owner = CAST(:lease AS uuid) AND again_at IS NULL
    RETURNING id
    """
)
_RENEW_TASKS = text(
    """
    UPDATE task SET
        id = fresh.id, due_at = again_at, payload = again_payload, attempt = 0, created_at = CAST(:now AS timestamptz),
        lease_owner = NULL, lease_until = NULL, again_at = NULL, again_payload = NULL, last_error = NULL
    FROM unnest(CAST(:ids AS uuid[]), CAST(:fresh AS uuid[])) AS fresh(old, id)
    WHERE task.id = fresh.old AND lease_owner = CAST(:lease AS uuid) AND again_at IS NOT NULL
    RETURNING fresh.old
    """
)
_EXPECT = text("SELECT count(pg_advisory_xact_lock_shared(k)) FROM unnest(CAST(:locks AS bigint[])) AS k")
_ARRIVE = text("SELECT count(pg_advisory_xact_lock(k)) FROM unnest(CAST(:locks AS bigint[])) AS k")
_WAKE = text(
    """
    WITH here AS (
        DELETE FROM waiting WHERE kind = CAST(:kind AS text) AND key = ANY(CAST(:keys AS text[])) RETURNING consumer, stash_key
    ), stashed AS (
        SELECT p.consumer, p.key FROM parked_key p
        WHERE (p.consumer, p.key) IN (SELECT consumer, stash_key FROM here) AND p.cause = 'waiting'
        ORDER BY p.consumer, p.key FOR UPDATE
    )
    UPDATE parked_key p SET wish = 'retry', wished_at = CAST(:now AS timestamptz)
    FROM stashed WHERE p.consumer = stashed.consumer AND p.key = stashed.key
    """
)


class UnitOfWork:
    """One transaction. `emit` and `add_tasks` collect; `flush` writes; who opened it commits."""

    def __init__(
        self,
        connection: AsyncConnection,
        *,
        now: datetime,
        ids: IdSource,
        source: str,
        traces: Mapping[str, str] | None = None,
    ) -> None:
        self.connection = connection
        self.now = now
        self.has_transaction_id = False
        self.woke_waiting = False
        self.task_kinds: set[str] = set()
        """Kinds of tasks that this unit adds."""
        self._ids = ids
        self._source = source
        self._traces = traces or {}
        self._own_trace: str | None = None
        self._outbox: list[OutboxRow] = []
        self._tasks: dict[tuple[str, str], NewTask] = {}
        self._cancelled: dict[str, set[str]] = {}
        self._after_commit: list[Callable[[], None]] = []
        self._emitted = False

    def new_id(self) -> UUID:
        return self._ids.new_id()

    def emit(self, events: Iterable[Event]) -> None:
        """Send these when the transaction commits; their ids, times and bytes are fixed now.

        **Errors**: EventTooLargeError.
        """
        for event in events:
            key = event.key
            self._outbox.append(
                encode(event, id=self.new_id(), time=self.now, source=self._source, traceparent=self._trace_of(key))
            )

    def emit_notice(self, *, topic: str, key: str, type: str, payload: bytes) -> None:  # noqa: A002
        """Send a body that has no contract model (the notices of `<service>.dlq`)."""
        self._outbox.append(
            encode_body(
                payload,
                topic=topic,
                key=key,
                type=type,
                version=1,
                subject=key,
                extensions={},
                id=self.new_id(),
                time=self.now,
                source=self._source,
                traceparent=self._trace_of(key),
            )
        )

    def add_tasks(self, tasks: Iterable[NewTask]) -> None:
        """Schedule; an open task of the same (kind, key) keeps the earlier of the two times."""
        for task in tasks:
            known = self._tasks.get((task.kind, task.key))
            if known is not None and known.due_at < task.due_at:
                task = NewTask(task.kind, task.key, known.due_at, task.payload)
            self._tasks[task.kind, task.key] = task

    def cancel_tasks(self, kind: str, keys: Iterable[str]) -> None:
        """Drop open tasks; the answer of one that is running is dropped with it. Tasks added in this unit come after it."""
        self._cancelled.setdefault(kind, set()).update(keys)
        for key in self._cancelled[kind]:
            self._tasks.pop((kind, key), None)

    async def expect(self, kind: str, keys: Iterable[str]) -> None:
        """Lock out `arrived` for these facts until the transaction ends: look after this, then answer Waiting."""
        await self._lock(_EXPECT, kind, keys)

    async def arrived(self, kind: str, keys: Iterable[str]) -> None:
        """Wake what waits for these facts; they must be written by now."""
        wanted = sorted(set(keys))
        if not wanted:
            return
        await self._lock(_ARRIVE, kind, wanted)
        woken = await self.connection.execute(_WAKE, {"kind": kind, "keys": wanted, "now": self.now})
        self.woke_waiting = self.woke_waiting or woken.rowcount > 0

    def after_commit(self, callback: Callable[[], None]) -> None:
        self._after_commit.append(callback)

    async def complete(self, tasks: Sequence[Task], lease: UUID) -> None:
        """Remove tasks that this transaction has carried out.

        **Errors**: LeaseLostError when any has been taken over: its effects happen there.
        """
        wanted = {task.id for task in tasks}
        ids = sorted(wanted)
        rows = await self.connection.execute(_COMPLETE_TASKS, {"ids": ids, "lease": lease})
        done = set(rows.scalars())
        if done != wanted:
            left = sorted(wanted - done)
            fresh = [self.new_id() for _ in left]
            rows = await self.connection.execute(_RENEW_TASKS, {"ids": left, "fresh": fresh, "lease": lease, "now": self.now})
            done.update(rows.scalars())
        if done != wanted:
            raise LeaseLostError({*(wanted - done)})
        self.has_transaction_id = True

    async def flush(self) -> None:
        """Write tasks and outbox rows, last of all."""
        for kind in sorted(self._cancelled):
            await self.connection.execute(_CANCEL_TASKS, {"kind": kind, "keys": sorted(self._cancelled[kind])})
        self._cancelled.clear()
        if self._tasks:
            await self._write_tasks()
        if self._outbox:
            await self._write_outbox()

    @property
    def emitted(self) -> bool:
        """Whether outbox rows were written."""
        return self._emitted

    def run_callbacks(self) -> None:
        """Call what was to be called after the commit."""
        for callback in self._after_commit:
            try:
                callback()
            except Exception as error:  # noqa: BLE001  the effects are committed: nothing may look as if they were not
                log.error("a callback after a commit failed: %s", describe(error))  # noqa: TRY400

    async def _write_tasks(self) -> None:
        tasks = [self._tasks[key] for key in sorted(self._tasks)]
        self._tasks.clear()
        self.task_kinds.update(task.kind for task in tasks)
        await self.connection.execute(
            _ADD_TASKS,
            {
                "ids": [self.new_id() for _ in tasks],
                "kinds": [task.kind for task in tasks],
                "keys": [task.key for task in tasks],
                "due": [task.due_at for task in tasks],
                "payloads": [json.dumps(task.payload, ensure_ascii=False) for task in tasks],
                "now": self.now,
            },
        )
        self.has_transaction_id = True

    async def _write_outbox(self) -> None:
        if not self.has_transaction_id:
            await self.connection.execute(_FIX_TRANSACTION_ID)
            self.has_transaction_id = True
        ids, topics, keys, types, payloads, headers, shards = zip(*self._outbox, strict=True)
        self._outbox.clear()
        self._emitted = True
        await self.connection.execute(
            _ADD_OUTBOX,
            {
                "ids": ids,
                "topics": topics,
                "keys": keys,
                "types": types,
                "payloads": payloads,
                "headers": headers,
                "shards": shards,
                "now": self.now,
            },
        )

    async def _lock(self, statement: object, kind: str, keys: Iterable[str]) -> None:
        locks = sorted({_lock_number(kind, key) for key in keys})
        if locks:
            await self.connection.execute(statement, {"locks": locks})  # type: ignore[call-overload]

    def _trace_of(self, key: str) -> str:
        """The trace of what arrived under this key, else the caller's, else a new one."""
        known = self._traces.get(key)
        if known is not None:
            return known
        if self._own_trace is None:
            self._own_trace = current_trace() or f"00-{self.new_id().hex}-{self.new_id().hex[-16:]}-01"
        return self._own_trace


def current_trace() -> str | None:
    """The `traceparent` of the span that is open here, if one is."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _lock_number(kind: str, key: str) -> int:
    digest = blake2b(f"{kind}\x00{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
