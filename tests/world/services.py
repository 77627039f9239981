"""The six services as their `app.py` composes them, on a bus, a clock and ids of a test's own."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import partial
from typing import Any

import asyncpg
import httpx
from fastapi import FastAPI
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

import audit.app
import audit.settings
import fulfillment.app
import fulfillment.clients
import fulfillment.settings
import ingest.api
import ingest.app
import ingest.handlers
import ingest.settings
import inventory.app
import inventory.handlers.context
import inventory.levels
import inventory.settings
import inventory.store.levels
import ledger.app
import ledger.handlers
import ledger.settings
import router.app
import router.handlers
import router.settings
from eventing import Call, NewTask, Runtime, RuntimeSettings, database
from eventing.broker import TopicPartition
from eventing.partitions import InboxDays
from eventing.reading import Item
from eventing.testing import FakeBus, FakeClock, Harness, SeededIds

KEY = base64.b64encode(bytes(32)).decode()
WMS_SECRET = "a-secret-of-the-demo-wms"
ORDER_PARTITIONS = 4
_UNUSED_URL = "postgresql://unused"

Factory = Callable[..., Runtime]
Compose = Callable[[AsyncEngine], tuple[FastAPI, Callable[[], Factory]]]

# Leases go by the database's clock: by the time a new process looks, those of a dead one have run out.
_EXPIRE_LEASES = text("UPDATE task SET lease_until = now() - interval '1 s' WHERE lease_until IS NOT NULL")


_LOOK = """
    SELECT
        (SELECT array_agg(DISTINCT shard ORDER BY shard) FROM outbox),
        (SELECT array_agg((kind, due_at) ORDER BY kind) FROM (SELECT kind, min(due_at) AS due_at FROM task GROUP BY kind) AS t),
        EXISTS (SELECT FROM parked_key WHERE wish IS NOT NULL) OR EXISTS (SELECT FROM quarantine WHERE wish IS NOT NULL),
        (SELECT min(check_at) FROM waiting)
"""


@dataclass(frozen=True, slots=True)
class Look:
    """What there is to do in a service's database."""

    shards: tuple[int, ...]
    """That have something to send."""
    tasks: tuple[tuple[str, datetime], ...]
    """The earliest of each kind."""
    wished: bool
    """Whether a stash is to be drained."""
    waiting: datetime | None
    """When the sweep looks at a waiting stash again."""


class PowerCut(BaseException):
    """A process that dies here and now: nothing may catch it, as nothing catches SIGKILL."""


class DefectError(Exception):
    """A bug of the moment, in a handler: whatever is parked for it goes through when it is tried again."""


@dataclass(slots=True)
class Mains:
    """Stands in for the crash points of a runtime: cuts the power at the chosen passing of a point."""

    point: str = ""
    passings: int = 0
    """How many passings of the point are survived."""
    is_cut: bool = False
    defects: int = 0
    """How many of the next calls of handlers fail, as by a bug."""

    def reach(self, point: str) -> None:
        if point != self.point:
            return
        if self.passings == 0:
            self.point, self.is_cut = "", True
            raise PowerCut(point)
        self.passings -= 1


@dataclass(slots=True)
class Service:
    """One service: its database, its API, and the process that runs now."""

    name: str
    engine: AsyncEngine
    aside: asyncpg.Connection
    """For looks at the database from outside."""
    app: FastAPI
    bus: FakeBus
    clock: FakeClock
    ids: SeededIds
    _start: Callable[[], Factory]
    mains: Mains = field(default_factory=Mains)
    positions: dict[tuple[str, TopicPartition], int] = field(default_factory=dict)
    """The next offset by consumer; "" is what reads the compacted topics."""
    harness: Harness = field(init=False)
    _look: Look | None = None
    _changes: int = 0
    _inbox_days: dict[date, InboxDays | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Each look costs as much as a short step: one is enough for as long as nothing was committed. "commit" would be told
        # before the database has done it; a connection comes back afterwards.
        event.listen(self.engine.sync_engine, "checkin", lambda *_: self.forget_look())
        self.boot()

    async def look(self) -> Look:
        """What there is to do, as of the last commit."""
        if self._look is not None:
            return self._look
        changes = self._changes
        shards, tasks, wished, waiting = await self.aside.fetchrow(_LOOK)
        look = Look(tuple(shards or ()), tuple((kind, at) for kind, at in tasks or ()), wished, waiting)
        if changes == self._changes:  # Else somebody committed meanwhile: a WMS beside the world calls back when it likes.
            self._look = look
        return look

    def forget_look(self) -> None:
        self._look = None
        self._changes += 1

    async def ready(self) -> None:
        """Partitions for today's records; those of a day are made once, whatever processes come and go."""
        today = self.clock.now().date()
        if today not in self._inbox_days:
            await self.harness._ready()
            self._inbox_days[today] = self.runtime.inbox_days
        self.runtime.inbox_days = self._inbox_days[today]

    @property
    def runtime(self) -> Runtime:
        return self.harness.runtime

    def boot(self) -> None:
        """A new process on the same database: whatever the old one had in memory is gone."""
        self.mains.point, self.mains.is_cut, self.mains.defects = "", False, 0
        self.harness = Harness(self._start(), clock=self.clock, ids=self.ids, bus=self.bus)
        runtime = self.app.state.runtime = self.harness.runtime
        object.__setattr__(runtime._tools, "crash", self.mains)
        for processor in runtime.processors.values():
            object.__setattr__(processor, "run_handlers", partial(self._run_handlers, processor.run_handlers))
        for worker in runtime.task_workers.values():
            if isinstance(worker._handler, Call):
                worker._handler = replace(worker._handler, concurrency=1)  # Calls at once would end in any order.

    async def _run_handlers(self, run: Callable[..., Awaitable[Any]], items: Sequence[Item], *more: Any, **named: Any) -> Any:
        if items and self.mains.defects:
            self.mains.defects -= 1
            raise DefectError
        return await run(items, *more, **named)

    async def reboot(self) -> None:
        """After a death: the leases of the dead run out first."""
        self.boot()
        async with database.begin(self.engine) as connection:
            await connection.execute(_EXPIRE_LEASES)

    async def add_first_tasks(self) -> None:
        """What the service's lifespan schedules when it starts."""
        add = _FIRST_TASKS.get(self.name)
        if add is not None:
            async with self.runtime.work() as work:
                add(work)

    def topics(self, consumer: str) -> tuple[str, ...]:
        """The topics of a consumer, or of the reader of compacted ones."""
        if consumer:
            return tuple(self.runtime.processors[consumer].consumer.topics)
        return self.runtime.compacted.topics if self.runtime.compacted is not None else ()

    def consumers(self) -> list[str]:
        return [*(("",) if self.runtime.compacted is not None else ()), *self.runtime.processors]

    def behind(self, consumer: str) -> dict[TopicPartition, int]:
        """How many records a consumer has not read, by partition, where there are some."""
        return {
            where: left
            for topic in self.topics(consumer)
            for where in self.bus.partitions(topic)
            if (left := len(self.bus._logs[where]) - self.positions.get((consumer, where), 0))
        }

    async def flush_levels(self, *, swept: bool = False) -> int:
        """What inventory's own loop does every 300 ms, and with `swept` every five minutes."""
        levels = self.app.state.inventory.levels
        if swept:
            async with self.runtime.work() as work:
                levels.mark(await inventory.store.levels.find_unsent_levels(work))
        if not len(levels):
            return 0
        async with self.runtime.work() as work:
            return await inventory.levels.flush_levels(levels, work, limit=1000)


def start(
    name: str,
    engine: AsyncEngine,
    *,
    aside: asyncpg.Connection,
    bus: FakeBus,
    clock: FakeClock,
    ids: SeededIds,
    wms: httpx.AsyncBaseTransport | None,
) -> Service:
    """Compose one service; `wms` answers as the WMS of places with the http connector."""
    compose = partial(_fulfillment, wms=wms) if name == "fulfillment" else _COMPOSE[name]
    app, process = compose(engine)
    return Service(name, engine, aside, app, bus, clock, ids, process)


def _runtime_settings() -> RuntimeSettings:
    return RuntimeSettings(order_partitions=ORDER_PARTITIONS)


def _ingest(engine: AsyncEngine) -> tuple[FastAPI, Callable[[], Factory]]:
    settings = ingest.settings.Settings(database_url=_UNUSED_URL, receiver_kek=KEY, token_key=KEY, seal_key=KEY)
    app = ingest.app.build(settings, "all")

    def process() -> Factory:
        app.state.tokens = ingest.app.make_tokens(settings)
        app.state.gateway = ingest.app.make_gateway(settings, app.state.tokens)
        app.state.backlog = ingest.api.Backlog()
        app.state.gathering = ingest.api.Gathering()
        return partial(
            ingest.app.make_runtime,
            engine,
            runtime_settings=_runtime_settings(),
            settings=settings,
            gateway=app.state.gateway,
        )

    return app, process


def _audit(engine: AsyncEngine) -> tuple[FastAPI, Callable[[], Factory]]:
    settings = audit.settings.Settings(database_url=_UNUSED_URL, seal_key=KEY)
    return audit.app.build(settings, "all"), lambda: partial(audit.app.make_runtime, engine, settings=_runtime_settings())


def _inventory(engine: AsyncEngine) -> tuple[FastAPI, Callable[[], Factory]]:
    settings = inventory.settings.Settings(database_url=_UNUSED_URL, seal_key=KEY)
    app = inventory.app.build(settings, "all")

    def process() -> Factory:
        app.state.inventory = inventory.handlers.context.Inventory(settings)
        return partial(inventory.app.make_runtime, engine, settings=_runtime_settings(), inventory=app.state.inventory)

    return app, process


def _router(engine: AsyncEngine) -> tuple[FastAPI, Callable[[], Factory]]:
    settings = router.settings.Settings(database_url=_UNUSED_URL, seal_key=KEY)
    app = router.app.build(settings, "all")

    def process() -> Factory:
        app.state.routing = router.handlers.Routing()
        return partial(
            router.app.make_runtime,
            engine,
            settings=_runtime_settings(),
            routing=app.state.routing,
            decision_days=settings.decision_days,
        )

    return app, process


def _fulfillment(engine: AsyncEngine, *, wms: httpx.AsyncBaseTransport | None = None) -> tuple[FastAPI, Callable[[], Factory]]:
    settings = fulfillment.settings.Settings(
        database_url=_UNUSED_URL,
        receiver_kek=KEY,
        seal_key=KEY,
        delivery_seconds=60,
        order_partitions=ORDER_PARTITIONS,
        wms_secrets={"demo": WMS_SECRET},
    )
    app = fulfillment.app.build(settings, "all")

    def process() -> Factory:
        client = fulfillment.clients.Wms(settings.wms_keys(), transport=wms)
        return partial(fulfillment.app.build_runtime, settings, engine=engine, wms=client)

    return app, process


def _ledger(engine: AsyncEngine) -> tuple[FastAPI, Callable[[], Factory]]:
    settings = _ledger_settings()
    app = ledger.app.build(settings, "all")

    def process() -> Factory:
        return partial(
            ledger.app.make_runtime,
            engine,
            settings=_runtime_settings(),
            bookkeeper=ledger.handlers.Bookkeeper(settings.book),
            folder=_folder(settings),
        )

    return app, process


def _ledger_settings() -> ledger.settings.Settings:
    # Every five seconds, as it stands by default, would be most of what happens in an hour of made-up time.
    return ledger.settings.Settings(database_url=_UNUSED_URL, seal_key=KEY, fold_seconds=1800)


def _folder(settings: ledger.settings.Settings) -> ledger.handlers.Folder:
    return ledger.handlers.Folder(settings.book, every_seconds=settings.fold_seconds, rows=settings.fold_rows)


_COMPOSE: Mapping[str, Compose] = {
    "ingest": _ingest,
    "audit": _audit,
    "inventory": _inventory,
    "router": _router,
    "fulfillment": _fulfillment,
    "ledger": _ledger,
}
_FIRST_TASKS: Mapping[str, Callable[[Any], None]] = {
    "ingest": lambda work: work.add_tasks([NewTask(ingest.handlers.SWEEP, "idempotency_key", work.now)]),
    "router": lambda work: work.add_tasks([NewTask(router.handlers.PURGE, "all", work.now)]),
    "fulfillment": lambda work: work.add_tasks([NewTask(fulfillment.app.SWEEP_IDEMPOTENCY, "all", work.now)]),
    "ledger": lambda work: _folder(_ledger_settings()).schedule(work),
}
