"""The relay: from the outbox to Kafka, in order, each row until it is acknowledged.

A worker holds a lease per shard, by the database's clock. It sends one wave at a time and deletes what was acknowledged;
after an unknown result it closes that producer hard, makes a new one and starts again at the lowest row. Rows are never
changed, so a resend is byte-equal.

**The floor.** Reading `seq > 0` beside deletes walks over every dead row until vacuum takes them. So the relay keeps, per
shard, a `seq` below which nothing can ever appear. It notes the sequence's `last_value`, and after that draws a transaction id
of its own: whoever has drawn a seq up to the noted one had its id before that (work.py), so that id is smaller. Once the
xmin of a later read has reached our id, all those transactions have ended: what that read did not find up to the noted seq
is gone. A read looks above the floor only, tells its own xmin, and finds the lowest rows that are left: so every wave can
raise the floors, and dead rows are walked over for as long as the longest transaction takes, not for a second.

Two shorter ways lose rows, and a test shows each. Comparing the xids of rows: ids come early, seqs late. Noting the
snapshot's xmax instead of an id of our own: that xmax is the latest *completed* id plus one, and transactions that are
running may well have higher ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from eventing import database
from eventing.batch import Tools
from eventing.broker import Broker, BrokerProducer, Outgoing
from eventing.envelope import SHARDS, headers_of
from eventing.errors import UnknownOutcomeError, describe
from eventing.pausing import Pause, rest
from eventing.settings import RuntimeSettings

log = logging.getLogger(__name__)
MEASURE_SECONDS = 5.0
COUNT_UP_TO = 100_000

_ATTEND = text(
    """
    WITH gone AS (DELETE FROM relay_worker WHERE until < clock_timestamp() - interval '1 minute'),
    here AS (
        INSERT INTO relay_worker (owner, until)
        VALUES (CAST(:owner AS uuid), clock_timestamp() + make_interval(secs => CAST(:seconds AS double precision)))
        ON CONFLICT (owner) DO UPDATE SET until = excluded.until
    )
    SELECT count(*) FROM relay_worker WHERE until > clock_timestamp() AND owner <> CAST(:owner AS uuid)
    """
)
_RENEW = text(
    """
    UPDATE relay_lease l SET
        until = clock_timestamp() + make_interval(secs => CAST(:seconds AS double precision)),
        floor = greatest(l.floor, r.floor)
    FROM unnest(CAST(:shards AS smallint[]), CAST(:floors AS bigint[])) AS r(shard, floor)
    WHERE l.shard = r.shard AND l.owner = CAST(:owner AS uuid) AND l.until > clock_timestamp()
    RETURNING l.shard
    """
)
_TAKE = text(
    """
    UPDATE relay_lease l SET
        owner = CAST(:owner AS uuid), until = clock_timestamp() + make_interval(secs => CAST(:seconds AS double precision))
    FROM (
        SELECT shard FROM relay_lease WHERE until <= clock_timestamp() ORDER BY shard LIMIT :wanted FOR UPDATE SKIP LOCKED
    ) AS free
    WHERE l.shard = free.shard
    RETURNING l.shard, l.floor
    """
)
_GIVE_BACK = text(
    """
    UPDATE relay_lease SET owner = NULL, until = '-infinity'
    WHERE shard = ANY(CAST(:shards AS smallint[])) AND owner = CAST(:owner AS uuid)
    """
)
_LEAVE = text("DELETE FROM relay_worker WHERE owner = CAST(:owner AS uuid)")
# The running sum of bytes keeps a backlog of large rows out of memory: bodies beyond it are not fetched. The xmin is that of
# the very snapshot that finds the rows; it comes in a row of its own where there are none.
_READ = text(
    """
    SELECT here.xmin, wave.* FROM (SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)) AS here(xmin)
    LEFT JOIN (
        SELECT shard, seq, aggregatetype, aggregateid, payload, headers FROM (
            SELECT o.*, sum(octet_length(o.payload)) OVER (ORDER BY o.seq) - octet_length(o.payload) AS bytes_before
            FROM (
                SELECT r.* FROM unnest(CAST(:shards AS smallint[]), CAST(:floors AS bigint[])) AS s(shard, floor)
                CROSS JOIN LATERAL (
                    SELECT shard, seq, aggregatetype, aggregateid, payload, headers FROM outbox
                    WHERE outbox.shard = s.shard AND outbox.seq > s.floor ORDER BY outbox.seq LIMIT :per_shard
                ) AS r
                ORDER BY r.seq LIMIT :records
            ) AS o
        ) AS counted
        WHERE bytes_before < :bytes
    ) AS wave ON true
    ORDER BY wave.seq
    """
)
# Row by row through the index, whatever the planner believes of a table that is empty most of the time: joined the other way
# round, each of a thousand rows would be compared with each.
_DELETE = text(
    """
    DELETE FROM outbox WHERE ctid = ANY(ARRAY(
        SELECT o.ctid FROM unnest(CAST(:shards AS smallint[]), CAST(:seqs AS bigint[])) AS r(shard, seq)
        CROSS JOIN LATERAL (SELECT ctid FROM outbox WHERE outbox.shard = r.shard AND outbox.seq = r.seq OFFSET 0) AS o
    ))
    """
)
# The order is the proof: first the sequence, then the id. CASE needs the one before it may draw the other.
_NOTE = text(
    """
    SELECT seq, CASE WHEN seq >= 0 THEN CAST(CAST(pg_current_xact_id() AS text) AS bigint) END AS own_id
    FROM (SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS seq FROM outbox_seq OFFSET 0) AS noted
    """
)
# A plan that is made while the outbox is empty reads the whole table, and stays when the table has grown.
_BY_INDEX = text("SELECT set_config(name, 'off', false) FROM unnest(ARRAY['enable_seqscan', 'enable_bitmapscan']) AS name")
_BY_CHOICE = text("SELECT set_config(name, 'on', false) FROM unnest(ARRAY['enable_seqscan', 'enable_bitmapscan']) AS name")
_MEASURE = text(
    """
    SELECT count(*) AS depth, coalesce(extract(epoch FROM clock_timestamp() - min(ce_time)), 0) AS oldest
    FROM (
        SELECT o.ce_time FROM unnest(CAST(:shards AS smallint[]), CAST(:floors AS bigint[])) AS s(shard, floor)
        CROSS JOIN LATERAL (SELECT ce_time FROM outbox WHERE outbox.shard = s.shard AND outbox.seq > s.floor) AS o
        LIMIT :most
    ) AS left_over
    """
)


class Backlog:
    """What lies in the outbox above the floors of some shards, lowest first, and the proof that raises the floors."""

    def __init__(self, *, wave_records: int = 1000, wave_bytes: int = 4 * 1024 * 1024, note_seconds: float = 1.0) -> None:
        self.floors: dict[int, int] = {}
        """Shards held, and the floor of each."""
        self._wave_records = wave_records
        self._wave_bytes = wave_bytes
        self._note_seconds = note_seconds
        self._note_at = 0.0
        self._noted: tuple[int, int] | None = None
        """A seq, and an id drawn after it."""
        self._proven = 0
        """Up to here, whatever a later read does not find is gone."""

    async def read(self, connection: AsyncConnection) -> list[Any]:
        """The lowest rows that are left, up to a wave. Needs autocommit: a snapshot per statement."""
        shards = sorted(self.floors)
        values = {
            "shards": shards,
            "floors": [self.floors[shard] for shard in shards],
            "per_shard": max(64, 2 * self._wave_records // max(1, len(shards))),
            "records": self._wave_records,
            "bytes": self._wave_bytes,
        }
        found = (await connection.execute(_READ, values)).all()
        rows = [row for row in found if row.seq is not None]
        if self._noted is not None and found[0].xmin >= self._noted[1]:
            self._proven, self._noted = self._noted[0], None
        self._raise_floors({row.shard: row.seq - 1 for row in reversed(rows)}, others=rows[-1].seq if rows else None)
        await self._note(connection, busy=bool(rows))
        return rows

    async def delete(self, connection: AsyncConnection, rows: Sequence[Any]) -> None:
        """Take away what was acknowledged: the whole of what the last `read` gave."""
        await connection.execute(_DELETE, {"shards": [row.shard for row in rows], "seqs": [row.seq for row in rows]})
        self._raise_floors({row.shard: row.seq for row in rows}, others=rows[-1].seq)

    def _raise_floors(self, bounds: Mapping[int, int], *, others: int | None) -> None:
        """`bounds`: nothing is left of a shard up to it. `others`: of the shards that are not named; None is no bound."""
        for shard, floor in self.floors.items():
            bound = bounds.get(shard, others)
            self.floors[shard] = max(floor, self._proven if bound is None else min(self._proven, bound))

    async def _note(self, connection: AsyncConnection, *, busy: bool) -> None:
        """Note the next point to prove. Each costs a transaction id: at rest one a second."""
        now = time.monotonic()
        if self._noted is None and (busy or now >= self._note_at):
            noted = (await connection.execute(_NOTE)).one()
            self._noted, self._note_at = (noted.seq, noted.own_id), now + self._note_seconds


@contextlib.asynccontextmanager
async def _reading_by_index(connection: AsyncConnection) -> AsyncIterator[None]:
    """The connection goes back to the pool as it came, or not at all."""
    await connection.execute(_BY_INDEX)
    try:
        yield
    except BaseException:
        await connection.invalidate()
        raise
    await connection.execute(_BY_CHOICE)


class Relay:
    """Sends the outbox rows of the shards it holds."""

    def __init__(
        self,
        *,
        broker: Broker,
        tools: Tools,
        settings: RuntimeSettings,
        owner: UUID,
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        self._broker = broker
        self._tools = tools
        self._settings = settings
        self._owner = owner
        self._prepare = prepare
        self._backlog = Backlog(
            wave_records=settings.relay_wave_records,
            wave_bytes=settings.relay_wave_bytes,
            note_seconds=settings.relay_floor_seconds,
        )
        self._lease_ends = 0.0
        self._wake = asyncio.Event()
        self._producer: BrokerProducer | None = None
        self._producer_ends = 0.0

    def wake(self) -> None:
        self._wake.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Relay until told to stop, whatever is away."""
        pause = Pause(self._settings.retry_seconds)
        while not stopping.is_set():
            try:
                await self._prepare()
                await self._session(stopping, pause)
            except Exception as error:  # noqa: BLE001  rows wait in the database; nothing is lost by trying again
                log.warning("relay pauses: %s", describe(error))
                await pause.sleep(stopping)
        await self._leave()

    async def _session(self, stopping: asyncio.Event, pause: Pause) -> None:
        engine = self._tools.engine.execution_options(isolation_level="AUTOCOMMIT")
        renew_at = measure_at = 0.0
        async with engine.connect() as connection, _reading_by_index(connection):
            while not stopping.is_set():
                now = time.monotonic()
                if now >= renew_at:
                    await self._renew(connection)
                    renew_at = now + self._settings.relay_renew_seconds
                if now >= measure_at:
                    await self._measure(connection)
                    measure_at = now + MEASURE_SECONDS
                if not await self._wave(connection, pause, stopping):
                    await rest(self._settings.relay_idle_seconds, until=self._wake)

    async def _wave(self, connection: AsyncConnection, pause: Pause, stopping: asyncio.Event) -> bool:
        """Send what there is, up to a wave; return whether there may be more."""
        settings = self._settings
        left = self._lease_ends - time.monotonic()
        if not self._backlog.floors or left <= settings.relay_guard_seconds:
            return False
        self._wake.clear()
        rows = await self._backlog.read(connection)
        if not rows:
            return False
        left = self._lease_ends - time.monotonic()
        if left <= settings.relay_guard_seconds:
            return False
        started = time.monotonic()
        try:
            producer = await self._need_producer()
            self._tools.crash.reach("before_send")
            await producer.send_wave(
                [Outgoing(row.aggregatetype, row.aggregateid.encode(), row.payload, headers_of(row.headers)) for row in rows],
                # Whatever has not arrived when the lease ends must not arrive later.
                deadline_seconds=min(settings.relay_send_seconds, left),
            )
        except Exception as error:
            await self._drop_producer()
            if not isinstance(error, UnknownOutcomeError):
                raise
            log.warning("relay: %s", error)
            await pause.sleep(stopping)
            return True
        self._tools.crash.reach("after_send")
        await self._backlog.delete(connection, rows)
        self._tools.crash.reach("after_delete")
        pause.reset()
        self._report(rows, time.monotonic() - started)
        return True

    async def _renew(self, connection: AsyncConnection) -> None:
        """Renew the leases, take free shards up to a fair share, give back what is beyond it."""
        settings, owner = self._settings, self._owner
        asked = time.monotonic()  # Before the database counts: our end of the lease is never later than its end.
        seconds = settings.relay_lease_seconds
        others = (await connection.execute(_ATTEND, {"owner": owner, "seconds": seconds})).scalar_one()
        fair = -(-SHARDS // (others + 1))
        held = set(self._backlog.floors)
        if held:
            floors = {"shards": list(self._backlog.floors), "floors": list(self._backlog.floors.values())}
            renewed = await connection.execute(_RENEW, floors | {"owner": owner, "seconds": seconds})
            held = set(renewed.scalars())
        surplus = sorted(held)[fair:]
        if surplus:
            await connection.execute(_GIVE_BACK, {"shards": surplus, "owner": owner})
            held.difference_update(surplus)
        self._backlog.floors = {shard: self._backlog.floors[shard] for shard in held}
        if len(held) < fair:
            taken = await connection.execute(_TAKE, {"owner": owner, "seconds": seconds, "wanted": fair - len(held)})
            self._backlog.floors |= {row.shard: row.floor for row in taken}
        self._lease_ends = asked + seconds

    async def _measure(self, connection: AsyncConnection) -> None:
        if self._backlog.floors:
            values = {"shards": list(self._backlog.floors), "floors": list(self._backlog.floors.values()), "most": COUNT_UP_TO}
            row = (await connection.execute(_MEASURE, values)).one()
            self._tools.observer.outbox(row.depth, float(row.oldest))

    def _report(self, rows: Sequence[Any], seconds: float) -> None:
        totals: dict[str, int] = {}
        for row in rows:
            totals[row.aggregatetype] = totals.get(row.aggregatetype, 0) + 1
        for topic, records in totals.items():
            self._tools.observer.relayed(topic, records, seconds)

    async def _need_producer(self) -> BrokerProducer:
        if self._producer is not None and time.monotonic() >= self._producer_ends:
            producer, self._producer = self._producer, None
            await producer.stop()
        if self._producer is None:
            producer = self._broker.producer(settings=self._settings)
            await producer.start()
            self._producer = producer
            self._producer_ends = time.monotonic() + self._settings.producer_life_seconds
        return self._producer

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.abandon()

    async def _leave(self) -> None:
        """Let others go on at once."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.stop()
        try:
            async with database.begin(self._tools.engine) as connection:
                await connection.execute(_GIVE_BACK, {"shards": list(self._backlog.floors), "owner": self._owner})
                await connection.execute(_LEAVE, {"owner": self._owner})
        except Exception as error:  # noqa: BLE001  the leases end by themselves
            log.warning("relay: leases not given back: %s", describe(error))
        self._backlog.floors = {}
