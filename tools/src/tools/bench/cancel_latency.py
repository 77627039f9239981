"""How long a cancel takes, from the moment it is asked for to the settlement, while other orders pass by.

Three kinds are asked in turn: held by a rule (audit settles), waiting for goods (inventory), and at a WMS that must be asked
to stop (fulfillment asks, inventory settles).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

from tools.bench.feeder import Pace
from tools.bench.figures import Figure, due_count, intended_at, latencies
from tools.bench.ground import SKUS, Meter, fresh_stack, incoherent, seed_plenty, seed_units
from tools.bench.kinds import Bench, Setting
from tools.bench.listening import Shipped, Spoken
from tools.bench.load import HELD_UNITS, Load, grown, make_load, maker_of, of_one_good
from tools.bench.verdict import judge, number_of, order_ids
from tools.client import Clients
from tools.sample.goods import Good, bench_goods
from tools.sample.orders import OrderMaker
from tools.sample.places import THIRD_PARTY
from tools.sample.seed import drive_by_wms, seed_goods, seed_places, wait_for_places
from tools.stack import Stack
from tools.waiting import until

CANCELS, SHORT_CANCELS = 300, 60
"""Of each kind."""
CANCELS_PER_SECOND = 20
PASSING_PER_SECOND = 100
WAIT_SECONDS = 60.0
BATCH = 50
KINDS = ("held", "backordered", "at_wms")
AT_WMS = Good("BENCH-WMS", "三方仓商品", "home", 5900, 2100, 300)
NOWHERE = Good("BENCH-NONE", "无货商品", "home", 3900, 900, 200)
_HELD = "SELECT count(*) FROM order_state WHERE state = 'held'"
_BACKORDERED = "SELECT count(*) FROM stock_order WHERE state = 'backordered'"
_ACCEPTED = "SELECT count(*) FROM fulfilment_order WHERE connector = 'http' AND request_status = 'accepted'"
_GRANTED = """
    SELECT count(*) FROM request AS r WHERE r.kind = 'cancel' AND r.state = 'closed' AND NOT EXISTS (
        SELECT 1 FROM request_line AS l WHERE (l.request_id, l.order_id) = (r.request_id, r.order_id) AND l.cancelled < l.asked)
"""
SETTLED = "cancellation.settled"


async def run(setting: Setting) -> dict[str, Any]:
    terminal, goods = setting.terminal, bench_goods(SKUS)
    each = setting.count(CANCELS, SHORT_CANCELS)
    total = each * len(KINDS)
    passing = int(PASSING_PER_SECOND * (total / CANCELS_PER_SECOND + 5))
    load = make_load(passing, goods, run="P", odd=False)
    async with fresh_stack(terminal, demo_wms=True) as stack, Clients(stack.urls, stack.keys["admin"]) as oms:
        with terminal.step("Bench data") as step:
            await seed_plenty(stack, goods, passing)
            await _add_wms(stack, oms, each)
            orders = _orders(maker_of(goods, run="C"), each)
            order_ids_of = {kind: await _take_in(oms, made) for kind, made in orders.items()}
            await _wait_in_place(stack, each)
            step.done = f"{total:,} orders to cancel, where they must be"
        with terminal.step("Cancels") as step:
            async with Shipped(stack) as shipped, Spoken(stack, SETTLED, from_now=True) as settled, Meter(stack) as meter:
                passing_by = asyncio.create_task(Pace(load.records, PASSING_PER_SECOND).send(stack))
                asked = await _cancel(oms, order_ids_of)
                await passing_by
                if not await settled.until(settled.subjects, total):
                    raise TimeoutError(f"only {settled.subjects():,} of {total:,} cancels were settled")
                await shipped.wait_for(passing)
            waits = {kind: [settled.first[SETTLED][id_] - asked[id_] for id_ in ids] for kind, ids in order_ids_of.items()}
            found = {kind: latencies(seconds) for kind, seconds in waits.items()}
            step.done = ", ".join(f"{kind} {found[kind]['p99_seconds']:.3f} s" for kind in KINDS)
        with terminal.step("Coherence") as step:
            failed = await incoherent(stack)
            step.done = f"NOT coherent: {', '.join(failed)}" if failed else "coherent"
        return {
            "orders": passing + total,
            "cancels": total,
            "refused": total - await number_of(stack, "ingest", _GRANTED),
            "cancels_per_second": CANCELS_PER_SECOND,
            "passing_per_second": PASSING_PER_SECOND,
            **found,
            **await judge(stack, Load(ships=load.ships, held=0), await order_ids(stack, "")),
            **meter.costs(passing + total),
            "coherent": not failed,
            "failed_checks": failed,
        }


async def _add_wms(stack: Stack, oms: Clients, units: int) -> None:
    """Somebody else's warehouse with goods that only it has; its WMS takes ages to pick, so all can still be stopped."""
    await seed_places(oms, [THIRD_PARTY])
    await seed_goods(oms, [AT_WMS, NOWHERE], bundles=False)
    await seed_units(stack, {THIRD_PARTY.place_id: [(AT_WMS, units)]})
    await wait_for_places(oms, [THIRD_PARTY])
    await drive_by_wms(oms, THIRD_PARTY.place_id, stack.wms_url, reason="bench")
    async with httpx.AsyncClient(trust_env=False) as client:
        (await client.put(f"{stack.wms_url}/dials", json={"pick_seconds": 3600.0})).raise_for_status()


def _orders(maker: OrderMaker, each: int) -> dict[str, list[dict[str, Any]]]:
    return {
        "held": [grown(maker.order(), HELD_UNITS) for _ in range(each)],
        "backordered": [of_one_good(maker, NOWHERE) for _ in range(each)],
        "at_wms": [of_one_good(maker, AT_WMS) for _ in range(each)],
    }


async def _take_in(oms: Clients, orders: list[dict[str, Any]]) -> list[str]:
    ids: list[str] = []
    for start in range(0, len(orders), BATCH):
        answer = await oms.post("ingest", "/v1/orders", {"orders": orders[start : start + BATCH]})
        ids += [result["order_id"] for result in answer["results"]]
    return ids


async def _wait_in_place(stack: Stack, each: int) -> None:
    for service, sql in (("audit", _HELD), ("inventory", _BACKORDERED), ("fulfillment", _ACCEPTED)):

        async def there(service: str = service, sql: str = sql) -> bool:
            return await number_of(stack, service, sql) >= each

        await until(there, seconds=WAIT_SECONDS, what=f"{each} orders wait in {service}")


async def _cancel(oms: Clients, order_ids_of: dict[str, list[str]]) -> dict[str, float]:
    """Ask in an open loop, the kinds in turn; when each was meant to be asked for, in seconds since the epoch."""
    turns = [id_ for ids in zip(*order_ids_of.values(), strict=True) for id_ in ids]
    asked: dict[str, float] = {}
    tasks: list[asyncio.Task[Any]] = []
    began = time.time()
    while len(tasks) < len(turns):
        for number in range(len(tasks), due_count(time.time() - began, CANCELS_PER_SECOND, len(turns))):
            asked[turns[number]] = began + intended_at(number, CANCELS_PER_SECOND)
            path = f"/v1/orders/{turns[number]}/cancellation"
            tasks.append(asyncio.create_task(oms.post("ingest", path, {"reason": "buyer_asked"})))
        await asyncio.sleep(0.005)
    await asyncio.gather(*tasks)
    return asked


CANCEL_LATENCY = Bench(
    "cancel_latency",
    "a cancel, from the asking to its settlement, wherever the order is",
    run,
    (
        Figure("at_wms.p99_seconds", "lower"),
        Figure("at_wms.p50_seconds", "lower"),
        Figure("held.p99_seconds", "lower"),
        Figure("held.p50_seconds", "lower"),
        Figure("backordered.p99_seconds", "lower"),
        Figure("backordered.p50_seconds", "lower"),
        Figure("refused", "lower", 0),
        Figure("misshipped", "lower", 0),
        Figure("unshipped", "lower", 0),
    ),
    steps=3,
)
