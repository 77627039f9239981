"""Documents of stock keeping, what they announce, and what the units cost."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from eventing import UnitOfWork
from inventory.domain.costs import StockValue
from inventory.store.rows import execute, rows
from inventory.store.stock import PlaceKey

SLACK = timedelta(minutes=1)
"""Movements get their number before their transaction commits, which takes seconds at most: so far numbers and times may
disagree."""


class Document(NamedTuple):
    document_id: UUID
    kind: str
    reference: str
    place_no: int
    content: str
    recorded_by: str
    recorded_at: datetime


class Since(NamedTuple):
    """When a place was counted: above a movement's number, or, where none is told, later than a moment."""

    taken_at: datetime
    watermark: int | None


class Expected(NamedTuple):
    """Units of one SKU that a document announces at a place."""

    sku_id: str
    announced: int
    unit_cost_minor: int | None = None


class ExpectedRow(NamedTuple):
    sku_id: str
    place_no: int
    due_on: date | None
    announced: int
    arrived: int
    unit_cost_minor: int | None
    is_open: bool

    @property
    def left(self) -> int:
        return max(0, self.announced - self.arrived) if self.is_open else 0


_ADD_DOCUMENT = """
INSERT INTO stock_document (document_id, kind, reference, place_no, content, recorded_by, recorded_at)
VALUES ($1::uuid, $2::text, $3::text, $4::int, $5::text, $6::text, $7::timestamptz)
ON CONFLICT (kind, reference) DO NOTHING RETURNING document_id
"""
_FIND_DOCUMENT = """
SELECT document_id, kind, reference, place_no, content, recorded_by, recorded_at FROM stock_document
WHERE kind = $1::text AND reference = $2::text
"""
_ADD_INCOMING = """
INSERT INTO incoming (document_id, sku_id, place_no, due_on, announced, arrived, unit_cost_minor, open)
SELECT $1::uuid, d.sku_id, $2::int, $3::date, d.announced, 0, d.unit_cost_minor, true
FROM unnest($4::text[], $5::int[], $6::bigint[]) AS d(sku_id, announced, unit_cost_minor)
"""
_LOCK_INCOMING = """
SELECT sku_id, place_no, due_on, announced, arrived, unit_cost_minor, open FROM incoming
WHERE document_id = $1::uuid ORDER BY sku_id FOR UPDATE
"""
_SAVE_INCOMING = """
UPDATE incoming i SET arrived = d.arrived, open = d.open
FROM unnest($2::text[], $3::int[], $4::bool[]) AS d(sku_id, arrived, open)
WHERE i.document_id = $1::uuid AND i.sku_id = d.sku_id
"""
_MOVE_INCOMING = """
UPDATE place_stock s SET incoming = s.incoming + d.units, version = s.version + 1
FROM unnest($1::text[], $2::int[], $3::int[]) AS d(sku_id, place_no, units)
WHERE s.sku_id = d.sku_id AND s.place_no = d.place_no
"""
_LOCK_VALUES = """
SELECT w.sku_id, c.units, c.value_minor, s.counted FROM unnest($1::text[]) AS w(sku_id)
JOIN stock_cost c USING (sku_id)
CROSS JOIN LATERAL (
    SELECT coalesce(sum(on_hand - short), 0)::bigint AS counted FROM place_stock WHERE sku_id = w.sku_id
) s
ORDER BY w.sku_id FOR UPDATE OF c
"""
_ADD_VALUES = """
INSERT INTO stock_cost (sku_id, units, value_minor, unit_cost_minor, changed_at)
SELECT i.sku_id, 1, i.standard_cost_minor, i.standard_cost_minor, $2::timestamptz FROM item i WHERE i.sku_id = ANY($1::text[])
ORDER BY i.sku_id ON CONFLICT DO NOTHING
"""
_SAVE_VALUES = """
UPDATE stock_cost c SET units = d.units, value_minor = d.value_minor, unit_cost_minor = d.unit_cost_minor,
    changed_at = $5::timestamptz
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS d(sku_id, units, value_minor, unit_cost_minor)
WHERE c.sku_id = d.sku_id
"""
_READ_CURRENCIES = "SELECT sku_id, currency FROM item WHERE sku_id = ANY($1::text[])"
_FIND_EFFECTS = """
SELECT subject_id, cause_id, line, sku_id FROM movement
JOIN unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[]) AS w(subject_id, cause_id, line, sku_id)
    USING (subject_id, cause_id, line, sku_id)
"""
_TAKE_SNAPSHOT = """
INSERT INTO place_snapshot AS p (place_no, taken_at, document_id) VALUES ($1::int, $2::timestamptz, $3::uuid)
ON CONFLICT (place_no) DO UPDATE SET taken_at = excluded.taken_at, document_id = excluded.document_id
WHERE p.taken_at <= excluded.taken_at
RETURNING place_no
"""
_FIND_SNAPSHOT = "SELECT taken_at FROM place_snapshot WHERE place_no = $1::int"
_FIND_COUNTED = """
SELECT sku_id FROM place_stock WHERE place_no = $1::int AND (on_hand <> 0 OR short <> 0 OR damaged <> 0)
"""
_SUM_SINCE = """
SELECT sku_id, sum(on_hand - short)::bigint AS counted, sum(damaged)::bigint AS damaged FROM movement
WHERE sku_id = ANY($1::text[]) AND place_no = $2::int AND movement_id > $3::bigint AND moved_at > $4::timestamptz
GROUP BY sku_id
"""
# From the newest backwards, so that it costs no more than there are movements since.
_FIND_LAST_BEFORE = "SELECT movement_id FROM movement WHERE moved_at <= $1::timestamptz ORDER BY movement_id DESC LIMIT 1"
_FIND_LAST_MOVEMENT = "SELECT coalesce(max(movement_id), 0) AS movement_id FROM movement"


async def add_document(work: UnitOfWork, document: Document) -> bool:
    """Note a document; False where its reference was taken."""
    return bool(await rows(work, _ADD_DOCUMENT, *document))


async def find_document(work: UnitOfWork, *, kind: str, reference: str) -> Document | None:
    for row in await rows(work, _FIND_DOCUMENT, kind, reference):
        return Document(*row)
    return None


async def add_incoming(
    work: UnitOfWork, document_id: UUID, *, place_no: int, due_on: date | None, expected: Sequence[Expected]
) -> None:
    table = map(list, zip(*expected, strict=True))
    await execute(work, _ADD_INCOMING, document_id, place_no, due_on, *table)


async def lock_incoming(work: UnitOfWork, document_id: UUID) -> list[ExpectedRow]:
    return [ExpectedRow(*row) for row in await rows(work, _LOCK_INCOMING, document_id)]


async def save_incoming(work: UnitOfWork, document_id: UUID, expected: Iterable[ExpectedRow]) -> None:
    table = [(row.sku_id, row.arrived, row.is_open) for row in expected]
    if table:
        await execute(work, _SAVE_INCOMING, document_id, *map(list, zip(*table, strict=True)))


async def move_incoming(work: UnitOfWork, units: Mapping[PlaceKey, int]) -> None:
    """More (positive) or less (negative) is on its way to places whose rows are locked."""
    table = [(sku_id, place_no, moved) for (sku_id, place_no), moved in sorted(units.items()) if moved]
    if table:
        await execute(work, _MOVE_INCOMING, *map(list, zip(*table, strict=True)))


async def lock_values(work: UnitOfWork, skus: Collection[str]) -> dict[str, tuple[StockValue, int]]:
    """Per SKU its value and the units counted at all places; after the place rows, before they are saved."""
    found = await rows(work, _LOCK_VALUES, sorted(skus))
    if len(found) < len(skus):
        await execute(work, _ADD_VALUES, sorted(skus), work.now)
        found = await rows(work, _LOCK_VALUES, sorted(skus))
    return {row.sku_id: (StockValue(row.units, row.value_minor), row.counted) for row in found}


async def save_values(work: UnitOfWork, values: Mapping[str, StockValue]) -> None:
    table = [(sku_id, value.units, value.value_minor, value.unit_cost_minor) for sku_id, value in sorted(values.items())]
    if table:
        await execute(work, _SAVE_VALUES, *map(list, zip(*table, strict=True)), work.now)


async def read_currencies(work: UnitOfWork, skus: Collection[str]) -> dict[str, str]:
    return {row.sku_id: row.currency for row in await rows(work, _READ_CURRENCIES, list(skus))}


async def find_effects(work: UnitOfWork, effects: Collection[tuple[UUID, UUID, int, str]]) -> set[tuple[UUID, UUID, int, str]]:
    """Those that happened before. Exact under the locks of the rows that they change."""
    table = map(list, zip(*effects, strict=True))
    return {(row.subject_id, row.cause_id, row.line, row.sku_id) for row in await rows(work, _FIND_EFFECTS, *table)}


async def take_snapshot(work: UnitOfWork, place_no: int, taken_at: datetime, document_id: UUID) -> bool:
    """Lock the place's last snapshot and put this one in its place; False where that one is younger."""
    return bool(await rows(work, _TAKE_SNAPSHOT, place_no, taken_at, document_id))


async def find_snapshot_time(work: UnitOfWork, place_no: int) -> datetime | None:
    for row in await rows(work, _FIND_SNAPSHOT, place_no):
        taken_at: datetime = row.taken_at
        return taken_at
    return None


async def find_last_movement(work: UnitOfWork) -> int:
    """The highest number that anybody can have been told; 0 before the first."""
    last: int = (await rows(work, _FIND_LAST_MOVEMENT))[0].movement_id
    return last


async def find_counted_skus(work: UnitOfWork, place_no: int) -> list[str]:
    """SKUs of which the place has units, good or damaged, or lacks some."""
    return [row.sku_id for row in await rows(work, _FIND_COUNTED, place_no)]


async def sum_movements_since(
    work: UnitOfWork, skus: Collection[str], place_no: int, since: Since
) -> dict[str, tuple[int, int]]:
    """What moved at a place since it was counted, good and damaged units by SKU. Under the locks of its rows."""
    if since.watermark is not None:
        watermark, moved_after = since.watermark, datetime.min.replace(tzinfo=UTC)
    else:
        found = await rows(work, _FIND_LAST_BEFORE, since.taken_at - SLACK)
        watermark, moved_after = (found[0].movement_id if found else 0), since.taken_at
    table: Sequence[Any] = await rows(work, _SUM_SINCE, list(skus), place_no, watermark, moved_after)
    return {row.sku_id: (row.counted, row.damaged) for row in table}
