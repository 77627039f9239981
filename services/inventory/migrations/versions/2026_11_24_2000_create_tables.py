"""Create the tables of inventory.

Revision ID: 2026_11_24_2000
Revises:
"""

from collections.abc import Sequence

from alembic import op

import eventing.migrations
import webapi.migrations

revision: str = "2026_11_24_2000"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

TABLES: Sequence[str] = (
    """
    CREATE TABLE item (
        sku_id text COLLATE "C" PRIMARY KEY,
        name text NOT NULL,
        category text NOT NULL,
        barcode text,
        weight_grams integer NOT NULL CHECK (weight_grams >= 0),
        tax_rate_bp integer NOT NULL CHECK (tax_rate_bp BETWEEN 0 AND 10000),
        standard_cost_minor bigint NOT NULL CHECK (standard_cost_minor >= 0),
        currency text NOT NULL,
        bundle_parts text NOT NULL,
        deleted boolean NOT NULL,
        version bigint NOT NULL CHECK (version >= 1),
        changed_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE location (
        place_id text COLLATE "C" PRIMARY KEY,
        place_no integer GENERATED ALWAYS AS IDENTITY,
        name text NOT NULL,
        kind text NOT NULL,
        pool_id text COLLATE "C" NOT NULL,
        region_code text NOT NULL,
        latitude double precision NOT NULL,
        longitude double precision NOT NULL,
        coverage text[] NOT NULL,
        carriers text[] NOT NULL,
        daily_capacity integer NOT NULL CHECK (daily_capacity >= 0),
        cut_off time NOT NULL,
        working_weekdays smallint[] NOT NULL,
        priority integer NOT NULL,
        handling_cost_minor bigint NOT NULL CHECK (handling_cost_minor >= 0),
        paused boolean NOT NULL,
        ships boolean NOT NULL,
        pick_up boolean NOT NULL,
        deleted boolean NOT NULL,
        version bigint NOT NULL CHECK (version >= 1),
        changed_at timestamptz NOT NULL,
        CONSTRAINT location_place_no_key UNIQUE (place_no)
    )
    """,
    """
    CREATE TABLE policy (
        name text COLLATE "C" PRIMARY KEY,
        version bigint NOT NULL CHECK (version >= 1),
        content text NOT NULL,
        changed_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE bundle_part (
        bundle_id text COLLATE "C" NOT NULL REFERENCES item,
        sku_id text COLLATE "C" NOT NULL REFERENCES item,
        quantity integer NOT NULL CHECK (quantity > 0),
        PRIMARY KEY (bundle_id, sku_id)
    )
    """,
    "CREATE INDEX bundle_part_by_sku ON bundle_part (sku_id)",
    # Rows of hot SKUs change hundreds of times a second: half-empty pages let every new version stay on its page.
    """
    CREATE TABLE pool_stock (
        sku_id text COLLATE "C" NOT NULL REFERENCES item,
        pool_id text COLLATE "C" NOT NULL,
        free integer NOT NULL CHECK (free >= 0),
        overpromised integer NOT NULL CHECK (overpromised >= 0),
        waking boolean NOT NULL,
        safety integer NOT NULL CHECK (safety >= 0),
        version bigint NOT NULL,
        PRIMARY KEY (sku_id, pool_id),
        CHECK (free = 0 OR overpromised = 0)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE place_stock (
        sku_id text COLLATE "C" NOT NULL REFERENCES item,
        place_no integer NOT NULL REFERENCES location (place_no),
        on_hand integer NOT NULL CHECK (on_hand >= 0),
        allocated integer NOT NULL CHECK (allocated >= 0),
        short integer NOT NULL CHECK (short >= 0),
        damaged integer NOT NULL CHECK (damaged >= 0),
        safety integer NOT NULL CHECK (safety >= 0),
        incoming integer NOT NULL CHECK (incoming >= 0),
        version bigint NOT NULL,
        PRIMARY KEY (sku_id, place_no),
        CHECK (allocated <= on_hand)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE place_day (
        place_no integer NOT NULL REFERENCES location (place_no),
        day date NOT NULL,
        used integer NOT NULL CHECK (used >= 0),
        PRIMARY KEY (place_no, day)
    ) WITH (fillfactor = 20)
    """,
    # No foreign keys from here on: the hot path inserts hundreds of rows whose parents it has locked already.
    """
    CREATE TABLE movement (
        movement_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        subject_id uuid NOT NULL,
        cause_id uuid NOT NULL,
        line integer NOT NULL,
        kind text NOT NULL CHECK (kind IN (
            'received', 'adjusted', 'counted', 'regraded', 'transfer_out', 'transfer_in', 'handed_over', 'allocated', 'shipped',
            'returned', 'sent_back'
        )),
        sku_id text COLLATE "C" NOT NULL,
        place_no integer NOT NULL,
        on_hand integer NOT NULL,
        allocated integer NOT NULL,
        short integer NOT NULL,
        damaged integer NOT NULL,
        unit_cost_minor bigint,
        reason_code text,
        moved_at timestamptz NOT NULL,
        CONSTRAINT movement_effect_key UNIQUE (subject_id, cause_id, line, sku_id),
        CHECK (on_hand <> 0 OR allocated <> 0 OR short <> 0 OR damaged <> 0)
    )
    """,
    "CREATE INDEX movement_by_sku ON movement (sku_id, movement_id)",
    """
    CREATE TABLE stock_order (
        order_id uuid PRIMARY KEY,
        root_id uuid NOT NULL,
        parent_id uuid,
        step integer NOT NULL,
        state text NOT NULL CHECK (state IN (
            'root', 'reserved', 'backordered', 'stuck', 'allocated', 'returned', 'split', 'cancelled', 'closed'
        )),
        attempt integer NOT NULL CHECK (attempt >= 0),
        reoffers smallint NOT NULL CHECK (reoffers >= 0),
        pool_id text NOT NULL,
        place_no integer,
        capacity_on date,
        forced_place_no integer,
        excluded integer[] NOT NULL DEFAULT '{}',
        children integer NOT NULL DEFAULT 0,
        return_no integer NOT NULL DEFAULT 0,
        kind text NOT NULL,
        priority smallint NOT NULL,
        received_at timestamptz NOT NULL,
        skus text[] NOT NULL,
        quantities integer[] NOT NULL,
        units_left integer NOT NULL CHECK (units_left >= 0),
        added_at timestamptz NOT NULL,
        changed_at timestamptz NOT NULL,
        CHECK (cardinality(skus) = cardinality(quantities)),
        CHECK (0 < ALL (quantities)),
        CHECK ((place_no IS NOT NULL) = (state IN ('allocated', 'closed'))),
        CHECK ((units_left = 0) = (state IN ('closed', 'root', 'split', 'cancelled')))
    ) WITH (fillfactor = 60)
    """,
    # Orders that were never split are their own roots, and pay nothing for it.
    "CREATE INDEX stock_order_by_root ON stock_order (root_id) WHERE root_id <> order_id",
    """
    CREATE TABLE pending_stop (
        stop_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        root_id uuid NOT NULL,
        request_id uuid NOT NULL,
        origin_order_id uuid NOT NULL,
        origin_line integer NOT NULL,
        sku_id text NOT NULL,
        quantity integer NOT NULL CHECK (quantity > 0),
        kind text NOT NULL CHECK (kind IN ('cancel', 'recall')),
        since timestamptz NOT NULL,
        CONSTRAINT pending_stop_claim_key UNIQUE (root_id, request_id, origin_order_id, origin_line, sku_id)
    )
    """,
    """
    CREATE TABLE order_request (
        request_id uuid NOT NULL,
        kind text NOT NULL CHECK (kind IN ('cancel', 'change', 'recall')),
        root_id uuid NOT NULL,
        heard_at timestamptz NOT NULL,
        PRIMARY KEY (request_id, kind)
    )
    """,
    """
    CREATE TABLE order_document (
        order_id uuid PRIMARY KEY,
        body bytea NOT NULL
    )
    """,
    # Written once and read once: compressing it, or moving it out of line, is work for nothing.
    "ALTER TABLE order_document ALTER body SET STORAGE EXTERNAL",
    "ALTER TABLE order_document SET (toast_tuple_target = 8160)",
    """
    CREATE TABLE backorder (
        sku_id text COLLATE "C" NOT NULL,
        pool_id text COLLATE "C" NOT NULL,
        priority smallint NOT NULL,
        received_at timestamptz NOT NULL,
        order_id uuid NOT NULL,
        quantity integer NOT NULL CHECK (quantity > 0),
        missing integer NOT NULL CHECK (missing BETWEEN 0 AND quantity),
        PRIMARY KEY (sku_id, pool_id, priority, received_at, order_id)
    )
    """,
    """
    CREATE TABLE stuck_order (
        order_id uuid PRIMARY KEY,
        since timestamptz NOT NULL,
        code text NOT NULL
    )
    """,
    "CREATE INDEX stuck_order_by_age ON stuck_order (since, order_id)",
    """
    CREATE TABLE stock_cost (
        sku_id text COLLATE "C" PRIMARY KEY REFERENCES item,
        units bigint NOT NULL CHECK (units > 0),
        value_minor bigint NOT NULL CHECK (value_minor >= 0),
        unit_cost_minor bigint NOT NULL CHECK (unit_cost_minor >= 0),
        changed_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE incoming (
        document_id uuid NOT NULL,
        sku_id text COLLATE "C" NOT NULL REFERENCES item,
        place_no integer NOT NULL REFERENCES location (place_no),
        due_on date,
        announced integer NOT NULL CHECK (announced > 0),
        arrived integer NOT NULL CHECK (arrived >= 0),
        unit_cost_minor bigint,
        open boolean NOT NULL,
        PRIMARY KEY (document_id, sku_id)
    )
    """,
    "CREATE INDEX incoming_open ON incoming (sku_id, place_no) WHERE open",
    """
    CREATE TABLE place_snapshot (
        place_no integer PRIMARY KEY REFERENCES location (place_no),
        taken_at timestamptz NOT NULL,
        document_id uuid NOT NULL
    )
    """,
    """
    CREATE TABLE stock_document (
        document_id uuid PRIMARY KEY,
        kind text NOT NULL CHECK (kind IN (
            'receipt', 'adjustment', 'count', 'damage', 'incoming', 'transfer', 'transfer_receipt', 'snapshot'
        )),
        reference text COLLATE "C" NOT NULL,
        place_no integer NOT NULL REFERENCES location (place_no),
        content text NOT NULL,
        recorded_by text NOT NULL,
        recorded_at timestamptz NOT NULL,
        CONSTRAINT stock_document_reference_key UNIQUE (kind, reference)
    )
    """,
    """
    CREATE TABLE stock_level_sent (
        sku_id text COLLATE "C" NOT NULL,
        pool_id text COLLATE "C" NOT NULL,
        place_no integer NOT NULL,
        version bigint NOT NULL,
        basis bigint NOT NULL,
        sent_at timestamptz NOT NULL,
        PRIMARY KEY (sku_id, pool_id, place_no)
    ) WITH (fillfactor = 50)
    """,
)
NAMES: Sequence[str] = (
    "stock_level_sent",
    "stock_document",
    "place_snapshot",
    "incoming",
    "stock_cost",
    "stuck_order",
    "backorder",
    "order_document",
    "order_request",
    "pending_stop",
    "stock_order",
    "movement",
    "place_day",
    "place_stock",
    "pool_stock",
    "bundle_part",
    "policy",
    "location",
    "item",
)


def upgrade() -> None:
    eventing.migrations.upgrade(op, to=1)
    webapi.migrations.upgrade(op, to=1)
    for statement in TABLES:
        op.execute(statement)


def downgrade() -> None:
    for name in NAMES:
        op.execute(f"DROP TABLE {name}")
    webapi.migrations.downgrade(op, to=0)
    eventing.migrations.downgrade(op, to=0)
