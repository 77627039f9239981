"""order.routed: pin held orders to the first plan that fits; offer again what no plan fits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from uuid import UUID

from contracts import OrderRouted
from eventing import NewTask, Received, Task, UnitOfWork
from inventory.domain.allocation import REOFFERS, Plan, Routed, choose_in_turn, is_stuck
from inventory.domain.counts import Change, PlaceCount
from inventory.domain.offers import Places
from inventory.handlers.context import Inventory, allocated, document_of, local_day, offer_again, stuck
from inventory.store import orders, stock
from inventory.store.orders import OrderRow
from inventory.store.stock import Movement, PlaceKey

ROUNDS = 3
"""How often an order that lost its place to another worker looks for the next one in the same transaction."""
STUCK = "routing_stuck"
RETRY_STUCK = "retry_stuck"


@dataclass(slots=True)
class Candidate:
    """A held order with the plans for its current attempt."""

    row: OrderRow
    received: Received[OrderRouted]
    routed: Routed


@dataclass(slots=True)
class Shelf:
    """Rows locked so far, and what has been taken from them in memory."""

    counts: dict[PlaceKey, PlaceCount] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)
    taken: set[PlaceKey] = field(default_factory=set)

    def take(self, wanted: Mapping[str, int], place_no: int) -> None:
        for sku_id, quantity in wanted.items():
            self.counts[sku_id, place_no].allocate(quantity)
            self.taken.add((sku_id, place_no))
        self.used[place_no] += 1


async def on_order_routed(inventory: Inventory, received: Sequence[Received[OrderRouted]], work: UnitOfWork) -> None:
    """Allocate held orders: reserved → allocated at one place, capacity taken, unit costs stamped.

    A plan for another attempt than the current one is late and means nothing.
    """
    ids = {record.event.order_id for record in received} | {record.event.root_id for record in received}
    locked = await orders.lock_orders(work, ids)
    candidates = candidates_of(received, locked)
    if not candidates:
        return
    day = local_day(work.now)
    places, used = await inventory.places.read(work, day)
    shelf = Shelf()
    chosen, raced = await choose(list(candidates.values()), shelf, places, used, day, work)
    again, given_up = give_back(candidates, chosen, raced)
    costs = await stock.read_costs(work, {sku_id for order_id in chosen for sku_id in candidates[order_id].routed.wanted})
    bodies = await orders.get_documents(work, [*chosen, *(row.order_id for row in given_up)])
    documents = {order_id: document_of(body) for order_id, body in bodies.items()}
    events, movements = [], []
    for order_id, index in chosen.items():
        candidate = candidates[order_id]
        plan, row = candidate.routed.plans[index], candidate.row
        row.state, row.place_no, row.step = "allocated", plan.place_no, row.step + 1
        event = allocated(
            row,
            documents[order_id],
            places.by_no[plan.place_no],
            costs,
            plan=plan,
            number=index + 1,
            of=len(candidate.routed.plans),
            day=day,
        )
        events.append(event)
        movements += [
            Movement(
                line.origin_order_id,
                candidate.received.id,
                line.origin_line,
                "allocated",
                line.sku_id,
                plan.place_no,
                Change(allocated=line.quantity),
            )
            for line in event.part.lines
        ]
    await stock.save_place_stock(work, {key: shelf.counts[key] for key in shelf.taken})
    await stock.save_place_days(work, shelf.used, day)
    await stock.add_movements(work, movements)
    await orders.save_orders(work, [candidate.row for candidate in candidates.values()])
    await orders.add_stuck(work, [row.order_id for row in given_up], code=STUCK)
    inventory.mark_levels(work, places=shelf.taken)
    work.add_tasks(retries(given_up, inventory, work))
    work.emit(events)
    work.emit(await offer_again(inventory, again, work))
    work.emit(stuck(row, documents[row.order_id].part, STUCK) for row in given_up)


async def on_retry_stuck(inventory: Inventory, tasks: Sequence[Task], work: UnitOfWork) -> None:
    """Offer stuck orders again by themselves: capacity returns with the day, stock with receipts."""
    await release_stuck(inventory, [UUID(task.key) for task in tasks], work, reoffers=REOFFERS)


async def release_stuck(
    inventory: Inventory, order_ids: Sequence[UUID], work: UnitOfWork, *, reoffers: int = 0
) -> list[OrderRow]:
    """Offer stuck orders to routing again; return those that were stuck. `reoffers` counts as if they had been made."""
    roots = await orders.find_roots(work, order_ids)
    locked = await orders.lock_orders(work, {*order_ids, *roots})
    rows = [locked[order_id] for order_id in order_ids if order_id in locked and locked[order_id].state == "stuck"]
    for row in rows:
        row.state, row.step, row.attempt, row.reoffers = "reserved", row.step + 1, row.attempt + 1, reoffers
    await orders.save_orders(work, rows)
    await orders.remove_stuck(work, [row.order_id for row in rows])
    work.emit(await offer_again(inventory, rows, work))
    return rows


def candidates_of(received: Sequence[Received[OrderRouted]], locked: Mapping[UUID, OrderRow]) -> dict[UUID, Candidate]:
    candidates: dict[UUID, Candidate] = {}
    for record in received:
        event = record.event
        row = locked.get(event.order_id)
        if row is None or row.state != "reserved" or row.attempt != event.attempt or event.order_id in candidates:
            continue
        routed = Routed(event.order_id, row.wanted, [Plan(*plan) for plan in event.plans])
        candidates[event.order_id] = Candidate(row, record, routed)
    return candidates


async def choose(
    candidates: Sequence[Candidate], shelf: Shelf, places: Places, used: Mapping[int, int], day: date, work: UnitOfWork
) -> tuple[dict[UUID, int], set[UUID]]:
    """Find each order's plan, and take it from rows that are locked. Return plan by order, and the orders that lost a race.

    A look without locks says which rows to lock, so that only those are locked that will be used, sorted. Whoever then finds
    them used up by another worker looks again; as that worker's rows are sorted apart from ours by now, later rounds only
    take locks that nobody holds.
    """
    chosen: dict[UUID, int] = {}
    left = [candidate.routed for candidate in candidates]
    for number in range(ROUNDS):
        hopeful = await look(left, shelf, places, used, work)
        left = [routed for routed in left if routed.order_id in hopeful]
        if not left:
            break
        await lock(left, hopeful, shelf, day, work, skip_locked=number > 0)
        free = {key: count.available for key, count in shelf.counts.items()}
        capacity = {place_no: places.by_no[place_no].daily_capacity - taken for place_no, taken in shelf.used.items()}
        wanted = {routed.order_id: routed for routed in left}
        for choice in choose_in_turn(left, free, capacity):
            routed = wanted.pop(choice.order_id)
            shelf.take(routed.wanted, routed.plans[choice.plan].place_no)
            chosen[choice.order_id] = choice.plan
        left = list(wanted.values())
    return chosen, {routed.order_id for routed in left}


async def look(
    wanted: Sequence[Routed], shelf: Shelf, places: Places, used: Mapping[int, int], work: UnitOfWork
) -> dict[UUID, int]:
    """Plan by order as it would be taken now; best plans first, and only where those do not fit all others."""
    spent = {**used, **shelf.used}
    capacity = {place_no: place.daily_capacity - spent.get(place_no, 0) for place_no, place in places.by_no.items()}
    free: dict[PlaceKey, int] = {}
    found: dict[UUID, int] = {}
    for depth in (1, None):
        tried = [routed._replace(plans=routed.plans[:depth]) for routed in wanted if routed.order_id not in found]
        keys = {(sku_id, plan.place_no) for routed in tried for plan in routed.plans for sku_id in routed.wanted}
        if unread := keys - free.keys():
            for key, units in (await stock.read_place_free(work, unread)).items():
                free[key] = shelf.counts[key].available if key in shelf.counts else units
        found |= {choice.order_id: choice.plan for choice in choose_in_turn(tried, free, capacity)}
        if len(found) == len(wanted):
            break
    return found


async def lock(
    wanted: Iterable[Routed], hopeful: Mapping[UUID, int], shelf: Shelf, day: date, work: UnitOfWork, *, skip_locked: bool
) -> None:
    keys: set[PlaceKey] = set()
    place_nos: set[int] = set()
    for routed in wanted:
        place_no = routed.plans[hopeful[routed.order_id]].place_no
        place_nos.add(place_no)
        keys |= {(sku_id, place_no) for sku_id in routed.wanted}
    if keys := keys - shelf.counts.keys():
        shelf.counts |= await stock.lock_place_stock(work, keys, skip_locked=skip_locked)
    if place_nos := place_nos - shelf.used.keys():
        shelf.used |= await stock.lock_place_days(work, place_nos, day, skip_locked=skip_locked)


def give_back(
    candidates: Mapping[UUID, Candidate], chosen: Mapping[UUID, int], raced: set[UUID]
) -> tuple[list[OrderRow], list[OrderRow]]:
    """Orders to offer again, and orders for people. Losing a race is no reason to give up on an order, so it is not counted."""
    again, given_up = [], []
    for order_id, candidate in candidates.items():
        if order_id in chosen:
            continue
        row = candidate.row
        row.step += 1
        if order_id not in raced and is_stuck(row.reoffers):
            row.state = "stuck"
            given_up.append(row)
            continue
        row.attempt += 1
        row.reoffers += 0 if order_id in raced else 1
        again.append(row)
    return again, given_up


def retries(given_up: Iterable[OrderRow], inventory: Inventory, work: UnitOfWork) -> list[NewTask]:
    due_at = work.now + timedelta(seconds=inventory.settings.stuck_retry_seconds)
    return [NewTask(RETRY_STUCK, str(row.order_id), due_at) for row in given_up]
