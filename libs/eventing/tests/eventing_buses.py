"""The fake bus and a real Kafka, seen alike by the behaviour suite."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID, uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import GroupCoordinatorNotAvailableError

from contracts import Event
from eventing import KafkaBroker, envelope
from eventing.broker import Broker, Outgoing, Record, partition_of
from eventing.clock import SystemClock, TimeOrderedIds
from eventing.testing import FakeBus


def outgoing(event: Event, *, id: UUID | None = None, source: str = "/elsewhere") -> Outgoing:  # noqa: A002
    """An event as another service would send it."""
    row = envelope.encode(event, id=id or TimeOrderedIds().new_id(), time=SystemClock().now(), source=source, traceparent=None)
    return Outgoing(row.topic, row.key.encode(), row.payload, envelope.headers_of(row.headers))


def raw(topic: str, key: str, body: bytes, type: str, **headers: str) -> Outgoing:  # noqa: A002
    """Any bytes under a sound envelope."""
    attributes = {
        "ce_id": str(uuid4()),
        "ce_source": "/elsewhere",
        "ce_type": type,
        "ce_time": envelope.moment_text(SystemClock().now()),
    } | headers
    return Outgoing(topic, key.encode(), body, [(name, value.encode()) for name, value in attributes.items()])


class Bus(Protocol):
    real: bool

    def broker(self) -> Broker: ...

    async def publish(self, records: Sequence[Outgoing]) -> None: ...

    async def records(self, topic: str) -> list[Record]: ...

    async def committed(self, group: str) -> dict[tuple[str, int], int]: ...

    async def close(self) -> None: ...


class FakeBusAlike:
    real = False

    def __init__(self, topics: Mapping[str, int]) -> None:
        self.bus = FakeBus(topics)

    def broker(self) -> Broker:
        return self.bus

    async def publish(self, records: Sequence[Outgoing]) -> None:
        for record in records:
            self.bus.publish(record)

    async def records(self, topic: str) -> list[Record]:
        return self.bus.records(topic)

    async def committed(self, group: str) -> dict[tuple[str, int], int]:
        return {tuple(where): at for where, at in self.bus.committed(group).items()}

    async def close(self) -> None: ...


class RealBus:
    real = True

    def __init__(self, bootstrap: str, prefix: str, topics: Mapping[str, int]) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix
        self._topics = topics
        self._producer: Any = None

    async def start(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        await admin.create_topics(
            [
                NewTopic(
                    self.prefix + name,
                    count,
                    1,
                    topic_configs={"cleanup.policy": "compact"} if name.startswith("words.") else None,
                )
                for name, count in self._topics.items()
            ]
        )
        await admin.close()
        self._producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all")
        await self._producer.start()

    def broker(self) -> Broker:
        return KafkaBroker(self.bootstrap, self.prefix)

    async def publish(self, records: Sequence[Outgoing]) -> None:
        sent = [
            await self._producer.send(
                self.prefix + record.topic,
                record.value,
                record.key,
                partition=partition_of(record.key, self._topics[record.topic]),
                headers=list(record.headers),
            )
            for record in records
        ]
        await asyncio.gather(*sent)

    async def records(self, topic: str) -> list[Record]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
        await consumer.start()
        try:
            places = [KafkaPartition(self.prefix + topic, number) for number in range(self._topics[topic])]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            await consumer.seek_to_beginning(*places)
            found: dict[KafkaPartition, list[Record]] = {place: [] for place in places}
            deadline = time.monotonic() + 10
            while any(len(found[place]) < ends[place] for place in places) and time.monotonic() < deadline:
                for place, some in (await consumer.getmany(timeout_ms=200)).items():
                    found[place] += [
                        Record(topic, one.partition, one.offset, one.timestamp, one.key, one.value, one.headers) for one in some
                    ]
            return [record for place in places for record in found[place]]
        finally:
            await consumer.stop()

    async def committed(self, group: str) -> dict[tuple[str, int], int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            offsets = await admin.list_consumer_group_offsets(self.prefix + group)
        except GroupCoordinatorNotAvailableError:  # A broker that has just started has no groups yet.
            return {}
        finally:
            await admin.close()
        return {(where.topic.removeprefix(self.prefix), where.partition): at.offset for where, at in offsets.items()}

    async def close(self) -> None:
        await self._producer.stop()
