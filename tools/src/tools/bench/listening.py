"""Hearing what a stack says, from outside: its topics, by headers, with the broker's own clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import ConsumerRecord

from contracts.topics import TOPICS
from tools.stack import Stack
from tools.topics import configs
from tools.waiting import until

CLOCK, BROKERS_CLOCK = "message.timestamp.type", "LogAppendTime"
HELD_SECONDS = 15.0
STALL_SECONDS = 60.0
"""When nothing has come for so long, the system is not slow, it stands."""


async def stamp_by_broker(stack: Stack, topics: Iterable[str]) -> None:
    """Let the broker stamp a topic's records when it appends them: the writer's clock says only when it meant to send."""
    names = {f"{stack.topic_prefix}{name}": TOPICS[name] for name in topics}
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)
    await admin.start()
    try:
        wanted = [
            ConfigResource(ConfigResourceType.TOPIC, name, configs=configs(topic) | {CLOCK: BROKERS_CLOCK})
            for name, topic in names.items()
        ]
        for response in await admin.alter_configs(wanted):
            for code, message, *_ in response.resources:
                if code:
                    raise RuntimeError(f"the broker will not stamp records itself: {message}")

        async def shown() -> bool:
            found = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
            entries = [entry for response in found for resource in response.resources for entry in resource[4]]
            return bool(sum(entry[:2] == (CLOCK, BROKERS_CLOCK) for entry in entries) == len(names))

        # It answers before it holds to it.
        await until(shown, seconds=HELD_SECONDS, what="the broker stamps records itself")
    finally:
        await admin.close()


class Ear:
    """`async with Ear(stack, "voucher.posted") as ear:` hears every record of the topics, or those `from_now` on."""

    def __init__(self, stack: Stack, *topics: str, from_now: bool = False) -> None:
        self._stack = stack
        self._topics = topics
        self._from_now = from_now
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=stack.bootstrap_servers, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await stamp_by_broker(self._stack, self._topics)
        await self._consumer.start()
        prefix, count = self._stack.topic_prefix, self._stack.order_partitions
        partitions = [TopicPartition(f"{prefix}{name}", number) for name in self._topics for number in range(count)]
        self._consumer.assign(partitions)
        if self._from_now:
            for partition, offset in (await self._consumer.end_offsets(partitions)).items():
                self._consumer.seek(partition, offset)
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._consumer.stop()

    def hear(self, topic: str, record: ConsumerRecord[bytes, bytes]) -> None:
        """What is made of a record; of a kind of ear."""
        raise NotImplementedError

    async def until(
        self,
        count: Callable[[], int],
        wanted: int,
        *,
        stall_seconds: float = STALL_SECONDS,
        said: Callable[[int], None] = lambda _: None,
    ) -> bool:
        """Wait until `count` has come to `wanted`; false when it has stood still for `stall_seconds` before that."""
        moved_at, last = time.monotonic(), count()
        while (now := count()) < wanted:
            self.raise_if_deaf()
            if now != last:
                moved_at, last = time.monotonic(), now
            if time.monotonic() - moved_at > stall_seconds:
                return False
            said(now)
            await asyncio.sleep(0.05)
        return True

    def raise_if_deaf(self) -> None:
        if self._task is not None and self._task.done():
            self._task.result()

    async def _listen(self) -> None:
        cut = len(self._stack.topic_prefix)
        while True:
            for where, batch in (await self._consumer.getmany(timeout_ms=200)).items():
                for record in batch:
                    self.hear(where.topic[cut:], record)


class Shipped(Ear):
    """When the broker took the voucher of each order's first shipment, by order id."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack, "voucher.posted")
        self.at: dict[str, float] = {}

    def hear(self, topic: str, record: ConsumerRecord[bytes, bytes]) -> None:
        headers = headers_of(record)
        if headers.get("ce_template") == b"shipped":
            self.at.setdefault(headers["ce_subject"].decode(), record.timestamp / 1000)

    async def wait_for(self, wanted: int, said: Callable[[int], None] = lambda _: None) -> None:
        """Errors: TimeoutError when nothing comes any more."""
        if not await self.until(lambda: len(self.at), wanted, said=said):
            raise TimeoutError(f"only {len(self.at):,} of {wanted:,} shipped; nothing for {STALL_SECONDS:g} s")


class Spoken(Ear):
    """The first record of each subject on some topics, and how many there were."""

    def __init__(self, stack: Stack, *topics: str, from_now: bool = False) -> None:
        super().__init__(stack, *topics, from_now=from_now)
        self.first: dict[str, dict[str, float]] = {topic: {} for topic in topics}
        self.ids: dict[str, set[bytes]] = {topic: set() for topic in topics}
        """Different events; the same one sent twice is one."""

    def hear(self, topic: str, record: ConsumerRecord[bytes, bytes]) -> None:
        headers = headers_of(record)
        self.first[topic].setdefault(headers["ce_subject"].decode(), record.timestamp / 1000)
        self.ids[topic].add(headers["ce_id"])

    def subjects(self) -> int:
        return sum(map(len, self.first.values()))


class Pulse(Ear):
    """The moment of every record, by topic and partition."""

    def __init__(self, stack: Stack, *topics: str) -> None:
        super().__init__(stack, *topics, from_now=True)
        self.moments: dict[str, dict[int, list[float]]] = {
            topic: {number: [] for number in range(stack.order_partitions)} for topic in topics
        }

    def hear(self, topic: str, record: ConsumerRecord[bytes, bytes]) -> None:
        self.moments[topic][record.partition].append(record.timestamp / 1000)


def headers_of(record: ConsumerRecord[bytes, bytes]) -> dict[str, Any]:
    return dict(record.headers)
