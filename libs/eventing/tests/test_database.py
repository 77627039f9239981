"""Connections of the pool: who gets one may rely on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

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


TIME = datetime(2026, 11, 11, tzinfo=UTC)


@pytest.mark.parametrize("container", [list, tuple, deque, lambda values: dict.fromkeys(values).keys()])
async def test_arrays_of_every_kind_arrive_as_they_were_sent(database_url: str, container: Any) -> None:
    """Fails when what is told to asyncpg of containers makes it refuse one, or take a scalar for one."""
    sent: dict[str, Collection[object]] = {
        "text": ["ok", "", "汉字"],
        "bytea": [b"ok", b""],
        "uuid": [UUID(int=7), UUID(int=8)],
        "bigint": [1, -(2**60)],
        "timestamptz": [TIME],
        "boolean": [True, False],
    }
    columns = ", ".join(f"CAST(:a_{name} AS {name}[]) AS a_{name}" for name in sent)
    parameters = {f"a_{name}": container(values) for name, values in sent.items()}
    engine = database.create_engine(database_url)
    try:
        async with database.begin(engine) as connection:
            row = (await connection.execute(text(f"SELECT {columns}"), parameters)).one()
            nested = await connection.exec_driver_sql("SELECT $1::int[], $2::text[]", ([[1, 2], [3, 4]], [["a"], ["b"]]))
    finally:
        await engine.dispose()
    assert row._asdict() == {f"a_{name}": list(values) for name, values in sent.items()}
    assert nested.one() == ([[1, 2], [3, 4]], [["a"], ["b"]])


class _Pair:
    """Sized and iterable, but of no type that is a container to us."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[int]:
        return iter((1, 2))


async def test_elements_of_arrays_are_not_asked_by_abstract_classes(database_url: str) -> None:
    """Fails when a release of asyncpg has its checks elsewhere: then large arrays cost their client 40 % more again."""
    engine = database.create_engine(database_url)
    try:
        async with database.begin(engine) as connection:
            with pytest.raises(DBAPIError, match="a sized iterable container expected"):
                await connection.exec_driver_sql("SELECT $1::int[]", (_Pair(),))
    finally:
        await engine.dispose()
