"""Does an order cost the same when a hundred thousand, or with `GROWTH=1m` a million, are stored already?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from tools.bench.feeder import send_all
from tools.bench.figures import Figure
from tools.bench.ground import SKUS, Meter, fresh_stack, incoherent, seed_plenty
from tools.bench.kinds import Bench, Setting
from tools.bench.listening import Shipped
from tools.bench.load import Record, maker_of, records
from tools.bench.verdict import number_of
from tools.local_postgres import SERVICES
from tools.sample.goods import bench_goods
from tools.stack import Stack

SAMPLE_ORDERS, SHORT_SAMPLE_ORDERS = 8_000, 1_000
"""Sent at once at each size, and timed."""
SIZES, SHORT_SIZES = (1_000, 100_000), (1_000, 5_000)
MILLION = 1_000_000
CHUNK = 5_000
"""Sent between two looks while filling up, so that no more than two chunks are under way."""
_INBOX = "SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0) FROM pg_inherits WHERE inhparent = 'inbox'::regclass"
_OUTBOX = "SELECT pg_total_relation_size('outbox')"
_OUTBOX_ROWS = "SELECT count(*) FROM outbox"


async def run(setting: Setting) -> dict[str, Any]:
    terminal, goods = setting.terminal, bench_goods(SKUS)
    sample = setting.count(SAMPLE_ORDERS, SHORT_SAMPLE_ORDERS)
    sizes = list(SHORT_SIZES if setting.short else SIZES)
    if os.environ.get("GROWTH", "").lower() == "1m":
        sizes.append(MILLION)
    async with fresh_stack(terminal) as stack:
        with terminal.step("Bench data"):
            await seed_plenty(stack, goods, sizes[-1] + sample)
        with terminal.step("Growth") as step:
            endless = records(maker_of(goods, run="G"))
            measured = []
            async with Shipped(stack) as shipped:
                for size in sizes:
                    await _fill(stack, shipped, endless, size, setting)
                    measured.append({"stored": size, **await _sample(stack, shipped, endless, sample)})
            step.done = ", ".join(f"{each['stored']:,} stored: {each['orders_per_second']:.0f} orders/s" for each in measured)
        with terminal.step("Coherence") as step:
            failed = await incoherent(stack)
            step.done = f"NOT coherent: {', '.join(failed)}" if failed else "coherent"
        first, last = measured[0], measured[-1]
        return {
            "orders": sizes[-1] + sample,
            "orders_per_second": {str(each["stored"]): each["orders_per_second"] for each in measured},
            "last_to_first": round(last["orders_per_second"] / first["orders_per_second"], 3),
            "cpu_last_to_first": round(last["cpu_ms_per_order_total"] / first["cpu_ms_per_order_total"], 3),
            "sizes": {str(each["stored"]): each for each in measured},
            **{name: last[name] for name in ("cpu_ms_per_order", "cpu_ms_per_order_total", "feeder_cpu_ms_per_order")},
            "peak_rss_mb": last["peak_rss_mb"],
            "coherent": not failed,
            "failed_checks": failed,
        }


async def _fill(stack: Stack, shipped: Shipped, endless: Iterator[Record], size: int, setting: Setting) -> None:
    """Send until so many orders are stored, never more than two chunks ahead."""
    sent = len(shipped.at)
    while sent < size:
        count = min(CHUNK, size - sent)
        await send_all(stack, _take(endless, count))
        sent += count
        await shipped.wait_for(
            size if sent == size else max(0, sent - CHUNK),
            said=lambda count: setting.terminal.live(f"      stored {count:,} of {size:,}"),
        )


async def _sample(stack: Stack, shipped: Shipped, endless: Iterator[Record], count: int) -> dict[str, Any]:
    batch, before = list(_take(endless, count)), len(shipped.at)
    async with Meter(stack) as meter:
        began = time.time()
        await send_all(stack, batch)
        await shipped.wait_for(before + count)
    seconds = max(shipped.at.values()) - began
    return {
        "orders_per_second": round(count / seconds, 1),
        "inbox_bytes_per_order": round(await _all(stack, _INBOX) / len(shipped.at)),
        "outbox_rows": await _all(stack, _OUTBOX_ROWS),
        "outbox_bytes": await _all(stack, _OUTBOX),
        **meter.costs(count),
    }


def _take(endless: Iterator[Record], count: int) -> Iterator[Record]:
    """Records up to and with the good one that makes `count`."""
    for record in endless:
        yield record
        count -= record.kind == "good"
        if not count:
            return


async def _all(stack: Stack, sql: str) -> int:
    return sum([await number_of(stack, service, sql) for service in SERVICES])


GROWTH = Bench(
    "growth",
    "orders a second with a thousand stored and with many more",
    run,
    (
        Figure("last_to_first", "higher", 0.9),
        Figure("cpu_last_to_first", "lower"),
        Figure("orders_per_second.1000", "higher"),
        Figure("orders_per_second.100000", "higher"),
        Figure("orders_per_second.1000000", "higher"),
        Figure("cpu_ms_per_order_total", "lower"),
    ),
    steps=3,
)
