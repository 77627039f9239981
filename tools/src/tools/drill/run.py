"""One drill: back up, go on, lose the database, restore, reconcile; then ask whether everything adds up."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg

from tools.bench.ground import open_places, seed_master_data, seed_units
from tools.coherence import drained, look
from tools.drill.backup import dump, restore
from tools.drill.load import Load
from tools.drill.loss import acts_lost, acts_since, keys_of, lost
from tools.drill.reconcile import reconcile
from tools.drill.rewind import rewind
from tools.local_postgres import create_database, with_database
from tools.sample.goods import bench_goods
from tools.stack import Stack
from tools.terminal import Terminal

WARM_SECONDS = 10.0
AFTER_SECONDS = 10.0
"""Load after the restore, for what is new must go its way beside what is made up for."""
MARGIN = timedelta(seconds=60)
"""Rewound so much further than the backup: more than any lag of a healthy consumer."""
SKUS = 20
UNITS = 5_000
DRAIN_SECONDS = 90.0
STEPS = 6


@dataclass
class Outcome:
    service: str
    ago_seconds: float
    rpo_seconds: float = 0.0
    """From the snapshot to the loss."""
    acts_in_that_time: dict[str, int] = field(default_factory=dict)
    acts_lost: dict[str, int] = field(default_factory=dict)
    """Rows of the log of acts that nothing brings back, by kind. What an act *did* may be back all the same."""
    rows_in_that_time: dict[str, int] = field(default_factory=dict)
    rows_lost: dict[str, int] = field(default_factory=dict)
    """By table, after everything: rows whose key was there and is not any more."""
    rewound: dict[str, int] = field(default_factory=dict)
    reconciled: dict[str, int] = field(default_factory=dict)
    rto_ready_seconds: float = 0.0
    rto_drained_seconds: float | None = None
    coherent: bool = False
    failed_checks: dict[str, list[str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        return asdict(self)


async def drill(service: str, ago_seconds: float, terminal: Terminal, *, name: str, steps: bool = True) -> Outcome:
    """Errors: those of the stack; BackupError; RewindError. An incoherent end is an outcome."""
    outcome = Outcome(service, ago_seconds)
    environment: dict[str, dict[str, str]] = {service: {}}
    goods = bench_goods(SKUS)
    terminal.add_steps(STEPS)
    async with Stack(name, clean=True, terminal=terminal, durable=False, env=environment) as stack:
        await seed_master_data(stack, open_places(), goods)
        await seed_units(stack, {place.place_id: [(good, UNITS) for good in goods] for place in open_places()})
        backup = stack.folder / "data" / f"{service}.dump"
        database = stack.database_urls[service].rpartition("/")[2]
        admin = stack.admin_database_url
        async with Load(stack, goods, run=service[:3].upper()) as load:
            with terminal.step("Backup") as step:
                await asyncio.sleep(WARM_SECONDS)
                taken_at = datetime.now(UTC)
                await dump(with_database(admin, database), backup)
                at_backup = await keys_of(with_database(admin, database))
                step.done = f"backup of {database}, {backup.stat().st_size / 1000:,.0f} kB"
            with terminal.step("Time goes by") as step:
                await asyncio.sleep(ago_seconds)
                step.done = f"{ago_seconds:g} s went by, {load.done['order_sent'] + load.done['order_pushed']} orders so far"
            with terminal.step("Loss") as step:
                stack.kill(service, signal.SIGKILL)
                lost_at, began = datetime.now(UTC), time.monotonic()
                await _set_aside(admin, database)
                before = await keys_of(with_database(admin, f"{database}_lost"))
                outcome.rpo_seconds = round((lost_at - taken_at).total_seconds(), 1)
                outcome.acts_in_that_time = await acts_since(with_database(admin, f"{database}_lost"), taken_at)
                outcome.rows_in_that_time = lost(before, at_backup)
                step.done = f"{database} is gone, with {sum(outcome.rows_in_that_time.values())} rows since the backup"
            with terminal.step("Restore") as step:
                await create_database(admin, database, service=service)
                await restore(with_database(admin, database), backup)
                await stack.migrate(service)
                environment[service][f"OMS_{service.upper()}_EVENT_SOURCE"] = f"/{service}/2"
                if steps:
                    environment[service][f"OMS_{service.upper()}_REPLAY_UNTIL"] = lost_at.isoformat()
                    to = taken_at - MARGIN
                    outcome.rewound = await rewind(service, stack.bootstrap_servers, to, prefix=stack.topic_prefix)
                await stack.start(service)
                outcome.rto_ready_seconds = round(time.monotonic() - began, 1)
                step.done = f"ready again after {outcome.rto_ready_seconds} s"
            with terminal.step("Reconcile") as step:
                if steps:
                    outcome.reconciled = await reconcile(service, stack, load, taken_at - MARGIN)
                await asyncio.sleep(AFTER_SECONDS)
                await load.stop()
                said = ", ".join(f"{count} {what}" for what, count in outcome.reconciled.items())
                step.done = f"reconciled: {said or 'nothing to do'}"
        with terminal.step("Coherence") as step:
            sources = (stack.read_only_database_urls, stack.bootstrap_servers, stack.topic_prefix)
            busy = await drained(*sources, seconds=DRAIN_SECONDS)
            if not busy:
                outcome.rto_drained_seconds = round(time.monotonic() - began, 1)
            for found in (*busy, *await look(*sources)):
                if not found.holds:
                    lines = [f"{finding.subject}: {finding.detail}" for finding in found.findings]
                    outcome.failed_checks[found.check.name] = [f"{len(lines)} findings", *lines[:3]]
            outcome.coherent = not outcome.failed_checks
            outcome.rows_lost = lost(before, await keys_of(with_database(admin, database)))
            outcome.acts_lost = await acts_lost(with_database(admin, f"{database}_lost"), with_database(admin, database))
            step.done = "coherent" if outcome.coherent else f"NOT coherent: {', '.join(outcome.failed_checks)}"
    return outcome


async def _set_aside(admin: str, database: str) -> None:
    """What was lost stays beside the new one under another name: only the drill's figures read it."""
    connection = await asyncpg.connect(admin)
    try:
        # Nobody may come back in between: a pool reconnects within milliseconds.
        await connection.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
        await connection.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", database)
        await connection.execute(f'ALTER DATABASE "{database}" RENAME TO "{database}_lost"')
        await connection.execute(f'ALTER DATABASE "{database}_lost" ALLOW_CONNECTIONS true')
    finally:
        await connection.close()
