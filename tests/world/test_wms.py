"""The whole world with the demo WMS at one of its places: both speak HTTP, in one process, by the real clock."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tools.wms.app import DemoWms, build
from tools.wms.floor import Dials

from .baseline import Baseline, taken
from .services import WMS_SECRET
from .shop import Shop, seed, settled
from .world import make_world

SECONDS = 20.0
NEVER = 3600.0
Open = Callable[..., Awaitable[tuple[Shop, DemoWms, str]]]


class Late(httpx.AsyncBaseTransport):
    """A way to an application that is not there yet when the client is made."""

    app: Any = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await httpx.ASGITransport(self.app).handle_async_request(request)


@dataclass(frozen=True)
class Ways:
    """The two ways between the world and whatever WMS there is now."""

    to_oms: Late = field(default_factory=Late)
    to_wms: Late = field(default_factory=Late)


@pytest_asyncio.fixture(scope="module")
async def beside(postgres_server: str, migrated: Callable[[str], Awaitable[str]]) -> AsyncIterator[tuple[Baseline, Ways]]:
    """A world that goes by the real clock, for signatures do, and the ways to and from its WMS."""
    ways = Ways()
    async with make_world(migrated, now=datetime.now(UTC), wms=ways.to_wms) as world:
        ways.to_oms.app = world.services["fulfillment"].app
        await seed(world)
        async with taken(world, postgres_server) as baseline:
            yield baseline, ways


@pytest_asyncio.fixture
async def open_wms(beside: tuple[Baseline, Ways]) -> AsyncIterator[Open]:
    """`shop, wms, place_id = await open_wms(pick_seconds=0.1)`: a shop with a place that this WMS drives."""
    baseline, ways = beside
    await baseline.restore()
    baseline.world.clock.set(datetime.now(UTC))
    wms = DemoWms(Dials(), oms_url="http://oms", secret=WMS_SECRET.encode(), transport=ways.to_oms)
    ways.to_wms.app = build(wms)
    shop = Shop(baseline.world)

    async def open_one(**dials: Any) -> tuple[Shop, DemoWms, str]:
        wms.floor.dials = Dials(**dials)
        return shop, wms, await shop.place("http", base_url="http://wms", secret_name="demo")

    yield open_one
    await wms.close()


async def until(shop: Shop, holds: Callable[[], Awaitable[bool]]) -> None:
    """Let the world go on by the real clock until something holds."""
    deadline = time.monotonic() + SECONDS
    while True:
        shop.world.clock.set(datetime.now(UTC))
        await shop.world.settle()
        if await holds():
            return
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(0.02)


async def check(shop: Shop) -> None:
    """All adds up; by the real clock a timer may be due at any moment."""
    await until(shop, always)
    await shop.world.check(but=("no_task_due",))


async def always() -> bool:
    return True


async def test_orders_leave_the_wms_short_and_in_parcels(open_wms: Open) -> None:
    """Fails when a parcel, its money or the unit that was not found is lost between the WMS and the books."""
    shop, wms, place_id = await open_wms(pick_seconds=0.02, ship_seconds=0.02, short_rate=1.0, parcels=2, duplicate_rate=1.0)
    good = await shop.good(3, place_id=place_id)
    order = shop.order(good, 3)
    await shop.send(order)

    async def left() -> bool:
        return len(await shop.shipments(order)) == 2

    await until(shop, left)
    assert await shop.parts(order) == Counter(shipped=1, backordered=1)
    assert wms.refused == []
    await check(shop)
    await shop.receive(good, 1)

    async def all_left() -> bool:
        return (await shop.parts(order))["backordered"] == 0 and len(await shop.shipments(order)) == 3

    await until(shop, all_left)
    assert (await shop.stock(good))["on_hand"] == 0
    await check(shop)


@pytest.mark.parametrize("pending_stops", [False, True], ids=["answered at once", "answered by call-back"])
@pytest.mark.parametrize("stops_only_whole", [False, True], ids=["by unit", "only whole"])
async def test_a_cancel_stops_what_the_wms_has_not_picked(open_wms: Open, pending_stops: bool, stops_only_whole: bool) -> None:
    """Fails when a stop takes more than was asked, or what comes back beyond it is not shipped anew."""
    dials: dict[str, Any] = {"pending_stops": pending_stops, "stops_only_whole": stops_only_whole}
    shop, wms, place_id = await open_wms(pick_seconds=NEVER, **dials)
    good = await shop.good(5, place_id=place_id)
    order = shop.order(good, 5)
    await shop.send(order)
    wms.floor.dials = Dials(pick_seconds=0, ship_seconds=0, **dials)  # For what is shipped anew.
    request = await shop.cancel(order, (1, 2))

    async def answered() -> bool:
        return bool((await shop.request(request["request_id"]))["state"] == "closed")

    await until(shop, answered)
    assert settled(await shop.request(request["request_id"])) == [(2, 0, "cancelled_stopped")]
    if not stops_only_whole:
        await shop.at_place(order, "shipment", parcels=[{}], final=True)

    async def left() -> bool:
        return (await shop.stock(good))["on_hand"] == 2

    await until(shop, left)
    assert await shop.stock(good) == {"on_hand": 2, "allocated": 0, "reserved": 0, "atp": 2}
    assert wms.refused == []
    await check(shop)


async def test_a_picked_order_refuses_the_cancel_and_leaves(open_wms: Open) -> None:
    """Fails when a refusal is taken for a stop: the units would be cancelled and shipped."""
    shop, wms, place_id = await open_wms(pick_seconds=0, ship_seconds=NEVER)
    good = await shop.good(2, place_id=place_id)
    order = shop.order(good, 2)
    await shop.send(order)

    async def picked() -> bool:
        return {job.state for job in wms.floor.jobs.values()} == {"picked"}

    await until(shop, picked)
    assert settled(await shop.cancel(order)) == [(0, 2, "too_late")]
    await check(shop)
    await shop.at_place(order, "shipment", parcels=[{}], final=True)
    assert await shop.stage(order) == "shipped"
    await check(shop)
