"""The relay: every row is sent, in order per key, whatever happens to it, its producer or its lease."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from eventing_buses import Bus, FakeBusAlike
from eventing_sample import NumberKept, build
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from eventing import EventTooLargeError, Runtime, RuntimeSettings, create_engine, database
from eventing.broker import partition_of

Eventually = Callable[..., Awaitable[None]]
Start = Callable[..., Awaitable[Runtime]]


@pytest.fixture
async def start(bus: Bus, database_url: str, settings: Callable[..., RuntimeSettings]) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def one(**more: Any) -> Runtime:
            engine = create_engine(database_url, pool_size=5)
            stack.push_async_callback(engine.dispose)
            runtime = build(engine=engine, broker=bus.broker(), settings=settings(**more))
            await stack.enter_async_context(runtime)
            return runtime

        yield one


async def emit(runtime: Runtime, numbers: range, keys: int = 10) -> None:
    async with runtime.work() as work:
        work.emit(NumberKept(name=f"k{n % keys}", number=n) for n in numbers)


async def first_deliveries(bus: Bus) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    seen: dict[bytes, Any] = {}
    for record in await bus.records("numbers.kept"):
        identity = dict(record.headers)["ce_id"]
        same = (record.value, record.key, record.partition, tuple(record.headers))
        if seen.setdefault(identity, same) is same:
            event = json.loads(record.value or b"")
            found.setdefault(event["name"], []).append(event["number"])
        assert seen[identity] == same, "a resend is not byte-equal"
    return found


async def left(engine: AsyncEngine) -> int:
    async with database.begin(engine) as connection:
        return (await connection.execute(text("SELECT count(*) FROM outbox"))).scalar_one()


async def test_rows_are_sent_in_order_and_then_gone(
    bus: Bus, start: Start, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Fails when waves overtake each other, or acknowledged rows stay."""
    runtime = await start(relay_wave_records=64)
    for part in range(10):
        await emit(runtime, range(part * 100, part * 100 + 100))

    async def all_sent() -> None:
        assert await left(engine) == 0
        assert await first_deliveries(bus) == {f"k{key}": list(range(key, 1000, 10)) for key in range(10)}

    await eventually(all_sent, seconds=20)
    for record in await bus.records("numbers.kept"):
        assert record.partition == partition_of(record.key or b"", 4)


async def test_the_envelope_is_cloudevents_in_binary_mode(bus: Bus, start: Start, eventually: Eventually) -> None:
    runtime = await start()
    async with runtime.work() as work:
        work.emit([NumberKept(name="中文", number=1)])

    async def sent() -> None:
        (record,) = await bus.records("numbers.kept") or [None]
        assert record is not None
        headers = {name: value.decode() for name, value in record.headers}
        assert (record.key or b"").decode() == headers["ce_subject"] == "中文"
        assert headers["ce_specversion"] == "1.0"
        assert (headers["ce_source"], headers["ce_type"]) == ("/teller", "NumberKept")
        assert headers["ce_dataschema"] == "urn:oms:NumberKept:1"
        assert headers["content-type"] == "application/json"
        assert headers["traceparent"].startswith("00-")
        assert json.loads(record.value or b"") == {"name": "中文", "number": 1}

    await eventually(sent)


async def test_a_body_over_512_kib_is_an_error_of_the_emitter(start: Start, engine: AsyncEngine) -> None:
    runtime = await start()
    with pytest.raises(EventTooLargeError):
        async with runtime.work() as work:
            work.emit([NumberKept(name="x" * 600_000, number=1)])
    assert await left(engine) == 0


async def test_large_bodies_go_through_in_several_batches(
    bus: Bus, start: Start, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Fails when a batch that is full drops or reorders what no longer fits."""
    runtime = await start()
    async with runtime.work() as work:
        work.emit(NumberKept(name="k", number=n, filling="x" * 300_000) for n in range(40))  # type: ignore[call-arg]

    async def all_sent() -> None:
        assert await first_deliveries(bus) == {"k": list(range(40))}
        assert await left(engine) == 0

    await eventually(all_sent, seconds=20)


async def test_a_lost_acknowledgement_makes_a_resend_not_a_loss(
    database_url: str, settings: Callable[..., RuntimeSettings], eventually: Eventually, engine: AsyncEngine
) -> None:
    """Fails when rows are deleted without an acknowledgement, or the next wave goes before the resend."""
    bus = FakeBusAlike({"numbers.told": 4, "numbers.asked": 4, "numbers.kept": 4, "words.known": 2, "teller.dlq": 1})
    bus.bus.lose_acknowledgements = 3
    runtime = build(engine=engine, broker=bus.broker(), settings=settings(relay_wave_records=50))
    async with runtime:
        await emit(runtime, range(200))

        async def all_sent() -> None:
            assert await left(engine) == 0

        await eventually(all_sent)
    assert await first_deliveries(bus) == {f"k{key}": list(range(key, 200, 10)) for key in range(10)}
    assert len(await bus.records("numbers.kept")) > 200


async def test_a_broker_that_is_away_is_waited_for(
    settings: Callable[..., RuntimeSettings], eventually: Eventually, engine: AsyncEngine
) -> None:
    bus = FakeBusAlike({"numbers.told": 4, "numbers.asked": 4, "numbers.kept": 4, "words.known": 2, "teller.dlq": 1})
    runtime = build(engine=engine, broker=bus.broker(), settings=settings())
    async with runtime:

        async def ready() -> None:
            assert all(check.ok for check in await runtime.readiness())

        await eventually(ready)
        bus.bus.available = False
        await emit(runtime, range(100))
        await asyncio.sleep(0.5)
        assert await left(engine) == 100
        bus.bus.available = True

        async def all_sent() -> None:
            assert await left(engine) == 0

        await eventually(all_sent)
    assert await first_deliveries(bus) == {f"k{key}": list(range(key, 100, 10)) for key in range(10)}


async def test_a_late_row_with_a_low_seq_is_sent(
    bus: Bus, start: Start, engine: AsyncEngine, eventually: Eventually, database_url: str
) -> None:
    """Fails when the floor passes a transaction that has drawn its seq and is still open."""
    runtime = await start(relay_floor_seconds=0.01)
    async with runtime.work() as work:
        work.emit([NumberKept(name="slow", number=1)])
        await work.flush()
        await emit(runtime, range(500), keys=40)

        async def others_sent() -> None:
            assert sum(len(some) for some in (await first_deliveries(bus)).values()) == 500

        await eventually(others_sent)
        await asyncio.sleep(0.3)  # Time for many floors.

    async def slow_sent() -> None:
        assert (await first_deliveries(bus)).get("slow") == [1]

    await eventually(slow_sent)


async def test_a_second_worker_gets_its_share_and_gives_it_back(
    bus: Bus, start: Start, eventually: Eventually, engine: AsyncEngine
) -> None:
    """Fails when shards are not shared fairly, or leases of a worker that left run on."""
    one = await start()
    two = await start()

    async def shared() -> None:
        assert {len(runtime._relay._backlog.floors) for runtime in (one, two) if runtime._relay is not None} == {8}

    await eventually(shared)
    await two.stop()

    async def taken_back() -> None:
        assert one._relay is not None
        assert len(one._relay._backlog.floors) == 16

    await eventually(taken_back, seconds=5)
    await emit(one, range(100))

    async def all_sent() -> None:
        assert await left(engine) == 0

    await eventually(all_sent)
