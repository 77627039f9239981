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
        CHECK (attempt >= 0 OR (step = 0 AND NOT live))
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
    "CREATE INDEX fulfilment_order_waiting ON fulfilment_order (carrier, updated_at) WHERE waiting_for = 'waybill'",
    # Apart from the rows that change, for the texts are long; uncompressed, for compressing costs more than all the rest.
    """
    CREATE TABLE fulfilment_content (
        fulfilment_order_id uuid PRIMARY KEY,
        order_json text NOT NULL,
        part_json text NOT NULL
    ) WITH (toast_tuple_target = 8160)
    """,
    """
    ALTER TABLE fulfilment_content
        ALTER COLUMN order_json SET STORAGE EXTERNAL,
        ALTER COLUMN part_json SET STORAGE EXTERNAL
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
        connector text NOT NULL,
        updated_at timestamptz NOT NULL
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
)
TABLES = (
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
