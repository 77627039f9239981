"""Keep how an order stood before a change of its receiver was asked for."""

from alembic import op

revision = "2026_11_25_0340"
down_revision = "2026_11_25_0300"


def upgrade() -> None:
    op.execute("ALTER TABLE request ADD COLUMN former text NOT NULL DEFAULT ''")


def downgrade() -> None:
    op.execute("ALTER TABLE request DROP COLUMN former")
