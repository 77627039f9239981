"""What may exclude a place, by which criteria the rest is ranked, and whether an order may leave in several parcels."""

from collections.abc import Mapping
from dataclasses import dataclass, field

FILTERS = ("coverage", "capacity", "ship_before", "stock_after_pick")
"""Those that a policy may switch off. What would make a plan impossible is always checked: a place that is unknown, gone,
paused, never open or not shipping, one that refused this order before, one that no carrier serves, one that has only a part."""

CRITERIA = ("parcels", "landed_cost", "promised_days", "distance", "priority")
"""All are better when lower. Compared lexicographically: the next one only breaks ties."""

SPLITS = ("never", "when_needed", "always")
"""Several parcels: never, only where no single place will do, or also as a reserve behind the single places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    version: int
    filters: frozenset[str] = frozenset(FILTERS)
    criteria: tuple[str, ...] = CRITERIA
    bands: Mapping[str, int] = field(default_factory=dict)
    """By criterion: differences inside a band of this width count as none, so that the next criterion decides."""
    min_stock_after_pick: int = 0
    """Units of every SKU that must stay at the place after this order was picked."""
    split: str = "when_needed"
    max_parcels: int = 3
    min_parcel_value_minor: int = 0
    """Every parcel of a split must be worth as much."""
