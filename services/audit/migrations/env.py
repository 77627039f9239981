"""Alembic's entry; what it does is the same for every service."""

from webapi.migrations import run_migrations

from audit.tables import metadata

run_migrations(metadata)
