"""What follows an order in-band: cancels, withdrawals, changes; what places give back and answer.

One handler for all of it, so that a root's events are taken in their order and its rows are read and written once. The
decisions are `domain.cancelling`'s; here they become rows, counts and events.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import singledispatchmethod
from typing import Any
from uuid import UUID

from contracts import (
    AllocatedOrderChanged,
    AllocationReturned,
    CancelForwarded,
    CancellationSettled,
    ChangeForwarded,
    ChangeSettled,
    Event,
    Order,
    OrderAudited,
    PartLine,
    Progress,
    StopAnswered,
    StopRequested,
    WithdrawalForwarded,
)
from contracts.spine import OriginQuantity, SettledLine
from eventing import Received, UnitOfWork
from inventory.domain import cancelling
from inventory.domain.cancelling import Held, LineKey, Outcome, Pending, Refused, RequestError, Root, Taken
from inventory.domain.counts import PoolCount
from inventory.domain.offers import Place
from inventory.domain.reservation import Backordered, Demand, Missing, hold_again
from inventory.handlers.booking import ReturnedUnits, apply_stock_effect, finish_pool
from inventory.handlers.context import (
    Inventory,
    backordered,
    body_of,
    child_of,
    child_row,
    divide,
    document_of,
    local_day,
    offer_again,
    units_by_line,
    units_by_sku,
    with_part,
)
from inventory.store import documents as papers
from inventory.store import orders, requests, stock
from inventory.store.orders import OrderRow
from inventory.store.stock import DayKey, Movement, PoolKey

IN_BAND = (CancelForwarded, WithdrawalForwarded, ChangeForwarded, AllocationReturned, StopAnswered)
InBand = CancelForwarded | WithdrawalForwarded | ChangeForwarded | AllocationReturned | StopAnswered
STOPPED = "stopped"
UNPINNED = ("reserved", "stuck", "returned")
"""States in which an order's units are held against its pool."""
CHANGEABLE = {"receiver": ("receiver_ref", "destination"), "note": ("notes",)}
"""Fields of a change, and what of the order block each of them is."""


@dataclass(slots=True)
class Family:
    """A root with its orders, locked: rows, documents, and what is pending."""

    root_id: UUID
    rows: dict[UUID, OrderRow]
    documents: dict[UUID, OrderAudited]
    pending: tuple[Pending, ...]

    @property
    def lock(self) -> OrderRow:
        return self.rows[self.root_id]

    def root(self) -> Root:
        """The family as its decisions see it."""
        held = []
        for number, row in enumerate(self.rows.values(), 1):
            if row.state == "root":
                continue
            document = self.documents.get(row.order_id)
            lines = units_by_line(document.part.lines) if document is not None and row.units_left else {}
            held.append(Held(row.order_id, number, row.state, row.attempt, lines, row.children, row.return_no))
        return Root(tuple(held), self.pending)


@dataclass(slots=True)
class Desk:
    """Everything that a batch of in-band events changes, collected before the contended rows are locked."""

    families: dict[UUID, Family]
    new_requests: set[tuple[UUID, str]]
    places: Mapping[str, Place]
    changed: dict[UUID, OrderRow] = field(default_factory=dict)
    children: dict[UUID, tuple[OrderRow, OrderAudited]] = field(default_factory=dict)
    backorders: dict[UUID, OrderRow] = field(default_factory=dict)
    """Orders that had rows in the queue, as they were there."""
    unstuck: set[UUID] = field(default_factory=set)
    again: dict[UUID, OrderRow] = field(default_factory=dict)
    """Orders to offer or queue, once it is known what the pool still has."""
    given_back: list[tuple[PoolKey, int]] = field(default_factory=list)
    came_back: list[tuple[Received[AllocationReturned], Place]] = field(default_factory=list)
    stopped_at: dict[UUID, str] = field(default_factory=dict)
    """Names of the places that gave orders back."""
    freed_days: list[DayKey] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @singledispatchmethod
    def hear(self, event: Any, record: Received[Any]) -> None:
        raise TypeError(f"{type(event).__name__} is not in-band")

    @hear.register
    def _cancel(self, event: CancelForwarded, record: Received[Any]) -> None:
        if (event.request_id, cancelling.CANCEL) not in self.new_requests:
            return
        self.new_requests.discard((event.request_id, cancelling.CANCEL))
        family = self.families[event.root_id]
        outcome = cancelling.cancel(family.root(), event.request_id, _units(event.lines))
        self.apply(family, outcome, event.request_id)
        if outcome.stops:
            self.ask(family, event.request_id, outcome.stops, reason=event.reason, code="stop_requested")

    @hear.register
    def _withdraw(self, event: WithdrawalForwarded, record: Received[Any]) -> None:
        family = self.families[event.root_id]
        self.apply(family, cancelling.withdraw(family.root(), event.request_id), event.request_id)

    @hear.register
    def _answer(self, event: StopAnswered, record: Received[Any]) -> None:
        family = self.families[event.root_id]
        self.apply(family, cancelling.answered(family.root(), event.request_id), event.request_id)

    @hear.register
    def _return(self, event: AllocationReturned, record: Received[Any]) -> None:
        family = self.families[event.root_id]
        row = family.rows.get(event.order_id)
        place = self.places.get(event.place_id)
        if row is None or place is None:
            raise RequestError(f"a return of order {event.order_id}, which is not at a place of ours")
        lines = _units(event.lines)
        outcome = cancelling.returned(family.root(), event.order_id, event.attempt, event.return_no, lines, whole=event.whole)
        if outcome.returned is None:
            return
        if row.place_no != place.place_no:
            raise RequestError(f"order {event.order_id} came back from another place than it was at")
        if event.reason != STOPPED:
            # A place that stopped because it was asked to may have what is left of the order again.
            row.excluded = [*(number for number in row.excluded if number != place.place_no), place.place_no]
        if event.whole and row.capacity_on is not None:
            self.freed_days.append((place.place_no, row.capacity_on))
        self.came_back.append((record, place))
        self.stopped_at[row.order_id] = place.name
        if outcome.child is not None:
            self.stopped_at[outcome.child.order_id] = place.name
            self.split_off(family, row, outcome.child, lines)
        else:
            row.place_no = row.capacity_on = None
        self.apply(family, outcome, None)

    @hear.register
    def _change(self, event: ChangeForwarded, record: Received[Any]) -> None:
        if (event.request_id, "change") not in self.new_requests:
            return
        self.new_requests.discard((event.request_id, "change"))
        family = self.families[event.root_id]
        fields = [name for name in event.fields if name in CHANGEABLE]
        found = [row for row in family.rows.values() if row.units_left and row.order_id in family.documents]
        for row in found if fields else ():
            document = family.documents[row.order_id]
            values = {name: getattr(event.order, name) for name_of in fields for name in CHANGEABLE[name_of]}
            order = document.order.model_copy(update=values)
            family.documents[row.order_id] = document.model_copy(update={"order": order})
            self.changed[row.order_id] = row
            if row.state == "allocated":
                self.tell_change(event, fields, row, order)
                continue
            self.settle_change(event, row, applied=fields, refused=[name for name in event.fields if name not in CHANGEABLE])
            if "receiver" in fields and row.state in ("reserved", "stuck"):
                self.raise_attempt(row)
        if not found or not fields:
            self.settle_change(event, family.lock, refused=event.fields)

    def apply(self, family: Family, outcome: Outcome, request_id: UUID | None) -> None:
        """Take over what a decision says: rows and documents now, counts later, settlements into the outbox."""
        family.pending = outcome.root.pending
        gone: dict[tuple[UUID, LineKey], PartLine] = {}
        for order in outcome.root.orders:
            row = family.rows[order.order_id]
            if (row.state, row.attempt, row.return_no, row.children) == (
                order.state,
                order.attempt,
                order.return_no,
                order.children,
            ) and row.order_id not in {taken.order_id for taken in outcome.taken}:
                continue
            self.changed[row.order_id] = row
            if row.state == "backordered":
                self.backorders.setdefault(row.order_id, replace(row))
            if row.state == "stuck":
                self.unstuck.add(row.order_id)
            gone |= {(row.order_id, LineKey(*line.key)): line for line in self._shrink(family, row, order)}
            row.state, row.attempt, row.return_no = order.state, order.attempt, order.return_no
            row.children = order.children
        for order_id in outcome.again:
            row = family.rows[order_id]
            row.reoffers = 0
            self.again[order_id] = row
        self._settle(family, outcome, request_id, gone)

    def _shrink(self, family: Family, row: OrderRow, order: Held) -> list[PartLine]:
        """Keep the first units of each line, and return the others; what the pool held of them goes back to it."""
        document = family.documents.get(row.order_id)
        if document is None:
            return []
        before = units_by_sku(document.part.lines)
        kept, gone = divide(document.part.lines, order.lines)
        wanted = units_by_sku(kept)
        if row.state in UNPINNED:
            self.given_back += [
                ((sku_id, row.pool_id), units - wanted.get(sku_id, 0))
                for sku_id, units in before.items()
                if units > wanted.get(sku_id, 0)
            ]
        row.want(wanted)
        if kept:
            family.documents[row.order_id] = with_part(document, lines=kept)
        else:
            del family.documents[row.order_id]
        return gone

    def split_off(self, family: Family, row: OrderRow, child: Held, lines: Mapping[LineKey, int]) -> None:
        """Let the order keep its first units, and give the rest to a new one."""
        document = family.documents[row.order_id]
        here = units_by_line(document.part.lines)
        _, gone = divide(document.part.lines, {key: units - lines.get(key, 0) for key, units in here.items()})
        new = child_row(row, child.order_id, "returned", units_by_sku(gone))
        family.rows[new.order_id] = new
        family.documents[new.order_id] = child_of(row, new.order_id, document, gone, freight=False)
        self.children[new.order_id] = (new, family.documents[new.order_id])

    def raise_attempt(self, row: OrderRow) -> None:
        if row.state == "stuck":
            self.unstuck.add(row.order_id)
        row.state, row.attempt, row.reoffers = "reserved", row.attempt + 1, 0
        self.again[row.order_id] = row

    def ask(self, family: Family, request_id: UUID, stops: Mapping[LineKey, int], *, reason: str, code: str) -> None:
        row = self._report(family.lock)
        self.events.append(
            StopRequested(
                root_id=family.root_id,
                order_id=family.root_id,
                progress=_progress(row, code, {"units": sum(stops.values())}),
                request_id=request_id,
                lines=_quantities(stops),
                reason=reason,
            )
        )

    def tell_change(self, event: ChangeForwarded, fields: Sequence[str], row: OrderRow, order: Order) -> None:
        self._report(row)
        self.events.append(
            AllocatedOrderChanged(
                root_id=row.root_id,
                order_id=row.order_id,
                progress=_progress(row, "change_forwarded", {"fields": list(fields)}),
                request_id=event.request_id,
                fields=list(fields),
                order=order,
            )
        )

    def settle_change(
        self, event: ChangeForwarded, row: OrderRow, *, applied: Sequence[str] = (), refused: Sequence[str] = ()
    ) -> None:
        self._report(row)
        code = "change_applied" if applied else "change_refused"
        self.events.append(
            ChangeSettled(
                root_id=row.root_id,
                order_id=row.order_id,
                progress=_progress(row, code, {"fields": list(applied or refused)}),
                request_id=event.request_id,
                settled_by="inventory",
                applied=list(applied),
                refused=list(refused),
                code=code,
            )
        )

    def _settle(
        self, family: Family, outcome: Outcome, request_id: UUID | None, gone: Mapping[tuple[UUID, LineKey], PartLine]
    ) -> None:
        """One event per order that lost units; what nobody had any more is told of the root."""
        if request_id is None:
            return
        by_order: dict[UUID, list[Taken]] = {}
        for taken in outcome.taken:
            by_order.setdefault(taken.order_id, []).append(taken)
        for order_id, lines in by_order.items():
            row = family.rows[order_id]
            settled = [_with_money(line, gone.get((order_id, line.key))) for line in lines]
            self._tell_settled(row, request_id, settled, lines[0].code)
        told = [_settled(line, cancelled=line.quantity) for line in outcome.discarded]
        told += [_settled(line, refused=line.quantity) for line in outcome.refused]
        if told:
            self._tell_settled(family.lock, request_id, told, told[0].code)

    def _tell_settled(self, row: OrderRow, request_id: UUID, lines: list[SettledLine], code: str) -> None:
        self._report(row)
        params = {"place": self.stopped_at.get(row.order_id, "")} if code == "cancelled_stopped" else {}
        self.events.append(
            CancellationSettled(
                root_id=row.root_id,
                order_id=row.order_id,
                progress=_progress(row, code, params),
                request_id=request_id,
                settled_by="inventory",
                lines=lines,
                parent_id=row.parent_id,
            )
        )

    def _report(self, row: OrderRow) -> OrderRow:
        row.step += 1
        self.changed[row.order_id] = row
        return row


async def on_in_band(inventory: Inventory, received: Sequence[Received[InBand]], work: UnitOfWork) -> None:
    """Settle, forward or take back, in the order in which it came under each root.

    **Errors**: RequestError for what cannot be (parked): units that were never there, a return of an order that is not here.
    """
    families = await open_families(work, {record.event.root_id for record in received})
    places, _ = await inventory.places.read(work, local_day(work.now))
    new = await requests.hear(
        work,
        [
            (record.event.request_id, "cancel" if isinstance(record.event, CancelForwarded) else "change", record.event.root_id)
            for record in received
            if isinstance(record.event, CancelForwarded | ChangeForwarded)
        ],
    )
    before = {root_id: family.pending for root_id, family in families.items()}
    desk = Desk(families, new, places.by_id)
    for record in received:
        desk.hear(record.event, record)
    await close(inventory, desk, before, work)


async def open_families(work: UnitOfWork, root_ids: Iterable[UUID]) -> dict[UUID, Family]:
    """Lock roots with all their orders, and read what is known of them."""
    locked = await orders.lock_families(work, set(root_ids))
    pending = await requests.find_pending(work, locked)
    bodies = await orders.get_documents(work, [row.order_id for rows in locked.values() for row in rows if row.units_left])
    return {
        root_id: Family(
            root_id,
            {row.order_id: row for row in rows},
            {row.order_id: document_of(bodies[row.order_id]) for row in rows if row.order_id in bodies},
            tuple(pending[root_id]),
        )
        for root_id, rows in locked.items()
    }


async def close(inventory: Inventory, desk: Desk, before: Mapping[UUID, Sequence[Pending]], work: UnitOfWork) -> None:
    """Write what the desk has collected: counts last, sorted; then tell it."""
    documents = {order_id: found for family in desk.families.values() for order_id, found in family.documents.items()}
    again = [row for row in desk.again.values() if row.state == "reserved"]
    pool = await _lock_pool(desk, again, work)
    for key, units in desk.given_back:
        pool[key].add(units)
    movements = await _take_back(inventory, desk, pool, work)
    short = _hold_again(again, pool)
    waiting = [row for order_id in desk.backorders if (row := desk.changed[order_id]).state == "backordered"]
    queue = [(row, _missing(row, pool)) for row in waiting] + [
        (row, short[row.order_id]) for row in again if row.order_id in short
    ]
    await finish_pool(inventory, pool, work)
    await stock.add_movements(work, movements)
    await _free_days(desk.freed_days, work)
    for row in again:
        row.step += 1
    await orders.add_children(
        work, [(row, body_of(documents.get(order_id, first))) for order_id, (row, first) in desk.children.items()]
    )
    rewritten = {order_id: row for order_id, row in desk.changed.items() if order_id not in desk.children}
    await orders.rewrite_orders(work, list(rewritten.values()))
    await orders.save_documents(
        work, {order_id: body_of(documents[order_id]) for order_id in rewritten if order_id in documents}
    )
    await orders.remove_documents(work, [order_id for order_id, row in desk.changed.items() if not row.units_left])
    await orders.remove_backorders(work, desk.backorders.values())
    await orders.add_backorders(work, queue)
    await orders.remove_stuck(work, desk.unstuck)
    await requests.save_pending(work, before, {root_id: family.pending for root_id, family in desk.families.items()})
    work.emit(desk.events)
    work.emit(backordered(row, documents[row.order_id].part, short[row.order_id]) for row in again if row.order_id in short)
    offered = [row for row in again if row.order_id not in short]
    work.emit(await offer_again(inventory, offered, work, documents=documents))


async def _lock_pool(desk: Desk, again: Sequence[OrderRow], work: UnitOfWork) -> dict[PoolKey, PoolCount]:
    keys = {key for key, _ in desk.given_back}
    keys |= {(sku_id, row.pool_id) for row in (*again, *desk.backorders.values()) for sku_id in row.skus}
    keys |= {(line.sku_id, place.pool_id) for record, place in desk.came_back for line in record.event.lines}
    return await stock.lock_pool_stock(work, keys) if keys else {}


async def _take_back(inventory: Inventory, desk: Desk, pool: Mapping[PoolKey, PoolCount], work: UnitOfWork) -> list[Movement]:
    """Take what came back off the allocations of its places, and believe what they say of it."""
    keys = {(line.sku_id, place.place_no) for record, place in desk.came_back for line in record.event.lines}
    if not keys:
        return []
    lost = {line.sku_id for record, _ in desk.came_back if record.event.stock_effect != "none" for line in record.event.lines}
    costs = await stock.read_costs(work, lost) if lost else {}
    currencies = await papers.read_currencies(work, lost) if lost else {}
    counts = await stock.lock_place_stock(work, keys)
    movements: list[Movement] = []
    for record, place in desk.came_back:
        event = record.event
        units = [ReturnedUnits(*line.key, line.quantity, event.stock_effect) for line in event.lines]
        movements += apply_stock_effect(
            units, counts, pool, costs, currencies, work, event_id=record.id, order_id=event.order_id, place=place
        )
    await stock.save_place_stock(work, counts)
    inventory.mark_levels(work, places=keys)
    return movements


def _hold_again(again: Sequence[OrderRow], pool: Mapping[PoolKey, PoolCount]) -> dict[UUID, list[Missing]]:
    """Orders that the pool has no units for any more wait from now on; what each of them lacks."""
    short = {}
    for row in sorted(again, key=lambda row: (row.priority, row.received_at, row.order_id)):
        outcome = hold_again(Demand(row.order_id, row.pool_id, row.wanted), pool)
        if isinstance(outcome, Backordered):
            row.state = "backordered"
            short[row.order_id] = outcome.short
    return short


def _missing(row: OrderRow, pool: Mapping[PoolKey, PoolCount]) -> list[Missing]:
    there = {sku_id: pool[sku_id, row.pool_id].promisable for sku_id in row.skus}
    return [Missing(sku_id, units, units - there[sku_id]) for sku_id, units in row.wanted.items() if units > there[sku_id]]


async def _free_days(days: Sequence[DayKey], work: UnitOfWork) -> None:
    if days:
        used = await stock.lock_place_days(work, set(days))
        await stock.save_place_days(work, {day: max(0, taken - days.count(day)) for day, taken in used.items()})


def _units(lines: Iterable[OriginQuantity]) -> dict[LineKey, int]:
    units: dict[LineKey, int] = {}
    for line in lines:
        key = LineKey(*line.key)
        units[key] = units.get(key, 0) + line.quantity
    return units


def _quantities(units: Mapping[LineKey, int]) -> list[OriginQuantity]:
    return [OriginQuantity(**key._asdict(), quantity=quantity) for key, quantity in units.items()]


def _settled(line: Taken | Refused, *, cancelled: int = 0, refused: int = 0) -> SettledLine:
    return SettledLine(**line.key._asdict(), cancelled=cancelled, refused=refused, code=line.code)


def _with_money(taken: Taken, gone: PartLine | None) -> SettledLine:
    settled = _settled(taken, cancelled=taken.quantity)
    if gone is None or gone.quantity != taken.quantity:
        return settled
    return settled.model_copy(update=gone.money)


def _progress(row: OrderRow, code: str, params: dict[str, Any]) -> Progress:
    return Progress(step=row.step, stage=row.stage, code=code, params=params, attempt=row.attempt)
