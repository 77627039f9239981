"""The runtime: everything of one service between Kafka and Postgres, started and stopped as one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncEngine

from eventing import database, partitions
from eventing.batch import Processor, Tools
from eventing.breaker import Breaker
from eventing.broker import Broker
from eventing.clock import Clock, IdSource, SystemClock, TimeOrderedIds
from eventing.compacted import CONSUMER, CompactedProcessor
from eventing.crash import CrashPoints
from eventing.errors import UnavailableError
from eventing.observe import NullObserver, Observer
from eventing.operations import Operations
from eventing.partitions import InboxDays
from eventing.reading import Reader
from eventing.routes import AnyTask, CompactedRoute, Consumer
from eventing.sealing import Sealer
from eventing.settings import RuntimeSettings
from eventing.tables import RuntimeTables
from eventing.tasks import TaskWorker
from eventing.work import UnitOfWork


class Runtime:
    """One service's loops, or, with role "api", only its units of work."""

    def __init__(
        self,
        *,
        service: str,
        engine: AsyncEngine,
        broker: Broker,
        tables: RuntimeTables,
        consumers: Sequence[Consumer] = (),
        compacted: Sequence[CompactedRoute[Any]] = (),
        tasks: Sequence[AnyTask] = (),
        settings: RuntimeSettings | None = None,
        observer: Observer | None = None,
        clock: Clock | None = None,
        ids: IdSource | None = None,
        role: Literal["all", "api", "worker"] = "all",
    ) -> None:
        self.service = service
        self.engine = engine
        self.broker = broker
        self.settings = settings or RuntimeSettings()
        self.observer: Observer = observer or NullObserver()
        self.clock: Clock = clock or SystemClock()
        self.ids: IdSource = ids or TimeOrderedIds()
        self.role = role
        self.inbox_days: InboxDays | None = None
        self._source = self.settings.source or f"/{service}"
        self._sealer = _LateSealer(self.settings.seal)
        self._tools = Tools(
            service=service,
            source=self._source,
            engine=engine,
            clock=self.clock,
            ids=self.ids,
            observer=self.observer,
            crash=CrashPoints(self.settings.crash_at),
            sealer=self._sealer,
            inbox_days=lambda: self.inbox_days,
            committed=self._committed,
        )
        _refuse_shared_claims(consumers)
        self.breakers = {
            consumer.name: Breaker(
                consumer.name, engine=engine, clock=self.clock, settings=self.settings, observer=self.observer
            )
            for consumer in consumers
        }
        self.processors = {
            consumer.name: Processor(consumer, self._tools, self.breakers[consumer.name]) for consumer in consumers
        }
        self.compacted = CompactedProcessor(compacted, self._tools) if compacted else None
        self.task_workers = {
            handler.kind: TaskWorker(
                handler,
                self._tools,
                lease_seconds=self.settings.task_lease_seconds,
                idle_seconds=self.settings.task_idle_seconds,
            )
            for handler in tasks
        }
        if len(self.task_workers) != len(tasks):
            raise ValueError("two handlers for one kind of task")
        self.operations = Operations(engine, tables, clock=self.clock, readers=self._readers, sealer=self._sealer)

    @asynccontextmanager
    async def work(self) -> AsyncIterator[UnitOfWork]:
        """Open a unit of work for an HTTP path or a seed: commits on leaving, rolls back on an exception."""
        async with database.begin(self.engine) as connection:
            work = UnitOfWork(connection, now=self.clock.now(), ids=self.ids, source=self._source)
            yield work
            await work.flush()
            self._tools.crash.reach("before_commit")
        self._tools.crash.reach("after_commit")
        self._committed(work)

    async def ensure_inbox(self) -> None:
        """Make the inbox partitions that the clock asks for."""
        if any(processor.consumer.claim == "inbox" for processor in self.processors.values()):
            settings = self.settings
            self.inbox_days = await partitions.ensure(
                self.engine, self.clock.now(), keep_days=settings.inbox_keep_days, ahead_days=settings.inbox_ahead_days
            )

    def use_sealer_if_none(self, sealer: Sealer) -> None:
        """Give a runtime without a key one to test with."""
        self._sealer.use_if_none(sealer)

    def _readers(self) -> dict[str, Reader]:
        readers = {name: processor.reader for name, processor in self.processors.items()}
        if self.compacted is not None:
            readers[CONSUMER] = self.compacted.reader
        return readers

    def _committed(self, work: UnitOfWork) -> None:
        """Wake who has something to do now."""
        work.run_callbacks()
        for kind in work.task_kinds:
            if (worker := self.task_workers.get(kind)) is not None:
                worker.wake()


class _LateSealer:
    """The settings' sealer; without one nothing can be parked, and consumers wait until there is."""

    def __init__(self, sealer: Sealer | None) -> None:
        self._sealer = sealer

    def use_if_none(self, sealer: Sealer) -> None:
        self._sealer = self._sealer or sealer

    def seal(self, clear: bytes) -> bytes:
        return self._need().seal(clear)

    def open(self, sealed: bytes) -> bytes:
        return self._need().open(sealed)

    def _need(self) -> Sealer:
        if self._sealer is None:
            raise UnavailableError("RuntimeSettings.seal is not set: records cannot be parked")
        return self._sealer


def _refuse_shared_claims(consumers: Sequence[Consumer]) -> None:
    """Two consumers that claim inbox rows of one topic would each take half of its records."""
    claimed: set[str] = set()
    names: set[str] = set()
    for consumer in consumers:
        if consumer.name in names or consumer.name == CONSUMER:
            raise ValueError(f"the consumer name {consumer.name!r} is taken")
        names.add(consumer.name)
        if consumer.claim == "inbox":
            twice = claimed.intersection(consumer.topics)
            if twice:
                raise ValueError(f"two consumers claim inbox rows of {', '.join(sorted(twice))}")
            claimed.update(consumer.topics)
