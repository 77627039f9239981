"""Levels to send: absolute numbers with versions that rise with every change beneath them."""

from collections.abc import Collection
from typing import NamedTuple

from contracts import StockLevel
from eventing import UnitOfWork
from inventory.store.rows import execute, rows


class LevelKey(NamedTuple):
    sku_id: str
    place_no: int | None = None
    """None: every pool of the SKU."""


_READ_PLACE_LEVELS = """
SELECT s.sku_id, l.pool_id, l.place_id, s.place_no, s.on_hand, s.allocated, s.short, s.version
FROM unnest($1::text[], $2::int[]) AS w(sku_id, place_no)
JOIN place_stock s USING (sku_id, place_no) JOIN location l ON l.place_no = s.place_no
"""
# A pool's version is the sum of the versions beneath it: each of them only rises, so any change raises it.
_READ_POOL_LEVELS = """
SELECT p.sku_id, p.pool_id, p.free, p.overpromised, p.version + coalesce(s.version, 0) AS version,
       coalesce(s.on_hand, 0) AS on_hand, coalesce(s.allocated, 0) AS allocated, coalesce(s.short, 0) AS short
FROM unnest($1::text[]) AS w(sku_id) JOIN pool_stock p USING (sku_id)
LEFT JOIN LATERAL (
    SELECT sum(s.version)::bigint AS version, sum(s.on_hand)::bigint AS on_hand, sum(s.allocated)::bigint AS allocated,
           sum(s.short)::bigint AS short
    FROM place_stock s JOIN location l USING (place_no) WHERE s.sku_id = p.sku_id AND l.pool_id = p.pool_id
) s ON true
"""
_SAVE_SENT = """
INSERT INTO stock_level_sent AS t (sku_id, pool_id, place_no, version)
SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[])
ON CONFLICT (sku_id, pool_id, place_no) DO UPDATE SET version = greatest(t.version, excluded.version)
"""
_FIND_UNSENT = """
SELECT s.sku_id, s.place_no
FROM place_stock s JOIN location l USING (place_no)
LEFT JOIN stock_level_sent t ON t.sku_id = s.sku_id AND t.pool_id = l.pool_id AND t.place_no = s.place_no
WHERE s.version > coalesce(t.version, 0)
UNION ALL
SELECT p.sku_id, 0
FROM pool_stock p
LEFT JOIN LATERAL (
    SELECT sum(s.version)::bigint AS version FROM place_stock s JOIN location l USING (place_no)
    WHERE s.sku_id = p.sku_id AND l.pool_id = p.pool_id
) s ON true
LEFT JOIN stock_level_sent t ON t.sku_id = p.sku_id AND t.pool_id = p.pool_id AND t.place_no = 0
WHERE p.version + coalesce(s.version, 0) > coalesce(t.version, 0)
"""


async def read_levels(work: UnitOfWork, keys: Collection[LevelKey]) -> list[StockLevel]:
    """Read the levels as they stand, and note their versions as sent."""
    places = sorted((key.sku_id, key.place_no) for key in keys if key.place_no is not None)
    pools = sorted(key.sku_id for key in keys if key.place_no is None)
    levels, sent = [], []
    if places:
        table = await rows(work, _READ_PLACE_LEVELS, [sku_id for sku_id, _ in places], [place_no for _, place_no in places])
        for row in table:
            sent.append((row.sku_id, row.pool_id, row.place_no, row.version))
            levels.append(
                StockLevel(
                    sku_id=row.sku_id,
                    pool_id=row.pool_id,
                    place_id=row.place_id,
                    on_hand=row.on_hand,
                    allocated=row.allocated,
                    short=row.short,
                    atp=max(0, row.on_hand - row.allocated - row.short),
                    counted_at=work.now,
                    version=row.version,
                )
            )
    if pools:
        for row in await rows(work, _READ_POOL_LEVELS, pools):
            sent.append((row.sku_id, row.pool_id, 0, row.version))
            levels.append(
                StockLevel(
                    sku_id=row.sku_id,
                    pool_id=row.pool_id,
                    on_hand=row.on_hand,
                    reserved=row.on_hand - row.allocated - row.short - row.free + row.overpromised,
                    allocated=row.allocated,
                    short=row.short,
                    atp=row.free,
                    counted_at=work.now,
                    version=row.version,
                )
            )
    if sent:
        await execute(work, _SAVE_SENT, *map(list, zip(*sorted(sent), strict=True)))
    return levels


async def find_unsent_levels(work: UnitOfWork) -> list[LevelKey]:
    """Levels that changed since they were last sent: those a process died on."""
    return [LevelKey(row.sku_id, row.place_no or None) for row in await rows(work, _FIND_UNSENT)]
