"""Take tasks that are due at one moment in the order of their ids."""

from alembic import op

import eventing.migrations

revision = "2026_11_25_0300"
down_revision = "2026_11_24_2000"


def upgrade() -> None:
    eventing.migrations.upgrade(op, to=2)


def downgrade() -> None:
    eventing.migrations.downgrade(op, to=1)
