"""Alembic's way in: `python -m fulfillment --migrate` comes through here."""

from fulfillment.tables import metadata
from webapi.migrations import run_migrations

run_migrations(metadata)
