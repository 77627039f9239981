"""The relay's floor against the interleavings that lose rows: ids that come early with seqs that come late, and the reverse."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from eventing_sample import NumberKept
from sqlalchemy.ext.asyncio import AsyncEngine

from eventing import UnitOfWork
from eventing.clock import SystemClock, TimeOrderedIds
from eventing.relay import Backlog

ADD = """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, headers, ce_time, shard)
    VALUES ($1, 't', 'k', 'T', '', '', now(), $2) RETURNING seq
"""
SHARDS = 3


@pytest.fixture
async def connect(database_url: str) -> AsyncIterator[Callable[[], Any]]:
    async with AsyncExitStack() as stack:

        async def one() -> asyncpg.Connection:
            connection = await asyncpg.connect(database_url)
            stack.push_async_callback(connection.close)
            return connection

        yield one


class Watcher:
    """What a relay sees in small waves, and its floors."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._backlog = Backlog(wave_records=2, note_seconds=0)
        self._backlog.floors |= dict.fromkeys(range(SHARDS), 0)

    @property
    def floor(self) -> int:
        return self._backlog.floors[0]

    async def tick(self) -> int:
        async with self._engine.connect() as connection:
            await self._backlog.read(connection)
        return self.floor

    async def send(self) -> set[int]:
        async with self._engine.connect() as connection:
            rows = await self._backlog.read(connection)
            if rows:
                await self._backlog.delete(connection, rows)
        return {row.seq for row in rows}


async def test_a_floor_rises_once_everything_below_is_sent(engine: AsyncEngine, connect: Callable[[], Any]) -> None:
    """Fails when the floor stays behind: every poll would walk over all dead rows."""
    connection = await connect()
    for _ in range(5):
        await connection.execute(ADD, uuid4(), 0)
    watcher = Watcher(engine)
    await watcher.tick()
    await connection.execute("DELETE FROM outbox WHERE seq <= 3")
    assert await watcher.tick() == 3
    await connection.execute("DELETE FROM outbox")
    assert await watcher.tick() == 5


async def test_an_early_id_with_a_late_seq_is_not_passed(engine: AsyncEngine, connect: Callable[[], Any]) -> None:
    """Fails when rows are judged by their transaction ids: this one's is old, its seq is new."""
    slow, fast = await connect(), await connect()
    transaction = slow.transaction()
    await transaction.start()
    await slow.fetchval("SELECT pg_current_xact_id()")  # The id comes early …
    for _ in range(10):
        await fast.execute(ADD, uuid4(), 0)
    seq = await slow.fetchval(ADD, uuid4(), 0)  # … the seq late.
    await fast.execute(ADD, uuid4(), 0)
    await fast.execute("DELETE FROM outbox")
    watcher = Watcher(engine)
    for _ in range(4):
        assert await watcher.tick() < seq
    await transaction.commit()
    for _ in range(4):
        assert await watcher.tick() < seq


async def test_running_ids_above_the_last_completed_one_are_not_passed(engine: AsyncEngine, connect: Callable[[], Any]) -> None:
    """Fails when the snapshot's xmax is noted instead of an id of our own: it is the last *completed* id plus one."""
    first, second = await connect(), await connect()
    early, late = first.transaction(), second.transaction()
    await early.start()
    await first.fetchval("SELECT pg_current_xact_id()")  # Holds the completed ids back …
    await late.start()
    await second.fetchval("SELECT pg_current_xact_id()")
    seq = await second.fetchval(ADD, uuid4(), 0)
    watcher = Watcher(engine)
    await watcher.tick()
    await early.commit()  # … and now they pass what was noted, while `late` still runs.
    other = await connect()
    await other.execute(ADD, uuid4(), 0)
    await other.execute("DELETE FROM outbox")
    for _ in range(4):
        assert await watcher.tick() < seq
    await late.commit()
    for _ in range(4):
        assert await watcher.tick() < seq  # The row is there now, and unsent.


@pytest.mark.parametrize("wrote_first", [True, False])
async def test_a_unit_of_work_has_its_transaction_id_before_its_seq(
    engine: AsyncEngine, connect: Callable[[], Any], wrote_first: bool
) -> None:
    """Fails when the outbox row is a transaction's first write: its id would come after its seq, above what was noted."""
    observer = await connect()
    order: list[str] = []

    async with engine.connect() as connection, connection.begin():
        work = UnitOfWork(connection, now=SystemClock().now(), ids=TimeOrderedIds(), source="/x")
        if wrote_first:
            await connection.exec_driver_sql(
                "INSERT INTO kept (key, number, kind, delivery) VALUES ('a', 1, '', gen_random_uuid())"
            )
        # A trigger sees, at the moment of the insert, whether the transaction had an id before it drew the seq.
        await observer.execute(
            """
            CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM set_config('eventing.had_id', coalesce(pg_current_xact_id_if_assigned()::text, 'none'), true);
                RETURN NULL;
            END $$
            """
        )
        await observer.execute("CREATE OR REPLACE TRIGGER note BEFORE INSERT ON outbox EXECUTE FUNCTION note()")
        work.emit([NumberKept(name="a", number=1)])
        await work.flush()
        order.append((await connection.exec_driver_sql("SELECT current_setting('eventing.had_id')")).scalar_one())
    assert order != ["none"]


@pytest.mark.parametrize("seed", range(8))
async def test_no_interleaving_of_writers_and_relay_passes_a_row(
    engine: AsyncEngine, connect: Callable[[], Any], seed: int
) -> None:
    """Random writers in both manners, a relay that sends what it sees, a floor between every two steps; nothing is passed."""
    dice = random.Random(seed)
    writers = [await connect() for _ in range(5)]
    open_: dict[int, tuple[Any, set[int]]] = {}
    committed: set[int] = set()
    sent: set[int] = set()
    watcher = Watcher(engine)
    for _ in range(250):
        number = dice.randrange(len(writers))
        writer = writers[number]
        step = dice.random()
        if number not in open_:
            transaction = writer.transaction()
            await transaction.start()
            await writer.fetchval("SELECT pg_current_xact_id()")
            open_[number] = (transaction, set())
        elif step < 0.5:
            open_[number][1].add(await writer.fetchval(ADD, uuid4(), dice.randrange(SHARDS)))
        elif step < 0.6:
            await open_.pop(number)[0].rollback()
        else:
            transaction, seqs = open_.pop(number)
            await transaction.commit()
            committed |= seqs
        if dice.random() < 0.5:
            await watcher.tick()
        if dice.random() < 0.5:
            sent |= await watcher.send()
    for transaction, seqs in open_.values():
        await transaction.commit()
        committed |= seqs
    while wave := await watcher.send():
        sent |= wave
    assert sent == committed
    assert watcher.floor > 0
