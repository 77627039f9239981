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


class Held(NamedTuple):
    order_id: UUID


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


def reserve_in_turn(demands: Iterable[Demand], levels: Levels) -> list[Held | Backordered]:
    """Serve new demand: each sees what the ones before it left, and none passes orders that a wake pass is about to serve."""
    return [_reserve(demand, levels, behind_waiting=True) for demand in demands]


def wake_in_turn(demands: Iterable[Demand], levels: Levels) -> list[Held | Backordered]:
    """Serve waiting orders, oldest first: each that the free quantity covers wholly is held, the others go on waiting.

    Passing over an order that cannot be covered takes nothing from it, and no unit rests while somebody could have it.
    """
    return [_reserve(demand, levels, behind_waiting=False) for demand in demands]


def _reserve(demand: Demand, levels: Levels, *, behind_waiting: bool) -> Held | Backordered:
    short = []
    for sku_id, wanted in demand.wanted.items():
        level = levels[sku_id, demand.pool_id]
        if behind_waiting and level.waking:
            short.append(Missing(sku_id, wanted, wanted))
        elif wanted > level.promisable:
            short.append(Missing(sku_id, wanted, wanted - level.promisable))
    if short:
        return Backordered(demand.order_id, short)
    for sku_id, wanted in demand.wanted.items():
        levels[sku_id, demand.pool_id].hold(wanted)
    return Held(demand.order_id)
