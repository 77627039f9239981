"""Alembic's entry; what it does is the same for every service."""

from audit.tables import metadata
from webapi.migrations import run_migrations

run_migrations(metadata)
