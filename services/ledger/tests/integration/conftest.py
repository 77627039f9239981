"""A ledger on a real Postgres and a fake bus, its HTTP edge, and the events that an order sends it."""

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from contracts import OrderReceived, ShipmentCreated, ShipmentProgressed
from eventing import RuntimeSettings, create_engine
from eventing.testing import Harness
from eventing.testing.values import FakeClock, SeededIds
from ledger.app import build, make_runtime
from ledger.handlers import Bookkeeper, Folder
from ledger.settings import Settings
from webapi.testing import as_caller

EXAMPLES = Path(__file__).parents[4] / "libs/contracts/examples"
EVENTS = {model.TOPIC: model for model in (OrderReceived, ShipmentCreated, ShipmentProgressed)}
SEAL_KEY = "A" * 43 + "="
NOW = datetime(2026, 11, 24, 4, tzinfo=UTC)


class Story:
    """The events of one order, from the golden examples; `at` is when each of them happened."""

    def __init__(self, order_id: UUID | None = None, *, at: str = "2026-10-23T08:00:03Z", **order: Any) -> None:
        self.order_id = order_id or uuid4()
        self.at = at
        self.order = order

    @property
    def received(self) -> OrderReceived:
        return self._event("order.received", {})

    @property
    def shipped(self) -> ShipmentCreated:
        return self._event("shipment.created", {"shipped_at": self.at})

    @property
    def delivered(self) -> ShipmentProgressed:
        return self._event("shipment.progressed", {"state": "delivered", "occurred_at": self.at})

    @property
    def all(self) -> list[OrderReceived | ShipmentCreated | ShipmentProgressed]:
        return [self.received, self.shipped, self.delivered]

    def _event(self, topic: str, fields: dict[str, Any]) -> Any:
        model = EVENTS[topic]
        text = (EXAMPLES / f"{topic}.{model.TYPE}.v1.json").read_text()
        body = json.loads(text.replace(json.loads(text)["order_id"], str(self.order_id)))
        body |= fields
        body["order"] |= {"paid_at": self.at} | self.order
        if "shipment_id" in body:
            body["shipment_id"] = str(uuid5(self.order_id, "parcel"))
        return model.model_validate(body)


@pytest.fixture
async def engine(migrated_database: Callable[[str], Any]) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(await migrated_database("ledger"), pool_size=6)
    yield engine
    await engine.dispose()


@pytest.fixture
def harness(engine: AsyncEngine) -> Harness:
    return make_harness(engine)


def make_harness(engine: AsyncEngine, *, book: str = "main", ids: SeededIds | None = None) -> Harness:
    folder = Folder(book, every_seconds=5, rows=100)
    settings = RuntimeSettings(order_partitions=4)
    factory = partial(make_runtime, engine, settings=settings, bookkeeper=Bookkeeper(book), folder=folder)
    return Harness(factory, clock=FakeClock(NOW), ids=ids)


@pytest.fixture
def app(harness: Harness) -> FastAPI:
    made = build(Settings(database_url="postgresql://unused", seal_key=SEAL_KEY), "api")
    made.state.runtime = harness.runtime
    return made


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with as_caller(app, roles=["admin"], principal="mei") as client:
        yield client
