"""The events of the spine: one order's life from receipt to voucher, in the order it happens."""

from datetime import date
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import Base64Bytes, Field

from contracts.envelope import (
    Code,
    Compacted,
    Contract,
    Count,
    Currency,
    Id,
    Minor,
    MinorAmount,
    Moment,
    OrderEvent,
    PlaceId,
    Quantity,
    SkuId,
    Text,
)
from contracts.order import Order, Part


class OrderReceived(OrderEvent):
    """A paid order, normalised."""

    TOPIC: ClassVar[str] = "order.received"
    TYPE: ClassVar[str] = "OrderReceived"

    order: Order
    part: Part


class ReceiverSealed(Compacted):
    """A receiver, readable only with the key-encryption key; one `receiver_ref` per version of a receiver, never changed."""

    TOPIC: ClassVar[str] = "order.receiver"
    TYPE: ClassVar[str] = "ReceiverSealed"

    receiver_ref: UUID
    key_id: Id
    wrapped_key: Base64Bytes
    """The data key under AES-256 key wrap (RFC 3394)."""
    nonce: Base64Bytes
    ciphertext: Base64Bytes
    """AES-256-GCM over the receiver's JSON; associated data is the receiver_ref."""

    @property
    def key(self) -> str:
        return str(self.receiver_ref)


class Hold(Contract):
    hold_id: UUID
    kind: Code
    """address | phone | amount | quantity | blacklist | … : what is in doubt"""
    code: Code
    """The reason, from the table of texts."""
    evidence: dict[str, Any] = Field(default_factory=dict)
    rule_id: Id
    placed_by: Text
    """rule | user:<principal> | system"""
    release_at: Moment | None = None
    """When a timer releases it by itself."""


class OrderHeld(OrderEvent):
    """Stopped, with typed reasons; a person or a timer decides. Says the holds open after this change."""

    TOPIC: ClassVar[str] = "order.held"
    TYPE: ClassVar[str] = "OrderHeld"

    holds: list[Hold]


class OrderAudited(OrderEvent):
    """Cleared: what may be reserved."""

    TOPIC: ClassVar[str] = "order.audited"
    TYPE: ClassVar[str] = "OrderAudited"

    order: Order
    part: Part
    rule_set_version: Count


PlaceOffer = tuple[int, int, list[int]]
"""(place_no, capacity left today, free units per SKU in the order of `StockReserved.skus`): compact, for there may be 200."""


class StockReserved(OrderEvent):
    """Every line is held against the pool; `places` could ship the whole order, so that routing asks nobody."""

    TOPIC: ClassVar[str] = "stock.reserved"
    TYPE: ClassVar[str] = "StockReserved"

    order: Order
    part: Part
    attempt: Annotated[int, Field(strict=True, ge=1)]
    """Counts every reserve of this order, whatever the cause, never restarted."""
    pool_id: Id
    skus: list[SkuId]
    places: list[PlaceOffer]
    excluded: list[int] = Field(default_factory=list)
    """Places (place_no) that already refused this order."""


class ShortLine(Contract):
    sku_id: SkuId
    wanted: Quantity
    missing: Quantity


class StockBackordered(OrderEvent):
    """What could not be held, and the promise date if there is one. The whole order waits."""

    TOPIC: ClassVar[str] = "stock.backordered"
    TYPE: ClassVar[str] = "StockBackordered"

    attempt: Annotated[int, Field(strict=True, ge=1)]
    pool_id: Id
    short: list[ShortLine]
    promised_on: date | None = None


PlanOffer = tuple[int, Code, MinorAmount, Annotated[int, Field(strict=True, ge=0, le=365)]]
"""(place_no, carrier, landed cost in minor units, promise in days from now): one place ships the whole order."""


class OrderRouted(OrderEvent):
    """A ranked list of plans for this attempt, best first. Holds nothing; inventory takes the first that fits."""

    TOPIC: ClassVar[str] = "order.routed"
    TYPE: ClassVar[str] = "OrderRouted"

    attempt: Annotated[int, Field(strict=True, ge=1)]
    policy_version: Count
    plans: list[PlanOffer]
    """Empty: no place is eligible; the decision record says why not for each."""


class StockAllocated(OrderEvent):
    """The first plan that fitted, pinned to real units at one place, unit costs stamped."""

    TOPIC: ClassVar[str] = "stock.allocated"
    TYPE: ClassVar[str] = "StockAllocated"

    order: Order
    part: Part
    attempt: Annotated[int, Field(strict=True, ge=0)]
    """0 for goods already handed over: booked as a fact, never reserved."""
    place_id: PlaceId
    place_no: Annotated[int, Field(strict=True, ge=1)]
    carrier: Code | None = None
    landed_cost_minor: MinorAmount = 0
    promised_on: date | None = None


class ShipmentCreated(OrderEvent):
    """A parcel is packed, weighed, has a waybill and has left the place; or the goods were handed over there."""

    TOPIC: ClassVar[str] = "shipment.created"
    TYPE: ClassVar[str] = "ShipmentCreated"

    order: Order
    part: Part
    """The quantities in this parcel, with money and unit cost."""
    shipment_id: UUID
    place_id: PlaceId
    fulfilment_kind: Code
    carrier: Code | None = None
    waybill_no: Id | None = None
    weight_grams: Count
    freight_cost_minor: MinorAmount = 0
    """What the carrier will charge, estimated when the plan was made."""
    shipped_at: Moment


class ShipmentProgressed(OrderEvent):
    """A carrier event. Carries money and cost again, so that its voucher needs no other event."""

    TOPIC: ClassVar[str] = "shipment.progressed"
    TYPE: ClassVar[str] = "ShipmentProgressed"

    order: Order
    part: Part
    shipment_id: UUID
    place_id: PlaceId
    carrier: Code | None = None
    waybill_no: Id | None = None
    state: Code
    """picked_up | in_transit | out_for_delivery | delivered | refused | lost"""
    occurred_at: Moment


class SettledLine(Contract):
    origin_order_id: UUID
    origin_line: int = Field(strict=True, ge=1)
    cancelled: Count = 0
    refused: Count = 0
    code: Code
    """Why refused, or who cancelled."""


class CancellationSettled(OrderEvent):
    """What became of a cancel request, per channel line; posts nothing."""

    TOPIC: ClassVar[str] = "cancellation.settled"
    TYPE: ClassVar[str] = "CancellationSettled"

    request_id: UUID
    settled_by: Code
    lines: list[SettledLine] = Field(min_length=1)


class VoucherEntry(Contract):
    account: Id
    """Account code of the chart, e.g. 1122."""
    account_name: Text
    debit_minor: MinorAmount = 0
    credit_minor: MinorAmount = 0
    summary: Text = ""


class VoucherPosted(OrderEvent):
    """A numbered, balanced voucher."""

    TOPIC: ClassVar[str] = "voucher.posted"
    TYPE: ClassVar[str] = "VoucherPosted"

    voucher_id: UUID
    book: Id
    period: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}$")]
    word: Text
    """The voucher word, e.g. 记."""
    number: Annotated[int, Field(strict=True, ge=1)]
    template: Code
    """paid | shipped | delivered | …"""
    event_id: UUID
    """The event it was posted from."""
    occurred_at: Moment
    currency: Currency
    total_minor: Minor
    """Σ debits = Σ credits."""
    entries: list[VoucherEntry] = Field(min_length=2)

    def extensions(self) -> dict[str, str]:
        return {**super().extensions(), "template": self.template}
