"""The inbox's partitions, one per UTC day: made ahead, dropped when no topic can still hold what they guard against.

A record older than the oldest partition is refused as invalid: it could not be told from a duplicate.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from eventing.database import begin

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('eventing inbox partitions'))"
_DROP_LOCK = "hashtext('eventing inbox drop')"
_PENDING = text(
    """
    SELECT child.relname
    FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
    WHERE inhparent = 'inbox'::regclass AND inhdetachpending
    """
)
_DAYS = text(
    """
    SELECT child.relname
    FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
    WHERE inhparent = 'inbox'::regclass AND NOT inhdetachpending
    """
)


@dataclass(frozen=True, slots=True)
class InboxDays:
    """The days that have a partition; without gaps."""

    oldest: date
    newest: date


async def ensure(engine: AsyncEngine, now: datetime, *, keep_days: int, ahead_days: int) -> InboxDays:
    """Make the partitions that are missing up to `ahead_days` from now, and at first those behind, and say what is there."""
    today = now.astimezone(UTC).date()
    async with begin(engine) as connection:
        days = await _days(connection)
        last = today + timedelta(days=ahead_days)
        # Never behind what was there before: it may have been dropped, and with it what it knew.
        first = max(days) + timedelta(days=1) if days else today - timedelta(days=keep_days)
        if first <= last:
            await connection.exec_driver_sql(_LOCK)
            days = await _days(connection)  # Another worker may have made them while we waited.
            for number in range((last - first).days + 1):
                day = first + timedelta(days=number)
                if day not in days:
                    await _create(connection, day)
                    days.add(day)
    return InboxDays(min(days), max(days))


async def ensure_around(engine: AsyncEngine, first: date, last: date) -> InboxDays:
    """Make every partition from `first` to `last`, wherever they are: for clocks that do not follow the calendar."""
    async with begin(engine) as connection:
        await connection.exec_driver_sql(_LOCK)
        days = await _days(connection)
        for number in range((last - first).days + 1):
            day = first + timedelta(days=number)
            if day not in days:
                await _create(connection, day)
    return InboxDays(first, last)


async def drop_expired(engine: AsyncEngine, now: datetime, *, keep_days: int) -> list[date]:
    """Detach and drop the partitions older than `keep_days`, without stopping those who write to the others."""
    horizon = now.astimezone(UTC).date() - timedelta(days=keep_days)
    async with engine.connect() as connection:
        # Concurrently: a plain detach would wait for, and meanwhile block, every batch. Not possible inside a transaction.
        bare = await connection.execution_options(isolation_level="AUTOCOMMIT")
        if not (await bare.exec_driver_sql(f"SELECT pg_try_advisory_lock({_DROP_LOCK})")).scalar_one():
            return []  # Another worker is at it.
        try:
            for name in (await bare.execute(_PENDING)).scalars().all():  # Cut short before.
                await bare.exec_driver_sql(f"ALTER TABLE inbox DETACH PARTITION {name} FINALIZE")
                await bare.exec_driver_sql(f"DROP TABLE {name}")
            expired = sorted(day for day in await _days(bare) if day < horizon)
            for day in expired:
                await bare.exec_driver_sql(f"ALTER TABLE inbox DETACH PARTITION {_name(day)} CONCURRENTLY")
                await bare.exec_driver_sql(f"DROP TABLE {_name(day)}")
        finally:
            await bare.exec_driver_sql(f"SELECT pg_advisory_unlock({_DROP_LOCK})")
    return expired


async def _days(connection: AsyncConnection) -> set[date]:
    rows = await connection.execute(_DAYS)
    return {datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC).date() for name in rows.scalars()}


async def _create(connection: AsyncConnection, day: date) -> None:
    # Attaching takes a far weaker lock on the parent than CREATE TABLE … PARTITION OF: batches go on.
    name = _name(day)
    await connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE inbox INCLUDING DEFAULTS)")
    bounds = f"FROM ('{day}') TO ('{day + timedelta(days=1)}')"
    await connection.exec_driver_sql(f"ALTER TABLE inbox ATTACH PARTITION {name} FOR VALUES {bounds}")


def _name(day: date) -> str:
    return f"inbox_{day:%Y%m%d}"
