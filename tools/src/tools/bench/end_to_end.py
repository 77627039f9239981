"""From `channel.orders` to the shipment's voucher: a burst, then an open loop at a steady pace.

Ten places, two lines an order, everything on: rules, order book, sealed receivers, decision records, vouchers. One record in
ten is held, invalid or a repeat; those come on top of the orders that are counted.
"""

from __future__ import annotations

import time
from typing import Any

from tools.bench.feeder import Pace, send_all
from tools.bench.figures import Figure, latencies
from tools.bench.ground import SKUS, Meter, fresh_stack, incoherent, seed_plenty
from tools.bench.kinds import Bench, Setting
from tools.bench.listening import Shipped
from tools.bench.load import GOOD_SHARE, Load, make_load
from tools.bench.verdict import judge, order_ids
from tools.sample.goods import bench_goods
from tools.stack import Stack

ORDERS, SHORT_ORDERS = 20_000, 2_000
OFFERED_PER_SECOND = 500
PACED_SECONDS, SHORT_PACED_SECONDS = 180, 15
BURST, PACED = "B", "P"
"""How the order numbers of each phase begin."""


async def run(setting: Setting) -> dict[str, Any]:
    terminal, goods = setting.terminal, bench_goods(SKUS)
    burst_orders = setting.count(ORDERS, SHORT_ORDERS)
    paced_orders = OFFERED_PER_SECOND * setting.seconds(PACED_SECONDS, SHORT_PACED_SECONDS)
    async with fresh_stack(terminal) as stack:
        with terminal.step("Bench data") as step:
            await seed_plenty(stack, goods, burst_orders + paced_orders)
            loads = (make_load(burst_orders, goods, run=BURST), make_load(paced_orders, goods, run=PACED))
            step.done = f"{sum(len(load.records) for load in loads):,} records prepared"
        async with Shipped(stack) as shipped:
            with terminal.step("Burst") as step:
                burst = await _burst(stack, shipped, loads[0], setting)
                step.done = f"burst: {burst['orders_per_second']:.0f} orders/s"
            with terminal.step("Paced") as step:
                paced = await _paced(stack, shipped, loads[1], setting)
                step.done = f"paced: p99 {paced['p99_seconds']:.2f} s at {OFFERED_PER_SECOND}/s"
        with terminal.step("Coherence") as step:
            failed = await incoherent(stack)
            step.done = f"NOT coherent: {', '.join(failed)}" if failed else "coherent"
        both = Load(ships=loads[0].ships | loads[1].ships, held=loads[0].held + loads[1].held)
        ids = await order_ids(stack, BURST) | await order_ids(stack, PACED)
        return {
            **burst,
            "paced": paced,
            **await judge(stack, both, ids),
            "coherent": not failed,
            "failed_checks": failed,
        }


async def _burst(stack: Stack, shipped: Shipped, load: Load, setting: Setting) -> dict[str, Any]:
    count = len(load.ships)
    async with Meter(stack) as meter:
        began = time.time()
        await send_all(stack, load.records)
        send_seconds = time.time() - began
        await shipped.wait_for(count, said=_progress(setting, count))
    seconds = max(shipped.at.values()) - began
    return {
        "orders": count,
        "records": len(load.records),
        "orders_per_second": round(count / seconds, 1),
        "seconds": round(seconds, 2),
        "send_seconds": round(send_seconds, 2),
        **meter.costs(count),
        "largest_service_mb": meter.largest_service_mb(),
    }


async def _paced(stack: Stack, shipped: Shipped, load: Load, setting: Setting) -> dict[str, Any]:
    before, count = len(shipped.at), len(load.ships)
    pace = Pace(load.records, OFFERED_PER_SECOND / GOOD_SHARE)
    async with Meter(stack) as meter:
        await pace.send(stack)
        sent_at = time.time()
        behind = before + count - len(shipped.at)
        await shipped.wait_for(before + count, said=_progress(setting, before + count))
    intended = pace.intended()
    ids = await order_ids(stack, PACED)
    waits = [shipped.at[ids[number]] - intended[number] for number in load.ships]
    return {
        "orders": count,
        "offered_per_second": OFFERED_PER_SECOND,
        "records_per_second": round(OFFERED_PER_SECOND / GOOD_SHARE, 1),
        **latencies(waits),
        "under_way_at_last_send": behind,
        "drain_seconds": round(max(shipped.at.values()) - sent_at, 2),
        "feeder_worst_delay_seconds": round(pace.worst_delay_seconds, 4),
        **meter.costs(count),
        "largest_service_mb": meter.largest_service_mb(),
        "rss_growth_mb": meter.rss_growth_mb(),
    }


def _progress(setting: Setting, wanted: int) -> Any:
    return lambda count: setting.terminal.live(f"      shipped and posted {count:,} of {wanted:,}")


END_TO_END = Bench(
    "end_to_end",
    "a burst into channel.orders, then 500 orders a second, to the shipment's voucher",
    run,
    (
        Figure("orders_per_second", "higher", 500),
        Figure("cpu_ms_per_order_total", "lower", 2),
        Figure("largest_service_mb", "lower", 250),
        Figure("paced.p50_seconds", "lower"),
        Figure("paced.p99_seconds", "lower", 5),
        Figure("paced.cpu_ms_per_order_total", "lower", 2),
        Figure("paced.largest_service_mb", "lower", 250),
        Figure("misshipped", "lower", 0),
        Figure("unshipped", "lower", 0),
        Figure("auto_percent", "higher"),
    ),
    steps=4,
)
