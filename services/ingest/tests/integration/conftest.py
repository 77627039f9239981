"""An ingest service on a real Postgres and a fake bus, its HTTP edge, and channel orders to send it."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from contracts import CatalogItem, ChannelOrder
from eventing import RuntimeSettings, create_engine
from eventing.testing import Harness
from ingest import api, tables
from ingest.app import make_gateway, make_runtime, make_tokens
from ingest.settings import Settings
from webapi.app import create_app
from webapi.operators import operator_routes
from webapi.testing import as_caller

KEY = "A" * 43 + "="


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings(
        database_url="postgresql://unused",
        receiver_kek=KEY,
        token_key=KEY,
        seal_key=KEY,
        intake_backlog_check_seconds=0,
        intake_backlog_limit=50,
        wake_batch=3,
    )


@pytest.fixture
def an_order() -> Callable[..., dict[str, Any]]:
    """Make a paid channel order of two lines, in clear."""

    def make(number: str = "T-1", **changes: Any) -> dict[str, Any]:
        return {
            "channel": "taobao",
            "shop_id": "小店",
            "channel_order_no": number,
            "source_version": 100,
            "source_modified_at": "2026-03-01T02:00:05Z",
            "placed_at": "2026-03-01T10:00:00+08:00",
            "paid_at": "2026-03-01T02:00:03Z",
            "lines": [
                {
                    "channel_line_id": "1",
                    "sku_id": "DRESS",
                    "title": "连衣裙",
                    "quantity": 2,
                    "unit_list_price_minor": 12900,
                    "discounts": [{"payer": "shop", "amount_minor": 2000}, {"payer": "platform", "amount_minor": 2397}],
                    "paid_minor": 21403,
                },
                {"channel_line_id": "2", "sku_id": "SOCK", "title": "棉袜", "quantity": 1, "unit_list_price_minor": 5990},
            ],
            "freight_list_minor": 1000,
            "paid_minor": 28393,
            "payments": [{"method": "alipay", "amount_minor": 28393}],
            "receiver": {
                "name": "欧阳小明",
                "phone": "13812345678",
                "province": "浙江省",
                "city": "杭州市",
                "district": "余杭区",
                "street": "文一西路 969 号 3 栋",
            },
            "buyer": {"buyer_id": "buyer-1"},
            "notes": {"buyer_note": "请发顺丰，不要打电话"},
            **changes,
        }

    return make


@pytest.fixture
def event(an_order: Callable[..., dict[str, Any]]) -> Callable[..., ChannelOrder]:
    return lambda number="T-1", **changes: ChannelOrder.model_validate(an_order(number, **changes))


@pytest.fixture
def an_item() -> Callable[..., CatalogItem]:
    def make(sku_id: str, **changes: Any) -> CatalogItem:
        item = {"sku_id": sku_id, "version": 1, "name": sku_id, "weight_grams": 400, "tax_rate_bp": 1300}
        return CatalogItem.model_validate(item | {"standard_cost_minor": 5000} | changes)

    return make


@pytest.fixture
async def bare(migrated_database: Callable[[str], Any], settings: Settings) -> AsyncIterator[Harness]:
    """Without a catalogue."""
    engine = create_engine(await migrated_database("ingest"), pool_size=5)
    gateway = make_gateway(settings, make_tokens(settings))
    yield Harness(partial(make_runtime, engine, runtime_settings=RuntimeSettings(), settings=settings, gateway=gateway))
    await engine.dispose()


@pytest.fixture
async def harness(bare: Harness, an_item: Callable[..., CatalogItem]) -> Harness:
    """With the items of the usual order."""
    await bare.apply([an_item("DRESS"), an_item("SOCK", tax_rate_bp=900)])
    return bare


@pytest.fixture(scope="session")
def built(settings: Settings) -> FastAPI:
    """Built once: making routes and their models takes longer than most tests."""
    return create_app(
        service="ingest",
        title="Ingest",
        version="test",
        settings=settings,
        routers=[*api.ROUTERS, operator_routes(api.runtime_of, tables.manual_act)],
    )


@pytest.fixture
def app(built: FastAPI, bare: Harness, settings: Settings) -> FastAPI:
    built.state.runtime = bare.runtime
    built.state.tokens = make_tokens(settings)
    built.state.gateway = make_gateway(settings, built.state.tokens)
    built.state.backlog = api.Backlog()
    built.state.gathering = api.Gathering()
    return built


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with as_caller(app, roles=["admin"], principal="mei") as client:
        yield client
