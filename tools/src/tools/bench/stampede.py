"""Everybody wants the same thing at the same moment, and it lies in a hundred small stores, just enough in all."""

from __future__ import annotations

import time
from typing import Any

from tools.bench.feeder import send_all
from tools.bench.figures import Figure
from tools.bench.ground import Meter, fresh_stack, incoherent, seed_master_data, seed_units
from tools.bench.kinds import Bench, Setting
from tools.bench.listening import Shipped, Spoken
from tools.bench.load import Load, maker_of, of_one_good, record_of
from tools.bench.verdict import judge, order_ids
from tools.sample.goods import Good, bench_goods
from tools.sample.places import Place

ORDERS, SHORT_ORDERS = 5_000, 1_000
STORES = 100
PLACING_STALL_SECONDS = 30.0
ROUTED = "order.routed"


async def run(setting: Setting) -> dict[str, Any]:
    terminal = setting.terminal
    orders = max(1, setting.count(ORDERS, SHORT_ORDERS) // STORES) * STORES
    (good,) = bench_goods(1)
    load = _load(orders, good)
    async with fresh_stack(terminal) as stack:
        with terminal.step("Bench data") as step:
            stores = _stores()
            await seed_master_data(stack, stores, [good])
            await seed_units(stack, {store.place_id: [(good, orders // STORES)] for store in stores})
            step.done = f"{orders:,} equal orders, {STORES} stores with {orders // STORES} units each"
        with terminal.step("Stampede") as step:
            async with Shipped(stack) as shipped, Spoken(stack, ROUTED) as routed, Meter(stack) as meter:
                began = time.time()
                await send_all(stack, load.records)
                await shipped.until(lambda: len(shipped.at), orders, stall_seconds=PLACING_STALL_SECONDS)
                plans = len(routed.ids[ROUTED])
            placed = len(shipped.at)
            seconds = max(shipped.at.values()) - began
            step.done = f"{plans / orders:.3f} plans an order, {placed:,} placed"
        with terminal.step("Coherence") as step:
            failed = await incoherent(stack)
            step.done = f"NOT coherent: {', '.join(failed)}" if failed else "coherent"
        return {
            "orders": orders,
            "stores": STORES,
            "plans_per_order": round(plans / orders, 4),
            "placed": placed,
            "unplaced": orders - placed,
            "orders_per_second": round(placed / seconds, 1),
            **await judge(stack, load, await order_ids(stack, "")),
            **meter.costs(orders),
            "coherent": not failed,
            "failed_checks": failed,
        }


def _stores() -> list[Place]:
    return [
        Place(f"ST-{number:03d}", f"压测门店 {number}", "store", "310106", 31.23, 121.45, ("",), ("sf", "zto"), 10_000, 50, 200)
        for number in range(STORES)
    ]


def _load(orders: int, good: Good) -> Load:
    maker, load = maker_of([good], run="E"), Load()
    receiver = maker.receiver()
    for _ in range(orders):
        load.add(record_of("good", of_one_good(maker, good, channel="wechat_shop", receiver=receiver)))
    return load


STAMPEDE = Bench(
    "stampede",
    "equal orders over a hundred small stores that have just enough",
    run,
    (
        Figure("plans_per_order", "lower", 1.2),
        Figure("unplaced", "lower", 0),
        Figure("orders_per_second", "higher"),
        Figure("cpu_ms_per_order_total", "lower"),
        Figure("misshipped", "lower", 0),
        Figure("unshipped", "lower", 0),
        Figure("auto_percent", "higher"),
    ),
    steps=3,
)
