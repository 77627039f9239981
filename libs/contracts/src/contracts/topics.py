"""The topic registry: who writes, who reads, what key, how long. Topics, ACLs and readiness checks come from here alone."""

from dataclasses import dataclass

from contracts.catalog import CatalogItem, CatalogLocation, StockLevel
from contracts.envelope import Event
from contracts.intake import ChannelOrder
from contracts.spine import (
    AllocatedOrderChanged,
    AllocationReturned,
    CancelForwarded,
    CancellationSettled,
    CancelRequested,
    CancelWithdrawn,
    ChangeForwarded,
    ChangeRequested,
    ChangeSettled,
    OrderAudited,
    OrderHeld,
    OrderReceived,
    OrderRouted,
    ReceiptConfirmed,
    ReceiverSealed,
    RefundSettled,
    ReturnReceived,
    ShipmentCreated,
    ShipmentProgressed,
    StockAdjusted,
    StockAllocated,
    StockBackordered,
    StockReserved,
    StopAnswered,
    StopRequested,
    VoucherPosted,
    WithdrawalForwarded,
)

DEFAULT_ORDER_PARTITIONS = 24
"""Frozen for life: more partitions would break the order per key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    name: str
    events: tuple[type[Event], ...]
    key: str
    """What the key is, in words."""
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    order_keyed: bool = True
    """Keyed by the root order: has the common partition count."""
    compacted: bool = False
    retention_hours: int = 7 * 24
    append_time: bool = False
    """LogAppendTime: the broker's clock orders what foreign producers send."""
    fixed_partitions: int | None = None
    """For topics that are not order-keyed; None takes the common count too."""

    def partitions(self, order_partitions: int) -> int:
        return self.fixed_partitions or order_partitions


_ROOT = "root order id"
TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic(
            name="channel.orders",
            events=(ChannelOrder,),
            key="any; ours is derived from the body",
            writers=("external",),
            readers=("ingest",),
            order_keyed=False,
            retention_hours=72,
            append_time=True,
        ),
        Topic(
            name="order.received",
            events=(OrderReceived, CancelRequested, CancelWithdrawn, ChangeRequested, ReceiptConfirmed),
            key=_ROOT,
            writers=("ingest",),
            readers=("audit", "ledger", "ingest"),
        ),
        Topic(
            name="order.receiver",
            events=(ReceiverSealed,),
            key="receiver_ref",
            writers=("ingest",),
            readers=("fulfillment",),
            order_keyed=False,
            compacted=True,
        ),
        Topic(name="order.held", events=(OrderHeld,), key=_ROOT, writers=("audit",), readers=("ingest",)),
        Topic(
            name="order.audited",
            events=(OrderAudited, CancelForwarded, WithdrawalForwarded, ChangeForwarded),
            key=_ROOT,
            writers=("audit",),
            readers=("inventory", "ingest"),
        ),
        Topic(
            name="stock.reserved",
            events=(StockReserved,),
            key=_ROOT,
            writers=("inventory",),
            readers=("router", "ingest"),
        ),
        Topic(name="stock.backordered", events=(StockBackordered,), key=_ROOT, writers=("inventory",), readers=("ingest",)),
        Topic(name="order.routed", events=(OrderRouted,), key=_ROOT, writers=("router",), readers=("inventory", "ingest")),
        Topic(
            name="stock.allocated",
            events=(StockAllocated, StopRequested, AllocatedOrderChanged),
            key=_ROOT,
            writers=("inventory",),
            readers=("fulfillment", "ingest"),
        ),
        Topic(
            name="allocation.returned",
            events=(AllocationReturned, StopAnswered),
            key=_ROOT,
            writers=("fulfillment",),
            readers=("inventory", "ingest"),
        ),
        Topic(
            name="shipment.created",
            events=(ShipmentCreated,),
            key=_ROOT,
            writers=("fulfillment",),
            readers=("inventory", "ledger", "ingest"),
        ),
        Topic(
            name="shipment.progressed",
            events=(ShipmentProgressed,),
            key=_ROOT,
            writers=("fulfillment",),
            readers=("ledger", "ingest"),
        ),
        Topic(
            name="cancellation.settled",
            events=(CancellationSettled, ChangeSettled),
            key=_ROOT,
            writers=("ingest", "audit", "inventory", "fulfillment"),
            readers=("ingest",),
        ),
        Topic(
            name="return.received",
            events=(ReturnReceived,),
            key=_ROOT,
            writers=("fulfillment",),
            readers=("inventory", "ledger", "ingest"),
        ),
        Topic(name="refund.settled", events=(RefundSettled,), key=_ROOT, writers=("ingest",), readers=("ledger", "ingest")),
        Topic(
            name="stock.adjusted",
            events=(StockAdjusted,),
            key="stock document id",
            writers=("inventory",),
            readers=("ledger", "external"),
        ),
        Topic(
            name="voucher.posted",
            events=(VoucherPosted,),
            key=_ROOT,
            writers=("ledger",),
            readers=("ingest", "external"),
        ),
        Topic(
            name="stock.level",
            events=(StockLevel,),
            key="SKU and place or pool",
            writers=("inventory",),
            readers=("ingest", "external"),
            order_keyed=False,
            compacted=True,
            fixed_partitions=4,
        ),
        Topic(
            name="catalog.item",
            events=(CatalogItem,),
            key="sku_id",
            writers=("inventory",),
            readers=("ingest", "audit", "external"),
            order_keyed=False,
            compacted=True,
            fixed_partitions=1,
        ),
        Topic(
            name="catalog.location",
            events=(CatalogLocation,),
            key="place_id",
            writers=("inventory",),
            readers=("router", "fulfillment"),
            order_keyed=False,
            compacted=True,
            fixed_partitions=1,
        ),
        *(
            Topic(
                name=f"{service}.dlq",
                events=(),
                key="key of the refused record",
                writers=(service,),
                readers=("external",),
                order_keyed=False,
                fixed_partitions=1,
                retention_hours=14 * 24,
            )
            for service in ("ingest", "audit", "inventory", "router", "fulfillment", "ledger")
        ),
    )
}
ORDER_KEYED: tuple[str, ...] = tuple(name for name, topic in TOPICS.items() if topic.order_keyed)


def topic_of(event: type[Event]) -> Topic:
    """The registry entry of an event class."""
    return TOPICS[event.TOPIC]
