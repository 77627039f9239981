"""Orders that wait for stock, and how they wake."""

import asyncio
from datetime import timedelta
from typing import Any

from contracts import StockBackordered, StockReserved

from .builders import NOW, a_routed, an_audited


async def test_goods_in_wake_the_oldest_orders_that_they_cover(shop: Any) -> None:
    """Fails if the queue is served by arrival of events, not of orders, or stops at an order that is too large."""
    await shop.stock_up({"杭州仓": {"茶": 0}})
    sizes = {3: 2, 1: 1, 2: 5, 4: 1}  # Minutes after opening: units wanted.
    orders = {minute: an_audited({"茶": units}, received_at=NOW + timedelta(minutes=minute)) for minute, units in sizes.items()}
    assert all(isinstance(event, StockBackordered) for event in (await shop.harness.receive(list(orders.values()))).emitted)
    queue = (await shop.ok("GET", "/v1/backorders?sku_id=茶"))["items"]
    assert [line["quantity"] for line in queue] == [1, 5, 2, 1]

    await shop.receive_goods("杭州仓", {"茶": 3})
    await shop.harness.run_due_tasks()
    woken = await shop.harness.emitted()
    assert {event.order_id for event in woken} == {orders[1].order_id, orders[3].order_id}
    assert [(event.attempt, event.progress.step) for event in woken] == [(2, 2), (2, 2)]
    assert (await shop.stock("茶"))["atp"] == 0
    assert len((await shop.harness.receive([a_routed(event) for event in woken])).emitted) == 2


async def test_new_demand_does_not_pass_orders_that_are_about_to_wake(shop: Any) -> None:
    """Fails if an order that comes between goods in and the wake pass takes what an older order waits for, or is then lost."""
    await shop.stock_up({"杭州仓": {"茶": 0}})
    old = an_audited({"茶": 2})
    await shop.harness.receive([old])
    await shop.receive_goods("杭州仓", {"茶": 3})
    new, later = an_audited({"茶": 1}, received_at=NOW + timedelta(hours=1)), an_audited(received_at=NOW + timedelta(hours=2))
    assert [type(event) for event in (await shop.harness.receive([new, later])).emitted] == [StockBackordered] * 2
    await shop.harness.run_due_tasks()
    assert {event.order_id for event in await shop.harness.emitted()} == {old.order_id, new.order_id}
    assert [type(e) for e in (await shop.harness.receive([an_audited()])).emitted] == [StockBackordered]


async def test_an_order_wakes_whichever_of_its_skus_comes_last(shop: Any) -> None:
    """Fails if an order waits only under the SKUs that were missing when it came."""
    await shop.stock_up({"杭州仓": {"茶": 1, "杯": 0}})
    both = an_audited({"茶": 1, "杯": 1})
    await shop.harness.receive([both])
    await shop.harness.receive([an_audited({"茶": 1})])
    await shop.receive_goods("杭州仓", {"杯": 1})
    await shop.harness.run_due_tasks()
    assert await shop.harness.emitted() == []
    await shop.adjust("杭州仓", "茶", 1)
    await shop.harness.run_due_tasks()
    (woken,) = await shop.harness.emitted()
    assert (type(woken), woken.order_id) == (StockReserved, both.order_id)
    assert (await shop.ok("GET", "/v1/backorders"))["items"] == []


async def test_nobody_waits_while_a_unit_is_left(shop: Any) -> None:
    """Fails if a pass ends early: more orders wait than one pass takes."""
    await shop.stock_up({"杭州仓": {"茶": 0}})
    for _ in range(3):
        await shop.harness.receive([an_audited() for _ in range(250)])
    await shop.receive_goods("杭州仓", {"茶": 600})
    await shop.harness.run_due_tasks()
    assert len(await shop.harness.emitted()) == 600
    level = await shop.stock("茶")
    assert (level["atp"], level["reserved"], level["waking"]) == (0, 600, False)
    assert await shop.rows("SELECT count(*) FROM backorder") == [(150,)]


async def test_an_order_that_somebody_holds_is_woken_later(shop: Any) -> None:
    """Fails if the wake pass waits for a locked order, or forgets it."""
    await shop.stock_up({"杭州仓": {"茶": 0}})
    order = an_audited()
    await shop.harness.receive([order])
    await shop.receive_goods("杭州仓", {"茶": 1})
    async with shop.harness.runtime.engine.connect() as connection:
        await connection.exec_driver_sql("SELECT FROM stock_order WHERE order_id = $1 FOR UPDATE", (order.order_id,))
        assert await shop.harness.run_due_tasks("wake_backorders") == 1
    assert await shop.harness.emitted() == []
    shop.harness.clock.advance(seconds=1)
    assert await shop.harness.run_due_tasks("wake_backorders") == 1
    assert [event.order_id for event in await shop.harness.emitted()] == [order.order_id]


async def test_workers_meet_on_a_hot_sku_and_sell_every_unit_once(make_shop: Any, migrated_database: Any) -> None:
    """Fails if pool rows are read without locks (oversold), or locked unsorted (deadlocks), or if somebody is refused while a
    unit is left."""
    url = await migrated_database("inventory")
    workers = [await make_shop(url) for _ in range(3)]
    sides = [f"杯{number}" for number in range(20)]
    await workers[0].stock_up({"杭州仓": {"茶": 1000, **dict.fromkeys(sides, 5000)}})

    async def sell(worker: Any) -> None:
        for _ in range(5):
            await worker.harness.receive([an_audited({"茶": 1, sides[number % 20]: 1}) for number in range(100)])

    await asyncio.gather(*[sell(worker) for worker in workers])
    ((sold, waiting),) = await workers[0].rows(
        "SELECT count(*) FILTER (WHERE state = 'reserved'), count(*) FILTER (WHERE state = 'backordered')"
        " FROM stock_order WHERE '茶' = ANY(skus)"
    )
    assert (sold, waiting) == (1000, 500)
    assert [worker.database_errors for worker in workers] == [[], [], []]
    assert (await workers[0].stock("茶"))["atp"] == 0


async def test_workers_pin_equal_orders_without_deadlock_or_loss(make_shop: Any, migrated_database: Any) -> None:
    """Fails if workers that want the same places deadlock, take a unit twice, or give up on orders that lost a race."""
    url = await migrated_database("inventory")
    workers = [await make_shop(url) for _ in range(3)]
    await workers[0].stock_up({f"{number} 号店": {"茶": 20, "杯": 20} for number in range(15)})
    rounds = [
        (await worker.harness.receive([an_audited({"茶": 1, "杯": 1}) for _ in range(100)])).emitted for worker in workers
    ]

    async def pin(worker: Any, reserved: list[Any]) -> None:
        for attempt in range(10):  # How often a race is lost depends on the machine.
            plans = [list(reversed(range(1, 16))) if attempt else list(range(1, 16)) for _ in reserved]
            routed = [a_routed(event, *numbers) for event, numbers in zip(reserved, plans, strict=True)]
            reserved = [event for event in (await worker.harness.receive(routed)).emitted if isinstance(event, StockReserved)]

    await asyncio.gather(*[pin(worker, reserved) for worker, reserved in zip(workers, rounds, strict=True)])
    assert await workers[0].rows("SELECT state, count(*) FROM stock_order GROUP BY 1") == [("allocated", 300)]
    assert [worker.database_errors for worker in workers] == [[], [], []]
    assert await workers[0].rows("SELECT sum(allocated), max(allocated) FROM place_stock WHERE sku_id = '茶'") == [(300, 20)]
