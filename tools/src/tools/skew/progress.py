"""Whether a service gets on: the topic it writes most is looked at several times a second."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

LOOK_SECONDS = 0.1
OUTPUT = {
    "ingest": "order.received",
    "audit": "order.audited",
    "inventory": "stock.allocated",
    "router": "order.routed",
    "fulfillment": "shipment.created",
    "ledger": "voucher.posted",
}


def longest_pause(moments: Sequence[float], began: float, ended: float) -> float:
    """Seconds between two moments of progress, or the ends of the window, at the longest."""
    inside = [began, *(moment for moment in moments if began < moment < ended), ended]
    return max(later - earlier for earlier, later in itertools.pairwise(inside))


class Progress:
    """`async with Progress(servers, prefix, partitions) as progress:`, then `progress.pause("ledger", began)`."""

    def __init__(self, bootstrap_servers: str, prefix: str, partitions: int) -> None:
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, enable_auto_commit=False)
        self._partitions = {
            service: [TopicPartition(f"{prefix}{topic}", number) for number in range(partitions)]
            for service, topic in OUTPUT.items()
        }
        self._moments: dict[str, list[float]] = {service: [] for service in OUTPUT}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()

    def pause(self, service: str, began: float) -> float:
        """The longest time without a new record of this service since `began` (of ``time.monotonic``), in seconds.

        Errors: whatever ended the watching: figures of a blind watcher would be wrong.
        """
        if self._task is not None and self._task.done():
            self._task.result()
        return round(longest_pause(self._moments[service], began, time.monotonic()), 1)

    async def _watch(self) -> None:
        last: dict[str, int] = {}
        everything = [partition for partitions in self._partitions.values() for partition in partitions]
        while True:
            try:
                ends = await self._consumer.end_offsets(everything)
            except KafkaError:  # The broker is away, for minutes on purpose: nobody gets on then.
                await asyncio.sleep(LOOK_SECONDS)
                continue
            for service, partitions in self._partitions.items():
                count = sum(ends[partition] for partition in partitions)
                if count != last.get(service):
                    last[service] = count
                    self._moments[service].append(time.monotonic())
            await asyncio.sleep(LOOK_SECONDS)
