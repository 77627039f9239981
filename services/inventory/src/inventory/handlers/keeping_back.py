"""Safety stock: what the rules keep back, written beside the counts so that promising and offering need not ask them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eventing import NewTask, Task, UnitOfWork
from inventory.domain.offers import Places
from inventory.domain.safety import SafetyRule, SafetyRules
from inventory.handlers.context import Inventory, local_day
from inventory.handlers.waking import wake_task
from inventory.store import orders, safety, stock
from inventory.store.policies import SAFETY

APPLY_SAFETY = "apply_safety"
PAGE = 200
"""SKUs in one transaction: their pool rows are locked meanwhile."""


def safety_rules(content: Sequence[Mapping[str, Any]] | None) -> SafetyRules:
    return SafetyRules([SafetyRule(**rule) for rule in content or ()])


def safety_tasks(inventory: Inventory, skus: Iterable[str], work: UnitOfWork) -> list[NewTask]:
    """Have the rules asked about SKUs that a place keeps for the first time; nothing where there are no rules."""
    if not inventory.places.policy(SAFETY):
        return []
    return [NewTask(APPLY_SAFETY, f"sku:{sku_id}", work.now, {"sku_id": sku_id}) for sku_id in skus]


def apply_rules_task(work: UnitOfWork, after: str = "") -> NewTask:
    """All SKUs, page by page."""
    return NewTask(APPLY_SAFETY, "all", work.now, {"after": after})


async def on_apply_safety(inventory: Inventory, tasks: Sequence[Task], work: UnitOfWork) -> None:
    """Write what the rules keep back of these SKUs at each place, and its sum per pool. A rule counts at every place that has a
    count of the SKU, though it be 0: the pool keeps back the sum.

    Rules that change meanwhile start again from the first SKU; nothing is then left of the older ones.
    """
    places, _ = await inventory.places.read(work, local_day(work.now))
    rules = safety_rules(inventory.places.policy(SAFETY))
    skus = {task.payload["sku_id"] for task in tasks if "sku_id" in task.payload}
    for task in tasks:
        if "after" in task.payload:
            page = await safety.find_counted_skus(work, task.payload["after"], limit=PAGE)
            skus.update(page)
            if len(page) == PAGE:
                work.add_tasks([apply_rules_task(work, page[-1])])
    if skus:
        await _apply(inventory, rules, places, sorted(skus), work)


async def _apply(inventory: Inventory, rules: SafetyRules, places: Places, skus: Sequence[str], work: UnitOfWork) -> None:
    pool = await safety.lock_pool_of_skus(work, skus)
    kept = await safety.lock_safety(work, skus)
    changed = {}
    sums = dict.fromkeys(pool, 0)
    for row in kept:
        place = places.by_no[row.place_no]
        units = rules.units(place_id=place.place_id, sku_id=row.sku_id, category=row.category)
        if units != row.safety:
            changed[row.sku_id, row.place_no] = units
        sums[row.sku_id, place.pool_id] += units
    raised = {key: units for key, units in sums.items() if units != pool[key].safety}
    loosened = {key for key, units in raised.items() if units < pool[key].safety}
    for key in await orders.find_awaited(work, loosened) if loosened else ():
        pool[key].waking = True
        work.add_tasks([wake_task(key, work)])
    await safety.save_safety(work, changed, raised)
    await stock.save_pool_stock(work, {key: pool[key] for key in loosened})
    inventory.mark_levels(work, places=changed, skus=[sku_id for sku_id, _ in raised])
