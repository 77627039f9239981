"""SKUs and places: the one copy that everybody else's is made from."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

from sqlalchemy import RowMapping, Table, select, update
from sqlalchemy.dialects.postgresql import insert

from contracts import BundlePart, CatalogItem, CatalogLocation
from eventing import UnitOfWork
from inventory import tables
from inventory.domain.offers import Place, Places
from inventory.store.policies import POOLS, read_policies, shop_key
from inventory.store.rows import rows


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
    return await _save(work, tables.item, "sku_id", wanted)


async def save_locations(work: UnitOfWork, locations: Sequence[Mapping[str, Any]]) -> list[Saved]:
    """Insert or change places; a new place gets its number."""
    wanted = {location["place_id"]: {**location, "deleted": False} for location in locations}
    return await _save(work, tables.location, "place_id", wanted)


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


def to_item(row: RowMapping) -> CatalogItem:
    values = {name: value for name, value in row.items() if name != "changed_at"}
    values["bundle_parts"] = [BundlePart(**part) for part in json.loads(values["bundle_parts"])]
    return CatalogItem(**values)


def to_location(row: RowMapping) -> CatalogLocation:
    return CatalogLocation(**{name: value for name, value in row.items() if name != "changed_at"})


_READ_PLACE_DAYS = """
SELECT l.place_no, l.version, coalesce(d.used, 0) AS used, (SELECT coalesce(sum(version), 0)::bigint FROM policy) AS policies
FROM location l LEFT JOIN place_day d ON d.place_no = l.place_no AND d.day = $1::date
"""
_READ_PLACES = """
SELECT place_no, place_id, name, pool_id, coverage, latitude, longitude, daily_capacity, paused OR deleted, ships, pick_up
FROM location ORDER BY place_no
"""


@dataclass(slots=True)
class PlaceDirectory:
    """The process's copy of all places and policies: read again when one of them has changed, which each batch sees for
    itself."""

    _places: Places | None = None
    _policies: Mapping[str, Any] = field(default_factory=dict)
    _stamp: tuple[int, int, int] = (0, 0, 0)

    async def read(self, work: UnitOfWork, day: date) -> tuple[Places, dict[int, int]]:
        """The places, and how many orders each has taken on this local day; nothing is locked."""
        found = await rows(work, _READ_PLACE_DAYS, day)
        # Places and policies are never removed and versions only rise, so equal sums mean that nothing has changed.
        stamp = (len(found), sum(row.version for row in found), found[0].policies if found else 0)
        if self._places is None or stamp != self._stamp:
            table = await rows(work, _READ_PLACES)
            self._places = Places([_place(*row) for row in table])
            self._policies = await read_policies(work)
            self._stamp = stamp
        return self._places, {row.place_no: row.used for row in found}

    def policy(self, name: str) -> Any:
        """What people have set, as of the last read; None where they have not."""
        return self._policies.get(name)

    def pool_of(self, channel: str, shop_id: str, default: str) -> str:
        """The pool that a shop sells from, as of the last read."""
        pools: Mapping[str, str] = self._policies.get(POOLS) or {}
        return pools.get(shop_key(channel, shop_id), default)


def _place(place_no: int, place_id: str, name: str, pool_id: str, coverage: list[str], *rest: Any) -> Place:
    return Place(place_no, place_id, name, pool_id, frozenset(coverage), *rest)
