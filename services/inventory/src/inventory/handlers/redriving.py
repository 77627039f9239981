"""Offering held orders to routing again: by themselves, because a place has opened or goods have come, or by hand."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

from eventing import NewTask, Task, UnitOfWork
from inventory.domain.allocation import REOFFERS
from inventory.handlers.context import Inventory, offer_again
from inventory.store import orders
from inventory.store.orders import OrderRow
from inventory.store.stock import PoolKey

RETRY_STUCK = "retry_stuck"
REDRIVE = "redrive"
REDRIVE_BATCH = 200
"""Stuck orders offered again in one transaction."""
LOOK_AGAIN_SECONDS = (3, 15, 60)
"""After a place has changed: routing hears of it on its own way, and orders get stuck on what it knew before."""


async def on_retry_stuck(inventory: Inventory, tasks: Sequence[Task], work: UnitOfWork) -> None:
    """Offer stuck orders again by themselves: capacity returns with the day."""
    await redrive(inventory, [UUID(task.key) for task in tasks], work, reoffers=REOFFERS)


async def on_redrive(inventory: Inventory, tasks: Sequence[Task], work: UnitOfWork) -> None:
    """Offer the stuck orders of a pool again, or those that want a SKU, oldest first and batch by batch.

    Those that somebody else holds right now have their own retry.
    """
    for task in tasks:  # One: its batch is the bound of the transaction.
        after = task.payload.get("after")
        found = await orders.find_stuck(
            work,
            task.payload["pool_id"],
            sku_id=task.payload.get("sku_id"),
            after=UUID(after) if after else None,
            limit=REDRIVE_BATCH,
        )
        await redrive(inventory, found, work, reoffers=REOFFERS, skip_locked=True)
        if len(found) == REDRIVE_BATCH:
            work.add_tasks(
                [NewTask(REDRIVE, task.key, work.now + timedelta(seconds=1), {**task.payload, "after": str(found[-1])})]
            )
        elif (nth := task.payload.get("nth", 0)) < len(LOOK_AGAIN_SECONDS) and "place_id" in task.payload:
            due_at = work.now + timedelta(seconds=LOOK_AGAIN_SECONDS[nth])
            payload = {name: value for name, value in task.payload.items() if name != "after"} | {"nth": nth + 1}
            work.add_tasks([NewTask(REDRIVE, task.key, due_at, payload)])


async def redrive(
    inventory: Inventory,
    order_ids: Sequence[UUID],
    work: UnitOfWork,
    *,
    reoffers: int = 0,
    states: Collection[str] = ("stuck",),
    force: int | None = None,
    skip_locked: bool = False,
) -> list[OrderRow]:
    """Offer orders in these states to routing again, at one place only where a person chose it; return those that were.

    `reoffers` counts as if they had been made.
    """
    roots = await orders.find_roots(work, order_ids)
    locked = await orders.lock_orders(work, {*order_ids, *roots}, skip_locked=skip_locked)
    rows = [row for order_id in order_ids if (row := locked.get(order_id)) and row.state in states and row.root_id in locked]
    unstuck = [row.order_id for row in rows if row.state == "stuck"]
    for row in rows:
        row.state, row.step, row.attempt, row.reoffers = "reserved", row.step + 1, row.attempt + 1, reoffers
        row.forced_place_no = force
    await orders.rewrite_orders(work, rows)
    await orders.remove_stuck(work, unstuck)
    work.emit(await offer_again(inventory, rows, work))
    return rows


def redrive_task(key: PoolKey, work: UnitOfWork) -> NewTask:
    """Goods have come that stuck orders want."""
    sku_id, pool_id = key
    return NewTask(REDRIVE, f"{sku_id}@{pool_id}", work.now, {"sku_id": sku_id, "pool_id": pool_id})
