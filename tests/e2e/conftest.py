"""One stack for all end-to-end tests. Every test makes its own shop and its own SKUs and waits on its own orders."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from tools.client import Clients
from tools.coherence import drained, look
from tools.sample.seed import seed_places, seed_rules, wait_for_places
from tools.stack import Stack

# importmode=importlib puts no test folder on the path.
sys.path.insert(0, str(Path(__file__).parent))
from e2e_support import SECONDS, DemoWms, Publish, Shop, Waiting, new_shop


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "e2e":
            item.add_marker(pytest.mark.e2e)


@pytest_asyncio.fixture(scope="session")
async def stack() -> AsyncIterator[Stack]:
    env = {"fulfillment": {"OMS_FULFILLMENT_DELIVERY_SECONDS": "0.5"}}
    async with Stack("test", durable=False, env=env, handle_signals=False, demo_wms=True) as running:
        async with Clients(running.urls, running.keys["admin"]) as oms:
            await seed_places(oms)
            await seed_rules(oms)
            await wait_for_places(oms)
        yield running


@pytest_asyncio.fixture(scope="session")
async def oms(stack: Stack) -> AsyncIterator[Clients]:
    async with Clients(stack.urls, stack.keys["admin"]) as clients:
        yield clients


@pytest_asyncio.fixture(scope="session")
async def publish(stack: Stack) -> AsyncIterator[Publish]:
    """Put bytes on a topic as a foreign producer does."""
    producer = AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers, acks="all")
    await producer.start()

    async def put(
        topic: str, body: bytes, *, key: bytes = b"foreign", headers: dict[str, bytes] | None = None
    ) -> RecordMetadata:
        return await producer.send_and_wait(
            f"{stack.topic_prefix}{topic}", body, key=key, headers=list(headers.items()) if headers else None
        )

    yield put
    await producer.stop()


@pytest.fixture
def shop(oms: Clients) -> Shop:
    return new_shop(oms)


@pytest.fixture
def wms(stack: Stack) -> DemoWms:
    return DemoWms(stack.wms_url)


@pytest_asyncio.fixture
async def coherent(stack: Stack) -> AsyncIterator[None]:
    """Whatever a test did: once everything has drained, everything adds up."""
    yield
    databases, servers, prefix = stack.read_only_database_urls, stack.bootstrap_servers, stack.topic_prefix
    busy = await drained(databases, servers, prefix, seconds=SECONDS)
    assert not busy, [(outcome.check.name, outcome.findings[:3]) for outcome in busy]
    failed = [outcome for outcome in await look(databases, servers, prefix) if not outcome.holds]
    assert not failed, [(outcome.check.name, outcome.findings[:3]) for outcome in failed]


@pytest_asyncio.fixture(scope="session", autouse=True)
async def waiting(oms: Clients) -> Waiting:
    """An order that is back-ordered from the session's beginning, and one that was delivered then."""
    shop = new_shop(oms)
    back_ordered, delivered = shop.order(await shop.stocked(0)), shop.order(await shop.stocked(1))
    await shop.send(back_ordered, delivered)
    await shop.reaches(back_ordered, "backordered")
    await shop.reaches(delivered, "delivered")
    return Waiting(shop, back_ordered, delivered)
