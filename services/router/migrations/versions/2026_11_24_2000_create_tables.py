"""Create router's tables, its first policy and its first freight tables."""

from alembic import op

import eventing.migrations
import webapi.migrations
from router.tables import manual_act

revision = "2026_11_24_2000"
down_revision = None

FIRST_POLICY = """{
    "filters": ["coverage", "capacity", "stock_after_pick"],
    "criteria": ["parcels", "landed_cost", "promised_days", "distance", "priority"],
    "bands": {},
    "min_stock_after_pick": 0,
    "split": "when_needed",
    "max_parcels": 3,
    "min_parcel_value_minor": 0
}"""
# A carrier without a table of its own: 12 yuan for the first kilogram, 5 for every further one begun, 3 days.
FIRST_FREIGHT_TABLES = """{
    "default_row": {"first_weight_grams": 1000, "first_price_minor": 1200,
                    "step_weight_grams": 1000, "step_price_minor": 500, "days": 3},
    "carriers": {}
}"""


def upgrade() -> None:
    eventing.migrations.upgrade(op, to=1)
    webapi.migrations.create(op, manual_act)
    op.execute(
        """
        CREATE TABLE location (
            place_no integer PRIMARY KEY,
            place_id text NOT NULL,
            version bigint NOT NULL,
            document text NOT NULL
        )
        """
    )
    # What a place was when a decision was made; places change a few times a month.
    op.execute(
        """
        CREATE TABLE location_version (
            place_no integer NOT NULL,
            version bigint NOT NULL,
            document text NOT NULL,
            PRIMARY KEY (place_no, version)
        )
        """
    )
    for table, document in (("policy", FIRST_POLICY), ("freight_tables", FIRST_FREIGHT_TABLES)):
        op.execute(
            f"""
            CREATE TABLE {table} (
                version integer PRIMARY KEY CONSTRAINT {table}_version CHECK (version >= 1),
                document text NOT NULL,
                state text NOT NULL CONSTRAINT {table}_state CHECK (state IN ('draft', 'active', 'inactive')),
                made_by text NOT NULL,
                made_at timestamptz NOT NULL,
                reason text NOT NULL
            )
            """
        )
        op.execute(f"CREATE UNIQUE INDEX {table}_one_active ON {table} (state) WHERE state = 'active'")
        op.execute(
            f"""
            INSERT INTO {table} (version, document, state, made_by, made_at, reason)
            VALUES (1, '{document}', 'active', 'system', now(), 'shipped with the software')
            """  # noqa: S608  literals of this file
        )
    # Read in every batch: says whether what a worker keeps in memory is still what holds.
    op.execute(
        """
        CREATE TABLE routing_state (
            only_row boolean PRIMARY KEY DEFAULT true CONSTRAINT routing_state_only_row CHECK (only_row),
            location_revision bigint NOT NULL,
            policy_version integer NOT NULL,
            freight_version integer NOT NULL
        ) WITH (fillfactor = 50)
        """
    )
    op.execute("INSERT INTO routing_state (location_revision, policy_version, freight_version) VALUES (0, 1, 1)")
    op.execute(
        """
        CREATE TABLE order_state (
            order_id uuid PRIMARY KEY,
            root_id uuid NOT NULL,
            step integer NOT NULL,
            attempt integer NOT NULL,
            state text NOT NULL CONSTRAINT order_state_state CHECK (state IN ('routed', 'unroutable')),
            decided_at timestamptz NOT NULL,
            CONSTRAINT order_state_step CHECK (step >= 1 AND attempt >= step)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE decision (
            order_id uuid NOT NULL,
            attempt integer NOT NULL CONSTRAINT decision_attempt CHECK (attempt >= 1),
            decided_at timestamptz NOT NULL,
            policy_version integer NOT NULL,
            freight_version integer NOT NULL,
            candidates integer NOT NULL,
            eligible integer NOT NULL,
            combined integer NOT NULL CONSTRAINT decision_combined CHECK (combined >= 0),
            place_no integer,
            record text NOT NULL,
            PRIMARY KEY (order_id, attempt),
            CONSTRAINT decision_eligible CHECK (0 <= eligible AND eligible <= candidates),
            CONSTRAINT decision_place_no CHECK ((eligible = 0) = (place_no IS NULL))
        )
        """
    )
    # For lists by time, and for the purge, which walks it from the old end.
    op.execute("CREATE INDEX decision_decided_at ON decision (decided_at, order_id, attempt)")
    op.execute("CREATE INDEX decision_unroutable ON decision (decided_at, order_id) WHERE eligible = 0 AND combined = 0")
    op.execute("CREATE INDEX decision_combined_only ON decision (decided_at, order_id) WHERE eligible = 0 AND combined > 0")


def downgrade() -> None:
    for table in (
        "decision",
        "order_state",
        "routing_state",
        "freight_tables",
        "policy",
        "location_version",
        "location",
        "manual_act",
    ):
        op.execute(f"DROP TABLE {table}")
    eventing.migrations.downgrade(op, to=0)
