"""Everything ingest keeps of one order: read under its lock, changed in memory, written and told at once.

An order and those that took it up again after a cancel are a family: lines, money and versions are the first one's, units move
under each one's own root.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts import Event, Order, Part
from contracts.envelope import Progress
from eventing import UnitOfWork
from ingest import store
from ingest.blocks import whole
from ingest.domain.requests import Key, OrderState, left_unsent
from ingest.domain.requests import Progress as RequestProgress
from ingest.store.book import Entry
from ingest.store.orders import OrderRow
from ingest.store.requests import Case, RefundRow, RequestRow

SERVICE = "ingest"
Bundles = Mapping[int, Mapping[str, int]]
"""By line of a bundle: units of each SKU in one of it."""


@dataclass(slots=True)
class Dossier:
    """One order, with what is to be written and told of it."""

    row: OrderRow
    requests: dict[UUID, RequestRow] = field(default_factory=dict)
    refunds: list[RefundRow] = field(default_factory=list)
    receipts: set[str] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    is_new: bool = False
    is_changed: bool = False
    is_decided: bool = False
    """Sent, parked or closed anew: what it waits for is known."""
    has_new_document: bool = False
    asked: set[UUID] = field(default_factory=set)
    """Requests to write."""
    refunded: list[RefundRow] = field(default_factory=list)
    """Refunds to write."""
    confirmed: list[tuple[str, datetime]] = field(default_factory=list)
    """Receipts to write."""

    @property
    def order_id(self) -> UUID:
        return self.row.order_id

    @property
    def is_sent(self) -> bool:
        """It moves, or moved, through the stages."""
        return self.row.sent_version is not None

    @property
    def block(self) -> Order:
        return Order.model_validate_json(self.row.block)

    @property
    def sent(self) -> tuple[Part, Bundles]:
        """The part as it was sent, and the bundles in it."""
        if not self.row.part:
            return whole(self.block, {}), {}
        stored = json.loads(self.row.part)
        bundles = {int(line): counts for line, counts in stored["bundles"].items()}
        return Part.model_validate_json(json.dumps(stored["part"])), bundles

    @property
    def state(self) -> OrderState:
        """What the requests' rules need: units that were sent, or would be, and every cancel of them."""
        if self.is_sent:
            units = {(line.origin_order_id, line.origin_line, line.sku_id): line.quantity for line in self.sent[0].lines}
            return OrderState(units, {row.request_id: row.pure for row in self._cancels() if row.is_sent})
        left = self.left_unsent()
        cancelled = {number: units for number, (units, _) in self.cancelled_unsent().items()}
        waiting: dict[Key, int] = {
            (self.row.first_order_id, line.line, line.sku_id): left[line.line] + cancelled.get(line.line, 0)
            for line in self.block.lines
        }
        requests = {row.request_id: row.pure for row in self._cancels() if row.progress is not RequestProgress.WITHDRAWN}
        return OrderState(waiting, requests)

    def cancelled_unsent(self) -> dict[int, tuple[int, int]]:
        """By line: units cancelled while the order waited here, and the most that the channel ordered at that time."""
        cancelled: dict[int, tuple[int, int]] = {}
        for row in self._cancels():
            if not row.is_sent and row.progress is not RequestProgress.WITHDRAWN:
                for key, line in row.lines.items():
                    units, then = cancelled.get(key[1], (0, 0))
                    cancelled[key[1]] = (units + line.cancelled, max(then, row.quantities_then[key]))
        return cancelled

    def left_unsent(self, block: Order | None = None) -> dict[int, int]:
        """By line of a block: units to send."""
        cancelled = self.cancelled_unsent()
        return {
            line.line: left_unsent(line.quantity, *cancelled.get(line.line, (0, line.quantity)))
            for line in (block or self.block).lines
        }

    def progress(self, stage: str, code: str, params: Mapping[str, Any], work: UnitOfWork) -> Progress:
        """The next step of this order in ingest."""
        self.row.step += 1
        self.row.changed_at = work.now
        self.is_changed = True
        return Progress(step=self.row.step, stage=stage, code=code, params=dict(params))

    def note(self, stage: str, code: str, params: Mapping[str, Any], work: UnitOfWork) -> None:
        """Tell the book alone."""
        told = self.progress(stage, code, params, work)
        self.entries.append(entry_of(self.row, told.stage, told.code, told.params, work))

    def flag(self, flag: str) -> None:
        if flag not in self.row.flags:
            self.row.flags = [*self.row.flags, flag]
            self.is_changed = True

    def put_block(self, block: Order) -> None:
        """Replace the block, and keep what was sent known where the block no longer says it."""
        if self.is_sent:
            part, bundles = self.sent
            self.row.block = block.model_dump_json()
            self.put_part(part, bundles)
        else:
            self.row.block = block.model_dump_json()
        self.has_new_document = True

    def put_part(self, part: Part, bundles: Bundles) -> None:
        self.row.part = stored_part(self.block, part, bundles)
        self.has_new_document = True

    def put_request(self, row: RequestRow) -> None:
        self.requests[row.request_id] = row
        self.asked.add(row.request_id)

    def open_case(self, kind: str, subject: str, params: Mapping[str, Any] | None = None) -> None:
        self.cases.append(Case(self.order_id, kind, subject, params or {}))

    def _cancels(self) -> Iterable[RequestRow]:
        return (row for row in self.requests.values() if row.kind == "cancel")


def entry_of(row: OrderRow, stage: str, code: str, params: Mapping[str, Any], work: UnitOfWork) -> Entry:
    """What ingest tells its own book of changes that no event carries."""
    told = json.dumps(params, ensure_ascii=False, separators=(",", ":"))
    order_id = str(row.order_id)
    return Entry(order_id, order_id, SERVICE, row.step, work.new_id(), stage, code, told, "", work.now)


def stored_part(block: Order, part: Part, bundles: Bundles) -> str:
    """A part as it is stored: nothing where the block says the same."""
    if not bundles and part == whole(block, {}):
        return ""
    return json.dumps({"part": part.model_dump(mode="json"), "bundles": bundles}, ensure_ascii=False, separators=(",", ":"))


Family = list[Dossier]
"""The first order and those that took it up again, in the order in which they came about."""


async def load(work: UnitOfWork, first_order_ids: Collection[UUID]) -> dict[UUID, Family]:
    """Lock and read whole families, by their first orders."""
    families = await store.orders.lock_families(work, first_order_ids)
    return await read(work, families)


async def read(work: UnitOfWork, families: Mapping[UUID, Sequence[OrderRow]]) -> dict[UUID, Family]:
    """Read what belongs to locked rows."""
    rows = [row for family in families.values() for row in family]
    if not rows:
        return {}
    ids = [row.order_id for row in rows]
    await store.orders.read_documents(work, rows)
    requests = await store.requests.find_requests(work, ids)
    refunds = await store.requests.find_refunds(work, families.keys())
    receipts = await store.requests.find_receipts(work, ids)
    return {
        first: [Dossier(row, requests[row.order_id], refunds.get(row.order_id, []), receipts[row.order_id]) for row in family]
        for first, family in families.items()
    }


async def save(work: UnitOfWork, dossiers: Sequence[Dossier]) -> None:
    """Write what changed, then tell it: one statement per table, whatever the number of orders."""
    new = [dossier.row for dossier in dossiers if dossier.is_new]
    if new:
        await store.orders.add_orders(work, new)
    await store.orders.update_orders(work, [dossier.row for dossier in dossiers if dossier.is_changed and not dossier.is_new])
    await store.orders.put_documents(work, [dossier.row for dossier in dossiers if dossier.has_new_document])
    await store.orders.set_missing_skus(work, [dossier.row for dossier in dossiers if dossier.is_decided], were_there=True)
    await store.requests.put_requests(
        work, [dossier.requests[request_id] for dossier in dossiers for request_id in dossier.asked]
    )
    await store.requests.add_refunds(work, [row for dossier in dossiers for row in dossier.refunded])
    await store.requests.add_receipts(
        work, [(dossier.order_id, *receipt) for dossier in dossiers for receipt in dossier.confirmed]
    )
    await store.requests.add_cases(work, [case for dossier in dossiers for case in dossier.cases])
    await store.book.add_progress(work, [entry for dossier in dossiers for entry in dossier.entries])
    work.emit(event for dossier in dossiers for event in dossier.events)
