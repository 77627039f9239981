"""The broker port on aiokafka. All that is odd about that library is known here and nowhere else.

- Raw bytes only: a deserialiser that raises would wedge the partition.
- `stop` and `send` can hang while the broker is down: every wait has a deadline.
- A sender cannot be stopped without flushing through its public API; `abandon` reaches inside.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError, ProducerClosed

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

log = logging.getLogger(__name__)
STOP_SECONDS = 5.0
REQUEST_SECONDS = 5.0
BATCH_BYTES = 900 * 1024
"""Below the broker's default limit of 1 MiB for a batch."""
FETCH_BYTES = 1024 * 1024
"""Of one partition: a batch's worth. What is fetched ahead of that only lies in memory until its turn comes."""
_LEFT_BEHIND: set[asyncio.Task[Any]] = set()
"""Closings that nobody waits for any more; the loop itself keeps no hold of them."""


class KafkaBroker:
    """Kafka behind one bootstrap address; `prefix` is put before every topic and group."""

    def __init__(self, bootstrap: str, prefix: str = "", **security: Any) -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._security = security

    def consumer(
        self,
        *,
        group: str | None,
        topics: Sequence[str],
        settings: RuntimeSettings,
        on_assign: OnAssign | None = None,
        on_revoke: OnRevoke | None = None,
    ) -> BrokerConsumer:
        return _Consumer(self._bootstrap, self._prefix, self._security, group, topics, settings, on_assign, on_revoke)

    def producer(self, *, settings: RuntimeSettings) -> BrokerProducer:
        return _Producer(self._bootstrap, self._prefix, self._security, settings)

    async def partition_counts(self, topics: Sequence[str]) -> Mapping[str, int]:
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self._bootstrap, request_timeout_ms=int(REQUEST_SECONDS * 1000), **self._security
        )
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await admin.start()
                described = await admin.describe_topics([self._prefix + topic for topic in topics])
        except (KafkaError, OSError, TimeoutError) as error:
            raise UnavailableError(f"the broker does not answer: {type(error).__name__}") from error
        finally:
            await _within(STOP_SECONDS, admin.close())
        return {
            topic["topic"].removeprefix(self._prefix): len(topic["partitions"])
            for topic in described
            if topic["error_code"] == 0
        }


class _Consumer(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        security: Mapping[str, Any],
        group: str | None,
        topics: Sequence[str],
        settings: RuntimeSettings,
        on_assign: OnAssign | None,
        on_revoke: OnRevoke | None,
    ) -> None:
        self._prefix = prefix
        self._group = group
        self._topics = [prefix + topic for topic in topics]
        self._rank = {topic: number for number, topic in enumerate(self._topics)}
        self._on_assign = on_assign
        self._on_revoke = on_revoke
        self._paused = False
        self._options: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "group_id": prefix + group if group is not None else None,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "partition_assignment_strategy": [RangePartitionAssignor],
            "session_timeout_ms": int(settings.session_seconds * 1000),
            "heartbeat_interval_ms": int(settings.heartbeat_seconds * 1000),
            # How long the others wait for this one in a rebalance: what it may take to finish, and a little.
            "rebalance_timeout_ms": int(settings.revoke_seconds * 1000) + 2000,
            "request_timeout_ms": 40_000,
            "fetch_min_bytes": settings.fetch_min_bytes,
            "fetch_max_wait_ms": int(settings.fetch_wait_seconds * 1000),
            "fetch_max_bytes": FETCH_BYTES * 4,
            "max_partition_fetch_bytes": FETCH_BYTES,
            "retry_backoff_ms": 100,
            "metadata_max_age_ms": 60_000,
            **security,
        }
        self._consumer: Any = None

    async def start(self) -> None:
        self._consumer = AIOKafkaConsumer(**self._options)
        try:
            await self._consumer.start()
            if self._group is not None:
                self._consumer.subscribe(self._topics, listener=self)
        except (KafkaError, OSError) as error:
            await self.stop()
            raise UnavailableError(f"the broker does not answer: {type(error).__name__}") from error

    async def stop(self) -> None:
        if self._consumer is not None:
            await _within(STOP_SECONDS, self._consumer.stop())
            self._consumer = None

    async def poll(self, *, max_records: int, wait_seconds: float) -> Sequence[Record]:
        try:
            # While a rebalance goes on, getmany waits for its end, however long.
            async with asyncio.timeout(wait_seconds + 1.0):
                found = await self._consumer.getmany(timeout_ms=int(wait_seconds * 1000), max_records=max_records)
        except TimeoutError:
            return ()
        except KafkaError as error:
            raise UnavailableError(f"polling failed: {type(error).__name__}") from error
        cut = len(self._prefix)
        return [
            Record(where.topic[cut:], where.partition, one.offset, one.timestamp, one.key, one.value, one.headers)
            for where in sorted(found, key=lambda where: (self._rank[where.topic], where.partition))
            for one in found[where]
        ]

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._consumer.commit(
                    {KafkaPartition(self._prefix + where.topic, where.partition): at for where, at in offsets.items()}
                )
        except (KafkaError, TimeoutError) as error:
            raise UnavailableError(f"committing offsets failed: {type(error).__name__}") from error

    def pause(self, partitions: Collection[TopicPartition] = ()) -> None:
        self._paused = self._paused or not partitions
        self._consumer.pause(*(self._theirs(partitions) or self._consumer.assignment()))

    def resume(self, partitions: Collection[TopicPartition] = ()) -> None:
        self._paused = self._paused and bool(partitions)
        self._consumer.resume(*(self._theirs(partitions) or self._consumer.assignment()))

    def assignment(self) -> frozenset[TopicPartition]:
        return self._ours(self._consumer.assignment()) if self._consumer is not None else frozenset()

    def rewind(self, offsets: Mapping[TopicPartition, int]) -> None:
        wanted = {KafkaPartition(self._prefix + where.topic, where.partition): at for where, at in offsets.items()}
        if self._group is None:
            self._consumer.assign(list(wanted))
        for where, at in wanted.items():
            self._consumer.seek(where, at)

    async def position(self, where: TopicPartition) -> int:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                at: int = await self._consumer.position(KafkaPartition(self._prefix + where.topic, where.partition))
        except (KafkaError, TimeoutError) as error:
            raise UnavailableError(f"reading a position failed: {type(error).__name__}") from error
        return at

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        return await self._offsets("end_offsets", partitions)

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        return await self._offsets("beginning_offsets", partitions)

    async def on_partitions_revoked(self, revoked: Iterable[KafkaPartition]) -> None:
        if self._on_revoke is not None:
            await self._on_revoke(self._ours(revoked))

    async def on_partitions_assigned(self, assigned: Iterable[KafkaPartition]) -> None:
        if self._paused:  # New partitions come unpaused.
            self._consumer.pause(*assigned)
        if self._on_assign is not None:
            await self._on_assign(self._ours(assigned))

    async def _offsets(self, which: str, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        wanted = self._theirs(partitions)
        if not wanted:
            return {}
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                found = await getattr(self._consumer, which)(wanted)
        except (KafkaError, TimeoutError) as error:
            raise UnavailableError(f"reading offsets failed: {type(error).__name__}") from error
        cut = len(self._prefix)
        return {TopicPartition(where.topic[cut:], where.partition): at for where, at in found.items()}

    def _theirs(self, partitions: Iterable[TopicPartition]) -> list[KafkaPartition]:
        return [KafkaPartition(self._prefix + where.topic, where.partition) for where in partitions]

    def _ours(self, partitions: Iterable[KafkaPartition]) -> frozenset[TopicPartition]:
        cut = len(self._prefix)
        return frozenset(TopicPartition(where.topic[cut:], where.partition) for where in partitions)


class _Producer:
    def __init__(self, bootstrap: str, prefix: str, security: Mapping[str, Any], settings: RuntimeSettings) -> None:
        self._prefix = prefix
        self._options: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": 0,
            "max_batch_size": BATCH_BYTES,
            "max_request_size": 1024 * 1024,
            "request_timeout_ms": int(settings.relay_send_seconds * 1000),
            "retry_backoff_ms": 50,
            **security,
        }
        self._producer: Any = None
        self._counts: dict[str, int] = {}

    async def start(self) -> None:
        self._producer = AIOKafkaProducer(**self._options)
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await self.abandon()
            raise UnavailableError(f"the broker does not answer: {type(error).__name__}") from error

    async def send_wave(self, records: Sequence[Outgoing], *, deadline_seconds: float) -> None:
        try:
            async with asyncio.timeout(deadline_seconds):
                for topic in {record.topic for record in records} - self._counts.keys():
                    self._counts[topic] = len(await self._producer.partitions_for(self._prefix + topic))
                await self._send(records)
        except (KafkaError, OSError, TimeoutError) as error:
            raise UnknownOutcomeError(f"a wave of {len(records)}: {type(error).__name__}") from error

    async def _send(self, records: Sequence[Outgoing]) -> None:
        lanes: dict[tuple[str, int], list[Outgoing]] = {}
        for record in records:
            lanes.setdefault((record.topic, partition_of(record.key, self._counts[record.topic])), []).append(record)
        acknowledgements: list[asyncio.Future[Any]] = []
        try:
            for (topic, partition), lane in lanes.items():
                for batch in self._batches(lane):
                    sent = await self._producer.send_batch(batch, self._prefix + topic, partition=partition)
                    acknowledgements.append(sent)
            await asyncio.gather(*acknowledgements)
        finally:
            for one in acknowledgements:  # Whatever else failed has been heard, too.
                if one.done() and not one.cancelled():
                    one.exception()
                else:
                    one.add_done_callback(_hear)

    def _batches(self, lane: Sequence[Outgoing]) -> list[Any]:
        batch = self._producer.create_batch()
        batches = [batch]
        for record in lane:
            content = {"timestamp": None, "key": record.key, "value": record.value, "headers": record.headers}
            if batch.append(**content) is None:
                batch.close()
                batch = self._producer.create_batch()
                batches.append(batch)
                if batch.append(**content) is None:
                    raise UnknownOutcomeError(f"a record for {record.topic} does not fit into a batch")
        batch.close()
        return batches

    async def stop(self) -> None:
        if self._producer is not None and not await _within(STOP_SECONDS, self._producer.stop()):
            await self.abandon()
        self._producer = None

    async def abandon(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        sender = producer._sender  # noqa: SLF001  stop() would first flush what must not be sent any more
        task = sender.sender_task
        if task is not None:
            task.cancel()
        await _within(1.0, producer.client.close())  # In-flight requests end with their connections.
        if task is not None:
            await asyncio.wait([task], timeout=1.0)
        producer._message_accumulator.fail_all(ProducerClosed())  # noqa: SLF001  else stop() waits for them
        await _within(STOP_SECONDS, producer.stop())


async def _within(seconds: float, closing: Coroutine[Any, Any, Any]) -> bool:
    """Await something that only tidies up: whatever it says, it is over after `seconds`.

    A time-out that cancels is not enough: aiokafka waits for tasks of its own, and one that swallows the cancellation keeps
    whoever awaits it for ever. So it gets a task of its own, which is left behind.
    """
    task = asyncio.ensure_future(closing)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        task.cancel()
        _LEFT_BEHIND.add(task)
        task.add_done_callback(_forget)
        log.warning("closing a Kafka client: not within %g s", seconds)
        return False
    error = task.exception()
    if error is None:
        return True
    if not isinstance(error, KafkaError | OSError | TimeoutError | RuntimeError):
        raise error
    log.warning("closing a Kafka client: %s", type(error).__name__)
    return False


def _forget(task: asyncio.Task[Any]) -> None:
    _LEFT_BEHIND.discard(task)
    _hear(task)


def _hear(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
