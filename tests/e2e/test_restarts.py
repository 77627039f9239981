"""Processes are killed while orders are under way; nothing is lost and nothing is done twice (the coherence test says so)."""

from __future__ import annotations

import asyncio

import pytest
from e2e_support import Publish, Shop, body_of

from tools.stack import Stack

ORDERS = 120


@pytest.mark.parametrize("victim", ["inventory", "audit", "ledger", "fulfillment", "router", "ingest", "kafka", "postgres"])
async def test_a_killed_process_comes_back_and_everything_drains(
    shop: Shop, stack: Stack, publish: Publish, victim: str
) -> None:
    """Fails when a commit, a send or an offset is lost with the process, or comes twice."""
    good = await shop.stocked(ORDERS)
    orders = [shop.order(good, channel="jd") for _ in range(ORDERS)]
    await asyncio.gather(*(publish("channel.orders", body_of(order)) for order in orders))
    await shop.reaches(orders[0], "received", "cleared", "reserved", "routed", "allocated", "shipped", "delivered")

    stack.kill(victim)
    await stack.start(victim)

    for order in orders:
        await shop.reaches(order, "delivered")
    (stock,) = (await shop.oms.get("inventory", "/v1/stock", sku_id=good.sku_id))["items"]
    assert (stock["on_hand"], stock["allocated"], stock["reserved"]) == (0, 0, 0)
