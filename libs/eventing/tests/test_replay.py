"""Reading again what was sent, in the order in which it was sent."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from eventing import RuntimeSettings, replay
from eventing.broker import BrokerConsumer, Outgoing, Record, TopicPartition
from eventing.replay import Replay
from eventing.testing import FakeBus

TOPICS = ("causes", "effects", "later")
UNTIL = datetime.fromtimestamp(1000, UTC)
"""In the records' milliseconds: 1,000,000."""


class Member:
    """A consumer of the group with its replay."""

    def __init__(self, bus: FakeBus) -> None:
        self.replay = Replay(UNTIL)
        self.consumer: BrokerConsumer = bus.consumer(
            group="g", topics=TOPICS, settings=RuntimeSettings(), on_assign=self._moved, on_revoke=self._moved
        )

    async def _moved(self, _: object) -> None:
        self.replay.begin()

    async def poll(self, most: int = 7) -> list[Record]:
        records = await self.replay.poll(self.consumer, max_records=most, wait_seconds=0)
        await self.consumer.commit({TopicPartition(r.topic, r.partition): r.offset + 1 for r in records})
        return list(records)

    async def read(self, wanted: int) -> list[Record]:
        found: list[Record] = []
        for _ in range(500):
            found += await self.poll()
            if len(found) >= wanted:
                break
        return found


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus(dict.fromkeys(TOPICS, 2))


def fill(bus: FakeBus, count: int, *, partitions: int = 2, seed: int = 7) -> list[Record]:
    """Random records; times rise within each partition, and the first topic is ahead of the others in bulk."""
    draw = random.Random(seed)
    records = []
    for number in range(count):
        topic = TOPICS[0] if number < count // 2 and draw.random() < 0.7 else draw.choice(TOPICS)
        outgoing = Outgoing(topic, b"k", str(number).encode(), ())
        records.append(bus.publish(outgoing, partition=draw.randrange(partitions), timestamp_ms=number * 10))
    return records


async def start(bus: FakeBus) -> Member:
    member = Member(bus)
    await member.consumer.start()
    return member


async def test_what_was_sent_before_comes_before_on_every_topic(bus: FakeBus) -> None:
    """Fails when a topic is read ahead of another: a cancel would be met before the shipment that refused it."""
    published = fill(bus, 300)
    found = await (await start(bus)).read(300)
    for number in (0, 1):
        expected = [record.value for record in published if record.partition == number]
        assert [record.value for record in found if record.partition == number] == expected
    plain = bus.consumer(group="plain", topics=TOPICS, settings=RuntimeSettings())
    await plain.start()
    unmerged = await plain.poll(max_records=300, wait_seconds=0)
    assert sorted(record.timestamp_ms for record in unmerged if record.partition == 0) != [
        record.timestamp_ms for record in unmerged if record.partition == 0
    ]


async def test_beyond_the_moment_nothing_waits(bus: FakeBus) -> None:
    """Fails when replay goes on for ever: a topic where nothing is said any more would hold up all the others."""
    member = await start(bus)
    bus.publish(Outgoing("causes", b"k", b"old", ()), partition=0, timestamp_ms=999_000)
    bus.publish(Outgoing("effects", b"k", b"new", ()), partition=0, timestamp_ms=1_000_001)
    bus.publish(Outgoing("causes", b"k", b"newer", ()), partition=0, timestamp_ms=1_000_002)
    assert [record.value for record in await member.read(3)] == [b"old", b"new", b"newer"]
    bus.publish(Outgoing("later", b"k", b"live", ()), partition=0, timestamp_ms=1)
    assert [record.value for record in await member.read(1)] == [b"live"]


@pytest.mark.parametrize("most_records", [7, 100])
async def test_what_is_ahead_waits_at_the_broker_and_not_here(
    bus: FakeBus, monkeypatch: pytest.MonkeyPatch, most_records: int
) -> None:
    """Fails when a topic that is far ahead is read into memory whole, or stays paused for ever."""
    monkeypatch.setattr(replay, "MOST_HELD", 20)
    for number in range(400):
        bus.publish(Outgoing("causes", b"k", b"late", ()), partition=0, timestamp_ms=500_000 + number)
    for number in range(50):
        bus.publish(Outgoing("effects", b"k", b"early", ()), partition=0, timestamp_ms=number)
    member, most, found = await start(bus), 0, []
    for _ in range(500):
        found += await member.poll(most_records)
        most = max(most, sum(len(held) for held in member.replay._held.values()))
    assert [record.value for record in found] == [b"early"] * 50 + [b"late"] * 400
    assert most <= 20 + 2 * most_records


async def test_a_rebalance_loses_nothing_that_was_held_back(bus: FakeBus) -> None:
    """Fails when what one member had read but not handed out yet is lost with its partitions."""
    published = fill(bus, 300)
    first = await start(bus)
    found = [record for _ in range(6) for record in await first.poll()]
    second = await start(bus)
    for _ in range(300):
        found += await first.poll()
        found += await second.poll()
    assert {(r.topic, r.partition, r.offset) for r in found} == {(r.topic, r.partition, r.offset) for r in published}
    assert len(found) == len(published)
