"""Connections of the pool: who gets one may rely on it."""

from __future__ import annotations

import asyncpg
import pytest
from sqlalchemy import text

from eventing import database


async def test_a_connection_that_died_while_it_rested_is_replaced(
    database_url: str, postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the first caller after the database was away gets the dead connection."""
    monkeypatch.setattr(database, "QUIET_SECONDS", 0.0)
    engine = database.create_engine(database_url, pool_size=1)
    try:
        async with database.begin(engine) as connection:
            old = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        admin = await asyncpg.connect(postgres_server)
        try:
            assert await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", old)
        finally:
            await admin.close()
        async with database.begin(engine) as connection:
            assert (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one() != old
    finally:
        await engine.dispose()
