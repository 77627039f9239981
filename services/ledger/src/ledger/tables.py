"""The tables of ledger, as SQLAlchemy sees them; the DDL is in `migrations/`, and a test holds the two together."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from eventing import tables as eventing_tables
from webapi.idempotency import idempotency_table
from webapi.operators import manual_act_table

metadata = MetaData()
runtime = eventing_tables.define(metadata)
idempotency_key = idempotency_table(metadata)
manual_act = manual_act_table(metadata)

Moment = DateTime(timezone=True)

chart_version = Table(
    "chart_version",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("document", JSONB, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("created_by", Text, nullable=False),
)

template_version = Table(
    "template_version",
    metadata,
    Column("code", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("valid_from", Moment, nullable=False),
    Column("word", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("document", JSONB, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("created_by", Text, nullable=False),
)

closed_period = Table(
    "closed_period",
    metadata,
    Column("book", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("closed_at", Moment, nullable=False),
    Column("closed_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

policy_version = Table(
    "policy_version",
    metadata,
    Column("book", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("valid_from", Moment, nullable=False),
    Column("recognition", Text, nullable=False),
    Column("damaged_value_bp", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("created_by", Text, nullable=False),
)

voucher = Table(
    "voucher",
    metadata,
    Column("voucher_id", Uuid, primary_key=True),
    Column("claim_id", Uuid, nullable=False),
    Column("event_id", Uuid, nullable=False),
    Column("template", Text, nullable=False),
    Column("template_version", Integer, nullable=False),
    Column("content_hash", LargeBinary, nullable=False),
    Column("root_id", Uuid, nullable=False),
    Column("order_id", Uuid, nullable=False),
    Column("shipment_id", Uuid),
    Column("channel", Text, nullable=False),
    Column("shop_id", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("occurred_at", Moment, nullable=False),
    Column("occurred_on", Date, nullable=False),
    Column("summary", Text, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("posting_count", Integer, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("recorded_at", Moment, nullable=False),
    UniqueConstraint("claim_id", "template", name="voucher_claim"),
    Index("voucher_order", "order_id"),
)

posting = Table(
    "posting",
    metadata,
    Column("voucher_id", Uuid, primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("account", Text, nullable=False),
    Column("debit_minor", BigInteger, nullable=False),
    Column("credit_minor", BigInteger, nullable=False),
    Column("origin_order_id", Uuid),
    Column("origin_line", Integer),
)

voucher_number = Table(
    "voucher_number",
    metadata,
    Column("book", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("word", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("voucher_id", Uuid, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("posted_on", Date, nullable=False),
    UniqueConstraint("voucher_id", name="voucher_number_once"),
)

voucher_counter = Table(
    "voucher_counter",
    metadata,
    Column("book", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("word", Text, primary_key=True),
    Column("last_number", Integer, nullable=False),
    Column("link_no", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("link_hash", LargeBinary, nullable=False),
)

chain_link = Table(
    "chain_link",
    metadata,
    Column("book", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("word", Text, primary_key=True),
    Column("link_no", Integer, primary_key=True, autoincrement=False),
    Column("first_number", Integer, nullable=False),
    Column("last_number", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("linked_at", Moment, nullable=False),
)

balance_delta = Table(
    "balance_delta",
    metadata,
    Column("delta_id", BigInteger, Identity(always=True), primary_key=True),
    Column("book", Text, nullable=False),
    Column("period", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("debit_minor", BigInteger, nullable=False),
    Column("credit_minor", BigInteger, nullable=False),
)

account_balance = Table(
    "account_balance",
    metadata,
    Column("book", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("debit_minor", BigInteger, nullable=False),
    Column("credit_minor", BigInteger, nullable=False),
)

_OWED = ("book", "account", "channel", "shop_id", "currency")

owed_delta = Table(
    "owed_delta",
    metadata,
    Column("delta_id", BigInteger, Identity(always=True), primary_key=True),
    *(Column(name, Text, nullable=False) for name in _OWED),
    Column("paid_on", Date, nullable=False),
    Column("posted_on", Date, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
)

owed_balance = Table(
    "owed_balance",
    metadata,
    *(Column(name, Text, primary_key=True) for name in _OWED),
    Column("paid_on", Date, primary_key=True),
    Column("posted_on", Date, primary_key=True),
    Column("amount_minor", BigInteger, nullable=False),
)

order_account = Table(
    "order_account",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("step", Integer, nullable=False),
    Column("is_order", Boolean, nullable=False),
    Column("entangled", Boolean, nullable=False),
    Column("confirmed", Boolean, nullable=False),
)

origin_part = Table(
    "origin_part",
    metadata,
    Column("origin_order_id", Uuid, primary_key=True),
    Column("order_id", Uuid, primary_key=True),
    Index("origin_part_order", "order_id"),
)

RECOGNISING = ("delivered", "recognised", "recognition_overlap", "cost_overlap", "write_off")
"""Phases that profit counts on the day they happen."""

profit_fact = Table(
    "profit_fact",
    metadata,
    Column("voucher_id", Uuid, primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("phase", Text, nullable=False),
    Column("order_id", Uuid, nullable=False),
    Column("shipment_id", Uuid),
    Column("origin_order_id", Uuid, nullable=False),
    Column("origin_line", Integer, nullable=False),
    Column("channel", Text, nullable=False),
    Column("shop_id", Text, nullable=False),
    Column("sku_id", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("paid_on", Date, nullable=False),
    Column("occurred_on", Date, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("revenue_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("cost_minor", BigInteger, nullable=False),
    Column("freight_minor", BigInteger, nullable=False),
    Index("profit_fact_recognised", "occurred_on", postgresql_where=text(f"phase IN {RECOGNISING!r}")),
    Index("profit_fact_parcel", "shipment_id", postgresql_where=text("phase = 'recognised'")),
    Index("profit_fact_paid", "paid_on"),
)

posting_flag = Table(
    "posting_flag",
    metadata,
    Column("flag_id", Uuid, primary_key=True),
    Column("event_id", Uuid, nullable=False),
    Column("template", Text, nullable=False),
    Column("order_id", Uuid, nullable=False),
    Column("code", Text, nullable=False),
    Column("params", JSONB, nullable=False),
    Column("content_hash", LargeBinary, nullable=False),
    Column("flagged_at", Moment, nullable=False),
    Index("posting_flag_newest", "flagged_at", "flag_id"),
    Index("posting_flag_order", "order_id"),
)
