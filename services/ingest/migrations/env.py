"""Alembic's entry: everything is in webapi."""

from ingest.tables import metadata
from webapi.migrations import run_migrations

run_migrations(metadata)
