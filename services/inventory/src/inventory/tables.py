"""The tables of inventory, as SQLAlchemy sees them; the DDL is in `migrations/`, and a test holds the two together."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Time,
    UniqueConstraint,
    Uuid,
    text,
)

from eventing import tables as eventing_tables
from webapi.idempotency import idempotency_table
from webapi.operators import manual_act_table

metadata = MetaData()
runtime = eventing_tables.define(metadata)
idempotency_key = idempotency_table(metadata)
manual_act = manual_act_table(metadata)

item = Table(
    "item",
    metadata,
    Column("sku_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("barcode", Text),
    Column("weight_grams", Integer, nullable=False),
    Column("tax_rate_bp", Integer, nullable=False),
    Column("standard_cost_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    # JSON text; read as a whole by the API only.
    Column("bundle_parts", Text, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
)

location = Table(
    "location",
    metadata,
    Column("place_id", Text, primary_key=True),
    Column("place_no", Integer, Identity(always=True), nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("pool_id", Text, nullable=False),
    Column("region_code", Text, nullable=False),
    Column("latitude", Float, nullable=False),
    Column("longitude", Float, nullable=False),
    Column("coverage", ARRAY(Text), nullable=False),
    Column("carriers", ARRAY(Text), nullable=False),
    Column("daily_capacity", Integer, nullable=False),
    Column("cut_off", Time, nullable=False),
    Column("working_weekdays", ARRAY(SmallInteger), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("handling_cost_minor", BigInteger, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("ships", Boolean, nullable=False),
    Column("pick_up", Boolean, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("place_no", name="location_place_no_key"),
)

# What people set for the whole service, as JSON text; read as a whole into memory.
policy = Table(
    "policy",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("content", Text, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
)

# Which SKUs a bundle is made of, so that a part's change finds its bundles; a copy of item.bundle_parts.
bundle_part = Table(
    "bundle_part",
    metadata,
    Column("bundle_id", Text, primary_key=True),
    Column("sku_id", Text, primary_key=True),
    Column("quantity", Integer, nullable=False),
    Index("bundle_part_by_sku", "sku_id"),
)

# What may still be promised: domain.PoolCount. Pinning a hold to a place does not touch it.
pool_stock = Table(
    "pool_stock",
    metadata,
    Column("sku_id", Text, primary_key=True),
    Column("pool_id", Text, primary_key=True),
    Column("free", Integer, nullable=False),
    Column("overpromised", Integer, nullable=False),
    Column("waking", Boolean, nullable=False),
    Column("safety", Integer, nullable=False),
    Column("version", BigInteger, nullable=False),
)

place_stock = Table(
    "place_stock",
    metadata,
    Column("sku_id", Text, primary_key=True),
    Column("place_no", Integer, primary_key=True),
    Column("on_hand", Integer, nullable=False),
    Column("allocated", Integer, nullable=False),
    Column("short", Integer, nullable=False),
    Column("damaged", Integer, nullable=False),
    # What the safety rules keep back here, and what is announced or on its way here: copies, kept by their own documents.
    Column("safety", Integer, nullable=False),
    Column("incoming", Integer, nullable=False),
    Column("version", BigInteger, nullable=False),
)

# Orders that a place took on a local day.
place_day = Table(
    "place_day",
    metadata,
    Column("place_no", Integer, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("used", Integer, nullable=False),
)

# Insert-only; the counts of place_stock are the sum of these.
movement = Table(
    "movement",
    metadata,
    Column("movement_id", BigInteger, Identity(always=True), primary_key=True),
    # The origin (channel) order; for receipts and adjustments their own document.
    Column("subject_id", Uuid, nullable=False),
    # The shipment, the receipt, or the event that caused it: with subject and line it names the effect for ever.
    Column("cause_id", Uuid, nullable=False),
    Column("line", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("sku_id", Text, nullable=False),
    Column("place_no", Integer, nullable=False),
    Column("on_hand", Integer, nullable=False),
    Column("allocated", Integer, nullable=False),
    Column("short", Integer, nullable=False),
    Column("damaged", Integer, nullable=False),
    Column("unit_cost_minor", BigInteger),
    Column("reason_code", Text),
    Column("moved_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("subject_id", "cause_id", "line", "sku_id", name="movement_effect_key"),
    Index("movement_by_sku", "sku_id", "movement_id"),
)

stock_order = Table(
    "stock_order",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("root_id", Uuid, nullable=False),
    # The order that it was split off from here.
    Column("parent_id", Uuid),
    Column("step", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("reoffers", SmallInteger, nullable=False),
    Column("pool_id", Text, nullable=False),
    Column("place_no", Integer),
    # The place's day that it takes capacity of.
    Column("capacity_on", Date),
    # The place that a person chose, until an attempt there fails.
    Column("forced_place_no", Integer),
    # Places that gave it back.
    Column("excluded", ARRAY(Integer), nullable=False, server_default="{}"),
    # Orders split off so far, and the last return under this attempt.
    Column("children", Integer, nullable=False, server_default="0"),
    Column("return_no", Integer, nullable=False, server_default="0"),
    Column("kind", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    # Units by SKU that have neither left nor been cancelled; of a finished order, what it last had.
    Column("skus", ARRAY(Text), nullable=False),
    Column("quantities", ARRAY(Integer), nullable=False),
    Column("units_left", Integer, nullable=False),
    Column("added_at", DateTime(timezone=True), nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
)
Index("stock_order_by_root", stock_order.c.root_id, postgresql_where=stock_order.c.root_id != stock_order.c.order_id)

# Units that requests claim at places, in the order in which they were asked; gone with the answer.
pending_stop = Table(
    "pending_stop",
    metadata,
    Column("stop_no", BigInteger, Identity(always=True), primary_key=True),
    Column("root_id", Uuid, nullable=False),
    Column("request_id", Uuid, nullable=False),
    Column("origin_order_id", Uuid, nullable=False),
    Column("origin_line", Integer, nullable=False),
    Column("sku_id", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False),
    UniqueConstraint("root_id", "request_id", "origin_order_id", "origin_line", "sku_id", name="pending_stop_claim_key"),
)

# Requests heard: each has its effect once, whatever the inbox still remembers.
order_request = Table(
    "order_request",
    metadata,
    Column("request_id", Uuid, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("root_id", Uuid, nullable=False),
    Column("heard_at", DateTime(timezone=True), nullable=False),
)

# The order and part blocks that stock.allocated forwards: order.audited as it came, the part less what has left it. Apart, so
# that a change of state does not copy it; gone once the order is finished.
order_document = Table(
    "order_document",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

# One row per waiting order and SKU it wants, in the order in which they are served.
backorder = Table(
    "backorder",
    metadata,
    Column("sku_id", Text, primary_key=True),
    Column("pool_id", Text, primary_key=True),
    Column("priority", SmallInteger, primary_key=True),
    Column("received_at", DateTime(timezone=True), primary_key=True),
    Column("order_id", Uuid, primary_key=True),
    Column("quantity", Integer, nullable=False),
    Column("missing", Integer, nullable=False),
)

stuck_order = Table(
    "stuck_order",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("since", DateTime(timezone=True), nullable=False),
    Column("code", Text, nullable=False),
    Index("stuck_order_by_age", "since", "order_id"),
)

# What was paid for the units that are there, as of the last receipt: domain.StockValue.
stock_cost = Table(
    "stock_cost",
    metadata,
    Column("sku_id", Text, primary_key=True),
    Column("units", BigInteger, nullable=False),
    Column("value_minor", BigInteger, nullable=False),
    Column("unit_cost_minor", BigInteger, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
)

# Units announced by a supplier or on their way from another place; place_stock.incoming is the sum of what is open.
incoming = Table(
    "incoming",
    metadata,
    Column("document_id", Uuid, primary_key=True),
    Column("sku_id", Text, primary_key=True),
    Column("place_no", Integer, nullable=False),
    Column("due_on", Date),
    Column("announced", Integer, nullable=False),
    Column("arrived", Integer, nullable=False),
    # Of a transfer: what the units cost when they left.
    Column("unit_cost_minor", BigInteger),
    Column("open", Boolean, nullable=False),
    Index("incoming_open", "sku_id", "place_no", postgresql_where=text("open")),
)

# The last snapshot that a place's WMS sent: an older one says nothing new.
place_snapshot = Table(
    "place_snapshot",
    metadata,
    Column("place_no", Integer, primary_key=True),
    Column("taken_at", DateTime(timezone=True), nullable=False),
    Column("document_id", Uuid, nullable=False),
)

# Documents as they were given; the reference makes each of them happen once.
stock_document = Table(
    "stock_document",
    metadata,
    Column("document_id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("place_no", Integer, nullable=False),
    Column("content", Text, nullable=False),
    Column("recorded_by", Text, nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("kind", "reference", name="stock_document_reference_key"),
)

# The last version of each level that was sent; place_no 0 is the pool. `basis` is the sum of the versions that it was made
# from: of a bundle, whose parts may change, the version is a count of its own. Written by the flusher alone, apart from the hot
# rows.
stock_level_sent = Table(
    "stock_level_sent",
    metadata,
    Column("sku_id", Text, primary_key=True),
    Column("pool_id", Text, primary_key=True),
    Column("place_no", Integer, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("basis", BigInteger, nullable=False),
    Column("sent_at", DateTime(timezone=True), nullable=False),
)
