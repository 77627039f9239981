"""What benches ask the databases fits the tables that the services' migrations make."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from tools.bench import cancel_latency, growth, hot_sku, http_intake, verdict
from tools.local_postgres import SERVICES

pytestmark = pytest.mark.postgres

STATEMENTS = {
    "ingest": ((verdict._TAKEN, "B%"), (http_intake._WAITING,), (cancel_latency._GRANTED,)),
    "audit": ((cancel_latency._HELD,),),
    "inventory": (
        (verdict._SHIPPED,),
        (hot_sku._SOLD, ["A"]),
        (hot_sku._BACKORDERED, ["A"]),
        (cancel_latency._BACKORDERED,),
    ),
    "router": (),
    "fulfillment": ((cancel_latency._ACCEPTED,),),
    "ledger": (),
}
SIZES = ((growth._INBOX,), (growth._OUTBOX,), (growth._OUTBOX_ROWS,))


@pytest.mark.parametrize("service", SERVICES)
async def test_every_statement_of_a_bench_runs(migrated_database: Callable[[str], Awaitable[str]], service: str) -> None:
    """Fails when a service renames what a bench asks for."""
    connection = await asyncpg.connect(str(await migrated_database(service)))
    try:
        for statement, *values in (*STATEMENTS[service], *SIZES):
            await connection.fetch(statement, *values)
    finally:
        await connection.close()
