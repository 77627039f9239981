"""One world for all tests here, put back to its beginning before each: places, freight tables and rules, nothing else."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from tools.local_postgres import create_database, drop_database, with_database

from .baseline import Baseline, taken
from .shop import Shop, seed
from .world import World, make_world

Migrated = Callable[[str], Awaitable[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "world":
            item.add_marker(pytest.mark.postgres)


@pytest_asyncio.fixture(scope="session")
async def migrated(postgres_server: str, _templates: Callable[[str], Awaitable[str]]) -> AsyncIterator[Migrated]:
    """As `migrated_database`, for as long as the session lasts."""
    made: list[str] = []

    async def make(service: str) -> str:
        made.append(f"oms_{service}_world_{uuid.uuid4().hex[:8]}")
        await create_database(postgres_server, made[-1], service=service, template=await _templates(service))
        return with_database(postgres_server, made[-1], user=f"oms_{service}", password="only-for-tests")

    yield make
    for database in made:
        await drop_database(postgres_server, database)


@pytest_asyncio.fixture(scope="session")
async def baseline(postgres_server: str, migrated: Migrated) -> AsyncIterator[Baseline]:
    async with make_world(migrated) as world:
        await seed(world)
        async with taken(world, postgres_server) as baseline:
            yield baseline


@pytest_asyncio.fixture
async def world(baseline: Baseline) -> World:
    await baseline.restore()
    return baseline.world


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)
