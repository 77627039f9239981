"""Where benches run: a fresh stack, ten places with room for everything, plenty of stock, the sample's rules; and its costs."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from tools.bench.figures import growth_of
from tools.bench.usage import UsageWatch
from tools.client import Clients
from tools.coherence import drained, look
from tools.coherence.model import Outcome
from tools.sample.goods import Good
from tools.sample.places import PLACES, Place
from tools.sample.seed import seed_goods, seed_places, seed_rules, seed_stock, wait_for_places
from tools.stack import Stack
from tools.terminal import Terminal

NAME = "bench"
SKUS = 200
UNITS_AN_ORDER = 6
"""At most: two lines of up to three."""
DRAIN_SECONDS = 600.0
"""A backlog may drain for long: that is a figure of the bench, not a reason to give up on the question of coherence."""


def fresh_stack(terminal: Terminal, **options: Any) -> Stack:
    return Stack(NAME, clean=True, terminal=terminal, **options)


def open_places() -> list[Place]:
    """The sample's places, all of them shipping everywhere with room for everything: ten real candidates for every order."""
    return [place._replace(coverage=("",), daily_capacity=10_000_000) for place in PLACES]


def plenty(orders: int) -> int:
    """Units of each SKU at each place, so that no place runs out of the SKU that it is the nearest for."""
    return 50 + 2 * UNITS_AN_ORDER * orders // SKUS


async def seed_master_data(stack: Stack, places: Sequence[Place], goods: Sequence[Good]) -> None:
    async with Clients(stack.urls, stack.keys["admin"]) as oms:
        await seed_places(oms, places)
        await seed_goods(oms, goods, bundles=False)
        await seed_rules(oms)
        await wait_for_places(oms, places)


async def seed_units(stack: Stack, units: Mapping[str, Sequence[tuple[Good, int]]]) -> None:
    """Units by place."""
    async with Clients(stack.urls, stack.keys["admin"]) as oms:
        for place_id, there in units.items():
            await seed_stock(oms, place_id, there, reference=f"bench-{place_id}")


async def seed_plenty(stack: Stack, goods: Sequence[Good], orders: int) -> None:
    """Master data, and stock for so many orders."""
    places = open_places()
    await seed_master_data(stack, places, goods)
    await seed_units(stack, {place.place_id: [(good, plenty(orders)) for good in goods] for place in places})


async def failed_outcomes(stack: Stack, *, drain_seconds: float = DRAIN_SECONDS) -> list[Outcome]:
    """The checks that fail once nothing is under way any more, or the time for that is over."""
    sources = (stack.read_only_database_urls, stack.bootstrap_servers, stack.topic_prefix)
    busy = await drained(*sources, seconds=drain_seconds)
    return [outcome for outcome in (*busy, *await look(*sources)) if not outcome.holds]


async def incoherent(stack: Stack) -> list[str]:
    """Their names alone."""
    return sorted({outcome.check.name for outcome in await failed_outcomes(stack)})


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


class Meter:
    """`async with Meter(stack) as meter:`, then what the time inside cost each service, the broker and the database.

    This process, which feeds and listens, stands apart. A broker or database of somebody else's is not measured.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._watch = UsageWatch(self._roots)
        self._feeder = 0.0

    async def __aenter__(self) -> Self:
        await self._watch.__aenter__()
        self._feeder = time.process_time()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._feeder = time.process_time() - self._feeder
        await self._watch.__aexit__()

    def costs(self, orders: int) -> dict[str, Any]:
        """Per order that went through; memory of all processes of a service together."""
        cpu = {name: round(1000 * seconds / orders, 3) for name, seconds in self._watch.cpu_seconds().items()}
        return {
            "cpu_ms_per_order": cpu,
            "cpu_ms_per_order_total": round(sum(cpu.values()), 3),
            "feeder_cpu_ms_per_order": round(1000 * self._feeder / orders, 3),
            "peak_rss_mb": {name: round(peak, 1) for name, peak in self._watch.peak_rss_mb().items()},
        }

    def rss_growth_mb(self) -> dict[str, float]:
        return {name: round(growth_of(samples), 1) for name, samples in self._watch.rss_samples_mb().items()}

    def largest_service_mb(self) -> float:
        peaks = self._watch.peak_rss_mb()
        return round(max(peak for name, peak in peaks.items() if name in self._stack.urls), 1)

    def _roots(self) -> Mapping[str, Sequence[int]]:
        stack = self._stack
        roots: dict[str, list[int]] = {}
        for member in stack.members.values():
            if member.child is not None:
                roots.setdefault(member.service, []).append(member.child.record.pid)
        for name, server in (("kafka", stack.kafka), ("postgres", stack.postgres)):
            if server is not None and server.child is not None:
                roots[name] = [server.child.record.pid]
        return roots
