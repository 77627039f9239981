"""Create audit's tables and its first rule set."""

from alembic import op

import eventing.migrations
import webapi.migrations
from audit.tables import manual_act

revision = "2026_11_24_2000"
down_revision = None

FIRST_RULE_SET = """{"rules": [
    {"kind": "address", "rule_id": "address", "allowed_grades": ["complete", "street_short"]},
    {"kind": "phone", "rule_id": "phone", "reachable_kinds": ["mobile", "landline", "virtual", "masked"]},
    {"kind": "amount", "rule_id": "amount", "currency": "CNY", "max_paid_minor": 5000000},
    {"kind": "quantity", "rule_id": "quantity", "max_units_per_sku": 200, "max_units_per_order": 1000},
    {"kind": "blacklist", "rule_id": "blacklist", "token_kinds": ["address", "buyer", "phone", "receiver"]}
]}"""


def upgrade() -> None:
    eventing.migrations.upgrade(op, to=1)
    webapi.migrations.create(op, manual_act)
    # Written once when the order is decided; only held orders (a few per cent) are changed later, once or twice.
    op.execute(
        """
        CREATE TABLE order_state (
            order_id uuid PRIMARY KEY,
            root_id uuid NOT NULL,
            step integer NOT NULL CONSTRAINT order_state_step CHECK (step >= 1),
            state text NOT NULL CONSTRAINT order_state_state CHECK (state IN ('held', 'cleared', 'rejected')),
            open_holds integer NOT NULL,
            channel text NOT NULL,
            shop_id text NOT NULL,
            rule_set_version integer NOT NULL,
            rules_checked integer NOT NULL,
            decided_at timestamptz NOT NULL,
            changed_at timestamptz NOT NULL,
            order_json text,
            part_json text,
            CONSTRAINT order_state_open_holds CHECK ((state = 'held') = (open_holds > 0) AND open_holds >= 0),
            CONSTRAINT order_state_held_has_order
                CHECK (state <> 'held' OR (order_json IS NOT NULL AND part_json IS NOT NULL))
        )
        """
    )
    op.execute(
        """
        CREATE TABLE hold (
            hold_id uuid PRIMARY KEY,
            order_id uuid NOT NULL REFERENCES order_state (order_id),
            channel text NOT NULL,
            shop_id text NOT NULL,
            kind text NOT NULL,
            scope text NOT NULL CONSTRAINT hold_scope CHECK (scope IN ('order', 'line')),
            code text NOT NULL,
            evidence text NOT NULL,
            rule_id text NOT NULL,
            rule_set_version integer NOT NULL,
            placed_by text NOT NULL,
            placed_at timestamptz NOT NULL,
            release_at timestamptz,
            state text NOT NULL CONSTRAINT hold_state CHECK (state IN ('open', 'released', 'rejected')),
            closed_at timestamptz,
            closed_by text,
            close_reason text,
            CONSTRAINT hold_closed
                CHECK ((state = 'open') = (closed_at IS NULL) AND (closed_at IS NULL) = (closed_by IS NULL))
        ) WITH (fillfactor = 80)
        """
    )
    op.execute("CREATE INDEX hold_by_order ON hold (order_id)")
    op.execute("CREATE INDEX hold_by_age ON hold (placed_at, hold_id)")
    op.execute("CREATE INDEX hold_open ON hold (placed_at, hold_id) WHERE state = 'open'")
    op.execute(
        """
        CREATE TABLE rule_set (
            version integer PRIMARY KEY CONSTRAINT rule_set_version CHECK (version >= 1),
            document text NOT NULL,
            active boolean NOT NULL,
            made_by text NOT NULL,
            made_at timestamptz NOT NULL,
            reason text NOT NULL
        )
        """
    )
    op.execute("CREATE UNIQUE INDEX rule_set_one_active ON rule_set (active) WHERE active")
    op.execute(
        f"""
        INSERT INTO rule_set (version, document, active, made_by, made_at, reason)
        VALUES (1, '{FIRST_RULE_SET}', true, 'system', now(), 'shipped with the software')
        """  # noqa: S608  a literal of this file
    )
    op.execute(
        """
        CREATE TABLE blacklist (
            kind text COLLATE "C" NOT NULL
                CONSTRAINT blacklist_kind CHECK (kind IN ('buyer', 'receiver', 'phone', 'address')),
            token text COLLATE "C" NOT NULL CONSTRAINT blacklist_token CHECK (token <> ''),
            reason text NOT NULL,
            added_by text NOT NULL,
            added_at timestamptz NOT NULL,
            PRIMARY KEY (kind, token)
        )
        """
    )


def downgrade() -> None:
    for table in ("blacklist", "rule_set", "hold", "order_state", "manual_act"):
        op.execute(f"DROP TABLE {table}")
    eventing.migrations.downgrade(op, to=0)
