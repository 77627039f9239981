"""One service's runtime on a real Postgres, step by step: nothing runs unless the test says so.

    harness = Harness(functools.partial(build_runtime, engine=engine))
    outcome = await harness.receive([OrderAudited(...)])

The factory is called with `broker`, `clock` and `ids` and returns a Runtime that has not been started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from contracts import Event
from contracts.envelope import Compacted
from contracts.topics import TOPICS
from eventing import database, envelope, migrations, partitions
from eventing.batch import NOTICE_TYPE, Outcome
from eventing.broker import Outgoing, Record
from eventing.clock import Clock, IdSource
from eventing.draining import Drainer
from eventing.envelope import Received
from eventing.runtime import Runtime
from eventing.testing.bus import FakeBus
from eventing.testing.values import FakeClock, PlainSealer, SeededIds

_TAKE = text(
    """
    WITH gone AS (DELETE FROM outbox RETURNING seq, aggregatetype, aggregateid, type, payload, headers)
    SELECT * FROM gone ORDER BY seq
    """
)
MOST_ROUNDS = 100


@dataclass(frozen=True, slots=True)
class Fated:
    """One record that was not simply handled."""

    topic: str
    key: str
    code: str
    reason: str
    field: str


@dataclass(slots=True)
class Result:
    """What one step did."""

    emitted: list[Event] = field(default_factory=list)
    handled: int = 0
    duplicates: int = 0
    skipped: int = 0
    parked: list[Fated] = field(default_factory=list)
    queued: list[Fated] = field(default_factory=list)
    quarantined: list[Fated] = field(default_factory=list)
    waiting: list[tuple[str, str]] = field(default_factory=list)
    """(kind, key) of the facts that are missing."""


class Harness:
    """Drives a runtime through the real loop's code, without a loop."""

    def __init__(
        self,
        factory: Callable[..., Runtime],
        *,
        clock: FakeClock | None = None,
        ids: IdSource | None = None,
        bus: FakeBus | None = None,
        events: Sequence[type[Event]] = (),
    ) -> None:
        self.clock = clock or FakeClock()
        self.ids = ids or SeededIds(1)
        self.bus = bus or FakeBus()
        self.runtime = factory(broker=self.bus, clock=self.clock, ids=self.ids)
        self.runtime.use_sealer_if_none(PlainSealer())
        self._days: set[Any] = set()
        self._models = {(model.TOPIC, model.TYPE): model for topic in TOPICS.values() for model in topic.events}
        self._models |= {(model.TOPIC, model.TYPE): model for model in events}

    async def receive(self, events: Sequence[Event], *, source: str | None = None, id: UUID | None = None) -> Result:  # noqa: A002
        """Deliver events as one batch, each as its writer would have sent it.

        `id`: deliver the one event under this identity (again).
        """
        records = []
        for event in events:
            writers = TOPICS[event.TOPIC].writers if event.TOPIC in TOPICS else ("elsewhere",)
            row = envelope.encode(
                event,
                id=id or self.ids.new_id(),
                time=self.clock.now(),
                source=source or f"/{writers[0]}",
                traceparent=None,
            )
            records.append(self._publish(Outgoing(row.topic, row.key.encode(), row.payload, envelope.headers_of(row.headers))))
        return await self.deliver(records)

    async def receive_raw(self, topic: str, key: str, body: bytes, headers: Mapping[str, str | bytes] | None = None) -> Result:
        """Deliver any bytes; headers are taken as they are."""
        pairs = [(name, value.encode() if isinstance(value, str) else value) for name, value in (headers or {}).items()]
        return await self.deliver([self._publish(Outgoing(topic, key.encode(), body, pairs))])

    async def deliver(self, records: Sequence[Record]) -> Result:
        """Give records to every consumer that reads their topics; the same ones again make a redelivery."""
        await self._ready()
        outcome = Outcome()
        for processor in self.runtime.processors.values():
            some = [record for record in records if record.topic in processor.consumer.topics]
            if some:
                try:
                    outcome.add(await processor.process(some))
                finally:
                    await self.runtime.breakers[processor.consumer.name].after_batch()
        await self._drain(outcome)
        return await self._result(outcome)

    async def apply(self, facts: Sequence[Compacted]) -> Result:
        """Deliver facts of compacted topics; what waited for them is handled."""
        await self._ready()
        if self.runtime.compacted is None:
            raise LookupError("the runtime reads no compacted topic")
        records = []
        for fact in facts:
            row = envelope.encode(fact, id=self.ids.new_id(), time=self.clock.now(), source="/elsewhere", traceparent=None)
            records.append(self._publish(Outgoing(row.topic, row.key.encode(), row.payload, envelope.headers_of(row.headers))))
        outcome = await self.runtime.compacted.process(records)
        await self._drain(outcome)
        return await self._result(outcome)

    async def drain(self) -> Result:
        """Carry out wishes, as the consumers would within a second."""
        await self._ready()
        outcome = Outcome()
        await self._drain(outcome)
        return await self._result(outcome)

    async def run_due_tasks(self, kind: str | None = None) -> int:
        """Run what is due by the clock, until nothing is; calls are really made."""
        await self._ready()
        total = 0
        for _ in range(MOST_ROUNDS):
            done = 0
            for worker in self.runtime.task_workers.values():
                if kind in (None, worker.kind):
                    done += await worker.run_once()
            if not done:
                await self._drain(Outcome())
                return total
            total += done
        raise RuntimeError(f"tasks never come to an end: {total} were run")

    async def emitted(self) -> list[Event]:
        """Take what is in the outbox, in order."""
        async with database.begin(self.runtime.engine) as connection:
            rows = (await connection.execute(_TAKE)).all()
        return [
            self._models[row.aggregatetype, row.type].model_validate_json(row.payload)
            for row in rows
            if row.type != NOTICE_TYPE
        ]

    def _publish(self, outgoing: Outgoing) -> Record:
        return self.bus.publish(outgoing, timestamp_ms=int(self.clock.now().timestamp() * 1000))

    async def _drain(self, outcome: Outcome) -> None:
        for _ in range(MOST_ROUNDS):
            done = False
            for processor in self.runtime.processors.values():
                part = await Drainer(processor).drain()
                done = done or bool(part.handled or part.discarded or part.duplicates or part.quarantined)
                outcome.add(part)
            if not done:
                return
        raise RuntimeError("draining never comes to an end")

    async def _ready(self) -> None:
        today = self.clock.now().date()
        if today in self._days:
            return
        # A test's clock may stand anywhere; production's partitions follow the calendar.
        self._days.add(today)
        self.runtime.inbox_days = await partitions.ensure_around(
            self.runtime.engine, today - timedelta(days=2), today + timedelta(days=2)
        )

    async def _result(self, outcome: Outcome) -> Result:
        def fated(items: Sequence[Any]) -> list[Fated]:
            return [
                Fated(
                    item.record.topic,
                    item.key,
                    item.fault.code if item.fault is not None else "",
                    item.fault.reason if item.fault is not None else "",
                    item.fault.field if item.fault is not None else "",
                )
                for item in items
            ]

        return Result(
            emitted=await self.emitted(),
            handled=len(outcome.handled),
            duplicates=len(outcome.duplicates),
            skipped=outcome.skipped,
            parked=fated(outcome.parked),
            queued=fated(outcome.queued),
            quarantined=fated(outcome.quarantined),
            waiting=[(answer.kind, answer.key) for _, answer in outcome.waiting],
        )


async def install(engine: AsyncEngine) -> None:
    """Make the runtime's tables in an empty database, without Alembic."""
    async with database.begin(engine) as connection:
        for statement in migrations.statements():
            await connection.exec_driver_sql(statement)


__all__ = ["Clock", "Harness", "Received", "Result", "install"]
