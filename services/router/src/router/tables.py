"""Router's tables. DDL is in `migrations/`; a test holds the two together."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    text,
)

import eventing.tables
import webapi.operators

metadata = MetaData()
runtime = eventing.tables.define(metadata)
manual_act = webapi.operators.manual_act_table(metadata)

location = Table(
    "location",
    metadata,
    Column("place_no", Integer, primary_key=True, autoincrement=False),
    Column("place_id", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)

location_version = Table(
    "location_version",
    metadata,
    Column("place_no", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("document", Text, nullable=False),
)


def _versioned(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("version", Integer, primary_key=True, autoincrement=False),
        Column("document", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("made_by", Text, nullable=False),
        Column("made_at", DateTime(timezone=True), nullable=False),
        Column("reason", Text, nullable=False),
        CheckConstraint("version >= 1", name=f"{name}_version"),
        CheckConstraint("state IN ('draft', 'active', 'inactive')", name=f"{name}_state"),
        Index(f"{name}_one_active", "state", unique=True, postgresql_where=text("state = 'active'")),
    )


policy = _versioned("policy")
freight_tables = _versioned("freight_tables")

routing_state = Table(
    "routing_state",
    metadata,
    Column("only_row", Boolean, primary_key=True),
    Column("location_revision", BigInteger, nullable=False),
    Column("policy_version", Integer, nullable=False),
    Column("freight_version", Integer, nullable=False),
    CheckConstraint("only_row", name="routing_state_only_row"),
)

order_state = Table(
    "order_state",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("root_id", Uuid, nullable=False),
    Column("step", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("decided_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("step >= 1 AND attempt >= step", name="order_state_step"),
    CheckConstraint("state IN ('routed', 'unroutable')", name="order_state_state"),
)

decision = Table(
    "decision",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("decided_at", DateTime(timezone=True), nullable=False),
    Column("policy_version", Integer, nullable=False),
    Column("freight_version", Integer, nullable=False),
    Column("candidates", Integer, nullable=False),
    Column("eligible", Integer, nullable=False),
    Column("combined", Integer, nullable=False),
    Column("place_no", Integer),
    Column("record", Text, nullable=False),
    CheckConstraint("0 <= eligible AND eligible <= candidates", name="decision_eligible"),
    CheckConstraint("combined >= 0", name="decision_combined"),
    CheckConstraint("(eligible = 0) = (place_no IS NULL)", name="decision_place_no"),
    CheckConstraint("attempt >= 1", name="decision_attempt"),
    Index("decision_decided_at", "decided_at", "order_id", "attempt"),
    Index("decision_unroutable", "decided_at", "order_id", postgresql_where=text("eligible = 0 AND combined = 0")),
    Index("decision_combined_only", "decided_at", "order_id", postgresql_where=text("eligible = 0 AND combined > 0")),
)
