"""Blocks of waybill numbers. Their rows are the last ones that a transaction locks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from fulfillment.domain import Series, SeriesRange
from fulfillment.tables import waybill_series

_SERIES_COLUMNS = "series_id, place_id, carrier, prefix, digits, next_no, until_no"
_LOCK_SERIES = text(f"""
    SELECT {_SERIES_COLUMNS} FROM waybill_series
    WHERE carrier = ANY(CAST(:carriers AS text[]))
        AND (place_id IS NULL OR place_id = ANY(CAST(:places AS text[])))
        AND next_no <= until_no
    ORDER BY series_id FOR UPDATE
""")  # noqa: S608  only the constant above is put in
_CARRIERS_WITH_SERIES = text("SELECT DISTINCT carrier FROM waybill_series WHERE carrier = ANY(CAST(:carriers AS text[]))")
_ADD_SERIES = text("""
    INSERT INTO waybill_series (place_id, carrier, prefix, digits, first_no, next_no, until_no, updated_at)
    VALUES (:place_id, :carrier, :prefix, :digits, :first_no, :first_no, :until_no, :now)
    ON CONFLICT ON CONSTRAINT waybill_series_block DO NOTHING
""")
_SAVE_SERIES = text("""
    UPDATE waybill_series AS s SET next_no = n.next_no, updated_at = :now
    FROM unnest(CAST(:ids AS bigint[]), CAST(:numbers AS bigint[])) AS n (series_id, next_no)
    WHERE s.series_id = n.series_id
""")
_CHANGE_SERIES = text(
    "UPDATE waybill_series SET place_id = :place_id, until_no = :until_no, updated_at = :now WHERE series_id = :series_id"
)
_IS_IN_SERIES = text("""
    SELECT EXISTS (
        SELECT FROM unnest(CAST(:carriers AS text[]), CAST(:numbers AS text[])) AS n (carrier, number)
        JOIN waybill_series AS s ON s.carrier = n.carrier AND starts_with(n.number, s.prefix)
            AND length(n.number) = length(s.prefix) + s.digits
        WHERE substr(n.number, length(s.prefix) + 1) ~ '^[0-9]+$'
            AND substr(n.number, length(s.prefix) + 1) BETWEEN lpad(s.first_no::text, s.digits, '0')
                AND lpad(s.until_no::text, s.digits, '0')
    )
""")
_HIGHEST_ON_PARCEL = text("""
    SELECT max(waybill_no) FROM shipment
    WHERE carrier = :carrier AND waybill_no BETWEEN :first AND :last
        AND substr(waybill_no, length(CAST(:prefix AS text)) + 1) ~ :digits
""")
_LOCK_CARRIER = text("SELECT pg_advisory_xact_lock(hashtextextended('waybill_series:' || :carrier, 0))")


async def lock_series(connection: AsyncConnection, *, places: Iterable[str], carriers: Iterable[str]) -> list[Series]:
    """Lock what these places may take numbers from, used-up series left out. The last lock of a transaction."""
    rows = await connection.execute(_LOCK_SERIES, {"places": sorted(set(places)), "carriers": sorted(set(carriers))})
    return [Series(**row._asdict()) for row in rows]


async def carriers_with_series(connection: AsyncConnection, carriers: Iterable[str]) -> set[str]:
    """The carriers that have any series, used up or not."""
    return set(await connection.scalars(_CARRIERS_WITH_SERIES, {"carriers": sorted(set(carriers))}))


async def add_series(
    connection: AsyncConnection, *, carrier: str, numbers: SeriesRange, place_id: str | None, now: datetime
) -> None:
    """Add a block; nothing where the same block is there."""
    await connection.execute(_ADD_SERIES, {**asdict(numbers), "carrier": carrier, "place_id": place_id, "now": now})


async def save_series(connection: AsyncConnection, next_numbers: Mapping[int, int], *, now: datetime) -> None:
    """**Shapes**: the next free number by series_id."""
    if next_numbers:
        ids = sorted(next_numbers)
        await connection.execute(
            _SAVE_SERIES, {"ids": ids, "numbers": [next_numbers[series_id] for series_id in ids], "now": now}
        )


async def is_in_series(connection: AsyncConnection, waybills: Iterable[tuple[str, str]]) -> bool:
    """Whether a block gives, or gave, one of these. **Shapes**: (carrier, number)."""
    pairs = list(waybills)
    values = {"carriers": [carrier for carrier, _ in pairs], "numbers": [number for _, number in pairs]}
    return bool(await connection.scalar(_IS_IN_SERIES, values))


async def highest_given_elsewhere(connection: AsyncConnection, carrier: str, numbers: SeriesRange) -> int | None:
    """The highest number of a block that is on a parcel already, because its place gave it."""
    found = await connection.scalar(
        _HIGHEST_ON_PARCEL,
        {
            "carrier": carrier,
            "first": f"{numbers.prefix}{numbers.first_no:0{numbers.digits}d}",
            "last": f"{numbers.prefix}{max(numbers.until_no, 0):0{numbers.digits}d}",
            "digits": f"^[0-9]{{{numbers.digits}}}$",
            "prefix": numbers.prefix,
        },
    )
    return None if found is None else int(found[len(numbers.prefix) :])


async def lock_carrier_series(connection: AsyncConnection, carrier: str) -> Sequence[Row[Any]]:
    """All series of a carrier, for comparing a new block with them: nobody else may add one meanwhile."""
    await connection.execute(_LOCK_CARRIER, {"carrier": carrier})
    statement = select(waybill_series).where(waybill_series.c.carrier == carrier).order_by("series_id").with_for_update()
    return (await connection.execute(statement)).all()


async def get_series(connection: AsyncConnection, carrier: str, numbers: SeriesRange) -> Row[Any]:
    """The block with these first numbers."""
    columns = waybill_series.c
    statement = select(waybill_series).where(
        columns.carrier == carrier,
        columns.prefix == numbers.prefix,
        columns.digits == numbers.digits,
        columns.first_no == numbers.first_no,
    )
    return (await connection.execute(statement)).one()


async def change_series(
    connection: AsyncConnection, series_id: int, *, place_id: str | None, until_no: int, now: datetime
) -> None:
    await connection.execute(_CHANGE_SERIES, {"series_id": series_id, "place_id": place_id, "until_no": until_no, "now": now})


def series_query(*, carrier: str | None = None, place_id: str | None = None) -> Select[Any]:
    statement = select(waybill_series)
    if carrier is not None:
        statement = statement.where(waybill_series.c.carrier == carrier)
    if place_id is not None:
        statement = statement.where(waybill_series.c.place_id == place_id)
    return statement
