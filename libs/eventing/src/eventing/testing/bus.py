"""A broker in memory: topics, partitions, groups with rebalances, offsets, outages. One event loop, no threads.

It keeps what the real one promises (order per partition, range assignment, at-least-once) and is held to it by the same suite.
"""

# ruff: noqa: SLF001  the three classes here are one thing: a broker and its two ends

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from contracts.topics import TOPICS
from eventing.broker import (
    BrokerConsumer,
    BrokerProducer,
    OnAssign,
    OnRevoke,
    Outgoing,
    Record,
    TopicPartition,
    partition_of,
)
from eventing.errors import UnavailableError, UnknownOutcomeError
from eventing.settings import RuntimeSettings


@dataclass(slots=True)
class _Group:
    members: list[_Consumer] = field(default_factory=list)
    committed: dict[TopicPartition, int] = field(default_factory=dict)


class FakeBus:
    """A broker in memory.

    `available = False` is a broker that is away; `lose_acknowledgements = n` lets the next n waves arrive unacknowledged;
    `refuse_commits = n` refuses the next n commits of offsets.
    """

    def __init__(self, topics: Mapping[str, int] | None = None, *, order_partitions: int = 4) -> None:
        self._logs: dict[TopicPartition, list[Record]] = {}
        self._counts: dict[str, int] = {}
        self._groups: dict[str, _Group] = {}
        self._news = asyncio.Event()
        self.available = True
        self.lose_acknowledgements = 0
        self.refuse_commits = 0
        known = {name: topic.partitions(order_partitions) for name, topic in TOPICS.items()}
        for name, count in (known | dict(topics or {})).items():
            self.create_topic(name, count)

    def create_topic(self, name: str, partitions: int) -> None:
        self._counts[name] = partitions
        for number in range(partitions):
            self._logs.setdefault(TopicPartition(name, number), [])

    def publish(self, record: Outgoing, *, partition: int | None = None, timestamp_ms: int | None = None) -> Record:
        """Append one record, as any producer could."""
        number = partition if partition is not None else partition_of(record.key, self._counts[record.topic])
        where = TopicPartition(record.topic, number)
        moment = timestamp_ms if timestamp_ms is not None else int(time.time() * 1000)
        stored = Record(record.topic, number, len(self._logs[where]), moment, record.key, record.value, tuple(record.headers))
        self._logs[where].append(stored)
        self._news.set()
        return stored

    def records(self, topic: str) -> list[Record]:
        """All records of a topic, partition by partition."""
        return list(itertools.chain.from_iterable(self._logs[where] for where in self.partitions(topic)))

    def partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for number in range(self._counts[topic])]

    def committed(self, group: str) -> dict[TopicPartition, int]:
        return dict(self._group(group).committed)

    def consumer(
        self,
        *,
        group: str | None,
        topics: Sequence[str],
        settings: RuntimeSettings,
        on_assign: OnAssign | None = None,
        on_revoke: OnRevoke | None = None,
    ) -> BrokerConsumer:
        del settings  # No sessions here, nothing to time.
        return _Consumer(self, group, topics, on_assign, on_revoke)

    def producer(self, *, settings: RuntimeSettings) -> BrokerProducer:
        del settings
        return _Producer(self)

    async def partition_counts(self, topics: Sequence[str]) -> Mapping[str, int]:
        self._need()
        return {topic: self._counts[topic] for topic in topics if topic in self._counts}

    def _need(self) -> None:
        if not self.available:
            raise UnavailableError("the fake broker is away")

    def _group(self, name: str) -> _Group:
        return self._groups.setdefault(name, _Group())

    async def _rebalance(self, name: str) -> None:
        """Revoke everything from everybody, then deal the partitions out by range."""
        group = self._group(name)
        for member in group.members:
            await member._revoke()
        topics = {topic for member in group.members for topic in member.topics}
        shares: dict[int, set[TopicPartition]] = {id(member): set() for member in group.members}
        for topic in topics:
            takers = [member for member in group.members if topic in member.topics]
            share, extra = divmod(self._counts[topic], len(takers))
            start = 0
            for number, member in enumerate(takers):
                end = start + share + (1 if number < extra else 0)
                shares[id(member)].update(TopicPartition(topic, one) for one in range(start, end))
                start = end
        for member in group.members:
            await member._assign(frozenset(shares[id(member)]), group.committed)


class _Consumer:
    def __init__(
        self,
        bus: FakeBus,
        group: str | None,
        topics: Sequence[str],
        on_assign: OnAssign | None,
        on_revoke: OnRevoke | None,
    ) -> None:
        self.topics = list(topics)
        self._bus = bus
        self._name = group
        self._on_assign = on_assign
        self._on_revoke = on_revoke
        self._positions: dict[TopicPartition, int] = {}
        self._paused = False
        self._resting: set[TopicPartition] = set()
        self._moving = False

    async def start(self) -> None:
        self._bus._need()
        if self._name is not None:
            self._bus._group(self._name).members.append(self)
            await self._bus._rebalance(self._name)

    async def stop(self) -> None:
        if self._name is None:
            return
        group = self._bus._group(self._name)
        if self in group.members:
            await self._revoke()
            group.members.remove(self)
            await self._bus._rebalance(self._name)

    async def poll(self, *, max_records: int, wait_seconds: float) -> Sequence[Record]:
        deadline = time.monotonic() + wait_seconds
        while True:
            if self._bus.available and not self._paused and not self._moving and (found := self._take(max_records)):
                return found
            left = deadline - time.monotonic()
            if left <= 0:
                await asyncio.sleep(0)
                return ()
            self._bus._news.clear()
            try:
                async with asyncio.timeout(min(left, 0.02)):
                    await self._bus._news.wait()
            except TimeoutError:
                continue

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._bus._need()
        if self._bus.refuse_commits:
            self._bus.refuse_commits -= 1
            raise UnavailableError("committing offsets failed: refused")
        if self._name is None:
            raise ValueError("a reader without a group commits nothing")
        if not offsets.keys() <= self._positions.keys():
            raise UnavailableError("the partitions belong to another member by now")
        self._bus._group(self._name).committed.update(offsets)

    def pause(self, partitions: Collection[TopicPartition] = ()) -> None:
        self._paused = self._paused or not partitions
        self._resting |= set(partitions)

    def resume(self, partitions: Collection[TopicPartition] = ()) -> None:
        self._paused = self._paused and bool(partitions)
        self._resting -= set(partitions or self._resting)

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._positions)

    def rewind(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._positions.update(offsets)

    async def position(self, where: TopicPartition) -> int:
        self._bus._need()
        return self._positions[where]

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        self._bus._need()
        return {where: len(self._bus._logs[where]) for where in partitions}

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        self._bus._need()
        return dict.fromkeys(partitions, 0)

    def _take(self, max_records: int) -> list[Record]:
        found: list[Record] = []
        for where in sorted(
            self._positions.keys() - self._resting, key=lambda where: (self.topics.index(where.topic), where.partition)
        ):
            at = self._positions[where]
            some = self._bus._logs[where][at : at + max_records - len(found)]
            self._positions[where] = at + len(some)
            found += some
        return found

    async def _revoke(self) -> None:
        self._moving = True
        if self._positions and self._on_revoke is not None:
            await self._on_revoke(frozenset(self._positions))
        self._positions = {}

    async def _assign(self, share: frozenset[TopicPartition], committed: Mapping[TopicPartition, int]) -> None:
        self._positions = {where: committed.get(where, 0) for where in share}
        self._resting.clear()
        if self._on_assign is not None:
            await self._on_assign(share)
        self._moving = False


class _Producer:
    def __init__(self, bus: FakeBus) -> None:
        self._bus = bus

    async def start(self) -> None:
        self._bus._need()

    async def send_wave(self, records: Sequence[Outgoing], *, deadline_seconds: float) -> None:
        del deadline_seconds
        if not self._bus.available:
            raise UnknownOutcomeError("the fake broker is away")
        await asyncio.sleep(0)
        for record in records:
            self._bus.publish(record)
        if self._bus.lose_acknowledgements > 0:
            self._bus.lose_acknowledgements -= 1
            raise UnknownOutcomeError("the acknowledgement was lost")

    async def stop(self) -> None: ...

    async def abandon(self) -> None: ...
