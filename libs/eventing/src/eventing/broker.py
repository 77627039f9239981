"""The port behind which a Kafka client hides. `kafka.py` implements it, and so does the fake bus of `testing`.

Topic names here are those of the registry; a prefix, if any, is the adapter's business.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from eventing.settings import RuntimeSettings


class TopicPartition(NamedTuple):
    topic: str
    partition: int


class Record(NamedTuple):
    """One record as the broker gave it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Outgoing(NamedTuple):
    """One record to send."""

    topic: str
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]


OnAssign = Callable[[frozenset[TopicPartition]], Awaitable[None]]
OnRevoke = Callable[[frozenset[TopicPartition]], Awaitable[None]]


class BrokerConsumer(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Leave the group and close, within a deadline."""
        ...

    async def poll(self, *, max_records: int, wait_seconds: float) -> Sequence[Record]:
        """Return what has arrived, one partition after the other, each in offset order; nothing from paused partitions."""
        ...

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the offset of the next record to read, per partition."""
        ...

    def pause(self, partitions: Collection[TopicPartition] = ()) -> None:
        """Stop delivering from these partitions; without any, from all, also those to come. Polling keeps the membership."""
        ...

    def resume(self, partitions: Collection[TopicPartition] = ()) -> None: ...

    def assignment(self) -> frozenset[TopicPartition]: ...

    def rewind(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Deliver from these offsets again."""
        ...

    async def position(self, where: TopicPartition) -> int:
        """Return the offset that comes next; beyond the last record where compaction has removed what followed."""
        ...

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]: ...

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]: ...


class BrokerProducer(Protocol):
    async def start(self) -> None: ...

    async def send_wave(self, records: Sequence[Outgoing], *, deadline_seconds: float) -> None:
        """Send all, in order per partition, and return once every one is acknowledged.

        **Errors**: UnknownOutcomeError when any may not have arrived; this producer is then of no further use.
        """
        ...

    async def stop(self) -> None: ...

    async def abandon(self) -> None:
        """Close the connections at once; nothing still buffered is sent afterwards."""
        ...


class Broker(Protocol):
    def consumer(
        self,
        *,
        group: str | None,
        topics: Sequence[str],
        settings: RuntimeSettings,
        on_assign: OnAssign | None = None,
        on_revoke: OnRevoke | None = None,
    ) -> BrokerConsumer:
        """Make a member of a group or, without a group, a reader of every partition that positions itself by `rewind`."""
        ...

    def producer(self, *, settings: RuntimeSettings) -> BrokerProducer: ...

    async def partition_counts(self, topics: Sequence[str]) -> Mapping[str, int]:
        """Return the partition count of each topic that exists."""
        ...


def partition_of(key: bytes, count: int) -> int:
    """librdkafka's `consistent` partitioner: CRC32 is in C here, murmur2 would be in Python."""
    return zlib.crc32(key) % count
