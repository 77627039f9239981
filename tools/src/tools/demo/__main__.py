"""`make demo`: brings everything up, feeds it, lets it drain, tells what happened and checks that it all adds up.

Exit status 0 only when every deliberate trouble ended as intended and all invariants hold. `KEEP=1` leaves it running.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from typing import Any

from tools.broker_jars import JarError
from tools.client import ApiError, Clients
from tools.coherence import Outcome, drained, look
from tools.demo.after_sales import AfterSales
from tools.demo.feed import send_over_http, send_over_kafka, send_refused
from tools.demo.report import counted, story, summary
from tools.demo.script import (
    BLACKLISTED_PHONE,
    OUT_OF_STOCK,
    OUT_OF_STOCK_ORDERS,
    SCARCE_ORDERS,
    SCARCE_UNITS,
    Script,
    stock_units,
    write_script,
)
from tools.processes import ProcessError
from tools.sample.goods import LATE
from tools.sample.places import PLACES
from tools.sample.seed import seed_goods, seed_places, seed_rules, seed_stock, wait_for_places
from tools.stack import Stack, StackError
from tools.terminal import Terminal
from tools.topics import TopicError
from tools.waiting import until

NAME = "demo"
DELIVERY_SECONDS = "1"
SETTLE_SECONDS = 60.0
HALF_A_MESSAGE = b'{"channel": "pdd", "shop_id": "pdd-mall-77", "channel_ord'


class Unexpected(Exception):  # noqa: N818  it is what the demo found, in words
    """Something did not end as intended; says which command shows it."""


class Demo:
    """One run, step by step, on a stack that is up."""

    def __init__(self, stack: Stack, oms: Clients, terminal: Terminal) -> None:
        self._stack = stack
        self._oms = oms
        self._terminal = terminal
        self._script: Script = write_script()
        self._after_sales = AfterSales(oms, self._script, wms_url=stack.wms_url, detail=self._detail, intended=self._intended)

    async def run(self) -> list[Outcome]:
        terminal = self._terminal
        with terminal.step("Sample data") as step:
            await self._seed()
            step.done = f"{len(PLACES)} places, goods, stock, freight tables and rules set up"
        with terminal.step("Orders") as step:
            step.done = await self._feed()
        with terminal.step("Trouble on purpose") as step:
            await self._trouble()
            step.done = "trouble ended as intended"
        with terminal.step("Cancels, changes, returns") as step:
            await self._after_sales.run()
            step.done = "each was caught at its stage"
        with terminal.step("Draining") as step:
            await self._drain()
            step.done = "everything drained"
        with terminal.step("Coherence") as step:
            outcomes = await self._check()
            step.done = f"{sum(outcome.holds for outcome in outcomes)} of {len(outcomes)} checks hold"
        terminal.say()
        await summary(self._oms, terminal)
        await story(self._oms, terminal, await self._told())
        return outcomes

    async def _seed(self) -> None:
        oms = self._oms
        await seed_places(oms)
        await seed_goods(oms)
        await seed_rules(oms)
        for place in PLACES:
            await seed_stock(oms, place.place_id, stock_units(place.place_id), reference=f"opening-{place.place_id}")
        tokens = await oms.post("ingest", "/v1/tokens", {"phone": BLACKLISTED_PHONE, "reason": "sample data"})
        entry = {"kind": "phone", "token": tokens["phone_token"]}
        await oms.post("audit", "/v1/blacklist", {"reason": "refused three parcels", "entries": [entry]})
        await wait_for_places(oms)
        await self._after_sales.seed()

    async def _feed(self) -> str:
        script, topic = self._script, f"{self._stack.topic_prefix}channel.orders"
        watching = asyncio.create_task(self._watch())
        try:
            servers = self._stack.bootstrap_servers
            sent = await send_over_kafka(servers, topic, [*script.over_kafka, *script.again, HALF_A_MESSAGE])
            outcomes = await send_over_http(self._oms, script.over_http)
            again = await send_over_http(self._oms, script.again[:5])
            await until(self._all_taken, seconds=SETTLE_SECONDS, what=f"{script.taken()} orders in the order book")
        finally:
            watching.cancel()
        if again != Counter(duplicate=5):
            raise Unexpected(f"orders sent again over HTTP should be duplicates, were: {counted(again)}")
        return f"{sum(outcomes.values())} over HTTP ({counted(outcomes)}), {sent} over Kafka"

    async def _all_taken(self) -> bool:
        stages = await self._oms.get("ingest", "/v1/stages")
        return bool(sum(row["count"] for row in stages) >= self._script.taken())

    async def _trouble(self) -> None:
        await self._refusals()
        await self._parked()
        await self._holds()
        await self._shortages()

    async def _refusals(self) -> None:
        for what, said in await send_refused(self._oms, self._script.refused):
            self._intended(f"{what}: refused ({said})")
        quarantined = await until(self._quarantined, seconds=SETTLE_SECONDS, what="half a message in quarantine")
        self._intended(f"half a message on channel.orders: quarantined ({quarantined[0]['reason']})")
        self._intended(f"{len(self._script.again) + 5} repeats: taken once each")

    async def _quarantined(self) -> list[dict[str, Any]]:
        return [row async for row in self._oms.pages("ingest", "/v1/operations/quarantined")]

    async def _parked(self) -> None:
        late = self._script.late
        await until(lambda: self._all_in(late, {"parked"}), seconds=SETTLE_SECONDS, what="orders of an unknown SKU are parked")
        await self._oms.put("inventory", "/v1/items", {"items": [LATE.item()]})
        await seed_stock(self._oms, PLACES[0].place_id, [(LATE, 50)], reference="late-arrival")
        await until(
            lambda: self._all_in(late, {"shipped", "delivered"}),
            seconds=SETTLE_SECONDS,
            what="parked orders went on and shipped",
        )
        self._intended(f"{len(late)} orders of an unknown SKU: parked, shipped once the item was in the catalogue")

    async def _holds(self) -> None:
        for kind, orders in self._script.held.items():
            await until(
                lambda orders=orders: self._all_in(orders, {"held"}),  # type: ignore[misc]
                seconds=SETTLE_SECONDS,
                what=f"held for {kind}",
            )
            self._intended(f"{kind}: {len(orders)} held")
        released, rejected = self._script.held["amount"]
        order_id = (await self._detail(released))["order_id"]
        await self._oms.post("audit", f"/v1/orders/{order_id}/release", {"reason": "called the buyer: a company order"})
        order_id = (await self._detail(rejected))["order_id"]
        await self._oms.post("audit", f"/v1/orders/{order_id}/reject", {"reason": "the buyer did not order this"})
        await until(
            lambda: self._all_in([released], {"shipped", "delivered"}), seconds=SETTLE_SECONDS, what="released order shipped"
        )
        await until(lambda: self._all_in([rejected], {"cancelled"}), seconds=SETTLE_SECONDS, what="rejected order cancelled")
        self._intended("one large order released by a person and shipped, one rejected and cancelled")

    async def _shortages(self) -> None:
        oms, waiting = self._oms, self._script.out_of_stock
        await until(
            lambda: self._all_in(waiting, {"backordered"}), seconds=SETTLE_SECONDS, what=f"{OUT_OF_STOCK.sku_id} is short"
        )
        await seed_stock(oms, PLACES[2].place_id, [(OUT_OF_STOCK, OUT_OF_STOCK_ORDERS)], reference="restock")
        await until(
            lambda: self._all_in(waiting, {"shipped", "delivered"}), seconds=SETTLE_SECONDS, what="back-orders woke and shipped"
        )
        self._intended(f"{len(waiting)} back-orders: shipped as soon as goods came in")
        shipped = await until(self._scarce_settled, seconds=SETTLE_SECONDS, what="the limited gift box is sold out")
        if shipped != SCARCE_UNITS:
            raise Unexpected(f"{SCARCE_UNITS} gift boxes in stock, {shipped} sold; see GET /v1/stock of inventory")
        self._intended(f"limited gift box: {SCARCE_ORDERS} orders, {SCARCE_UNITS} units, {shipped} sold, the rest back-ordered")

    async def _scarce_settled(self) -> int:
        stages = Counter([(await self._detail(order))["stage"] for order in self._script.scarce])
        gone = stages["shipped"] + stages["delivered"]
        return gone if gone + stages["backordered"] == SCARCE_ORDERS else 0

    async def _all_in(self, orders: list[dict[str, Any]], stages: set[str]) -> bool:
        for order in orders:
            try:
                if (await self._detail(order))["stage"] not in stages:
                    return False
            except ApiError as error:
                if error.status != 404:
                    raise
                return False
        return True

    async def _detail(self, order: dict[str, Any]) -> dict[str, Any]:
        path = f"/v1/orders/by-channel/{order['channel']}/{order['shop_id']}/{order['channel_order_no']}"
        detail: dict[str, Any] = await self._oms.get("ingest", path)
        return detail

    async def _drain(self) -> None:
        stack = self._stack
        watching = asyncio.create_task(self._watch())
        try:
            # Deliveries are timers: they are due a moment after the parcel left.
            await until(self._all_delivered, seconds=SETTLE_SECONDS, what="every parcel delivered")
            busy = await drained(
                stack.read_only_database_urls, stack.bootstrap_servers, stack.topic_prefix, seconds=SETTLE_SECONDS
            )
        finally:
            watching.cancel()
        if busy:
            found = "; ".join(f"{outcome.check.name}: {outcome.findings[0]}" for outcome in busy)
            raise Unexpected(f"not drained within {SETTLE_SECONDS:g} s: {found}")

    async def _all_delivered(self) -> bool:
        stages = {row["stage"]: row["count"] for row in await self._oms.get("ingest", "/v1/stages")}
        return stages.keys() <= {"delivered", "held", "backordered", "cancelled"}

    async def _check(self) -> list[Outcome]:
        stack = self._stack
        return await look(stack.read_only_database_urls, stack.bootstrap_servers, stack.topic_prefix)

    async def _told(self) -> dict[str, Any]:
        """The order whose story is told: several lines, delivered, sent to a place that had a choice."""
        for order in self._script.over_kafka:
            if len(order["lines"]) > 1 and (await self._detail(order))["stage"] == "delivered":
                return order
        return self._script.over_kafka[0]

    async def _watch(self) -> None:
        while True:
            stages = Counter({row["stage"]: row["count"] for row in await self._oms.get("ingest", "/v1/stages")})
            shipped = stages["shipped"] + stages["delivered"]
            self._terminal.live(f"      received {sum(stages.values())} · held {stages['held']} · shipped {shipped}")
            await asyncio.sleep(0.3)

    def _intended(self, text: str) -> None:
        self._terminal.say(f"      as intended: {text}", "dim")


async def _run(terminal: Terminal, *, keep: bool) -> int:
    env = {"fulfillment": {"OMS_FULFILLMENT_DELIVERY_SECONDS": DELIVERY_SECONDS}}
    terminal.add_steps(6)
    async with Stack(NAME, clean=True, terminal=terminal, env=env, demo_wms=True) as stack:
        async with Clients(stack.urls, stack.keys["admin"]) as oms:
            outcomes = await Demo(stack, oms, terminal).run()
        failed = [outcome for outcome in outcomes if not outcome.holds]
        for outcome in failed:
            terminal.say(f"FAIL {outcome.check.name}: {outcome.check.title}; {outcome.findings[0]}", "red")
            terminal.say(
                f"     KEEP=1 make demo; .venv/bin/python -m tools.coherence --drained --stack demo --only {outcome.check.name}"
            )
        if not failed:
            terminal.say(f"ALL INVARIANTS HOLD ({len(outcomes)} checks)", "bold green")
        terminal.say()
        _try_next(stack, terminal, keep=keep)
        if keep:
            stack.detach()
    return 1 if failed else 0


def _try_next(stack: Stack, terminal: Terminal, *, keep: bool) -> None:
    key = f"$(.venv/bin/python -c \"import json; print(json.load(open('.local/{NAME}/keys.json'))['admin'])\")"
    order = (
        '{"channel":"own_shop","shop_id":"www","channel_order_no":"A-1","source_version":1,'
        '"source_modified_at":"2026-11-11T00:00:00Z","placed_at":"2026-11-11T00:00:00Z","paid_at":"2026-11-11T00:00:05Z",'
        '"lines":[{"channel_line_id":"1","sku_id":"SOCK02-WHT","quantity":2,"unit_list_price_minor":2990}],'
        '"receiver":{"name":"张三","phone":"13800000000","province":"浙江省","city":"杭州市","district":"余杭区","street":"示例路1号"}}'
    )
    ingest = stack.urls["ingest"]
    terminal.say("Left running. Next:" if keep else "Next, after KEEP=1 make demo, which leaves it running:", "bold")
    terminal.say(f"  export OMS_KEY={key}")
    terminal.say(
        f"  curl -s {ingest}/v1/orders -H \"Authorization: Bearer $OMS_KEY\" -H 'Content-Type: application/json' -d '{order}'"
    )
    terminal.say(f'  curl -s {ingest}/v1/orders/by-channel/own_shop/www/A-1 -H "Authorization: Bearer $OMS_KEY"')
    terminal.say("  make down")


def main() -> int:
    terminal = Terminal(steps=0)
    try:
        return asyncio.run(_run(terminal, keep=os.environ.get("KEEP", "") not in {"", "0"}))
    except (StackError, ProcessError, JarError, TopicError, TimeoutError, ApiError, Unexpected) as error:
        terminal.end_live()
        terminal.say(str(error), "red")
        terminal.say(f"service logs: .local/{NAME}/log/")
        return 1


if __name__ == "__main__":
    sys.exit(main())
