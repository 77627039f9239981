"""Create ingest's tables.

Revision ID: 2026_11_24_2000
"""

from collections.abc import Sequence

from alembic import op

import eventing.migrations
import webapi.migrations

revision = "2026_11_24_2000"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

STATEMENTS: tuple[str, ...] = (
    """
    CREATE TABLE channel_order (
        order_id uuid PRIMARY KEY,
        root_id uuid NOT NULL,
        step integer NOT NULL CHECK (step >= 1),
        channel text NOT NULL,
        shop_id text NOT NULL,
        channel_order_no text NOT NULL,
        source_version bigint NOT NULL CHECK (source_version >= 0),
        content_hash bytea NOT NULL,
        state text NOT NULL CHECK (state IN ('sent', 'parked', 'closed')),
        code text NOT NULL,
        flags text[] NOT NULL,
        sent_version bigint,
        currency text NOT NULL,
        paid_minor bigint NOT NULL CHECK (paid_minor >= 0),
        placed_at timestamptz NOT NULL,
        received_at timestamptz NOT NULL,
        changed_at timestamptz NOT NULL,
        -- What was sent stays known; a later version only adds to it.
        CONSTRAINT channel_order_sent CHECK ((state = 'sent') = (sent_version IS NOT NULL)),
        CONSTRAINT channel_order_sent_version CHECK (sent_version <= source_version)
    ) WITH (fillfactor = 90)
    """,
    "CREATE INDEX channel_order_received ON channel_order (received_at, order_id)",
    "CREATE INDEX channel_order_placed ON channel_order (placed_at, order_id)",
    "CREATE INDEX channel_order_shop ON channel_order (channel, shop_id, received_at, order_id)",
    "CREATE INDEX channel_order_no ON channel_order (channel_order_no)",
    "CREATE INDEX channel_order_parked ON channel_order (received_at, order_id) WHERE state = 'parked'",
    # Ciphertext does not compress; the block does, where it is over 2 kB.
    """
    CREATE TABLE order_document (
        order_id uuid PRIMARY KEY,
        source_version bigint NOT NULL,
        key_id text NOT NULL,
        wrapped_key bytea NOT NULL,
        nonce bytea NOT NULL,
        ciphertext bytea NOT NULL,
        block text NOT NULL
    )
    """,
    "ALTER TABLE order_document ALTER COLUMN ciphertext SET STORAGE EXTERNAL",
    """
    CREATE TABLE parked_sku (
        sku_id text NOT NULL,
        order_id uuid NOT NULL,
        PRIMARY KEY (sku_id, order_id)
    )
    """,
    "CREATE INDEX parked_sku_order ON parked_sku (order_id)",
    """
    CREATE TABLE catalog_item (
        sku_id text PRIMARY KEY,
        version bigint NOT NULL,
        deleted boolean NOT NULL,
        weight_grams integer NOT NULL CHECK (weight_grams >= 0),
        tax_rate_bp integer NOT NULL CHECK (tax_rate_bp BETWEEN 0 AND 10000)
    )
    """,
    """
    CREATE TABLE timeline (
        order_id uuid NOT NULL,
        service text COLLATE "C" NOT NULL,
        step integer NOT NULL CHECK (step >= 1),
        event_id uuid NOT NULL,
        root_id uuid NOT NULL,
        stage text NOT NULL,
        code text NOT NULL,
        params text NOT NULL,
        topic text NOT NULL,
        at timestamptz NOT NULL,
        PRIMARY KEY (order_id, service, step, event_id)
    )
    """,
    # Insert-only: freezing it early is the only vacuum it needs.
    "ALTER TABLE timeline SET (autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_freeze_min_age = 0)",
    # Nine updates per order within seconds: room in the page, and dead rows away before the index swells.
    """
    CREATE TABLE order_stage (
        order_id uuid PRIMARY KEY,
        root_id uuid NOT NULL,
        ingest bigint NOT NULL DEFAULT 0,
        audit bigint NOT NULL DEFAULT 0,
        inventory bigint NOT NULL DEFAULT 0,
        router bigint NOT NULL DEFAULT 0,
        fulfillment bigint NOT NULL DEFAULT 0,
        ledger bigint NOT NULL DEFAULT 0,
        stage smallint NOT NULL GENERATED ALWAYS AS (
            (greatest(ingest % 1000, audit % 1000, inventory % 1000, router % 1000, fulfillment % 1000))::smallint
        ) STORED,
        progress_at timestamptz NOT NULL,
        CHECK (least(ingest, audit, inventory, router, fulfillment, ledger) >= 0)
    ) WITH (
        fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0
    )
    """,
    "CREATE INDEX order_stage_shown ON order_stage (stage, progress_at)",
    "CREATE INDEX order_stage_children ON order_stage (root_id) WHERE order_id <> root_id",
    "COMMENT ON TABLE channel_order IS 'Root row and lock of a channel order. No personal data.'",
    "COMMENT ON TABLE order_document IS 'The latest version as it came, sealed; the order block as sent.'",
    "COMMENT ON TABLE parked_sku IS 'Parked orders by the catalogue item they wait for.'",
    "COMMENT ON TABLE catalog_item IS 'Ingest''s copy of what it needs of catalog.item.'",
    "COMMENT ON TABLE timeline IS 'What the stages reported of an order; its key claims a delivery.'",
    "COMMENT ON TABLE order_stage IS 'Per service: step * 1000 + rank of its stage (domain/book.py).'",
)


def upgrade() -> None:
    eventing.migrations.upgrade(op, to=1)
    webapi.migrations.upgrade(op, to=1)
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("order_stage", "timeline", "catalog_item", "parked_sku", "order_document", "channel_order"):
        op.execute(f"DROP TABLE {table}")
    webapi.migrations.downgrade(op, to=0)
    eventing.migrations.downgrade(op, to=0)
