"""What rules and conditions may look at. No personal data: grades, kinds and tokens stand for the receiver."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

ALREADY_HANDED_OVER = "already_handed_over"
PICK_UP = "pick_up"
TO_SHIP = "to_ship"


class LineFacts(NamedTuple):
    """Units of one SKU that move together: one line of the part."""

    sku_id: str
    quantity: int
    paid_minor: int
    receivable_minor: int
    tax_minor: int
    weight_grams: int
    refund_state: str = "none"
    ship_not_before: datetime | None = None


class ItemFacts(NamedTuple):
    """What the catalogue says of a SKU."""

    category: str
    standard_cost_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFacts:
    order_id: UUID
    channel: str
    shop_id: str
    fulfilment_kind: str
    currency: str
    paid_minor: int
    """Of the whole channel order, also where only a part of it is judged: a split must not slip below a limit."""
    address_grade: str | None
    """None where nothing is shipped."""
    phone_kind: str | None
    region_code: str | None = None
    tokens: Mapping[str, str] = field(default_factory=dict)
    """By kind (buyer, receiver, phone, address); kinds without a value are absent."""
    lines: Sequence[LineFacts] = ()
    payment_state: str = "paid"
    trade_state: str = "to_ship"
    refund_state: str = "none"
    collection: str = "platform_escrow"
    invoice_kind: str = "none"
    presale: bool = False
    risk_locked: bool = False
    has_buyer_note: bool = False
    has_seller_note: bool = False
    seller_flag: str | None = None
    keywords: Sequence[str] = ()
    payment_methods: Sequence[str] = ()
    quality_flags: Sequence[str] = ()
    wanted_carrier: str | None = None
    placed_at: datetime
    received_at: datetime
    ship_before: datetime | None = None
    first_order_id: UUID | None = None
    """The order that this one takes up again after a cancel. Both are one purchase."""

    @property
    def purchase_id(self) -> UUID:
        return self.first_order_id or self.order_id

    @property
    def units_by_sku(self) -> dict[str, int]:
        units: dict[str, int] = {}
        for line in self.lines:
            units[line.sku_id] = units.get(line.sku_id, 0) + line.quantity
        return units

    def margin_minor(self, items: Mapping[str, ItemFacts]) -> int | None:
        """Revenue without tax and freight, less standard cost; None where a cost is not known."""
        margin = 0
        for line in self.lines:
            item = items.get(line.sku_id)
            if item is None:
                return None
            margin += line.receivable_minor - line.tax_minor - line.quantity * item.standard_cost_minor
        return margin


class LikeOrder(NamedTuple):
    """Another order of the same SKUs, by the same token of this kind."""

    order_id: UUID
    kind: str
    placed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What else is known when an order is judged; looked up only where a rule needs it."""

    blacklisted: Set[str] = frozenset()
    """Which kinds of the order's tokens are on the list."""
    like_orders: Sequence[LikeOrder] = ()
    items: Mapping[str, ItemFacts] = field(default_factory=dict)
    now: datetime
