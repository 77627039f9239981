"""What a cancel takes of the orders that audit still holds."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID, uuid5

LineKey = tuple[UUID, int, str]
"""Origin order, origin line, SKU."""
Units = Mapping[LineKey, int]


class HeldOrder(NamedTuple):
    order_id: UUID
    lines: Units


class Spent(NamedTuple):
    taken: dict[UUID, dict[LineKey, int]]
    """Per order, what it gives; orders that give nothing are absent."""
    remainder: dict[LineKey, int]
    """What audit did not hold."""


def spend(held: Sequence[HeldOrder], wanted: Units) -> Spent:
    """Take the wanted units from the held orders in turn (children by number), and say what is left to ask for elsewhere."""
    taken: dict[UUID, dict[LineKey, int]] = {}
    remainder = dict(wanted)
    for order in held:
        for key, have in order.lines.items():
            units = min(have, remainder.get(key, 0))
            if units:
                taken.setdefault(order.order_id, {})[key] = units
                remainder[key] -= units
    return Spent(taken, {key: units for key, units in remainder.items() if units})


def audit_reject_id(order_id: UUID) -> UUID:
    """The cancel request that a reject amounts to: one per order, whoever asks and however often."""
    return uuid5(order_id, "audit_reject")
