"""Levels to send: absolute numbers with versions that rise with every change beneath them."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from contracts import StockLevel
from eventing import UnitOfWork
from inventory.domain.bundles import whole_sets
from inventory.store.rows import execute, rows


class LevelKey(NamedTuple):
    sku_id: str
    place_no: int | None = None
    """None: every pool of the SKU."""


class Sent(NamedTuple):
    """One row of `stock_level_sent`."""

    sku_id: str
    pool_id: str
    place_no: int
    version: int
    basis: int


_READ_PLACE_LEVELS = """
SELECT s.sku_id, l.pool_id, l.place_id, s.place_no, s.on_hand, s.allocated, s.short, s.safety, s.damaged, s.incoming, s.version
FROM unnest($1::text[], $2::int[]) AS w(sku_id, place_no)
JOIN place_stock s USING (sku_id, place_no) JOIN location l ON l.place_no = s.place_no
"""
# A pool's version is the sum of the versions beneath it: each of them only rises, so any change raises it.
_READ_POOL_LEVELS = """
SELECT p.sku_id, p.pool_id, p.free, p.overpromised, p.safety, p.version + coalesce(s.version, 0) AS version,
       coalesce(s.on_hand, 0) AS on_hand, coalesce(s.allocated, 0) AS allocated, coalesce(s.short, 0) AS short,
       coalesce(s.damaged, 0) AS damaged, coalesce(s.incoming, 0) AS incoming
FROM unnest($1::text[]) AS w(sku_id) JOIN pool_stock p USING (sku_id)
LEFT JOIN LATERAL (
    SELECT sum(s.version)::bigint AS version, sum(s.on_hand)::bigint AS on_hand, sum(s.allocated)::bigint AS allocated,
           sum(s.short)::bigint AS short, sum(s.damaged)::bigint AS damaged, sum(s.incoming)::bigint AS incoming
    FROM place_stock s JOIN location l USING (place_no) WHERE s.sku_id = p.sku_id AND l.pool_id = p.pool_id
) s ON true
"""
_FIND_BUNDLES = """
SELECT DISTINCT b.bundle_id FROM bundle_part b WHERE b.sku_id = ANY($1::text[]) OR b.bundle_id = ANY($1::text[]) ORDER BY 1
"""
# A bundle has a level in every pool that has one of its parts.
_BUNDLE_POOLS = """
SELECT b.bundle_id, p.pool_id, sum(p.version + coalesce(s.version, 0))::bigint + i.version AS basis
FROM bundle_part b JOIN item i ON i.sku_id = b.bundle_id JOIN pool_stock p ON p.sku_id = b.sku_id
LEFT JOIN LATERAL (
    SELECT sum(s.version)::bigint AS version FROM place_stock s JOIN location l USING (place_no)
    WHERE s.sku_id = p.sku_id AND l.pool_id = p.pool_id
) s ON true
"""
_READ_BUNDLE_POOLS = _BUNDLE_POOLS + "WHERE b.bundle_id = ANY($1::text[]) GROUP BY b.bundle_id, p.pool_id, i.version"
_READ_BUNDLE_PARTS = """
SELECT b.bundle_id, b.sku_id, b.quantity, p.pool_id, greatest(p.free - p.safety, 0) AS atp
FROM bundle_part b LEFT JOIN pool_stock p USING (sku_id) WHERE b.bundle_id = ANY($1::text[])
"""
# The rows are locked before the parts are read, so that of two flushers the one with the higher version has read later.
_RAISE_SENT = """
INSERT INTO stock_level_sent AS t (sku_id, pool_id, place_no, version, basis, sent_at)
SELECT sku_id, pool_id, 0, 1, 0, $3::timestamptz FROM unnest($1::text[], $2::text[]) AS w(sku_id, pool_id)
ON CONFLICT (sku_id, pool_id, place_no) DO UPDATE SET version = t.version + 1
RETURNING sku_id, pool_id, version
"""
_SAVE_SENT = """
INSERT INTO stock_level_sent AS t (sku_id, pool_id, place_no, version, basis, sent_at)
SELECT *, $6::timestamptz FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bigint[])
ON CONFLICT (sku_id, pool_id, place_no) DO UPDATE SET
    version = greatest(t.version, excluded.version), basis = excluded.basis, sent_at = excluded.sent_at
"""
_FIND_UNSENT = f"""
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
UNION ALL
SELECT b.bundle_id, 0
FROM ({_BUNDLE_POOLS} GROUP BY b.bundle_id, p.pool_id, i.version) b
LEFT JOIN stock_level_sent t ON t.sku_id = b.bundle_id AND t.pool_id = b.pool_id AND t.place_no = 0
WHERE b.basis <> coalesce(t.basis, 0)
"""  # noqa: S608  both halves are literals
_FIND_OLD = """
SELECT sku_id, pool_id, place_no, sent_at < $4::timestamptz AS is_old FROM stock_level_sent
WHERE (sku_id, pool_id, place_no) > ($1::text, $2::text, $3::int) ORDER BY sku_id, pool_id, place_no LIMIT $5::int
"""


async def read_levels(work: UnitOfWork, keys: Collection[LevelKey]) -> list[StockLevel]:
    """Read the levels as they stand, those of bundles of these SKUs too, and note their versions as sent."""
    places = sorted((key.sku_id, key.place_no) for key in keys if key.place_no is not None)
    pools = sorted(key.sku_id for key in keys if key.place_no is None)
    levels: list[StockLevel] = []
    sent: list[Sent] = []
    if places:
        table = await rows(work, _READ_PLACE_LEVELS, [sku_id for sku_id, _ in places], [place_no for _, place_no in places])
        for row in table:
            sent.append(Sent(row.sku_id, row.pool_id, row.place_no, row.version, row.version))
            atp = max(0, row.on_hand - row.allocated - row.short - row.safety)
            levels.append(_level(row, work.now, place_id=row.place_id, atp=atp))
    if pools:
        for row in await rows(work, _READ_POOL_LEVELS, pools):
            sent.append(Sent(row.sku_id, row.pool_id, 0, row.version, row.version))
            reserved = row.on_hand - row.allocated - row.short - row.free + row.overpromised
            levels.append(_level(row, work.now, reserved=reserved, atp=max(0, row.free - row.safety)))
        of_bundles, sent_bundles = await _read_bundle_levels(work, pools)
        levels += of_bundles
        sent += sent_bundles
    if sent:
        await execute(work, _SAVE_SENT, *map(list, zip(*sorted(sent), strict=True)), work.now)
    return levels


def _level(row: Any, now: datetime, **values: Any) -> StockLevel:
    return StockLevel(
        sku_id=row.sku_id,
        pool_id=row.pool_id,
        on_hand=row.on_hand,
        allocated=row.allocated,
        short=row.short,
        safety=row.safety,
        damaged=row.damaged,
        incoming=row.incoming,
        counted_at=now,
        version=row.version,
        **values,
    )


async def _read_bundle_levels(work: UnitOfWork, skus: Sequence[str]) -> tuple[list[StockLevel], list[Sent]]:
    """Whole sets per pool, of the bundles that have one of these parts or are one of these."""
    bundles = [row.bundle_id for row in await rows(work, _FIND_BUNDLES, skus)]
    if not bundles:
        return [], []
    keys = sorted((row.bundle_id, row.pool_id) for row in await rows(work, _READ_BUNDLE_POOLS, bundles))
    raised = await rows(work, _RAISE_SENT, [bundle_id for bundle_id, _ in keys], [pool_id for _, pool_id in keys], work.now)
    versions = {(row.sku_id, row.pool_id): row.version for row in raised}
    # Read again under the rows' locks. The basis comes first: a change in between makes it too low, and is sent again.
    basis = {(row.bundle_id, row.pool_id): row.basis for row in await rows(work, _READ_BUNDLE_POOLS, bundles)}
    parts: dict[str, dict[str, int]] = {}
    atp: dict[tuple[str, str], dict[str, int]] = {}
    for row in await rows(work, _READ_BUNDLE_PARTS, bundles):
        parts.setdefault(row.bundle_id, {})[row.sku_id] = row.quantity
        if row.pool_id is not None:
            atp.setdefault((row.bundle_id, row.pool_id), {})[row.sku_id] = row.atp
    levels = [
        StockLevel(
            sku_id=bundle_id,
            pool_id=pool_id,
            on_hand=0,
            atp=whole_sets(parts[bundle_id], atp[bundle_id, pool_id]),
            counted_at=work.now,
            version=version,
        )
        for (bundle_id, pool_id), version in versions.items()
    ]
    return levels, [Sent(*key, 0, version, basis[key]) for key, version in versions.items()]


async def find_unsent_levels(work: UnitOfWork) -> list[LevelKey]:
    """Levels that changed since they were last sent: those a process died on."""
    return _keys(await rows(work, _FIND_UNSENT))


async def find_old_levels(
    work: UnitOfWork, after: tuple[str, str, int], *, sent_before: datetime, limit: int
) -> tuple[list[LevelKey], tuple[str, str, int] | None]:
    """Those of the next `limit` levels that were not sent since, and where to go on; None at the end."""
    page = await rows(work, _FIND_OLD, *after, sent_before, limit)
    last = (page[-1].sku_id, page[-1].pool_id, page[-1].place_no) if len(page) == limit else None
    return _keys(row for row in page if row.is_old), last


def _keys(found: Iterable[Any]) -> list[LevelKey]:
    return list(dict.fromkeys(LevelKey(row.sku_id, row.place_no or None) for row in found))
