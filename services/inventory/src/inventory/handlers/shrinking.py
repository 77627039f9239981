"""More is promised than is there: give up the youngest promises, and recall what no place can ship."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from eventing import NewTask, Task, UnitOfWork
from inventory.domain import cancelling
from inventory.domain.cancelling import LineKey
from inventory.domain.reservation import Missing
from inventory.handlers.booking import SHRINK, finish_pool
from inventory.handlers.context import Inventory, backordered, get_documents, local_day
from inventory.handlers.requests import Desk, close, open_families
from inventory.store import orders, requests, stock

RECALL = "recall"
"""Apart from `shrink`: it locks roots, which must not be done after pool rows."""
ONE = 1
"""Tasks in one transaction: each may touch hundreds of orders."""
LOOK_AGAIN_SECONDS = 60
"""For recalls that came too late: their answer names no place, and a place needs minutes to pick."""
LIMIT = 200
"""Orders looked at in one go; what is left after them comes with the next."""


async def on_shrink(inventory: Inventory, tasks: Sequence[Task], work: UnitOfWork) -> None:
    """Turn the youngest unpinned holds of the pool into back-orders until it promises no more than there is; then recall."""
    for task in tasks:
        key = (task.payload["sku_id"], task.payload["pool_id"])
        again = await give_up_holds(inventory, key, work) == LIMIT
        work.add_tasks([NewTask(SHRINK if again else RECALL, task.key, work.now, task.payload)])


async def on_recall(inventory: Inventory, tasks: Sequence[Task], work: UnitOfWork) -> None:
    """Recall the youngest orders of the place beyond what it really has; look again while answers are awaited."""
    for task in tasks:
        if await recall(inventory, task.payload["sku_id"], task.payload["place_no"], work):
            work.add_tasks([NewTask(RECALL, task.key, work.now + timedelta(seconds=LOOK_AGAIN_SECONDS), task.payload)])


async def give_up_holds(inventory: Inventory, key: stock.PoolKey, work: UnitOfWork) -> int:
    """Return how many orders were given up."""
    found = await orders.find_youngest_holds(work, *key, limit=LIMIT)
    if not found:
        return 0
    locked = await orders.lock_orders(work, {*found, *found.values()})
    rows = [row for order_id in found if (row := locked.get(order_id)) and row.state in ("reserved", "stuck")]
    pool = await stock.lock_pool_stock(work, {key} | {(sku_id, row.pool_id) for row in rows for sku_id in row.skus})
    given_up = []
    unstuck = []
    for row in rows:
        if not pool[key].overpromised:
            break
        for sku_id, units in row.wanted.items():
            pool[sku_id, row.pool_id].add(units)
        if row.state == "stuck":
            unstuck.append(row.order_id)
        row.state, row.step, row.attempt, row.forced_place_no = "backordered", row.step + 1, row.attempt + 1, None
        given_up.append(row)
    waiting = [
        (
            row,
            [
                Missing(sku, units, lacks)
                for sku, units in row.wanted.items()
                if (lacks := units - pool[sku, row.pool_id].free) > 0
            ],
        )
        for row in given_up
    ]
    await orders.rewrite_orders(work, given_up)
    await orders.remove_stuck(work, unstuck)
    await orders.add_backorders(work, waiting)
    await finish_pool(inventory, pool, work)
    documents = await get_documents(work, [row.order_id for row in given_up])
    work.emit(backordered(row, documents[row.order_id].part, short) for row, short in waiting)
    return len(given_up)


async def recall(inventory: Inventory, sku_id: str, place_no: int, work: UnitOfWork) -> bool:
    """Ask for the units that are promised at the place and not there, youngest orders first, in-band; once each: one that was
    asked too late is not asked again, the next older one is. Return whether any answer is awaited."""
    short, recalled = await orders.find_short(work, sku_id, place_no)
    missing = short - recalled
    if missing <= 0:
        return short > 0
    found = await orders.find_youngest_allocated(work, sku_id, place_no, limit=LIMIT)
    families = await open_families(work, set(found.values()))
    held = {order.order_id: order for family in families.values() for order in family.root().orders if order.order_id in found}
    ids = {order_id: cancelling.recall_id(order, sku_id) for order_id, order in held.items()}
    heard = await requests.find_heard(work, ids.values(), cancelling.RECALL)
    places, _ = await inventory.places.read(work, local_day(work.now))
    before = {root_id: family.pending for root_id, family in families.items()}
    desk = Desk(families, set(), places.by_id)
    asked: list[tuple[UUID, str, UUID]] = []
    for order_id, root_id in found.items():
        family = families[root_id]
        row = family.rows.get(order_id)
        if missing <= 0 or row is None or row.state != "allocated" or row.place_no != place_no or ids[order_id] in heard:
            continue
        lines: dict[LineKey, int] = {}
        for line, units in held[order_id].lines.items():
            if line.sku_id == sku_id and missing > sum(lines.values()):
                lines[line] = min(units, missing - sum(lines.values()))
        outcome = cancelling.recall(family.root(), ids[order_id], lines)
        family.pending = outcome.root.pending
        if outcome.stops:
            missing -= sum(outcome.stops.values())
            desk.ask(family, ids[order_id], outcome.stops, reason="shortage", code="recall_requested")
            asked.append((ids[order_id], cancelling.RECALL, root_id))
    await requests.hear(work, asked)
    await close(inventory, desk, before, work)
    return bool(asked or recalled)
