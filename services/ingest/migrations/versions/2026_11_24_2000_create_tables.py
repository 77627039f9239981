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
        first_order_id uuid NOT NULL,
        again smallint NOT NULL CHECK ((again = 0) = (order_id = first_order_id)),
        step integer NOT NULL CHECK (step >= 1),
        channel text NOT NULL,
        shop_id text NOT NULL,
        channel_order_no text NOT NULL,
        source_version bigint NOT NULL CHECK (source_version >= 0),
        content_hash bytea NOT NULL,
        state text NOT NULL CHECK (state IN ('sent', 'parked', 'closed', 'cancelled')),
        code text NOT NULL,
        flags text[] NOT NULL,
        sent_version bigint,
        currency text NOT NULL,
        paid_minor bigint NOT NULL CHECK (paid_minor >= 0),
        placed_at timestamptz NOT NULL,
        received_at timestamptz NOT NULL,
        changed_at timestamptz NOT NULL,
        -- What was sent stays known; a later version only adds to it.
        -- Cancelled may be either: here, before it was sent, or by whoever held it.
        CONSTRAINT channel_order_sent CHECK (state = 'cancelled' OR (state = 'sent') = (sent_version IS NOT NULL)),
        CONSTRAINT channel_order_sent_version CHECK (sent_version <= source_version)
    ) WITH (fillfactor = 90)
    """,
    "CREATE INDEX channel_order_received ON channel_order (received_at, order_id)",
    "CREATE INDEX channel_order_placed ON channel_order (placed_at, order_id)",
    "CREATE INDEX channel_order_shop ON channel_order (channel, shop_id, received_at, order_id)",
    "CREATE INDEX channel_order_no ON channel_order (channel_order_no)",
    "CREATE INDEX channel_order_parked ON channel_order (received_at, order_id) WHERE state = 'parked'",
    "CREATE INDEX channel_order_again ON channel_order (first_order_id) WHERE order_id <> first_order_id",
    # Ciphertext does not compress; the block does, where it is over 2 kB.
    """
    CREATE TABLE order_document (
        order_id uuid PRIMARY KEY,
        source_version bigint NOT NULL,
        key_id text NOT NULL,
        wrapped_key bytea NOT NULL,
        nonce bytea NOT NULL,
        ciphertext bytea NOT NULL,
        block text NOT NULL,
        part text NOT NULL,
        former_refs uuid[] NOT NULL DEFAULT '{}'
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
        tax_rate_bp integer NOT NULL CHECK (tax_rate_bp BETWEEN 0 AND 10000),
        bundle_parts text NOT NULL
    )
    """,
    # A stage that cancels by itself may name several orders of a merge in one request.
    """
    CREATE TABLE request (
        request_id uuid NOT NULL,
        order_id uuid NOT NULL,
        kind text NOT NULL CHECK (kind IN ('cancel', 'change')),
        state text NOT NULL CHECK (state IN ('open', 'closed', 'withdrawn')),
        is_sent boolean NOT NULL,
        is_ours boolean NOT NULL,
        reason text NOT NULL,
        requested_by text NOT NULL,
        note text NOT NULL,
        reference text,
        fields text NOT NULL,
        applied text NOT NULL,
        refused text NOT NULL,
        part text NOT NULL,
        code text NOT NULL,
        asked_at timestamptz NOT NULL,
        settled_at timestamptz,
        revived_as uuid,
        PRIMARY KEY (request_id, order_id)
    )
    """,
    "CREATE INDEX request_order ON request (order_id, asked_at)",
    "CREATE INDEX request_asked ON request (kind, asked_at, request_id, order_id)",
    "CREATE INDEX request_open ON request (kind, asked_at, request_id, order_id) WHERE state = 'open'",
    "CREATE UNIQUE INDEX request_reference ON request (order_id, kind, reference) WHERE reference IS NOT NULL",
    """
    CREATE TABLE request_line (
        request_id uuid NOT NULL,
        order_id uuid NOT NULL,
        origin_order_id uuid NOT NULL,
        origin_line smallint NOT NULL,
        sku_id text NOT NULL,
        asked integer NOT NULL,
        cancelled integer NOT NULL CHECK (cancelled >= 0),
        refused integer NOT NULL CHECK (refused >= 0),
        code text NOT NULL,
        quantity_then integer NOT NULL,
        PRIMARY KEY (request_id, order_id, origin_order_id, origin_line, sku_id),
        FOREIGN KEY (request_id, order_id) REFERENCES request,
        CHECK (cancelled + refused <= asked)
    )
    """,
    """
    CREATE TABLE refund (
        channel text NOT NULL,
        shop_id text NOT NULL,
        refund_id text NOT NULL,
        order_id uuid NOT NULL,
        amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
        lines text NOT NULL,
        settled_at timestamptz NOT NULL,
        PRIMARY KEY (channel, shop_id, refund_id)
    )
    """,
    "CREATE INDEX refund_order ON refund (order_id)",
    """
    CREATE TABLE receipt (
        order_id uuid NOT NULL,
        reference text NOT NULL,
        confirmed_at timestamptz NOT NULL,
        PRIMARY KEY (order_id, reference)
    )
    """,
    """
    CREATE TABLE order_case (
        case_id uuid PRIMARY KEY,
        order_id uuid NOT NULL,
        kind text NOT NULL,
        subject text NOT NULL,
        params text NOT NULL,
        opened_at timestamptz NOT NULL,
        closed_at timestamptz,
        closed_by text,
        close_reason text,
        UNIQUE (order_id, kind, subject),
        CHECK ((closed_at IS NULL) = (closed_by IS NULL) AND (closed_at IS NULL) = (close_reason IS NULL))
    )
    """,
    "CREATE INDEX order_case_opened ON order_case (opened_at, case_id)",
    "CREATE INDEX order_case_open ON order_case (opened_at, case_id) WHERE closed_at IS NULL",
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
    """
    CREATE TABLE order_link (
        order_id uuid NOT NULL,
        by_order uuid NOT NULL,
        by_root uuid NOT NULL,
        revived boolean NOT NULL,
        PRIMARY KEY (order_id, by_order)
    )
    """,
    # Asked of every batch, so it holds only the joins: orders that stand for others under a root of their own.
    "CREATE INDEX order_link_joins ON order_link (by_root) WHERE by_order = by_root",
    # Nine updates per order within seconds: room in the page, and dead rows away before the index swells.
    # `stage` and `since` are those of a channel order with all its parts, and NULL for what is shown with another.
    """
    CREATE TABLE order_stage (
        order_id uuid PRIMARY KEY,
        root_id uuid,
        ingest bigint NOT NULL DEFAULT 0,
        audit bigint NOT NULL DEFAULT 0,
        inventory bigint NOT NULL DEFAULT 0,
        router bigint NOT NULL DEFAULT 0,
        fulfillment bigint NOT NULL DEFAULT 0,
        ledger bigint NOT NULL DEFAULT 0,
        replaced boolean NOT NULL DEFAULT false,
        joined boolean NOT NULL DEFAULT false,
        family_stage smallint,
        family_at timestamptz,
        progress_at timestamptz NOT NULL,
        stage smallint GENERATED ALWAYS AS (
            CASE WHEN joined OR order_id <> root_id THEN NULL ELSE coalesce(family_stage, (greatest(
                ingest % 1000000, audit % 1000000, inventory % 1000000, router % 1000000, fulfillment % 1000000
            ) % 1000)::smallint) END
        ) STORED,
        since timestamptz GENERATED ALWAYS AS (coalesce(family_at, progress_at)) STORED,
        CHECK (least(ingest, audit, inventory, router, fulfillment, ledger) >= 0)
    ) WITH (
        fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0
    )
    """,
    "CREATE INDEX order_stage_shown ON order_stage (stage, since)",
    "CREATE INDEX order_stage_children ON order_stage (root_id) WHERE order_id <> root_id",
    """
    CREATE TABLE erasure (
        order_id uuid PRIMARY KEY,
        erased_at timestamptz NOT NULL,
        receiver_refs uuid[] NOT NULL
    )
    """,
    "COMMENT ON TABLE channel_order IS"
    " 'Root row and lock of a channel order, and of each order that takes it up again. No personal data.'",
    "COMMENT ON TABLE order_document IS"
    " 'The latest version as it came, sealed; the block as told last; the part as sent, where the block differs.'",
    "COMMENT ON TABLE request IS 'Cancels and changes of an order, and what became of them.'",
    "COMMENT ON TABLE request_line IS 'Units of a cancel request, by line.'",
    "COMMENT ON TABLE refund IS 'Money that went back, once for ever per refund of the platform.'",
    "COMMENT ON TABLE receipt IS 'Receipts that were told, once for ever.'",
    "COMMENT ON TABLE order_case IS 'What people must look at: a reason code, its parameters, and what it is about.'",
    "COMMENT ON TABLE parked_sku IS 'Parked orders by the catalogue item they wait for.'",
    "COMMENT ON TABLE catalog_item IS 'Ingest''s copy of what it needs of catalog.item.'",
    "COMMENT ON TABLE timeline IS 'What the stages reported of an order; its key claims a delivery.'",
    "COMMENT ON TABLE order_link IS"
    " 'Which order carries what was another: after a split, a merge, or a cancelled order taken up again.'",
    "COMMENT ON TABLE order_stage IS 'Per service: step * 1000000 + attempt * 1000 + rank of its stage (domain/book.py).'",
    "COMMENT ON TABLE erasure IS 'Orders whose personal data was destroyed, and the receivers that were.'",
)


def upgrade() -> None:
    eventing.migrations.upgrade(op, to=1)
    webapi.migrations.upgrade(op, to=1)
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in (
        "erasure",
        "order_stage",
        "order_link",
        "timeline",
        "order_case",
        "receipt",
        "refund",
        "request_line",
        "request",
        "catalog_item",
        "parked_sku",
        "order_document",
        "channel_order",
    ):
        op.execute(f"DROP TABLE {table}")
    webapi.migrations.downgrade(op, to=0)
    eventing.migrations.downgrade(op, to=0)
