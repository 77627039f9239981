"""Alembic's entry: the service's tables, run by `python -m inventory --migrate`."""

from inventory.tables import metadata
from webapi.migrations import run_migrations

run_migrations(metadata)
