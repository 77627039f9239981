"""All six services in one process, on one bus and one clock: nothing moves unless a test moves it.

Deliveries, tasks and what the relay sends are single steps; `settle` takes them until nothing moves any more. A key's records
keep their order, everything else may be taken in any order, twice, or in the middle of a death.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx

from contracts.topics import TOPICS
from eventing import create_engine, envelope
from eventing.broker import Outgoing, Record, TopicPartition
from eventing.draining import Drainer
from eventing.sweeps import Sweeps
from eventing.testing import FakeBus, FakeClock, SeededIds
from tools.client import Clients
from tools.coherence import CHECKS, run_checks
from tools.coherence import topics as broker_topics
from tools.coherence.checks import SERVICES
from tools.coherence.model import Sources, TopicRecord
from webapi.testing import as_caller

from .services import ORDER_PARTITIONS, DefectError, Service, start

MORNING = datetime(2031, 3, 3, 1, 0, tzinfo=UTC)
"""A Monday, 9 o'clock in China. Far ahead of the database's own clock, whose "older than" no check may meet."""
MOST_ROUNDS = 400
MOST_BATCH = 300

_NEXT_OUT = """
    SELECT seq, aggregatetype, aggregateid, payload, headers FROM outbox
    WHERE $1::integer IS NULL OR shard = $1
    ORDER BY seq LIMIT $2
"""
_SENT = "DELETE FROM outbox WHERE seq = ANY($1::bigint[])"


class IncoherentError(AssertionError):
    """What does not add up, by check."""


class InProcess(Clients):
    """The clients of tools, talking to the applications directly."""

    def __init__(self, clients: Mapping[str, httpx.AsyncClient]) -> None:
        self._clients = dict(clients)


@dataclass(slots=True)
class World:
    """Six services and everything between them."""

    urls: Mapping[str, str]
    clock: FakeClock
    bus: FakeBus
    services: dict[str, Service]
    oms: InProcess
    sources: Sources
    refused: list[str] = field(default_factory=list)
    """What was parked or quarantined and should not have been, in words."""
    garbled: set[bytes] = field(default_factory=set)
    """What nobody can take in."""

    # Single steps

    async def shards(self, service: str) -> Sequence[int]:
        """The shards of a service that have something to send."""
        return (await self.services[service].look()).shards

    async def relay(self, service: str, *, shard: int | None = None, limit: int = MOST_BATCH, acknowledged: bool = True) -> int:
        """Send what lies in an outbox, in order; what is not acknowledged stays, and is sent again."""
        node = self.services[service]
        if not (await node.look()).shards:
            return 0
        rows = await node.aside.fetch(_NEXT_OUT, shard, limit)
        if not rows:
            return 0
        node.mains.reach("before_send")
        for row in rows:
            headers = envelope.headers_of(row["headers"])
            self.publish(Outgoing(row["aggregatetype"], row["aggregateid"].encode(), row["payload"], headers))
        node.mains.reach("after_send")
        if acknowledged:
            await node.aside.execute(_SENT, [row["seq"] for row in rows])
            node.forget_look()
            node.mains.reach("after_delete")
        return len(rows)

    def publish(self, outgoing: Outgoing) -> Record:
        return self.bus.publish(outgoing, timestamp_ms=int(self.clock.now().timestamp() * 1000))

    async def consume(
        self,
        service: str,
        consumer: str,
        partitions: Collection[TopicPartition] | None = None,
        *,
        limit: int = MOST_BATCH,
        committed: bool = True,
    ) -> int:
        """One poll of a consumer; with `committed=False` its offsets are lost, and the same records come again."""
        node = self.services[service]
        records: list[Record] = []
        for where in sorted(partitions if partitions is not None else node.behind(consumer)):
            at = node.positions.get((consumer, where), 0)
            records += self.bus._logs[where][at : at + limit - len(records)]
        if not records:
            return 0
        await node.ready()
        if consumer:
            await self._process(node, consumer, records)
        else:
            assert node.runtime.compacted is not None
            outcome = await node.runtime.compacted.process(records)
            self._note(service, outcome)
        await self.drain(service)
        if consumer:
            node.mains.reach("before_offset_commit")
        if committed:
            for record in records:
                node.positions[consumer, TopicPartition(record.topic, record.partition)] = record.offset + 1
            if consumer:
                node.mains.reach("after_offset_commit")
        return len(records)

    async def drain(self, service: str) -> None:
        """Carry out wishes, as the consumers would within a second."""
        node = self.services[service]
        for _ in range(MOST_ROUNDS):
            if not (await node.look()).wished:
                return
            moved = False
            for processor in node.runtime.processors.values():
                outcome = await Drainer(processor).drain()
                self._note(service, outcome)
                moved = moved or bool(outcome.handled or outcome.discarded or outcome.duplicates or outcome.quarantined)
            if not moved:
                return
        raise RuntimeError(f"draining {service} never comes to an end")

    async def due(self, service: str) -> list[str]:
        """The kinds of task that are due."""
        now = self.clock.now()
        return [kind for kind, at in (await self.services[service].look()).tasks if at <= now]

    async def run_tasks(self, service: str, kind: str) -> int:
        node = self.services[service]
        await node.ready()
        done = await node.runtime.task_workers[kind].run_once()
        await self.drain(service)
        return done

    async def look_again(self, service: str) -> None:
        """Have waiting records looked at again, as the sweep does."""
        node = self.services[service]
        waiting = (await node.look()).waiting
        if waiting is None or waiting > self.clock.now():
            return
        runtime = node.runtime
        sweeps = Sweeps(
            runtime._tools, runtime.settings, task_kinds=(), ensure_inbox=runtime.ensure_inbox, look_for_wishes=lambda: None
        )
        await sweeps.look_again()
        await self.drain(service)

    # Until nothing moves

    async def settle(self) -> None:
        """Take every step that is there, service by service, until none is left. Time stands still."""
        for _ in range(MOST_ROUNDS):
            moved = 0
            for name, node in self.services.items():
                moved += await self.relay(name)
                for consumer in node.consumers():
                    moved += await self.consume(name, consumer)
                for kind in await self.due(name):
                    moved += await self.run_tasks(name, kind)
            moved += await self.services["inventory"].flush_levels()
            if not moved:
                return
        raise RuntimeError("the world never comes to rest")

    async def pass_time(self, *, seconds: float = 0, hours: float = 0, days: float = 0) -> None:
        """Let time pass, and all that it brings."""
        self.clock.advance(seconds=seconds, hours=hours, days=days)
        for name, node in self.services.items():
            node.forget_look()  # Whatever changed a database unseen is seen from here on.
            await self.look_again(name)
        await self.settle()

    # What must hold

    async def check(self, *, but: Collection[str] = ()) -> None:
        """Raise what does not add up, drained as the world is. `but`: checks that shall not hold now."""
        failed = [
            outcome
            for outcome in await run_checks(self.sources, [check for check in CHECKS if check.name not in but])
            if not outcome.holds
        ]
        findings = [f"{o.check.name}: {f.subject}: {f.detail}" for o in failed for f in o.findings[:5]]
        findings += self.refused
        findings += [f"nobody was told of it: {value[:300]!r}" for value in sorted(self.garbled - self.set_aside())]
        if findings:
            raise IncoherentError("\n".join(findings))

    def set_aside(self) -> set[bytes]:
        """Of `channel.orders`, what the notices on `ingest.dlq` name: they leave with the commit that sets it aside, so a death
        right after it hides nothing."""
        notices = [json.loads(record.value or b"") for record in self.bus.records("ingest.dlq")]
        places = {(TopicPartition(notice["topic"], notice["partition"]), notice["offset"]) for notice in notices}
        return {self.bus._logs[where][offset].value or b"" for where, offset in places if where.topic == "channel.orders"}

    def http(self, service: str) -> httpx.AsyncClient:
        """A client of a service's API, for answers of any kind."""
        return self.oms._clients[service]

    async def rows(self, service: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.sources.databases[service].fetch(sql, *values)]

    def digest(self) -> str:
        """Of all that was ever said on a topic. Of compacted ones the last word of each key: in which order stock levels are
        flushed means nothing. What is sealed differs each time that it is sealed."""
        said = hashlib.blake2b(digest_size=16)
        for where, log in sorted(self.bus._logs.items()):
            if where.topic == "order.receiver":
                continue
            if where.topic in TOPICS and TOPICS[where.topic].compacted:
                said.update(repr((where, sorted({record.key: record.value for record in log}.items()))).encode())
                continue
            for record in log:
                # Traces are drawn by whoever calls, where another test of this process has switched them on.
                headers = [header for header in record.headers if header[0] != "traceparent"]
                said.update(repr((where, record.key, record.value, headers)).encode())
        return said.hexdigest()

    # Within

    async def _process(self, node: Service, consumer: str, records: Sequence[Record]) -> None:
        try:
            outcome = await node.runtime.processors[consumer].process(records)
        finally:
            await node.runtime.breakers[consumer].after_batch()
        self._note(node.name, outcome)

    def _note(self, service: str, outcome: Any) -> None:
        for item in (*outcome.parked, *outcome.quarantined):
            if item.fault is None or DefectError.__name__ in item.fault.reason:
                continue
            if item.record.topic == "channel.orders" and item.record.value in self.garbled:
                continue
            self.refused.append(
                f"{service} refused {item.record.topic} {item.key}: {item.fault.code} {item.fault.reason} {item.fault.field}"
            )


class BusTopics:
    """The bus as the checks read a broker."""

    def __init__(self, bus: FakeBus, services: Mapping[str, Service]) -> None:
        self._bus = bus
        self._services = services

    async def lags(self) -> Mapping[str, int]:
        return {
            f"{name}.{consumer} {where.topic}": left
            for name, node in self._services.items()
            for consumer in node.consumers()
            for where, left in node.behind(consumer).items()
        }

    async def records(self, topic: str) -> Sequence[TopicRecord]:
        return [broker_topics._record(record) for record in self._bus.records(topic)]


@contextlib.asynccontextmanager
async def make_world(
    migrated_database: Callable[[str], Awaitable[str]],
    *,
    now: datetime = MORNING,
    wms: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[World]:
    """An empty world on databases of its own."""
    async with contextlib.AsyncExitStack() as stack:
        clock, bus = FakeClock(now), FakeBus(order_partitions=ORDER_PARTITIONS)
        urls: dict[str, str] = {}
        services: dict[str, Service] = {}
        clients: dict[str, httpx.AsyncClient] = {}
        databases: dict[str, asyncpg.Connection] = {}
        for number, name in enumerate(SERVICES, 1):
            urls[name] = await migrated_database(name)
            engine = create_engine(urls[name], pool_size=3)
            stack.push_async_callback(engine.dispose)
            databases[name] = await asyncpg.connect(urls[name])
            stack.push_async_callback(databases[name].close)
            ids = SeededIds(number)
            node = services[name] = start(name, engine, aside=databases[name], bus=bus, clock=clock, ids=ids, wms=wms)
            clients[name] = await stack.enter_async_context(as_caller(node.app, roles=["admin", "pii.read"]))
            await node.add_first_tasks()
        sources = Sources(databases, BusTopics(bus, services))
        yield World(urls, clock, bus, services, InProcess(clients), sources)
