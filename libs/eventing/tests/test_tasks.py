"""Tasks: once whatever the replicas, outside of transactions where they call, put off where they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from eventing_sample import NumberKept
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncEngine

from eventing import Call, NewTask, Retry, Runtime, RuntimeSettings, Task, Timer, UnitOfWork, database, tables
from eventing.testing import FakeBus, FakeClock, Harness

Eventually = Callable[..., Awaitable[None]]


class Errands:
    """Handlers that note what they did."""

    def __init__(self) -> None:
        self.called: list[tuple[str, str]] = []
        self.recorded: list[tuple[str, str]] = []
        self.rung: list[str] = []
        self.fail: set[str] = set()
        self.retry_after: float | None = None
        self.during_call: Callable[[Task], Awaitable[None]] | None = None
        self.during_timer: Callable[[Sequence[Task], UnitOfWork], Awaitable[None]] | None = None
        self.running: set[str] = set()
        self.overlapped = False

    async def call(self, task: Task) -> str:
        self.called.append((task.key, task.idempotency_key))
        self.overlapped = self.overlapped or task.key in self.running
        self.running.add(task.key)
        try:
            await asyncio.sleep(0)
            if self.during_call is not None:
                await self.during_call(task)
            if task.key in self.fail:
                if self.retry_after is not None:
                    raise Retry(self.retry_after, "not now")
                raise LookupError
        finally:
            self.running.discard(task.key)
        return f"did {task.key}"

    async def record(self, answers: Sequence[tuple[Task, str]], work: UnitOfWork) -> None:
        self.recorded += [(task.key, answer) for task, answer in answers]
        await keep(work, [task.key for task, _ in answers])
        work.emit(NumberKept(name=task.key, number=1) for task, _ in answers)

    async def ring(self, tasks: Sequence[Task], work: UnitOfWork) -> None:
        if any(task.key in self.fail for task in tasks):
            raise LookupError
        self.rung += [task.key for task in tasks]
        await keep(work, [task.key for task in tasks])
        if self.during_timer is not None:
            await self.during_timer(tasks, work)


async def keep(work: UnitOfWork, keys: list[str]) -> None:
    await work.connection.execute(
        text(
            "INSERT INTO kept (key, number, kind, delivery) SELECT k, 1, 'task', gen_random_uuid()"
            " FROM unnest(CAST(:keys AS text[])) AS k"
        ),
        {"keys": keys},
    )


def build(errands: Errands, *, engine: AsyncEngine, **options: Any) -> Runtime:
    return Runtime(
        service="errands",
        engine=engine,
        tables=tables.define(MetaData()),
        tasks=[
            Timer("ring", errands.ring),
            Call("call", errands.call, errands.record),
            Call("other", errands.call, errands.record),
        ],
        **options,
    )


@pytest.fixture
def errands() -> Errands:
    return Errands()


@pytest.fixture
def harness(engine: AsyncEngine, errands: Errands) -> Harness:
    def make(**options: Any) -> Runtime:
        return build(errands, engine=engine, **options)

    return Harness(make, clock=FakeClock(), events=[NumberKept])


async def add(harness: Harness, kind: str, *keys: str, seconds: float = 0, **payload: Any) -> None:
    async with harness.runtime.work() as work:
        work.add_tasks(NewTask(kind, key, work.now + timedelta(seconds=seconds), payload) for key in keys)


async def rows(engine: AsyncEngine) -> list[Any]:
    async with database.begin(engine) as connection:
        return list((await connection.execute(text("SELECT * FROM task ORDER BY kind, key"))).all())


async def test_a_timer_rings_when_it_is_due_and_not_again(harness: Harness, errands: Errands, engine: AsyncEngine) -> None:
    await add(harness, "ring", "a", "b", seconds=10)
    assert await harness.run_due_tasks() == 0
    harness.clock.advance(seconds=11)
    assert await harness.run_due_tasks() == 2
    assert await harness.run_due_tasks() == 0
    assert sorted(errands.rung) == ["a", "b"]
    assert await rows(engine) == []


async def test_a_second_task_of_a_kind_and_key_keeps_the_earlier_time(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when one key can have two open tasks of a kind, or a later one delays it."""
    await add(harness, "ring", "a", seconds=10)
    await add(harness, "ring", "a", seconds=99, note="later")
    await add(harness, "ring", "a", seconds=5, note="earlier")
    (row,) = await rows(engine)
    assert row.due_at == harness.clock.now() + timedelta(seconds=5)
    assert row.payload in ('{"note": "earlier"}', {"note": "earlier"})


async def test_a_cancelled_task_does_not_run(harness: Harness, errands: Errands) -> None:
    await add(harness, "ring", "a", "b")
    async with harness.runtime.work() as work:
        work.cancel_tasks("ring", ["a"])
    await harness.run_due_tasks()
    assert errands.rung == ["b"]


async def test_a_timer_may_arm_itself_again(harness: Harness, errands: Errands) -> None:
    """Fails when the finished row still stands in the way of the new one."""

    async def again(tasks: Sequence[Task], work: UnitOfWork) -> None:
        work.add_tasks(NewTask("ring", task.key, work.now + timedelta(seconds=60)) for task in tasks)

    errands.during_timer = again
    await add(harness, "ring", "a")
    assert await harness.run_due_tasks() == 1
    harness.clock.advance(seconds=61)
    assert await harness.run_due_tasks() == 1


async def test_one_bad_timer_is_put_off_and_the_others_ring(harness: Harness, errands: Errands, engine: AsyncEngine) -> None:
    """Fails when a failing task takes the rest of its batch with it."""
    errands.fail = {"bad"}
    await add(harness, "ring", "a", "b", "bad", "c")
    await harness.run_due_tasks()
    assert sorted(errands.rung) == ["a", "b", "c"]
    (row,) = await rows(engine)
    assert (row.key, row.attempt) == ("bad", 1)
    assert row.due_at > harness.clock.now()
    assert row.last_error.startswith("LookupError")


async def test_an_answer_is_recorded_with_its_effects(harness: Harness, errands: Errands, engine: AsyncEngine) -> None:
    await add(harness, "call", "a", "b", "c")
    assert await harness.run_due_tasks() == 3
    assert sorted(errands.recorded) == [("a", "did a"), ("b", "did b"), ("c", "did c")]
    assert len(await harness.emitted()) == 3
    assert await rows(engine) == []


async def test_a_failing_call_is_tried_again_under_the_same_idempotency_key(
    harness: Harness, errands: Errands, engine: AsyncEngine
) -> None:
    """Fails when a retry looks like a new request to the other side."""
    errands.fail = {"a"}
    await add(harness, "call", "a")
    for _ in range(12):
        await harness.run_due_tasks()
        harness.clock.advance(minutes=6)
    (row,) = await rows(engine)
    assert row.attempt == 12
    assert len(set(errands.called)) == 1
    (overdue,) = await harness.runtime.operations.list_overdue(10)
    assert (overdue.kind, overdue.attempts, overdue.task_id) == ("call", 12, row.id)
    errands.fail = set()
    async with harness.runtime.work() as work:
        await harness.runtime.operations.retry_task(work, row.id)
    await harness.run_due_tasks()
    assert [key for key, _ in errands.recorded] == ["a"]


async def test_the_other_side_may_say_when_to_come_back(harness: Harness, errands: Errands, engine: AsyncEngine) -> None:
    errands.fail, errands.retry_after = {"a"}, 42
    await add(harness, "call", "a")
    await harness.run_due_tasks()
    (row,) = await rows(engine)
    assert row.due_at == harness.clock.now() + timedelta(seconds=42)
    assert row.last_error == "not now"


async def test_a_task_added_while_it_runs_comes_after_it_with_a_key_of_its_own(harness: Harness, errands: Errands) -> None:
    """Fails when the new task melts into the running one: its payload would never be sent."""

    async def add_again(task: Task) -> None:
        errands.during_call = None
        await add(harness, "call", "a", seconds=30, note="again")

    errands.during_call = add_again
    await add(harness, "call", "a")
    assert await harness.run_due_tasks() == 1
    harness.clock.advance(seconds=31)
    assert await harness.run_due_tasks() == 1
    assert len(set(errands.called)) == 2


async def test_an_answer_is_dropped_when_the_task_was_taken_over_or_cancelled(
    harness: Harness, errands: Errands, engine: AsyncEngine
) -> None:
    """Fails when a worker that lost its lease records: the effects would happen twice."""

    async def take_over(task: Task) -> None:
        async with database.begin(engine) as connection:
            change = "lease_owner = gen_random_uuid()" if task.key == "a" else "id = gen_random_uuid(), lease_until = NULL"
            await connection.exec_driver_sql(f"UPDATE task SET {change} WHERE key = '{task.key}'")  # noqa: S608

    errands.during_call = take_over
    await add(harness, "call", "a", "b", "c")
    async with harness.runtime.work() as work:
        work.cancel_tasks("call", ["c"])
    worker = harness.runtime.task_workers["call"]
    await worker.run_once()
    assert errands.recorded == []


async def test_a_lost_lease_undoes_the_effects_of_that_task_only(
    harness: Harness, errands: Errands, engine: AsyncEngine
) -> None:
    """Fails when a timer's effects commit although another worker has the task by now."""

    async def lose(tasks: Sequence[Task], work: UnitOfWork) -> None:
        errands.during_timer = None
        async with database.begin(engine) as connection:
            await connection.exec_driver_sql("UPDATE task SET lease_owner = gen_random_uuid() WHERE key = 'a'")

    errands.during_timer = lose
    await add(harness, "ring", "a", "b")
    await harness.runtime.task_workers["ring"].run_once()
    async with database.begin(engine) as connection:
        keys = (await connection.execute(text("SELECT key FROM kept"))).scalars().all()
    assert keys == ["b"]
    assert [row.key for row in await rows(engine)] == ["a"]


async def test_two_workers_do_each_task_once_and_never_two_of_one_key(
    engine: AsyncEngine, errands: Errands, settings: Callable[..., RuntimeSettings], eventually: Eventually
) -> None:
    """Fails when leases are not exclusive, or two kinds of one key run at a time."""

    async def linger(_: Task) -> None:
        await asyncio.sleep(0.005)

    errands.during_call = linger
    bus = FakeBus(order_partitions=4)
    runtimes = [build(errands, engine=engine, broker=bus, settings=settings()) for _ in range(2)]
    async with runtimes[0], runtimes[1]:
        async with runtimes[0].work() as work:
            now = work.now
            work.add_tasks(NewTask(kind, f"k{n}", now) for n in range(60) for kind in ("call", "other"))
            work.add_tasks(NewTask("ring", f"r{n}", now) for n in range(60))

        async def all_done() -> None:
            assert len(errands.recorded) == 120
            assert len(errands.rung) == 60
            assert await rows(engine) == []

        await eventually(all_done, seconds=20)
    assert not errands.overlapped
    assert len(errands.called) == len(set(errands.called)) == 120


async def test_a_call_cut_short_by_its_time_limit_is_put_off(engine: AsyncEngine, errands: Errands) -> None:
    async def hang(_: Task) -> None:
        await asyncio.sleep(60)

    errands.during_call = hang

    def make(**options: Any) -> Runtime:
        return Runtime(
            service="errands",
            engine=engine,
            tables=tables.define(MetaData()),
            tasks=[Call("call", errands.call, errands.record, timeout_seconds=0.05)],
            **options,
        )

    harness = Harness(make)
    await add(harness, "call", str(uuid4()))
    await harness.run_due_tasks()
    (row,) = await rows(engine)
    assert row.last_error.startswith("TimeoutError")
