"""A router service on a real Postgres and a fake bus, its HTTP edge, places and reserved orders to send it."""

import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI

from contracts import CatalogLocation, StockReserved
from eventing import RuntimeSettings, create_engine
from eventing.testing import Harness
from router import api, tables
from router.app import make_runtime, runtime_of
from router.handlers import Routing
from router.settings import Settings
from webapi.app import create_app
from webapi.operators import operator_routes
from webapi.testing import as_caller

EXAMPLES = Path(__file__).parents[4] / "libs/contracts/examples"


@pytest.fixture
def an_order() -> Callable[..., StockReserved]:
    """Make a reserved order of 990 g to Hangzhou, offered to places 1 and 2."""
    example = (EXAMPLES / "stock.reserved.StockReserved.v1.json").read_text()

    def make(order_id: UUID | None = None, *, order: dict[str, Any] | None = None, **event: Any) -> StockReserved:
        given = json.loads(example.replace(json.loads(example)["order_id"], str(order_id or uuid4())))
        given["order"]["wanted_carrier"] = None
        given["places"] = [[1, 10, [35, 210]], [2, 10, [4, 12]]]
        for name, value in (order or {}).items():
            if name in given["order"]["destination"]:
                given["order"]["destination"][name] = value
            else:
                given["order"][name] = value
        return StockReserved.model_validate_json(json.dumps(given | event))

    return make


@pytest.fixture
def a_place() -> Callable[..., CatalogLocation]:
    example = json.loads((EXAMPLES / "catalog.location.CatalogLocation.v1.json").read_text())

    def make(place_no: int, **changes: Any) -> CatalogLocation:
        own = {"place_no": place_no, "place_id": f"W{place_no}", "name": f"{place_no}号仓", "coverage": [""]}
        return CatalogLocation.model_validate(example | own | changes)

    return make


@pytest.fixture
async def routing() -> Routing:
    return Routing()


@pytest.fixture
async def harness(migrated_database: Callable[[str], Any], routing: Routing) -> AsyncIterator[Harness]:
    engine = create_engine(await migrated_database("router"), pool_size=4)
    yield Harness(
        partial(make_runtime, engine, settings=RuntimeSettings(order_partitions=4), routing=routing, decision_days=90)
    )
    await engine.dispose()


@pytest.fixture
def app(harness: Harness) -> FastAPI:
    made = create_app(
        service="router",
        title="Router",
        version="test",
        settings=Settings(database_url="postgresql://unused", seal_key="A" * 43 + "="),
        routers=[*api.routers, operator_routes(runtime_of, tables.manual_act)],
    )
    made.state.runtime = harness.runtime
    made.state.routing = Routing()  # A replica of its own: what it learns, it learns from the database.
    return made


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with as_caller(app, roles=["admin"], principal="mei") as client:
        yield client
