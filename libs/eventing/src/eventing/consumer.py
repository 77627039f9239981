"""The consumer loop: poll, process, commit offsets. It pauses when something is away and gives up only its partitions.

Two things may happen to a batch in flight: a rebalance, which waits for it within a deadline, and a stop, which does the same.
Whatever is not finished then is rolled back and read again by whoever gets the partition.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from eventing import database, parking
from eventing.batch import POISON, Processor, Tools
from eventing.breaker import Breaker
from eventing.broker import Broker, BrokerConsumer, Record, TopicPartition
from eventing.draining import Drainer
from eventing.envelope import key_of
from eventing.errors import CANCELLED, BreakerOpenError, UnavailableError, describe, is_unavailable, sqlstate_of
from eventing.pausing import Pause, rest
from eventing.reading import Fault
from eventing.replay import Replay
from eventing.settings import RuntimeSettings

log = logging.getLogger(__name__)
POLL_SECONDS = 0.2
LAG_SECONDS = 10.0
WALLS = 3
"""As often a batch may run into a time-out, or a worker die of it, before it is looked at key by key."""

_SUSPECT = text(
    """
    INSERT INTO suspect AS s (consumer, topic, partition, record_offset, deaths)
    SELECT CAST(:consumer AS text), topic, partition, record_offset, 0
    FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS integer[]), CAST(:offsets AS bigint[]))
        AS r(topic, partition, record_offset)
    ORDER BY topic, partition
    ON CONFLICT (consumer, topic, partition) DO UPDATE SET
        deaths = CASE WHEN s.record_offset = excluded.record_offset THEN s.deaths + 1 ELSE 0 END,
        key = CASE WHEN s.record_offset = excluded.record_offset THEN s.key END,
        record_offset = excluded.record_offset
    RETURNING deaths, key
    """
)
_MARK_SUSPECT = text(
    """
    UPDATE suspect SET key = CAST(:key AS text)
    WHERE consumer = CAST(:consumer AS text) AND (topic, partition) IN (
        SELECT topic, partition FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS integer[])) AS r(topic, partition)
    )
    """
)
_CLEAR_SUSPECT = text(
    """
    DELETE FROM suspect WHERE consumer = CAST(:consumer AS text) AND (topic, partition) IN (
        SELECT topic, partition FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS integer[])) AS r(topic, partition)
    )
    """
)


@dataclass(frozen=True, slots=True)
class _Suspicion:
    """What is known of the workers that began here before."""

    places: dict[str, Any]
    deaths: int
    culprits: set[str]
    """Keys that a worker was at, alone, when it died."""


class ConsumerLoop:
    """Runs one consumer group's member."""

    def __init__(
        self,
        processor: Processor,
        breaker: Breaker,
        *,
        broker: Broker,
        tools: Tools,
        settings: RuntimeSettings,
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        self.name = processor.consumer.name
        self.paused_because = ""
        self._processor = processor
        self._drainer = Drainer(processor)
        self._breaker = breaker
        self._broker = broker
        self._tools = tools
        self._settings = settings
        self._prepare = prepare
        self._consumer: BrokerConsumer | None = None
        self._generation = 0
        self._in_flight: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._settled.set()
        self._fresh: set[TopicPartition] = set()
        self._suspicion: _Suspicion | None = None
        self._next: dict[TopicPartition, int] = {}
        self._owed: dict[TopicPartition, int] = {}
        self._replay = Replay(settings.replay_until) if settings.replay_until is not None else None
        self._wishes = True
        self._housekeeping_due = 0.0
        self._lag_due = 0.0

    def look_for_wishes(self) -> None:
        """Somebody in this process made one."""
        self._wishes = True

    async def run(self, stopping: asyncio.Event) -> None:
        """Consume until told to stop, whatever is away."""
        pause = Pause(self._settings.retry_seconds)
        while not stopping.is_set():
            try:
                await self._prepare()
                await self._breaker.start()
                await self._member(stopping)
                pause.reset()
            except Exception as error:  # noqa: BLE001  a loop that ends is a partition that stands still
                self._note_pause(error)
                await pause.sleep(stopping)

    async def _member(self, stopping: asyncio.Event) -> None:
        self._consumer = self._broker.consumer(
            group=f"{self._tools.service}.{self.name}",
            topics=self._processor.consumer.topics,
            settings=self._settings,
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
        )
        consumer = self._consumer
        await consumer.start()
        rested = False
        try:
            while not stopping.is_set():
                await self._keep_house(consumer)
                records, rested = await self._poll(consumer, rested=rested), False
                if records:
                    began = time.monotonic()
                    await self._handle(consumer, records, stopping)
                    left = began + self._gap_after(len(records)) - time.monotonic()
                    rested = left > self._settings.fetch_wait_seconds
                    await rest(left, until=stopping)
                self.paused_because = "" if not self._breaker.is_open else self.paused_because
        finally:
            await self._acquit_if_possible()
            await consumer.stop()
            self._consumer = None

    def _gap_after(self, records: int) -> float:
        """Seconds from the start of a batch of so many records to that of the next."""
        settings = self._settings
        if records >= settings.batch_records:
            return 0.0
        return settings.batch_gap_seconds * min(1.0, records / settings.batch_gap_records)

    async def _poll(self, consumer: BrokerConsumer, *, rested: bool) -> Sequence[Record]:
        most = self._settings.batch_records
        if self._replay is not None:
            return await self._replay.poll(consumer, max_records=most, wait_seconds=POLL_SECONDS)
        records = await consumer.poll(max_records=most, wait_seconds=POLL_SECONDS)
        if not rested or not 0 < len(records) < most:
            return records
        # These were fetched before the rest, and nothing since: what has come meanwhile belongs to the same batch.
        generation = self._generation
        since = await consumer.poll(max_records=most - len(records), wait_seconds=self._settings.fetch_wait_seconds)
        # After a rebalance in between, the first ones are somebody else's, or they come again.
        return [*records, *since] if generation == self._generation else since

    async def _handle(self, consumer: BrokerConsumer, records: Sequence[Record], stopping: asyncio.Event) -> None:
        """See one batch through; give it up only when its partitions or the process go."""
        generation, walls = self._generation, 0
        pause = Pause(self._settings.retry_seconds)
        paused = False
        try:
            while generation == self._generation:
                error = await self._try(consumer, records, suspicious=walls >= WALLS)
                if error is None:
                    return
                if sqlstate_of(error) in CANCELLED:
                    walls += 1
                self._note_pause(error)
                if stopping.is_set():
                    return  # The records stay uncommitted: whoever comes next reads them again.
                if not paused:
                    consumer.pause()
                    paused = True
                await self._wait_polling(consumer, pause.next(), stopping)
        finally:
            if paused and generation == self._generation and not stopping.is_set():
                consumer.resume()

    async def _try(self, consumer: BrokerConsumer, records: Sequence[Record], *, suspicious: bool) -> Exception | None:
        """Process and commit offsets once; return what stood in the way, if it may pass."""
        if not self._breaker.lets_through():
            return BreakerOpenError(self._breaker.reason)
        self._settled.clear()
        try:
            self._in_flight = asyncio.create_task(self._process(records, suspicious=suspicious))
            await self._in_flight
            await self._commit_offsets(consumer, records)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            return UnavailableError("not finished in time for a rebalance")
        except Exception as error:  # noqa: BLE001  the caller judges it
            if not isinstance(error, BreakerOpenError) and not is_unavailable(error):
                # Where it happened, not what was in it: messages of errors may quote personal data.
                where = "".join(traceback.format_tb(error.__traceback__))
                log.error("consumer %s: a batch failed in the runtime itself: %s\n%s", self.name, describe(error), where)  # noqa: TRY400
            return error
        finally:
            self._in_flight = None
            self._settled.set()
        return None

    async def _process(self, records: Sequence[Record], *, suspicious: bool) -> None:
        fresh = self._fresh.intersection(TopicPartition(record.topic, record.partition) for record in records)
        try:
            if fresh:
                await self._process_fresh(fresh, records, suspicious=suspicious)
            else:
                await self._processor.process(records, suspicious=suspicious)
        finally:
            await self._breaker.after_batch()

    async def _process_fresh(self, fresh: set[TopicPartition], records: Sequence[Record], *, suspicious: bool) -> None:
        """Process the first batch of newly assigned partitions: the worker that had them may have died of it."""
        if self._suspicion is None:
            self._suspicion = await self._suspect(fresh, records)
        suspicion = self._suspicion
        if suspicion.deaths < WALLS:
            await self._processor.process(records, suspicious=suspicious)
        else:
            log.warning("consumer %s: workers died %d times at this batch, now key by key", self.name, suspicion.deaths)
            for key, some in _by_key(records).items():
                if key in suspicion.culprits:
                    await self._processor.park_unseen(some, key, Fault(POISON, "workers died while handling it"))
                    continue
                async with database.begin(self._tools.engine) as connection:
                    await connection.execute(_MARK_SUSPECT, suspicion.places | {"key": key})
                await self._processor.process(some, suspicious=suspicious)
        await self._acquit()
        self._fresh -= fresh

    async def _suspect(self, fresh: set[TopicPartition], records: Sequence[Record]) -> _Suspicion:
        """Note where this worker begins, once per assignment: a retry is no death."""
        firsts = {where: at for where, at in _first_offsets(records).items() if where in fresh}
        where = sorted(firsts)
        places = {
            "consumer": self.name,
            "topics": [one.topic for one in where],
            "partitions": [one.partition for one in where],
        }
        async with database.begin(self._tools.engine) as connection:
            rows = (await connection.execute(_SUSPECT, places | {"offsets": [firsts[one] for one in where]})).all()
        return _Suspicion(places, max(row.deaths for row in rows), {row.key for row in rows if row.key is not None})

    async def _acquit(self) -> None:
        """This worker is alive: whatever it was at, it did not die of it."""
        suspicion, self._suspicion = self._suspicion, None
        if suspicion is not None:
            async with database.begin(self._tools.engine) as connection:
                await connection.execute(_CLEAR_SUSPECT, suspicion.places)

    async def _acquit_if_possible(self) -> None:
        try:
            await self._acquit()
        except Exception as error:
            if not is_unavailable(error):
                raise

    async def _commit_offsets(self, consumer: BrokerConsumer, records: Sequence[Record]) -> None:
        offsets: dict[TopicPartition, int] = {}
        for record in records:
            offsets[TopicPartition(record.topic, record.partition)] = record.offset + 1
        self._next.update(offsets)
        self._owed.update(offsets)
        self._tools.crash.reach("before_offset_commit")
        await self._commit_owed(consumer)
        self._tools.crash.reach("after_offset_commit")

    async def _commit_owed(self, consumer: BrokerConsumer) -> None:
        """Commit what is handled. What fails stays owed: without another record on its partition nobody else would."""
        if not self._owed:
            return
        try:
            await consumer.commit(dict(self._owed))
        except UnavailableError as error:
            # The effects are there. Whoever reads these records again finds their inbox rows taken.
            log.warning("consumer %s: %s", self.name, error)
        else:
            self._owed.clear()

    async def _wait_polling(self, consumer: BrokerConsumer, seconds: float, stopping: asyncio.Event) -> None:
        """Stay a member of the group while nothing can be done."""
        ends = time.monotonic() + seconds
        while not stopping.is_set() and (left := ends - time.monotonic()) > 0:
            try:
                stray = await consumer.poll(max_records=1, wait_seconds=min(left, POLL_SECONDS))
            except UnavailableError:
                await asyncio.sleep(min(left, POLL_SECONDS))
                continue
            if stray:  # Delivered although paused, after a rebalance: read again later.
                consumer.rewind(_first_offsets(stray))
                consumer.pause()
            if self._breaker.is_open and time.monotonic() >= self._housekeeping_due:
                self._housekeeping_due = time.monotonic() + self._settings.drain_poll_seconds
                await self._refresh_breaker()

    async def _refresh_breaker(self) -> None:
        try:
            await self._breaker.refresh()
        except Exception as error:
            if not is_unavailable(error):
                raise

    async def _keep_house(self, consumer: BrokerConsumer) -> None:
        """Between batches: carry out wishes, learn of breakers, report the lag."""
        now = time.monotonic()
        if now >= self._housekeeping_due:
            self._housekeeping_due = now + self._settings.drain_poll_seconds
            await self._commit_owed(consumer)
            await self._refresh_breaker()
            self._wishes = self._wishes or await self._any_wishes()
        if self._wishes and not self._breaker.is_open:
            self._wishes = False
            await self._drain()
        if now >= self._lag_due:
            self._lag_due = now + LAG_SECONDS
            await self._report_lag(consumer)

    async def _any_wishes(self) -> bool:
        try:
            async with database.begin(self._tools.engine) as connection:
                return await parking.any_wishes(connection, self.name)
        except Exception as error:
            if not is_unavailable(error):
                raise
            return False

    async def _drain(self) -> None:
        self._settled.clear()
        try:
            outcome = await self._drainer.drain()
        except Exception as error:  # noqa: BLE001  what cannot be drained (sealed under a lost key, say) must not stop the rest
            self._wishes = is_unavailable(error)
            log.warning("consumer %s: draining failed: %s", self.name, describe(error))
        else:
            self._wishes = self._wishes or bool(outcome.handled or outcome.discarded)
        finally:
            self._settled.set()

    async def _report_lag(self, consumer: BrokerConsumer) -> None:
        mine = consumer.assignment().intersection(self._next)
        try:
            ends = await consumer.end_offsets(mine)
        except UnavailableError:
            return
        behind: dict[str, int] = {}
        for where, end in ends.items():
            behind[where.topic] = behind.get(where.topic, 0) + max(0, end - self._next[where])
        for topic, records in behind.items():
            self._tools.observer.lag(self.name, topic, records)

    async def _on_assign(self, partitions: frozenset[TopicPartition]) -> None:
        self._fresh = set(partitions)
        if self._replay is not None:
            self._replay.begin()

    async def _on_revoke(self, _: frozenset[TopicPartition]) -> None:
        """Let what is in flight finish, within the deadline; what waits for a retry is simply given up."""
        self._generation += 1
        try:
            async with asyncio.timeout(self._settings.revoke_seconds):
                await self._settled.wait()
        except TimeoutError:
            if self._in_flight is not None:
                self._in_flight.cancel()
                await self._settled.wait()
        await self._acquit_if_possible()
        if self._replay is not None:
            self._replay.begin()
        self._next.clear()
        self._owed.clear()

    def _note_pause(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, UnavailableError | BreakerOpenError) else describe(error)
        if reason != self.paused_because:
            log.warning("consumer %s pauses: %s", self.name, reason)
        self.paused_because = reason
        self._tools.observer.paused(self.name, reason)


def _first_offsets(records: Sequence[Record]) -> Mapping[TopicPartition, int]:
    firsts: dict[TopicPartition, int] = {}
    for record in records:
        firsts.setdefault(TopicPartition(record.topic, record.partition), record.offset)
    return firsts


def _by_key(records: Sequence[Record]) -> dict[str, list[Record]]:
    keys: dict[str, list[Record]] = {}
    for record in records:
        keys.setdefault(key_of(record), []).append(record)
    return keys
