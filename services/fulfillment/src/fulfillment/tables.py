"""Every table of this service. The DDL is in `migrations/`; a test holds the two together."""

from __future__ import annotations

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
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

import eventing.tables
from webapi.idempotency import idempotency_table
from webapi.operators import manual_act_table

metadata = MetaData()
runtime = eventing.tables.define(metadata)
idempotency_key = idempotency_table(metadata)
manual_act = manual_act_table(metadata)

_MOMENT = DateTime(timezone=True)

tracked_order = Table(
    "tracked_order",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("root_id", Uuid, nullable=False),
    Column("step", Integer, nullable=False, comment="this service's count of changes of the order"),
    Column("attempt", Integer, nullable=False, comment="the last attempt seen; -1: none yet, the row is only a root's lock"),
    Column("live", Boolean, nullable=False, comment="a fulfilment order holds the goods or has shipped them"),
    comment="one row per order; the row of the root is the lock of all its orders",
)

fulfilment_order = Table(
    "fulfilment_order",
    metadata,
    Column("fulfilment_order_id", Uuid, primary_key=True),
    Column("order_id", Uuid, nullable=False),
    Column("root_id", Uuid, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("place_id", Text, nullable=False),
    Column("place_no", Integer, nullable=False),
    Column("connector", Text, nullable=False),
    Column("carrier", Text),
    Column("receiver_ref", Uuid),
    Column("weight_grams", BigInteger, nullable=False),
    Column("freight_cost_minor", BigInteger, nullable=False),
    Column("promised_on", Date),
    Column("status", Text, nullable=False),
    Column("request_status", Text, nullable=False),
    Column("waiting_for", Text),
    Column("ship_at", _MOMENT),
    Column("created_at", _MOMENT, nullable=False),
    Column("updated_at", _MOMENT, nullable=False),
    Index("fulfilment_order_live", "order_id", unique=True, postgresql_where=text("status <> 'cancelled'")),
    Index("fulfilment_order_cancelled", "order_id", postgresql_where=text("status = 'cancelled'")),
    Index("fulfilment_order_created", "created_at", "fulfilment_order_id"),
    Index(
        "fulfilment_order_work",
        "place_id",
        "created_at",
        "fulfilment_order_id",
        postgresql_where=text("status NOT IN ('closed', 'cancelled')"),
    ),
    Index("fulfilment_order_waiting", "carrier", "updated_at", postgresql_where=text("waiting_for = 'waybill'")),
    comment="what one place has to do for one order",
)

fulfilment_content = Table(
    "fulfilment_content",
    metadata,
    Column("fulfilment_order_id", Uuid, primary_key=True),
    Column("order_json", Text, nullable=False, comment="the order block as it came, unknown fields included"),
    Column("part_json", Text, nullable=False),
    comment="what the events carry on; written once",
)

shipment = Table(
    "shipment",
    metadata,
    Column("shipment_id", Uuid, primary_key=True),
    Column("fulfilment_order_id", Uuid, nullable=False),
    Column("order_id", Uuid, nullable=False),
    Column("root_id", Uuid, nullable=False),
    Column("place_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("carrier", Text),
    Column("waybill_no", Text),
    Column("weight_grams", BigInteger, nullable=False),
    Column("freight_cost_minor", BigInteger, nullable=False),
    Column("shipped_at", _MOMENT, nullable=False),
    Column("state", Text, nullable=False),
    Column("state_at", _MOMENT, nullable=False),
    UniqueConstraint("waybill_no", "carrier", name="shipment_waybill"),
    Index("shipment_order", "order_id"),
    Index("shipment_shipped", "shipped_at", "shipment_id"),
    comment="one parcel that has left, or goods handed over at a place",
)

shipment_line = Table(
    "shipment_line",
    metadata,
    Column("shipment_id", Uuid, primary_key=True),
    Column("origin_order_id", Uuid, primary_key=True),
    Column("origin_line", Integer, primary_key=True),
    Column("sku_id", Text, primary_key=True),
    Column("quantity", Integer, nullable=False),
    comment="what is in a shipment, by origin line; a bundle's line may hold several SKUs",
)

carrier_event = Table(
    "carrier_event",
    metadata,
    Column("shipment_id", Uuid, primary_key=True),
    Column("reference", Text, primary_key=True, comment="the reporter's own id of the event"),
    Column("state", Text, nullable=False),
    Column("occurred_at", _MOMENT, nullable=False),
    Column("applied", Boolean, nullable=False, comment="false: it came late, the shipment was further already"),
    Column("recorded_at", _MOMENT, nullable=False),
    Column("recorded_by", Text, nullable=False),
    comment="what carriers reported, once per reference",
)

waybill_series = Table(
    "waybill_series",
    metadata,
    Column("series_id", BigInteger, Identity(always=True), primary_key=True),
    Column("place_id", Text, comment="null: for every place"),
    Column("carrier", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("digits", SmallInteger, nullable=False),
    Column("first_no", BigInteger, nullable=False),
    Column("next_no", BigInteger, nullable=False),
    Column("until_no", BigInteger, nullable=False),
    Column("updated_at", _MOMENT, nullable=False),
    UniqueConstraint("carrier", "prefix", "digits", "first_no", name="waybill_series_block"),
    comment="blocks of waybill numbers; a number is given once, for ever",
)

place = Table(
    "place",
    metadata,
    Column("place_id", Text, primary_key=True),
    Column("place_no", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("region_code", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("deleted", Boolean, nullable=False),
    comment="copy of catalog.location",
)

place_connector = Table(
    "place_connector",
    metadata,
    Column("place_id", Text, primary_key=True),
    Column("connector", Text, nullable=False),
    Column("updated_at", _MOMENT, nullable=False),
    comment="how a place is driven where it is not the automatic way",
)

receiver = Table(
    "receiver",
    metadata,
    Column("receiver_ref", Uuid, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("key_id", Text),
    Column("wrapped_key", LargeBinary),
    Column("nonce", LargeBinary),
    Column("ciphertext", LargeBinary),
    Column("deleted", Boolean, nullable=False),
    comment="sealed receivers; an erased one keeps its row without its bytes",
)
