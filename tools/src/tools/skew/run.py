"""The walk: each service from the old release to the new one and back, then all of them forward, under load throughout."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import asyncpg

from tools.bench.ground import failed_outcomes, open_places, seed_master_data, seed_units
from tools.drill.load import Load
from tools.local_postgres import SERVICES
from tools.sample.goods import bench_goods
from tools.skew.progress import Progress
from tools.stack import Stack
from tools.terminal import Terminal

HOLD_SECONDS = 4.0
"""With both versions in one group: a rebalance and some hundred orders."""
MIGRATED_SECONDS = 1.0
"""On the new schema before the pause is measured: ten looks at the topic, so that one that is stuck shows."""
DRAIN_SECONDS = 90.0
SKUS, UNITS = 20, 5_000
# Readers before writers; of the loop between inventory, router and fulfillment, whoever only adds fields may go first.
ORDER = ("ledger", "fulfillment", "router", "inventory", "audit", "ingest")
_TROUBLE = "SELECT (SELECT count(*) FROM parked_key) + (SELECT count(*) FROM quarantine)"
_REVISION = "SELECT string_agg(version_num, ' ') FROM alembic_version"


@dataclass
class Passage:
    service: str
    direction: str
    """`migrate`: N's migrations while N-1 serves; `upgrade`, `roll back`: one process after the other, both in one group."""
    outcome: str = "not tried"
    seconds_without_progress: float = 0.0
    parked_or_quarantined: int = 0
    detail: str = ""


@dataclass
class Report:
    base: str
    head: str
    passages: list[Passage] = field(default_factory=list)
    coherent_rolled_back: bool | None = None
    """With everything at the old release again, on the new release's schema. None: not reached."""
    coherent_upgraded: bool | None = None
    failed_checks: dict[str, list[str]] = field(default_factory=dict)
    calls_refused: dict[str, int] = field(default_factory=dict)
    """HTTP calls without success; one API process restarts, so some are expected."""

    @property
    def holds(self) -> bool:
        passed = all(passage.outcome == "passed" for passage in self.passages)
        return bool(self.passages) and passed and bool(self.coherent_rolled_back) and bool(self.coherent_upgraded)

    def to_json(self) -> dict[str, object]:
        return asdict(self) | {"holds": self.holds}


async def walk(report: Report, old: str, terminal: Terminal, *, name: str, services: Sequence[str]) -> None:
    """Fills the report as it goes. ``old`` is the interpreter of the release before.

    Errors: those of the stack, a process that does not start included.
    """
    chosen = [service for service in ORDER if service in services]
    terminal.add_steps(len(chosen) + 2)
    goods = bench_goods(SKUS)
    async with Stack(name, clean=True, terminal=terminal, durable=False, interpreters=dict.fromkeys(SERVICES, old)) as stack:
        await seed_master_data(stack, open_places(), goods)
        await seed_units(stack, {place.place_id: [(good, UNITS) for good in goods] for place in open_places()})
        async with (
            Progress(stack.bootstrap_servers, stack.topic_prefix, stack.order_partitions) as progress,
            Load(stack, goods, run="SKEW", odd=False) as load,
        ):
            await asyncio.sleep(HOLD_SECONDS)
            walker = _Walker(stack, progress, report, old)
            for service in chosen:
                with terminal.step(service) as step:
                    await walker.there_and_back(service)
                    step.done = f"{service}: migrated, upgraded, rolled back"
            with terminal.step("Rolled back") as step:
                await load.stop()
                report.coherent_rolled_back = await _adds_up(stack, report)
                step.done = f"all at the old release: {'coherent' if report.coherent_rolled_back else 'NOT coherent'}"
            report.calls_refused = dict(load.refused)
        async with Load(stack, goods, run="AFTER", odd=False) as load:
            with terminal.step("Upgraded") as step:
                for service in chosen:
                    await walker.restart(service, sys.executable)
                await asyncio.sleep(HOLD_SECONDS)
                await load.stop()
                report.coherent_upgraded = await _adds_up(stack, report)
                step.done = f"all at the new release: {'coherent' if report.coherent_upgraded else 'NOT coherent'}"


class _Walker:
    def __init__(self, stack: Stack, progress: Progress, report: Report, old: str) -> None:
        self._stack, self._progress, self._report, self._old = stack, progress, report, old

    async def there_and_back(self, service: str) -> None:
        stack = self._stack
        passage, began, trouble = await self._begin(service, "migrate")
        before = await self._value(service, _REVISION)
        await stack.migrate(service, interpreter=sys.executable)
        await asyncio.sleep(MIGRATED_SECONDS)
        passage.detail = f"{before} -> {await self._value(service, _REVISION)}"
        await self._end(passage, began, trouble)

        passage, began, trouble = await self._begin(service, "upgrade")
        second = await stack.add_worker(service, interpreter=sys.executable)
        await asyncio.sleep(HOLD_SECONDS)
        await self.restart(service, sys.executable)
        await asyncio.sleep(HOLD_SECONDS)
        await self._end(passage, began, trouble)

        passage, began, trouble = await self._begin(service, "roll back")
        await self.restart(second, self._old)
        await asyncio.sleep(HOLD_SECONDS)
        await self.restart(service, self._old)
        await stack.remove_worker(second)
        await asyncio.sleep(HOLD_SECONDS)
        await self._end(passage, began, trouble)

    async def restart(self, name: str, interpreter: str) -> None:
        """As an orchestrator does: SIGTERM, wait for the end, start the other release."""
        self._stack.kill(name, signal.SIGTERM)
        self._stack.interpreters[name] = interpreter
        await self._stack.start(name)

    async def _begin(self, service: str, direction: str) -> tuple[Passage, float, int]:
        passage = Passage(service, direction, "failed")
        self._report.passages.append(passage)
        return passage, time.monotonic(), await self._trouble()

    async def _end(self, passage: Passage, began: float, trouble: int) -> None:
        passage.seconds_without_progress = self._progress.pause(passage.service, began)
        passage.parked_or_quarantined = await self._trouble() - trouble
        passage.outcome = "failed" if passage.parked_or_quarantined else "passed"

    async def _trouble(self) -> int:
        """In all services: what one writes, another parks."""
        return sum([int(str(await self._value(service, _TROUBLE))) for service in SERVICES])

    async def _value(self, service: str, sql: str) -> object:
        connection = await asyncpg.connect(self._stack.read_only_database_urls[service])
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()


async def _adds_up(stack: Stack, report: Report) -> bool:
    wrong = await failed_outcomes(stack, drain_seconds=DRAIN_SECONDS)
    for outcome in wrong:
        report.failed_checks[outcome.check.name] = [f"{each.subject}: {each.detail}" for each in outcome.findings[:3]]
    return not wrong
