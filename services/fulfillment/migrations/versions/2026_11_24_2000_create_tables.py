"""Create the tables.

Revision ID: 2026_11_24_2000
"""

from __future__ import annotations

from alembic import op

import eventing.migrations
import webapi.migrations

revision = "2026_11_24_2000"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    # Updated with every change of an order: room on the page keeps the updates off the index.
    """
    CREATE TABLE tracked_order (
        order_id uuid PRIMARY KEY,
        root_id uuid NOT NULL,
        step integer NOT NULL DEFAULT 0 CHECK (step >= 0),
        attempt integer NOT NULL DEFAULT -1 CHECK (attempt >= -1),
        live boolean NOT NULL DEFAULT false,
        CHECK (attempt >= 0 OR NOT live)
    ) WITH (fillfactor = 60)
    """,
    """
    CREATE TABLE fulfilment_order (
        fulfilment_order_id uuid PRIMARY KEY,
        order_id uuid NOT NULL,
        root_id uuid NOT NULL,
        attempt integer NOT NULL CHECK (attempt >= 0),
        kind text NOT NULL CHECK (kind IN ('to_ship', 'pick_up', 'already_handed_over')),
        place_id text COLLATE "C" NOT NULL,
        place_no integer NOT NULL,
        connector text NOT NULL,
        carrier text COLLATE "C",
        receiver_ref uuid,
        weight_grams bigint NOT NULL CHECK (weight_grams >= 0),
        freight_cost_minor bigint NOT NULL CHECK (freight_cost_minor >= 0),
        promised_on date,
        status text NOT NULL
            CHECK (status IN ('open', 'scheduled', 'on_hold', 'in_progress', 'incomplete', 'cancelled', 'closed')),
        request_status text NOT NULL
            CHECK (request_status IN ('unsubmitted', 'submitted', 'accepted', 'rejected', 'cancellation_requested',
                                      'cancellation_accepted', 'cancellation_rejected')),
        waiting_for text CHECK (waiting_for IN ('waybill', 'buyer')),
        ship_at timestamptz,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        parcels integer NOT NULL CHECK (parcels >= 0),
        returns integer NOT NULL CHECK (returns >= 0),
        CHECK ((kind = 'to_ship') = (carrier IS NOT NULL)),
        CHECK (waiting_for IS NULL OR status NOT IN ('closed', 'cancelled'))
    )
    """,
    # An allocated order has one place and one fulfilment order: a second living one would ship the goods twice.
    "CREATE UNIQUE INDEX fulfilment_order_live ON fulfilment_order (order_id) WHERE status <> 'cancelled'",
    "CREATE INDEX fulfilment_order_cancelled ON fulfilment_order (order_id) WHERE status = 'cancelled'",
    "CREATE INDEX fulfilment_order_created ON fulfilment_order (created_at, fulfilment_order_id)",
    """
    CREATE INDEX fulfilment_order_work ON fulfilment_order (place_id, created_at, fulfilment_order_id)
    WHERE status NOT IN ('closed', 'cancelled')
    """,
    # Stops look for what is open under a root; what leaves at once is never in it.
    "CREATE INDEX fulfilment_order_root ON fulfilment_order (root_id) WHERE status NOT IN ('closed', 'cancelled')",
    "CREATE INDEX fulfilment_order_waiting ON fulfilment_order (carrier, updated_at) WHERE waiting_for = 'waybill'",
    # Apart from the rows that change, for the texts are long; uncompressed, for compressing costs more than all the rest.
    """
    CREATE TABLE fulfilment_content (
        fulfilment_order_id uuid PRIMARY KEY,
        order_json text NOT NULL,
        part_json text NOT NULL,
        left_json text
    ) WITH (toast_tuple_target = 8160)
    """,
    """
    ALTER TABLE fulfilment_content
        ALTER COLUMN order_json SET STORAGE EXTERNAL,
        ALTER COLUMN part_json SET STORAGE EXTERNAL,
        ALTER COLUMN left_json SET STORAGE EXTERNAL
    """,
    """
    CREATE TABLE shipment (
        shipment_id uuid PRIMARY KEY,
        fulfilment_order_id uuid NOT NULL,
        order_id uuid NOT NULL,
        root_id uuid NOT NULL,
        place_id text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('to_ship', 'pick_up', 'already_handed_over')),
        carrier text COLLATE "C",
        waybill_no text COLLATE "C",
        weight_grams bigint NOT NULL CHECK (weight_grams >= 0),
        freight_cost_minor bigint NOT NULL CHECK (freight_cost_minor >= 0),
        shipped_at timestamptz NOT NULL,
        state text NOT NULL
            CHECK (state IN ('shipped', 'picked_up', 'in_transit', 'out_for_delivery', 'delivered', 'refused', 'lost')),
        state_at timestamptz NOT NULL,
        part_json text,
        CONSTRAINT shipment_waybill UNIQUE (waybill_no, carrier),
        CHECK ((carrier IS NULL) = (waybill_no IS NULL)),
        CHECK ((kind = 'to_ship') = (waybill_no IS NOT NULL))
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX shipment_order ON shipment (order_id)",
    "CREATE INDEX shipment_shipped ON shipment (shipped_at, shipment_id)",
    """
    CREATE TABLE shipment_line (
        shipment_id uuid NOT NULL,
        origin_order_id uuid NOT NULL,
        origin_line integer NOT NULL CHECK (origin_line >= 1),
        sku_id text COLLATE "C" NOT NULL,
        quantity integer NOT NULL CHECK (quantity >= 1),
        PRIMARY KEY (shipment_id, origin_order_id, origin_line, sku_id)
    )
    """,
    """
    CREATE TABLE carrier_event (
        shipment_id uuid NOT NULL,
        reference text COLLATE "C" NOT NULL,
        state text NOT NULL,
        occurred_at timestamptz NOT NULL,
        applied boolean NOT NULL,
        recorded_at timestamptz NOT NULL,
        recorded_by text NOT NULL,
        PRIMARY KEY (shipment_id, reference)
    )
    """,
    # Few rows, each updated by every batch.
    """
    CREATE TABLE waybill_series (
        series_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        place_id text COLLATE "C",
        carrier text COLLATE "C" NOT NULL,
        prefix text COLLATE "C" NOT NULL,
        digits smallint NOT NULL CHECK (digits BETWEEN 1 AND 18),
        first_no bigint NOT NULL CHECK (first_no >= 0),
        next_no bigint NOT NULL,
        until_no bigint NOT NULL CHECK (until_no < power(10::numeric, digits)),
        updated_at timestamptz NOT NULL,
        CONSTRAINT waybill_series_block UNIQUE (carrier, prefix, digits, first_no),
        CHECK (next_no BETWEEN first_no AND until_no + 1)
    ) WITH (fillfactor = 20)
    """,
    """
    CREATE TABLE place (
        place_id text COLLATE "C" PRIMARY KEY,
        place_no integer NOT NULL,
        name text NOT NULL,
        kind text NOT NULL,
        region_code text NOT NULL,
        version bigint NOT NULL,
        deleted boolean NOT NULL
    )
    """,
    """
    CREATE TABLE place_connector (
        place_id text COLLATE "C" PRIMARY KEY,
        connector text NOT NULL CHECK (connector IN ('automatic', 'manual', 'http')),
        updated_at timestamptz NOT NULL,
        base_url text,
        secret_name text,
        timeout_seconds integer CHECK (timeout_seconds BETWEEN 1 AND 20),
        CHECK (num_nulls(base_url, secret_name, timeout_seconds) = CASE WHEN connector = 'http' THEN 0 ELSE 3 END)
    )
    """,
    """
    CREATE TABLE receiver (
        receiver_ref uuid PRIMARY KEY,
        version bigint NOT NULL,
        key_id text,
        wrapped_key bytea,
        nonce bytea,
        ciphertext bytea,
        deleted boolean NOT NULL,
        CHECK (CASE WHEN deleted THEN num_nonnulls(key_id, wrapped_key, nonce, ciphertext) = 0
                    ELSE num_nulls(key_id, wrapped_key, nonce, ciphertext) = 0 END)
    )
    """,
    "ALTER TABLE receiver ALTER COLUMN ciphertext SET STORAGE EXTERNAL",  # Cipher text does not compress.
    """
    CREATE TABLE stop_request (
        root_id uuid NOT NULL,
        request_id uuid NOT NULL,
        reason text NOT NULL,
        asked jsonb NOT NULL,
        stopped jsonb,
        asked_at timestamptz NOT NULL,
        answered_at timestamptz,
        PRIMARY KEY (root_id, request_id),
        CHECK ((stopped IS NULL) = (answered_at IS NULL))
    )
    """,
    "CREATE INDEX stop_request_open ON stop_request (root_id) WHERE answered_at IS NULL",
    """
    CREATE TABLE stop_claim (
        fulfilment_order_id uuid NOT NULL,
        request_id uuid NOT NULL,
        root_id uuid NOT NULL,
        claim_no bigint GENERATED ALWAYS AS IDENTITY,
        asked jsonb NOT NULL,
        stopped jsonb NOT NULL,
        told boolean NOT NULL,
        pending boolean NOT NULL,
        open boolean NOT NULL,
        PRIMARY KEY (fulfilment_order_id, request_id)
    )
    """,
    "CREATE INDEX stop_claim_request ON stop_claim (root_id, request_id)",
    """
    CREATE TABLE allocation_return (
        fulfilment_order_id uuid NOT NULL,
        return_no integer NOT NULL CHECK (return_no >= 1),
        reason text NOT NULL,
        stock_effect text NOT NULL CHECK (stock_effect IN ('none', 'missing', 'nothing_left', 'damaged')),
        units jsonb NOT NULL,
        returned_at timestamptz NOT NULL,
        PRIMARY KEY (fulfilment_order_id, return_no)
    )
    """,
    """
    CREATE TABLE wms_event (
        place_id text COLLATE "C" NOT NULL,
        event_id text COLLATE "C" NOT NULL,
        content_hash bytea NOT NULL,
        fulfilment_order_id uuid NOT NULL,
        kind text NOT NULL,
        code text,
        received_at timestamptz NOT NULL,
        PRIMARY KEY (place_id, event_id)
    )
    """,
    "CREATE INDEX wms_event_order ON wms_event (fulfilment_order_id, received_at)",
    """
    CREATE TABLE exception_case (
        case_id uuid PRIMARY KEY,
        kind text NOT NULL,
        fulfilment_order_id uuid NOT NULL,
        order_id uuid NOT NULL,
        place_id text NOT NULL,
        detail jsonb NOT NULL,
        opened_at timestamptz NOT NULL,
        closed_at timestamptz,
        closed_by text,
        CHECK ((closed_at IS NULL) = (closed_by IS NULL))
    )
    """,
    "CREATE INDEX exception_case_opened ON exception_case (opened_at, case_id)",
    "CREATE INDEX exception_case_order ON exception_case (fulfilment_order_id)",
    """
    CREATE TABLE carrier_rule (
        rule_id text COLLATE "C" PRIMARY KEY,
        priority integer NOT NULL,
        carrier text NOT NULL,
        forbid boolean NOT NULL,
        place_id text,
        shop_id text,
        area_prefix text NOT NULL,
        min_weight_grams bigint NOT NULL CHECK (min_weight_grams >= 0),
        max_weight_grams bigint CHECK (max_weight_grams > min_weight_grams),
        updated_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE pick_up_try (
        fulfilment_order_id uuid PRIMARY KEY,
        wrong integer NOT NULL CHECK (wrong >= 0),
        locked_until timestamptz
    )
    """,
    """
    CREATE TABLE goods_return (
        return_id uuid PRIMARY KEY,
        reference text COLLATE "C" NOT NULL,
        content_hash bytea NOT NULL,
        shipment_id uuid NOT NULL,
        order_id uuid NOT NULL,
        root_id uuid NOT NULL,
        place_id text NOT NULL,
        reason text NOT NULL CHECK (reason IN ('buyer_return', 'refused_delivery', 'recalled')),
        received_at timestamptz NOT NULL,
        recorded_by text NOT NULL,
        CONSTRAINT goods_return_reference UNIQUE (reference, shipment_id)
    )
    """,
    "CREATE INDEX goods_return_received ON goods_return (received_at, return_id)",
    "CREATE INDEX goods_return_order ON goods_return (order_id)",
    "CREATE INDEX goods_return_shipment ON goods_return (shipment_id)",
    """
    CREATE TABLE goods_return_line (
        return_id uuid NOT NULL,
        origin_order_id uuid NOT NULL,
        origin_line integer NOT NULL,
        sku_id text COLLATE "C" NOT NULL,
        grade text NOT NULL CHECK (grade IN ('good', 'bad', 'missing')),
        quantity integer NOT NULL CHECK (quantity >= 1),
        paid_minor bigint NOT NULL CHECK (paid_minor >= 0),
        receivable_minor bigint NOT NULL CHECK (receivable_minor >= 0),
        tax_minor bigint NOT NULL CHECK (tax_minor >= 0),
        PRIMARY KEY (return_id, origin_order_id, origin_line, sku_id, grade)
    )
    """,
)
TABLES = (
    "goods_return_line",
    "goods_return",
    "pick_up_try",
    "carrier_rule",
    "exception_case",
    "wms_event",
    "allocation_return",
    "stop_claim",
    "stop_request",
    "receiver",
    "place_connector",
    "place",
    "waybill_series",
    "carrier_event",
    "shipment_line",
    "shipment",
    "fulfilment_content",
    "fulfilment_order",
    "tracked_order",
)


def upgrade() -> None:
    eventing.migrations.upgrade(op, to=1)
    webapi.migrations.upgrade(op, to=1)
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for name in TABLES:
        op.execute(f"DROP TABLE {name}")
    webapi.migrations.downgrade(op, to=0)
    eventing.migrations.downgrade(op, to=0)
