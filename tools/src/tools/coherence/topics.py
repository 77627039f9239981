"""Reading the broker for the checks: lags of the services' groups, and whole topics."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord

from contracts.topics import TOPICS
from tools.coherence.model import TopicRecord

POLL_MS = 1000


class KafkaTopics:
    """The topics of one system, by their plain names."""

    def __init__(self, bootstrap_servers: str, prefix: str = "") -> None:
        self._bootstrap_servers = bootstrap_servers
        self._prefix = prefix

    async def lags(self) -> Mapping[str, int]:
        """By `group topic`, for every group of the six services that has read something."""
        writers_and_readers = {name for topic in TOPICS.values() for name in (*topic.writers, *topic.readers)}
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap_servers)
        consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap_servers)
        await admin.start()
        await consumer.start()
        try:
            lags: dict[str, int] = {}
            for group, _ in await admin.list_consumer_groups():
                service = group.removeprefix(self._prefix).split(".")[0]
                if not group.startswith(self._prefix) or service not in writers_and_readers:
                    continue
                offsets = await admin.list_consumer_group_offsets(group)
                ends = await consumer.end_offsets(list(offsets))
                for partition, offset in offsets.items():
                    name = f"{group} {partition.topic}"
                    lags[name] = lags.get(name, 0) + ends[partition] - max(offset.offset, 0)
            return lags
        finally:
            await consumer.stop()
            await admin.close()

    async def records(self, topic: str) -> Sequence[TopicRecord]:
        return [_record(message) for message in await self.messages(topic)]

    async def messages(self, topic: str) -> Sequence[ConsumerRecord[bytes, bytes]]:
        """Everything on a topic now, keys and headers included."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            name = f"{self._prefix}{topic}"
            partitions = [TopicPartition(name, number) for number in sorted(consumer.partitions_for_topic(name) or ())]
            if not partitions:
                partitions = [TopicPartition(name, number) for number in sorted(await self._partitions(consumer, name))]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            await consumer.seek_to_beginning(*partitions)
            found: list[ConsumerRecord[bytes, bytes]] = []
            while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
                for batch in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                    found.extend(batch)
            return found
        finally:
            await consumer.stop()

    @staticmethod
    async def _partitions(consumer: AIOKafkaConsumer, name: str) -> set[int]:
        await consumer._client.force_metadata_update()  # noqa: SLF001  the public call knows only subscribed topics
        metadata = await consumer._client.fetch_all_metadata()  # noqa: SLF001
        return set(metadata.partitions_for_topic(name) or ())


def _record(record: ConsumerRecord[bytes, bytes]) -> TopicRecord:
    headers = dict(record.headers)
    body: bytes = record.value or b""
    return TopicRecord(
        partition=record.partition,
        offset=record.offset,
        subject=headers.get("ce_subject", b"").decode(),
        type=headers.get("ce_type", b"").decode(),
        id=headers.get("ce_id", b"").decode(),
        source=headers.get("ce_source", b"").decode(),
        digest=hashlib.blake2b(headers.get("ce_type", b"") + body, digest_size=16).digest(),
        body=body,
    )
