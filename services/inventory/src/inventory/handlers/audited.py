"""order.audited: hold the stock of cleared orders; book what has left the shop already."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from contracts import OrderAudited, StockAllocated, StockBackordered, StockReserved
from eventing import Received, UnitOfWork, Waiting
from inventory.domain.cancelling import child_id
from inventory.domain.counts import PoolCount
from inventory.domain.offers import Places
from inventory.domain.reservation import Backordered, Demand, Missing, Outcome, Split, reserve_in_turn
from inventory.domain.splitting import share
from inventory.handlers.booking import shrink_task
from inventory.handlers.context import (
    HANDED_OVER,
    PICK_UP,
    Inventory,
    backordered,
    body_of,
    booked,
    child_of,
    child_row,
    divide,
    local_day,
    local_time,
    reserved,
    units_by_line,
    units_by_sku,
)
from inventory.store import orders, stock
from inventory.store.orders import NORMAL_PRIORITY, NewOrder, OrderRow
from inventory.store.policies import SHORTAGE, shop_key
from inventory.store.stock import Movement, PoolKey, Supply

ITEM, LOCATION = "item", "location"
"""Kinds of facts that an order may have to wait for; inventory owns both, so it is rare."""


class NoPlaceError(Exception):
    """An order that is bound to a place names none: ingest let something through."""


@dataclass(slots=True)
class Arrival:
    """One cleared order in inventory's own terms."""

    received: Received[OrderAudited]
    wanted: dict[str, int]
    place_id: str | None
    """The place it is bound to: picked up or handed over there."""
    row: OrderRow | None = None

    @property
    def event(self) -> OrderAudited:
        return self.received.event

    @property
    def is_handed_over(self) -> bool:
        return self.event.order.fulfilment.kind == HANDED_OVER


async def on_order_audited(
    inventory: Inventory, received: Sequence[Received[OrderAudited]], work: UnitOfWork
) -> Sequence[Waiting]:
    """Hold stock for audited orders, first come first served: every line of an order or none.

    A shortage is an outcome, not an error. An order waits only for a SKU or place that the catalogue does not have yet.
    """
    arrivals = [arrival_of(record) for record in received]
    places, used = await inventory.places.read(work, local_day(work.now))
    supply = await stock.read_supply(work, {sku_id for arrival in arrivals for sku_id in arrival.wanted})
    waiting: list[Waiting] = []
    if any(unknown_fact(arrival, supply, places) for arrival in arrivals):
        places, supply, waiting = await look_again(inventory, arrivals, work)
        lacking = {record.received for record in waiting}
        arrivals = [arrival for arrival in arrivals if arrival.received not in lacking]
    new = [_new_order(arrival, places, inventory) for arrival in reversed(arrivals)]
    rows = {order.order_id: order for order in new}  # Audit may clear an order twice: its first clearing counts.
    arrivals = _take_new(arrivals, rows, await orders.add_orders(work, rows.values()))
    if not arrivals:
        return waiting
    keys = {(sku_id, arrival.row.pool_id) for arrival in arrivals if arrival.row for sku_id in arrival.wanted}
    await stock.add_pool_rows(work, keys - supply.pooled)
    pool = await stock.lock_pool_stock(work, keys)  # From here others wait: no more preparing.
    facts = await book_handed_over(inventory, arrivals, pool, places, work)
    outcomes, children = await hold(inventory, arrivals, pool, work)
    inventory.mark_levels(work, skus=[sku_id for sku_id, _ in keys])
    left = places.capacity_left(local_time(work.now), used)
    for arrival in arrivals:
        if (row := arrival.row) is None:
            continue
        if arrival.is_handed_over:
            work.emit([facts[row.order_id]])
            continue
        outcome = outcomes[row.order_id]
        if isinstance(outcome, Split):
            work.emit(_told_split(children[row.order_id], outcome, places, supply, left, parent=row))
        elif isinstance(outcome, Backordered):
            work.emit([backordered(row, arrival.event.part, outcome.short)])
        else:
            work.emit([reserved(row, arrival.event, places, supply, left)])
    return waiting


Child = tuple[OrderRow, OrderAudited]


async def hold(
    inventory: Inventory, arrivals: Sequence[Arrival], pool: dict[PoolKey, PoolCount], work: UnitOfWork
) -> tuple[dict[UUID, Outcome], dict[UUID, tuple[Child, Child]]]:
    """Reserve in turn against the locked pool rows, and write what came of it; the children of orders split by shortage."""
    policy = inventory.places.policy(SHORTAGE) or {}
    held = {arrival.row.order_id: (arrival.row, arrival) for arrival in arrivals if arrival.row and not arrival.is_handed_over}
    demands = [
        Demand(order_id, row.pool_id, row.wanted, splits=bool(policy) and _splits(arrival, policy))
        for order_id, (row, arrival) in held.items()
    ]
    outcomes = {outcome.order_id: outcome for outcome in reserve_in_turn(demands, pool)}
    short: list[tuple[OrderRow, Sequence[Missing]]] = []
    children: dict[UUID, tuple[Child, Child]] = {}
    for order_id, outcome in outcomes.items():
        row, arrival = held[order_id]
        if isinstance(outcome, Backordered):
            row.state = "backordered"
            short.append((row, outcome.short))
        elif isinstance(outcome, Split):
            children[order_id] = split_by_shortage(row, arrival.event, outcome)
            short.append((children[order_id][1][0], rest_of(outcome)))
    await stock.save_pool_stock(work, _touched(arrivals, outcomes, pool))
    await orders.save_orders(work, [row for row, _ in short if row.order_id in outcomes])
    await orders.rewrite_orders(work, [held[order_id][0] for order_id in children])
    await orders.add_children(work, [(row, body_of(document)) for pair in children.values() for row, document in pair])
    await orders.remove_documents(work, children)
    await orders.add_backorders(work, short)
    return outcomes, children


def split_by_shortage(row: OrderRow, document: OrderAudited, outcome: Split) -> tuple[Child, Child]:
    """Make two orders of one: what is there, with the freight, and what must wait."""
    waits = {line.sku_id: line.missing for line in outcome.short}
    there, _ = share(list(units_by_line(document.part.lines).items()), [outcome.held, waits])
    first, rest = divide(document.part.lines, there)
    children = []
    for number, (state, lines) in enumerate((("reserved", first), ("backordered", rest)), 1):
        order_id = child_id(row.order_id, row.children + number)
        child = child_row(row, order_id, state, units_by_sku(lines), step=1, attempt=1)
        children.append((child, child_of(row, order_id, document, lines, freight=number == 1)))
    # Its children replace it in the first that is told of them: there is no step of its own for the book to see.
    row.state, row.units_left, row.children, row.step = "split", 0, row.children + 2, 0
    return children[0], children[1]


def rest_of(outcome: Split) -> list[Missing]:
    """What the part that waits lacks: all of it."""
    return [Missing(line.sku_id, line.missing, line.missing) for line in outcome.short]


def _told_split(
    children: tuple[Child, Child],
    outcome: Split,
    places: Places,
    supply: Supply,
    capacity_left: Mapping[int, int],
    *,
    parent: OrderRow,
) -> tuple[StockReserved, StockBackordered]:
    (held, document), (waits, rest) = children
    replaces = [parent.order_id]
    return (
        reserved(held, document, places, supply, capacity_left, code="split_by_shortage", replaces=replaces),
        backordered(waits, rest.part, rest_of(outcome), replaces=replaces),
    )


def _splits(arrival: Arrival, policy: Mapping[str, str]) -> bool:
    """Whether the shop sends what is there first. Whoever collects an order comes once."""
    order = arrival.event.order
    return order.fulfilment.kind != PICK_UP and policy.get(shop_key(order.channel, order.shop_id)) == "split"


async def book_handed_over(
    inventory: Inventory, arrivals: Sequence[Arrival], pool: dict[PoolKey, PoolCount], places: Places, work: UnitOfWork
) -> dict[UUID, StockAllocated]:
    """Book as facts what buyers carried out of a place: whatever the books say, the goods are gone."""
    facts = [(arrival, arrival.row) for arrival in arrivals if arrival.is_handed_over and arrival.row]
    if not facts:
        return {}
    keys = {(sku_id, row.place_no) for _, row in facts if row.place_no is not None for sku_id in row.skus}
    await stock.add_place_rows(work, keys)
    counts = await stock.lock_place_stock(work, keys)
    costs = await stock.read_costs(work, {sku_id for sku_id, _ in keys})
    movements, events = [], {}
    for arrival, row in facts:
        place = places.by_no[row.place_no or 0]
        for line in arrival.event.part.lines:
            key = (line.sku_id, place.place_no)
            change = counts[key].remove(line.quantity)
            pool[line.sku_id, row.pool_id].remove(line.quantity)
            if change.short or pool[line.sku_id, row.pool_id].overpromised:
                work.add_tasks([shrink_task(key, row.pool_id, work)])
            effect = (line.origin_order_id, arrival.received.id, line.origin_line)
            movements.append(
                Movement(*effect, "handed_over", line.sku_id, place.place_no, change, unit_cost_minor=costs[line.sku_id])
            )
        events[row.order_id] = booked(row, arrival.event, place, costs)
    await stock.add_movements(work, movements)
    await stock.save_place_stock(work, counts)
    await orders.save_orders(work, [row for _, row in facts])
    await orders.remove_documents(work, list(events))
    inventory.mark_levels(work, places=keys)
    return events


async def look_again(
    inventory: Inventory, arrivals: Iterable[Arrival], work: UnitOfWork
) -> tuple[Places, Supply, list[Waiting]]:
    """Look once more, now that nobody can bring a fact unseen, and name what is still missing."""
    arrivals = list(arrivals)
    await work.expect(ITEM, {sku_id for arrival in arrivals for sku_id in arrival.wanted})
    await work.expect(LOCATION, {arrival.place_id for arrival in arrivals if arrival.place_id})
    places, _ = await inventory.places.read(work, local_day(work.now))
    supply = await stock.read_supply(work, {sku_id for arrival in arrivals for sku_id in arrival.wanted})
    waiting = [
        Waiting(arrival.received, kind=fact[0], key=fact[1])
        for arrival in arrivals
        if (fact := unknown_fact(arrival, supply, places))
    ]
    return places, supply, waiting


def arrival_of(received: Received[OrderAudited]) -> Arrival:
    fulfilment = received.event.order.fulfilment
    bound = fulfilment.kind in (PICK_UP, HANDED_OVER)
    if bound and not fulfilment.place_id:
        raise NoPlaceError(f"a {fulfilment.kind} order names no place")
    return Arrival(received, units_by_sku(received.event.part.lines), fulfilment.place_id if bound else None)


def unknown_fact(arrival: Arrival, supply: Supply, places: Places) -> tuple[str, str] | None:
    """The first SKU or place that the catalogue does not have."""
    for sku_id in arrival.wanted:
        if sku_id not in supply.known:
            return ITEM, sku_id
    if arrival.place_id is not None and arrival.place_id not in places.by_id:
        return LOCATION, arrival.place_id
    return None


def _new_order(arrival: Arrival, places: Places, inventory: Inventory) -> NewOrder:
    event, default_pool = arrival.event, inventory.settings.default_pool
    return NewOrder(
        order_id=event.order_id,
        root_id=event.root_id,
        pool_id=places.by_id[arrival.place_id].pool_id
        if arrival.place_id is not None
        else inventory.places.pool_of(event.order.channel, event.order.shop_id, default_pool),
        place_no=places.by_id[arrival.place_id].place_no if arrival.place_id and arrival.is_handed_over else None,
        kind=event.order.fulfilment.kind,
        received_at=event.order.received_at,
        wanted=arrival.wanted,
        body=arrival.received.raw,
    )


def _take_new(arrivals: Sequence[Arrival], new: dict[UUID, NewOrder], added: set[UUID]) -> list[Arrival]:
    """Arrivals whose order was not there before, each with its row; an order that audit cleared twice counts once."""
    taken = []
    for arrival in arrivals:
        order_id = arrival.event.order_id
        if order_id not in added:
            continue
        added.discard(order_id)
        order = new[order_id]
        handed_over = order.place_no is not None
        arrival.row = OrderRow(
            order_id=order_id,
            root_id=order.root_id,
            step=1,
            state="closed" if handed_over else "reserved",
            attempt=0 if handed_over else 1,
            reoffers=0,
            pool_id=order.pool_id,
            place_no=order.place_no,
            priority=NORMAL_PRIORITY,
            received_at=order.received_at,
            skus=list(arrival.wanted),
            quantities=list(arrival.wanted.values()),
            kind=order.kind,
            units_left=0 if handed_over else sum(arrival.wanted.values()),
        )
        taken.append(arrival)
    return taken


def _touched(
    arrivals: Iterable[Arrival], outcomes: Mapping[UUID, Outcome], pool: dict[PoolKey, PoolCount]
) -> dict[PoolKey, PoolCount]:
    """Pool rows that changed: those of orders that were held or booked."""
    changed = {
        (sku_id, arrival.row.pool_id)
        for arrival in arrivals
        if arrival.row and (arrival.is_handed_over or not isinstance(outcomes[arrival.row.order_id], Backordered))
        for sku_id in arrival.wanted
    }
    return {key: pool[key] for key in changed}
