"""Ingest's tables: channel orders, their sealed originals, what waits for a catalogue item, and the order book.

The DDL with its checks and indexes is in `migrations/`; a test holds the two together.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY

import eventing.tables
from webapi.idempotency import idempotency_table
from webapi.operators import manual_act_table

metadata = MetaData()
runtime = eventing.tables.define(metadata)
idempotency_key = idempotency_table(metadata)
manual_act = manual_act_table(metadata)

_moment = DateTime(timezone=True)

channel_order = Table(
    "channel_order",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("root_id", Uuid, nullable=False),
    Column("step", Integer, nullable=False),
    Column("channel", Text, nullable=False),
    Column("shop_id", Text, nullable=False),
    Column("channel_order_no", Text, nullable=False),
    Column("source_version", BigInteger, nullable=False),
    Column("content_hash", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("flags", ARRAY(Text), nullable=False),
    Column("sent_version", BigInteger),
    Column("currency", Text, nullable=False),
    Column("paid_minor", BigInteger, nullable=False),
    Column("placed_at", _moment, nullable=False),
    Column("received_at", _moment, nullable=False),
    Column("changed_at", _moment, nullable=False),
    comment="Root row and lock of a channel order. No personal data.",
)
order_document = Table(
    "order_document",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("source_version", BigInteger, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("block", Text, nullable=False),
    comment="The latest version as it came, sealed; the order block as sent.",
)
parked_sku = Table(
    "parked_sku",
    metadata,
    Column("sku_id", Text, primary_key=True),
    Column("order_id", Uuid, primary_key=True),
    comment="Parked orders by the catalogue item they wait for.",
)
catalog_item = Table(
    "catalog_item",
    metadata,
    Column("sku_id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("weight_grams", Integer, nullable=False),
    Column("tax_rate_bp", Integer, nullable=False),
    comment="Ingest's copy of what it needs of catalog.item.",
)
timeline = Table(
    "timeline",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("service", Text, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("event_id", Uuid, primary_key=True),
    Column("root_id", Uuid, nullable=False),
    Column("stage", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("params", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("at", _moment, nullable=False),
    comment="What the stages reported of an order; its key claims a delivery.",
)
SHOWN = "greatest(ingest % 1000, audit % 1000, inventory % 1000, router % 1000, fulfillment % 1000)"
order_stage = Table(
    "order_stage",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("root_id", Uuid, nullable=False),
    Column("ingest", BigInteger, nullable=False),
    Column("audit", BigInteger, nullable=False),
    Column("inventory", BigInteger, nullable=False),
    Column("router", BigInteger, nullable=False),
    Column("fulfillment", BigInteger, nullable=False),
    Column("ledger", BigInteger, nullable=False),
    Column("stage", SmallInteger, Computed(f"({SHOWN})::smallint", persisted=True), nullable=False),
    Column("progress_at", _moment, nullable=False),
    comment="Per service: step * 1000 + rank of its stage (domain/book.py).",
)
