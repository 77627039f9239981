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
    ForeignKeyConstraint,
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
    Column("first_order_id", Uuid, nullable=False),
    Column("again", SmallInteger, nullable=False),
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
    comment="Root row and lock of a channel order, and of each order that takes it up again. No personal data.",
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
    Column("part", Text, nullable=False),
    Column("former_refs", ARRAY(Uuid), nullable=False),
    comment="The latest version as it came, sealed; the block as told last; the part as sent, where the block differs.",
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
    Column("bundle_parts", Text, nullable=False),
    comment="Ingest's copy of what it needs of catalog.item.",
)
request = Table(
    "request",
    metadata,
    Column("request_id", Uuid, primary_key=True),
    Column("order_id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("is_sent", Boolean, nullable=False),
    Column("is_ours", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("reference", Text),
    Column("fields", Text, nullable=False),
    Column("applied", Text, nullable=False),
    Column("refused", Text, nullable=False),
    Column("part", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("asked_at", _moment, nullable=False),
    Column("settled_at", _moment),
    Column("revived_as", Uuid),
    # Of a change of receiver: how the order stood before, for the case that it is refused; "" afterwards.
    Column("former", Text, nullable=False, server_default=""),
    comment="Cancels and changes of an order, and what became of them.",
)
request_line = Table(
    "request_line",
    metadata,
    Column("request_id", Uuid, primary_key=True),
    Column("order_id", Uuid, primary_key=True),
    Column("origin_order_id", Uuid, primary_key=True),
    Column("origin_line", SmallInteger, primary_key=True),
    Column("sku_id", Text, primary_key=True),
    Column("asked", Integer, nullable=False),
    Column("cancelled", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("code", Text, nullable=False),
    Column("quantity_then", Integer, nullable=False),
    # JSON: units, then their paid, receivable and tax, as those told who cancelled them; "" where nobody did.
    Column("money", Text, nullable=False, server_default=""),
    ForeignKeyConstraint(["request_id", "order_id"], ["request.request_id", "request.order_id"]),
    comment="Units of a cancel request, by line.",
)
refund = Table(
    "refund",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("shop_id", Text, primary_key=True),
    Column("refund_id", Text, primary_key=True),
    Column("order_id", Uuid, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("lines", Text, nullable=False),
    Column("settled_at", _moment, nullable=False),
    comment="Money that went back, once for ever per refund of the platform.",
)
receipt = Table(
    "receipt",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("reference", Text, primary_key=True),
    Column("confirmed_at", _moment, nullable=False),
    comment="Receipts that were told, once for ever.",
)
order_case = Table(
    "order_case",
    metadata,
    Column("case_id", Uuid, primary_key=True),
    Column("order_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("params", Text, nullable=False),
    Column("opened_at", _moment, nullable=False),
    Column("closed_at", _moment),
    Column("closed_by", Text),
    Column("close_reason", Text),
    comment="What people must look at: a reason code, its parameters, and what it is about.",
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
order_link = Table(
    "order_link",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("by_order", Uuid, primary_key=True),
    Column("by_root", Uuid, nullable=False),
    Column("revived", Boolean, nullable=False),
    comment="Which order carries what was another: after a split, a merge, or a cancelled order taken up again.",
)
SAID = "greatest(ingest % 1000000, audit % 1000000, inventory % 1000000, router % 1000000, fulfillment % 1000000) % 1000"
order_stage = Table(
    "order_stage",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("root_id", Uuid),
    Column("ingest", BigInteger, nullable=False),
    Column("audit", BigInteger, nullable=False),
    Column("inventory", BigInteger, nullable=False),
    Column("router", BigInteger, nullable=False),
    Column("fulfillment", BigInteger, nullable=False),
    Column("ledger", BigInteger, nullable=False),
    Column("replaced", Boolean, nullable=False),
    Column("joined", Boolean, nullable=False),
    Column("family_stage", SmallInteger),
    Column("family_at", _moment),
    Column(
        "stage",
        SmallInteger,
        Computed(
            f"CASE WHEN joined OR order_id <> root_id THEN NULL ELSE coalesce(family_stage, ({SAID})::smallint) END",
            persisted=True,
        ),
    ),
    Column("since", _moment, Computed("coalesce(family_at, progress_at)", persisted=True)),
    Column("progress_at", _moment, nullable=False),
    comment="Per service: step * 1000000 + attempt * 1000 + rank of its stage (domain/book.py).",
)
erasure = Table(
    "erasure",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("erased_at", _moment, nullable=False),
    Column("receiver_refs", ARRAY(Uuid), nullable=False),
    comment="Orders whose personal data was destroyed, and the receivers that were.",
)
