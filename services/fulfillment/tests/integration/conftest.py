"""Fulfilment's runtime and API on a real Postgres, driven step by step."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from fastapi import FastAPI
from sqlalchemy import text

from contracts import ReceiverSealed, StockAllocated
from eventing import create_engine
from eventing.testing import FakeClock, Harness, SeededIds
from fulfillment.app import build, build_runtime
from fulfillment.clients import Wms
from fulfillment.settings import Settings
from webapi.testing import as_caller

KEK = bytes(range(32))
WMS_SECRET = "a-secret-of-the-demo-wms"
RECEIVER = {
    "name": "欧阳娜娜",
    "phone": "13800138000",
    "province": "北京市",
    "city": "北京市",
    "district": "朝阳区",
    "street": "建国路88号",
}
NOW = datetime(2026, 11, 11, 0, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Service:
    """What a test drives: the runtime's harness, and the API on the same runtime."""

    harness: Harness
    app: FastAPI

    def caller(self, *roles: str) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        return as_caller(self.app, roles=roles or ("admin",))

    async def get(self, path: str, *roles: str, **params: Any) -> Any:
        """The body of a GET that succeeds."""
        async with self.caller(*roles) as http:
            response = await http.get(path, params=params)
            assert response.status_code == 200, response.text
            return response.json()

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        async with self.harness.runtime.engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(text(query))]

    async def execute(self, statement: str) -> None:
        async with self.harness.runtime.engine.begin() as connection:
            await connection.execute(text(statement))


@pytest.fixture
async def start(migrated_database: Callable[[str], Awaitable[str]]) -> AsyncIterator[Callable[..., Awaitable[Service]]]:
    """Start fulfilment with these settings: `service = await start(delivery_seconds=60)`."""
    async with AsyncExitStack() as stack:
        urls: list[str] = []
        seeds = itertools.count(1)  # Two workers must not make the same ids.

        async def one(*, beside: bool = False, wms: httpx.AsyncBaseTransport | None = None, **changes: Any) -> Service:
            """`beside`: another worker on the database of the one before; `wms`: what answers as the places' WMS."""
            if not beside:
                urls.append(await migrated_database("fulfillment"))
            key = base64.b64encode(KEK).decode()
            settings = Settings(
                database_url=urls[-1], receiver_kek=key, seal_key=key, wms_secrets={"demo": WMS_SECRET}, **changes
            )
            client = Wms(settings.wms_keys(), transport=wms)
            stack.push_async_callback(client.aclose)
            engine = create_engine(urls[-1], pool_size=4)
            stack.push_async_callback(engine.dispose)
            harness = Harness(
                partial(build_runtime, settings, engine=engine, wms=client), clock=FakeClock(NOW), ids=SeededIds(next(seeds))
            )
            app = build(settings, "all")
            app.state.runtime = harness.runtime
            return Service(harness, app)

        yield one


@pytest.fixture
def an_allocated() -> Callable[..., StockAllocated]:
    """An allocated order with two lines: `an_allocated(kind="pick_up", order={"presale": True})`."""
    return _allocated


@pytest.fixture
def a_sealed_receiver() -> Callable[..., ReceiverSealed]:
    return _sealed


def _allocated(
    *,
    order_id: UUID | None = None,
    attempt: int = 1,
    kind: str = "to_ship",
    place_id: str = "WH-HZ1",
    carrier: str | None = "sf",
    landed_cost_minor: int = 830,
    receiver_ref: UUID | None = None,
    handed_over_at: datetime | None = None,
    order: dict[str, Any] | None = None,
) -> StockAllocated:
    order_id = order_id or uuid4()
    skus = (("DRESS01-RED-M", "连衣裙", 2, 420, 12900), ("SOCK02-WHT", "棉袜三双", 1, 150, 5990))
    lines = [
        {
            "line": number,
            "channel_line_id": f"L{number}",
            "sku_id": sku_id,
            "title": title,
            "quantity": quantity,
            "unit_list_price_minor": price,
            "paid_minor": price * quantity,
            "receivable_minor": price * quantity,
            "tax_rate_bp": 1300,
            "tax_minor": 101,
            "unit_weight_grams": grams,
        }
        for number, (sku_id, title, quantity, grams, price) in enumerate(skus, start=1)
    ]
    part_lines = [
        {
            "origin_order_id": str(order_id),
            "origin_line": line["line"],
            "sku_id": line["sku_id"],
            "quantity": line["quantity"],
            "paid_minor": line["paid_minor"],
            "receivable_minor": line["receivable_minor"],
            "tax_minor": 101,
            "unit_weight_grams": line["unit_weight_grams"],
            "unit_cost_minor": 5000,
        }
        for line in lines
    ]
    body = {
        "root_id": str(order_id),
        "order_id": str(order_id),
        "progress": {"step": 2, "stage": "allocated", "code": "stock_allocated"},
        "order": {
            "order_id": str(order_id),
            "channel": "taobao",
            "shop_id": "旗舰店",
            "channel_order_no": "4000000000000000100",
            "source_version": 1,
            "received_at": "2026-11-10T08:20:41Z",
            "placed_at": "2026-11-10T07:58:12Z",
            "trade_state": "to_ship",
            "payment_state": "paid",
            "refund_state": "none",
            "collection": "platform_escrow",
            "currency": "CNY",
            "lines": lines,
            "paid_minor": 31790,
            "receivable_minor": 31790,
            "fulfilment": {
                "kind": kind,
                "place_id": None if kind == "to_ship" else place_id,
                "handed_over_at": handed_over_at and handed_over_at.isoformat(),
            },
            "receiver_ref": receiver_ref and str(receiver_ref),
            **(order or {}),
        },
        "part": {"order_id": str(order_id), "root_id": str(order_id), "lines": part_lines},
        "attempt": attempt,
        "place_id": place_id,
        "place_no": 1,
        "carrier": carrier,
        "landed_cost_minor": landed_cost_minor,
    }
    return StockAllocated.model_validate_json(json.dumps(body))


def _sealed(
    receiver_ref: UUID, *, version: int = 1, deleted: bool = False, kek: bytes = KEK, key_id: str = "1", **receiver: Any
) -> ReceiverSealed:
    clear = json.dumps(RECEIVER | receiver, ensure_ascii=False)
    data_key, nonce = bytes(range(1, 33)), bytes(12)
    return ReceiverSealed.model_construct(
        receiver_ref=receiver_ref,
        version=version,
        deleted=deleted,
        key_id=key_id,
        wrapped_key=aes_key_wrap(kek, data_key),
        nonce=nonce,
        ciphertext=AESGCM(data_key).encrypt(nonce, clear.encode(), str(receiver_ref).encode()),
    )
