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
    Event,
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
from contracts.order import LineKey, Order, Part, PartLine


class OrderReceived(OrderEvent):
    """A paid order, normalised."""

    TOPIC: ClassVar[str] = "order.received"
    TYPE: ClassVar[str] = "OrderReceived"

    order: Order
    part: Part
    revives: UUID | None = None
    """The cancelled order that this one takes up again, lines keeping their origin. Its money was booked then; none is now."""


class OriginQuantity(Contract):
    """Units of one origin line, in units of the SKU that moves."""

    origin_order_id: UUID
    origin_line: Annotated[int, Field(strict=True, ge=1, le=500)]
    sku_id: SkuId
    quantity: Quantity

    @property
    def key(self) -> LineKey:
        return LineKey(self.origin_order_id, self.origin_line, self.sku_id)


class CancelRequested(OrderEvent):
    """In-band: cancel so many units of these lines. Each owner spends it on what it holds, settles that, forwards the rest."""

    TOPIC: ClassVar[str] = "order.received"
    TYPE: ClassVar[str] = "CancelRequested"

    request_id: UUID
    lines: list[OriginQuantity] = Field(min_length=1, max_length=1000)
    whole: bool = False
    """All that the order ever had: a stage that could not take the order yet drops it unseen, and settles this."""
    reason: Code
    """buyer_asked | closed_by_channel | line_refunded | order_rejected | operator | …"""
    requested_by: Text
    """channel | user:<principal> | system"""


class CancelWithdrawn(OrderEvent):
    """In-band: what is not settled yet of a request shall go on; its holder drops it, settled as refused (`withdrawn`)."""

    TOPIC: ClassVar[str] = "order.received"
    TYPE: ClassVar[str] = "CancelWithdrawn"

    request_id: UUID
    reason: Code


class LineMoney(Contract):
    paid_minor: MinorAmount = 0
    receivable_minor: MinorAmount = 0
    tax_minor: MinorAmount = 0


class MoneyChange(Contract):
    """An origin line's money before and after; zeros where the line was added or removed. Origin line 0 is the freight."""

    origin_order_id: UUID
    origin_line: Annotated[int, Field(strict=True, ge=0, le=500)]
    sku_id: SkuId | None = None
    """None for the freight."""
    previous: LineMoney
    current: LineMoney


class ChangeRequested(OrderEvent):
    """In-band: a newer version of an order. Audit replaces what it holds; later owners apply receiver and notes, or refuse.

    `money` is a fact, whatever becomes of the request: the ledger posts the difference.
    """

    TOPIC: ClassVar[str] = "order.received"
    TYPE: ClassVar[str] = "ChangeRequested"

    request_id: UUID
    fields: list[Code] = Field(min_length=1)
    """receiver | note | lines | money | dispatch | other: what differs from the version sent before"""
    order: Order
    part: Part
    """The whole order as it now is, less what earlier requests cancel. To lower a quantity is a cancel, never a change."""
    money: list[MoneyChange] = Field(default_factory=list)
    requested_by: Text


class ReceiptConfirmed(OrderEvent):
    """In-band: the buyer confirmed receipt of these lines to the channel, or its deadline did."""

    TOPIC: ClassVar[str] = "order.received"
    TYPE: ClassVar[str] = "ReceiptConfirmed"

    order: Order
    lines: list[OriginQuantity] = Field(min_length=1, max_length=1000)
    confirmed_at: Moment
    reference: Id
    """The channel's own id of the confirmation; one effect per order and reference."""


class ReceiverSealed(Compacted):
    """A receiver, readable only with the key-encryption key; one `receiver_ref` per version of a receiver, never changed."""

    TOPIC: ClassVar[str] = "order.receiver"
    TYPE: ClassVar[str] = "ReceiverSealed"

    receiver_ref: UUID
    key_id: Id
    wrapped_key: Base64Bytes
    """The data key under AES-256 key wrap (RFC 3394). Empty once erased (`deleted`), as nonce and ciphertext are."""
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


class CancelForwarded(OrderEvent):
    """In-band: what audit did not hold of a cancel. Keyed by the root it now moves under: of a merge, the merged order."""

    TOPIC: ClassVar[str] = "order.audited"
    TYPE: ClassVar[str] = "CancelForwarded"

    request_id: UUID
    lines: list[OriginQuantity] = Field(min_length=1, max_length=1000)
    whole: bool = False
    """As in CancelRequested, where audit held nothing of the order any more and has not merged it."""
    reason: Code
    requested_by: Text


class WithdrawalForwarded(OrderEvent):
    TOPIC: ClassVar[str] = "order.audited"
    TYPE: ClassVar[str] = "WithdrawalForwarded"

    request_id: UUID
    reason: Code


class ChangeForwarded(OrderEvent):
    """In-band: fields of a change that later owners may still apply: receiver and note. Audit refused the others itself."""

    TOPIC: ClassVar[str] = "order.audited"
    TYPE: ClassVar[str] = "ChangeForwarded"

    request_id: UUID
    fields: list[Code] = Field(min_length=1)
    order: Order
    """The block whose receiver_ref, destination and notes apply; everything else in it is as it was sent before."""


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
    forced: Annotated[int, Field(strict=True, ge=1)] | None = None
    """The place_no that a person chose: only stock there and whether it is open count."""


class ShortLine(Contract):
    sku_id: SkuId
    wanted: Quantity
    missing: Quantity


class StockBackordered(OrderEvent):
    """What could not be held, and the promise date if there is one. The whole order waits."""

    TOPIC: ClassVar[str] = "stock.backordered"
    TYPE: ClassVar[str] = "StockBackordered"

    part: Part
    attempt: Annotated[int, Field(strict=True, ge=1)]
    pool_id: Id
    short: list[ShortLine]
    promised_on: date | None = None


PlanOffer = tuple[int, Code, MinorAmount, Annotated[int, Field(strict=True, ge=0, le=365)]]
"""(place_no, carrier, landed cost in minor units, promise in days from now): one place ships the whole order."""
ParcelOffer = tuple[int, Code, MinorAmount, Annotated[int, Field(strict=True, ge=0, le=365)], list[Count]]
"""The same for one parcel of several, with its units per SKU in the order of `OrderRouted.skus`."""


class OrderRouted(OrderEvent):
    """A ranked list of plans for this attempt, best first. Holds nothing; inventory takes the first that fits."""

    TOPIC: ClassVar[str] = "order.routed"
    TYPE: ClassVar[str] = "OrderRouted"

    attempt: Annotated[int, Field(strict=True, ge=1)]
    policy_version: Count
    plans: list[PlanOffer]
    """Empty: no place is eligible; the decision record says why not for each."""
    skus: list[SkuId] = Field(default_factory=list)
    combined: list[Annotated[list[ParcelOffer], Field(min_length=2)]] = Field(default_factory=list, max_length=20)
    """Plans of several parcels from as many places, best first; tried after `plans`. Each covers every unit exactly."""


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


class StopRequested(OrderEvent):
    """In-band: stop these units wherever they are. The answer is one `StopAnswered`, always.

    A recall by inventory (goods that are not there) is one too, with a request_id of inventory's making and reason `shortage`.
    """

    TOPIC: ClassVar[str] = "stock.allocated"
    TYPE: ClassVar[str] = "StopRequested"

    request_id: UUID
    lines: list[OriginQuantity] = Field(min_length=1, max_length=1000)
    reason: Code


class AllocatedOrderChanged(OrderEvent):
    """In-band: receiver or note of an order that lies at a place. Answered by `ChangeSettled`."""

    TOPIC: ClassVar[str] = "stock.allocated"
    TYPE: ClassVar[str] = "AllocatedOrderChanged"

    request_id: UUID
    fields: list[Code] = Field(min_length=1)
    order: Order


class AllocationReturned(OrderEvent):
    """Units that a place will not ship: it rejected the order, picked short, or was asked to stop. Not an answer by itself."""

    TOPIC: ClassVar[str] = "allocation.returned"
    TYPE: ClassVar[str] = "AllocationReturned"

    attempt: Annotated[int, Field(strict=True, ge=1)]
    """The attempt under which the units were allocated; one of another attempt changes nothing."""
    return_no: Annotated[int, Field(strict=True, ge=1)]
    """1, 2, … per order and attempt: what it returned, once for ever."""
    place_id: PlaceId
    place_no: Annotated[int, Field(strict=True, ge=1)]
    lines: list[OriginQuantity] = Field(min_length=1, max_length=1000)
    reason: Code
    """stopped | place_rejected | short_pick | wms_refused | operator"""
    stock_effect: Code = "none"
    """none: the goods are there | missing: the returned units are not | nothing_left: the place has none of the SKU |
    damaged: there, not for sale"""
    whole: bool
    """Nothing of the order is left at the place, and none of it shipped from there under this attempt."""


class StopAnswered(OrderEvent):
    """What became of a stop: units stopped per line, 0 = too late. Comes after the `AllocationReturned` of what was stopped."""

    TOPIC: ClassVar[str] = "allocation.returned"
    TYPE: ClassVar[str] = "StopAnswered"

    request_id: UUID
    lines: list["StoppedLine"] = Field(min_length=1, max_length=1000)


class StoppedLine(Contract):
    origin_order_id: UUID
    origin_line: Annotated[int, Field(strict=True, ge=1, le=500)]
    sku_id: SkuId
    stopped: Count

    @property
    def key(self) -> LineKey:
        return LineKey(self.origin_order_id, self.origin_line, self.sku_id)


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


class ReturnedLine(PartLine):
    """Units that came back in one condition, with the money and cost they left with."""

    grade: Code
    """good: back for sale | bad: back, not for sale | missing: announced, not in the parcel"""


class ReturnReceived(OrderEvent):
    """Goods came back to a place and were inspected: after delivery, or undelivered."""

    TOPIC: ClassVar[str] = "return.received"
    TYPE: ClassVar[str] = "ReturnReceived"

    order: Order
    return_id: UUID
    shipment_id: UUID
    place_id: PlaceId
    lines: list[ReturnedLine] = Field(min_length=1, max_length=1000)
    reason: Code
    """buyer_return | refused_delivery | recalled"""
    received_at: Moment


class RefundedLine(Contract):
    """Money of one origin line that went back; origin line 0 is the freight. Amounts are what is taken off, never negative."""

    origin_order_id: UUID
    origin_line: Annotated[int, Field(strict=True, ge=0, le=500)]
    sku_id: SkuId | None = None
    paid_minor: MinorAmount
    receivable_minor: MinorAmount
    tax_minor: MinorAmount


class RefundSettled(OrderEvent):
    """Money went back to the buyer; the platform or the payment service says so. A money fact: goods are told by others."""

    TOPIC: ClassVar[str] = "refund.settled"
    TYPE: ClassVar[str] = "RefundSettled"

    order: Order
    refund_id: Id
    """The platform's own id: unique with channel and shop, one effect for ever."""
    lines: list[RefundedLine] = Field(min_length=1, max_length=1000)
    settled_at: Moment
    reason: Code


class SettledLine(Contract):
    origin_order_id: UUID
    origin_line: int = Field(strict=True, ge=1)
    sku_id: SkuId
    cancelled: Count = 0
    refused: Count = 0
    code: Code
    """Why refused, or who cancelled."""
    paid_minor: MinorAmount | None = None
    """The money of the cancelled units: what they bring along when they are taken up again. Only who took them off knows it,
    for odd fens stay with the first units of each part; None where nobody had them, or from an older sender."""
    receivable_minor: MinorAmount | None = None
    tax_minor: MinorAmount | None = None


class CancellationSettled(OrderEvent):
    """What became of a cancel request, per channel line; posts nothing."""

    TOPIC: ClassVar[str] = "cancellation.settled"
    TYPE: ClassVar[str] = "CancellationSettled"

    request_id: UUID
    settled_by: Code
    lines: list[SettledLine] = Field(min_length=1)
    parent_id: UUID | None = None
    reason: Code | None = None
    requested_by: Text | None = None
    """Why and who, where the acting service made the request itself and ingest has not seen it before."""


class ChangeSettled(OrderEvent):
    """What one holder made of a change; a change of an order in parts is answered by each part's holder."""

    TOPIC: ClassVar[str] = "cancellation.settled"
    TYPE: ClassVar[str] = "ChangeSettled"

    request_id: UUID
    settled_by: Code
    applied: list[Code] = Field(default_factory=list)
    """Fields that now hold."""
    refused: list[Code] = Field(default_factory=list)
    """Fields that came too late; people see a case."""
    code: Code


class AdjustedLine(Contract):
    sku_id: SkuId
    quantity: Annotated[int, Field(strict=True, ge=-1_000_000, le=1_000_000)]
    """Units that came (+) or went (-)."""
    unit_cost_minor: MinorAmount


class StockAdjusted(Event):
    """Goods at a place became more or fewer, not by an order: receipt, count, damage, transfer. For the books."""

    TOPIC: ClassVar[str] = "stock.adjusted"
    TYPE: ClassVar[str] = "StockAdjusted"

    document_id: UUID
    kind: Code
    """receipt | adjustment | count | damage | place_reject | transfer_out | transfer_in"""
    reference: Id
    place_id: PlaceId
    reason: Code
    currency: Currency = "CNY"
    lines: list[AdjustedLine] = Field(min_length=1, max_length=1000)
    occurred_at: Moment

    @property
    def key(self) -> str:
        return str(self.document_id)


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

    about: Code = "order"
    """order | stock | manual. root_id and order_id of the latter two name a stock document or the voucher itself."""

    def extensions(self) -> dict[str, str]:
        return {**super().extensions(), "template": self.template, "about": self.about}
