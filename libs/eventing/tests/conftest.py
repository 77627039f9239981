"""Databases with the runtime's tables and the sample service's; both kinds of bus; short times."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from eventing import AesGcmSealer, RuntimeSettings, create_engine, database
from eventing.testing import install

sys.path.insert(0, str(Path(__file__).parent))

FAST: dict[str, Any] = {
    "order_partitions": 4,
    "fetch_min_bytes": 1,
    "session_seconds": 1.5,
    "heartbeat_seconds": 0.4,
    "revoke_seconds": 1.0,
    "retry_seconds": 0.3,
    "drain_poll_seconds": 0.1,
    "relay_lease_seconds": 1.5,
    "relay_renew_seconds": 0.4,
    "relay_guard_seconds": 0.4,
    "relay_send_seconds": 1.0,
    "relay_floor_seconds": 0.1,
    "task_idle_seconds": 0.05,
    "task_lease_seconds": 1.0,
    "waiting_sweep_seconds": 0.3,
    "stop_seconds": 5.0,
}


@pytest.fixture
def settings() -> Callable[..., RuntimeSettings]:
    """Make settings whose times are short."""

    def make(**more: Any) -> RuntimeSettings:
        return RuntimeSettings(**FAST | {"seal": AesGcmSealer(b"k" * 32)} | more)

    return make


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


@pytest.fixture(params=["fake", pytest.param("kafka", marks=pytest.mark.kafka)])
def bootstrap(request: pytest.FixtureRequest) -> str | None:
    """The real broker's address, or None for the fake one; only who asks for the real one starts it."""
    return request.getfixturevalue("kafka_bootstrap") if request.param == "kafka" else None


@pytest.fixture
async def bus(bootstrap: str | None, topic_prefix: str) -> AsyncIterator[Any]:
    import eventing_buses
    import eventing_sample

    if bootstrap is None:
        yield eventing_buses.FakeBusAlike(eventing_sample.TOPICS)
        return
    real = eventing_buses.RealBus(bootstrap, topic_prefix, eventing_sample.TOPICS)
    await real.start()
    yield real
    await real.close()


@pytest.fixture
async def real_bus(kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[Any]:
    import eventing_buses
    import eventing_sample

    real = eventing_buses.RealBus(kafka_bootstrap, topic_prefix, eventing_sample.TOPICS)
    await real.start()
    yield real
    await real.close()


@pytest.fixture
def kept(engine: AsyncEngine) -> Callable[..., Awaitable[dict[str, list[int]]]]:
    """Read what the sample service has kept: numbers in the order of their commits, by key."""

    async def read() -> dict[str, list[int]]:
        async with database.begin(engine) as connection:
            rows = (await connection.execute(text("SELECT key, number FROM kept ORDER BY id"))).all()
        found: dict[str, list[int]] = {}
        for row in rows:
            found.setdefault(row.key, []).append(row.number)
        return found

    return read
