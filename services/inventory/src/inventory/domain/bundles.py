"""Bundles, which have no stock of their own: whole sets that their parts would make."""

from collections.abc import Mapping


def whole_sets(parts: Mapping[str, int], atp: Mapping[str, int]) -> int:
    """`parts` is units by SKU in one set; SKUs that `atp` does not name are not there."""
    return min((max(0, atp.get(sku_id, 0)) // units for sku_id, units in parts.items()), default=0)
