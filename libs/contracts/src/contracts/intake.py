"""The canonical channel order, in clear: what external systems publish to `channel.orders` or post to `POST /v1/orders`.

It holds what real platforms carry (taobao, jd, pdd, douyin, wechat_shop, shopify …): three status axes, list prices, discount
shares by payer, freight, payments, receiver handles, notes, invoices, presale and gift marks. Only ingest ever reads it.
"""

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from contracts.envelope import (
    Code,
    Contract,
    Currency,
    Event,
    Id,
    LongText,
    Minor,
    MinorAmount,
    Moment,
    PlaceId,
    Quantity,
    RateBp,
    RegionCode,
    SkuId,
    Text,
    Version,
)

Phone = Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00]*$")]


class DiscountShare(Contract):
    """What one payer takes off a line or the freight. Shares borne by others than the shop are paid back to it."""

    payer: Code
    """shop | platform | creator | payment_channel | government"""
    amount_minor: MinorAmount
    promotion_id: Id | None = None
    name: Text | None = None


class ChannelOrderLine(Contract):
    channel_line_id: Id
    sku_id: SkuId
    """The merchant's own code (outer_sku_id, outerSkuId, outer_id, code, sku …)."""
    title: Text = ""
    quantity: Quantity
    unit_list_price_minor: MinorAmount
    adjust_minor: Minor = 0
    """Seller's price change on the line, signed."""
    discounts: list[DiscountShare] = Field(default_factory=list, max_length=50)
    """Line discounts and this line's shares of order discounts, already split; one entry per payer and promotion."""
    paid_minor: MinorAmount | None = None
    """What the buyer pays for the line, where the platform says so; checked against price, adjustment and discounts."""
    tax_rate_bp: RateBp | None = None
    """Output VAT rate when it differs from the catalogue's; prices include tax."""
    gift: bool = False
    refund_state: Code = "none"
    """none | applied | approved_wait_return | returned_wait_receive | refused | refunded | closed"""
    refund_id: Id | None = None
    ship_not_before: Moment | None = None
    """Presale: the promised earliest dispatch."""


class Payment(Contract):
    method: Code
    """alipay | wechat_pay | jd_pay | card | cash | wallet | points | gift_card | …"""
    amount_minor: MinorAmount
    paid_at: Moment | None = None
    reference: Id | None = None


class Fulfilment(Contract):
    """How the buyer gets the goods."""

    kind: Code = "to_ship"
    """to_ship | pick_up | already_handed_over"""
    place_id: PlaceId | None = None
    """Where it is picked up or was handed over."""
    handed_over_at: Moment | None = None


class Receiver(Contract):
    """Personal data in clear or as the platform's cipher; leaves ingest only sealed."""

    name: Text = ""
    phone: Phone = ""
    region_code: RegionCode | None = None
    province: Text = ""
    city: Text = ""
    district: Text = ""
    town: Text = ""
    street: LongText = ""
    postal_code: Annotated[str, StringConstraints(max_length=16)] = ""
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] = "CN"
    handle: LongText | None = None
    """The platform's handle for a masked receiver: oaid, open_address_id, hash_code."""


class Buyer(Contract):
    buyer_id: Id | None = None
    nick: Text = ""


class Notes(Contract):
    buyer_note: LongText = ""
    seller_note: LongText = ""
    seller_flag: Code | None = None
    """grey | red | yellow | green | blue | purple | orange | cyan"""


class Invoice(Contract):
    kind: Code = "none"
    """none | ordinary | vat | electronic"""
    title: Text = ""
    tax_number: Text = ""
    email: Text = ""


class ChannelOrder(Event):
    """One channel order as its source shows it at one `source_version`."""

    TOPIC: ClassVar[str] = "channel.orders"
    TYPE: ClassVar[str] = "ChannelOrder"

    channel: Code
    shop_id: Id
    channel_order_no: Id
    source_version: Version
    source_modified_at: Moment
    placed_at: Moment
    paid_at: Moment | None = None
    trade_state: Code = "to_ship"
    """created | paid_pending | to_ship | part_shipped | shipped | signed | finished | cancelled | closed_refunded"""
    payment_state: Code = "paid"
    """unpaid | part_paid | paid | cash_on_delivery | refunded | part_refunded"""
    refund_state: Code = "none"
    collection: Code = "platform_escrow"
    """Who holds the buyer's money: platform_escrow | direct | cash_on_delivery"""
    currency: Currency = "CNY"
    lines: list[ChannelOrderLine] = Field(min_length=1, max_length=500)
    freight_list_minor: MinorAmount = 0
    freight_discounts: list[DiscountShare] = Field(default_factory=list, max_length=50)
    freight_tax_rate_bp: RateBp | None = None
    paid_minor: MinorAmount | None = None
    """What the buyer paid in all; a mismatch with the lines raises a quality flag, never a refusal."""
    payments: list[Payment] = Field(default_factory=list, max_length=20)
    fulfilment: Fulfilment = Field(default_factory=Fulfilment)
    receiver: Receiver | None = None
    buyer: Buyer = Field(default_factory=Buyer)
    notes: Notes = Field(default_factory=Notes)
    invoice: Invoice = Field(default_factory=Invoice)
    presale: bool = False
    group_state: Code | None = None
    """Group buying: forming | formed | failed"""
    risk_locked: bool = False
    """The platform says: paid, must not ship (PAID_FORBID_CONSIGN, LOCKED, POP_ORDER_PAUSE, risk control)."""
    parent_order_no: Id | None = None
    """Set where the platform itself split an order (JD parentOrderId)."""
    wanted_carrier: Code | None = None
    ship_before: Moment | None = None
    """The platform's dispatch deadline."""

    @property
    def key(self) -> str:
        return f"{self.channel}:{self.shop_id}:{self.channel_order_no}"
