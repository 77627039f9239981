"""Engines with the time-outs that keep a stalled worker from stalling the others."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asyncpg.protocol import protocol
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from eventing.errors import UnavailableError, is_unavailable

CONNECT_SECONDS = 5
# Longer than statement_timeout: the server speaks first, and only where it is gone does the client give up.
COMMAND_SECONDS = 15
QUIET_SECONDS = 1.0
"""A connection that has rested for longer is asked whether it still lives, before anybody gets it."""
CONTAINERS: tuple[type, ...] = (list, tuple, set, frozenset, deque, type({}.keys()), type({}.values()))
SESSION = {
    "idle_in_transaction_session_timeout": "5000",
    "lock_timeout": "3000",
    "statement_timeout": "10000",
    "tcp_user_timeout": "10000",
    "jit": "off",
    "timezone": "UTC",
}


def create_engine(
    url: str,
    *,
    pool_size: int = 4,
    application_name: str = "oms",
    session: dict[str, str] | None = None,
) -> AsyncEngine:
    """Make an engine for `postgresql://…`; `jsonb` travels as text in literal SQL.

    **Units**: `session` overrides server settings, milliseconds as PostgreSQL takes them.
    """
    if url.startswith("postgresql://"):
        url = url.replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_recycle=3600,
        hide_parameters=True,  # They may be personal data, and errors end in logs.
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": COMMAND_SECONDS,
            "server_settings": SESSION | {"application_name": application_name} | (session or {}),
        },
    )
    _ask_after_rest(engine)
    return engine


def _tell_containers_by_type() -> None:
    """asyncpg looks at every element of every array for a nested array, by one or two abstract base classes: with arrays of
    hundreds of scalars that is 40 % of what a statement costs its client. By concrete types it costs nothing.
    """
    protocol.IterableABC = protocol.SizedABC = CONTAINERS


_tell_containers_by_type()


def _ask_after_rest(engine: AsyncEngine) -> None:
    """Else the first call after the database was away gets a dead connection, minutes later where an API is idle.

    `pool_pre_ping` would ask at every transaction: a round trip more for a worker that had its last one a moment ago, and that
    tries again anyway.
    """

    @event.listens_for(engine.sync_engine, "checkin")
    def rests(_: Any, record: Any) -> None:
        record.info["since"] = time.monotonic()

    @event.listens_for(engine.sync_engine, "checkout")
    def ask(connection: Any, record: Any, _: Any) -> None:
        if time.monotonic() - record.info.get("since", 0.0) < QUIET_SECONDS:
            return
        try:
            connection.ping()
        except (engine.dialect.loaded_dbapi.Error, OSError) as error:
            raise DisconnectionError from error  # The pool then makes a new one.


@asynccontextmanager
async def begin(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a transaction; failing to connect is always "unavailable", whatever the system calls it."""
    try:
        connection = await engine.connect()
    except OSError as error:  # No route, no name, refused on every address: asyncio knows many.
        raise UnavailableError(f"cannot connect to the database: {type(error).__name__}") from error
    try:
        async with connection.begin():
            yield connection
    finally:
        await connection.close()


async def answers(engine: AsyncEngine) -> bool:
    """Whether the database answers at all."""
    try:
        async with begin(engine) as connection:
            await connection.exec_driver_sql("SELECT 1")
    except Exception as error:
        if not is_unavailable(error):
            raise
        return False
    return True
