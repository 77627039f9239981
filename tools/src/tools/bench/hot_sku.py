"""Everybody wants the same thing: one SKU, a thousand units, twenty orders for each, four workers of inventory.

The orders wait in `order.audited` while inventory is down; then all its workers start. So what is timed are inventory's
decisions, with the other stages behind it. The same is done with as many orders and units spread over many SKUs, to compare.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from tools.bench.feeder import send_all
from tools.bench.figures import Figure
from tools.bench.ground import Meter, fresh_stack, incoherent, open_places, seed_master_data, seed_units
from tools.bench.kinds import Bench, Setting
from tools.bench.listening import Shipped, Spoken
from tools.bench.load import Record, maker_of, of_one_good, record_of
from tools.bench.verdict import number_of
from tools.sample.goods import Good, bench_goods
from tools.stack import Stack
from tools.stack_state import STOP_SECONDS

ORDERS, SHORT_ORDERS = 20_000, 2_000
ORDERS_A_UNIT = 20
SPREAD_SKUS = 50
WORKERS = 4
RELAY_SLACK_SECONDS = 1.0
"""Two workers' events may reach the broker in another order than they were decided in, but by far less than this."""
_SOLD = "SELECT coalesce(-sum(on_hand), 0) FROM movement WHERE kind = 'shipped' AND sku_id = ANY($1::text[])"
_BACKORDERED = "SELECT count(*) FROM stock_order WHERE state = 'backordered' AND skus && $1::text[]"
SHIP_STALL_SECONDS = 20.0
RESERVED, BACKORDERED = "stock.reserved", "stock.backordered"


async def run(setting: Setting) -> dict[str, Any]:
    terminal, goods = setting.terminal, bench_goods(SPREAD_SKUS + 1)
    hot, spread = goods[:1], goods[1:]
    round_to = ORDERS_A_UNIT * SPREAD_SKUS
    orders = max(1, setting.count(ORDERS, SHORT_ORDERS) // round_to) * round_to
    units = orders // ORDERS_A_UNIT
    async with fresh_stack(terminal, replicas={"inventory": WORKERS}) as stack:
        with terminal.step("Bench data") as step:
            place = open_places()[0]
            await seed_master_data(stack, open_places(), goods)
            # All of it at one place: routing and shipping are not what is asked about here.
            there = [(hot[0], units), *((good, units // SPREAD_SKUS) for good in spread)]
            await seed_units(stack, {place.place_id: there})
            step.done = f"{orders:,} orders for {units:,} units"
        async with Shipped(stack) as shipped:
            # The spread ones first: whatever is colder in the first half makes the hot ones look better by little only.
            with terminal.step("Many SKUs") as step:
                apart, _ = await _contend(stack, shipped, spread, orders, "S")
                step.done = f"{SPREAD_SKUS} SKUs: {apart['orders_per_second']:.0f} decisions/s"
            with terminal.step("One SKU") as step:
                found, meter = await _contend(stack, shipped, hot, orders, "H")
                step.done = f"one SKU: {found['orders_per_second']:.0f} decisions/s"
        with terminal.step("Coherence") as step:
            failed = await incoherent(stack)
            step.done = f"NOT coherent: {', '.join(failed)}" if failed else "coherent"
        return {
            "orders": orders,
            "workers": WORKERS,
            "units": units,
            **found,
            "unsold": units - found["sold"],
            "spread": apart,
            "hot_to_spread": round(found["orders_per_second"] / apart["orders_per_second"], 3),
            **meter.costs(orders),
            "coherent": not failed,
            "failed_checks": failed,
        }


async def _contend(
    stack: Stack, shipped: Shipped, goods: Sequence[Good], orders: int, run: str
) -> tuple[dict[str, Any], Meter]:
    """Send one-unit orders for these goods in turn, and let all workers of inventory fall upon them at once."""
    workers = [name for name, member in stack.members.items() if member.service == "inventory"]
    sku_ids, units, before = [good.sku_id for good in goods], orders // ORDERS_A_UNIT, len(shipped.at)
    for name in workers:
        stack.kill(name, signal.SIGTERM)
    # One that is still draining would decide some of them before anybody looks.
    for name in workers:
        if (child := stack.members[name].child) is not None:
            await asyncio.wait_for(child.wait(), STOP_SECONDS)
    async with Spoken(stack, "order.audited", from_now=True) as audited:
        await send_all(stack, _records(goods, orders, run))
        if not await audited.until(audited.subjects, orders):
            raise TimeoutError(f"audit cleared only {audited.subjects():,} of {orders:,} orders")
    async with Meter(stack) as meter, Spoken(stack, RESERVED, BACKORDERED, from_now=True) as decided:
        await asyncio.gather(*(stack.start(name) for name in workers))
        if not await decided.until(decided.subjects, orders):
            raise TimeoutError(f"inventory decided only {decided.subjects():,} of {orders:,} orders")
        await shipped.until(lambda: len(shipped.at), before + units, stall_seconds=SHIP_STALL_SECONDS)
    reserved, backordered = decided.first[RESERVED], decided.first[BACKORDERED]
    moments = [*reserved.values(), *backordered.values()]
    last_reserved = max(reserved.values())
    return {
        "orders_per_second": round(orders / (max(moments) - min(moments)), 1),
        "sold": await number_of(stack, "inventory", _SOLD, sku_ids),
        "backordered": await number_of(stack, "inventory", _BACKORDERED, sku_ids),
        # No goods come in, so a unit that somebody got after another was turned away was there for that other one.
        "backordered_while_left": sum(at < last_reserved - RELAY_SLACK_SECONDS for at in backordered.values()),
    }, meter


def _records(goods: Sequence[Good], orders: int, run: str) -> Iterator[Record]:
    maker = maker_of(list(goods), run=run)
    for number in range(orders):
        yield record_of("good", of_one_good(maker, goods[number % len(goods)]))


HOT_SKU = Bench(
    "hot_sku",
    "many orders for few units of one SKU, four workers of inventory",
    run,
    (
        Figure("hot_to_spread", "higher", 0.8),
        Figure("orders_per_second", "higher"),
        Figure("unsold", "lower", 0),
        Figure("backordered_while_left", "lower", 0),
        Figure("cpu_ms_per_order_total", "lower"),
    ),
    steps=4,
)
