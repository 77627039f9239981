"""The `order` block, written once by ingest and forwarded untouched, and the `part` block, which says what moves.

No personal data: region codes, grades, tokens (keyed hashes) and masks stand for the receiver (design: personal data).
"""

from typing import Annotated, NamedTuple, Self
from uuid import UUID

from pydantic import Field, model_validator

from contracts.envelope import (
    Code,
    Contract,
    Count,
    Currency,
    Id,
    Minor,
    MinorAmount,
    Moment,
    Quantity,
    RateBp,
    RegionCode,
    SkuId,
    Text,
    Version,
)
from contracts.intake import DiscountShare, Fulfilment


class Destination(Contract):
    """Where to, without saying to whom."""

    region_code: RegionCode
    province: Text
    city: Text
    district: Text
    country: Text = "CN"
    latitude: Annotated[float, Field(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Field(ge=-180, le=180)] | None = None
    """Centre of the district or city, not of the address; None where the region is unknown."""
    address_grade: Code
    """complete | street_short | district_unknown | city_unknown | unusable"""
    phone_kind: Code
    """mobile | landline | virtual | foreign | masked | missing | invalid"""
    receiver_token: Text
    phone_token: Text
    address_token: Text
    """Keyed hashes of the normalised values; equal inputs give equal tokens. Empty where there is no value."""
    name_mask: Text = ""
    phone_mask: Text = ""


class NoteFlags(Contract):
    has_buyer_note: bool = False
    has_seller_note: bool = False
    seller_flag: Code | None = None
    keywords: list[Code] = Field(default_factory=list)
    """Codes of the note keywords that ingest's table found: wants_carrier, no_contact, change_address, …"""


class OrderLine(Contract):
    line: int = Field(strict=True, ge=1, le=500)
    """The origin: 1, 2, 3 … within the channel order; 0 stands for its freight."""
    channel_line_id: Id
    sku_id: SkuId
    title: Text = ""
    quantity: Quantity
    unit_list_price_minor: MinorAmount
    adjust_minor: Minor = 0
    discounts: list[DiscountShare] = Field(default_factory=list)
    paid_minor: MinorAmount
    """What the buyer pays for the whole line."""
    receivable_minor: MinorAmount
    """paid_minor plus the shares others than the shop bear: the shop's gross revenue of the line, tax included."""
    tax_rate_bp: RateBp
    tax_minor: MinorAmount
    """Output VAT inside receivable_minor."""
    unit_weight_grams: Count
    gift: bool = False
    refund_state: Code = "none"
    ship_not_before: Moment | None = None


class Freight(Contract):
    list_minor: MinorAmount = 0
    discounts: list[DiscountShare] = Field(default_factory=list)
    paid_minor: MinorAmount = 0
    receivable_minor: MinorAmount = 0
    tax_rate_bp: RateBp = 0
    tax_minor: MinorAmount = 0


class Order(Contract):
    """One received order: normalised, priced to the fen, free of personal data."""

    order_id: UUID
    channel: Code
    shop_id: Id
    channel_order_no: Id
    source_version: Version
    received_at: Moment
    placed_at: Moment
    paid_at: Moment | None = None
    trade_state: Code
    payment_state: Code
    refund_state: Code
    collection: Code
    currency: Currency
    lines: list[OrderLine] = Field(min_length=1)
    freight: Freight = Field(default_factory=Freight)
    paid_minor: MinorAmount
    receivable_minor: MinorAmount
    payment_methods: list[Code] = Field(default_factory=list)
    fulfilment: Fulfilment
    receiver_ref: UUID | None = None
    destination: Destination | None = None
    """None only where nothing is shipped."""
    buyer_token: Text = ""
    notes: NoteFlags = Field(default_factory=NoteFlags)
    invoice_kind: Code = "none"
    presale: bool = False
    group_state: Code | None = None
    risk_locked: bool = False
    wanted_carrier: Code | None = None
    ship_before: Moment | None = None
    quality_flags: list[Code] = Field(default_factory=list)
    """What ingest found odd but not impossible: money_mismatch, version_conflict, …"""
    again: Annotated[int, Field(strict=True, ge=0, le=999)] = 0
    """How often the channel order was taken up again after a cancel; its order_id is then uuid5(first order, "again", n)."""
    merged_with: list["Order"] = Field(default_factory=list, max_length=100)
    """The blocks of the other parents of a merge; this block is the parent that was received first."""


class PartLine(Contract):
    """Units of one origin line that move together, with their share of the money.

    Identified by (origin_order_id, origin_line, sku_id): a bundle's line becomes one part line per SKU in it, counted in units
    of that SKU.
    """

    origin_order_id: UUID
    origin_line: int = Field(strict=True, ge=1)
    sku_id: SkuId
    quantity: Quantity
    paid_minor: MinorAmount
    receivable_minor: MinorAmount
    tax_minor: MinorAmount
    unit_weight_grams: Count
    unit_cost_minor: MinorAmount | None = None
    """Stamped at allocation by inventory, the owner of costs; None before."""

    @property
    def key(self) -> "LineKey":
        return LineKey(self.origin_order_id, self.origin_line, self.sku_id)

    @property
    def money(self) -> dict[str, int]:
        """Its amounts by field."""
        return {name: getattr(self, name) for name in _SHARED}

    def divide(self, quantity: int) -> tuple["PartLine", "PartLine"]:
        """The first `quantity` units and the rest, 0 < quantity < all; every fen stands on one side, odd ones on the first.

        The one rule by which money follows goods, whoever splits. The units of the rest are worth the same each, so what they
        carry on does not depend on the order in which two readers of two topics hear of further divisions.
        """
        if not 0 < quantity < self.quantity:
            raise ValueError(f"{quantity} of {self.quantity} units leave nothing on one side")
        rest = {name: getattr(self, name) // self.quantity * (self.quantity - quantity) for name in _SHARED}
        taken = {name: getattr(self, name) - rest[name] for name in _SHARED}
        return (
            self.model_copy(update={"quantity": quantity, **taken}),
            self.model_copy(update={"quantity": self.quantity - quantity, **rest}),
        )


_SHARED = ("paid_minor", "receivable_minor", "tax_minor")


class LineKey(NamedTuple):
    """What names units of a line in requests, answers and returns."""

    origin_order_id: UUID
    origin_line: int
    sku_id: str


class PartFreight(Contract):
    """Origin line 0: the buyer's freight, travelling with one part only."""

    origin_order_id: UUID
    paid_minor: MinorAmount
    receivable_minor: MinorAmount
    tax_minor: MinorAmount


class Part(Contract):
    """What moves: the only quantities anybody uses."""

    order_id: UUID
    parent_id: UUID | None = None
    root_id: UUID
    lines: list[PartLine] = Field(min_length=1)
    freight: list[PartFreight] = Field(default_factory=list)
    """None, or one per origin order (several after a merge)."""

    @model_validator(mode="after")
    def _each_line_once(self) -> Self:
        # Requests, answers and returns name units by this key: two lines with one key could not be told apart.
        if len(self.lines) > 1 and len({line.key for line in self.lines}) < len(self.lines):
            raise ValueError("two lines of a part name the same units")
        return self
