"""More stock, and the orders that wait for it."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

from eventing import NewTask, Task, UnitOfWork
from inventory.domain.counts import PoolCount
from inventory.domain.reservation import Demand, Held, Missing, wake_in_turn
from inventory.handlers.context import Inventory, offer_again
from inventory.store import orders, stock
from inventory.store.stock import PoolKey

WAKE = "wake_backorders"
WAKE_LIMIT = 500
"""Orders woken of one SKU in one transaction: enough to be quick, few enough to keep its pool row's lock short."""
BUSY_SECONDS = 1.0
"""Before orders are looked at again that somebody else held just now."""


async def on_wake(inventory: Inventory, tasks: Sequence[Task], work: UnitOfWork) -> None:
    """Reserve the oldest waiting orders that the free quantities cover; nobody goes on waiting while a unit is left for them.

    Orders that somebody else holds right now are skipped and looked at again.
    """
    keys = {(task.payload["sku_id"], task.payload["pool_id"]) for task in tasks}
    found = await orders.find_covered_backorders(work, keys, limit=WAKE_LIMIT)
    wanted = {order_id: root_id for _, order_id, root_id in found}
    locked = await orders.lock_orders(work, {*wanted, *wanted.values()}, skip_locked=True)
    rows = {
        order_id: locked[order_id]
        for order_id, root_id in wanted.items()
        if order_id in locked and root_id in locked and locked[order_id].state == "backordered"
    }
    pool = await stock.lock_pool_stock(work, keys | {(sku_id, row.pool_id) for row in rows.values() for sku_id in row.skus})
    queue = sorted(rows.values(), key=lambda row: (row.priority, row.received_at, row.order_id))
    outcomes = wake_in_turn([Demand(row.order_id, row.pool_id, row.wanted) for row in queue], pool)
    held = [rows[outcome.order_id] for outcome in outcomes if isinstance(outcome, Held)]
    for row in held:
        row.state, row.step, row.attempt = "reserved", row.step + 1, row.attempt + 1
    changed = {(sku_id, row.pool_id) for row in held for sku_id in row.skus}
    await stock.save_pool_stock(work, {key: pool[key] for key in changed})
    await orders.save_orders(work, held)
    await orders.remove_backorders(work, held)
    await _finish(keys, pool, work, busy=len(rows) < len(wanted))
    inventory.mark_levels(work, skus=[sku_id for sku_id, _ in changed])
    work.emit(await offer_again(inventory, held, work))


async def _finish(keys: Collection[PoolKey], pool: dict[PoolKey, PoolCount], work: UnitOfWork, *, busy: bool) -> None:
    """Let new demand pass again where nobody is left to serve; else come back.

    Looked at under the pool rows' locks, which whoever queues an order holds as well: none is overlooked.
    """
    left = {key for key, _, _ in await orders.find_covered_backorders(work, keys, limit=1)}
    done = {key: pool[key] for key in keys if key not in left and pool[key].waking}
    for level in done.values():
        level.waking = False
    await stock.save_pool_stock(work, done)
    delay = timedelta(seconds=BUSY_SECONDS if busy else 0)
    work.add_tasks(wake_task(key, work, delay=delay) for key in left)


async def reprioritise(inventory: Inventory, order_id: UUID, priority: int, work: UnitOfWork) -> bool:
    """Have an order served earlier or later where stock is short; False where it waits for nothing any more."""
    roots = await orders.find_roots(work, [order_id])
    row = (await orders.lock_orders(work, {order_id, *roots})).get(order_id)
    if row is None or row.state not in ("reserved", "backordered", "stuck", "returned"):
        return False
    if row.state == "backordered":
        keys = {(sku_id, row.pool_id) for sku_id in row.skus}
        pool = await stock.lock_pool_stock(work, keys)
        await orders.remove_backorders(work, [row])
        row.priority = priority
        there = {sku_id: pool[sku_id, row.pool_id].promisable for sku_id in row.skus}
        missing = [Missing(sku, units, units - there[sku]) for sku, units in row.wanted.items() if units > there[sku]]
        await orders.add_backorders(work, [(row, missing)])
    row.priority = priority
    await orders.rewrite_orders(work, [row])
    return True


def wake_task(key: PoolKey, work: UnitOfWork, *, delay: timedelta = timedelta()) -> NewTask:
    sku_id, pool_id = key
    return NewTask(WAKE, f"{sku_id}@{pool_id}", work.now + delay, {"sku_id": sku_id, "pool_id": pool_id})
