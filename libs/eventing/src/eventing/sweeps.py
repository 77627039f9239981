"""What must happen now and then, whatever else happens: waiting stashes looked at again, inbox partitions made and dropped."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection

from sqlalchemy import text

from eventing import database, partitions
from eventing.batch import Tools
from eventing.errors import describe
from eventing.pausing import rest
from eventing.settings import RuntimeSettings

log = logging.getLogger(__name__)

# Each next look at a waiting stash comes later, up to five minutes: a thousand that wait for one fact are no load.
_LOOK_AGAIN = text(
    """
    WITH due AS (
        SELECT kind, key, consumer, stash_key FROM waiting WHERE check_at <= CAST(:now AS timestamptz)
        ORDER BY check_at LIMIT 500 FOR UPDATE SKIP LOCKED
    ), again AS (
        UPDATE waiting w SET check_at = CAST(:now AS timestamptz)
            + least(greatest(CAST(:now AS timestamptz) - w.since, interval '5 seconds'), interval '5 minutes')
        FROM due WHERE w.kind = due.kind AND w.key = due.key AND w.consumer = due.consumer AND w.stash_key = due.stash_key
    ), stashed AS (
        SELECT p.consumer, p.key FROM parked_key p
        WHERE (p.consumer, p.key) IN (SELECT consumer, stash_key FROM due) AND p.cause = 'waiting' AND p.wish IS NULL
        ORDER BY p.consumer, p.key FOR UPDATE SKIP LOCKED
    )
    UPDATE parked_key p SET wish = 'retry', wished_at = CAST(:now AS timestamptz)
    FROM stashed WHERE p.consumer = stashed.consumer AND p.key = stashed.key
    """
)
_WAITING = text(
    """
    SELECT kind, count(*) AS rows, extract(epoch FROM CAST(:now AS timestamptz) - min(since)) AS oldest
    FROM waiting GROUP BY kind
    """
)
_DUE = text("SELECT kind, count(*) AS rows FROM task WHERE due_at <= CAST(:now AS timestamptz) GROUP BY kind")


class Sweeps:
    """One per worker; several at once do no harm."""

    def __init__(
        self,
        tools: Tools,
        settings: RuntimeSettings,
        *,
        task_kinds: Collection[str],
        ensure_inbox: Callable[[], Awaitable[None]],
        look_for_wishes: Callable[[], None],
    ) -> None:
        self._tools = tools
        self._settings = settings
        self._task_kinds = task_kinds
        self._ensure_inbox = ensure_inbox
        self._look_for_wishes = look_for_wishes
        self._waiting_kinds: set[str] = set()

    async def run(self, stopping: asyncio.Event) -> None:
        calendar_at = 0.0
        while not stopping.is_set():
            try:
                await self.look_again()
                await self._measure()
                if time.monotonic() >= calendar_at:
                    await self._ensure_inbox()
                    await self._drop_partitions()
                    calendar_at = time.monotonic() + self._settings.sweep_seconds
            except Exception as error:  # noqa: BLE001  the next sweep does what this one could not
                log.warning("sweep: %s", describe(error))
            await rest(self._settings.waiting_sweep_seconds, until=stopping)

    async def look_again(self) -> int:
        """Have waiting stashes handled again: the fact may have come by a way that wakes nobody."""
        async with database.begin(self._tools.engine) as connection:
            woken = await connection.execute(_LOOK_AGAIN, {"now": self._tools.clock.now()})
        if woken.rowcount > 0:
            self._look_for_wishes()
        return woken.rowcount

    async def _measure(self) -> None:
        now = self._tools.clock.now()
        async with database.begin(self._tools.engine) as connection:
            waiting = {row.kind: row for row in await connection.execute(_WAITING, {"now": now})}
            due = {row.kind: row.rows for row in await connection.execute(_DUE, {"now": now})}
        observer = self._tools.observer
        for kind in self._waiting_kinds | waiting.keys():
            row = waiting.get(kind)
            observer.waiting(kind, row.rows if row else 0, float(row.oldest) if row else 0.0)
        self._waiting_kinds |= waiting.keys()
        for kind in self._task_kinds:
            observer.tasks_due(kind, due.get(kind, 0))

    async def _drop_partitions(self) -> None:
        dropped = await partitions.drop_expired(
            self._tools.engine, self._tools.clock.now(), keep_days=self._settings.inbox_keep_days
        )
        for day in dropped:
            log.info("inbox partition of %s dropped", day)
