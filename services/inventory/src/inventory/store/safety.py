"""What the safety rules keep back, beside the counts."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from eventing import UnitOfWork
from inventory.domain.counts import PoolCount
from inventory.store.rows import execute, rows
from inventory.store.stock import PlaceKey, PoolKey


class KeptBack(NamedTuple):
    sku_id: str
    place_no: int
    safety: int
    category: str


_FIND_COUNTED_SKUS = "SELECT DISTINCT sku_id FROM place_stock WHERE sku_id > $1::text ORDER BY sku_id LIMIT $2::int"
_LOCK_POOL_OF_SKUS = """
SELECT sku_id, pool_id, free, overpromised, waking, safety FROM pool_stock WHERE sku_id = ANY($1::text[])
ORDER BY sku_id, pool_id FOR UPDATE
"""
_LOCK_SAFETY = """
SELECT s.sku_id, s.place_no, s.safety, i.category FROM place_stock s JOIN item i USING (sku_id)
WHERE s.sku_id = ANY($1::text[]) ORDER BY s.sku_id, s.place_no FOR UPDATE OF s
"""
_SAVE_PLACE_SAFETY = """
UPDATE place_stock s SET safety = d.safety, version = s.version + 1
FROM unnest($1::text[], $2::int[], $3::int[]) AS d(sku_id, place_no, safety)
WHERE s.sku_id = d.sku_id AND s.place_no = d.place_no
"""
_SAVE_POOL_SAFETY = """
UPDATE pool_stock p SET safety = d.safety, version = p.version + 1
FROM unnest($1::text[], $2::text[], $3::int[]) AS d(sku_id, pool_id, safety)
WHERE p.sku_id = d.sku_id AND p.pool_id = d.pool_id
"""


async def find_counted_skus(work: UnitOfWork, after: str, *, limit: int) -> list[str]:
    """SKUs that some place has a count of, in order."""
    return [row.sku_id for row in await rows(work, _FIND_COUNTED_SKUS, after, limit)]


async def lock_pool_of_skus(work: UnitOfWork, skus: Collection[str]) -> dict[PoolKey, PoolCount]:
    """Lock the SKUs' rows in every pool, sorted."""
    return {
        (sku_id, pool_id): PoolCount(*count) for sku_id, pool_id, *count in await rows(work, _LOCK_POOL_OF_SKUS, list(skus))
    }


async def lock_safety(work: UnitOfWork, skus: Collection[str]) -> list[KeptBack]:
    """Lock the SKUs' rows at every place, sorted."""
    return [KeptBack(*row) for row in await rows(work, _LOCK_SAFETY, list(skus))]


async def save_safety(work: UnitOfWork, places: Mapping[PlaceKey, int], pools: Mapping[PoolKey, int]) -> None:
    if places:
        table = [(*key, units) for key, units in places.items()]
        await execute(work, _SAVE_PLACE_SAFETY, *map(list, zip(*table, strict=True)))
    if pools:
        table_of_pools = [(*key, units) for key, units in pools.items()]
        await execute(work, _SAVE_POOL_SAFETY, *map(list, zip(*table_of_pools, strict=True)))
