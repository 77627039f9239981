"""Orders that are split: by shortage, by place; and what people may do about an order that is held."""

from typing import Any

from contracts import Fulfilment, OrderRouted, StockAllocated, StockBackordered, StockReserved
from inventory.domain.cancelling import child_id

from .builders import a_place, a_routed, a_shipment, an_audited, no_plan
from .test_requests import a_cancel, prove, settled

SPLITS = {"reason": "先发有货", "shops": [{"channel": "taobao", "shop_id": "旗舰店", "shortage": "split"}]}


def in_parcels(reserved: StockReserved, *parcels: tuple[int, list[int]]) -> OrderRouted:
    routed = no_plan(reserved)
    offers = [(place_no, "sf", 800, 2, units) for place_no, units in parcels]
    return routed.model_copy(update={"skus": reserved.skus, "combined": [offers]})


async def test_a_shop_that_splits_sends_what_is_there_and_the_rest_waits(shop: Any) -> None:
    """Fails if a fen or a unit is lost between the children, or if their parent can still be taken from."""
    await shop.stock_up({"杭州仓": {"茶": 2, "杯": 0}})
    await shop.ok("PUT", "/v1/policies/shortage", SPLITS)
    assert (await shop.ok("GET", "/v1/policies/shortage"))["shops"] == SPLITS["shops"]
    order = an_audited({"茶": 3, "杯": 1})
    held, waits = (await shop.harness.receive([order])).emitted
    assert (type(held), type(waits)) == (StockReserved, StockBackordered)
    assert [event.order_id for event in (held, waits)] == [child_id(order.order_id, 1), child_id(order.order_id, 2)]
    assert all((event.replaces, event.part.parent_id) == ([order.order_id], order.order_id) for event in (held, waits))
    assert [(line.sku_id, line.quantity, line.paid_minor) for line in held.part.lines] == [("茶", 2, 10000)]
    assert [(line.sku_id, line.quantity) for line in waits.part.lines] == [("茶", 1), ("杯", 1)]
    assert [(line.sku_id, line.wanted, line.missing) for line in waits.short] == [("茶", 1, 1), ("杯", 1, 1)]
    queue = (await shop.ok("GET", f"/v1/backorders?order_id={waits.order_id}"))["items"]
    assert sorted((line["sku_id"], line["quantity"], line["missing"]) for line in queue) == [("杯", 1, 1), ("茶", 1, 1)]
    view = await shop.ok("GET", f"/v1/orders/{order.order_id}")
    assert (view["state"], [child["state"] for child in view["children"]]) == ("split", ["reserved", "backordered"])
    await prove(shop)
    told = (await shop.harness.receive([a_cancel(order, {"茶": 2})])).emitted
    assert settled(told) == [(1, 0, "cancelled_backordered"), (1, 0, "cancelled_reserved")]
    await prove(shop)
    await shop.receive_goods("杭州仓", {"杯": 1})
    await shop.harness.run_due_tasks("wake_backorders")
    (woken,) = await shop.harness.emitted()
    assert (woken.order_id, woken.skus) == (waits.order_id, ["杯"])
    await prove(shop)


async def test_an_order_ships_from_several_places_as_so_many_orders(shop: Any) -> None:
    """Fails if a parcel lacks its lineage, if the parts are not the whole, or if stock of a place is taken twice."""
    await shop.stock_up({"杭州仓": {"茶": 2, "杯": 0}, "上海店": {"茶": 1, "杯": 1}})
    numbers = await shop.place_nos()
    order = an_audited({"茶": 3, "杯": 1})
    (reserved,) = (await shop.harness.receive([order])).emitted
    assert {place[0]: place[2] for place in reserved.places} == {numbers["杭州仓"]: [2, 0], numbers["上海店"]: [1, 1]}
    routed = in_parcels(reserved, (numbers["杭州仓"], [2, 0]), (numbers["上海店"], [1, 1]))
    parcels = (await shop.harness.receive([routed, routed])).emitted
    assert [type(event) for event in parcels] == [StockAllocated] * 2
    assert [(event.order_id, event.attempt, event.replaces) for event in parcels] == [
        (child_id(order.order_id, number), 1, [order.order_id]) for number in (1, 2)
    ]
    assert sum(line.paid_minor for event in parcels for line in event.part.lines) == 20000
    assert all(line.unit_cost_minor is not None for event in parcels for line in event.part.lines)
    await prove(shop)
    await shop.harness.receive([a_shipment(event) for event in parcels])
    assert await shop.rows("SELECT sum(on_hand), sum(allocated) FROM place_stock") == [(0, 0)]
    await prove(shop)


async def test_parcels_that_are_not_the_order_are_parked(shop: Any) -> None:
    """Fails if a mistake of routing loses units."""
    await shop.stock_up({"杭州仓": {"茶": 2}, "上海店": {"茶": 1}})
    (reserved,) = (await shop.harness.receive([an_audited({"茶": 3})])).emitted
    assert len((await shop.harness.receive([in_parcels(reserved, (1, [1]), (2, [1]))])).parked) == 1


async def test_the_last_try_splits_over_what_the_places_still_have(shop: Any) -> None:
    """Fails if an order gets stuck although the places of its last plans have all of it."""
    await shop.stock_up({"杭州仓": {"茶": 2}, "上海店": {"茶": 2}})
    (reserved,) = (await shop.harness.receive([an_audited({"茶": 4})])).emitted
    for _ in range(2):
        (reserved,) = (await shop.harness.receive([in_parcels(reserved, (1, [1]), (2, [3]))])).emitted
    parcels = (await shop.harness.receive([in_parcels(reserved, (1, [1]), (2, [3]))])).emitted
    assert sorted(event.part.lines[0].quantity for event in parcels) == [2, 2]
    await prove(shop)


async def test_a_person_chooses_the_place_once(shop: Any) -> None:
    """Fails if another place could ship the order meanwhile, or if a choice that failed binds for ever."""
    await shop.stock_up({"杭州仓": {"茶": 5}, "上海店": {"茶": 5}})
    numbers = await shop.place_nos()
    (old,) = (await shop.harness.receive([an_audited()])).emitted
    await shop.ok("POST", f"/v1/orders/{old.order_id}/place", {"place_id": "上海店", "reason": "客户要求"})
    (forced,) = await shop.harness.emitted()
    assert (forced.attempt, forced.forced, [place[0] for place in forced.places]) == (2, numbers["上海店"], [numbers["上海店"]])
    assert (await shop.ok("GET", f"/v1/orders/{old.order_id}"))["forced_place"] == "上海店"
    assert (await shop.harness.receive([a_routed(old)])).emitted == []
    (again,) = (await shop.harness.receive([no_plan(forced)])).emitted
    assert (again.attempt, again.forced, len(again.places)) == (3, None, 2)
    (allocated,) = (await shop.harness.receive([a_routed(again)])).emitted
    answer = await shop.http.post(f"/v1/orders/{old.order_id}/place", json={"place_id": "上海店", "reason": "r"})
    assert (answer.status_code, answer.json()["code"]) == (409, "order_not_held")
    assert allocated.attempt == 3
    acts = (await shop.ok("GET", f"/v1/operations/acts?subject={old.order_id}"))["items"]
    assert [act["act"] for act in acts] == ["force_place"]


async def test_a_full_day_does_not_stop_a_forced_place(shop: Any) -> None:
    await shop.stock_up({"杭州仓": {"茶": 5}}, daily_capacity=0)
    (old,) = (await shop.harness.receive([an_audited()])).emitted
    await shop.ok("POST", f"/v1/orders/{old.order_id}/place", {"place_id": "杭州仓", "reason": "加急"})
    (forced,) = await shop.harness.emitted()
    assert len((await shop.harness.receive([a_routed(forced)])).emitted) == 1


async def test_nobody_chooses_a_place_for_a_buyer_who_comes(shop: Any) -> None:
    """Fails if goods that a buyer collects could be sent to be collected elsewhere."""
    await shop.stock_up({"上海店": {"茶": 5}, "杭州店": {"茶": 5}}, pick_up=True, kind="store")
    order = an_audited(fulfilment=Fulfilment(kind="pick_up", place_id="上海店"))
    await shop.harness.receive([order])
    body = {"place_id": "杭州店", "reason": "缺货"}
    answer = await shop.http.post(f"/v1/orders/{order.order_id}/place", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (409, "place_of_buyer")


async def test_a_person_decides_who_is_served_first(shop: Any) -> None:
    """Fails if the queue keeps an order where it was."""
    await shop.stock_up({"杭州仓": {"茶": 0}})
    first, second = an_audited(), an_audited()
    await shop.harness.receive([first, second])
    later = max(first.order_id, second.order_id)
    await shop.ok("POST", f"/v1/orders/{later}/priority", {"priority": 1, "reason": "会员"})
    (line,) = (await shop.ok("GET", "/v1/backorders?most_priority=1"))["items"]
    assert line["order_id"] == str(later)
    await shop.receive_goods("杭州仓", {"茶": 1})
    await shop.harness.run_due_tasks("wake_backorders")
    assert [event.order_id for event in await shop.harness.emitted()] == [later]


async def test_stuck_orders_go_on_when_a_place_opens(shop: Any) -> None:
    """Fails if people must find out themselves which orders a new place could ship."""
    await shop.stock_up({"杭州仓": {"茶": 5}})
    (reserved,) = (await shop.harness.receive([an_audited()])).emitted
    for _ in range(3):
        (reserved,) = (await shop.harness.receive([no_plan(reserved)])).emitted
    assert (await shop.ok("GET", "/v1/stuck?sku_id=茶&code=routing_stuck"))["items"]
    assert (await shop.ok("GET", "/v1/stuck?pool_id=other"))["items"] == []
    await shop.ok("PUT", "/v1/locations", {"locations": [a_place("新仓")]})
    await shop.harness.run_due_tasks("redrive")
    again = [event for event in await shop.harness.emitted() if isinstance(event, StockReserved)]
    assert [(event.order_id, event.attempt) for event in again] == [(reserved.order_id, 4)]


async def test_an_order_after_the_cut_off_takes_the_next_days_capacity(shop: Any) -> None:
    """Fails if capacity is always today's, or if it stays taken when the order comes back."""
    await shop.stock_up({"杭州仓": {"茶": 5}}, daily_capacity=1, cut_off="09:00", working_weekdays=[1, 2, 3, 5])
    reserved = (await shop.harness.receive([an_audited(), an_audited()])).emitted
    emitted = (await shop.harness.receive([a_routed(event) for event in reserved])).emitted
    assert [type(event) for event in emitted] == [StockAllocated, StockReserved]
    assert [str(day) for (day,) in await shop.rows("SELECT day FROM place_day")] == ["2026-11-13"]  # It is Wednesday, 10:00.
    assert emitted[1].places[0][1] == 0
