"""The runtime: everything of one service between Kafka and Postgres, started and stopped as one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, Self

from sqlalchemy.ext.asyncio import AsyncEngine

from contracts.topics import TOPICS
from eventing import database, partitions
from eventing.batch import Processor, Tools
from eventing.breaker import Breaker
from eventing.broker import Broker
from eventing.clock import Clock, IdSource, SystemClock, TimeOrderedIds
from eventing.compacted import CONSUMER, CompactedLoop, CompactedProcessor
from eventing.consumer import ConsumerLoop
from eventing.crash import CrashPoints
from eventing.errors import UnavailableError, describe
from eventing.observe import NullObserver, Observer
from eventing.operations import Operations
from eventing.partitions import InboxDays
from eventing.pausing import Pause, rest
from eventing.reading import Reader
from eventing.relay import Relay
from eventing.routes import AnyTask, Check, CompactedRoute, Consumer
from eventing.sealing import Sealer
from eventing.settings import RuntimeSettings
from eventing.sweeps import Sweeps
from eventing.tables import RuntimeTables
from eventing.tasks import TaskWorker
from eventing.work import UnitOfWork

log = logging.getLogger(__name__)
TOPICS_KNOWN_SECONDS = 60.0
"""Partition counts never change: they are looked up again to notice a broker that is away, not more often."""


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
        self.clock: Clock = clock or SystemClock(self.settings.clock_offset_seconds)
        self.ids: IdSource = ids or TimeOrderedIds()
        self.role = role
        self.inbox_days: InboxDays | None = None
        self._stopping = asyncio.Event()
        self._consumers_stopping = asyncio.Event()
        self._is_stopping = False
        self._consuming: list[asyncio.Task[None]] = []
        self._relaying: list[asyncio.Task[None]] = []
        self._loops: dict[str, ConsumerLoop] = {}
        self._relay: Relay | None = None
        self._compacted_loop: CompactedLoop | None = None
        self._topics_known_until = 0.0
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

    async def start(self) -> None:
        """Start the loops. They wait for whatever is away: only a wrong composition is refused.

        **Errors**: ValueError.
        """
        if self.role == "api":
            return
        if (self.processors or self.compacted) and self._sealer.is_missing:
            raise ValueError("RuntimeSettings.seal is needed by a worker: what it parks is sealed")
        self._stopping.clear()
        self._consumers_stopping.clear()
        tools, settings = self._tools, self.settings
        if self.compacted is not None:
            self._compacted_loop = CompactedLoop(
                self.compacted, broker=self.broker, settings=settings, prepare=self._check_topics
            )
            self._run("compacted", self._compacted_loop.run(self._consumers_stopping), consuming=True)
        for name, processor in self.processors.items():
            loop = ConsumerLoop(
                processor,
                self.breakers[name],
                broker=self.broker,
                tools=tools,
                settings=settings,
                prepare=self._before_consuming,
            )
            self._loops[name] = loop
            self._run(f"consumer {name}", loop.run(self._consumers_stopping), consuming=True)
        for kind, worker in self.task_workers.items():
            self._run(f"tasks {kind}", self._forever(worker, self._consumers_stopping), consuming=True)
        sweeps = Sweeps(
            tools,
            settings,
            task_kinds=self.task_workers,
            ensure_inbox=self.ensure_inbox,
            look_for_wishes=self._look_for_wishes,
        )
        self._run("sweeps", sweeps.run(self._consumers_stopping), consuming=True)
        self._relay = Relay(
            broker=self.broker, tools=tools, settings=settings, owner=TimeOrderedIds().new_id(), prepare=self._check_topics
        )
        self._run("relay", self._relay.run(self._stopping), consuming=False)

    async def stop(self) -> None:
        """Stop polling, finish and commit what is in flight, then send what that has written; all within a deadline."""
        self._is_stopping = True
        self._consumers_stopping.set()
        for worker in self.task_workers.values():
            worker.wake()
        await self._finish(self._consuming)
        self._stopping.set()
        if self._relay is not None:
            self._relay.wake()
        await self._finish(self._relaying)
        self._loops.clear()
        self._relay = self._compacted_loop = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def readiness(self) -> list[Check]:
        """Return the lines of `/readyz`."""
        checks = [Check("stopping", ok=not self._is_stopping)] if self._is_stopping else []
        database_ok = await database.answers(self.engine)
        checks.append(Check("database", ok=database_ok, detail="" if database_ok else "does not answer"))
        if self.role == "api":
            return checks
        try:
            await self._check_topics()
        except UnavailableError as error:
            checks.append(Check("broker", ok=False, detail=str(error)))
        else:
            checks.append(Check("broker", ok=True))
        if self._compacted_loop is not None:
            ready = self._compacted_loop.ready.is_set()
            checks.append(Check("bootstrapping", ok=ready, detail="" if ready else "compacted topics are still being read"))
        for name, loop in self._loops.items():
            breaker = self.breakers[name]
            checks.append(Check(f"breaker {name}", ok=not breaker.is_open, detail=breaker.reason if breaker.is_open else ""))
            if loop.paused_because and not breaker.is_open:
                checks.append(Check(f"consumer {name}", ok=False, detail=loop.paused_because))
        return checks

    @asynccontextmanager
    async def work(self, *, traces: Mapping[str, str] | None = None) -> AsyncIterator[UnitOfWork]:
        """Open a unit of work for an HTTP path or a seed: commits on leaving, rolls back on an exception.

        `traces`: whose `traceparent` goes with which key, where several callers share the unit.
        """
        async with database.begin(self.engine) as connection:
            work = UnitOfWork(connection, now=self.clock.now(), ids=self.ids, source=self._source, traces=traces)
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

    def _run(self, name: str, loop: Coroutine[Any, Any, None], *, consuming: bool) -> None:
        task = asyncio.create_task(loop, name=f"{self.service}: {name}")
        (self._consuming if consuming else self._relaying).append(task)

    async def _forever(self, worker: TaskWorker, stopping: asyncio.Event) -> None:
        pause = Pause(self.settings.retry_seconds)
        while not stopping.is_set():
            try:
                await worker.run(stopping)
            except Exception as error:  # noqa: BLE001  the rows are still there: try again
                log.warning("tasks %s pause: %s", worker.kind, describe(error))
                await pause.sleep(stopping)

    async def _finish(self, tasks: list[asyncio.Task[None]]) -> None:
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self.settings.stop_seconds)
            for task in late:
                log.warning("%s did not end in time", task.get_name())
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Exception):
                    log.error("a loop ended with %s", describe(ended))
        tasks.clear()

    async def _before_consuming(self) -> None:
        """Wait for what an order consumer needs: topics as they should be, an inbox, the facts that were there at start."""
        await self._check_topics()
        if self.inbox_days is None:
            await self.ensure_inbox()
        loop = self._compacted_loop
        while loop is not None and not loop.ready.is_set() and not self._consumers_stopping.is_set():
            await rest(0.1, until=loop.ready)

    async def _check_topics(self) -> None:
        """Refuse to touch topics that are missing or have another partition count: order per key rests on it.

        **Errors**: UnavailableError.
        """
        if time.monotonic() < self._topics_known_until:
            return
        wanted = self._topics()
        counts = await self.broker.partition_counts(sorted(wanted))
        for topic, count in sorted(wanted.items()):
            if topic not in counts:
                raise UnavailableError(f"topic {topic} is missing")
            if count is not None and counts[topic] != count:
                raise UnavailableError(f"topic {topic} has {counts[topic]} partitions, not {count}")
        self._topics_known_until = time.monotonic() + TOPICS_KNOWN_SECONDS

    def _topics(self) -> dict[str, int | None]:
        """Name the topics that the service reads or writes, with the count that the registry gives them."""
        read = {topic for processor in self.processors.values() for topic in processor.consumer.topics}
        if self.compacted is not None:
            read.update(self.compacted.topics)
        written = {name for name, topic in TOPICS.items() if self.service in topic.writers}
        return {
            name: TOPICS[name].partitions(self.settings.order_partitions) if name in TOPICS else None for name in read | written
        }

    def _look_for_wishes(self) -> None:
        for loop in self._loops.values():
            loop.look_for_wishes()
        if self._compacted_loop is not None:
            self._compacted_loop.look_for_wishes()

    def _readers(self) -> dict[str, Reader]:
        readers = {name: processor.reader for name, processor in self.processors.items()}
        if self.compacted is not None:
            readers[CONSUMER] = self.compacted.reader
        return readers

    def _committed(self, work: UnitOfWork) -> None:
        """Wake who has something to do now."""
        work.run_callbacks()
        if work.emitted and self._relay is not None:
            self._relay.wake()
        if work.woke_waiting:
            self._look_for_wishes()
        for kind in work.task_kinds:
            if (worker := self.task_workers.get(kind)) is not None:
                worker.wake()


class _LateSealer:
    """The settings' sealer; without one nothing can be parked, and consumers wait until there is."""

    def __init__(self, sealer: Sealer | None) -> None:
        self._sealer = sealer

    @property
    def is_missing(self) -> bool:
        return self._sealer is None

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
