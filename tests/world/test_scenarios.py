"""Lives of orders through the real six services, joined in one process; after each step everything adds up."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from eventing import NewTask

from .shop import Shop, settled


async def test_what_is_committed_during_a_look_is_seen_by_the_next(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a look that is out of date is kept: what a WMS called back in that moment would be left for ever."""
    node = shop.world.services["fulfillment"]
    aside = node.aside

    class Overtaken:
        async def fetchrow(self, sql: str) -> Any:
            row = await aside.fetchrow(sql)
            async with node.runtime.work() as work:
                work.add_tasks([NewTask("overtaking", "a", shop.world.clock.now())])
            return row

    node.forget_look()
    monkeypatch.setattr(node, "aside", Overtaken())
    await node.look()
    monkeypatch.setattr(node, "aside", aside)
    assert "overtaking" in dict((await node.look()).tasks)


async def test_plain_orders_are_shipped_delivered_and_posted(shop: Shop) -> None:
    """Fails when any hop loses an order, a unit or its money."""
    good = await shop.good(50)
    order = shop.order(good, 2, freight_list_minor=800, paid_minor=10800)
    await shop.send(order)
    await shop.world.check()
    await shop.world.pass_time(seconds=120)
    assert await shop.stage(order) == "delivered"
    assert await shop.templates(order) == Counter(paid=1, shipped=1, delivered=1)
    assert await shop.stock(good) == {"on_hand": 48, "allocated": 0, "reserved": 0, "atp": 48}
    await shop.world.check()


async def test_an_order_over_two_places_is_split_by_place(shop: Shop) -> None:
    """Fails when the parts of a split lose a unit, or the freight's fen."""
    near, far = await shop.good(2), await shop.good(2, place_id="WH-GUANGZHOU")
    order = shop.order_of([(near, 2), (far, 2)], freight_minor=777)
    await shop.send(order)
    await shop.world.check()
    await shop.world.pass_time(seconds=120)
    assert await shop.parts(order) == Counter(delivered=2)
    await shop.world.check()


async def test_a_held_order_is_released_rejected_or_stays(shop: Shop) -> None:
    """Fails when a reject ships, a release does not, or what is held is counted as sold."""
    good = await shop.good(100)
    released, rejected, stays = (shop.order(good, 25) for _ in range(3))
    await shop.send(released, rejected, stays)
    await shop.world.check()
    await shop.release(released)
    await shop.reject(rejected)
    await shop.world.pass_time(seconds=120)
    assert [await shop.stage(order) for order in (released, rejected, stays)] == ["delivered", "cancelled", "held"]
    await shop.world.check()


async def test_a_waiting_order_shrinks_changes_and_is_taken_up_again(shop: Shop) -> None:
    """Fails when a cancel, a newer version or a withdrawal of a back-ordered order loses a unit or posts it twice."""
    good = await shop.good()
    order = shop.order(good, 5)
    await shop.send(order)
    assert settled(await shop.cancel(order, (1, 1))) == [(1, 0, "cancelled_backordered")]
    await shop.world.check()
    fewer = shop.maker.line(good, 3)
    await shop.newer(order, lines=[fewer], paid_minor=fewer["paid_minor"])
    await shop.world.check()
    request = await shop.cancel(order)
    await shop.world.check()
    assert await shop.stage(order) == "cancelled"
    await shop.withdraw(request)
    await shop.world.check()
    await shop.receive(good, 9)
    await shop.world.pass_time(seconds=120)
    assert sum(line[0] for line in settled(request)) == 9 - (await shop.stock(good))["on_hand"]
    await shop.world.check()


async def test_units_taken_up_again_bring_along_the_fens_that_they_had(shop: Shop) -> None:
    """Fails when a revived order is given the money of other units than those that were cancelled."""
    good = await shop.good()
    order = shop.order(good, 10)
    line = order["lines"][0] | {"adjust_minor": -1, "paid_minor": order["paid_minor"] - 1}
    order |= {"lines": [line], "paid_minor": line["paid_minor"]}
    await shop.send(order)
    # The first takes three even shares; then seven units hold nine odd fens, so that each of the next two has one of them.
    requests = [await shop.cancel(order, (1, 3)), await shop.cancel(order, (1, 2))]
    for request in requests:
        await shop.withdraw(request)
    await shop.receive(good, 10)
    await shop.world.pass_time(seconds=120)
    assert (await shop.stock(good))["on_hand"] == 0
    sql = "SELECT coalesce(s.part_json, c.part_json) FROM shipment s JOIN fulfilment_content c USING (fulfilment_order_id)"
    parts = [json.loads(part) for (part,) in await shop.world.rows("fulfillment", sql)]
    assert sum(sent["paid_minor"] for part in parts for sent in part["lines"]) == order["paid_minor"]
    await shop.world.check()


async def test_a_price_that_changes_while_it_waits_posts_the_difference(shop: Shop) -> None:
    """Fails when a newer version's money never reaches the books, or is posted whole."""
    good = await shop.good()
    order = shop.order(good, 2)
    await shop.send(order)
    line = order["lines"][0] | {"adjust_minor": -100, "paid_minor": order["paid_minor"] - 100}
    await shop.newer(order, lines=[line], paid_minor=line["paid_minor"])
    await shop.world.check()
    await shop.receive(good, 2)
    await shop.world.pass_time(seconds=120)
    assert await shop.templates(order) >= Counter(paid=1, changed=1, shipped=1, delivered=1)
    await shop.world.check()


async def test_a_pick_up_order_is_cut_and_handed_over(shop: Shop) -> None:
    """Fails when goods that lie ready cannot be stopped, or are booked as gone before the buyer comes."""
    good = await shop.good(5, place_id="ST-SHANGHAI")
    order = shop.order(good, 3, fulfilment={"kind": "pick_up", "place_id": "ST-SHANGHAI"})
    await shop.send(order)
    await shop.world.check()
    assert settled(await shop.cancel(order, (1, 1))) == [(1, 0, "cancelled_stopped")]
    await shop.world.check()
    (work,) = [row for row in await shop.work(order) if row["status"] == "in_progress"]
    path = f"/v1/fulfilment-orders/{work['fulfilment_order_id']}/handover"
    await shop.post("fulfillment", path, {"reason": "the buyer is known here"})
    assert await shop.stage(order) == "delivered"
    assert (await shop.stock(good))["on_hand"] == 3
    await shop.world.check()


async def test_a_till_sale_is_a_fact_even_where_nothing_was_counted(shop: Shop) -> None:
    """Fails when a sale at the till is held, routed, or lost where the count says that it cannot be."""
    good = await shop.good(1, place_id="ST-SHANGHAI")
    at = shop.world.clock.now().isoformat()
    handed_over = {"kind": "already_handed_over", "place_id": "ST-SHANGHAI", "handed_over_at": at}
    orders = [shop.order(good, channel="pos", fulfilment=handed_over, trade_state="finished") for _ in range(2)]
    await shop.send(*orders)
    assert [await shop.stage(order) for order in orders] == ["delivered"] * 2
    await shop.world.check()


async def test_a_bundle_ships_its_parts(shop: Shop) -> None:
    """Fails when a bundle's line moves as one unit, or its money is not spread to the fen."""
    cup, tea = await shop.good(4), await shop.good(2)
    parts = [{"sku_id": cup.sku_id, "quantity": 2}, {"sku_id": tea.sku_id, "quantity": 1}]
    bundle = cup._replace(sku_id="SET", list_price_minor=9999)
    await shop.world.oms.put("inventory", "/v1/items", {"items": [bundle.item() | {"bundle_parts": parts}]})
    await shop.world.settle()
    order = shop.order(bundle, 2)
    await shop.send(order)
    await shop.world.check()
    await shop.world.pass_time(seconds=120)
    assert await shop.stage(order) == "delivered"
    assert [(await shop.stock(good))["on_hand"] for good in (cup, tea)] == [0, 0]
    await shop.world.check()


async def test_refunds_before_and_after_shipping(shop: Shop) -> None:
    """Fails when a refund depends on where the goods are, or is counted twice with the cancel."""
    good, scarce = await shop.good(5), await shop.good()
    shipped, waits, both = shop.order(good, 2), shop.order(scarce, 2), shop.order(scarce, 2)
    await shop.send(shipped, waits, both)
    await shop.world.pass_time(seconds=120)
    for order in (shipped, waits):
        await shop.refund(order, 3000)
    await shop.world.check()
    await shop.cancel(both, (1, 1))
    await shop.refund(both, 5000)
    await shop.world.check()
    await shop.receive(scarce, 3)
    await shop.world.pass_time(seconds=120)
    assert [await shop.stage(order) for order in (shipped, waits, both)] == ["delivered"] * 3
    assert [(await shop.templates(order))["refunded"] for order in (shipped, waits, both)] == [1, 1, 1]
    await shop.world.check()


async def test_goods_come_back_good_bad_and_missing(shop: Shop) -> None:
    """Fails when bad goods are sold again, or a return posts what did not come."""
    good = await shop.good(5)
    order = shop.order(good, 3)
    await shop.send(order)
    await shop.world.pass_time(seconds=120)
    (parcel,) = await shop.shipments(order)
    await shop.take_back(parcel, {"sku_id": good.sku_id, "good": 1, "bad": 1, "missing": 1})
    assert (await shop.stock(good))["on_hand"] == 3
    await shop.world.check()
    await shop.refund(order, order["paid_minor"])
    await shop.world.check()
    assert settled(await shop.cancel(order)) == [(0, 3, "too_late")]
    await shop.world.check()


async def test_a_short_order_is_split_where_the_shop_says_so_and_the_rest_wakes(shop: Shop) -> None:
    """Fails when what is there waits for what is not, or what comes wakes nobody."""
    policy = {"reason": "test", "shops": [{"channel": "wechat_shop", "shop_id": shop.name, "shortage": "split"}]}
    await shop.world.oms.put("inventory", "/v1/policies/shortage", policy)
    there, short = await shop.good(2), await shop.good(1)
    order = shop.order_of([(there, 2), (short, 3)], freight_minor=500)
    await shop.send(order)
    await shop.world.check()
    await shop.world.pass_time(seconds=120)
    assert await shop.parts(order) == Counter(delivered=1, backordered=1)
    await shop.world.check()
    assert settled(await shop.cancel(order, (2, 1))) == [(1, 0, "cancelled_backordered")]
    await shop.world.check()
    await shop.receive(short, 1)
    await shop.world.pass_time(seconds=120)
    assert await shop.parts(order) == Counter(delivered=2)
    await shop.world.check()


async def test_a_count_that_finds_less_recalls_what_was_promised(shop: Shop) -> None:
    """Fails when more orders keep their goods than there are, or a recalled order is lost."""
    place_id = await shop.place("manual")
    good = await shop.good(3, place_id=place_id)
    orders = [shop.order(good) for _ in range(3)]
    for order in orders:
        await shop.send(order)
        shop.world.clock.advance(seconds=1)
    await shop.world.check()
    await shop.count(good, 1, place_id=place_id)
    await shop.world.pass_time(seconds=10)
    stages = [await shop.stage(order) for order in orders]
    assert stages == ["allocated", "backordered", "backordered"], "the youngest are recalled"
    await shop.world.check()
    await shop.at_place(orders[0], "shipment", parcels=[{}], final=True)
    await shop.receive(good, 2)
    await shop.world.pass_time(seconds=120)
    assert [await shop.stage(order) for order in orders] == ["delivered"] * 3
    await shop.world.check()


async def test_a_place_that_rejects_and_one_that_picks_short_are_left_out(shop: Shop) -> None:
    """Fails when a rejected order goes back to the place that rejected it, or short units stay counted."""
    place_id = await shop.place("manual")
    good = await shop.good(4, place_id=place_id)
    rejected, short = shop.order(good, 2), shop.order(good, 2)
    await shop.send(rejected, short)
    await shop.at_place(rejected, "rejection", cause="too_busy")
    await shop.world.check()
    await shop.at_place(short, "short-pick", lines=[{"sku_id": good.sku_id, "quantity": 1}])
    await shop.world.check()
    await shop.receive(good, 3)
    await shop.at_place(short, "shipment", parcels=[{}], final=True)
    await shop.world.pass_time(seconds=2000)
    assert await shop.stage(rejected) == "delivered"
    assert await shop.parts(short) == Counter(delivered=2)
    await shop.world.check()


async def _with_rules(shop: Shop, *rules: dict[str, Any]) -> None:
    await shop.world.oms.put("audit", "/v1/rule-set", {"reason": "test", "rules": list(rules)})


MERGE = {"rule_id": "merge", "kind": "merge", "wait_minutes": 10, "max_orders": 5}


async def test_orders_of_one_receiver_merge_ship_as_one_and_come_back(shop: Shop) -> None:
    """Fails when a merge loses an origin: its cancel, its return or its money would go to the wrong order."""
    await _with_rules(shop, MERGE)
    good, other = await shop.good(9), await shop.good(9)
    first = shop.order(good, 2, freight_list_minor=600, paid_minor=10600)
    alike = {"receiver": first["receiver"], "buyer": first["buyer"]}
    second, third = shop.order(other, 3, **alike), shop.order(good, 1, **alike)
    await shop.send(first, second)
    await shop.send(third)
    assert [await shop.stage(order) for order in (first, second, third)] == ["held"] * 3
    await shop.world.check()
    assert settled(await shop.cancel(third)) == [(1, 0, "cancelled_held")]
    await shop.world.check()
    await shop.world.pass_time(seconds=601)
    await shop.world.check()
    await shop.world.pass_time(seconds=120)
    parcels = {parcel["shipment_id"]: parcel for order in (first, second) for parcel in await shop.shipments(order)}
    assert len(parcels) == 1
    assert (await shop.stock(good))["on_hand"] == 7
    assert (await shop.stock(other))["on_hand"] == 6
    await shop.world.check()
    (parcel,) = parcels.values()
    await shop.take_back(parcel, {"sku_id": good.sku_id, "good": 1}, {"sku_id": other.sku_id, "bad": 3})
    await shop.world.check()
    assert settled(await shop.cancel(second)) == [(0, 3, "too_late")]
    await shop.refund(second, 15000)
    await shop.world.check()


async def test_a_merged_order_is_cut_where_it_waits(shop: Shop) -> None:
    """Fails when a cancel of one parent takes another's units, or never finds the merged order."""
    await _with_rules(shop, MERGE)
    good = await shop.good()
    first = shop.order(good, 2)
    second = shop.order(good, 3, receiver=first["receiver"], buyer=first["buyer"])
    await shop.send(first, second)
    await shop.world.pass_time(seconds=601)
    await shop.world.check()
    assert settled(await shop.cancel(second, (1, 2))) == [(2, 0, "cancelled_backordered")]
    await shop.world.check()
    whole = await shop.cancel(first)
    assert settled(whole) == [(2, 0, "cancelled_backordered")]
    await shop.withdraw(whole)
    await shop.world.check()
    await shop.receive(good, 9)
    await shop.world.pass_time(seconds=1300)
    assert (await shop.stock(good))["on_hand"] == 6
    await shop.world.check()


async def test_goods_that_travel_alone_and_goods_not_due_yet_are_split_off(shop: Shop) -> None:
    """Fails when a split by rule loses a unit, its freight or its hold."""
    alone, plain, later = await shop.good(5), await shop.good(5), await shop.good(5)
    rules = {"rule_id": "alone", "kind": "split_goods", "skus": [alone.sku_id]}
    await _with_rules(shop, rules, {"rule_id": "presale", "kind": "presale"}, {"rule_id": "late", "kind": "split_presale"})
    order = shop.order_of([(alone, 1), (plain, 2), (later, 2)], freight_minor=900)
    order["lines"][2]["ship_not_before"] = (shop.world.clock.now() + timedelta(days=20)).isoformat()
    await shop.send(order)
    await shop.world.check()
    await shop.world.pass_time(seconds=120)
    assert await shop.parts(order) == Counter(delivered=2, held=1)
    await shop.world.check()
    assert settled(await shop.cancel(order, (3, 1))) == [(1, 0, "cancelled_held")]
    await shop.world.check()
    await shop.world.pass_time(days=30)
    await shop.world.pass_time(seconds=120)
    assert await shop.parts(order) == Counter(delivered=3)
    await shop.world.check()


@pytest.mark.parametrize("stage", ["parked", "held", "backordered", "stuck", "allocated", "delivered"])
async def test_the_receiver_changes_at_every_stage(shop: Shop, stage: str) -> None:
    """Fails when a change is applied too late, refused too early, or asked for and never answered."""
    place_id = await shop.place("manual")
    units = {"held": 50, "allocated": 5, "delivered": 0, "stuck": 5}.get(stage, 0)
    if stage == "parked":
        good = (await shop.good(9))._replace(sku_id="NEW")
    else:
        good = await shop.good(units, place_id=place_id)
    if stage == "delivered":
        await shop.receive(good, 5)
    if stage == "stuck":
        await shop.post("inventory", f"/v1/locations/{place_id}/pause", {"reason": "stock-taking"})
    order = shop.order(good, 25 if stage == "held" else 2)
    order["receiver"] = shop.maker.receiver() | {"province": "浙江省", "city": "杭州市", "district": "余杭区"}
    await shop.send(order)
    await shop.world.pass_time(seconds=120)
    reached = await shop.stage(order)
    assert reached in ({"stuck", "reserved", "unroutable"} if stage == "stuck" else {stage})
    moved = {"province": "四川省", "city": "绵阳市", "district": "涪城区", "street": "临园路东段 12 号"}
    before = (await shop.detail(order))["order"]["destination"]
    request = await shop.change_receiver(order, **moved)
    late = stage == "delivered"
    assert (request["applied"], request["refused"]) == (([], ["receiver"]) if late else (["receiver"], []))
    assert ((await shop.detail(order))["order"]["destination"] == before) is late, "shown is where it goes"
    await shop.world.check()
    if stage == "parked":
        await shop.world.oms.put("inventory", "/v1/items", {"items": [good.item()]})
        await shop.receive(good, 2)
    if stage == "held":
        await shop.release(order)
    if stage == "backordered":
        await shop.receive(good, 2)
    if stage == "stuck":
        await shop.post("inventory", f"/v1/locations/{place_id}/resume", {"reason": "done"})
    if stage in ("held", "stuck", "allocated"):
        await shop.at_place(order, "shipment", parcels=[{}], final=True)
    await shop.world.pass_time(seconds=120)
    assert await shop.stage(order) == "delivered"
    (label,) = await shop.labels(order)
    assert (moved["street"] in label) is not late
    await shop.world.check()


async def test_a_cancel_at_a_place_is_answered_withdrawn_and_overtaken_by_a_parcel(shop: Shop) -> None:
    """Fails when a stop at a place is not answered, answered twice, or a unit both stops and ships."""
    place_id = await shop.place("manual")
    good = await shop.good(5, place_id=place_id)
    order = shop.order(good, 5)
    await shop.send(order)
    await shop.at_place(order, "acceptance")
    await shop.at_place(order, "shipment", parcels=[{"lines": [{"sku_id": good.sku_id, "quantity": 1}]}])
    await shop.world.check()
    first = await shop.cancel(order, (1, 2))
    await shop.world.check()
    assert settled(first) == [(2, 0, "cancelled_stopped")]
    await shop.withdraw(first)
    await shop.world.check()
    last = await shop.cancel(order)
    assert [line[:2] for line in settled(last)] == [(2, 1)]
    await shop.world.check()


async def test_what_is_taken_up_again_does_not_merge_with_the_order_it_comes_from(shop: Shop) -> None:
    """Fails when two lines of one origin meet in one part: stock counts one of them, and the place refuses the order."""
    await _with_rules(shop, MERGE)
    good = await shop.good(9)
    order = shop.order(good, 3)
    await shop.send(order)
    request = await shop.cancel(order, (1, 1))
    assert settled(request) == [(1, 0, "cancelled_held")]
    await shop.withdraw(request)
    await shop.world.check()
    await shop.world.pass_time(seconds=601)
    await shop.world.pass_time(seconds=120)
    assert (await shop.stock(good))["on_hand"] == 6
    await shop.world.check()
