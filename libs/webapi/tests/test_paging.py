"""Pages that neither skip nor repeat, and cursors that only work where they were given."""

import base64
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import BigInteger, Column, Date, DateTime, MetaData, Table, Text, Uuid, insert, select
from sqlalchemy.ext.asyncio import create_async_engine

from webapi.paging import Cursor, Keyset, PageRequest
from webapi.problems import Problem

metadata = MetaData()
thing = Table(
    "thing",
    metadata,
    Column("made_at", DateTime(timezone=True)),
    Column("region", Text),
    Column("thing_id", BigInteger, primary_key=True),
)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.postgres
@pytest.mark.parametrize("descending", [False, True])
async def test_pages_show_every_row_once_also_where_sort_values_are_equal(empty_database: Any, descending: bool) -> None:
    """Fails when rows with equal sort values are skipped or repeated at the edge of a page."""
    engine = create_async_engine((await empty_database()).sqlalchemy)
    keyset = Keyset(
        "things", (thing.c.made_at, datetime), (thing.c.region, str), (thing.c.thing_id, int), descending=descending
    )
    rows = [
        {"thing_id": number, "made_at": NOON + timedelta(microseconds=number // 7), "region": "华东" if number % 3 else "a"}
        for number in range(50)
    ]
    seen: list[int] = []
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        await connection.execute(insert(thing), rows)
        paging = PageRequest(limit=4, next=None)
        for _ in range(20):
            after = keyset.decode(paging.next)
            found = await connection.execute(
                select(thing).where(keyset.after(after)).order_by(*keyset.order_by).limit(paging.limit + 1)
            )
            page = keyset.page(
                found.all(), paging, key=lambda row: (row.made_at, row.region, row.thing_id), item=lambda row: row.thing_id
            )
            seen += page.items
            if page.next is None:
                break
            paging = PageRequest(limit=4, next=page.next)
    await engine.dispose()
    order = sorted(rows, key=lambda row: (row["made_at"], row["region"], row["thing_id"]), reverse=descending)  # type: ignore[arg-type,return-value]
    # Chinese sorts behind ASCII by code point, in Python as in the C collation.
    assert seen == [row["thing_id"] for row in order]


def test_a_cursor_gives_back_what_it_was_made_of() -> None:
    """Fails when a type does not survive the trip."""
    key = (NOON, date(2026, 1, 31), UUID(int=7), "华东 ✓", 2**60, True)
    cursor = Cursor("x", datetime, date, UUID, str, int, bool)
    assert cursor.decode(cursor.encode(key)) == key
    assert cursor.decode(None) is None


def test_a_cut_foreign_or_forged_cursor_is_refused() -> None:
    """Fails when a bad cursor becomes a 500, or silently pages through another order."""
    cursor, other = Cursor("orders desc", datetime, int), Cursor("orders asc", datetime, int)
    good = cursor.encode((NOON, 1))
    forged = base64.urlsafe_b64encode(b"123456" + b'["x",1]').decode()
    for bad in (
        good[:-2],
        good + "A",
        "",
        "…",
        "%%%",
        forged,
        other.encode((NOON, 1)),
        Cursor("orders desc", str).encode(("x",)),
    ):
        with pytest.raises(Problem) as caught:
            cursor.decode(bad)
        assert (caught.value.code, caught.value.status) == ("bad_cursor", 422)


def test_unused_columns_are_not_needed() -> None:
    """Fails when a table's other kinds of columns cannot be sorted by."""
    table = Table("t", MetaData(), Column("due_on", Date), Column("id", Uuid))
    keyset = Keyset("t", (table.c.due_on, date), (table.c.id, UUID))
    assert "due_on" in str(keyset.after((date(2026, 1, 1), UUID(int=1))))
