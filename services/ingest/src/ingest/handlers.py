"""What ingest does with what it reads: channel orders, catalogue facts, and every stage's progress."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

from pydantic_core import from_json, to_json

from contracts import CancellationSettled, CatalogItem, ChangeSettled, ChannelOrder, SettledLine
from eventing import NewTask, Received, Task, UnitOfWork
from eventing.errors import InvalidRecordError
from ingest import dossier as dossiers
from ingest import store
from ingest.acts import settle, settle_change
from ingest.domain.identity import record_id_of
from ingest.dossier import SERVICE
from ingest.intake import Arrival, Gateway
from ingest.store.book import Entry
from ingest.tables import idempotency_key
from webapi.idempotency import SWEEP_ROWS, sweep_idempotency_keys

ITEM = "catalog_item"
"""The kind of fact that a parked order waits for; its key is the SKU."""
WAKE = "wake_parked"
EXAMINED_MOST = 2_000
"""Several batches: examined orders kept between `identify` and the handler, for a second look costs 60 µs."""
SWEEP = "sweep_idempotency_keys"
SWEEP_EVERY = timedelta(hours=1)
ORDER = "order"
"""What a voucher is about, unless it says that it is about a stock document, which the order book does not know."""
REVIVED = "order_revived"


class Handlers:
    """Ingest's handlers over one gateway."""

    def __init__(self, gateway: Gateway, *, wake_batch: int) -> None:
        self._gateway = gateway
        self._wake_batch = wake_batch
        self._examined: dict[int, Arrival] = {}

    def identify(self, order: ChannelOrder, raw: bytes) -> tuple[str, UUID]:
        """Key and identity of a foreign record, from its body alone.

        **Errors**: InvalidRecordError with field and reason for an order that cannot be taken in; it is quarantined.
        """
        arrival = self._examine(order)
        if len(self._examined) >= EXAMINED_MOST:
            self._examined.clear()  # Duplicates are never asked for again.
        self._examined[id(order)] = arrival
        # Over the bytes as they came: two spellings of one version are two records, and the second is found to be the same.
        return order.key, record_id_of(arrival.order_id, order.source_version, blake2b(raw, digest_size=16).digest())

    async def on_channel_orders(self, received: Sequence[Received[ChannelOrder]], work: UnitOfWork) -> None:
        """Take in what external systems publish, as over HTTP."""
        await self._gateway.take([self._arrival(record.event) for record in received], work)

    async def on_catalog_items(self, items: Sequence[CatalogItem], work: UnitOfWork) -> None:
        """Copy the catalogue, and wake parked orders that wait for these items."""
        await store.catalog.put_items(work, items)
        skus = {item.sku_id for item in items if not item.deleted}
        # Either an order in the making holds this lock, and is parked when we look; or it looks after us and finds the item.
        await work.arrived(ITEM, skus)
        waited_for = await store.orders.find_waited_for(work, skus)
        work.add_tasks(NewTask(WAKE, sku, work.now) for sku in waited_for)

    async def on_wake_due(self, tasks: Sequence[Task], work: UnitOfWork) -> None:
        """Decide again about orders whose item has come; as many as one transaction should hold."""
        skus = {task.key for task in tasks}
        order_ids = await store.orders.find_parked_by_sku(work, skus, most=self._wake_batch)
        await self._gateway.reconsider(order_ids, work)
        if len(order_ids) < self._wake_batch:
            return
        # Those that stay parked wait for other items by now, and make room for the next; none moved: the item is gone again.
        behind = await store.orders.find_parked_by_sku(work, skus, most=self._wake_batch)
        if behind and behind != order_ids:
            work.add_tasks(NewTask(WAKE, sku, work.now) for sku in skus)

    async def on_progress(self, received: Sequence[Received[Any]], work: UnitOfWork) -> None:
        """Fold what any stage says of an order into the book. Reads headers only."""
        await store.book.add_progress(work, [entry for record in received if (entry := entry_of(record)) is not None])

    async def on_settled(
        self, received: Sequence[Received[CancellationSettled] | Received[ChangeSettled]], work: UnitOfWork
    ) -> None:
        """Take the stages' answers to requests in, and close what is answered; several of one order one after the other.

        **Errors**: ImpossibleSettlementError, UnknownOrderError (both poison: the key is parked for people to look at).
        """
        told = [record.event for record in received if record.event.settled_by != SERVICE]  # Ours were noted as they were told.
        if not told:
            return
        spoken_of = await self._spoken_of(told, work)
        firsts = await store.orders.find_firsts(work, {order_id for orders in spoken_of.values() for order_id in orders})
        families = await dossiers.load(work, set(firsts.values()))
        members = {member.order_id: (family, member) for family in families.values() for member in family}
        for event in told:
            if isinstance(event, ChangeSettled):
                asking = spoken_of[event.request_id] & members.keys()
                if not asking:
                    raise UnknownOrderError(f"order {event.root_id} was never taken in")
                for order_id in asking:
                    settle_change(members[order_id][1], event, work)
                continue
            asked_by = [
                order_id
                for order_id in spoken_of[event.request_id] & members.keys()
                if (asked := members[order_id][1].requests.get(event.request_id)) and asked.is_ours
            ]
            for order_id, lines in _by_order(event, asked_by, members.keys()).items():
                family, member = members[order_id]
                settle(family, member, event, lines, work)
        await dossiers.save(work, [member for family in families.values() for member in family])

    async def _spoken_of(self, told: Sequence[CancellationSettled | ChangeSettled], work: UnitOfWork) -> dict[UUID, set[UUID]]:
        """The orders that each request may be about: those that asked, the root, and after a merge where lines come from."""
        spoken_of = await store.requests.find_orders_of(work, {event.request_id for event in told})
        for event in told:
            about = spoken_of.setdefault(event.request_id, {event.root_id})
            if isinstance(event, CancellationSettled):
                about.update((event.root_id, *(line.origin_order_id for line in event.lines)))
        return spoken_of

    def _arrival(self, order: ChannelOrder) -> Arrival:
        """What `identify` found a moment ago, or a fresh look. An arrival keeps its order alive, so ids are not used twice."""
        arrival = self._examined.pop(id(order), None)
        return arrival if arrival is not None and arrival.order is order else self._examine(order)

    def _examine(self, order: ChannelOrder) -> Arrival:
        examined = self._gateway.examine(order)
        if isinstance(examined, Arrival):
            return examined
        first = examined[0]
        raise InvalidRecordError(first.code, "the order cannot be taken in", first.field)


class UnknownOrderError(Exception):
    """A stage speaks of an order that was never taken in."""


def _by_order(event: CancellationSettled, asked_by: Sequence[UUID], known: Collection[UUID]) -> dict[UUID, list[SettledLine]]:
    """The event's lines by the order whose request they answer: who asked, the root, or after a merge where they come from."""
    found: dict[UUID, list[SettledLine]] = {}
    for line in event.lines:
        candidates = (*asked_by, event.root_id, line.origin_order_id)
        owner = next((order_id for order_id in candidates if order_id in known), None)
        if owner is None:
            raise UnknownOrderError(f"order {event.root_id} was never taken in")
        found.setdefault(owner, []).append(line)
    return found


async def on_sweep_due(tasks: Sequence[Task], work: UnitOfWork) -> None:
    """Forget old idempotency keys, a slice at a time."""
    gone = await sweep_idempotency_keys(work.connection, idempotency_key, now=work.now)
    again = work.now if gone >= SWEEP_ROWS else work.now + SWEEP_EVERY
    work.add_tasks(NewTask(SWEEP, task.key, again) for task in tasks)


def service_of(source: str) -> str:
    """The service's name in `ce_source`: /audit, or /audit/<incarnation> after a restore."""
    return source.lstrip("/").partition("/")[0]


def entry_of(record: Received[Any]) -> Entry | None:
    """The timeline entry in a record's envelope; None where it reports no progress of an order."""
    told = record.extensions.get("progress")
    if told is None or record.extensions.get("about", ORDER) != ORDER:
        return None
    progress = from_json(told)
    replaces = record.extensions.get("replaces")
    return Entry(
        order_id=record.subject,
        root_id=record.key,
        service=service_of(record.source),
        step=progress["step"],
        event_id=record.id,
        stage=progress["stage"],
        code=progress["code"],
        params=to_json(progress.get("params", {})).decode(),
        topic=record.topic,
        at=record.time,
        attempt=progress.get("attempt", 0),
        replaces=tuple(replaces.split(",")) if replaces else (),
        # The one thing the book reads from a body, and only where the header says that it is there.
        revives=from_json(record.raw).get("revives") if progress["code"] == REVIVED else None,
    )
