"""Orders over HTTP: how many, how fast they are acknowledged for good, and what happens at three times what can be done."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tools.bench.figures import Figure, due_count, intended_at, latencies
from tools.bench.ground import SKUS, Meter, fresh_stack, incoherent, seed_plenty
from tools.bench.http import HttpLoad, NoAnswer
from tools.bench.kinds import Bench, Setting
from tools.bench.load import Load, maker_of, record_of
from tools.bench.verdict import judge, number_of, order_ids
from tools.coherence import drained
from tools.sample.goods import bench_goods
from tools.sample.orders import OrderMaker
from tools.stack import Stack
from tools.waiting import until

PATH = "/v1/orders"
BATCH = 50
CONNECTIONS = 16
"""Of the closed loop: so many callers, each with one request under way."""
BUSY_SECONDS, SHORT_BUSY_SECONDS = 8, 3
STEADY_SECONDS, SHORT_STEADY_SECONDS = 15, 5
OVERLOAD_SECONDS, SHORT_OVERLOAD_SECONDS = 15, 8
STEADY_SHARE = 0.5
"""Of the sustainable rate: where latency is quoted."""
OVERLOAD = 3
MOST_A_SECOND = {1: 1_500, BATCH: 4_000}
"""Orders prepared per second of a closed loop; more than two cores can take."""
BACKLOG_LIMIT = 4_000
"""Rows, instead of 50,000: seconds of overload must reach it, where in production minutes would."""
PAUSE_SECONDS = 0.1
"""After a refusal, in the closed loop."""
DRAIN_SECONDS = 120.0
TICK_SECONDS = 0.002
RUN = "I"
STOCK_ORDERS = 200_000
_WAITING = "SELECT count(*) FROM outbox"


class Request(NamedTuple):
    body: bytes
    units: dict[str, dict[str, int]]
    """By channel order number and SKU."""


@dataclass
class Heard:
    """What callers heard in one phase."""

    seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    """Of requests that were taken: from the moment they were meant to go out to the answer."""
    statuses: Counter[int] = field(default_factory=Counter)
    unanswered: list[Request] = field(default_factory=list)
    taken: list[Request] = field(default_factory=list)
    without_retry_after: int = 0

    @property
    def sent(self) -> int:
        return sum(self.statuses.values()) + len(self.unanswered)

    @property
    def orders(self) -> int:
        return sum(len(request.units) for request in self.taken)

    @property
    def orders_per_second(self) -> float:
        return round(self.orders / self.seconds, 1)

    async def ask(self, http: HttpLoad, request: Request, since: float) -> bool:
        """Send and note the answer; whether it was taken."""
        try:
            answer = await http.post(PATH, request.body)
        except NoAnswer:
            self.unanswered.append(request)
            return False
        self.statuses[answer.status] += 1
        if answer.status == 202:
            self.waits.append(time.monotonic() - since)
            self.taken.append(request)
        elif answer.status == 503 and "retry-after" not in answer.headers:
            self.without_retry_after += 1
        return answer.status == 202


class Intake:
    """The phases of one run: each on a system that has nothing left to do from the one before."""

    def __init__(self, stack: Stack, http: HttpLoad, maker: OrderMaker, setting: Setting) -> None:
        self._stack = stack
        self._http = http
        self._maker = maker
        self._setting = setting
        self.steady: list[Heard] = []
        self.phases: list[Heard] = []

    async def way(self, size: int) -> dict[str, Any]:
        """The sustainable rate with so many orders a request, then latency at a part of it."""
        busy = self._setting.seconds(BUSY_SECONDS, SHORT_BUSY_SECONDS)
        full = await self._closed_loop(self._requests(size, MOST_A_SECOND[size] * busy), busy)
        await self._rest()
        rate = max(1.0, full.orders_per_second * STEADY_SHARE)
        seconds = self._setting.seconds(STEADY_SECONDS, SHORT_STEADY_SECONDS)
        part = await self._open_loop(self._requests(size, int(rate * seconds)), rate / size)
        await self._rest()
        self.steady.append(part)
        return {
            "orders_a_request": size,
            "sustainable_per_second": full.orders_per_second,
            "refused_when_busy": full.statuses[503],
            "offered_per_second": round(rate, 1),
            **latencies(part.waits),
            "unanswered": len(full.unanswered) + len(part.unanswered),
        }

    async def overload(self, sustainable: float) -> dict[str, Any]:
        rate = OVERLOAD * sustainable
        seconds = self._setting.seconds(OVERLOAD_SECONDS, SHORT_OVERLOAD_SECONDS)
        heard = await self._open_loop(self._requests(BATCH, int(rate * seconds)), rate / BATCH)
        began = time.monotonic()
        await until(self._is_empty, seconds=DRAIN_SECONDS, what="the backlog of ingest drains")
        return {
            "offered_per_second": round(rate, 1),
            "taken_per_second": heard.orders_per_second,
            "taken_to_sustainable": round(heard.orders_per_second / sustainable, 3),
            "statuses": {str(status): count for status, count in sorted(heard.statuses.items())},
            "refused": heard.statuses[503],
            "refused_without_retry_after": heard.without_retry_after,
            "unanswered": len(heard.unanswered),
            "backlog_limit": BACKLOG_LIMIT,
            "drain_seconds": round(time.monotonic() - began, 2),
            **(latencies(heard.waits) if heard.waits else {}),
        }

    def availability(self) -> float:
        """The share of requests at a bearable rate that were taken."""
        return round(sum(part.statuses[202] for part in self.steady) / sum(part.sent for part in self.steady), 5)

    async def judge(self) -> dict[str, Any]:
        load = Load(
            ships={number: units for phase in self.phases for one in phase.taken for number, units in one.units.items()}
        )
        # Whether an order was taken whose answer never came, nobody promised.
        unknown = {number for phase in self.phases for one in phase.unanswered for number in one.units}
        ids = {number: id_ for number, id_ in (await order_ids(self._stack, RUN)).items() if number not in unknown}
        return await judge(self._stack, load, ids)

    def _requests(self, size: int, orders: int) -> list[Request]:
        return [_request([self._maker.order() for _ in range(size)]) for _ in range(max(1, orders // size))]

    async def _closed_loop(self, requests: Sequence[Request], seconds: float) -> Heard:
        """So many callers, each sending its next request when the last one is answered."""
        heard, left = Heard(), iter(requests)
        self.phases.append(heard)
        began = time.monotonic()

        async def caller() -> None:
            for request in left:
                since = time.monotonic()
                if since - began > seconds:
                    return
                if not await heard.ask(self._http, request, since):
                    await asyncio.sleep(PAUSE_SECONDS)

        await asyncio.gather(*(caller() for _ in range(CONNECTIONS)))
        heard.seconds = time.monotonic() - began
        return heard

    async def _open_loop(self, requests: Sequence[Request], per_second: float) -> Heard:
        """Each request at its moment, whatever became of those before."""
        heard = Heard()
        tasks: list[asyncio.Task[bool]] = []
        self.phases.append(heard)
        began = time.monotonic()
        while len(tasks) < len(requests):
            due = due_count(time.monotonic() - began, per_second, len(requests))
            tasks += [
                asyncio.create_task(heard.ask(self._http, requests[number], began + intended_at(number, per_second)))
                for number in range(len(tasks), due)
            ]
            await asyncio.sleep(TICK_SECONDS)
        await asyncio.gather(*tasks)
        heard.seconds = time.monotonic() - began
        return heard

    async def _rest(self) -> None:
        stack = self._stack
        sources = (stack.read_only_database_urls, stack.bootstrap_servers, stack.topic_prefix)
        await drained(*sources, seconds=DRAIN_SECONDS)

    async def _is_empty(self) -> bool:
        return await number_of(self._stack, "ingest", _WAITING) == 0


def _request(orders: list[dict[str, Any]]) -> Request:
    made = [record_of("good", order) for order in orders]
    content: Any = orders[0] if len(orders) == 1 else {"orders": orders}
    return Request(json.dumps(content, ensure_ascii=False).encode(), {record.order_no: record.units for record in made})


async def run(setting: Setting) -> dict[str, Any]:
    terminal, goods = setting.terminal, bench_goods(SKUS)
    env = {"ingest": {"OMS_INGEST_INTAKE_BACKLOG_LIMIT": str(BACKLOG_LIMIT)}}
    async with fresh_stack(terminal, env=env) as stack, HttpLoad(stack.urls["ingest"], stack.keys["channel"]) as http:
        with terminal.step("Bench data"):
            await seed_plenty(stack, goods, STOCK_ORDERS)
        intake = Intake(stack, http, maker_of(goods, run=RUN), setting)
        async with Meter(stack) as meter:
            with terminal.step("Single orders") as step:
                single = await intake.way(1)
                step.done = f"one by one: {single['sustainable_per_second']:.0f} orders/s"
            with terminal.step("Batches") as step:
                batched = await intake.way(BATCH)
                step.done = f"{BATCH} a request: {batched['sustainable_per_second']:.0f} orders/s"
            with terminal.step("Overload") as step:
                overload = await intake.overload(batched["sustainable_per_second"])
                step.done = f"{overload['taken_per_second']:.0f} orders/s taken, {overload['refused']:,} requests refused"
            # What it costs to bring them to their vouchers belongs to it.
            with terminal.step("Coherence") as step:
                failed = await incoherent(stack)
                step.done = f"NOT coherent: {', '.join(failed)}" if failed else "coherent"
        taken = sum(phase.orders for phase in intake.phases)
        return {
            "orders": taken,
            "single": single,
            "batched": batched,
            "overload": overload,
            "intake_availability": intake.availability(),
            **await intake.judge(),
            **meter.costs(taken),
            "coherent": not failed,
            "failed_checks": failed,
        }


HTTP_INTAKE = Bench(
    "http_intake",
    "orders over HTTP, one by one and in batches, and three times more than it can take",
    run,
    (
        Figure("batched.sustainable_per_second", "higher"),
        Figure("batched.p50_seconds", "lower"),
        Figure("batched.p99_seconds", "lower"),
        Figure("single.sustainable_per_second", "higher"),
        Figure("single.p50_seconds", "lower"),
        Figure("single.p99_seconds", "lower"),
        Figure("overload.refused", "higher", 1),
        Figure("overload.refused_without_retry_after", "lower", 0),
        Figure("overload.taken_to_sustainable", "higher"),
        Figure("overload.unanswered", "lower", 0),
        Figure("overload.drain_seconds", "lower"),
        Figure("intake_availability", "higher", 0.999),
        Figure("cpu_ms_per_order_total", "lower"),
        Figure("misshipped", "lower", 0),
        Figure("unshipped", "lower", 0),
    ),
    steps=5,
)
