"""A burst into `channel.orders`: from the first send to the last shipment's voucher.

Ten places, two lines an order, everything on: rules, order book, sealed receivers, decision records, vouchers.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tools.bench.usage import UsageWatch
from tools.client import Clients
from tools.coherence import drained, open_sources, run_checks
from tools.sample.goods import bench_goods
from tools.sample.orders import OrderMaker
from tools.sample.places import PLACES, Place
from tools.sample.seed import seed_goods, seed_places, seed_rules, seed_stock, wait_for_places
from tools.stack import Stack
from tools.terminal import Terminal

SKUS = 200
STALL_SECONDS = 60.0
"""A burst that ships nothing for so long is not slow, it stands."""
DRAIN_SECONDS = 120.0
SEED = 2026


@dataclass
class Burst:
    """What one burst measured."""

    orders: int
    seconds: float
    send_seconds: float
    cpu_ms_per_order: dict[str, float]
    feeder_cpu_ms_per_order: float
    peak_rss_mb: dict[str, float]
    coherent: bool
    failed_checks: list[str]

    @property
    def orders_per_second(self) -> float:
        return self.orders / self.seconds

    def to_json(self) -> dict[str, Any]:
        return {
            "orders": self.orders,
            "orders_per_second": round(self.orders_per_second, 1),
            "seconds": round(self.seconds, 2),
            "send_seconds": round(self.send_seconds, 2),
            "cpu_ms_per_order": self.cpu_ms_per_order,
            "cpu_ms_per_order_total": round(sum(self.cpu_ms_per_order.values()), 3),
            "feeder_cpu_ms_per_order": self.feeder_cpu_ms_per_order,
            "peak_rss_mb": self.peak_rss_mb,
            "coherent": self.coherent,
            "failed_checks": self.failed_checks,
        }


def bench_places() -> list[Place]:
    """The sample's places, all of them shipping everywhere with room for everything: ten real candidates for every order."""
    return [place._replace(coverage=("",), daily_capacity=10_000_000) for place in PLACES]


async def burst(orders: int, terminal: Terminal) -> Burst:
    """One burst on a fresh stack."""
    async with Stack("bench", clean=True, terminal=terminal) as stack:
        with terminal.step("Bench data") as step:
            bodies = await _prepare(stack, orders)
            step.done = f"{orders:,} orders prepared"
        with terminal.step("Burst") as step:
            result = await _run(stack, bodies, terminal)
            step.done = f"{result.orders_per_second:.0f} orders/s"
        with terminal.step("Coherence") as step:
            await _check(stack, result)
            step.done = "coherent" if result.coherent else f"NOT coherent: {', '.join(result.failed_checks)}"
        return result


async def _prepare(stack: Stack, orders: int) -> list[tuple[bytes, bytes]]:
    goods, places = bench_goods(SKUS), bench_places()
    units = 20 + 6 * orders // SKUS // len(places) * 2
    async with Clients(stack.urls, stack.keys["admin"]) as oms:
        await seed_places(oms, places)
        await seed_goods(oms, goods, bundles=False)
        await seed_rules(oms)
        for place in places:
            await seed_stock(oms, place.place_id, [(good, units) for good in goods], reference=f"bench-{place.place_id}")
        await wait_for_places(oms, places)
    maker = OrderMaker(SEED, now=datetime.now(UTC), run="B", goods=tuple(goods), lines=(2,))
    made = [maker.order() for _ in range(orders)]
    return [(order["channel_order_no"].encode(), json.dumps(order, ensure_ascii=False).encode()) for order in made]


async def _run(stack: Stack, bodies: Sequence[tuple[bytes, bytes]], terminal: Terminal) -> Burst:
    children = {name: member.child for name, member in stack.members.items()}
    children |= {
        "kafka": stack.kafka.child if stack.kafka else None,
        "postgres": stack.postgres.child if stack.postgres else None,
    }
    pids = {name: [child.record.pid] for name, child in children.items() if child is not None}
    cpu_before = time.process_time()
    async with UsageWatch(pids) as watch, _Vouchers(stack, len(bodies), terminal) as vouchers:
        began = time.time()
        await _send(stack, bodies)
        send_seconds = time.time() - began
        last = await vouchers.last_posted_at()
    count = len(bodies)
    return Burst(
        orders=count,
        seconds=last - began,
        send_seconds=send_seconds,
        cpu_ms_per_order={name: round(1000 * used / count, 3) for name, used in watch.cpu_seconds().items()},
        feeder_cpu_ms_per_order=round(1000 * (time.process_time() - cpu_before) / count, 3),
        peak_rss_mb=watch.peak_rss_mb(),
        coherent=False,
        failed_checks=[],
    )


async def _send(stack: Stack, bodies: Sequence[tuple[bytes, bytes]]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers, acks="all", linger_ms=20, max_batch_size=256 * 1024)
    await producer.start()
    try:
        topic = f"{stack.topic_prefix}channel.orders"
        waits = [await producer.send(topic, body, key=key) for key, body in bodies]
        await asyncio.gather(*waits)
    finally:
        await producer.stop()


class _Vouchers:
    """Counts the orders whose shipment is posted, by headers alone."""

    def __init__(self, stack: Stack, wanted: int, terminal: Terminal) -> None:
        self._stack = stack
        self._wanted = wanted
        self._terminal = terminal
        self._consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> _Vouchers:
        topic = f"{self._stack.topic_prefix}voucher.posted"
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._stack.bootstrap_servers, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await self._consumer.start()
        self._consumer.assign([TopicPartition(topic, number) for number in range(self._stack.order_partitions)])
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    async def last_posted_at(self) -> float:
        """Seconds since the epoch at which the broker took the last shipment's voucher.

        Errors: TimeoutError when nothing comes any more.
        """
        assert self._consumer is not None  # noqa: S101  entered
        seen: set[bytes] = set()
        last, moved_at = 0.0, time.monotonic()
        while len(seen) < self._wanted:
            batches = await self._consumer.getmany(timeout_ms=200)
            for record in (record for batch in batches.values() for record in batch):
                headers = dict(record.headers)
                if headers.get("ce_template") == b"shipped":
                    seen.add(headers["ce_subject"])
                    last, moved_at = max(last, record.timestamp / 1000), time.monotonic()
            self._terminal.live(f"      shipped and posted {len(seen):,} of {self._wanted:,}")
            if time.monotonic() - moved_at > STALL_SECONDS:
                raise TimeoutError(f"only {len(seen)} of {self._wanted} shipped; nothing for {STALL_SECONDS:g} s")
        return last


async def _check(stack: Stack, result: Burst) -> None:
    sources = (stack.read_only_database_urls, stack.bootstrap_servers, stack.topic_prefix)
    await drained(*sources, seconds=DRAIN_SECONDS)
    async with open_sources(*sources) as opened:
        outcomes = await run_checks(opened)
    result.failed_checks = [outcome.check.name for outcome in outcomes if not outcome.holds]
    result.coherent = not result.failed_checks


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
