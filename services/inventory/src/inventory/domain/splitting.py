"""How the units of one order are shared among several: what is there and what is not, or parcels from several places."""

from collections.abc import Mapping, Sequence

from inventory.domain.cancelling import LineKey

Lines = Sequence[tuple[LineKey, int]]


def share(lines: Lines, shares: Sequence[Mapping[str, int]]) -> list[dict[LineKey, int]]:
    """Give each share its units per SKU, out of the lines in their order; the shares together are all units.

    **Errors**: ValueError where they are not.
    """
    left = dict(lines)
    shared = []
    for wanted in shares:
        taken: dict[LineKey, int] = {}
        for sku_id, units in wanted.items():
            for key in left:
                if units and key.sku_id == sku_id and left[key]:
                    taken[key] = min(units, left[key])
                    left[key] -= taken[key]
                    units -= taken[key]
            if units:
                raise ValueError(f"{units} units of {sku_id} more than the order has")
        shared.append(taken)
    if any(left.values()):
        raise ValueError(f"{sum(left.values())} units are in no share")
    return shared
