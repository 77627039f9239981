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
    {"kind": "blacklist", "rule_id": "blacklist", "token_kinds": ["address", "buyer", "phone", "receiver"]},
    {"kind": "payment", "rule_id": "payment", "settled_states": ["cash_on_delivery", "paid"]},
    {"kind": "refund", "rule_id": "refund"},
    {"kind": "risk", "rule_id": "risk"},
    {"kind": "presale", "rule_id": "presale"},
    {"kind": "split_presale", "rule_id": "split_presale"},
    {"kind": "duplicate", "rule_id": "duplicate", "enabled": false, "within_minutes": 60, "token_kinds": ["buyer", "receiver"]},
    {"kind": "merge", "rule_id": "merge", "enabled": false, "wait_minutes": 15, "max_orders": 10}
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
            parent_id uuid,
            split_no integer NOT NULL,
            children integer NOT NULL,
            merged_into uuid,
            is_merge boolean NOT NULL,
            step integer NOT NULL CONSTRAINT order_state_step CHECK (step >= 0),
            state text NOT NULL
                CONSTRAINT order_state_state CHECK (state IN ('held', 'cleared', 'cancelled', 'split', 'merged')),
            open_holds integer NOT NULL,
            channel text NOT NULL,
            shop_id text NOT NULL,
            rule_set_version integer NOT NULL,
            rules_checked integer NOT NULL,
            decided_at timestamptz NOT NULL,
            changed_at timestamptz NOT NULL,
            merge_key text,
            order_json text,
            part_json text,
            CONSTRAINT order_state_open_holds CHECK ((state = 'held') = (open_holds > 0) AND open_holds >= 0),
            CONSTRAINT order_state_held_has_order
                CHECK ((state = 'held') = (order_json IS NOT NULL AND part_json IS NOT NULL)),
            CONSTRAINT order_state_merged CHECK ((state = 'merged') = (merged_into IS NOT NULL)),
            CONSTRAINT order_state_merge_key CHECK (merge_key IS NULL OR state = 'held')
        )
        """
    )
    # Partial, so that an order that is neither split nor merged, which is nearly every one, writes the primary key alone.
    op.execute("CREATE INDEX order_state_child ON order_state (root_id) WHERE parent_id IS NOT NULL")
    op.execute("CREATE INDEX order_state_merge ON order_state (merge_key) WHERE merge_key IS NOT NULL")
    op.execute("CREATE INDEX order_state_merged_into ON order_state (merged_into) WHERE merged_into IS NOT NULL")
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
            note text NOT NULL,
            state text NOT NULL CONSTRAINT hold_state CHECK (state IN ('open', 'released', 'rejected', 'cancelled')),
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
    op.execute(
        """
        CREATE TABLE like_order (
            digest text COLLATE "C" NOT NULL,
            order_id uuid NOT NULL,
            kind text NOT NULL,
            placed_at timestamptz NOT NULL,
            seen_at timestamptz NOT NULL,
            PRIMARY KEY (digest, order_id)
        )
        """
    )
    op.execute("CREATE INDEX like_order_by_age ON like_order (seen_at)")
    op.execute(
        """
        CREATE TABLE catalog_item (
            sku_id text COLLATE "C" PRIMARY KEY,
            version bigint NOT NULL,
            deleted boolean NOT NULL,
            category text NOT NULL,
            standard_cost_minor bigint NOT NULL
        )
        """
    )
    op.execute(
        """
        CREATE TABLE audit_case (
            case_id uuid PRIMARY KEY,
            kind text NOT NULL,
            root_id uuid NOT NULL,
            request_id uuid NOT NULL,
            channel text NOT NULL,
            shop_id text NOT NULL,
            fields text NOT NULL,
            source_version bigint NOT NULL,
            opened_at timestamptz NOT NULL,
            state text NOT NULL CONSTRAINT audit_case_state CHECK (state IN ('open', 'closed')),
            closed_at timestamptz,
            closed_by text,
            close_reason text,
            CONSTRAINT audit_case_closed
                CHECK ((state = 'open') = (closed_at IS NULL) AND (closed_at IS NULL) = (closed_by IS NULL))
        )
        """
    )
    op.execute("CREATE INDEX audit_case_by_age ON audit_case (opened_at, case_id)")
    op.execute("CREATE INDEX audit_case_by_root ON audit_case (root_id)")
    op.execute(
        """
        CREATE TABLE deferred_act (
            act_id uuid PRIMARY KEY,
            act text NOT NULL
                CONSTRAINT deferred_act_act CHECK (act IN ('release_holds', 'release_orders', 'reject_orders')),
            subjects text NOT NULL,
            reason text NOT NULL,
            asked_by text NOT NULL,
            asked_at timestamptz NOT NULL,
            due_at timestamptz NOT NULL,
            state text NOT NULL CONSTRAINT deferred_act_state CHECK (state IN ('waiting', 'done', 'undone')),
            ended_at timestamptz,
            outcomes text,
            CONSTRAINT deferred_act_ended CHECK ((state = 'waiting') = (ended_at IS NULL))
        )
        """
    )
    op.execute("CREATE INDEX deferred_act_by_age ON deferred_act (asked_at, act_id)")


def downgrade() -> None:
    for table in (
        "deferred_act",
        "audit_case",
        "catalog_item",
        "like_order",
        "blacklist",
        "rule_set",
        "hold",
        "order_state",
        "manual_act",
    ):
        op.execute(f"DROP TABLE {table}")
    eventing.migrations.downgrade(op, to=0)
