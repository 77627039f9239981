"""Booking what is not an order's: one document changes counts, wakes who waits, tells the books; all in one transaction."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from contracts import StockAdjusted
from contracts.spine import AdjustedLine
from eventing import NewTask, Task, UnitOfWork
from inventory.domain.costs import StockValue
from inventory.domain.counts import Change, PlaceCount, PoolCount
from inventory.domain.documents import Act, Booked, Entry, book_in_turn, with_later
from inventory.domain.offers import Place
from inventory.handlers.context import Inventory, local_day
from inventory.handlers.keeping_back import safety_tasks
from inventory.handlers.redriving import redrive_task
from inventory.handlers.waking import wake_task
from inventory.store import documents, orders, stock
from inventory.store.documents import Since
from inventory.store.stock import Movement, PlaceKey, PoolKey

SHRINK = "shrink"
DISPROVE = "disprove_short"
MISSING, NOTHING_LEFT, DAMAGED = "missing", "nothing_left", "damaged"
"""What a place says of units that it gives back, beside "none"; other words change nothing."""
MOST_LINES = 1_000
MOST_UNITS_A_LINE = 1_000_000
"""What one `stock.adjusted` may hold."""


class Paper(NamedTuple):
    """The document that a booking belongs to."""

    document_id: UUID
    kind: str
    """In the words of `stock.adjusted`."""
    reference: str
    movement_kind: str
    first_line: int = 0
    """Added to the entries' numbers, where one document is booked in two goes."""


class ReturnedUnits(NamedTuple):
    """Units of one line that a place gives back, and what it says of them."""

    origin_order_id: UUID
    origin_line: int
    sku_id: str
    quantity: int
    effect: str


async def book(
    inventory: Inventory,
    entries: Sequence[Entry],
    work: UnitOfWork,
    *,
    paper: Paper,
    place: Place,
    incoming: Mapping[PlaceKey, int] | None = None,
    since: Since | None = None,
) -> list[Booked]:
    """Change the counts of a place by one document, and how much more (or less) of its SKUs is on its way to any place.
    What it counted, it counted `since`: later movements are applied on top.

    **Errors**: ImpossibleCountError.
    """
    skus = sorted({entry.sku_id for entry in entries})
    pool = await lock_pool(work, {(sku_id, place.pool_id) for sku_id in skus})
    incoming = incoming or {}
    counts = await lock_places(inventory, work, {(sku_id, place.place_no) for sku_id in skus} | incoming.keys())
    if since is not None:
        entries = with_later(entries, await documents.sum_movements_since(work, skus, place.place_no, since))
    here = {sku_id: counts[sku_id, place.place_no] for sku_id in skus}
    costs = await take_costs(
        work, [entry for entry in entries if entry.act is Act.ADD and entry.unit_cost_minor is not None], skus
    )
    before = promises(pool, here)
    booked = book_in_turn(entries, here, {sku_id: pool[sku_id, place.pool_id] for sku_id in skus})
    moved = [line for line in booked if line.change != Change()]
    await stock.save_place_stock(work, {(sku_id, place.place_no): count for sku_id, count in here.items()})
    await documents.move_incoming(work, incoming)
    await finish_pool(inventory, pool, work)
    await stock.add_movements(work, [_movement(line, paper, place, costs) for line in moved])
    await tell_books(moved, paper, place, costs, work)
    inventory.mark_levels(work, places=counts)
    work.add_tasks(await redrive_tasks([(line.entry.sku_id, place.pool_id) for line in moved if line.units > 0], work))
    grown = [sku_id for sku_id, lacking in promises(pool, here).items() if lacking > before[sku_id]]
    work.add_tasks(shrink_task((sku_id, place.place_no), place.pool_id, work) for sku_id in grown)
    return booked


def apply_stock_effect(
    returned: Sequence[ReturnedUnits],
    counts: Mapping[PlaceKey, PlaceCount],
    pool: Mapping[PoolKey, PoolCount],
    costs: Mapping[str, int],
    currencies: Mapping[str, str],
    work: UnitOfWork,
    *,
    event_id: UUID,
    order_id: UUID,
    place: Place,
) -> list[Movement]:
    """Take units off the allocation of a place, and believe what it says of them; the caller writes the movements returned.

    The caller has locked the rows (of the pool only where an effect is not "none") and saves them afterwards. What is left of
    the units is an unpinned hold again, as before they were allocated. Costs and currencies are asked for (`stock.read_costs`,
    `documents.read_currencies`) where there is an effect; else they may be empty.
    """
    movements: list[Movement] = []
    lost: list[tuple[ReturnedUnits, int]] = []
    for line in returned:
        count = counts[line.sku_id, place.place_no]
        change = count.release(line.quantity)
        if line.effect in (MISSING, NOTHING_LEFT, DAMAGED):
            level = pool[line.sku_id, place.pool_id]
            effect = _believe(line, count, known=-change.short)
            level.move(effect.counted)
            change += effect
            lost.append((line, effect.counted))
            if count.short or level.overpromised:
                work.add_tasks([shrink_task((line.sku_id, place.place_no), place.pool_id, work)])
        movements.append(
            Movement(
                line.origin_order_id,
                event_id,
                line.origin_line,
                "returned",
                line.sku_id,
                place.place_no,
                change,
                costs.get(line.sku_id),
                line.effect,
            )
        )
    told = [(line.effect, line.sku_id, units, costs[line.sku_id]) for line, units in lost if units]
    work.emit(adjusted(told, currencies, work, document_id=event_id, kind="place_reject", reference=str(order_id), place=place))
    return movements


def _believe(line: ReturnedUnits, count: PlaceCount, *, known: int) -> Change:
    """`known` units of them were counted away before: to miss those is no news."""
    match line.effect:
        case "nothing_left":
            return count.remove(max(0, count.on_hand - count.allocated))
        case "damaged":
            return count.damage(line.quantity)
        case _:
            return count.remove(line.quantity - known)


async def lock_pool(work: UnitOfWork, keys: Collection[PoolKey]) -> dict[PoolKey, PoolCount]:
    await stock.add_pool_rows(work, keys)
    return await stock.lock_pool_stock(work, keys)


async def lock_places(inventory: Inventory, work: UnitOfWork, keys: Collection[PlaceKey]) -> dict[PlaceKey, PlaceCount]:
    """Lock rows, making those that are not there; the safety rules are asked about new ones later."""
    fresh = await stock.add_place_rows(work, keys)
    work.add_tasks(safety_tasks(inventory, {sku_id for sku_id, _ in fresh}, work))
    return await stock.lock_place_stock(work, keys)


async def finish_pool(inventory: Inventory, pool: dict[PoolKey, PoolCount], work: UnitOfWork) -> None:
    """Save pool rows, and have the orders served that wait for what is free now."""
    free = {key for key, level in pool.items() if level.promisable}
    for key in await orders.find_awaited(work, free) if free else ():
        pool[key].waking = True
    await stock.save_pool_stock(work, pool)
    inventory.mark_levels(work, skus=[sku_id for sku_id, _ in pool])
    work.add_tasks(wake_task(key, work) for key, level in pool.items() if level.waking)


async def redrive_tasks(came: Collection[PoolKey], work: UnitOfWork) -> list[NewTask]:
    """Orders that no place could take may find one now."""
    return [redrive_task(key, work) for key in sorted(await orders.find_stuck_skus(work, came))] if came else []


def promises(pool: Mapping[PoolKey, PoolCount], here: Mapping[str, PlaceCount]) -> dict[str, int]:
    """Units that are promised and not there, by SKU: at the place, and in the pool beyond it."""
    return {sku_id: here[sku_id].short + level.overpromised for (sku_id, _), level in pool.items() if sku_id in here}


async def take_costs(work: UnitOfWork, receipts: Sequence[Entry], skus: Collection[str]) -> dict[str, int]:
    """What a unit costs by SKU, once these receipts are in the average."""
    costs = await stock.read_costs(work, skus)
    if receipts:
        known = await documents.lock_values(work, {entry.sku_id for entry in receipts})
        values: dict[str, StockValue] = {}
        counted: dict[str, int] = {}
        for entry in receipts:
            value, units = known[entry.sku_id]
            value.receive(entry.quantity, entry.unit_cost_minor or 0, counted=counted.get(entry.sku_id, units))
            counted[entry.sku_id] = value.units
            values[entry.sku_id] = value
        await documents.save_values(work, values)
        costs |= {sku_id: value.unit_cost_minor for sku_id, value in values.items()}
    return costs


async def tell_books(moved: Sequence[Booked], paper: Paper, place: Place, costs: Mapping[str, int], work: UnitOfWork) -> None:
    """`stock.adjusted` for the good units that came or went."""
    lines = [(line.entry.reason_code, line.entry.sku_id, line.units, _cost(line.entry, costs)) for line in moved if line.units]
    if lines:
        currencies = await documents.read_currencies(work, {sku_id for _, sku_id, _, _ in lines})
        work.emit(
            adjusted(
                lines,
                currencies,
                work,
                document_id=paper.document_id,
                kind=paper.kind,
                reference=paper.reference,
                place=place,
            )
        )


def adjusted(
    lines: Sequence[tuple[str, str, int, int]],
    currencies: Mapping[str, str],
    work: UnitOfWork,
    *,
    document_id: UUID,
    kind: str,
    reference: str,
    place: Place,
) -> Iterator[StockAdjusted]:
    """Lines are (reason, SKU, units, unit cost): one event per reason and currency, in pieces that its bounds allow."""
    groups: dict[tuple[str, str], list[AdjustedLine]] = {}
    for reason, sku_id, units, unit_cost_minor in lines:
        group = groups.setdefault((reason, currencies[sku_id]), [])
        group += [AdjustedLine(sku_id=sku_id, quantity=piece, unit_cost_minor=unit_cost_minor) for piece in _pieces(units)]
    for (reason, currency), group in groups.items():
        for start in range(0, len(group), MOST_LINES):
            yield StockAdjusted(
                document_id=document_id,
                kind=kind,
                reference=reference,
                place_id=place.place_id,
                reason=reason,
                currency=currency,
                lines=group[start : start + MOST_LINES],
                occurred_at=work.now,
            )


def _pieces(units: int) -> Iterator[int]:
    sign = 1 if units > 0 else -1
    for done in range(0, abs(units), MOST_UNITS_A_LINE):
        yield sign * min(MOST_UNITS_A_LINE, abs(units) - done)


def _movement(line: Booked, paper: Paper, place: Place, costs: Mapping[str, int]) -> Movement:
    return Movement(
        paper.document_id,
        paper.document_id,
        paper.first_line + line.entry.line,
        paper.movement_kind,
        line.entry.sku_id,
        place.place_no,
        line.change,
        _cost(line.entry, costs),
        line.entry.reason_code,
    )


def _cost(entry: Entry, costs: Mapping[str, int]) -> int:
    return costs[entry.sku_id] if entry.unit_cost_minor is None else entry.unit_cost_minor


def shrink_task(key: PlaceKey, pool_id: str, work: UnitOfWork) -> NewTask:
    """More is promised than is there: turn holds back, recall what no place can ship."""
    sku_id, place_no = key
    payload = {"sku_id": sku_id, "place_no": place_no, "pool_id": pool_id}
    return NewTask(SHRINK, f"{sku_id}@{place_no}", work.now, payload)


def disprove_task(key: PlaceKey, work: UnitOfWork) -> NewTask:
    """More has left a place than was counted there."""
    sku_id, place_no = key
    return NewTask(DISPROVE, f"{sku_id}@{place_no}", work.now, {"sku_id": sku_id, "place_no": place_no})


async def on_disprove(inventory: Inventory, tasks: Sequence[Task], work: UnitOfWork) -> None:
    """Pay off what was booked as short and has shipped all the same. Apart from the shipment, which locks place rows only."""
    places, _ = await inventory.places.read(work, local_day(work.now))
    keys = {(task.payload["sku_id"], task.payload["place_no"]): task.id for task in tasks}
    pool = await lock_pool(work, {(sku_id, places.by_no[place_no].pool_id) for sku_id, place_no in keys})
    counts = await lock_places(inventory, work, keys.keys())
    costs = await stock.read_costs(work, {sku_id for sku_id, _ in keys})
    currencies = await documents.read_currencies(work, costs.keys())
    movements = []
    for (sku_id, place_no), task_id in keys.items():
        place, cost = places.by_no[place_no], costs[sku_id]
        change = counts[sku_id, place_no].disprove()
        if change != Change():
            pool[sku_id, place.pool_id].move(change.counted)
            movements.append(Movement(task_id, task_id, 1, "counted", sku_id, place_no, change, cost, "count_difference"))
            # The books wrote them off when they were counted away, and saw them leave all the same.
            told = [("count_difference", sku_id, change.counted, cost)]
            work.emit(adjusted(told, currencies, work, document_id=task_id, kind="count", reference=str(task_id), place=place))
    await stock.save_place_stock(work, counts)
    await finish_pool(inventory, pool, work)
    await stock.add_movements(work, movements)
    inventory.mark_levels(work, places=keys.keys())
