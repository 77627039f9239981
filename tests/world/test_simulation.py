"""Random lives of the whole system, each from a number; `python -m tests.world` lives hundreds more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest
import pytest_asyncio

from .simulation import FailedError, Simulation, Step, open_simulation, plan, read_steps
from .world import IncoherentError, World

STEPS = 120
SEEDS = (1, 2, 3, 4, 5)


@pytest_asyncio.fixture(scope="module")
async def simulation(postgres_server: str, migrated: Callable[[str], Awaitable[str]]) -> AsyncIterator[Simulation]:
    async with open_simulation(migrated, postgres_server) as simulation:
        yield simulation


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_random_life_ends_with_all_adding_up(simulation: Simulation, seed: int) -> None:
    """Fails when any order of deliveries, duplicates, deaths and acts loses or doubles anything."""
    ending = await simulation.live(seed, plan(seed, STEPS))
    assert ending.orders > 0
    assert ending.vouchers > 0


@pytest.mark.parametrize("seed", [7, 13, 14])
async def test_equal_seeds_end_in_equal_worlds(simulation: Simulation, seed: int) -> None:
    """Fails when a service decides by a clock, chance or memory of its own, or by the order in which a query happens to give
    its rows (it changes with each VACUUM and ANALYZE): no failure could be repeated then."""
    steps = plan(seed, STEPS)
    calm = await simulation.live(seed, steps)
    async with _vacuuming(simulation.world):
        assert await simulation.live(seed, steps) == calm


async def test_a_failing_life_is_shrunk_to_the_steps_that_it_needs(simulation: Simulation) -> None:
    """Fails when shrinking loses the failure, or keeps what it does not need."""
    steps = plan(8, 6)
    steps.insert(4, Step("no_such_step", 0))
    with pytest.raises(FailedError, match="no_such_step"):
        await simulation.live(8, steps)
    assert await simulation.shrink(8, steps) == [Step("no_such_step", 0)]


async def test_what_a_bug_parks_goes_through_when_it_is_tried_again(simulation: Simulation) -> None:
    """Fails when a handler's failure loses what it was given or what came behind it, or nothing ever fails in a life."""
    steps = [Step(kind, number) for number in range(16) for kind in ("order", "err", "flow")]
    ending = await simulation.live(15, steps)
    retried = "SELECT count(*) FROM manual_act WHERE act = 'retry_parked'"
    assert sum([(await simulation.world.rows(service, retried))[0][0] for service in simulation.world.services]) > 0
    assert ending.orders > 0


async def test_what_nobody_can_read_must_have_been_refused(simulation: Simulation) -> None:
    """Fails when an unreadable order may be taken in, or get lost, without anybody being told."""
    await simulation.live(16, [Step("garble", number) for number in range(8)])
    assert simulation.world.garbled
    simulation.world.garbled.add(b"never sent")
    with pytest.raises(IncoherentError, match="never sent"):
        await simulation.world.check()


async def test_a_death_right_after_the_unreadable_was_set_aside_hides_nothing(simulation: Simulation) -> None:
    """Fails when what a process refused just before it died counts as taken in."""
    ending = await simulation.live(1010, read_steps("die:933374552 garble:1139259567 consume:1995324730"))
    assert ending.orders == 0


@asynccontextmanager
async def _vacuuming(world: World) -> AsyncIterator[None]:
    """Has the servers of a world do all along what autovacuum does now and then."""

    async def vacuum() -> None:
        while True:
            for url in world.urls.values():
                connection = await asyncpg.connect(url)
                try:
                    await connection.execute("VACUUM ANALYZE")
                finally:
                    await connection.close()

    task = asyncio.create_task(vacuum())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_steps_are_read_as_they_are_printed() -> None:
    """Fails when a printed failure cannot be lived again."""
    steps = plan(9, 50)
    assert read_steps(" ".join(map(str, steps))) == steps
