"""Facts about SKUs, places and stock on compacted topics. Inventory is their one owner; everybody else keeps a copy."""

from datetime import time
from typing import Annotated, ClassVar

from pydantic import Field

from contracts.envelope import (
    Code,
    Compacted,
    Contract,
    Count,
    Currency,
    Id,
    MinorAmount,
    Moment,
    PlaceId,
    Quantity,
    RateBp,
    RegionCode,
    SkuId,
    Text,
)


class BundlePart(Contract):
    sku_id: SkuId
    quantity: Quantity
    price_weight: Count = 1
    """Share of the bundle's price, relative to the other parts."""


class CatalogItem(Compacted):
    TOPIC: ClassVar[str] = "catalog.item"
    TYPE: ClassVar[str] = "CatalogItem"

    sku_id: SkuId
    name: Text
    category: Code = "general"
    barcode: Id | None = None
    weight_grams: Count
    tax_rate_bp: RateBp
    standard_cost_minor: MinorAmount
    currency: Currency = "CNY"
    bundle_parts: list[BundlePart] = Field(default_factory=list, max_length=50)
    """Not empty: a bundle, which has no stock of its own. Bundles do not contain bundles."""

    @property
    def key(self) -> str:
        return self.sku_id


class CatalogLocation(Compacted):
    TOPIC: ClassVar[str] = "catalog.location"
    TYPE: ClassVar[str] = "CatalogLocation"

    place_id: PlaceId
    place_no: Annotated[int, Field(strict=True, ge=1, le=2_000_000_000)]
    """The short number by which `stock.reserved` and `order.routed` name the place."""
    name: Text
    kind: Code
    """warehouse | store"""
    pool_id: Id = "main"
    region_code: RegionCode
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    coverage: list[Annotated[str, Field(pattern=r"^[0-9]{0,6}$")]] = Field(default_factory=lambda: [""], max_length=4000)
    """Prefixes of region codes that the place ships to: "" everywhere, "33" Zhejiang, "3301" Hangzhou."""
    carriers: list[Code] = Field(default_factory=list, max_length=50)
    daily_capacity: Count
    """Orders the place can ship in one local day (Asia/Shanghai)."""
    cut_off: time = time(18, 0)
    """Orders allocated later leave the next working day; local time."""
    working_weekdays: list[Annotated[int, Field(strict=True, ge=1, le=7)]] = Field(
        default_factory=lambda: [1, 2, 3, 4, 5, 6, 7]
    )
    priority: Annotated[int, Field(strict=True, ge=0, le=1000)] = 100
    """Lower is preferred."""
    handling_cost_minor: MinorAmount = 0
    paused: bool = False
    """Takes no new orders; what it has goes on."""
    ships: bool = True
    pick_up: bool = False

    @property
    def key(self) -> str:
        return self.place_id


class StockLevel(Compacted):
    """An absolute number, safe to apply in any order. For a pool: place_id is None."""

    TOPIC: ClassVar[str] = "stock.level"
    TYPE: ClassVar[str] = "StockLevel"

    sku_id: SkuId
    pool_id: Id
    place_id: PlaceId | None = None
    on_hand: Count
    reserved: Count = 0
    """Held against the pool, not yet pinned to a place; 0 on place rows."""
    allocated: Count = 0
    short: Count = 0
    safety: Count = 0
    """Kept back by rule, not offered."""
    damaged: Count = 0
    """On the shelf, not for sale; not in on_hand."""
    incoming: Count = 0
    """Announced and not yet received; not in atp."""
    atp: Count
    """Available to promise, never below 0: on_hand - allocated - reserved - short - safety. Of a bundle: whole sets."""
    counted_at: Moment

    @property
    def key(self) -> str:
        return f"{self.sku_id}@{self.place_id}" if self.place_id else f"{self.sku_id}@pool:{self.pool_id}"
