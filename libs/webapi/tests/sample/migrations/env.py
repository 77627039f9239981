from sample.tables import metadata

from webapi.migrations import run_migrations

run_migrations(metadata)
