"""SKUs and places: the one copy that everybody else's is made from."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, NamedTuple

from sqlalchemy import RowMapping, Table, select, update
from sqlalchemy.dialects.postgresql import insert

from contracts import BundlePart, CatalogItem, CatalogLocation
from eventing import UnitOfWork
from inventory import tables
from inventory.domain.offers import Place, Places
from inventory.store.policies import POOLS, read_policies, shop_key
from inventory.store.rows import execute, rows

_ADD_BUNDLE_PARTS = """
INSERT INTO bundle_part (bundle_id, sku_id, quantity) SELECT * FROM unnest($1::text[], $2::text[], $3::int[])
ON CONFLICT DO NOTHING
"""
# Anything that still needs the SKU or the place. What was promised and not shipped is allocated or short, or held in the pool.
_FIND_USE_OF_ITEM = """
SELECT EXISTS (
    SELECT FROM place_stock WHERE sku_id = $1::text
    AND (on_hand <> 0 OR allocated <> 0 OR short <> 0 OR damaged <> 0 OR incoming <> 0)
) OR EXISTS (SELECT FROM pool_stock WHERE sku_id = $1::text AND (free <> 0 OR overpromised <> 0))
  OR EXISTS (SELECT FROM backorder WHERE sku_id = $1::text) AS used,
(SELECT min(bundle_id) FROM bundle_part WHERE sku_id = $1::text) AS bundle_id
"""
_FIND_USE_OF_LOCATION = """
SELECT EXISTS (
    SELECT FROM place_stock WHERE place_no = $1::int
    AND (on_hand <> 0 OR allocated <> 0 OR short <> 0 OR damaged <> 0 OR incoming <> 0)
) AS used
"""


class Saved(NamedTuple):
    """What became of one catalogue entry."""

    key: str
    version: int
    changed: bool
    created: bool


async def save_items(work: UnitOfWork, items: Sequence[Mapping[str, Any]]) -> list[Saved]:
    """Insert or change SKUs; the version rises only where something did change. Values are those of `CatalogItem`."""
    wanted = {
        item["sku_id"]: {**item, "bundle_parts": json.dumps(item["bundle_parts"], ensure_ascii=False), "deleted": False}
        for item in items
    }
    saved = await _save(work, tables.item, "sku_id", wanted)
    changed = [entry.key for entry in saved if entry.changed]
    parts = [(item["sku_id"], part["sku_id"], part["quantity"]) for item in items for part in item["bundle_parts"]]
    await execute(work, "DELETE FROM bundle_part WHERE bundle_id = ANY($1::text[])", changed)
    if parts:
        await execute(work, _ADD_BUNDLE_PARTS, *map(list, zip(*parts, strict=True)))
    return saved


async def save_locations(work: UnitOfWork, locations: Sequence[Mapping[str, Any]]) -> list[Saved]:
    """Insert or change places; a new place gets its number."""
    wanted = {location["place_id"]: {**location, "deleted": False} for location in locations}
    return await _save(work, tables.location, "place_id", wanted)


async def delete_item(work: UnitOfWork, sku_id: str) -> bool:
    """Make a tombstone of a SKU: it stays listed, and its id is never used again. False where it is one already."""
    found = await _delete(work, tables.item, "sku_id", sku_id)
    if found:
        await execute(work, "DELETE FROM bundle_part WHERE bundle_id = $1::text", sku_id)
    return found


async def delete_location(work: UnitOfWork, place_id: str) -> bool:
    return await _delete(work, tables.location, "place_id", place_id)


async def _delete(work: UnitOfWork, table: Table, key: str, name: str) -> bool:
    statement = (
        update(table)
        .where(table.c[key] == name, ~table.c.deleted)
        .values(deleted=True, version=table.c.version + 1, changed_at=work.now)
        .returning(table.c[key])
    )
    return (await work.connection.execute(statement)).one_or_none() is not None


async def find_use_of_item(work: UnitOfWork, sku_id: str) -> tuple[bool, str | None]:
    """Whether anything of it is there, promised or announced; and a bundle that has it as a part."""
    (row,) = await rows(work, _FIND_USE_OF_ITEM, sku_id)
    return row.used, row.bundle_id


async def find_use_of_location(work: UnitOfWork, place_no: int) -> bool:
    (row,) = await rows(work, _FIND_USE_OF_LOCATION, place_no)
    used: bool = row.used
    return used


async def pause_location(work: UnitOfWork, place_id: str, *, paused: bool) -> bool:
    """False where it is so already."""
    location = tables.location
    statement = (
        update(location)
        .where(location.c.place_id == place_id, location.c.paused != paused)
        .values(paused=paused, version=location.c.version + 1, changed_at=work.now)
        .returning(location.c.place_id)
    )
    return (await work.connection.execute(statement)).one_or_none() is not None


async def _save(work: UnitOfWork, table: Table, key: str, wanted: Mapping[str, Mapping[str, Any]]) -> list[Saved]:
    known = await _lock(work, table, key, wanted)
    fresh = [{**wanted[name], "version": 1, "changed_at": work.now} for name in sorted(wanted.keys() - known.keys())]
    created: set[str] = set()
    if fresh:
        statement = insert(table).values(fresh).on_conflict_do_nothing(index_elements=[key]).returning(table.c[key])
        created = set((await work.connection.execute(statement)).scalars())
        if len(created) < len(fresh):  # Another writer made some of them in the meantime.
            known |= await _lock(work, table, key, wanted.keys() - known.keys() - created)
    saved = [Saved(name, 1, changed=True, created=True) for name in created]
    for name, row in known.items():
        changed = any(row[column] != value for column, value in wanted[name].items())
        version = row["version"] + 1 if changed else row["version"]
        if changed:
            values = {**wanted[name], "version": version, "changed_at": work.now}
            await work.connection.execute(update(table).where(table.c[key] == name).values(values))
        saved.append(Saved(name, version, changed=changed, created=False))
    return sorted(saved)


async def _lock(work: UnitOfWork, table: Table, key: str, names: Collection[str]) -> dict[str, RowMapping]:
    statement = select(table).where(table.c[key].in_(sorted(names))).order_by(table.c[key]).with_for_update()
    return {row[key]: row for row in (await work.connection.execute(statement)).mappings()}


async def get_items(work: UnitOfWork, sku_ids: Collection[str]) -> list[CatalogItem]:
    found = await work.connection.execute(
        select(tables.item).where(tables.item.c.sku_id.in_(sku_ids)).order_by(tables.item.c.sku_id)
    )
    return [to_item(row) for row in found.mappings()]


async def get_locations(work: UnitOfWork, place_ids: Collection[str]) -> list[CatalogLocation]:
    found = await work.connection.execute(
        select(tables.location).where(tables.location.c.place_id.in_(place_ids)).order_by(tables.location.c.place_id)
    )
    return [to_location(row) for row in found.mappings()]


async def list_items_after(work: UnitOfWork, sku_id: str, *, limit: int) -> list[CatalogItem]:
    """In order of their ids, tombstones too."""
    item = tables.item
    found = await work.connection.execute(select(item).where(item.c.sku_id > sku_id).order_by(item.c.sku_id).limit(limit))
    return [to_item(row) for row in found.mappings()]


async def list_locations_after(work: UnitOfWork, place_id: str, *, limit: int) -> list[CatalogLocation]:
    location = tables.location
    found = await work.connection.execute(
        select(location).where(location.c.place_id > place_id).order_by(location.c.place_id).limit(limit)
    )
    return [to_location(row) for row in found.mappings()]


def to_item(row: RowMapping) -> CatalogItem:
    values = {name: value for name, value in row.items() if name != "changed_at"}
    values["bundle_parts"] = [BundlePart(**part) for part in json.loads(values["bundle_parts"])]
    return CatalogItem(**values)


def to_location(row: RowMapping) -> CatalogLocation:
    return CatalogLocation(**{name: value for name, value in row.items() if name != "changed_at"})


_READ_PLACE_DAYS = """
SELECT l.place_no, l.version, d.day, d.used, (SELECT coalesce(sum(version), 0)::bigint FROM policy) AS policies
FROM location l LEFT JOIN place_day d ON d.place_no = l.place_no AND d.day >= $1::date
"""
_READ_PLACES = """
SELECT place_no, place_id, name, pool_id, coverage, latitude, longitude, daily_capacity, paused OR deleted, ships, pick_up,
       cut_off, working_weekdays
FROM location ORDER BY place_no
"""


@dataclass(slots=True)
class PlaceDirectory:
    """The process's copy of all places and policies: read again when one of them has changed, which each batch sees for
    itself."""

    _places: Places | None = None
    _policies: Mapping[str, Any] = field(default_factory=dict)
    _stamp: tuple[int, int, int] = (0, 0, 0)

    async def read(self, work: UnitOfWork, day: date) -> tuple[Places, dict[tuple[int, date], int]]:
        """The places, and how many orders each has taken on this local day and on later ones; nothing is locked."""
        found = await rows(work, _READ_PLACE_DAYS, day)
        versions = {row.place_no: row.version for row in found}
        # Places and policies are never removed and versions only rise, so equal sums mean that nothing has changed.
        stamp = (len(versions), sum(versions.values()), found[0].policies if found else 0)
        if self._places is None or stamp != self._stamp:
            table = await rows(work, _READ_PLACES)
            self._places = Places([_place(*row) for row in table])
            self._policies = await read_policies(work)
            self._stamp = stamp
        return self._places, {(row.place_no, row.day): row.used for row in found if row.day is not None}

    def policy(self, name: str) -> Any:
        """What people have set, as of the last read; None where they have not."""
        return self._policies.get(name)

    def pool_of(self, channel: str, shop_id: str, default: str) -> str:
        """The pool that a shop sells from, as of the last read."""
        pools: Mapping[str, str] = self._policies.get(POOLS) or {}
        return pools.get(shop_key(channel, shop_id), default)


def _place(place_no: int, place_id: str, name: str, pool_id: str, coverage: list[str], *rest: Any) -> Place:
    place = Place(place_no, place_id, name, pool_id, frozenset(coverage), *rest)
    return replace(place, working_weekdays=frozenset(place.working_weekdays))
