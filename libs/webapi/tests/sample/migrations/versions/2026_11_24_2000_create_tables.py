"""Create the sample's tables."""

from alembic import op

import webapi.migrations

revision = "2026_11_24_2000"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE TABLE thing (thing_id text PRIMARY KEY)")
    webapi.migrations.upgrade(op, to=1)


def downgrade() -> None:
    webapi.migrations.downgrade(op, to=0)
    op.execute("DROP TABLE thing")
