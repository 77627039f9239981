"""Back to a known beginning in a blink: what six databases held then, kept beside, instead of databases made anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from eventing.broker import Record, TopicPartition
from eventing.testing import SeededIds

from .world import World

_TABLES = """
    SELECT c.relname, array_agg(quote_ident(a.attname) ORDER BY a.attnum) FILTER (WHERE a.attgenerated = '')
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    GROUP BY c.relname ORDER BY c.relname
"""
_SEQUENCES = "SELECT sequencename, coalesce(last_value, 0) FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1"


@dataclass(slots=True)
class _Database:
    """One database as an administrator sees it."""

    connection: asyncpg.Connection
    tables: dict[str, str] = field(default_factory=dict)
    """The columns that can be written, by table."""
    kept: list[str] = field(default_factory=list)
    sequences: dict[str, int] = field(default_factory=dict)

    async def take(self) -> None:
        rows = await self.connection.fetch(_TABLES)
        self.tables = {name: ", ".join(columns) for name, columns in rows if name != "alembic_version"}
        self.kept = await self._filled()
        await self.connection.execute("CREATE SCHEMA beginning")
        for table in self.kept:
            await self.connection.execute(f'CREATE TABLE beginning."{table}" AS TABLE public."{table}"')
        self.sequences = dict(map(tuple, await self.connection.fetch(_SEQUENCES)))
        # No triggers from here on: neither foreign keys nor what keeps books from being changed.
        await self.connection.execute("SET session_replication_role = replica")

    async def restore(self) -> None:
        async with self.connection.transaction():
            if filled := await self._filled():
                names = ", ".join(f'public."{table}"' for table in filled)
                await self.connection.execute(f"TRUNCATE {names} CASCADE")
            for table in self.kept:
                columns = self.tables[table]
                await self.connection.execute(
                    f'INSERT INTO public."{table}" ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM beginning."{table}"'  # noqa: S608, E501
                )
            for sequence, last in self.sequences.items():
                await self.connection.execute(f"SELECT setval('\"{sequence}\"', {max(last, 1)}, {bool(last)})")

    async def _filled(self) -> list[str]:
        ask = " UNION ALL ".join(
            f"SELECT '{table}' WHERE EXISTS (SELECT FROM public.\"{table}\")"  # noqa: S608
            for table in self.tables
        )
        return [name for (name,) in await self.connection.fetch(ask)]


@dataclass(slots=True)
class Baseline:
    """A world's beginning; restoring it again and again gives equal worlds for equal seeds."""

    world: World
    _databases: Mapping[str, _Database]
    _now: datetime
    _logs: Mapping[TopicPartition, list[Record]]
    _positions: Mapping[str, dict[tuple[str, TopicPartition], int]]

    async def restore(self, *, seed: int = 0) -> None:
        """`seed`: of the ids that are given from here on."""
        await asyncio.gather(*(database.restore() for database in self._databases.values()))
        world = self.world
        world.clock.set(self._now)
        world.refused.clear()
        world.garbled.clear()
        world.bus._logs = {where: list(log) for where, log in self._logs.items()}
        for number, (name, node) in enumerate(world.services.items(), 1):
            node.positions = dict(self._positions[name])
            node.ids = SeededIds(1000 + 10 * seed + number)
            node.boot()
            node.forget_look()


@asynccontextmanager
async def taken(world: World, admin_url: str) -> AsyncIterator[Baseline]:
    """Keep what the world is now, settled as it is. `admin_url`: of the server that holds its databases."""
    databases: dict[str, _Database] = {}
    try:
        for name, url in world.urls.items():
            address = urlunsplit(urlsplit(admin_url)._replace(path=urlsplit(url).path))
            databases[name] = _Database(await asyncpg.connect(address))
            await databases[name].take()
        yield Baseline(
            world,
            databases,
            world.clock.now(),
            {where: list(log) for where, log in world.bus._logs.items()},
            {name: dict(node.positions) for name, node in world.services.items()},
        )
    finally:
        for database in databases.values():
            await database.connection.close()
