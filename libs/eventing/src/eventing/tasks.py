"""Task workers: timers, and calls to the world outside, which no handler may make.

A lease, not a row lock, says who is at it: a call may take seconds, and no transaction is open meanwhile. Whoever finishes a
task removes its row in the transaction with the effects, guarded by the lease's token; a worker that was overtaken loses there,
and undoes. One task per key runs at a time, whatever its kind.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from eventing import database
from eventing.batch import Tools
from eventing.errors import LeaseLostError, Retry, describe, is_unavailable
from eventing.pausing import rest
from eventing.routes import Call, Task, Timer
from eventing.work import UnitOfWork

LONGEST_PAUSE_SECONDS = 300.0
LEASE_MARGIN_SECONDS = 20.0
"""Beyond a call's own time-out: recording the answer must fit in."""

# The advisory lock keeps two workers from leasing two kinds of one key at the same moment; the second statement, with a
# snapshot of its own, then sees what the one before has leased.
_CANDIDATES = text(
    """
    SELECT id, pg_try_advisory_xact_lock(hashtextextended(key, 7461)) AS free FROM (
        SELECT id, key FROM task
        WHERE kind = CAST(:kind AS text) AND due_at <= CAST(:now AS timestamptz)
            AND (lease_until IS NULL OR lease_until < now())
        ORDER BY due_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
    ) AS due
    """
)
_LEASE = text(
    """
    UPDATE task t SET
        -- A lease that ran out is a worker that died or stalled: an attempt like any other.
        attempt = t.attempt + CASE WHEN t.lease_until IS NULL THEN 0 ELSE 1 END,
        lease_owner = CAST(:lease AS uuid), lease_until = now() + make_interval(secs => CAST(:seconds AS double precision))
    WHERE t.id = ANY(CAST(:ids AS uuid[]))
        AND NOT EXISTS (SELECT FROM task o WHERE o.key = t.key AND o.id <> t.id AND o.lease_until > now())
    RETURNING t.id, t.kind, t.key, t.due_at, t.attempt, t.payload
    """
)
_FAIL = text(
    """
    UPDATE task t SET
        attempt = t.attempt + 1, due_at = r.due_at, last_error = r.error, lease_owner = NULL, lease_until = NULL
    FROM unnest(CAST(:ids AS uuid[]), CAST(:due AS timestamptz[]), CAST(:errors AS text[])) AS r(id, due_at, error)
    WHERE t.id = r.id AND t.lease_owner = CAST(:lease AS uuid)
    """
)
_HELD = text("SELECT id FROM task WHERE id = ANY(CAST(:ids AS uuid[])) AND lease_owner = CAST(:lease AS uuid)")


@dataclass(frozen=True, slots=True)
class _Failure:
    task: Task
    error: str
    after_seconds: float | None = None


Recorder = Callable[[Sequence[Task], UnitOfWork], Awaitable[None]]


class TaskWorker:
    """Runs the tasks of one kind."""

    def __init__(self, handler: Timer | Call[Any], tools: Tools, *, lease_seconds: float, idle_seconds: float) -> None:
        self.kind = handler.kind
        self._handler = handler
        self._tools = tools
        self._idle_seconds = idle_seconds
        self._wake = asyncio.Event()
        needed = handler.timeout_seconds + LEASE_MARGIN_SECONDS if isinstance(handler, Call) else 0.0
        self._lease_seconds = max(lease_seconds, needed) if isinstance(handler, Call) else lease_seconds

    def wake(self) -> None:
        self._wake.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop; calls under way are finished and recorded."""
        handler = self._handler
        if isinstance(handler, Timer):
            while not stopping.is_set():
                if await self._timers_once(handler) < handler.batch:
                    await self._rest(stopping)
        else:
            await self._run_calls(handler, stopping)

    async def run_once(self) -> int:
        """Do one round of what is due; return how many tasks were taken."""
        handler = self._handler
        if isinstance(handler, Timer):
            return await self._timers_once(handler)
        lease, tasks = await self._lease(handler.concurrency)
        finished = await asyncio.gather(*(self._call(handler, task) for task in tasks))
        await self._record(handler, list(finished), lease)
        return len(tasks)

    async def _rest(self, stopping: asyncio.Event) -> None:
        if stopping.is_set():
            return
        await rest(self._idle_seconds, until=self._wake)
        self._wake.clear()

    async def _lease(self, limit: int) -> tuple[UUID, list[Task]]:
        lease = self._tools.ids.new_id()
        async with database.begin(self._tools.engine) as connection:
            candidates = await connection.execute(
                _CANDIDATES, {"kind": self.kind, "now": self._tools.clock.now(), "limit": limit}
            )
            free = [row.id for row in candidates if row.free]
            if not free:
                return lease, []
            rows = await connection.execute(_LEASE, {"ids": free, "lease": lease, "seconds": self._lease_seconds})
            tasks = [Task(row.id, row.kind, row.key, row.due_at, row.attempt, _object(row.payload)) for row in rows]
        self._tools.crash.reach("after_lease")
        return lease, sorted(tasks, key=lambda task: (task.due_at, task.id))

    # Timers

    async def _timers_once(self, timer: Timer) -> int:
        lease, tasks = await self._lease(timer.batch)
        if tasks:
            await self._effect(tasks, lease, timer.handler)
        return len(tasks)

    async def _effect(self, tasks: list[Task], lease: UUID, record: Recorder) -> None:
        """Carry out tasks with their effects; halve where it fails, and put off the one at fault."""
        started = time.monotonic()
        while tasks:
            try:
                await self._transaction(tasks, lease, record)
            except LeaseLostError as lost:
                tasks = [task for task in tasks if task.id not in lost.task_ids]
            except Exception as error:
                if is_unavailable(error):
                    raise
                if len(tasks) == 1:
                    await self._put_off([_Failure(tasks[0], describe(error))], lease)
                    return
                middle = len(tasks) // 2
                await self._effect(tasks[:middle], lease, record)
                await self._effect(tasks[middle:], lease, record)
                return
            else:
                self._tools.observer.task(self.kind, "done", time.monotonic() - started)
                return

    async def _transaction(self, tasks: Sequence[Task], lease: UUID, record: Recorder) -> None:
        tools = self._tools
        async with database.begin(tools.engine) as connection:
            work = UnitOfWork(connection, now=tools.clock.now(), ids=tools.ids, source=tools.source)
            await record(tasks, work)
            # Last, as the lock order has it. Whoever has taken the task over meanwhile makes us undo.
            await work.complete(tasks, lease)
            await work.flush()
            tools.crash.reach("before_commit")
        tools.crash.reach("after_commit")
        tools.committed(work)

    # Calls

    async def _run_calls(self, call: Call[Any], stopping: asyncio.Event) -> None:
        running: dict[asyncio.Task[tuple[Task, Any]], UUID] = {}
        try:
            while running or not stopping.is_set():
                free = call.concurrency - len(running)
                if free > 0 and not stopping.is_set():
                    lease, tasks = await self._lease(free)
                    for task in tasks:
                        running[asyncio.create_task(self._call(call, task))] = lease
                if not running:
                    await self._rest(stopping)
                    continue
                waker = asyncio.create_task(self._wake.wait())
                await asyncio.wait({*running, waker}, timeout=self._idle_seconds, return_when=asyncio.FIRST_COMPLETED)
                waker.cancel()
                self._wake.clear()
                finished: dict[UUID, list[tuple[Task, Any]]] = {}
                for done in [one for one in running if one.done()]:
                    finished.setdefault(running.pop(done), []).append(done.result())
                for lease, answers in finished.items():
                    await self._record(call, answers, lease)
        finally:
            for unfinished in running:
                unfinished.cancel()

    async def _call(self, call: Call[Any], task: Task) -> tuple[Task, Any]:
        """Call outside; a failure is an answer too."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(call.timeout_seconds):
                answer: Any = await call.call(task)
        except Retry as retry:
            answer = _Failure(task, retry.reason, retry.after_seconds)
        except Exception as error:  # noqa: BLE001  whatever it is, it is tried again, and people see it
            answer = _Failure(task, describe(error))
        self._tools.crash.reach("after_call")
        outcome = "failed" if isinstance(answer, _Failure) else "answered"
        self._tools.observer.task(self.kind, outcome, time.monotonic() - started)
        return task, answer

    async def _record(self, call: Call[Any], answers: list[tuple[Task, Any]], lease: UUID) -> None:
        failures = [answer for _, answer in answers if isinstance(answer, _Failure)]
        if failures:
            await self._put_off(failures, lease)
        answered = {task.id: (task, answer) for task, answer in answers if not isinstance(answer, _Failure)}
        if not answered:
            return
        self._tools.crash.reach("before_record")
        async with database.begin(self._tools.engine) as connection:
            rows = await connection.execute(_HELD, {"ids": sorted(answered), "lease": lease})
            held = set(rows.scalars())
        tasks = [task for task, _ in answered.values() if task.id in held]

        async def record(some: Sequence[Task], work: UnitOfWork) -> None:
            await call.record([answered[task.id] for task in some], work)

        await self._effect(tasks, lease, record)

    async def _put_off(self, failures: Sequence[_Failure], lease: UUID) -> None:
        now = self._tools.clock.now()
        async with database.begin(self._tools.engine) as connection:
            await connection.execute(
                _FAIL,
                {
                    "ids": [failure.task.id for failure in failures],
                    "due": [_next_try(failure, now) for failure in failures],
                    "errors": [failure.error[:500] for failure in failures],
                    "lease": lease,
                },
            )
        for _ in failures:
            self._tools.observer.task(self.kind, "put_off", 0.0)


def _next_try(failure: _Failure, now: datetime) -> datetime:
    """Double the pause with every attempt, and spread it, so that what failed together does not come back together."""
    if failure.after_seconds is not None:
        return now + timedelta(seconds=failure.after_seconds)
    pause = min(LONGEST_PAUSE_SECONDS, 2.0 ** min(failure.task.attempt, 20))
    spread = 0.5 + (failure.task.id.int + failure.task.attempt) % 1000 / 2000  # From the id: the same in every replay.
    return now + timedelta(seconds=pause * spread)


def _object(payload: Any) -> dict[str, Any]:
    value = json.loads(payload) if isinstance(payload, str) else payload
    return value if isinstance(value, dict) else {}
