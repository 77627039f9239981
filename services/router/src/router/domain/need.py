"""What an order asks, what a place offers, and what may come of the two."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import sub
from typing import NamedTuple

MAX_PROMISE_DAYS = 365
MAX_COST_MINOR = 10**15
"""What the contract can carry: a nonsensical weight must not stop an order."""


@dataclass(slots=True, kw_only=True)
class Need:
    """What an order asks of a place. Weight and value stand per SKU, so that a parcel's share can be told.

    Never changed, yet not frozen: a frozen one takes 1.5 µs longer to make, and every order makes one.
    """

    region_code: str
    latitude: float | None = None
    longitude: float | None = None
    skus: tuple[str, ...] = ()
    wanted: tuple[int, ...] = ()
    """Units per SKU, in the order of `skus`; as are the following."""
    weights_grams: tuple[int, ...] = ()
    """Of all units of the SKU together."""
    values_minor: tuple[int, ...] = ()
    """The shop's gross revenue of all units of the SKU."""
    wanted_carrier: str | None = None
    """Wins at every place that has it."""
    pick_up_place_id: str | None = None
    """The buyer comes there; no other place will do."""
    excluded: frozenset[int] = frozenset()
    """Places that refused this order before."""
    forced: int | None = None
    """The place a person chose."""
    ship_before: datetime | None = None


Candidate = tuple[int, int, Sequence[int]]
"""(place_no, capacity left, free units per SKU in the order of `Need.skus`): a place that has all or part of it."""


def stock_after_pick(need: Need, free: Sequence[int]) -> int:
    """Of the SKU that would be scarcest there afterwards; negative where only a part is there."""
    return min(map(sub, free, need.wanted), default=0)


class Plan(NamedTuple):
    """One place ships the whole order."""

    place_no: int
    carrier: str
    cost_minor: int
    promised_days: int


class Parcel(NamedTuple):
    """One place ships some units of the order, others the rest."""

    place_no: int
    carrier: str
    cost_minor: int
    promised_days: int
    units: tuple[int, ...]
    """Per SKU, in the order of `Need.skus`."""


CombinedPlan = tuple[Parcel, ...]
"""Parcels by place_no; together they are every unit exactly."""
