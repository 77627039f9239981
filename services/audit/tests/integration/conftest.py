"""An audit service on a real Postgres and a fake bus, its HTTP edge, and orders to send it."""

import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI

from audit import api, tables
from audit.app import make_runtime, runtime_of
from audit.settings import Settings
from contracts import OrderReceived
from eventing import RuntimeSettings, create_engine
from eventing.testing import Harness
from webapi.app import create_app
from webapi.operators import operator_routes
from webapi.testing import as_caller

EXAMPLE = Path(__file__).parents[4] / "libs/contracts/examples/order.received.OrderReceived.v1.json"


@pytest.fixture
def an_order() -> Callable[..., OrderReceived]:
    """Make a received order, by default one that no rule objects to."""
    example = EXAMPLE.read_text()

    def make(order_id: UUID | None = None, **order: Any) -> OrderReceived:
        given = json.loads(example.replace(json.loads(example)["order_id"], str(order_id or uuid4())))
        for name, value in order.items():
            if name in given["order"]["destination"]:
                given["order"]["destination"][name] = value
            elif name == "quantity":
                given["part"]["lines"][0]["quantity"] = value
            else:
                given["order"][name] = value
        return OrderReceived.model_validate_json(json.dumps(given))

    return make


@pytest.fixture
async def harness(migrated_database: Callable[[str], Any]) -> AsyncIterator[Harness]:
    engine = create_engine(await migrated_database("audit"), pool_size=4)
    yield Harness(partial(make_runtime, engine, settings=RuntimeSettings(order_partitions=4)))
    await engine.dispose()


@pytest.fixture
def app(harness: Harness) -> FastAPI:
    settings = Settings(database_url="postgresql://unused", seal_key="A" * 43 + "=")
    made = create_app(
        service="audit",
        title="Audit",
        version="test",
        settings=settings,
        routers=[api.router, operator_routes(runtime_of, tables.manual_act)],
    )
    made.state.runtime = harness.runtime
    return made


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with as_caller(app, roles=["admin"], principal="mei") as client:
        yield client
