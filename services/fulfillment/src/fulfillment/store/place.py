"""Places, copied from the catalogue, and how each is driven."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
    INSERT INTO place_connector (place_id, connector, base_url, secret_name, timeout_seconds, updated_at)
    VALUES (:place_id, :connector, :base_url, :secret_name, :timeout_seconds, :now)
    ON CONFLICT (place_id) DO UPDATE SET connector = excluded.connector, base_url = excluded.base_url,
        secret_name = excluded.secret_name, timeout_seconds = excluded.timeout_seconds, updated_at = excluded.updated_at
""")


@dataclass(frozen=True, slots=True)
class Place:
    name: str
    connector: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How a WMS is reached. The secret itself is in the settings, under this name."""

    base_url: str
    secret_name: str
    timeout_seconds: int


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


async def put_connector(
    connection: AsyncConnection, place_id: str, connector: str, *, endpoint: Endpoint | None, now: datetime
) -> None:
    values = asdict(endpoint) if endpoint else {"base_url": None, "secret_name": None, "timeout_seconds": None}
    await connection.execute(_PUT_CONNECTOR, {"place_id": place_id, "connector": connector, "now": now, **values})


async def find_endpoint(connection: AsyncConnection, place_id: str) -> Endpoint | None:
    """Where the place's WMS answers; None where it has none."""
    row = (await connection.execute(select(place_connector).where(place_connector.c.place_id == place_id))).one_or_none()
    if row is None or row.base_url is None:
        return None
    return Endpoint(base_url=row.base_url, secret_name=row.secret_name, timeout_seconds=row.timeout_seconds)


def places_query() -> Select[Any]:
    columns = place_connector.c
    return select(place, columns.connector, columns.base_url, columns.secret_name, columns.timeout_seconds).join_from(
        place, place_connector, place.c.place_id == place_connector.c.place_id, isouter=True
    )
