"""Reading again in the order in which it once happened: for a consumer whose database came back from a backup.

Topics are read side by side, and while all is well causes come before effects by themselves. Set back in time, everything is
there at once: a cancel would be met before the shipment that refused it. Until a given moment, records of equal partition
numbers (the same orders, on all order-keyed topics) are therefore merged by the time at which they were sent.

An effect is sent after its cause was read, so its time is later, as far as the senders' clocks agree; nothing is promised about
records that have nothing to do with each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime

from eventing.broker import BrokerConsumer, Record, TopicPartition

MOST_HELD = 2000
"""Records of one partition that may lie here; with that many it pauses, while the others catch up."""


class Replay:
    """Stands between the consumer and its loop; `poll` is the consumer's, merged. Costs nothing once all has been read again.

    Everything of one partition number must be this member's: so it is where all members read the same topics.
    """

    def __init__(self, until: datetime) -> None:
        self._until_ms = int(until.timestamp() * 1000)
        self._held: dict[TopicPartition, deque[Record]] = {}
        self._ends: dict[TopicPartition, int] | None = None
        """Where each partition that is still being merged ends, as of the assignment; None before it was looked up."""
        self._next: dict[TopicPartition, int] = {}
        self._full: set[TopicPartition] = set()
        self._assignments = 0

    def begin(self) -> None:
        """Partitions are taken away or assigned: what is held here is delivered again, to whoever has them then."""
        self._assignments += 1
        self._held.clear()
        self._full.clear()
        self._ends = None

    async def poll(self, consumer: BrokerConsumer, *, max_records: int, wait_seconds: float) -> Sequence[Record]:
        """What may be handled now, per key in the order in which it was sent."""
        await self._look_ahead(consumer)
        if ready := self._ready(consumer, max_records):
            return ready
        records = await consumer.poll(max_records=max_records, wait_seconds=wait_seconds)
        await self._look_ahead(consumer)  # There may have been an assignment meanwhile.
        if not self._ends and not self._held:
            return records
        self._hold(consumer, records)
        return self._ready(consumer, max_records)

    async def _look_ahead(self, consumer: BrokerConsumer) -> None:
        while self._ends is None:
            assignments, assigned = self._assignments, consumer.assignment()
            ends = await consumer.end_offsets(assigned)
            following = {where: await consumer.position(where) for where in assigned}
            if assignments == self._assignments:
                self._next = following
                self._ends = {where: end for where, end in ends.items() if following[where] < end}

    def _hold(self, consumer: BrokerConsumer, records: Iterable[Record]) -> None:
        for record in records:
            where = TopicPartition(record.topic, record.partition)
            self._held.setdefault(where, deque()).append(record)
            self._next[where] = record.offset + 1
        if full := {where for where, held in self._held.items() if len(held) >= MOST_HELD}:
            consumer.pause(full)
            self._full |= full

    def _ready(self, consumer: BrokerConsumer, most: int) -> list[Record]:
        ready = self._merged(most)
        if roomy := {where for where in self._full if len(self._held.get(where, ())) < MOST_HELD}:
            consumer.resume(roomy)
            self._full -= roomy
        return ready

    def _merged(self, most: int) -> list[Record]:
        ready: list[Record] = []
        for number in sorted({where.partition for where in self._held}):
            while len(ready) < most:
                heads = [(held[0], where) for where, held in self._held.items() if where.partition == number and held]
                if not heads or any(self._is_awaited(where) for where in self._ends or () if where.partition == number):
                    break
                first, where = min(heads, key=lambda head: (head[0].timestamp_ms, head[1]))
                self._held[where].popleft()
                ready.append(first)
        for where in [where for where, held in self._held.items() if not held and not self._is_merging(where)]:
            del self._held[where]
        self._ends = {where: end for where, end in (self._ends or {}).items() if self._is_merging(where)}
        return ready

    def _is_merging(self, where: TopicPartition) -> bool:
        """Whether something from before the moment is still to come of it."""
        end = (self._ends or {}).get(where)
        if end is None:
            return False
        held = self._held.get(where)
        if held:
            return held[0].timestamp_ms < self._until_ms
        return self._next[where] < end

    def _is_awaited(self, where: TopicPartition) -> bool:
        return not self._held.get(where) and self._is_merging(where)
