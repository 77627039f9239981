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

from contracts import (
    ChangeRequested,
    Event,
    OrderReceived,
    ReceiptConfirmed,
    RefundSettled,
    ReturnReceived,
    ShipmentCreated,
    ShipmentProgressed,
)
from eventing import RuntimeSettings, create_engine
from eventing.testing import Harness
from eventing.testing.values import FakeClock, SeededIds
from ledger.app import build, make_runtime
from ledger.handlers import Bookkeeper, Folder
from ledger.settings import Settings
from webapi.testing import as_caller

EXAMPLES = Path(__file__).parents[4] / "libs/contracts/examples"
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
        return self._event(OrderReceived, {})

    @property
    def shipped(self) -> ShipmentCreated:
        return self._event(ShipmentCreated, {"shipped_at": self.at})

    @property
    def delivered(self) -> ShipmentProgressed:
        return self._event(ShipmentProgressed, {"state": "delivered", "occurred_at": self.at})

    @property
    def lost(self) -> ShipmentProgressed:
        return self._event(ShipmentProgressed, {"state": "lost", "occurred_at": self.at})

    def changed(self, paid: tuple[int, int], *, request: int = 1) -> ChangeRequested:
        """Line 1's price from the first to the second amount, tax at 13 %."""
        previous, current = (
            {"paid_minor": amount, "receivable_minor": amount, "tax_minor": amount * 13 // 113} for amount in paid
        )
        line = {"origin_order_id": str(self.order_id), "origin_line": 1, "sku_id": "DRESS01-RED-M"}
        request_id = str(uuid5(self.order_id, f"change {request}"))
        return self._event(
            ChangeRequested, {"request_id": request_id, "money": [line | {"previous": previous, "current": current}]}
        )

    def refunded(self, number: int, *lines: tuple[int, int, int, int]) -> RefundSettled:
        """Lines of (origin line, paid, receivable, tax)."""
        names = ("origin_line", "paid_minor", "receivable_minor", "tax_minor")
        refunded = [{"origin_order_id": str(self.order_id)} | dict(zip(names, line, strict=True)) for line in lines]
        fields = {"refund_id": f"RF-{self.order_id}-{number}", "settled_at": self.at, "lines": refunded}
        return self._event(RefundSettled, fields)

    def confirmed(self, number: int, *lines: tuple[int, str, int]) -> ReceiptConfirmed:
        """Lines of (origin line, SKU, units)."""
        names = ("origin_line", "sku_id", "quantity")
        confirmed = [{"origin_order_id": str(self.order_id)} | dict(zip(names, line, strict=True)) for line in lines]
        fields = {"lines": confirmed, "confirmed_at": self.at, "reference": f"confirm-{number}"}
        return self._event(ReceiptConfirmed, fields)

    def returned(self, number: int, *lines: tuple[int, int, str]) -> ReturnReceived:
        """Lines of (index in the parcel, units, grade)."""
        parcel = self.shipped.part.lines
        returned = [
            parcel[index].model_dump(mode="json") | {"quantity": quantity, "grade": grade} for index, quantity, grade in lines
        ]
        fields = {"return_id": str(uuid5(self.order_id, f"return {number}")), "lines": returned, "received_at": self.at}
        return self._event(ReturnReceived, fields)

    @property
    def all(self) -> list[OrderReceived | ShipmentCreated | ShipmentProgressed]:
        return [self.received, self.shipped, self.delivered]

    def parcels(self, event: ShipmentCreated | ShipmentProgressed) -> list[Any]:
        """The same event for two parcels: one unit of the first line with the freight, then the rest."""
        first, second = event.part.lines
        one, rest = first.divide(1)
        return [
            event.model_copy(
                update={
                    "shipment_id": uuid5(self.order_id, f"parcel {number}"),
                    "part": event.part.model_copy(update={"lines": lines, "freight": freight}),
                }
            )
            for number, (lines, freight) in enumerate((([one], event.part.freight), ([rest, second], [])))
        ]

    def _event(self, model: type[Event], fields: dict[str, Any]) -> Any:
        text = (EXAMPLES / f"{model.TOPIC}.{model.TYPE}.v1.json").read_text()
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
