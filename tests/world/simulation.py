"""A life of the whole system from one number: acts, deliveries in any order, duplicates, delays, deaths. Then all adds up."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from eventing import crash

from . import acts
from .baseline import Baseline, taken
from .services import PowerCut
from .wms import StepwiseWms
from .world import MOST_ROUNDS, make_world

WEIGHTS = {
    # What happens between the services.
    "flow": 5, "relay": 14, "consume": 30, "task": 8, "levels": 1, "pass_time": 6, "look_again": 1, "die": 4, "err": 2,
    # What happens outside.
    "order": 9, "send_again": 1, "send_newer": 3, "cancel": 6, "withdraw": 3, "change": 2, "refund": 2, "confirm": 1,
    "judge": 4, "receive": 3, "count_less": 3, "pause": 2, "steer": 2, "at_place": 8, "at_wms": 6, "carry": 1, "take_back": 2,
    "garble": 1, "mend": 4, "list_late": 1, "move": 2, "expect": 1, "stocktake": 1, "rule": 1, "close_books": 1, "undo": 1,
}  # fmt: skip
POINTS = tuple(sorted(crash.POINTS))
PASS_SECONDS = (0.5, 5, 30, 61, 301, 901)
LAST_HOURS = (0.02, 0.1, 0.3, 1, 1, 30)
"""How time goes on in the end: past a delivery, a merge that waits, orders offered again, into the next day."""
BOOKS = """
    SELECT template, account, origin_order_id::text, origin_line, sum(debit_minor), sum(credit_minor), count(*)
    FROM voucher JOIN posting USING (voucher_id) GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
STOCK = "SELECT sku_id, place_no, on_hand, allocated, short, damaged FROM place_stock ORDER BY 1, 2"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens; its number is what it draws its details from."""

    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.number}"


def plan(seed: int, count: int) -> list[Step]:
    """The steps of a life."""
    draw = random.Random(seed)
    kinds = draw.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)
    return [Step(kind, draw.getrandbits(32)) for kind in kinds]


def read_steps(text: str) -> list[Step]:
    """Steps as a failure prints them."""
    return [Step(kind, int(number)) for kind, _, number in (word.partition(":") for word in text.split())]


class FailedError(AssertionError):
    """What went wrong at which step."""

    def __init__(self, at: str, error: BaseException) -> None:
        super().__init__(f"at {at}: {type(error).__name__}: {error}")
        self.kind = f"{type(error).__name__} {str(error).split(':', 1)[0][:60]}"
        """What must stay the same while steps are left out."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Where a life has led: equal for equal seeds."""

    said: str
    books: str
    stock: str
    vouchers: int
    orders: int


class Simulation:
    """Lives one after the other, in one world that is put back to its beginning."""

    def __init__(self, baseline: Baseline, wms: StepwiseWms) -> None:
        self.world = baseline.world
        self._baseline = baseline
        self._wms = wms
        self._crowd = acts.Crowd(self.world, wms)

    async def live(self, seed: int, steps: Sequence[Step]) -> Ending:
        """Live these steps, come to rest, and check. Errors: FailedError."""
        await self._baseline.restore(seed=seed)
        self._wms.reset(seed)
        self._crowd.reset()
        for number, step in enumerate(steps, 1):
            try:
                await self._take(step)
            except Exception as error:
                raise FailedError(f"step {number} {step}", error) from error
        try:
            await self._come_to_rest(random.Random(seed))
            await self.world.check()
        except Exception as error:
            raise FailedError("the end", error) from error
        return await self._ending()

    async def shrink(self, seed: int, steps: Sequence[Step], *, most_lives: int = 60) -> list[Step]:
        """Leave out what the failure does not need, for as many lives as allowed."""
        steps, wanted, lives = list(steps), await self._failure(seed, steps), 1
        size = max(1, len(steps) // 2)
        while wanted is not None and lives < most_lives:
            start = 0
            while start < len(steps) and lives < most_lives:
                fewer = steps[:start] + steps[start + size :]
                lives += 1
                if await self._failure(seed, fewer) == wanted:
                    steps = fewer
                else:
                    start += size
            if size == 1:
                break
            size = max(1, size // 2)
        return steps

    async def _failure(self, seed: int, steps: Sequence[Step]) -> str | None:
        try:
            await self.live(seed, steps)
        except FailedError as error:
            return error.kind
        return None

    async def _take(self, step: Step) -> None:
        draw = random.Random(step.number)
        act = getattr(self._crowd, step.kind, None)
        if act is not None:
            await act(draw)
        else:
            await getattr(self, f"_{step.kind}")(draw)

    # What happens between the services

    async def _flow(self, draw: random.Random) -> None:
        """A calm moment: all goes on until nothing moves, or somebody dies."""
        del draw
        try:
            await self.world.settle()
        except PowerCut:
            for node in self.world.services.values():
                if node.mains.is_cut:
                    await node.reboot()

    async def _relay(self, draw: random.Random) -> None:
        service = draw.choice(list(self.world.services))
        shards = await self.world.shards(service)
        if shards:
            shard, limit = draw.choice((None, draw.choice(shards))), draw.choice((1, 5, 300))
            acknowledged = draw.random() < 0.85

            async def relay() -> None:
                await self.world.relay(service, shard=shard, limit=limit, acknowledged=acknowledged)

            await self._surviving(service, relay)

    async def _consume(self, draw: random.Random) -> None:
        behind = [
            (name, consumer, where)
            for name, node in self.world.services.items()
            for consumer in node.consumers()
            if (where := sorted(node.behind(consumer)))
        ]
        if not behind:
            await self._relay(draw)
            return
        service, consumer, partitions = draw.choice(behind)
        some = draw.sample(partitions, draw.randint(1, len(partitions)))
        limit, committed = draw.choice((1, 3, 300)), draw.random() < 0.9

        async def consume() -> None:
            await self.world.consume(service, consumer, some, limit=limit, committed=committed)

        await self._surviving(service, consume)

    async def _task(self, draw: random.Random) -> None:
        service = draw.choice(("ingest", "audit", "inventory", "inventory", "fulfillment", "fulfillment", "ledger"))
        if kinds := await self.world.due(service):
            kind = draw.choice(kinds)

            async def run() -> None:
                await self.world.run_tasks(service, kind)

            await self._surviving(service, run)

    async def _levels(self, draw: random.Random) -> None:
        async def flush() -> None:
            await self.world.services["inventory"].flush_levels(swept=draw.random() < 0.3)

        await self._surviving("inventory", flush)

    async def _pass_time(self, draw: random.Random) -> None:
        self.world.clock.advance(seconds=draw.choice(PASS_SECONDS))

    async def _look_again(self, draw: random.Random) -> None:
        service = draw.choice(list(self.world.services))

        async def look() -> None:
            await self.world.look_again(service)

        await self._surviving(service, look)

    async def _die(self, draw: random.Random) -> None:
        """A process dies at one of its next commits, or right now between two of them."""
        node = draw.choice(list(self.world.services.values()))
        if draw.random() < 0.2:
            await node.reboot()
        else:
            node.mains.point, node.mains.passings = draw.choice(POINTS), draw.choice((0, 0, 1, 3))

    async def _err(self, draw: random.Random) -> None:
        """A consumer fails some times, as by a bug: keys are parked, and what follows queues behind them."""
        draw.choice(list(self.world.services.values())).mains.defects = draw.choice((1, 1, 2, 5))

    async def _surviving(self, service: str, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except PowerCut:
            await self.world.services[service].reboot()

    # The end

    async def _come_to_rest(self, draw: random.Random) -> None:
        world = self.world
        for node in world.services.values():
            node.mains.point, node.mains.defects = "", 0
        await self._crowd.list_late(draw)
        for place_id in acts.STOCK:
            await world.http("inventory").post(f"/v1/locations/{place_id}/resume", json={"reason": "the end"})
        for hours in LAST_HOURS:
            await self._finish(draw)
            await world.pass_time(hours=hours)
        await self._finish(draw)
        await world.services["inventory"].flush_levels(swept=True)
        await world.settle()

    async def _finish(self, draw: random.Random) -> None:
        for _ in range(MOST_ROUNDS):
            await self.world.settle()
            if not await self._crowd.mend_all() and not await self._crowd.go_home(draw):
                return
        raise RuntimeError("the WMS never comes to rest")

    async def _ending(self) -> Ending:
        world = self.world
        books, stock = await world.rows("ledger", BOOKS), await world.rows("inventory", STOCK)
        return Ending(
            said=world.digest(),
            books=_digest(books),
            stock=_digest(stock),
            vouchers=(await world.rows("ledger", "SELECT count(*) FROM voucher"))[0][0],
            orders=(await world.rows("ingest", "SELECT count(*) FROM channel_order"))[0][0],
        )


def _digest(rows: Sequence[object]) -> str:
    return hashlib.blake2b(repr(rows).encode(), digest_size=8).hexdigest()


@asynccontextmanager
async def open_simulation(migrated: Callable[[str], Awaitable[str]], admin_url: str) -> AsyncIterator[Simulation]:
    """A simulation on databases of its own, on the server of `admin_url`."""
    wms = StepwiseWms()
    async with make_world(migrated, wms=wms.transport()) as world:
        await acts.seed(world)
        async with taken(world, admin_url) as baseline:
            yield Simulation(baseline, wms)
