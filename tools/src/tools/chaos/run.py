"""Faults one after the other, each followed by a drain and all checks; what came of each."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

from tools.bench.ground import cores, incoherent, open_places, seed_master_data, seed_units
from tools.bench.load import Load
from tools.bench.records import commit
from tools.bench.verdict import judge, order_ids
from tools.chaos.faults import FAULTS, Fault, Ground, NotTriedError
from tools.chaos.feed import Feed
from tools.chaos.proxy import Proxy
from tools.client import Clients
from tools.local_postgres import SERVICES
from tools.processes import free_ports
from tools.sample.goods import bench_goods
from tools.sample.seed import drive_by_wms
from tools.skew.progress import Progress
from tools.stack import Stack, StackError
from tools.terminal import Terminal

SKUS, UNITS = 20, 20_000
PER_SECOND = 25.0
LEAD_SECONDS, TAIL_SECONDS = 3.0, 3.0
"""Of calm load before a fault, and after it."""


@dataclass
class Passage:
    """One time that a fault was brought in."""

    fault: str
    outcome: str
    """held, not held, or not tried."""
    detail: str = ""
    seconds_without_progress: float = 0.0
    """The longest time in which one of the services wrote nothing, while load was offered."""
    seconds_to_drain: float = 0.0
    """From the end of the load until nothing is under way, checks included."""


@dataclass
class Report:
    seed: int
    commit: str = field(default_factory=commit)
    cores: int = field(default_factory=cores)
    passages: list[Passage] = field(default_factory=list)
    orders_sent: int = 0
    intake_attempts: int = 0
    intake_successes: int = 0
    error: str = ""
    """What ended the run before its time."""

    @property
    def held(self) -> bool:
        outcomes = [passage.outcome for passage in self.passages]
        return not self.error and "held" in outcomes and "not held" not in outcomes

    @property
    def missed(self) -> list[str]:
        reached = {passage.fault for passage in self.passages if passage.outcome != "not tried"}
        return [fault.name for fault in FAULTS if fault.name not in reached]

    @property
    def complete(self) -> bool:
        """Whether every fault was reached that any machine can bring in."""
        missed = set(self.missed)
        return not any(fault.name in missed and not fault.needs for fault in FAULTS)

    def rows(self) -> list[Sequence[object]]:
        table: list[Sequence[object]] = [("fault", "times", "outcome", "s without progress", "s to drain", "")]
        for name in dict.fromkeys(passage.fault for passage in self.passages):
            of_it = [passage for passage in self.passages if passage.fault == name]
            worst = max(of_it, key=lambda passage: ("held", "not tried", "not held").index(passage.outcome))
            pauses = median(passage.seconds_without_progress for passage in of_it)
            drains = median(passage.seconds_to_drain for passage in of_it)
            table.append((name, len(of_it), worst.outcome, round(pauses, 1), round(drains, 1), worst.detail[:100]))
        table += [(name, 0, "not tried", "", "", "no run reached it") for name in self.missed if not self._has(name)]
        return table

    def to_json(self) -> dict[str, object]:
        availability = self.intake_successes / self.intake_attempts if self.intake_attempts else None
        return asdict(self) | {
            "held": self.held,
            "missed": self.missed,
            "intake_availability": availability,
        }

    def _has(self, name: str) -> bool:
        return any(passage.fault == name for passage in self.passages)


def plan(seed: int) -> list[Fault]:
    """All faults in an order of the seed's; a run by time goes on from the beginning."""
    faults = list(FAULTS)
    random.Random(seed).shuffle(faults)  # noqa: S311  a plan that can be repeated
    return faults


async def walk(report: Report, faults: Sequence[Fault], terminal: Terminal, *, name: str, seconds: float | None) -> None:
    """Bring in these faults: each once, or around and around for so many seconds. Fills the report as it goes."""
    terminal.add_steps(len(faults) if seconds is None else 0)
    env: dict[str, dict[str, str]] = {service: {} for service in SERVICES}
    goods = bench_goods(SKUS)
    (proxy_port,) = free_ports(1)
    stack = Stack(
        name, clean=True, terminal=terminal, durable=False, env=env, broker_proxy_port=proxy_port, demo_wms=True,
        roles=dict.fromkeys(SERVICES, "api"), replicas=dict.fromkeys(SERVICES, 2),
    )  # fmt: skip
    async with stack:
        if stack.kafka is None or stack.postgres is None:
            raise StackError(
                "chaos kills broker and database, so it needs its own: unset KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL_ADMIN"
            )
        await seed_master_data(stack, open_places(), goods)
        await seed_units(stack, {place.place_id: [(good, UNITS) for good in goods] for place in open_places()})
        async with Clients(stack.urls, stack.keys["admin"]) as oms:
            # One of the places is a third party's warehouse, so that calls go out and are answered by call-back.
            await drive_by_wms(oms, open_places()[0].place_id, stack.wms_url, reason="chaos")
        ends = None if seconds is None else time.monotonic() + seconds
        async with (
            Progress(stack.bootstrap_servers, stack.topic_prefix, stack.order_partitions) as progress,
            Proxy(stack.kafka.behind_proxy, port=proxy_port) as broker_proxy,
        ):
            number = 0
            while number < len(faults) if ends is None else time.monotonic() < ends:
                fault = faults[number % len(faults)]
                number += 1
                with terminal.step(fault.says) as step:
                    passage = await _bring_in(fault, stack, env, broker_proxy, progress, report, number)
                    report.passages.append(passage)
                    step.done = f"{fault.name}: {passage.outcome} {passage.detail}".rstrip()
                if passage.outcome == "not held":
                    return  # Whatever came next would stand on what is broken already.


async def _bring_in(
    fault: Fault,
    stack: Stack,
    env: dict[str, dict[str, str]],
    broker_proxy: Proxy,
    progress: Progress,
    report: Report,
    number: int,
) -> Passage:
    draw = random.Random(f"{report.seed} {number}")  # noqa: S311  likewise
    passage = Passage(fault.name, "not held")
    run = f"{report.seed % 1000}N{number}Q"
    async with Feed(stack, bench_goods(SKUS), run=run, per_second=PER_SECOND) as feed:
        await asyncio.sleep(LEAD_SECONDS)
        began = time.monotonic()
        ground = Ground(stack, feed, env, broker_proxy, draw)
        try:
            await fault.act(ground)
        except NotTriedError as error:
            passage.outcome, passage.detail = "not tried", str(error)
        await asyncio.sleep(TAIL_SECONDS)
        passage.seconds_without_progress = max(progress.pause(service, began) for service in SERVICES)
        await feed.stop()
    stopped = time.monotonic()
    failed = await incoherent(stack)
    failed += await _fates(stack, feed, run)
    passage.seconds_to_drain = round(time.monotonic() - stopped, 1)
    report.orders_sent += feed.sent
    report.intake_attempts += feed.attempts
    report.intake_successes += feed.successes
    if failed:
        passage.outcome, passage.detail = "not held", ", ".join(failed)
    elif passage.outcome != "not tried":
        passage.outcome, passage.detail = "held", ground.note
    return passage


async def _fates(stack: Stack, feed: Feed, run: str) -> list[str]:
    """What became of every good order that arrived, said only where it is not what was ordered."""
    known: dict[str, str] = {}
    for maker in "KHS":
        known |= await order_ids(stack, f"{maker}{run}")
    ids = {number: known[number] for number in feed.ships if number in known}
    verdict = await judge(stack, Load(ships={number: feed.ships[number] for number in ids}), ids)
    counts = {"lost": len(feed.ships) - len(ids), "unshipped": verdict["unshipped"], "misshipped": verdict["misshipped"]}
    return [f"{count} orders {what}" for what, count in counts.items() if count]
