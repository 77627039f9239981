"""The tables: one truth in the DDL and in SQLAlchemy; inbox partitions that follow the calendar."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import MetaData, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from eventing import create_engine, database, migrations, partitions, tables


async def test_the_tables_as_declared_are_the_tables_as_made(engine: AsyncEngine) -> None:
    """Fails when a column is added in one of the two places."""
    metadata = MetaData()
    tables.define(metadata)
    async with engine.connect() as connection:
        for table in metadata.sorted_tables:
            made = await connection.run_sync(lambda sync, name=table.name: inspect(sync).get_columns(name))
            assert {(column["name"], column["nullable"]) for column in made} == {
                (column.name, column.nullable) for column in table.columns
            }, table.name
            keys = await connection.run_sync(lambda sync, name=table.name: inspect(sync).get_pk_constraint(name))
            assert set(keys["constrained_columns"]) == {column.name for column in table.primary_key}, table.name


async def test_the_way_back_leaves_nothing(empty_database: Callable[[], Awaitable[str]]) -> None:
    engine = create_engine(str(await empty_database()))

    class Operations:
        def __init__(self) -> None:
            self.statements: list[str] = []

        def execute(self, sqltext: str) -> None:
            self.statements.append(sqltext)

    steps = Operations()
    for version in range(migrations.LATEST):
        migrations.upgrade(steps, to=version + 1)
    for version in reversed(range(migrations.LATEST)):
        migrations.downgrade(steps, to=version)
    async with database.begin(engine) as connection:
        for statement in steps.statements:
            await connection.exec_driver_sql(statement)
        left = await connection.execute(text("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"))
        assert left.scalar_one() == 0
    await engine.dispose()


async def test_inbox_partitions_are_there_ahead_and_go_when_they_are_old(engine: AsyncEngine) -> None:
    """Fails when a day could lack its partition, or old ones stay for ever."""
    start = datetime(2026, 3, 2, 23, 59, tzinfo=UTC)
    days = await partitions.ensure(engine, start, keep_days=14, ahead_days=3)
    assert (days.oldest, days.newest) == (date(2026, 2, 16), date(2026, 3, 5))
    later = start + timedelta(days=2)
    days = await partitions.ensure(engine, later, keep_days=14, ahead_days=3)
    assert days.newest == date(2026, 3, 7)
    dropped = await partitions.drop_expired(engine, later, keep_days=14)
    assert dropped == [date(2026, 2, 16), date(2026, 2, 17)]
    days = await partitions.ensure(engine, later, keep_days=14, ahead_days=3)
    assert days.oldest == date(2026, 2, 18)  # Never made again: what it knew is gone.


async def test_a_detach_that_was_cut_short_is_finished(engine: AsyncEngine, database_url: str) -> None:
    now = datetime(2026, 3, 2, tzinfo=UTC)
    await partitions.ensure(engine, now, keep_days=3, ahead_days=1)
    impatient = create_engine(database_url, session={"lock_timeout": "200"})
    async with database.begin(engine) as reader:
        await reader.execute(text("SELECT count(*) FROM inbox"))  # Holds the detach up in its second half.
        with pytest.raises(DBAPIError, match="lock timeout"):
            await partitions.drop_expired(impatient, now, keep_days=2)
    dropped = await partitions.drop_expired(engine, now, keep_days=2)
    async with database.begin(engine) as connection:
        names = (await connection.execute(text("SELECT relname FROM pg_class WHERE relname LIKE 'inbox_2%'"))).scalars().all()
    assert "inbox_20260227" not in [name for name in names if not name.endswith("pkey")]
    assert dropped in ([], [date(2026, 2, 27)])
    await impatient.dispose()
