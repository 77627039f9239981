"""Keep the money of cancelled units, for the case that they are taken up again."""

from alembic import op

revision = "2026_11_25_0500"
down_revision = "2026_11_25_0340"


def upgrade() -> None:
    op.execute("ALTER TABLE request_line ADD COLUMN money text NOT NULL DEFAULT ''")


def downgrade() -> None:
    op.execute("ALTER TABLE request_line DROP COLUMN money")
