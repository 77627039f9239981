"""The one Alembic environment of all services, and the numbered DDL of this library's own tables."""

import asyncio
import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from alembic import command, context
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, func, pool, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

LOCK_NUMBER = 0x6F6D735F6D6967  # "oms_mig": one migrator per database.
LOCK_SECONDS = 120.0  # Longer than any migration of ours; whoever waits longer has found a stuck one.
# DDL waits in front of every later query of its table, so it gives up soon and comes again.
LOCK_TIMEOUT_MS = 3_000
ATTEMPTS = 20


class MigrationError(Exception):
    """The database could not be brought to the newest tables."""


class Executes(Protocol):
    """Alembic's `op`, as far as it is needed here."""

    def execute(self, sqltext: str) -> Any: ...


def run_migrations(metadata: MetaData) -> None:
    """Be a service's `migrations/env.py`: bring the database up to the asked revision, one transaction per revision."""
    if context.is_offline_mode():
        context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    connection: Connection | None = context.config.attributes.get("connection")
    if connection is None:
        raise MigrationError("run migrations with `python -m <service> --migrate`")
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


def migrate(database_url: str, folder: Path) -> str:
    """Bring the database to the newest revision in `folder`; that revision.

    Safe to run twice at once: the second one waits. A table that is busy is tried again.
    """
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    head = ScriptDirectory.from_config(config).get_current_head()
    if head is None:
        raise MigrationError(f"there is no revision in {folder / 'versions'}")
    asyncio.run(_migrate(database_url, config))
    return head


def migrations_folder(package: str) -> Path:
    """`migrations/` of a service: beside its `src/`, or inside the installed package."""
    module = importlib.import_module(package)
    home = Path(module.__file__ or "").resolve().parent
    for folder in (home.parents[1] / "migrations", home / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise MigrationError(f"no migrations of {package} found; set OMS_{package.upper()}_MIGRATIONS_FOLDER")


async def _migrate(database_url: str, config: Config) -> None:
    engine = create_async_engine(
        database_url.replace("postgresql://", "postgresql+asyncpg://", 1),
        poolclass=pool.NullPool,
        connect_args={"timeout": 10, "server_settings": {"application_name": "oms-migrate", "timezone": "UTC"}},
    )
    async with engine.connect() as connection:
        deadline = time.monotonic() + LOCK_SECONDS
        while not await connection.scalar(select(func.pg_try_advisory_lock(LOCK_NUMBER))):
            await connection.rollback()
            if time.monotonic() > deadline:
                raise MigrationError(f"another migration has been running for {LOCK_SECONDS:g} s")
            await asyncio.sleep(0.2)
        await connection.execute(text(f"SET lock_timeout = {LOCK_TIMEOUT_MS}"))
        await connection.commit()  # The lock and the setting belong to the session and stay.
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await connection.run_sync(_upgrade, config)
                break
            except DBAPIError as error:
                await connection.rollback()
                if getattr(error.orig, "sqlstate", None) != "55P03" or attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(1.0)
    await engine.dispose()


def _upgrade(connection: Connection, config: Config) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


_DDL: dict[str, Sequence[str]] = {
    "idempotency_key": (
        """
        CREATE TABLE idempotency_key (
            principal text NOT NULL,
            route text NOT NULL,
            key text NOT NULL,
            request_hash bytea NOT NULL,
            status_code smallint NOT NULL,
            body text NOT NULL,
            created_at timestamptz NOT NULL,
            PRIMARY KEY (principal, route, key)
        )
        """,
        "CREATE INDEX idempotency_key_created_at ON idempotency_key (created_at)",
    ),
    "manual_act": (
        """
        CREATE TABLE manual_act (
            id uuid PRIMARY KEY,
            who text NOT NULL,
            act text NOT NULL,
            subject text NOT NULL,
            why text NOT NULL,
            at timestamptz NOT NULL,
            detail jsonb NOT NULL
        )
        """,
        "CREATE INDEX manual_act_at ON manual_act (at, id)",
        "CREATE INDEX manual_act_subject ON manual_act (subject)",
    ),
}
"""DDL as it was first released. A change is a new step with a number of its own, never an edit here."""


def create(op: Executes, *tables: Table) -> None:
    """Create these tables of this library, in a service's first revision."""
    for table in tables:
        for statement in _DDL[table.name]:
            op.execute(statement)


def upgrade(op: Executes, *, to: int) -> None:
    """Create all of this library's tables: version 1, the only one so far."""
    if to != 1:
        raise ValueError(f"there is no version {to}")
    for statements in _DDL.values():
        for statement in statements:
            op.execute(statement)


def downgrade(op: Executes, *, to: int) -> None:
    """Drop what `upgrade` made: back to version 0."""
    if to != 0:
        raise ValueError(f"there is no way back to version {to}")
    for name in reversed(_DDL):
        op.execute(f"DROP TABLE {name}")
