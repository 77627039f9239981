"""The database that the migrations make is the one that `tables.py` tells of."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from eventing import create_engine
from ledger.tables import metadata, runtime

LIBRARY_TABLES = {field.name for field in fields(runtime)}
"""Held to their DDL by the library's own test."""


async def test_tables_and_migrations_agree(migrated_database: Callable[[str], Any]) -> None:
    """Fails when a column, index or constraint is added to one of the two only."""

    def differences(connection: Connection) -> list[Any]:
        options = {"compare_type": True, "include_object": is_own}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    def is_own(_: object, name: str | None, kind: str, *__: object) -> bool:
        return kind != "table" or name in set(metadata.tables) - LIBRARY_TABLES

    engine = create_engine(await migrated_database("ledger"), pool_size=1)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()
