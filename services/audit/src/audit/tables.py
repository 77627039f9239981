"""Audit's tables. DDL is in `migrations/`; a test holds the two together."""

from sqlalchemy import (
    BigInteger,
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
    Column("parent_id", Uuid),
    Column("split_no", Integer, nullable=False),
    Column("children", Integer, nullable=False),
    Column("merged_into", Uuid),
    Column("is_merge", Boolean, nullable=False),
    # 0: nothing was ever said of it: an order that was split when it came.
    Column("step", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("open_holds", Integer, nullable=False),
    Column("channel", Text, nullable=False),
    Column("shop_id", Text, nullable=False),
    Column("rule_set_version", Integer, nullable=False),
    Column("rules_checked", Integer, nullable=False),
    Column("decided_at", DateTime(timezone=True), nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Column("merge_key", Text),
    Column("order_json", Text),
    Column("part_json", Text),
    CheckConstraint("step >= 0", name="order_state_step"),
    CheckConstraint("state IN ('held', 'cleared', 'cancelled', 'split', 'merged')", name="order_state_state"),
    CheckConstraint("(state = 'held') = (open_holds > 0) AND open_holds >= 0", name="order_state_open_holds"),
    CheckConstraint("(state = 'held') = (order_json IS NOT NULL AND part_json IS NOT NULL)", name="order_state_held_has_order"),
    CheckConstraint("(state = 'merged') = (merged_into IS NOT NULL)", name="order_state_merged"),
    CheckConstraint("merge_key IS NULL OR state = 'held'", name="order_state_merge_key"),
    Index("order_state_child", "root_id", postgresql_where=text("parent_id IS NOT NULL")),
    Index("order_state_merge", "merge_key", postgresql_where=text("merge_key IS NOT NULL")),
    Index("order_state_merged_into", "merged_into", postgresql_where=text("merged_into IS NOT NULL")),
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
    Column("note", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("closed_at", DateTime(timezone=True)),
    Column("closed_by", Text),
    Column("close_reason", Text),
    CheckConstraint("state IN ('open', 'released', 'rejected', 'cancelled')", name="hold_state"),
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

like_order = Table(
    "like_order",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("order_id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("placed_at", DateTime(timezone=True), nullable=False),
    Column("seen_at", DateTime(timezone=True), nullable=False),
    Index("like_order_by_age", "seen_at"),
)
"""Who bought what, as a digest of token and SKUs; filled only while a rule looks for duplicates."""

catalog_item = Table(
    "catalog_item",
    metadata,
    Column("sku_id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("category", Text, nullable=False),
    Column("standard_cost_minor", BigInteger, nullable=False),
)

audit_case = Table(
    "audit_case",
    metadata,
    Column("case_id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("root_id", Uuid, nullable=False),
    Column("request_id", Uuid, nullable=False),
    Column("channel", Text, nullable=False),
    Column("shop_id", Text, nullable=False),
    Column("fields", Text, nullable=False),
    Column("source_version", BigInteger, nullable=False),
    Column("opened_at", DateTime(timezone=True), nullable=False),
    Column("state", Text, nullable=False),
    Column("closed_at", DateTime(timezone=True)),
    Column("closed_by", Text),
    Column("close_reason", Text),
    CheckConstraint("state IN ('open', 'closed')", name="audit_case_state"),
    CheckConstraint(
        "(state = 'open') = (closed_at IS NULL) AND (closed_at IS NULL) = (closed_by IS NULL)", name="audit_case_closed"
    ),
    Index("audit_case_by_age", "opened_at", "case_id"),
    Index("audit_case_by_root", "root_id"),
)

deferred_act = Table(
    "deferred_act",
    metadata,
    Column("act_id", Uuid, primary_key=True),
    Column("act", Text, nullable=False),
    Column("subjects", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("state", Text, nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("outcomes", Text),
    CheckConstraint("act IN ('release_holds', 'release_orders', 'reject_orders')", name="deferred_act_act"),
    CheckConstraint("state IN ('waiting', 'done', 'undone')", name="deferred_act_state"),
    CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name="deferred_act_ended"),
    Index("deferred_act_by_age", "asked_at", "act_id"),
)
"""Releases and rejects that can still be taken back."""
