"""Alembic's entry: the service's tables, run by `python -m inventory --migrate`."""

from webapi.migrations import run_migrations

from inventory.tables import metadata

run_migrations(metadata)
