"""order.routed: pin held orders to the first plan that fits; offer again what no plan fits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from contracts import OrderAudited, OrderRouted, StockAllocated
from eventing import NewTask, Received, UnitOfWork
from inventory.domain.allocation import Choice, Parcel, Plan, Routed, choose_in_turn, is_last_try
from inventory.domain.cancelling import child_id
from inventory.domain.counts import Change, PlaceCount
from inventory.domain.offers import Places
from inventory.domain.splitting import share
from inventory.handlers.context import (
    Inventory,
    allocated,
    body_of,
    child_of,
    child_row,
    divide,
    get_documents,
    local_day,
    local_time,
    offer_again,
    stuck,
    units_by_line,
    units_by_sku,
)
from inventory.handlers.redriving import RETRY_STUCK
from inventory.store import orders, stock
from inventory.store.orders import OrderRow
from inventory.store.stock import DayKey, Movement, PlaceKey

ROUNDS = 3
"""How often an order that lost its place to another worker looks for the next one in the same transaction."""
STUCK = "routing_stuck"


class PlanError(Exception):
    """Parcels that are not the order: routing made a mistake. The record is parked."""


@dataclass(slots=True)
class Candidate:
    """A held order with the plans for its current attempt."""

    row: OrderRow
    received: Received[OrderRouted]
    routed: Routed


@dataclass(slots=True)
class Shelf:
    """Rows locked so far, and what has been taken from them in memory."""

    places: Places
    used: Mapping[DayKey, int]
    """Orders taken per place and day, as read without locks."""
    now: datetime
    """Local time."""
    counts: dict[PlaceKey, PlaceCount] = field(default_factory=dict)
    days: dict[DayKey, int] = field(default_factory=dict)
    taken: set[PlaceKey] = field(default_factory=set)

    def day_of(self, place_no: int) -> DayKey:
        """The day whose capacity an order takes there; a place that never opens has none left on any."""
        return place_no, self.places.by_no[place_no].ships_on(self.now) or self.now.date()

    def capacity_left(self) -> dict[int, int]:
        """By place: of locked rows what they say, else what was read."""
        return self.places.capacity_left(self.now, {**self.used, **self.days})

    def take(self, choice: Choice) -> None:
        for parcel in choice.parcels:
            place_no = parcel.plan.place_no
            for sku_id, quantity in parcel.units.items():
                self.counts[sku_id, place_no].allocate(quantity)
                self.taken.add((sku_id, place_no))
            self.days[self.day_of(place_no)] += 1


async def on_order_routed(inventory: Inventory, received: Sequence[Received[OrderRouted]], work: UnitOfWork) -> None:
    """Allocate held orders: reserved → allocated at one place, capacity taken, unit costs stamped; or split by place.

    A plan for another attempt than the current one is late and means nothing.
    """
    ids = {record.event.order_id for record in received} | {record.event.root_id for record in received}
    locked = await orders.lock_orders(work, ids)
    candidates = candidates_of(received, locked)
    if not candidates:
        return
    day = local_day(work.now)
    places, used = await inventory.places.read(work, day)
    shelf = Shelf(places, used, local_time(work.now))
    chosen, raced = await choose(list(candidates.values()), shelf, work)
    again, given_up = give_back(candidates, chosen, raced)
    costs = await stock.read_costs(work, {sku_id for order_id in chosen for sku_id in candidates[order_id].routed.wanted})
    documents = await get_documents(work, [*chosen, *(row.order_id for row in given_up)])
    events: list[StockAllocated] = []
    movements: list[Movement] = []
    children: list[tuple[OrderRow, OrderAudited]] = []
    split: list[OrderRow] = []
    for order_id, choice in chosen.items():
        candidate = candidates[order_id]
        row, document = candidate.row, documents[order_id]
        pinned = [(row, document, choice.parcels[0], candidate.received.id)]
        replaces: list[UUID] = []
        if len(choice.parcels) > 1:
            made = split_by_place(row, document, choice.parcels)
            children += [(child, of_child) for child, of_child, _ in made]
            # A line may be shared by several parcels: each movement is caused by its own order.
            pinned = [(child, of_child, parcel, child.order_id) for child, of_child, parcel in made]
            split.append(row)
            replaces = [order_id]
        number, of = choice.plan + 1, max(choice.plan + 1, len(candidate.routed.plans) + len(candidate.routed.combined))
        for pin, block, parcel, cause in pinned:
            pin.state, pin.place_no, pin.step = "allocated", parcel.plan.place_no, pin.step + 1
            pin.capacity_on = shelf.day_of(parcel.plan.place_no)[1]
            event = allocated(
                pin,
                block,
                places.by_no[parcel.plan.place_no],
                costs,
                plan=parcel.plan,
                number=number,
                of=of,
                day=day,
                replaces=replaces,
            )
            events.append(event)
            movements += [
                Movement(
                    line.origin_order_id,
                    cause,
                    line.origin_line,
                    "allocated",
                    line.sku_id,
                    parcel.plan.place_no,
                    Change(allocated=line.quantity),
                )
                for line in event.part.lines
            ]
    await stock.save_place_stock(work, {key: shelf.counts[key] for key in shelf.taken})
    await stock.save_place_days(work, shelf.days)
    await stock.add_movements(work, movements)
    await orders.save_orders(work, [candidate.row for candidate in candidates.values()])
    await orders.rewrite_orders(work, [*split, *(row for row in again if row.order_id in forced_of(candidates))])
    await orders.add_children(work, [(row, body_of(document)) for row, document in children])
    await orders.remove_documents(work, [row.order_id for row in split])
    await orders.add_stuck(work, [row.order_id for row in given_up], code=STUCK)
    inventory.mark_levels(work, places=shelf.taken)
    work.add_tasks(retries(given_up, inventory, work))
    work.emit(events)
    work.emit(await offer_again(inventory, again, work))
    work.emit(stuck(row, documents[row.order_id].part, STUCK) for row in given_up)


def split_by_place(
    row: OrderRow, document: OrderAudited, parcels: Sequence[Parcel]
) -> list[tuple[OrderRow, OrderAudited, Parcel]]:
    """Make one order per parcel of an order; the first has the freight."""
    made: list[tuple[OrderRow, OrderAudited, Parcel]] = []
    rest = document.part.lines
    for number, first in enumerate(
        share(list(units_by_line(rest).items()), [parcel.units for parcel in parcels]), row.children + 1
    ):
        lines, rest = divide(rest, first)
        order_id = child_id(row.order_id, number)
        child = child_row(row, order_id, "allocated", units_by_sku(lines), attempt=1)
        freight = number == row.children + 1
        made.append((child, child_of(row, order_id, document, lines, freight=freight), parcels[len(made)]))
    row.state, row.units_left, row.children = "split", 0, row.children + len(made)
    return made


def candidates_of(received: Sequence[Received[OrderRouted]], locked: Mapping[UUID, OrderRow]) -> dict[UUID, Candidate]:
    candidates: dict[UUID, Candidate] = {}
    for record in received:
        event = record.event
        row = locked.get(event.order_id)
        if row is None or row.state != "reserved" or row.attempt != event.attempt or event.order_id in candidates:
            continue
        forced = row.forced_place_no
        routed = Routed(
            event.order_id,
            row.wanted,
            [Plan(*plan) for plan in event.plans if forced is None or plan[0] == forced],
            combined_of(event, row) if event.combined and forced is None else (),
            splits_freely=is_last_try(row.reoffers),
            forced=forced is not None,
        )
        candidates[event.order_id] = Candidate(row, record, routed)
    return candidates


def combined_of(event: OrderRouted, row: OrderRow) -> list[list[Parcel]]:
    """Plans of several parcels. **Errors**: PlanError for one that is not exactly the order."""
    plans = []
    for offers in event.combined:
        parcels = [
            Parcel(Plan(*offered[:4]), {sku_id: count for sku_id, count in zip(event.skus, offered[4], strict=True) if count})
            for offered in offers
        ]
        together: dict[str, int] = {}
        for parcel in parcels:
            for sku_id, count in parcel.units.items():
                together[sku_id] = together.get(sku_id, 0) + count
        if together != row.wanted or len({parcel.plan.place_no for parcel in parcels}) < len(parcels):
            raise PlanError(f"a plan of {len(parcels)} parcels is not what order {row.order_id} wants")
        plans.append(parcels)
    return plans


def forced_of(candidates: Mapping[UUID, Candidate]) -> set[UUID]:
    return {order_id for order_id, candidate in candidates.items() if candidate.routed.forced}


async def choose(candidates: Sequence[Candidate], shelf: Shelf, work: UnitOfWork) -> tuple[dict[UUID, Choice], set[UUID]]:
    """Find each order's plan, and take it from rows that are locked. Return choice by order, and the orders that lost a race.

    A look without locks says which rows to lock, so that only those are locked that will be used, sorted. Whoever then finds
    them used up by another worker looks again; as that worker's rows are sorted apart from ours by now, later rounds only
    take locks that nobody holds.
    """
    chosen: dict[UUID, Choice] = {}
    left = [candidate.routed for candidate in candidates]
    for number in range(ROUNDS):
        hopeful = await look(left, shelf, work)
        left = [routed for routed in left if routed.order_id in hopeful]
        if not left:
            break
        await lock(hopeful.values(), shelf, work, skip_locked=number > 0)
        free = {key: count.available for key, count in shelf.counts.items()}
        locked = {place_no for place_no, _ in shelf.days}
        capacity = {place_no: units for place_no, units in shelf.capacity_left().items() if place_no in locked}
        wanted = {routed.order_id: routed for routed in left}
        for choice in choose_in_turn(left, free, capacity):
            del wanted[choice.order_id]
            shelf.take(choice)
            chosen[choice.order_id] = choice
        left = list(wanted.values())
    return chosen, {routed.order_id for routed in left}


async def look(wanted: Sequence[Routed], shelf: Shelf, work: UnitOfWork) -> dict[UUID, Choice]:
    """Choice by order as it would be made now; best plans first, and only where those do not fit all others."""
    capacity = shelf.capacity_left()
    free: dict[PlaceKey, int] = {}
    found: dict[UUID, Choice] = {}
    for depth in (1, None):
        tried = [
            routed if depth is None else routed._replace(plans=routed.plans[:depth], combined=())
            for routed in wanted
            if routed.order_id not in found
        ]
        keys = {(sku_id, plan.place_no) for routed in tried for plan in routed.plans for sku_id in routed.wanted}
        for routed in tried:
            if routed.combined:
                places = {parcel.plan.place_no for parcels in routed.combined for parcel in parcels}
                keys |= {(sku_id, place_no) for place_no in places for sku_id in routed.wanted}
        if unread := keys - free.keys():
            for key, units in (await stock.read_place_free(work, unread)).items():
                free[key] = shelf.counts[key].available if key in shelf.counts else units
        found |= {choice.order_id: choice for choice in choose_in_turn(tried, free, capacity)}
        if len(found) == len(wanted):
            break
    return found


async def lock(hopeful: Iterable[Choice], shelf: Shelf, work: UnitOfWork, *, skip_locked: bool) -> None:
    keys: set[PlaceKey] = set()
    days: set[DayKey] = set()
    for choice in hopeful:
        for parcel in choice.parcels:
            days.add(shelf.day_of(parcel.plan.place_no))
            keys |= {(sku_id, parcel.plan.place_no) for sku_id in parcel.units}
    if keys := keys - shelf.counts.keys():
        shelf.counts |= await stock.lock_place_stock(work, keys, skip_locked=skip_locked)
    if days := days - shelf.days.keys():
        shelf.days |= await stock.lock_place_days(work, days, skip_locked=skip_locked)


def give_back(
    candidates: Mapping[UUID, Candidate], chosen: Mapping[UUID, Choice], raced: set[UUID]
) -> tuple[list[OrderRow], list[OrderRow]]:
    """Orders to offer again, and orders for people. Losing a race is no reason to give up on an order, so it is not counted;
    a place that a person chose is let go with the attempt that failed there."""
    again, given_up = [], []
    for order_id, candidate in candidates.items():
        if order_id in chosen:
            continue
        row = candidate.row
        row.step += 1
        forced, row.forced_place_no = row.forced_place_no is not None, None
        if order_id not in raced and not forced and is_last_try(row.reoffers):
            row.state = "stuck"
            given_up.append(row)
            continue
        row.attempt += 1
        row.reoffers += 0 if order_id in raced or forced else 1
        again.append(row)
    return again, given_up


def retries(given_up: Iterable[OrderRow], inventory: Inventory, work: UnitOfWork) -> list[NewTask]:
    due_at = work.now + timedelta(seconds=inventory.settings.stuck_retry_seconds)
    return [NewTask(RETRY_STUCK, str(row.order_id), due_at) for row in given_up]
