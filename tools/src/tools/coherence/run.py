"""Running checks: sources opened in read-only snapshots, results in words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from tools.coherence.checks import CHECKS, SERVICES
from tools.coherence.model import Check, Outcome, Sources
from tools.coherence.topics import KafkaTopics

WAITED_FOR = ("consumers_caught_up", "outboxes_empty", "no_task_due", "nothing_parked", "reserved_orders_are_routed")
"""The checks that say whether anything is under way."""
POLL_SECONDS = 0.5
LOOKS = 4
STATEMENT_TIMEOUT = "60s"


@asynccontextmanager
async def open_sources(database_urls: Mapping[str, str], bootstrap_servers: str, prefix: str = "") -> AsyncIterator[Sources]:
    """Connect to the six databases, each in one repeatable-read, read-only transaction, and to the broker."""
    async with AsyncExitStack() as stack:
        databases: dict[str, asyncpg.Connection] = {}
        for service in SERVICES:
            connection = await asyncpg.connect(database_urls[service], server_settings={"statement_timeout": STATEMENT_TIMEOUT})
            stack.push_async_callback(connection.close)
            await stack.enter_async_context(connection.transaction(isolation="repeatable_read", readonly=True))
            databases[service] = connection
        yield Sources(databases, KafkaTopics(bootstrap_servers, prefix))


async def run_checks(sources: Sources, checks: Iterable[Check] = CHECKS) -> list[Outcome]:
    """Run them one after the other, on what these sources saw."""
    return [Outcome(check, await check.find(sources)) for check in checks]


async def look(
    database_urls: Mapping[str, str], bootstrap_servers: str, prefix: str = "", checks: Iterable[Check] = CHECKS
) -> list[Outcome]:
    """Run them on a running system. Its timers go on: where something is under way just now, look anew, a few times."""
    chosen = list(checks)
    for looks_left in reversed(range(LOOKS)):
        async with open_sources(database_urls, bootstrap_servers, prefix) as sources:
            outcomes = await run_checks(sources, chosen)
        if not looks_left or all(outcome.holds or outcome.check.name not in WAITED_FOR for outcome in outcomes):
            break
        await asyncio.sleep(POLL_SECONDS)
    return outcomes


async def drained(
    database_urls: Mapping[str, str], bootstrap_servers: str, prefix: str = "", *, seconds: float
) -> list[Outcome]:
    """Wait until nothing is under way, or the time is over. Returns what still is: empty when drained.

    Looks twice: a record may be between two services just when each of them was asked.
    """
    checks = [check for check in CHECKS if check.name in WAITED_FOR]
    deadline, quiet = time.monotonic() + seconds, 0
    while True:
        async with open_sources(database_urls, bootstrap_servers, prefix) as sources:
            busy = [outcome for outcome in await run_checks(sources, checks) if not outcome.holds]
        quiet = 0 if busy else quiet + 1
        if quiet == 2 or time.monotonic() > deadline:
            return busy
        await asyncio.sleep(POLL_SECONDS)
