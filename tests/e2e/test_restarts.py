"""Processes are killed while orders are under way; nothing is lost and nothing is done twice (the coherence test says so)."""

from __future__ import annotations

import asyncio

import pytest
from e2e_support import SECONDS, Publish, Shop, Waiting, body_of

from tools.stack import Stack
from tools.waiting import until

ORDERS = 200


@pytest.mark.parametrize(
    "victims",
    # Others at work while one is away; all the others away; and what they all stand on.
    [["inventory"], ["ingest", "audit", "router", "fulfillment", "ledger"], ["kafka"], ["postgres"]],
    ids="-".join,
)
async def test_killed_processes_come_back_and_everything_drains(
    shop: Shop, stack: Stack, publish: Publish, victims: list[str]
) -> None:
    """Fails when a commit, a send or an offset is lost with the process, or comes twice."""
    good = await shop.stocked(ORDERS)
    orders = [shop.order(good, channel="jd") for _ in range(ORDERS)]
    await asyncio.gather(*(publish("channel.orders", body_of(order)) for order in orders))
    await until(lambda: shop.detail(orders[0]), seconds=SECONDS, what="the first order in the book", every_seconds=0.02)

    for victim in victims:
        stack.kill(victim)
    await asyncio.gather(*(stack.start(victim) for victim in victims))

    for order in orders:
        await shop.reaches(order, "delivered")
    (stock,) = (await shop.oms.get("inventory", "/v1/stock", sku_id=good.sku_id))["items"]
    assert (stock["on_hand"], stock["allocated"], stock["reserved"]) == (0, 0, 0)


async def test_an_order_without_progress_is_found_by_its_age(waiting: Waiting) -> None:
    """Fails when the order book no longer answers "what is stuck?". Comes late, for the order must have waited a minute."""
    shop = waiting.shop

    async def stuck() -> list[str]:
        rows = [row async for row in shop.oms.pages("ingest", "/v1/orders", shop_id=shop.name, stuck_minutes=1)]
        return [row["channel_order_no"] for row in rows]

    assert await until(stuck, seconds=60 + SECONDS, what="a stuck order", every_seconds=1) == [
        waiting.back_ordered["channel_order_no"]
    ]
    assert await shop.detail(waiting.delivered) is not None
