"""Sending a load into `channel.orders`: all at once, or paced by an open loop that waits for nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer

from tools.bench.figures import due_count, intended_at
from tools.bench.load import Record
from tools.stack import Stack

TICK_SECONDS = 0.005
LEAD_SECONDS = 0.1
"""From the decision to begin to the first send: the loop must be running by then."""


@asynccontextmanager
async def producer_of(stack: Stack) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=stack.bootstrap_servers, acks="all", linger_ms=5, max_batch_size=256 * 1024, enable_idempotence=True
    )
    try:
        await producer.start()
        yield producer
    finally:
        await producer.stop()


async def send_all(stack: Stack, records: Iterable[Record]) -> None:
    """As fast as the broker takes them; returns when all are acknowledged."""
    async with producer_of(stack) as producer:
        topic = _topic(stack)
        await asyncio.gather(*[await producer.send(topic, record.body, key=record.key) for record in records])


class Pace:
    """An open loop: record n goes out at `began + n / per_second`, whatever became of those before."""

    def __init__(self, records: Sequence[Record], per_second: float) -> None:
        self.records = records
        self.per_second = per_second
        self.began = 0.0
        self.sent = 0
        self.worst_delay_seconds = 0.0
        """How late the feeder itself was at worst: latencies count from the intended moment, so they hold it too."""

        self._stopped = False

    def stop(self) -> None:
        """Send no more."""
        self._stopped = True

    def intended(self) -> dict[str, float]:
        """When each order was to be sent (its first record), in seconds since the epoch."""
        moments: dict[str, float] = {}
        for number, record in enumerate(self.records):
            moments.setdefault(record.order_no, self.began + intended_at(number, self.per_second))
        return moments

    async def send(self, stack: Stack) -> None:
        async with producer_of(stack) as producer:
            topic, total = _topic(stack), len(self.records)
            waits = []
            self.began = time.time() + LEAD_SECONDS
            while self.sent < total and not self._stopped:
                due = due_count(time.time() - self.began, self.per_second, total)
                while self.sent < due:
                    record = self.records[self.sent]
                    waits.append(await producer.send(topic, record.body, key=record.key))
                    late = time.time() - self.began - intended_at(self.sent, self.per_second)
                    self.worst_delay_seconds = max(self.worst_delay_seconds, late)
                    self.sent += 1
                await asyncio.sleep(TICK_SECONDS)
            await asyncio.gather(*waits)


def _topic(stack: Stack) -> str:
    return f"{stack.topic_prefix}channel.orders"
