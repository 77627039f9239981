"""What may exclude a place, and by which criteria the rest is ranked."""

from dataclasses import dataclass

FILTERS = ("coverage", "capacity", "stock_after_pick")
"""Those that a policy may switch off. What would make a plan impossible is always checked: a place that is unknown, gone,
paused, never open or not shipping, one that refused this order before, one that no carrier serves."""

CRITERIA = ("landed_cost", "promised_days", "distance", "priority")
"""All are better when lower. Compared lexicographically: the next one only breaks ties."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    version: int
    filters: frozenset[str] = frozenset(FILTERS)
    criteria: tuple[str, ...] = CRITERIA
    min_stock_after_pick: int = 0
    """Units of every SKU that must stay at the place after this order was picked."""
