"""The service on a real Postgres, step by step: `shop` receives events and serves HTTP in one process."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event, text

from eventing import RuntimeSettings, create_engine
from eventing.testing import FakeClock, Harness, SeededIds
from inventory.app import build, make_runtime
from inventory.handlers.context import Inventory
from inventory.settings import Settings
from webapi.testing import as_caller

from .builders import NOW, a_place, an_item

Migrated = Callable[[str], Awaitable[str]]


@dataclass(slots=True)
class Shop:
    """Inventory with its catalogue, its HTTP and its events."""

    harness: Harness
    inventory: Inventory
    app: FastAPI
    http: httpx.AsyncClient
    database_errors: list[str]
    """SQLSTATEs that the database answered with, also those that the runtime recovered from."""

    async def stock_up(self, units: Mapping[str, Mapping[str, int]], **place: Any) -> None:
        """Make SKUs and places, and receive units: {place: {SKU: units}}."""
        skus = sorted({sku for of_place in units.values() for sku in of_place})
        await self.put_items(*skus)
        await self.ok("PUT", "/v1/locations", {"locations": [a_place(place_id, **place) for place_id in units]})
        for place_id, of_place in units.items():
            if any(of_place.values()):
                await self.receive_goods(place_id, {sku: count for sku, count in of_place.items() if count})
        await self.harness.emitted()

    async def put_items(self, *skus: str) -> None:
        await self.ok("PUT", "/v1/items", {"items": [an_item(sku) for sku in skus]})

    async def receive_goods(self, place_id: str, units: Mapping[str, int]) -> None:
        body = {
            "reference": f"收货-{self.harness.ids.new_id()}",
            "place_id": place_id,
            "lines": [{"sku_id": sku, "quantity": count} for sku, count in units.items()],
        }
        await self.ok("POST", "/v1/receipts", body)
        await self.harness.emitted()  # What the books are told is not these tests' concern.

    async def adjust(self, place_id: str, sku: str, quantity: int) -> None:
        body = {
            "reference": f"盘点-{self.harness.ids.new_id()}",
            "place_id": place_id,
            "reason": "count",
            "lines": [{"sku_id": sku, "quantity": quantity, "reason_code": "count"}],
        }
        await self.ok("POST", "/v1/adjustments", body)
        await self.harness.emitted()

    async def ok(self, method: str, path: str, body: object = None) -> Any:
        answer = await self.http.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def stock(self, sku: str) -> Any:
        """The pool's terms and the places' counts of one SKU."""
        (level,) = (await self.ok("GET", f"/v1/stock?sku_id={sku}"))["items"]
        return level

    async def place_nos(self) -> dict[str, int]:
        places = (await self.ok("GET", "/v1/locations"))["items"]
        return {place["place_id"]: place["place_no"] for place in places}

    async def rows(self, statement: str) -> list[Any]:
        async with self.harness.runtime.work() as work:
            return list((await work.connection.execute(text(statement))).all())


@pytest.fixture
async def make_shop(migrated_database: Migrated) -> AsyncIterator[Callable[..., Awaitable[Shop]]]:
    """Make inventories; several of one database (`url=`) are several workers."""
    seeds = itertools.count(1)  # Workers of one database must not make the same ids.
    async with AsyncExitStack() as stack:

        async def make(url: str | None = None, **settings: Any) -> Shop:
            url = url or await migrated_database("inventory")
            own = Settings(database_url=url, seal_key="A" * 43 + "=", **settings)  # type: ignore[arg-type]
            inventory = Inventory(own)
            engine = create_engine(url)
            stack.push_async_callback(engine.dispose)
            errors: list[str] = []
            event.listen(
                engine.sync_engine,
                "handle_error",
                lambda context: errors.append(getattr(context.original_exception, "sqlstate", "")),
            )
            harness = Harness(
                partial(make_runtime, engine, settings=RuntimeSettings(), inventory=inventory),
                clock=FakeClock(NOW),
                ids=SeededIds(next(seeds)),
            )
            app = build(own, "all")
            app.state.inventory, app.state.runtime = inventory, harness.runtime
            http = await stack.enter_async_context(as_caller(app, roles=["admin"]))
            return Shop(harness, inventory, app, http, errors)

        yield make


@pytest.fixture
async def shop(make_shop: Callable[..., Awaitable[Shop]]) -> Shop:
    return await make_shop()
