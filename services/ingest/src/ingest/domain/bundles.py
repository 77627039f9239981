"""A bundle's line as the parts that move: units per SKU, and the line's money shared out to the fen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ingest.domain.money import share_out

PART_LINES_MOST = 1000
UNITS_MOST = 1_000_000
"""The contract's bounds: lines of one request, units of one line."""


class Component(NamedTuple):
    """One SKU in a bundle: how many of it, and its share of the price relative to the others."""

    sku_id: str
    quantity: int
    price_weight: int = 1


@dataclass(frozen=True, slots=True)
class Moving:
    """Units of one SKU of a line, with the money that goes with them."""

    sku_id: str
    quantity: int
    paid_minor: int
    receivable_minor: int
    tax_minor: int


def explode(quantity: int, paid_minor: int, receivable_minor: int, tax_minor: int, bundle: Sequence[Component]) -> list[Moving]:
    """What a bundle's line moves: each SKU in it once. Every fen of the line stands on one of the parts."""
    parts = _merged(bundle)
    weights = [part.price_weight for part in parts]
    shares = (share_out(amount, weights) for amount in (paid_minor, receivable_minor, tax_minor))
    return [
        Moving(part.sku_id, part.quantity * quantity, paid, receivable, tax)
        for part, paid, receivable, tax in zip(parts, *shares, strict=True)
    ]


def is_too_large(lines: Sequence[tuple[int, Sequence[Component]]]) -> bool:
    """Whether (quantity, bundle) of all lines leaves what one message may say."""
    if not any(bundle for _, bundle in lines):
        return False
    exploded = [(quantity, _merged(bundle)) for quantity, bundle in lines]
    return sum(len(bundle) or 1 for _, bundle in exploded) > PART_LINES_MOST or any(
        quantity * part.quantity > UNITS_MOST for quantity, bundle in exploded for part in bundle
    )


@dataclass(frozen=True, slots=True)
class Sets:
    """What units of a bundle's parts amount to."""

    whole: int
    """Bundles that are complete in them."""
    even: bool
    """No part is left over."""


def sets_of(units: Mapping[str, int], per_set: Mapping[str, int]) -> Sets:
    """Whole bundles in units of their parts; a part that is missing counts none."""
    whole = min(units.get(sku, 0) // count for sku, count in per_set.items())
    return Sets(whole, all(units.get(sku, 0) == whole * count for sku, count in per_set.items()))


def _merged(bundle: Sequence[Component]) -> list[Component]:
    """A SKU that a bundle names twice is one part of it: units of one line are told apart by SKU alone."""
    merged: dict[str, Component] = {}
    for part in bundle:
        known = merged.get(part.sku_id)
        merged[part.sku_id] = (
            Component(part.sku_id, known.quantity + part.quantity, known.price_weight + part.price_weight) if known else part
        )
    return list(merged.values())
