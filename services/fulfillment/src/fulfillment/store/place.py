"""Places, copied from the catalogue, and how each is driven."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from fulfillment.domain import Connector
from fulfillment.tables import place, place_connector

_PUT_PLACES = text("""
    INSERT INTO place (place_id, place_no, name, kind, region_code, version, deleted)
    SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:numbers AS int[]), CAST(:names AS text[]), CAST(:kinds AS text[]),
        CAST(:regions AS text[]), CAST(:versions AS bigint[]), CAST(:deleted AS bool[]))
    ON CONFLICT (place_id) DO UPDATE SET place_no = excluded.place_no, name = excluded.name, kind = excluded.kind,
        region_code = excluded.region_code, version = excluded.version, deleted = excluded.deleted
    WHERE place.version < excluded.version
""")
_FIND_PLACES = text("""
    SELECT n.place_id, p.name, c.connector FROM unnest(CAST(:places AS text[])) AS n (place_id)
    LEFT JOIN place AS p USING (place_id) LEFT JOIN place_connector AS c USING (place_id)
""")
_PUT_CONNECTOR = text("""
    INSERT INTO place_connector (place_id, connector, updated_at) VALUES (:place_id, :connector, :now)
    ON CONFLICT (place_id) DO UPDATE SET connector = excluded.connector, updated_at = excluded.updated_at
""")


@dataclass(frozen=True, slots=True)
class Place:
    name: str
    connector: str


async def put_places(connection: AsyncConnection, places: Sequence[Mapping[str, Any]]) -> None:
    """Keep the highest version of each. **Shapes**: one entry per place_id."""
    rows = sorted(places, key=lambda one: str(one["place_id"]))
    await connection.execute(
        _PUT_PLACES,
        {
            "ids": [one["place_id"] for one in rows],
            "numbers": [one["place_no"] for one in rows],
            "names": [one["name"] for one in rows],
            "kinds": [one["kind"] for one in rows],
            "regions": [one["region_code"] for one in rows],
            "versions": [one["version"] for one in rows],
            "deleted": [one["deleted"] for one in rows],
        },
    )


async def find_place(connection: AsyncConnection, place_id: str) -> Row[Any] | None:
    found: Row[Any] | None = (await connection.execute(places_query().where(place.c.place_id == place_id))).one_or_none()
    return found


async def find_places(connection: AsyncConnection, places: Iterable[str]) -> dict[str, Place]:
    """What is known of each place. An allocation may come before its place: then its id is its name."""
    rows = await connection.execute(_FIND_PLACES, {"places": sorted(set(places))})
    return {row.place_id: Place(row.name or row.place_id, row.connector or Connector.AUTOMATIC) for row in rows}


async def put_connector(connection: AsyncConnection, place_id: str, connector: str, *, now: datetime) -> None:
    await connection.execute(_PUT_CONNECTOR, {"place_id": place_id, "connector": connector, "now": now})


def places_query() -> Select[Any]:
    return select(place, place_connector.c.connector).join_from(
        place, place_connector, place.c.place_id == place_connector.c.place_id, isouter=True
    )
