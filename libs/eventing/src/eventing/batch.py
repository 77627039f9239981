"""One batch is one transaction: claim, handle, stash, send, commit. And what happens when it cannot be: the four fates.

    duplicate        nothing
    invalid          foreign topic: quarantine and a notice; else the key is parked
    poison           bisect by key until the one is known, park it with what follows, let the others through
    infrastructure   raised to the loop, which waits and tries again

A handler's exception rolls everything back; halves that go through are committed on their own, each whole per key and in order.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from eventing import database, parking
from eventing.breaker import Breaker
from eventing.broker import Record
from eventing.clock import Clock, IdSource
from eventing.crash import CrashPoints
from eventing.envelope import Received
from eventing.errors import (
    CANCELLED,
    DEADLOCK,
    BreakerOpenError,
    EventingError,
    UnavailableError,
    describe,
    is_unavailable,
    sqlstate_of,
)
from eventing.observe import Observer
from eventing.parking import Expectation, OpenKey
from eventing.partitions import InboxDays
from eventing.reading import Fault, Item, Reader
from eventing.routes import AnyRoute, Consumer, Route, Waiting
from eventing.sealing import Sealer
from eventing.work import UnitOfWork

T = TypeVar("T")
SLICE_SECONDS = 0.05
DEADLOCK_RETRIES = 2
WAITING_FAULT = "waiting"
POISON = "poison"
NOTICE_TYPE = "RecordQuarantined"

_CLAIM = text(
    """
    INSERT INTO inbox (day, topic, source, id, content_hash)
    SELECT day, topic, source, id, hash FROM unnest(
        CAST(:days AS date[]), CAST(:topics AS text[]), CAST(:sources AS text[]), CAST(:ids AS uuid[]), CAST(:hashes AS bytea[])
    ) AS r(day, topic, source, id, hash)
    ON CONFLICT DO NOTHING
    RETURNING topic, source, id
    """
)
_CLAIMED_BEFORE = text(
    """
    SELECT i.topic, i.source, i.id, i.content_hash FROM unnest(
        CAST(:days AS date[]), CAST(:topics AS text[]), CAST(:sources AS text[]), CAST(:ids AS uuid[])
    ) AS r(day, topic, source, id)
    JOIN inbox i USING (day, topic, source, id)
    """
)


@dataclass(slots=True)
class Outcome:
    """What became of the records of one batch."""

    handled: list[Item] = field(default_factory=list)
    duplicates: list[Item] = field(default_factory=list)
    parked: list[Item] = field(default_factory=list)
    """Refused; the fault says why."""
    queued: list[Item] = field(default_factory=list)
    """Put behind an earlier record of their key."""
    quarantined: list[Item] = field(default_factory=list)
    waiting: list[tuple[Item, Waiting]] = field(default_factory=list)
    skipped: int = 0
    discarded: int = 0

    def add(self, other: Outcome) -> None:
        self.handled += other.handled
        self.duplicates += other.duplicates
        self.parked += other.parked
        self.queued += other.queued
        self.quarantined += other.quarantined
        self.waiting += other.waiting
        self.skipped += other.skipped
        self.discarded += other.discarded


@dataclass(frozen=True, slots=True)
class Tools:
    """What every processor of a runtime shares."""

    service: str
    source: str
    engine: AsyncEngine
    clock: Clock
    ids: IdSource
    observer: Observer
    crash: CrashPoints
    sealer: Sealer
    inbox_days: Callable[[], InboxDays | None]
    committed: Callable[[UnitOfWork], None]
    """Told of every commit: the relay and the drains are woken from here."""


class _BehindError(EventingError):
    """Records were handled although an earlier one of their key waits: do it again, one record per such key."""

    def __init__(self, keys: set[str]) -> None:
        super().__init__("a later record of a waiting key was handled")
        self.keys = keys


class Processor:
    """Turns the records of one consumer into effects."""

    def __init__(self, consumer: Consumer, tools: Tools, breaker: Breaker) -> None:
        self.consumer = consumer
        self.reader = Reader(consumer.routes, tools.observer)
        self.tools = tools
        self._breaker = breaker
        # Routes that share a handler are one: it gets their records together.
        handlers = list(dict.fromkeys(route.handler for route in consumer.routes))
        self._handlers = {id(route): handlers.index(route.handler) for route in consumer.routes}

    async def process(self, records: Sequence[Record], *, suspicious: bool = False) -> Outcome:
        """Give every record its fate; afterwards the offsets may be committed.

        `suspicious`: this batch has run into time-outs again and again; they are its own fault now.
        **Errors**: those of infrastructure, and BreakerOpenError; then nothing may be committed, and all is safe to repeat.
        """
        started = time.monotonic()
        outcome = Outcome()
        items = await self._read(records, outcome)
        try:
            self._breaker.saw(items)
            await self._settle(items, outcome, suspicious=suspicious)
        finally:
            self._report(outcome, records, time.monotonic() - started)
        return outcome

    async def park_unseen(self, records: Sequence[Record], key: str, fault: Fault) -> Outcome:
        """Park a key without giving its records to any handler: the last worker died of it."""
        outcome = Outcome()
        items = [item for item in await self._read(records, outcome) if item.key == key]
        if items:
            items[0].fault = items[0].fault or fault
            outcome.add(await self._attempt(items))
        return outcome

    # Poll: from records to effects

    async def _read(self, records: Sequence[Record], outcome: Outcome) -> list[Item]:
        now, days = self.tools.clock.now(), self.tools.inbox_days()
        oldest = days.oldest if days is not None and self.consumer.claim == "inbox" else None
        items: list[Item] = []
        slice_ends = time.monotonic() + SLICE_SECONDS
        for record in records:
            item = self.reader.read(record, now=now, oldest=oldest)
            if item is None:
                outcome.skipped += 1
                continue
            item.position = len(items)
            items.append(item)
            if time.monotonic() > slice_ends:
                await asyncio.sleep(0)  # Heartbeats share this thread.
                slice_ends = time.monotonic() + SLICE_SECONDS
        return items

    async def _settle(self, items: list[Item], outcome: Outcome, *, suspicious: bool) -> None:
        """Try all; where that fails, halve by key until the poison is found."""
        if not items:
            return
        try:
            outcome.add(await self._attempt(items))
        except Exception as error:  # noqa: BLE001  whatever it is, it is judged
            await self.raise_unless_poison(error, suspicious=suspicious)
            failure = error
        else:
            return
        keys = list(dict.fromkeys(item.key for item in items))
        if len(keys) > 1:
            for half in halves(keys):
                await self._settle([item for item in items if item.key in half], outcome, suspicious=suspicious)
            return
        for number, item in enumerate(items):
            # A single record gets a second chance: what failed may have been a race.
            try:
                outcome.add(await self._attempt([item]))
            except Exception as error:  # noqa: BLE001  whatever it is, it is judged
                await self.raise_unless_poison(error, suspicious=suspicious)
                failure = error
            else:
                continue
            item.fault = Fault(POISON, describe(failure))
            self._breaker.about_to_park(item)
            if item.fault.code == POISON:
                try:
                    outcome.add(await self._attempt(items[number:]))
                except Exception as error:  # noqa: BLE001  whatever it is, it is judged
                    # One that supersedes this one was given to its handler, and fails as well: each by itself, then.
                    await self.raise_unless_poison(error, suspicious=suspicious)
                    outcome.add(await self._attempt([item]))
                    continue
                return
            outcome.add(await self._attempt([item]))  # Quarantined: what follows it has its own fate.

    async def raise_unless_poison(self, error: Exception, *, suspicious: bool) -> None:
        if isinstance(error, BreakerOpenError):
            raise error
        if not is_unavailable(error):
            return
        own_fault = suspicious and sqlstate_of(error) in CANCELLED and await database.answers(self.tools.engine)
        if not own_fault:
            raise error

    async def _attempt(self, items: list[Item]) -> Outcome:
        return await self.repeat(lambda cautious: self._transaction(items, cautious))

    async def repeat(self, attempt: Callable[[set[str]], Awaitable[T]]) -> T:
        """Repeat an attempt at once after a deadlock, and with more care where a handler ran ahead of a waiting record."""
        cautious: set[str] = set()
        deadlocks = 0
        while True:
            try:
                return await attempt(cautious)
            except _BehindError as behind:
                cautious |= behind.keys
            except Exception as error:
                if sqlstate_of(error) != DEADLOCK:
                    raise
                deadlocks += 1
                if deadlocks > DEADLOCK_RETRIES:
                    raise UnavailableError("deadlocks again and again") from error

    async def _transaction(self, items: list[Item], cautious: set[str]) -> Outcome:
        outcome = Outcome()
        tools = self.tools
        async with database.begin(tools.engine) as connection:
            work = self.begin_work(connection, items)
            live = await self.claim(items, work, outcome)
            if live:
                tools.crash.reach("after_claim")
                await self.handle(live, work, outcome, cautious)
            await work.flush()
            tools.crash.reach("before_commit")
        tools.crash.reach("after_commit")
        tools.committed(work)
        return outcome

    async def claim(self, items: list[Item], work: UnitOfWork, outcome: Outcome) -> list[Item]:
        """Take the inbox rows; what is taken already is a duplicate or, with other content, a conflict."""
        if self.consumer.claim == "natural":
            return items
        wanted: dict[tuple[str, str, UUID], Item] = {}
        live: list[Item] = []
        for item in items:
            received = item.received
            if received is None or not item.claimable or _is_set_aside(item):
                live.append(item)
                continue
            identity = (received.topic, received.source, received.id)
            first = wanted.setdefault(identity, item)
            if first is item:
                live.append(item)
            else:
                _judge_again(item, first.content_hash, live, outcome)
        if not wanted:
            return live
        claims = sorted((item.received for item in wanted.values() if item.received is not None), key=lambda r: r.identity)
        columns = {
            "days": [claim.time.date() for claim in claims],
            "topics": [claim.topic for claim in claims],
            "sources": [claim.source for claim in claims],
            "ids": [claim.id for claim in claims],
        }
        rows = await work.connection.execute(_CLAIM, columns | {"hashes": [claim.content_hash for claim in claims]})
        taken = rows.all()
        work.has_transaction_id = work.has_transaction_id or bool(taken)
        if len(taken) == len(claims):
            return live
        new = {(row.topic, row.source, row.id) for row in taken}
        known = await work.connection.execute(_CLAIMED_BEFORE, columns)
        hashes = {(row.topic, row.source, row.id): row.content_hash for row in known}
        claimed = {id(item): identity for identity, item in wanted.items()}
        remaining: list[Item] = []
        for item in live:
            claim = claimed.get(id(item))
            if claim is None or claim in new:
                remaining.append(item)
            else:
                _judge_again(item, hashes[claim], remaining, outcome)
        return remaining

    async def handle(self, live: list[Item], work: UnitOfWork, outcome: Outcome, cautious: set[str]) -> None:
        connection, name, now = work.connection, self.consumer.name, work.now
        stashed = await parking.lock_stashed(connection, name, sorted({item.key for item in live}))
        opened: dict[str, OpenKey] = {}
        queued: list[Item] = []
        runnable: list[Item] = []
        quarantined: list[Item] = []
        refused: list[Item] = []
        running: set[str] = set()
        held_back: dict[str, str] = {}
        superseded: set[str] = set()
        heads = await self._stash_heads(live, stashed, connection)
        for item in live:
            if item.key in heads and _supersedes(item, heads[item.key]):
                superseded.add(item.key)
                stashed.discard(item.key)
                opened.pop(item.key, None)
                queued = [other for other in queued if other.key != item.key]
                refused = [other for other in refused if other.key != item.key]
                del heads[item.key]
            if _is_set_aside(item):
                quarantined.append(item)
            elif item.key in stashed or item.key in opened or item.key in held_back:
                queued.append(item)
            elif item.fault is not None:
                if item.fault.code != POISON:  # That one was counted when it was found.
                    self._breaker.about_to_park(item)
                opened[item.key] = OpenKey(item.key, "parked", item.fault, item.record.topic)
                refused.append(item)
                if item.received is not None:
                    heads[item.key] = item.received
            elif item.key in cautious and item.key in running:
                held_back[item.key] = item.record.topic
                queued.append(item)
            else:
                running.add(item.key)
                runnable.append(item)
        if superseded:
            await parking.discard(connection, name, sorted(superseded))
            outcome.discarded += len(superseded)
        waiting, overtaken = await self.run_handlers(runnable, work, outcome)
        expectations: list[Expectation] = []
        for item, answer in waiting:
            if item.key not in opened or opened[item.key].cause == "parked":
                fault = Fault(WAITING_FAULT, f"waits for {answer.kind} {answer.key}")
                # A refused record further back waits its turn behind this one: it is judged when it is drained.
                opened[item.key] = OpenKey(item.key, "waiting", fault, item.record.topic)
            expectations.append(Expectation(answer.kind, answer.key, item.key))
        for key in held_back.keys() - opened.keys():
            # The first of its records did not wait after all: the others may follow at once.
            fault = Fault(WAITING_FAULT, "behind a record that was to wait")
            opened[key] = OpenKey(key, "waiting", fault, held_back[key], wish="retry")
            work.woke_waiting = True
        outcome.waiting += waiting
        for item in refused:
            (outcome.parked if opened[item.key].cause == "parked" else outcome.queued).append(item)
        outcome.queued += queued + overtaken
        stash = {id(item): item for item in (*queued, *overtaken, *refused, *(item for item, _ in waiting))}
        in_order = sorted(stash.values(), key=lambda item: item.position)
        sealer, ids = self.tools.sealer, self.tools.ids
        await parking.open_keys(connection, name, list(opened.values()), now=now)
        await parking.append(connection, name, in_order, now=now, ids=ids, sealer=sealer)
        await parking.expect(connection, name, expectations, now=now)
        added = await parking.quarantine(connection, name, quarantined, now=now, ids=ids, sealer=sealer)
        outcome.quarantined += added
        for item in added:
            notify(item, work, service=self.tools.service, consumer=self.consumer.name)

    async def _stash_heads(
        self, live: Sequence[Item], stashed: Collection[str], connection: AsyncConnection
    ) -> dict[str, Received[Any]]:
        """The envelopes of the first stashed records, of keys for which a record that may supersede them has come."""
        keys = {item.key for item in live if item.key in stashed and isinstance(item.route, Route) and item.route.supersedes}
        if not keys:
            return {}
        firsts = await parking.load(connection, self.consumer.name, sorted(keys), per_key=1, sealer=self.tools.sealer)
        items = {first.key: self.reader.read(first.record, now=None, oldest=None) for first in firsts}
        return {key: item.received for key, item in items.items() if item is not None and item.received is not None}

    async def run_handlers(
        self, items: list[Item], work: UnitOfWork, outcome: Outcome
    ) -> tuple[list[tuple[Item, Waiting]], list[Item]]:
        """Call the handlers, layer by layer; return what waits, and what came after it and was not handled."""
        waiting: list[tuple[Item, Waiting]] = []
        overtaken: list[Item] = []
        stopped: set[str] = set()
        for layer in self._layers(items):
            for route, members in layer:
                batch = [item for item in members if item.key not in stopped]
                overtaken += [item for item in members if item.key in stopped]
                if not batch:
                    continue
                answers = await route.handler([item.received for item in batch], work)  # type: ignore[misc]
                waits = _match(batch, answers or ())
                _refuse_overtaking(batch, waits)
                waiting += waits
                stopped.update(item.key for item, _ in waits)
                waits_now = {id(item) for item, _ in waits}
                outcome.handled += [item for item in batch if id(item) not in waits_now]
        return waiting, overtaken

    def _layers(self, items: list[Item]) -> list[list[tuple[AnyRoute, list[Item]]]]:
        """Group by handler so that no key's records change places: a key that changes handlers moves on to the next layer."""
        last: dict[str, tuple[int, int]] = {}
        layers: list[dict[int, list[Item]]] = []
        for item in items:
            handler = self._handlers[id(item.route)]
            layer, before = last.get(item.key, (0, handler))
            if before != handler:
                layer += 1
            last[item.key] = (layer, handler)
            if layer == len(layers):
                layers.append({})
            layers[layer].setdefault(handler, []).append(item)
        return [[(layer[number][0].route, layer[number]) for number in sorted(layer)] for layer in layers]

    # Both

    def begin_work(self, connection: AsyncConnection, items: Sequence[Item]) -> UnitOfWork:
        tools = self.tools
        traces = {
            item.key: item.received.traceparent
            for item in items
            if item.received is not None and item.received.traceparent is not None
        }
        return UnitOfWork(connection, now=tools.clock.now(), ids=tools.ids, source=tools.source, traces=traces)

    def _report(self, outcome: Outcome, records: Sequence[Record], seconds: float) -> None:
        observer = self.tools.observer
        totals: dict[str, int] = {}
        for record in records:
            totals[record.topic] = totals.get(record.topic, 0) + 1
        doubles: dict[str, int] = {}
        for item in outcome.duplicates:
            doubles[item.record.topic] = doubles.get(item.record.topic, 0) + 1
        for topic, total in totals.items():
            observer.batch(self.consumer.name, topic, total, doubles.get(topic, 0), seconds)
        for item in outcome.parked:
            observer.parked(item.record.topic, item.fault.code if item.fault is not None else "")
        for item in outcome.quarantined:
            observer.quarantined(item.record.topic, item.fault.code if item.fault is not None else "")


def notify(item: Item, work: UnitOfWork, *, service: str, consumer: str) -> None:
    """Tell the platform team what was set aside, where and why; never what it says."""
    record, fault = item.record, item.fault
    if fault is None:
        return
    notice = {
        "consumer": consumer,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "code": fault.code,
        "reason": fault.reason,
        "field": fault.field,
        "content_hash": item.content_hash.hex(),
    }
    work.emit_notice(
        topic=f"{service}.dlq",
        key=f"{record.topic}/{record.partition}",
        type=NOTICE_TYPE,
        payload=json.dumps(notice, ensure_ascii=False).encode(),
    )


def _is_set_aside(item: Item) -> bool:
    """Whether it goes to quarantine: it is not taken in, so it holds no claim, and its retry may claim it."""
    return item.foreign and item.fault is not None and item.fault.code != POISON


def _judge_again(item: Item, known_hash: bytes, live: list[Item], outcome: Outcome) -> None:
    """Decide about a record whose identity is taken."""
    if item.content_hash == known_hash:
        outcome.duplicates.append(item)
    else:
        item.fault = Fault("id_conflict", "another record with this id has other content", "ce_id")
        live.append(item)


def _supersedes(item: Item, head: Received[Any]) -> bool:
    if item.fault is not None or item.received is None or not isinstance(item.route, Route) or item.route.supersedes is None:
        return False
    return item.route.supersedes(item.received, head)


def _match(batch: Sequence[Item], answers: Collection[Waiting]) -> list[tuple[Item, Waiting]]:
    by_received = {id(item.received): item for item in batch}
    return [(by_received[id(answer.received)], answer) for answer in answers]


def _refuse_overtaking(batch: Sequence[Item], waits: Sequence[tuple[Item, Waiting]]) -> None:
    """Raise where a handler has handled a record although an earlier one of its key waits."""
    if not waits:
        return
    waiting = {id(item) for item, _ in waits}
    stopped: set[str] = set()
    ahead: set[str] = set()
    for item in batch:
        if id(item) in waiting:
            stopped.add(item.key)
        elif item.key in stopped:
            ahead.add(item.key)
    if ahead:
        raise _BehindError(ahead)


def halves(keys: Sequence[T]) -> tuple[set[T], set[T]]:
    middle = len(keys) // 2
    return set(keys[:middle]), set(keys[middle:])
