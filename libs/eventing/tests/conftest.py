"""Databases with the runtime's tables and the sample service's."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from eventing import create_engine, database
from eventing.testing import install

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
async def database_url(empty_database: Callable[[], Awaitable[str]]) -> str:
    import eventing_sample

    url = str(await empty_database())
    engine = create_engine(url)
    await install(engine)
    async with database.begin(engine) as connection:
        for statement in eventing_sample.SCHEMA.split(";"):
            await connection.exec_driver_sql(statement)
    await engine.dispose()
    return url


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url, pool_size=10)
    yield engine
    await engine.dispose()
