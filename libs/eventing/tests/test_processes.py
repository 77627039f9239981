"""Death: real processes on a real Kafka, killed at named points or stopped for too long. Nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import FAST
from eventing_buses import RealBus, outgoing
from eventing_sample import NumberTold
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from eventing import database
from eventing.broker import Record

pytestmark = pytest.mark.kafka
Eventually = Callable[..., Awaitable[None]]
Kept = Callable[[], Awaitable[dict[str, list[int]]]]
SCRIPT = Path(__file__).parent / "teller_process.py"
KEYS = 12
EACH = 25
WANTED = {f"k{key}": list(range(EACH)) for key in range(KEYS)}


class Worker:
    """One process of the sample service."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def died(self, seconds: float = 20) -> int:
        return await asyncio.wait_for(self.process.wait(), seconds)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def stop(self) -> int:
        if self.process.returncode is None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
        return await self.died()


@pytest.fixture
async def launch(real_bus: RealBus, database_url: str) -> AsyncIterator[Callable[..., Awaitable[Worker]]]:
    """Start processes; whatever still lives is killed with the test."""
    workers: list[Worker] = []

    async def one(**more: Any) -> Worker:
        given = {
            "database_url": database_url,
            "bootstrap": real_bus.bootstrap,
            "prefix": real_bus.prefix,
            "settings": FAST | {"batch_records": 40} | more,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(SCRIPT), env=os.environ | {"TELLER": json.dumps(given)}, stdout=asyncio.subprocess.PIPE
        )
        workers.append(Worker(process))
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), 20)
        return workers[-1]

    yield one
    for worker in workers:
        if worker.process.returncode is None:
            worker.process.kill()
            await worker.died()


async def publish(bus: RealBus) -> None:
    await bus.publish([outgoing(NumberTold(name=key, number=n)) for n in range(EACH) for key in WANTED])


def first_deliveries(records: list[Record]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    seen: dict[bytes, bytes | None] = {}
    for record in records:
        identity = dict(record.headers)["ce_id"]
        if identity not in seen:
            event = json.loads(record.value or b"")
            found.setdefault(event["name"], []).append(event["number"])
        assert seen.setdefault(identity, record.value) == record.value, "a resend is not byte-equal"
    return found


async def all_is_well(kept: Kept, bus: RealBus, engine: AsyncEngine) -> None:
    assert await kept() == WANTED
    async with database.begin(engine) as connection:
        assert (await connection.execute(text("SELECT count(*) FROM outbox"))).scalar_one() == 0
    assert first_deliveries(await bus.records("numbers.kept")) == WANTED


@pytest.mark.parametrize(
    "point",
    [
        "after_claim:3",
        "before_commit:2",
        "after_commit:2",
        "before_offset_commit:3",
        "after_offset_commit:2",
        "before_send:2",
        "after_send:2",
        "after_delete:2",
    ],
)
async def test_a_worker_that_dies_at_any_point_loses_and_doubles_nothing(
    real_bus: RealBus,
    launch: Callable[..., Awaitable[Worker]],
    kept: Kept,
    engine: AsyncEngine,
    eventually: Eventually,
    point: str,
) -> None:
    """Fails when offsets go before effects, rows before acknowledgements, or effects are not claimed."""
    worker = await launch(crash_at=point, relay_wave_records=30)
    await publish(real_bus)
    assert await worker.died() == -signal.SIGKILL
    await launch(relay_wave_records=30)
    await eventually(lambda: all_is_well(kept, real_bus, engine), seconds=30, pause_seconds=0.3)


async def test_a_relay_that_dies_in_mid_wave_is_taken_over_by_one_that_runs(
    real_bus: RealBus,
    launch: Callable[..., Awaitable[Worker]],
    kept: Kept,
    engine: AsyncEngine,
    eventually: Eventually,
) -> None:
    """Fails when leases of the dead are not taken over, or the resend does not begin at the lowest row."""
    await launch(relay_wave_records=20)
    doomed = await launch(relay_wave_records=20, crash_at="after_send:2")

    async def shards_shared() -> None:
        async with database.begin(engine) as connection:
            rows = await connection.execute(text("SELECT count(*) FROM relay_lease WHERE until > now() GROUP BY owner"))
            assert rows.scalars().all() == [8, 8]

    await eventually(shards_shared)
    await publish(real_bus)
    assert await doomed.died() == -signal.SIGKILL
    await eventually(lambda: all_is_well(kept, real_bus, engine), seconds=30, pause_seconds=0.3)


async def test_a_worker_that_stands_still_past_its_session_does_no_harm(
    real_bus: RealBus,
    launch: Callable[..., Awaitable[Worker]],
    kept: Kept,
    engine: AsyncEngine,
    eventually: Eventually,
) -> None:
    """Fails when a stalled worker goes on with partitions or shards that others have by now."""
    stalled = await launch(relay_wave_records=20, batch_records=15)
    await launch(relay_wave_records=20, batch_records=15)
    publishing = asyncio.create_task(publish(real_bus))
    await asyncio.sleep(0.2)
    stalled.send(signal.SIGSTOP)
    await publishing
    await asyncio.sleep(3)  # Past session (1.5 s) and lease (1.5 s).
    stalled.send(signal.SIGCONT)
    await eventually(lambda: all_is_well(kept, real_bus, engine), seconds=30, pause_seconds=0.3)


async def test_a_record_that_kills_workers_is_found_and_parked(
    real_bus: RealBus,
    launch: Callable[..., Awaitable[Worker]],
    kept: Kept,
    engine: AsyncEngine,
    eventually: Eventually,
) -> None:
    """Fails when a record that takes the process down is tried for ever."""
    events = [
        NumberTold(name="a", number=1),
        NumberTold(name="deadly", number=1, trouble="die"),
        NumberTold(name="b", number=1),
    ]
    await real_bus.publish([outgoing(event) for event in events])
    for _ in range(4):
        worker = await launch()
        assert await worker.died() == -signal.SIGKILL
    await launch()

    async def parked() -> None:
        assert await kept() == {"a": [1], "b": [1]}
        async with database.begin(engine) as connection:
            rows = (await connection.execute(text("SELECT key, reason FROM parked_key"))).all()
        assert [row.key for row in rows] == ["deadly"]

    await eventually(parked, seconds=20)


async def test_sigterm_finishes_what_is_in_flight(
    real_bus: RealBus,
    launch: Callable[..., Awaitable[Worker]],
    kept: Kept,
    engine: AsyncEngine,
    eventually: Eventually,
) -> None:
    """Fails when stopping hangs, leaves the group by time-out, or leaves half a batch."""
    worker = await launch()
    await publish(real_bus)
    await asyncio.sleep(0.3)
    assert await worker.stop() == 0
    offsets = await real_bus.committed("teller.main")
    done = sum(at for (topic, _), at in offsets.items() if topic == "numbers.told")
    assert done == sum(
        len(some) for some in (await kept()).values()
    )  # Offsets and effects say the same: nothing is read again.
    await launch()
    await eventually(lambda: all_is_well(kept, real_bus, engine), seconds=30, pause_seconds=0.3)
