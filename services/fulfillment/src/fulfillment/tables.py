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
from sqlalchemy.dialects.postgresql import JSONB

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
    Column("parcels", Integer, nullable=False, comment="how many have left"),
    Column("returns", Integer, nullable=False, comment="how often units went back unshipped"),
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
    Index("fulfilment_order_root", "root_id", postgresql_where=text("status NOT IN ('closed', 'cancelled')")),
    Index("fulfilment_order_waiting", "carrier", "updated_at", postgresql_where=text("waiting_for = 'waybill'")),
    comment="what one place has to do for one order",
)

fulfilment_content = Table(
    "fulfilment_content",
    metadata,
    Column("fulfilment_order_id", Uuid, primary_key=True),
    Column("order_json", Text, nullable=False, comment="the order block as it came, unknown fields included"),
    Column("part_json", Text, nullable=False),
    Column("left_json", Text, comment="what is left of the part; null: all of it, or the order is closed"),
    comment="what the events carry on; apart from `left_json` written once",
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
    Column("part_json", Text, comment="what is in it with its money; null: the whole part of the fulfilment order"),
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
    Column("base_url", Text, comment="of an http connector"),
    Column("secret_name", Text, comment="names a secret of the settings; secrets are never stored"),
    Column("timeout_seconds", Integer),
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

stop_request = Table(
    "stop_request",
    metadata,
    Column("root_id", Uuid, primary_key=True),
    Column("request_id", Uuid, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("asked", JSONB, nullable=False, comment="units by line, as the request says"),
    Column("stopped", JSONB, comment="the answer; null while a place has not spoken"),
    Column("asked_at", _MOMENT, nullable=False),
    Column("answered_at", _MOMENT),
    Index("stop_request_open", "root_id", postgresql_where=text("answered_at IS NULL")),
    comment="stops, each answered exactly once",
)

stop_claim = Table(
    "stop_claim",
    metadata,
    Column("fulfilment_order_id", Uuid, primary_key=True),
    Column("request_id", Uuid, primary_key=True),
    Column("root_id", Uuid, nullable=False),
    Column("claim_no", BigInteger, Identity(always=True), nullable=False, comment="oldest first"),
    Column("asked", JSONB, nullable=False),
    Column("stopped", JSONB, nullable=False),
    Column("told", Boolean, nullable=False, comment="the place was asked, or is being asked"),
    Column("pending", Boolean, nullable=False, comment="the place has heard it, and will say later"),
    Column("open", Boolean, nullable=False, comment="the place has not said yet what it stopped"),
    Index("stop_claim_request", "root_id", "request_id"),
    comment="what a stop wants of one fulfilment order",
)

allocation_return = Table(
    "allocation_return",
    metadata,
    Column("fulfilment_order_id", Uuid, primary_key=True),
    Column("return_no", Integer, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("stock_effect", Text, nullable=False),
    Column("units", JSONB, nullable=False),
    Column("returned_at", _MOMENT, nullable=False),
    comment="units that a place gave back unshipped",
)

wms_event = Table(
    "wms_event",
    metadata,
    Column("place_id", Text, primary_key=True),
    Column("event_id", Text, primary_key=True, comment="the WMS's own id of it"),
    Column("content_hash", LargeBinary, nullable=False),
    Column("fulfilment_order_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("code", Text, comment="null: it counted; else the code it was refused with"),
    Column("received_at", _MOMENT, nullable=False),
    Index("wms_event_order", "fulfilment_order_id", "received_at"),
    comment="call-backs of WMS, once per event id",
)

exception_case = Table(
    "exception_case",
    metadata,
    Column("case_id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("fulfilment_order_id", Uuid, nullable=False),
    Column("order_id", Uuid, nullable=False),
    Column("place_id", Text, nullable=False),
    Column("detail", JSONB, nullable=False),
    Column("opened_at", _MOMENT, nullable=False),
    Column("closed_at", _MOMENT),
    Column("closed_by", Text),
    Index("exception_case_opened", "opened_at", "case_id"),
    Index("exception_case_order", "fulfilment_order_id"),
    comment="what people have to look at",
)

carrier_rule = Table(
    "carrier_rule",
    metadata,
    Column("rule_id", Text, primary_key=True),
    Column("priority", Integer, nullable=False),
    Column("carrier", Text, nullable=False),
    Column("forbid", Boolean, nullable=False),
    Column("place_id", Text),
    Column("shop_id", Text),
    Column("area_prefix", Text, nullable=False),
    Column("min_weight_grams", BigInteger, nullable=False),
    Column("max_weight_grams", BigInteger),
    Column("updated_at", _MOMENT, nullable=False),
    comment="who carries what, and who must not",
)

pick_up_try = Table(
    "pick_up_try",
    metadata,
    Column("fulfilment_order_id", Uuid, primary_key=True),
    Column("wrong", Integer, nullable=False, comment="wrong codes in a row"),
    Column("locked_until", _MOMENT),
    comment="wrong codes at the counter; no row before the first",
)

goods_return = Table(
    "goods_return",
    metadata,
    Column("return_id", Uuid, primary_key=True),
    Column("reference", Text, nullable=False, comment="the reporter's own id of it"),
    Column("content_hash", LargeBinary, nullable=False),
    Column("shipment_id", Uuid, nullable=False),
    Column("order_id", Uuid, nullable=False),
    Column("root_id", Uuid, nullable=False),
    Column("place_id", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("received_at", _MOMENT, nullable=False),
    Column("recorded_by", Text, nullable=False),
    UniqueConstraint("reference", "shipment_id", name="goods_return_reference"),
    Index("goods_return_received", "received_at", "return_id"),
    Index("goods_return_order", "order_id"),
    Index("goods_return_shipment", "shipment_id"),
    comment="goods that came back and were inspected",
)

goods_return_line = Table(
    "goods_return_line",
    metadata,
    Column("return_id", Uuid, primary_key=True),
    Column("origin_order_id", Uuid, primary_key=True),
    Column("origin_line", Integer, primary_key=True),
    Column("sku_id", Text, primary_key=True),
    Column("grade", Text, primary_key=True),
    Column("quantity", Integer, nullable=False),
    Column("paid_minor", BigInteger, nullable=False),
    Column("receivable_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    comment="units of a line in one condition, with the money they left with",
)
