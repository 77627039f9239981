"""What a restore lost for good: rows that the lost database had and the restored one has not, by table and by kind of act."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import asyncpg

# The runtime's own bookkeeping turns over; a row of it is no business fact.
RUNTIME_TABLES = {
    "alembic_version", "inbox", "outbox", "relay_lease", "relay_worker", "task", "waiting", "parked_key", "parked_record",
    "quarantine", "compacted_position", "breaker", "suspect", "idempotency_key",
}  # fmt: skip
ACTS = "manual_act"

_TABLES = """
    SELECT c.relname AS name, array_agg(a.attname::text ORDER BY k.ordinality) AS key
    FROM pg_class AS c
    JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
    CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (number, ordinality)
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.number
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    GROUP BY c.relname ORDER BY c.relname
"""


async def keys_of(url: str) -> dict[str, set[tuple[str, ...]]]:
    """Primary keys by table, as text."""
    connection = await asyncpg.connect(url)
    try:
        found = {}
        for table in await connection.fetch(_TABLES):
            if table["name"] in RUNTIME_TABLES:
                continue
            columns = ", ".join(f'"{column}"::text' for column in table["key"])
            rows = await connection.fetch(f'SELECT {columns} FROM "{table["name"]}"')  # noqa: S608  names of the catalogue
            found[table["name"]] = {tuple(row) for row in rows}
        return found
    finally:
        await connection.close()


async def acts_since(url: str, since: object) -> dict[str, int]:
    """Acts of people and callers by kind, made after a moment."""
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval(f"SELECT to_regclass('{ACTS}')") is None:
            return {}
        rows = await connection.fetch(f"SELECT act, count(*) FROM {ACTS} WHERE at > $1 GROUP BY act ORDER BY act", since)  # noqa: S608
        return dict(rows)
    finally:
        await connection.close()


async def acts_lost(lost_url: str, url: str) -> dict[str, int]:
    """Acts by kind that the log of the lost database had and the restored one's has not."""
    kinds: dict[str, dict[object, str]] = {}
    for where in (lost_url, url):
        connection = await asyncpg.connect(where)
        try:
            if await connection.fetchval(f"SELECT to_regclass('{ACTS}')") is None:
                return {}
            rows = await connection.fetch(f"SELECT id, act FROM {ACTS}")  # noqa: S608
            kinds[where] = {row["id"]: row["act"] for row in rows}
        finally:
            await connection.close()
    return dict(Counter(act for id_, act in kinds[lost_url].items() if id_ not in kinds[url]))


def lost(before: Mapping[str, set[tuple[str, ...]]], after: Mapping[str, set[tuple[str, ...]]]) -> dict[str, int]:
    """Rows by table that did not come back."""
    counts = {table: len(keys - after.get(table, set())) for table, keys in before.items()}
    return {table: count for table, count in sorted(counts.items()) if count}
