"""A real broker of its own, stopped and started again in mid-stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from eventing_buses import RealBus, outgoing
from eventing_sample import TOPICS, NumberKept, NumberTold, build
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from eventing import KafkaBroker, RuntimeSettings, database
from tools.local_kafka import LocalKafka
from tools.processes import Watchdog

pytestmark = pytest.mark.kafka
Kept = Callable[[], Awaitable[dict[str, list[int]]]]


@pytest.fixture
async def own_kafka(tmp_path: Path, watchdog: Watchdog) -> AsyncIterator[LocalKafka]:
    kafka = LocalKafka(tmp_path, watchdog=watchdog)
    await kafka.start()
    yield kafka
    await asyncio.to_thread(kafka.stop)


async def test_a_broker_that_goes_away_and_comes_back_costs_nothing(
    own_kafka: LocalKafka,
    engine: AsyncEngine,
    settings: Callable[..., RuntimeSettings],
    kept: Kept,
    eventually: Callable[..., Awaitable[None]],
) -> None:
    """Fails when a client hangs for ever, a send of unknown outcome is taken for done, or order breaks over a resend."""
    wanted = {f"k{key}": list(range(30)) for key in range(10)}
    events = [outgoing(NumberTold(name=key, number=n)) for n in range(30) for key in wanted]
    bus = RealBus(own_kafka.bootstrap_servers, "o.", TOPICS)
    await bus.start()
    runtime = build(engine=engine, broker=KafkaBroker(own_kafka.bootstrap_servers, "o."), settings=settings())
    async with runtime:
        await bus.publish(events[:150])

        async def begun() -> None:
            assert await kept() != {}

        await eventually(begun)
        await asyncio.to_thread(own_kafka.stop)
        async with runtime.work() as work:  # Emitted while the broker is away.
            work.emit(NumberKept(name="meanwhile", number=n) for n in range(5))
        await asyncio.sleep(2)
        await own_kafka.start()
        await bus.publish(events[150:])

        async def all_there() -> None:
            assert await kept() == wanted
            async with database.begin(engine) as connection:
                assert (await connection.execute(text("SELECT count(*) FROM outbox"))).scalar_one() == 0
            assert all(check.ok for check in await runtime.readiness())

        await eventually(all_there, seconds=60, pause_seconds=0.3)
    await bus.close()
