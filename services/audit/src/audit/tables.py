"""Audit's tables. DDL is in `migrations/`; a test holds the two together."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
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

order_state = Table(
    "order_state",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("root_id", Uuid, nullable=False),
    Column("step", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("open_holds", Integer, nullable=False),
    Column("channel", Text, nullable=False),
    Column("shop_id", Text, nullable=False),
    Column("rule_set_version", Integer, nullable=False),
    Column("rules_checked", Integer, nullable=False),
    Column("decided_at", DateTime(timezone=True), nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Column("order_json", Text),
    Column("part_json", Text),
    CheckConstraint("step >= 1", name="order_state_step"),
    CheckConstraint("state IN ('held', 'cleared', 'rejected')", name="order_state_state"),
    CheckConstraint("(state = 'held') = (open_holds > 0) AND open_holds >= 0", name="order_state_open_holds"),
    CheckConstraint("state <> 'held' OR (order_json IS NOT NULL AND part_json IS NOT NULL)", name="order_state_held_has_order"),
)

hold = Table(
    "hold",
    metadata,
    Column("hold_id", Uuid, primary_key=True),
    Column("order_id", Uuid, ForeignKey("order_state.order_id", name="hold_order_id_fkey"), nullable=False),
    Column("channel", Text, nullable=False),
    Column("shop_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("rule_id", Text, nullable=False),
    Column("rule_set_version", Integer, nullable=False),
    Column("placed_by", Text, nullable=False),
    Column("placed_at", DateTime(timezone=True), nullable=False),
    Column("release_at", DateTime(timezone=True)),
    Column("state", Text, nullable=False),
    Column("closed_at", DateTime(timezone=True)),
    Column("closed_by", Text),
    Column("close_reason", Text),
    CheckConstraint("state IN ('open', 'released', 'rejected')", name="hold_state"),
    CheckConstraint("(state = 'open') = (closed_at IS NULL) AND (closed_at IS NULL) = (closed_by IS NULL)", name="hold_closed"),
    CheckConstraint("scope IN ('order', 'line')", name="hold_scope"),
    Index("hold_by_order", "order_id"),
    Index("hold_by_age", "placed_at", "hold_id"),
    Index("hold_open", "placed_at", "hold_id", postgresql_where=text("state = 'open'")),
)

rule_set = Table(
    "rule_set",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("document", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False),
    Column("reason", Text, nullable=False),
    CheckConstraint("version >= 1", name="rule_set_version"),
    Index("rule_set_one_active", "active", unique=True, postgresql_where=text("active")),
)

blacklist = Table(
    "blacklist",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("token", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("added_by", Text, nullable=False),
    Column("added_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("kind IN ('buyer', 'receiver', 'phone', 'address')", name="blacklist_kind"),
    CheckConstraint("token <> ''", name="blacklist_token"),
)
