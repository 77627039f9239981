"""A worker of each service is killed (SIGKILL) under load: how long until its keys move again?

Every service has two workers, each with half of the partitions. What counts is the longest silence of any partition of the
service's output after the kill: it ends when the other worker has taken over both the partition and the outbox shards.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tools.bench.feeder import Pace
from tools.bench.figures import Figure, longest_silence
from tools.bench.ground import SKUS, Meter, fresh_stack, incoherent, seed_plenty
from tools.bench.kinds import Bench, Setting
from tools.bench.listening import Pulse, Shipped
from tools.bench.load import make_load
from tools.bench.verdict import judge, order_ids
from tools.local_postgres import SERVICES
from tools.sample.goods import bench_goods
from tools.stack import Stack

PER_SECOND = 60
"""Some 15 records a second on each partition: an ordinary silence is shorter than half a second."""
OUTPUT = {
    "ingest": "order.received",
    "audit": "order.audited",
    "inventory": "stock.reserved",
    "router": "order.routed",
    "fulfillment": "shipment.created",
    "ledger": "voucher.posted",
}
SHORT_SERVICES = ("inventory", "ledger")
CALM_SECONDS = 15.0
"""Before each kill: groups have settled, and the last victim's backlog is gone."""
WATCHED_SECONDS = 25.0
"""After each kill, at least; a session is over after 10 s, a shard's lease too."""
WATCHED_MOST_SECONDS = 60.0
MOVING_SECONDS = 2.0
"""A partition that had a record so lately moves."""
ROUND_SECONDS = 100.0
"""Calm, watching at most, and a restart: the load must last for it. What is not needed is not sent."""


async def run(setting: Setting) -> dict[str, Any]:
    terminal, goods = setting.terminal, bench_goods(SKUS)
    victims = SHORT_SERVICES if setting.short else SERVICES
    prepared = make_load(int(PER_SECOND * ROUND_SECONDS * len(victims)), goods, run="R", odd=False)
    async with fresh_stack(terminal, replicas=dict.fromkeys(SERVICES, 2)) as stack:
        with terminal.step("Bench data"):
            await seed_plenty(stack, goods, len(prepared.records))
        async with Shipped(stack) as shipped, Meter(stack) as meter:
            with terminal.step("Kills") as step:
                pace = Pace(prepared.records, PER_SECOND)
                sending = asyncio.create_task(pace.send(stack))
                found = {}
                async with Pulse(stack, *(OUTPUT[service] for service in victims)) as pulse:
                    for service in victims:
                        step.note(f"{service} …")
                        found[service] = round(await _kill(stack, pulse, service), 2)
                pace.stop()
                await sending
                load = prepared.first(pace.sent)
                await shipped.wait_for(len(load.ships))
                step.done = ", ".join(f"{service} {seconds:.1f} s" for service, seconds in found.items())
        with terminal.step("Coherence") as step:
            failed = await incoherent(stack)
            step.done = f"NOT coherent: {', '.join(failed)}" if failed else "coherent"
        orders = len(load.ships)
        return {
            "orders": orders,
            "offered_per_second": PER_SECOND,
            "seconds": found,
            "worst_seconds": max(found.values()),
            **await judge(stack, load, await order_ids(stack, "R")),
            **meter.costs(orders),
            "coherent": not failed,
            "failed_checks": failed,
        }


async def _kill(stack: Stack, pulse: Pulse, service: str) -> float:
    """The longest silence of a partition after the second worker's death; it is there again afterwards."""
    await asyncio.sleep(CALM_SECONDS)
    lanes = pulse.moments[OUTPUT[service]].values()
    killed_at = time.time()
    stack.kill(f"{service}-2")
    while (now := time.time()) < killed_at + WATCHED_MOST_SECONDS:
        pulse.raise_if_deaf()
        moving = all(lane and lane[-1] > now - MOVING_SECONDS for lane in lanes)
        if moving and now > killed_at + WATCHED_SECONDS:
            break
        await asyncio.sleep(0.1)
    longest = max(longest_silence(lane, killed_at, now - MOVING_SECONDS) for lane in lanes)
    await stack.start(f"{service}-2")
    return longest


RECOVERY = Bench(
    "recovery",
    "the keys of a killed worker, until they move again",
    run,
    (
        Figure("worst_seconds", "lower", 15),
        *(Figure(f"seconds.{service}", "lower", 15) for service in SERVICES),
        Figure("misshipped", "lower", 0),
        Figure("unshipped", "lower", 0),
    ),
    steps=3,
)
