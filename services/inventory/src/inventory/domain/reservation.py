"""Holding an order's lines against a pool: all or none, first come first served."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from inventory.domain.counts import PoolCount


class Demand(NamedTuple):
    """What one order wants from one pool; two lines of one SKU are one entry, for its stock is spent once."""

    order_id: UUID
    pool_id: str
    wanted: Mapping[str, int]
    splits: bool = False
    """What is there is held, and only the rest waits."""


class Held(NamedTuple):
    order_id: UUID


@dataclass(frozen=True, slots=True)
class Split:
    """A part is held, and the rest waits."""

    order_id: UUID
    held: dict[str, int]
    short: list["Missing"]


class Missing(NamedTuple):
    sku_id: str
    wanted: int
    missing: int


@dataclass(frozen=True, slots=True)
class Backordered:
    order_id: UUID
    short: list[Missing]


Levels = Mapping[tuple[str, str], PoolCount]
"""By (SKU, pool)."""


Outcome = Held | Split | Backordered


def reserve_in_turn(demands: Iterable[Demand], levels: Levels) -> list[Outcome]:
    """Serve new demand: each sees what the ones before it left, and none passes orders that a wake pass is about to serve."""
    return [_reserve(demand, levels, behind_waiting=True) for demand in demands]


def wake_in_turn(demands: Iterable[Demand], levels: Levels) -> list[Outcome]:
    """Serve waiting orders, oldest first: each that the free quantity covers wholly is held, the others go on waiting.

    Passing over an order that cannot be covered takes nothing from it, and no unit rests while somebody could have it.
    """
    return [_reserve(demand, levels, behind_waiting=False) for demand in demands]


def hold_again(demand: Demand, levels: Levels) -> Held | Backordered:
    """Keep the hold of an order that came back from a place, unless the pool has promised more than there is: then give the
    hold up, and wait."""
    if not any(levels[sku_id, demand.pool_id].overpromised for sku_id in demand.wanted):
        return Held(demand.order_id)
    for sku_id, wanted in demand.wanted.items():
        levels[sku_id, demand.pool_id].add(wanted)
    return Backordered(
        demand.order_id,
        [
            Missing(sku_id, wanted, missing)
            for sku_id, wanted in demand.wanted.items()
            if (missing := wanted - levels[sku_id, demand.pool_id].free) > 0
        ],
    )


def _reserve(demand: Demand, levels: Levels, *, behind_waiting: bool) -> Outcome:
    short, there = [], {}
    for sku_id, wanted in demand.wanted.items():
        level = levels[sku_id, demand.pool_id]
        promisable = 0 if behind_waiting and level.waking else level.promisable
        if wanted > promisable:
            short.append(Missing(sku_id, wanted, wanted - promisable))
        if promisable:
            there[sku_id] = min(wanted, promisable)
    if short and not (demand.splits and there):
        return Backordered(demand.order_id, short)
    for sku_id, units in there.items():
        levels[sku_id, demand.pool_id].hold(units)
    return Split(demand.order_id, there, short) if short else Held(demand.order_id)
