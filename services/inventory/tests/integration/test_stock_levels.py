"""stock.level: absolute numbers, coalesced, never lost."""

from typing import Any

from contracts import StockLevel
from inventory.levels import DirtyLevels, flush_levels
from inventory.store.levels import find_unsent_levels

from .builders import a_routed, a_shipment, an_audited


async def flush(shop: Any, limit: int = 100) -> list[StockLevel]:
    async with shop.harness.runtime.work() as work:
        await flush_levels(shop.inventory.levels, work, limit=limit)
    return [event for event in await shop.harness.emitted() if isinstance(event, StockLevel)]


async def test_changes_of_one_key_become_one_record_with_the_latest_number(shop: Any) -> None:
    """Fails if a level is a difference, is sent once per change, or if a pool's version stands still when a place changes."""
    await shop.stock_up({"杭州仓": {"茶": 5}})
    before = {level.key: level for level in await flush(shop)}
    assert {key: level.atp for key, level in before.items()} == {"茶@pool:main": 5, "茶@杭州仓": 5}
    (reserved,) = (await shop.harness.receive([an_audited({"茶": 2})])).emitted
    (allocated,) = (await shop.harness.receive([a_routed(reserved)])).emitted
    after = {level.key: level for level in await flush(shop)}
    pool = after["茶@pool:main"]
    assert (pool.on_hand, pool.reserved, pool.allocated, pool.atp) == (5, 0, 2, 3)
    assert all(after[key].version > before[key].version for key in before)
    await shop.harness.receive([a_shipment(allocated)])
    last = {level.key: level for level in await flush(shop)}
    assert last["茶@pool:main"].on_hand == 3
    assert all(last[key].version > after[key].version for key in before)
    assert await flush(shop) == []


async def test_levels_that_a_process_died_on_are_found_again(shop: Any) -> None:
    """Fails if a level that was never sent stays unsent, or if one that was sent is sent for ever."""
    await shop.stock_up({"杭州仓": {"茶": 5}})
    shop.inventory.levels = DirtyLevels()  # As after a kill: the marks are gone.
    async with shop.harness.runtime.work() as work:
        unsent = await find_unsent_levels(work)
    assert sorted(unsent, key=str) == sorted([("茶", 1), ("茶", None)], key=str)
    shop.inventory.levels.mark(unsent)
    assert len(await flush(shop)) == 2
    async with shop.harness.runtime.work() as work:
        assert await find_unsent_levels(work) == []


async def test_under_load_keys_queue_and_coalesce(shop: Any) -> None:
    """Fails if a flush takes more than its share, or forgets the rest."""
    await shop.stock_up({"杭州仓": {"茶": 5, "杯": 5}})
    counts = [len(await flush(shop, limit=3)) for _ in range(3)]
    assert counts == [3, 1, 0]
