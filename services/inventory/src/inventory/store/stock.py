"""Counts and what explains them: pool stock, place stock, the places' days, movements, levels to send."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple
from uuid import UUID

from eventing import UnitOfWork
from inventory.domain.counts import Change, PlaceCount, PoolCount
from inventory.store.rows import execute, rows

PoolKey = tuple[str, str]
"""(SKU, pool)."""
PlaceKey = tuple[str, int]
"""(SKU, place_no)."""
DayKey = tuple[int, date]
"""(place_no, local day)."""


Effect = tuple[UUID, UUID, int, str]
"""What happened, named for ever: subject, cause, line, SKU (a bundle's line moves several)."""


@dataclass(frozen=True, slots=True)
class Supply:
    """What was there when it was read; nothing of it is locked, so it only advises."""

    free: Mapping[str, Mapping[int, int]]
    """Units available by SKU and place, less what safety keeps back there; places without any are left out."""
    physical: Mapping[str, Mapping[int, int]]
    """The same with what safety keeps back; the same object where it keeps nothing."""
    known: frozenset[str]
    """SKUs of the catalogue."""
    pooled: frozenset[PoolKey]
    """Keys that have a pool row."""


class Movement(NamedTuple):
    subject_id: UUID
    cause_id: UUID
    line: int
    kind: str
    sku_id: str
    place_no: int
    change: Change
    unit_cost_minor: int | None = None
    reason_code: str | None = None

    @property
    def effect(self) -> Effect:
        return self.subject_id, self.cause_id, self.line, self.sku_id


_READ_SUPPLY = """
SELECT w.sku_id, i.sku_id IS NOT NULL AS known, p.pools, s.places, s.frees, s.safeties
FROM unnest($1::text[]) AS w(sku_id)
LEFT JOIN item i USING (sku_id)
LEFT JOIN LATERAL (SELECT array_agg(pool_id) AS pools FROM pool_stock WHERE sku_id = w.sku_id) p ON true
LEFT JOIN LATERAL (
    SELECT array_agg(place_no) AS places, array_agg(on_hand - allocated - short) AS frees,
           CASE WHEN max(safety) > 0 THEN array_agg(safety) END AS safeties
    FROM place_stock WHERE sku_id = w.sku_id AND on_hand - allocated - short > 0
) s ON true
"""
_READ_PLACE_FREE = """
SELECT s.sku_id, s.place_no, s.on_hand - s.allocated - s.short AS free
FROM unnest($1::text[], $2::int[]) AS w(sku_id, place_no) JOIN place_stock s USING (sku_id, place_no)
"""
_READ_COSTS = """
SELECT i.sku_id, coalesce(c.unit_cost_minor, i.standard_cost_minor) AS unit_cost_minor
FROM item i LEFT JOIN stock_cost c USING (sku_id) WHERE i.sku_id = ANY($1::text[])
"""
_ADD_POOL_ROWS = """
INSERT INTO pool_stock (sku_id, pool_id, free, overpromised, waking, safety, version)
SELECT sku_id, pool_id, 0, 0, false, 0, 0 FROM unnest($1::text[], $2::text[]) AS w(sku_id, pool_id)
ON CONFLICT DO NOTHING
"""
_LOCK_POOL_STOCK = """
SELECT p.sku_id, p.pool_id, p.free, p.overpromised, p.waking, p.safety
FROM pool_stock p JOIN unnest($1::text[], $2::text[]) AS w(sku_id, pool_id) USING (sku_id, pool_id)
ORDER BY p.sku_id, p.pool_id FOR UPDATE OF p
"""
_SAVE_POOL_STOCK = """
UPDATE pool_stock p SET free = d.free, overpromised = d.overpromised, waking = d.waking, version = p.version + 1
FROM unnest($1::text[], $2::text[], $3::int[], $4::int[], $5::bool[]) AS d(sku_id, pool_id, free, overpromised, waking)
WHERE p.sku_id = d.sku_id AND p.pool_id = d.pool_id
"""
_ADD_PLACE_ROWS = """
INSERT INTO place_stock (sku_id, place_no, on_hand, allocated, short, damaged, safety, incoming, version)
SELECT sku_id, place_no, 0, 0, 0, 0, 0, 0, 0 FROM unnest($1::text[], $2::int[]) AS w(sku_id, place_no)
ON CONFLICT DO NOTHING RETURNING sku_id, place_no
"""
_LOCK_PLACE_STOCK = """
SELECT s.sku_id, s.place_no, s.on_hand, s.allocated, s.short, s.damaged
FROM place_stock s JOIN unnest($1::text[], $2::int[]) AS w(sku_id, place_no) USING (sku_id, place_no)
ORDER BY s.sku_id, s.place_no FOR UPDATE OF s
"""
_SAVE_PLACE_STOCK = """
UPDATE place_stock s SET
    on_hand = d.on_hand, allocated = d.allocated, short = d.short, damaged = d.damaged, version = s.version + 1
FROM unnest($1::text[], $2::int[], $3::int[], $4::int[], $5::int[], $6::int[])
    AS d(sku_id, place_no, on_hand, allocated, short, damaged)
WHERE s.sku_id = d.sku_id AND s.place_no = d.place_no
"""
_ADD_PLACE_DAYS = """
INSERT INTO place_day (place_no, day, used)
SELECT w.place_no, w.day, 0 FROM unnest($1::int[], $2::date[]) AS w(place_no, day)
WHERE NOT EXISTS (SELECT FROM place_day d WHERE d.place_no = w.place_no AND d.day = w.day)
ON CONFLICT DO NOTHING
"""
_LOCK_PLACE_DAYS = """
SELECT d.place_no, d.day, d.used FROM place_day d JOIN unnest($1::int[], $2::date[]) AS w(place_no, day) USING (place_no, day)
ORDER BY d.place_no, d.day FOR UPDATE OF d
"""
_SAVE_PLACE_DAYS = """
UPDATE place_day p SET used = d.used FROM unnest($1::int[], $2::date[], $3::int[]) AS d(place_no, day, used)
WHERE p.place_no = d.place_no AND p.day = d.day
"""
_ADD_MOVEMENTS = """
INSERT INTO movement (
    subject_id, cause_id, line, kind, sku_id, place_no, on_hand, allocated, short, damaged, unit_cost_minor, reason_code,
    moved_at
)
SELECT *, $13::timestamptz FROM unnest(
    $1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::int[], $7::int[], $8::int[], $9::int[], $10::int[],
    $11::bigint[], $12::text[]
)
ON CONFLICT (subject_id, cause_id, line, sku_id) DO NOTHING
RETURNING subject_id, cause_id, line, sku_id
"""


async def read_supply(work: UnitOfWork, skus: Collection[str]) -> Supply:
    physical: dict[str, dict[int, int]] = {}
    kept_back: dict[str, dict[int, int]] = {}
    known: set[str] = set()
    pooled: set[PoolKey] = set()
    for sku_id, is_known, pools, places, units, safeties in await rows(work, _READ_SUPPLY, sorted(skus)):
        if is_known:
            known.add(sku_id)
        pooled.update((sku_id, pool_id) for pool_id in pools or ())
        physical[sku_id] = dict(zip(places, units, strict=True)) if places else {}
        if safeties:
            kept_back[sku_id] = dict(zip(places, safeties, strict=True))
    free = {sku_id: offered(units, kept_back.get(sku_id)) for sku_id, units in physical.items()} if kept_back else physical
    return Supply(free, physical, frozenset(known), frozenset(pooled))


def offered(units: dict[int, int], kept_back: Mapping[int, int] | None) -> dict[int, int]:
    """Units by place less what safety keeps back there."""
    if kept_back is None:
        return units
    return {place_no: left for place_no, free in units.items() if (left := free - kept_back[place_no]) > 0}


async def read_place_free(work: UnitOfWork, keys: Collection[PlaceKey]) -> dict[PlaceKey, int]:
    """Units available; not locked."""
    return {(sku_id, place_no): free for sku_id, place_no, free in await rows(work, _READ_PLACE_FREE, *_columns(keys))}


async def read_costs(work: UnitOfWork, skus: Collection[str]) -> dict[str, int]:
    """What a unit cost on average, in minor units, by SKU; the standard cost where none was received with its cost."""
    return {row.sku_id: row.unit_cost_minor for row in await rows(work, _READ_COSTS, list(skus))}


async def add_pool_rows(work: UnitOfWork, keys: Collection[PoolKey]) -> None:
    """Before the pool is locked: a row that nobody has cannot be locked, and what is locked must be sorted."""
    if keys:
        await execute(work, _ADD_POOL_ROWS, *_columns(keys))


async def lock_pool_stock(work: UnitOfWork, keys: Collection[PoolKey]) -> dict[PoolKey, PoolCount]:
    locked = await rows(work, _LOCK_POOL_STOCK, *_columns(keys))
    return {(sku_id, pool_id): PoolCount(*count) for sku_id, pool_id, *count in locked}


async def save_pool_stock(work: UnitOfWork, counts: Mapping[PoolKey, PoolCount]) -> None:
    if counts:
        values = list(counts.values())
        await execute(
            work,
            _SAVE_POOL_STOCK,
            [sku_id for sku_id, _ in counts],
            [pool_id for _, pool_id in counts],
            [count.free for count in values],
            [count.overpromised for count in values],
            [count.waking for count in values],
        )


async def add_place_rows(work: UnitOfWork, keys: Collection[PlaceKey]) -> list[PlaceKey]:
    """Before the places are locked; return those that were not there."""
    return [(row.sku_id, row.place_no) for row in await rows(work, _ADD_PLACE_ROWS, *_columns(keys))] if keys else []


async def lock_place_stock(
    work: UnitOfWork, keys: Collection[PlaceKey], *, skip_locked: bool = False
) -> dict[PlaceKey, PlaceCount]:
    """Lock rows, sorted. With `skip_locked` rows that others hold are left out: for those who hold later locks already."""
    statement = _LOCK_PLACE_STOCK + (" SKIP LOCKED" if skip_locked else "")
    return {(sku_id, place_no): PlaceCount(*count) for sku_id, place_no, *count in await rows(work, statement, *_columns(keys))}


async def save_place_stock(work: UnitOfWork, counts: Mapping[PlaceKey, PlaceCount]) -> None:
    if counts:
        values = list(counts.values())
        await execute(
            work,
            _SAVE_PLACE_STOCK,
            [sku_id for sku_id, _ in counts],
            [place_no for _, place_no in counts],
            [count.on_hand for count in values],
            [count.allocated for count in values],
            [count.short for count in values],
            [count.damaged for count in values],
        )


async def lock_place_days(work: UnitOfWork, keys: Collection[DayKey], *, skip_locked: bool = False) -> dict[DayKey, int]:
    """Lock the places' rows of their local days, sorted, making those that are not there; return the orders taken so far."""
    columns = _columns(keys)
    statement = _LOCK_PLACE_DAYS + (" SKIP LOCKED" if skip_locked else "")
    locked = {(row.place_no, row.day): row.used for row in await rows(work, statement, *columns)}
    if len(locked) < len(keys) and not skip_locked:
        # The day's first orders. Rows are inserted sorted too, and nobody waits for a row of an earlier kind after this.
        await execute(work, _ADD_PLACE_DAYS, *columns)
        locked = {(row.place_no, row.day): row.used for row in await rows(work, statement, *columns)}
    return locked


async def save_place_days(work: UnitOfWork, used: Mapping[DayKey, int]) -> None:
    if used:
        await execute(work, _SAVE_PLACE_DAYS, [place_no for place_no, _ in used], [day for _, day in used], list(used.values()))


async def add_movements(work: UnitOfWork, movements: Sequence[Movement]) -> set[Effect]:
    """Write movements; return the effects that were new. One that is there already happened before."""
    if not movements:
        return set()
    table = [
        (m.subject_id, m.cause_id, m.line, m.kind, m.sku_id, m.place_no, *m.change, m.unit_cost_minor, m.reason_code)
        for m in movements
    ]
    added = await rows(work, _ADD_MOVEMENTS, *map(list, zip(*table, strict=True)), work.now)
    return {(row.subject_id, row.cause_id, row.line, row.sku_id) for row in added}


def _columns(keys: Iterable[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    ordered = sorted(keys)
    return [first for first, _ in ordered], [second for _, second in ordered]
