"""tables.py and the migrations speak of one database."""

from collections.abc import Callable
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from ingest import tables


async def test_metadata_and_migrations_agree(migrated_database: Callable[[str], Any]) -> None:
    """Fails when a column is added in one place only."""

    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return [change for change in compare_metadata(context, tables.metadata) if not _elsewhere(change)]

    engine = create_async_engine((await migrated_database("ingest")).sqlalchemy)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


def _elsewhere(change: Any) -> bool:
    """Indexes and checks are said in the migrations alone; inbox partitions and Alembic's own table follow other rules."""
    kind = change[0]
    if kind == "remove_table":
        return str(change[1].name).startswith(("inbox_", "alembic"))
    return kind in ("remove_index", "remove_constraint")
