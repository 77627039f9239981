"""Cancels, withdrawals, changes and returns through inventory."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from contracts import (
    AllocatedOrderChanged,
    CancelForwarded,
    CancellationSettled,
    ChangeForwarded,
    ChangeSettled,
    OrderAudited,
    StockAllocated,
    StockBackordered,
    StockReserved,
    StopRequested,
    WithdrawalForwarded,
)
from contracts.spine import OriginQuantity
from inventory.domain.cancelling import child_id

from .builders import NOW, PROGRESS, a_return, a_routed, a_shipment, allocate, an_answer, an_audited, lines_of

UNEXPLAINED_POOLS = """
SELECT p.sku_id FROM pool_stock p WHERE p.free - p.overpromised <> (
    SELECT coalesce(sum(s.on_hand - s.allocated - s.short), 0) FROM place_stock s JOIN location l USING (place_no)
    WHERE s.sku_id = p.sku_id AND l.pool_id = p.pool_id
) - (
    SELECT coalesce(sum(d.quantity), 0) FROM stock_order o, unnest(o.skus, o.quantities) AS d(sku_id, quantity)
    WHERE d.sku_id = p.sku_id AND o.pool_id = p.pool_id AND o.state IN ('reserved', 'stuck', 'returned')
)
"""
UNEXPLAINED_ALLOCATIONS = """
SELECT s.sku_id FROM place_stock s WHERE s.allocated <> (
    SELECT coalesce(sum(d.quantity), 0) FROM stock_order o, unnest(o.skus, o.quantities) AS d(sku_id, quantity)
    WHERE d.sku_id = s.sku_id AND o.place_no = s.place_no AND o.state = 'allocated'
)
"""
UNEXPLAINED_DOCUMENTS = """
SELECT o.order_id FROM stock_order o FULL JOIN order_document d USING (order_id)
WHERE (o.units_left > 0) <> (d.order_id IS NOT NULL)
"""


async def prove(shop: Any) -> None:
    for statement in (UNEXPLAINED_POOLS, UNEXPLAINED_ALLOCATIONS, UNEXPLAINED_DOCUMENTS):
        assert await shop.rows(statement) == [], statement


def a_cancel(order: OrderAudited, units: Mapping[str, int], request_id: UUID | None = None) -> CancelForwarded:
    return CancelForwarded(
        root_id=order.root_id,
        order_id=order.root_id,
        progress=PROGRESS,
        request_id=request_id or uuid4(),
        lines=lines_of(order, units),
        reason="buyer_asked",
        requested_by="channel",
    )


def a_withdrawal(asked: StopRequested) -> WithdrawalForwarded:
    return WithdrawalForwarded(
        root_id=asked.root_id, order_id=asked.root_id, progress=PROGRESS, request_id=asked.request_id, reason="buyer_asked"
    )


def settled(events: Any) -> list[tuple[int, int, str]]:
    return [
        (line.cancelled, line.refused, line.code)
        for event in events
        if isinstance(event, CancellationSettled)
        for line in event.lines
    ]


async def test_a_reserved_order_is_cancelled_at_once_and_its_units_wake_who_waits(shop: Any) -> None:
    """Fails if the hold stays, or if the order that waits for it is not served."""
    await shop.stock_up({"杭州仓": {"茶": 2}})
    first, second = an_audited({"茶": 2}), an_audited({"茶": 2})
    await shop.harness.receive([first, second])
    (told,) = (await shop.harness.receive([a_cancel(first, {"茶": 2})])).emitted
    assert (told.order_id, told.progress.stage, told.progress.step) == (first.order_id, "cancelled", 2)
    assert settled([told]) == [(2, 0, "cancelled_reserved")]
    await shop.harness.run_due_tasks("wake_backorders")
    assert [event.order_id for event in await shop.harness.emitted()] == [second.order_id]
    await prove(shop)


async def test_a_reserved_order_that_shrinks_is_offered_anew(shop: Any) -> None:
    """Fails if money and units part, or if the late plan for the larger order could still be taken."""
    await shop.stock_up({"杭州仓": {"茶": 5, "杯": 5}})
    order = an_audited({"茶": 3, "杯": 1})
    (old,) = (await shop.harness.receive([order])).emitted
    told, again = (await shop.harness.receive([a_cancel(order, {"茶": 1, "杯": 1})])).emitted
    assert settled([told]) == [(1, 0, "cancelled_reserved"), (1, 0, "cancelled_reserved")]
    assert isinstance(again, StockReserved)
    assert (again.attempt, again.progress.step, told.progress.step, again.skus) == (2, 3, 2, ["茶"])
    assert [(line.quantity, line.paid_minor) for line in again.part.lines] == [(2, 10000)]
    whole = sum(line.paid_minor for line in order.part.lines)
    assert sum(line.paid_minor for line in (*told.lines, *again.part.lines)) == whole
    assert (await shop.harness.receive([a_routed(old)])).emitted == []
    assert len((await shop.harness.receive([a_routed(again)])).emitted) == 1
    await prove(shop)


async def test_a_waiting_order_that_shrinks_to_what_is_there_is_served(shop: Any) -> None:
    await shop.stock_up({"杭州仓": {"茶": 2}})
    order = an_audited({"茶": 3})
    await shop.harness.receive([order])
    (told,) = (await shop.harness.receive([a_cancel(order, {"茶": 1})])).emitted
    assert (told.progress.stage, settled([told])) == ("backordered", [(1, 0, "cancelled_backordered")])
    await shop.harness.run_due_tasks("wake_backorders")
    (woken,) = await shop.harness.emitted()
    assert (type(woken), woken.part.lines[0].quantity) == (StockReserved, 2)
    await prove(shop)


async def test_what_lies_at_a_place_is_stopped_and_the_rest_goes_on(shop: Any) -> None:
    """Fails if a stop settles before its answer, if what stays loses its order, or if the place is barred for having obeyed."""
    await shop.stock_up({"杭州仓": {"茶": 5}})
    order = an_audited({"茶": 3})
    allocated = await allocate(shop, order)
    (asked,) = (await shop.harness.receive([a_cancel(order, {"茶": 1})])).emitted
    assert isinstance(asked, StopRequested)
    assert (asked.order_id, asked.progress.stage, asked.lines[0].quantity) == (order.order_id, "allocated", 1)
    assert (await shop.ok("GET", f"/v1/orders/{order.order_id}"))["pending_stops"][0]["quantity"] == 1
    # This place can stop only the whole order.
    back = a_return(allocated, {"茶": 3})
    told, again = (await shop.harness.receive([back, an_answer(asked, 3)])).emitted
    assert (settled([told]), told.progress.stage) == ([(1, 0, "cancelled_stopped")], "reserved")
    assert (again.attempt, again.part.lines[0].quantity, again.excluded) == (2, 2, [])
    assert (await shop.harness.receive([back])).emitted == []
    assert len(again.places) == 1
    assert await shop.rows("SELECT used FROM place_day") == [(0,)]
    await prove(shop)


async def test_a_part_that_comes_back_becomes_an_order_of_its_own(shop: Any) -> None:
    """Fails if the place's order is disturbed, if the new one lacks its lineage, or goes to the place that lacked it."""
    await shop.stock_up({"杭州仓": {"茶": 3}, "上海店": {"茶": 3}})
    numbers = await shop.place_nos()
    order = an_audited({"茶": 3})
    allocated = await allocate(shop, order, numbers["杭州仓"])
    short = a_return(allocated, {"茶": 1}, reason="short_pick", stock_effect="missing")
    emitted = (await shop.harness.receive([short])).emitted
    (child,) = [event for event in emitted if isinstance(event, StockReserved)]
    assert (child.order_id, child.part.parent_id, child.root_id) == (
        child_id(order.order_id, 1),
        order.order_id,
        order.order_id,
    )
    assert (child.attempt, child.replaces, child.excluded) == (1, [], [numbers["杭州仓"]])
    assert [place[0] for place in child.places] == [numbers["上海店"]]
    assert (child.part.lines[0].quantity, child.part.lines[0].paid_minor) == (1, 5000)
    (there,) = [place for place in (await shop.stock("茶"))["places"] if place["place_id"] == "杭州仓"]
    assert (there["on_hand"], there["allocated"]) == (2, 2)
    kept = allocated.part.model_copy(update={"lines": [allocated.part.lines[0].divide(2)[0]]})
    await shop.harness.receive([a_shipment(allocated, part=kept)])
    assert (await shop.ok("GET", f"/v1/orders/{order.order_id}"))["state"] == "closed"
    await prove(shop)


async def test_what_has_shipped_is_refused(shop: Any) -> None:
    """Fails if a cancel of shipped units is pending for ever, or if the parcel that left is asked back."""
    await shop.stock_up({"杭州仓": {"茶": 5}})
    order = an_audited({"茶": 3})
    allocated = await allocate(shop, order)
    parcel = allocated.part.model_copy(update={"lines": [allocated.part.lines[0].divide(1)[0]]})
    await shop.harness.receive([a_shipment(allocated, part=parcel)])
    told, asked = (await shop.harness.receive([a_cancel(order, {"茶": 3})])).emitted
    assert (settled([told]), asked.lines[0].quantity) == ([(0, 1, "too_late")], 2)
    (late,) = (await shop.harness.receive([an_answer(asked, 0)])).emitted
    assert settled([late]) == [(0, 2, "too_late")]
    await prove(shop)


async def test_a_withdrawn_cancel_lets_the_order_go_on(shop: Any) -> None:
    """Fails if a withdrawn request still takes what its stop brings back."""
    await shop.stock_up({"杭州仓": {"茶": 5}})
    order = an_audited({"茶": 2})
    allocated = await allocate(shop, order)
    (asked,) = (await shop.harness.receive([a_cancel(order, {"茶": 2})])).emitted
    (told,) = (await shop.harness.receive([a_withdrawal(asked)])).emitted
    assert settled([told]) == [(0, 2, "withdrawn")]
    (again,) = (await shop.harness.receive([a_return(allocated, {"茶": 2}), an_answer(asked, 2)])).emitted
    assert (again.order_id, again.attempt) == (order.order_id, 2)
    await prove(shop)


async def test_a_request_that_is_told_twice_takes_once(shop: Any) -> None:
    """Fails if only the inbox knows which requests were heard."""
    await shop.stock_up({"杭州仓": {"茶": 5}})
    order = an_audited({"茶": 3})
    await shop.harness.receive([order])
    cancel = a_cancel(order, {"茶": 1})
    assert len((await shop.harness.receive([cancel, cancel])).emitted) == 2
    assert (await shop.harness.receive([cancel])).emitted == []
    assert (await shop.stock("茶"))["reserved"] == 2


async def test_a_cancel_of_an_order_that_never_came_is_settled(shop: Any) -> None:
    order = an_audited({"茶": 2})
    (told,) = (await shop.harness.receive([a_cancel(order, {"茶": 2})])).emitted
    assert (told.order_id, told.progress.step, settled([told])) == (order.order_id, 1, [(2, 0, "cancelled_discarded")])


async def test_more_than_was_there_cannot_come_back(shop: Any) -> None:
    """Fails if an impossible return makes stock."""
    await shop.stock_up({"杭州仓": {"茶": 5}})
    allocated = await allocate(shop, an_audited({"茶": 2}))
    result = await shop.harness.receive([a_return(allocated, {"茶": 3}, whole=False)])
    assert len(result.parked) == 1
    await prove(shop)


async def test_an_order_whose_units_vanished_meanwhile_waits_when_it_comes_back(shop: Any) -> None:
    """Fails if a returned order is promised what is not there any more."""
    await shop.stock_up({"杭州仓": {"茶": 2}})
    order = an_audited({"茶": 2})
    allocated = await allocate(shop, order)
    lost = a_return(allocated, {"茶": 2}, reason="place_rejected", stock_effect="nothing_left")
    emitted = (await shop.harness.receive([lost])).emitted
    (told,) = [event for event in emitted if isinstance(event, StockBackordered)]
    assert (told.attempt, told.short[0].missing) == (2, 2)
    assert (await shop.stock("茶"))["overpromised"] == 0
    await shop.receive_goods("杭州仓", {"茶": 2})
    await shop.harness.run_due_tasks("wake_backorders")
    await prove(shop)


async def test_a_change_reaches_whoever_has_the_order(shop: Any) -> None:
    """Fails if a new receiver is lost where an order is held, or is not passed on to its place."""
    await shop.stock_up({"杭州仓": {"茶": 5}})
    held, pinned = an_audited({"茶": 1}), an_audited({"茶": 1})
    await allocate(shop, pinned)
    await shop.harness.receive([held])
    receiver = uuid4()

    def a_change(order: OrderAudited, *fields: str) -> ChangeForwarded:
        return ChangeForwarded(
            root_id=order.root_id,
            order_id=order.order_id,
            progress=PROGRESS,
            request_id=uuid4(),
            fields=list(fields),
            order=order.order.model_copy(update={"receiver_ref": receiver}),
        )

    told, again = (await shop.harness.receive([a_change(held, "receiver")])).emitted
    assert isinstance(told, ChangeSettled)
    assert (told.applied, again.attempt, again.order.receiver_ref) == (["receiver"], 2, receiver)
    (passed,) = (await shop.harness.receive([a_change(pinned, "receiver", "note")])).emitted
    assert isinstance(passed, AllocatedOrderChanged)
    assert (passed.fields, passed.order.receiver_ref) == (["receiver", "note"], receiver)
    (refused,) = (await shop.harness.receive([a_change(an_audited(), "receiver")])).emitted
    assert refused.refused == ["receiver"]


async def test_a_shrunken_pool_gives_up_the_youngest_holds_and_recalls_from_places(shop: Any) -> None:
    """Fails if a promise that nobody can keep stays unseen, or if an older order loses to a younger one."""
    await shop.stock_up({"杭州仓": {"茶": 4}})
    pinned, older, younger = (an_audited({"茶": 1}) for _ in range(3))
    allocated = await allocate(shop, pinned)
    await shop.harness.receive([older])
    await shop.harness.receive(
        [younger.model_copy(update={"order": younger.order.model_copy(update={"received_at": NOW + timedelta(hours=1)})})]
    )
    await shop.adjust("杭州仓", "茶", -3)
    await shop.harness.run_due_tasks("shrink")
    emitted = await shop.harness.emitted()
    assert [(type(event), event.order_id) for event in emitted] == [
        (StockBackordered, younger.order_id),
        (StockBackordered, older.order_id),
    ]
    level = await shop.stock("茶")
    assert level["overpromised"] == 0
    await prove(shop)
    await shop.adjust("杭州仓", "茶", -1)
    await shop.harness.run_due_tasks("shrink")
    await shop.harness.run_due_tasks("recall")
    (recall,) = [event for event in await shop.harness.emitted() if isinstance(event, StopRequested)]
    assert (recall.reason, recall.root_id, recall.lines[0].quantity) == ("shortage", pinned.order_id, 1)
    back = a_return(allocated, {"茶": 1})
    emitted = (await shop.harness.receive([back, an_answer(recall, 1)])).emitted
    assert settled(emitted) == []
    assert [type(event) for event in emitted] == [StockBackordered]
    await prove(shop)


async def test_the_next_order_is_recalled_where_the_youngest_has_shipped(shop: Any) -> None:
    """Fails if a recall that comes too late is the last one, or if the same order is asked for ever."""
    await shop.stock_up({"杭州仓": {"茶": 2}})
    orders = sorted((an_audited({"茶": 1}) for _ in range(2)), key=lambda order: order.order_id)
    for order in orders:
        await allocate(shop, order)
    await shop.adjust("杭州仓", "茶", -1)
    await shop.harness.run_due_tasks("shrink")
    asked = []
    for _ in range(2):
        await shop.harness.run_due_tasks("recall")
        (stop,) = [event for event in await shop.harness.emitted() if isinstance(event, StopRequested)]
        asked.append(stop.root_id)
        shop.harness.clock.advance(seconds=60)
        await shop.harness.run_due_tasks("recall")
        assert await shop.harness.emitted() == []  # Its answer is awaited.
        await shop.harness.receive([an_answer(stop, 0)])
        shop.harness.clock.advance(seconds=60)
    assert asked == [orders[1].order_id, orders[0].order_id]
    await shop.harness.run_due_tasks("recall")
    assert await shop.harness.emitted() == []
    assert await shop.rows("SELECT count(*) FROM task WHERE kind = 'recall'") == [(0,)]
    await prove(shop)


async def test_a_cancel_in_parts_meets_every_hand_that_holds_the_order(shop: Any) -> None:
    """Fails if a root's orders are decided on one by one, or if one request is settled twice."""
    await shop.stock_up({"杭州仓": {"茶": 4}})
    root = uuid4()
    pinned, held, waits = (an_audited({"茶": 2}, root_id=root) for _ in range(3))
    same = [
        order.model_copy(update={"part": order.part.model_copy(update={"lines": with_origin(order, root)})})
        for order in (pinned, held, waits)
    ]
    reserved = (await shop.harness.receive(same)).emitted
    await shop.harness.receive([a_routed(reserved[0])])
    whole = a_cancel(same[0], {"茶": 2}).model_copy(
        update={"lines": [OriginQuantity(origin_order_id=root, origin_line=1, sku_id="茶", quantity=6)]}
    )
    emitted = (await shop.harness.receive([whole])).emitted
    assert sorted(settled(emitted)) == [(2, 0, "cancelled_backordered"), (2, 0, "cancelled_reserved")]
    (asked,) = [event for event in emitted if isinstance(event, StopRequested)]
    assert (asked.order_id, asked.progress.stage, asked.lines[0].quantity) == (root, "split", 2)
    await prove(shop)


def with_origin(order: OrderAudited, origin: UUID) -> list[Any]:
    return [line.model_copy(update={"origin_order_id": origin}) for line in order.part.lines]


async def test_workers_cancel_take_back_and_ship_together_without_deadlock(make_shop: Any, migrated_database: Any) -> None:
    """Fails if rows are locked in different orders by different events, or if a unit is counted twice between workers."""
    url = await migrated_database("inventory")
    workers = [await make_shop(url) for _ in range(3)]
    await workers[0].stock_up({f"{number} 号店": {"茶": 200, "杯": 200} for number in range(3)})

    async def all_at_once(work: list[list[Any]]) -> list[Any]:
        """Give each worker its events at the same time; what any of them emits may be read by any."""
        outcomes = await asyncio.gather(*[w.harness.receive(events) for w, events in zip(workers, work, strict=True)])
        assert [outcome.parked for outcome in outcomes] == [[], [], []]
        return [event for outcome in outcomes for event in outcome.emitted] + await workers[0].harness.emitted()

    for round_no in range(3):
        orders = [[an_audited({"茶": 2, "杯": 1}) for _ in range(20)] for _ in workers]
        emitted = await all_at_once(orders)
        emitted += await all_at_once([[a_cancel(order, {"杯": 1}) for order in share[::4]] for share in orders])
        plans = {e.order_id: a_routed(e) for e in emitted if isinstance(e, StockReserved)}
        emitted = await all_at_once([[plans[order.order_id] for order in share] for share in orders])
        lost = [a_routed(event) for event in emitted if isinstance(event, StockReserved)]
        emitted += await all_at_once([lost, [], []])
        there = {e.order_id: e for e in emitted if isinstance(e, StockAllocated)}
        emitted = await all_at_once([[a_cancel(order, {"茶": 1}) for order in share[1::4]] for share in orders])
        asked = {event.root_id: event for event in emitted if isinstance(event, StopRequested)}
        assert len(asked) == 15
        work = []
        for share in orders:
            back = [a_return(there[o.order_id], {"茶": 1}) for o in share[1::4]]
            answers = [an_answer(asked[o.order_id], 1) for o in share[1::4]]
            work.append([*back, *answers, *(a_shipment(there[order.order_id]) for order in share[2::4])])
        counts = [w.adjust(f"{n} 号店", "茶", -60 if round_no == 1 else 3) for n, w in enumerate(workers)]
        await asyncio.gather(all_at_once(work), *counts)
        await asyncio.gather(*[worker.harness.run_due_tasks() for worker in workers])
        await prove(workers[0])
    assert [worker.database_errors for worker in workers] == [[], [], []]
    assert await workers[0].rows("SELECT count(*) FROM pending_stop WHERE kind = 'cancel'") == [(0,)]
