"""Compacted topics: facts that every worker reads from all partitions by itself, into a table of its own service.

Positions are kept in Postgres, in the transaction with what was applied. Order consumers start only once the positions have
reached the ends seen at start. A record that cannot be applied is quarantined: the next version of the fact will replace it,
and nothing may stand in the way of the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import text

from eventing import database, parking
from eventing.batch import POISON, Outcome, Tools, notify
from eventing.broker import Broker, BrokerConsumer, Record, TopicPartition
from eventing.errors import describe, is_unavailable
from eventing.pausing import Pause
from eventing.reading import Fault, Item, Reader
from eventing.routes import CompactedRoute, Route
from eventing.settings import RuntimeSettings
from eventing.work import UnitOfWork

log = logging.getLogger(__name__)
CONSUMER = "compacted"
POLL_SECONDS = 0.2

_POSITIONS = text("SELECT topic, partition, next_offset FROM compacted_position WHERE topic = ANY(CAST(:topics AS text[]))")
# Workers share the positions; the furthest counts. A smaller one is stored only where the topic was made anew (`force`).
_STORE_POSITIONS = text(
    """
    INSERT INTO compacted_position AS p (topic, partition, next_offset)
    SELECT topic, partition, next_offset
    FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS integer[]), CAST(:offsets AS bigint[]))
        AS r(topic, partition, next_offset)
    ORDER BY topic, partition
    ON CONFLICT (topic, partition) DO UPDATE SET next_offset =
        CASE WHEN CAST(:force AS boolean) THEN excluded.next_offset ELSE greatest(p.next_offset, excluded.next_offset) END
    """
)


class CompactedProcessor:
    """Applies records of compacted topics."""

    def __init__(self, routes: Sequence[CompactedRoute[Any]], tools: Tools) -> None:
        self.routes = routes
        self._tools = tools
        self._apply = {route.topic: route for route in routes}
        self.reader = Reader([Route(route.event, _never) for route in routes], tools.observer)

    @property
    def topics(self) -> tuple[str, ...]:
        return tuple(self._apply)

    async def positions(self) -> dict[TopicPartition, int]:
        async with database.begin(self._tools.engine) as connection:
            rows = await connection.execute(_POSITIONS, {"topics": list(self.topics)})
            return {TopicPartition(row.topic, row.partition): row.next_offset for row in rows}

    async def store(self, offsets: Mapping[TopicPartition, int], *, force: bool = False) -> None:
        async with database.begin(self._tools.engine) as connection:
            await self._store(connection, offsets, force=force)

    async def process(self, records: Sequence[Record]) -> Outcome:
        """Apply records and advance the positions, in one transaction.

        **Errors**: those of infrastructure; then all is safe to repeat.
        """
        outcome = Outcome()
        items: list[Item] = []
        for record in records:
            item = self.reader.read(record, now=None, oldest=None)
            if item is None:
                outcome.skipped += 1
            else:
                items.append(item)
        await self._settle(items, _next_offsets(records), outcome)
        for item in outcome.quarantined:
            self._tools.observer.quarantined(item.record.topic, item.fault.code if item.fault is not None else "")
        return outcome

    async def retry_quarantined(self) -> Outcome:
        """Carry out wishes about quarantined facts, one by one."""
        outcome = Outcome()
        while True:
            async with database.begin(self._tools.engine) as connection:
                records, discarded = await parking.lock_quarantine(connection, CONSUMER, limit=1, sealer=self._tools.sealer)
                await parking.leave_quarantine(connection, discarded)
                outcome.discarded += len(discarded)
            if not records and not discarded:
                return outcome
            for stashed in records:
                item = self.reader.read(stashed.record, now=None, oldest=None)
                fault = item.fault if item is not None else None
                if item is not None and fault is None:
                    try:
                        await self._transaction([item], {}, outcome)
                    except Exception as error:
                        if is_unavailable(error):
                            raise
                        fault = Fault(POISON, describe(error))
                async with database.begin(self._tools.engine) as connection:
                    if fault is None:
                        await parking.leave_quarantine(connection, [stashed.id])
                    else:
                        await parking.stay_in_quarantine(connection, {stashed.id: fault})

    async def _settle(self, items: list[Item], offsets: Mapping[TopicPartition, int], outcome: Outcome) -> None:
        try:
            await self._transaction(items, offsets, outcome)
        except Exception as error:
            if is_unavailable(error):
                raise
            failure = error
        else:
            return
        if len(items) == 1:
            items[0].fault = Fault(POISON, describe(failure))
            await self._transaction(items, offsets, outcome)
            return
        # The positions move with the last part only: what is applied twice does no harm.
        middle = len(items) // 2
        await self._settle(items[:middle], {}, outcome)
        await self._settle(items[middle:], offsets, outcome)

    async def _transaction(self, items: Sequence[Item], offsets: Mapping[TopicPartition, int], outcome: Outcome) -> None:
        tools = self._tools
        part = Outcome()
        async with database.begin(tools.engine) as connection:
            work = UnitOfWork(connection, now=tools.clock.now(), ids=tools.ids, source=tools.source)
            sound = [item for item in items if item.fault is None]
            for topic, route in self._apply.items():
                facts = [item.received.event for item in sound if item.received is not None and item.record.topic == topic]
                if facts:
                    await route.apply(facts, work)
            part.handled += sound
            broken = [item for item in items if item.fault is not None]
            part.quarantined += await parking.quarantine(
                connection, CONSUMER, broken, now=work.now, ids=tools.ids, sealer=tools.sealer
            )
            for item in part.quarantined:
                notify(item, work, service=tools.service, consumer=CONSUMER)
            await self._store(connection, offsets)
            await work.flush()
            tools.crash.reach("after_apply")
        tools.committed(work)
        outcome.add(part)

    async def _store(self, connection: Any, offsets: Mapping[TopicPartition, int], *, force: bool = False) -> None:
        if offsets:
            await connection.execute(
                _STORE_POSITIONS,
                {
                    "topics": [where.topic for where in offsets],
                    "partitions": [where.partition for where in offsets],
                    "offsets": list(offsets.values()),
                    "force": force,
                },
            )


class CompactedLoop:
    """Reads all partitions of the compacted topics, without a group, from the stored positions on."""

    def __init__(
        self,
        processor: CompactedProcessor,
        *,
        broker: Broker,
        settings: RuntimeSettings,
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        self.ready = asyncio.Event()
        """Set once the positions have reached the ends seen at start: order consumers may begin."""
        self._processor = processor
        self._broker = broker
        self._settings = settings
        self._prepare = prepare
        self._wishes = True

    def look_for_wishes(self) -> None:
        self._wishes = True

    async def run(self, stopping: asyncio.Event) -> None:
        """Follow until told to stop, whatever is away."""
        pause = Pause(self._settings.retry_seconds)
        while not stopping.is_set():
            try:
                await self._prepare()
                await self._follow(stopping)
            except Exception as error:  # noqa: BLE001  facts come late then, but they come
                log.warning("compacted topics: %s", describe(error) if not str(error) else error)
                await pause.sleep(stopping)

    async def _follow(self, stopping: asyncio.Event) -> None:
        topics = self._processor.topics
        counts = await self._broker.partition_counts(topics)
        partitions = [TopicPartition(topic, number) for topic in topics for number in range(counts[topic])]
        consumer = self._broker.consumer(group=None, topics=topics, settings=self._settings.at_rest())
        await consumer.start()
        try:
            ends = await consumer.end_offsets(partitions)
            consumer.rewind(await self._starts(consumer, partitions, ends))
            behind = dict(ends) if not self.ready.is_set() else {}
            wishes_at = 0.0
            while not stopping.is_set():
                behind = {where: end for where, end in behind.items() if await consumer.position(where) < end}
                if not behind:
                    self.ready.set()
                records = await consumer.poll(max_records=self._settings.batch_records, wait_seconds=POLL_SECONDS)
                if records:
                    await self._processor.process(records)
                if self._wishes or time.monotonic() >= wishes_at:
                    self._wishes = False
                    wishes_at = time.monotonic() + self._settings.drain_poll_seconds
                    await self._processor.retry_quarantined()
        finally:
            await consumer.stop()

    async def _starts(
        self, consumer: BrokerConsumer, partitions: Sequence[TopicPartition], ends: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Where to go on; a stored position beyond the end belongs to a topic that was since made anew."""
        stored = await self._processor.positions()
        begins = await consumer.beginning_offsets(partitions)
        starts = {where: max(begins[where], stored.get(where, 0)) for where in partitions}
        lost = {where: begins[where] for where, at in starts.items() if at > ends[where]}
        if lost:
            await self._processor.store(lost, force=True)
        return starts | lost


def _next_offsets(records: Sequence[Record]) -> dict[TopicPartition, int]:
    offsets: dict[TopicPartition, int] = {}
    for record in records:
        where = TopicPartition(record.topic, record.partition)
        offsets[where] = max(offsets.get(where, 0), record.offset + 1)
    return offsets


async def _never(*_: object) -> None:
    raise NotImplementedError("facts are applied, not handled")
