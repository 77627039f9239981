"""Changes, refunds, receipts and returns from outside; goods in parts; places that say no; stock documents in the books."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from e2e_support import SECONDS, DemoWms, Shop

from tools.client import ApiError
from tools.waiting import until

pytestmark = pytest.mark.usefixtures("coherent")


async def test_an_address_changes_while_the_order_is_held(shop: Shop) -> None:
    """Fails when the label or the routing keeps the old receiver."""
    order = shop.order(await shop.stocked(50), 25)
    await shop.send(order)
    detail = await shop.reaches(order, "held")
    moved = {"province": "四川省", "city": "成都市", "district": "武侯区", "street": "科华北路 12 号"}
    assert (await shop.change(order, receiver=order["receiver"] | moved))["applied"] == ["receiver"]
    await shop.oms.post("audit", f"/v1/orders/{detail['order_id']}/release", {"reason": "fine"})
    detail = await shop.reaches(order, "delivered")
    assert detail["order"]["destination"]["city"] == "成都市"
    (work,) = await shop.work(order, status="closed")
    label = await shop.oms.get("fulfillment", f"/v1/fulfilment-orders/{work['fulfilment_order_id']}/label")
    assert "科华北路 12 号" in str(label)


async def test_an_address_that_comes_too_late_is_refused_and_seen(shop: Shop) -> None:
    """Fails when a change is dropped in silence."""
    order = shop.order(await shop.stocked(2))
    await shop.send(order)
    detail = await shop.reaches(order, "delivered")
    elsewhere = order["receiver"] | {"street": "人民南路四段 9 号"}
    assert (await shop.change(order, receiver=elsewhere))["refused"] == ["receiver"]
    cases = [case async for case in shop.oms.pages("ingest", "/v1/cases", order_id=detail["order_id"])]
    assert cases


async def test_a_price_change_of_a_held_order_posts_the_difference(shop: Shop) -> None:
    """Fails when a newer version's money never reaches the books, or is posted whole."""
    good = await shop.stocked(50)
    order = shop.order(good, 25)
    await shop.send(order)
    detail = await shop.reaches(order, "held")
    line = shop.maker.line(good, 25) | {"adjust_minor": -25_00, "paid_minor": order["lines"][0]["paid_minor"] - 25_00}
    newer = {"lines": [line], "paid_minor": line["paid_minor"], "source_version": order["source_version"] + 1000}
    await shop.send(order | newer)
    await shop.templates(order, "paid", "changed")
    await shop.oms.post("audit", f"/v1/orders/{detail['order_id']}/release", {"reason": "fine"})
    await shop.reaches(order, "delivered")
    await shop.templates(order, "paid", "changed", "shipped", "delivered")
    changed = next(row for row in await shop.vouchers_of(order) if row["template"] == "changed")
    assert changed["total_minor"] == 25_00


async def test_a_refund_is_booked_once(shop: Shop) -> None:
    """Fails when the platform's refund id is not the refund's identity, or more goes back than was paid."""
    order = shop.order(await shop.stocked(2), 2)
    await shop.send(order)
    await shop.reaches(order, "delivered")
    await shop.refund(order, 3000, refund_id="RF-1")
    await shop.refund(order, 3000, refund_id="RF-1")
    with pytest.raises(ApiError) as too_much:
        await shop.refund(order, 7001)
    assert too_much.value.status == 409
    await shop.refund(order, 7000)
    templates = await shop.templates(order, "paid", "shipped", "delivered", "refunded", "refunded")
    assert templates["refunded"] == 2


async def test_goods_come_back_good_and_bad(shop: Shop) -> None:
    """Fails when bad goods are sold again, or a return is taken twice."""
    good = await shop.stocked(5)
    order = shop.order(good, 3)
    await shop.send(order)
    detail = await shop.reaches(order, "delivered")
    lines = [{"sku_id": good.sku_id, "good": 1, "bad": 1, "missing": 0}]
    back = {"order_id": detail["order_id"], "reference": f"RMA-{order['channel_order_no']}", "why": "buyer_return"}
    body = back | {"lines": lines, "reason": "did not fit"}
    await shop.oms.post("fulfillment", "/v1/returns", body)
    await shop.oms.post("fulfillment", "/v1/returns", body)
    more = back | {"reference": f"{back['reference']}-2", "lines": [lines[0] | {"good": 2, "bad": 0}], "reason": "again"}
    with pytest.raises(ApiError) as too_many:
        await shop.oms.post("fulfillment", "/v1/returns", more)
    assert too_many.value.status in {409, 422}
    await shop.refund(order, 2 * 5000)
    await shop.templates(order, "refunded", "return_good", "return_bad")

    async def counted() -> bool:
        stock = await shop.stock(good)
        return (stock["on_hand"], stock["damaged"]) == (3, 1)

    await until(counted, seconds=SECONDS, what="three good ones and a bad one")


async def test_a_confirmed_receipt_recognises_what_no_carrier_reported(shop: Shop, wms: DemoWms) -> None:
    """Fails when revenue waits for an event that never comes, or is booked twice when it does."""
    place_id = await shop.place()
    await wms.drives(shop.oms, place_id)
    await wms.turn()
    order = shop.order(await shop.stocked(2, place_id=place_id), 2)
    await shop.send(order)
    detail = await shop.reaches(order, "shipped")
    await shop.templates(order, "paid", "shipped")
    receipt = {"reference": "confirm-1", "confirmed_at": datetime.now(UTC).isoformat()}
    first = await shop.oms.post("ingest", f"/v1/orders/{detail['order_id']}/receipt", receipt)
    again = await shop.oms.post("ingest", f"/v1/orders/{detail['order_id']}/receipt", receipt)
    assert (first["outcome"], again["outcome"]) == ("accepted", "duplicate")
    await shop.templates(order, "paid", "shipped", "recognised")
    await shop.deliver(order)
    await shop.reaches(order, "delivered")
    revenue = sum(
        entry["credit_minor"] - entry["debit_minor"]
        for voucher in await shop.vouchers_of(order)
        for entry in voucher["entries"]
        if entry["account"] == "6001"
    )
    assert revenue == 10_000 - round(10_000 * 13 / 113)


async def test_a_bundle_ships_its_parts_and_cancels_by_the_set(shop: Shop) -> None:
    """Fails when a bundle goes out as a line of its own, or its price does not reach its parts to the fen."""
    one, two = await shop.stocked(40, price_minor=3333), await shop.stocked(90, price_minor=1000)
    bundle = shop.good(price_minor=4999)
    parts = [{"sku_id": one.sku_id, "quantity": 1, "price_weight": 2}, {"sku_id": two.sku_id, "quantity": 2, "price_weight": 1}]
    await shop.oms.put("inventory", "/v1/items", {"items": [bundle.item() | {"bundle_parts": parts}]})
    order = shop.order(bundle, 21)
    await shop.send(order)
    detail = await shop.reaches(order, "held")
    request = await shop.cancel(order, [{"line": 1, "quantity": 1}])
    assert [(each["asked"], each["cancelled"]) for each in request["bundles"]] == [(1, 1)]
    assert {line["sku_id"]: line["cancelled"] for line in request["lines"]} == {one.sku_id: 1, two.sku_id: 2}
    await shop.oms.post("audit", f"/v1/orders/{detail['order_id']}/release", {"reason": "fine"})
    await shop.reaches(order, "delivered")
    assert ((await shop.stock(one))["on_hand"], (await shop.stock(two))["on_hand"]) == (20, 50)


async def test_an_order_that_no_place_has_whole_ships_from_two(shop: Shop) -> None:
    """Fails when nobody splits by place: the buyer would wait for goods that are there."""
    await shop.oms.get("router", "/v1/policies")
    here, there = await shop.place(), await shop.place()
    first, second = await shop.stocked(2, place_id=here), await shop.stocked(2, place_id=there, price_minor=7001)
    lines = [shop.maker.line(first, 1, number=1), shop.maker.line(second, 2, number=2)]
    paid = sum(line["paid_minor"] for line in lines) + 800
    order = shop.order(first, lines=lines, freight_list_minor=800, paid_minor=paid)
    await shop.send(order)
    detail = await shop.reaches(order, "delivered")
    assert len(detail["parts"]) == 2
    assert {part["stage"] for part in detail["parts"]} == {"delivered"}
    await shop.templates(order, "paid", "shipped", "shipped", "delivered", "delivered")


async def test_a_place_that_rejects_is_passed_over(shop: Shop, wms: DemoWms) -> None:
    """Fails when a rejected order is lost, or offered to the same place for ever."""
    place_id = await shop.place()
    await wms.drives(shop.oms, place_id)
    good = await shop.stocked(2, place_id=place_id)
    await wms.turn(reject_skus=[good.sku_id], accept_seconds=0.2)
    order = shop.order(good, 2)
    await shop.send(order)
    await shop.work(order, request_status="rejected")
    await shop.receive(good, 2)
    await shop.reaches(order, "delivered")


async def test_what_a_place_picks_short_ships_from_elsewhere(shop: Shop, wms: DemoWms) -> None:
    """Fails when units that were not found are shipped in the books, or forgotten."""
    place_id = await shop.place()
    await wms.drives(shop.oms, place_id)
    await wms.turn(short_rate=1.0)
    good = await shop.stocked(3, place_id=place_id)
    order = shop.order(good, 3)
    await shop.send(order)
    await shop.work(order, status="closed")
    await shop.receive(good, 5)
    await wms.turn()
    await shop.deliver(order, parcels=2)
    await shop.reaches(order, "delivered")
    stock = await shop.stock(good)
    assert (stock["on_hand"], stock["allocated"], stock["reserved"]) == (5, 0, 0) or stock["on_hand"] == 4


async def test_a_pick_up_needs_the_code(shop: Shop) -> None:
    """Fails when goods are handed to whoever asks."""
    good = await shop.stocked(2, place_id="ST-BEIJING")
    order = shop.order(good, fulfilment={"kind": "pick_up", "place_id": "ST-BEIJING"})
    await shop.send(order)
    await shop.reaches(order, "allocated")
    (work,) = await shop.work(order, waiting_for="buyer")
    path = f"/v1/fulfilment-orders/{work['fulfilment_order_id']}"
    code = (await shop.oms.get("fulfillment", f"{path}/pick-up-code"))["code"]
    wrong = f"{(int(code) + 1) % 10**8:08d}"
    with pytest.raises(ApiError) as refused:
        await shop.oms.post("fulfillment", f"{path}/handover", {"code": wrong})
    assert 400 <= refused.value.status < 500
    await shop.oms.post("fulfillment", f"{path}/handover", {"code": code})
    await shop.reaches(order, "delivered")


async def test_stock_documents_reach_the_books(shop: Shop) -> None:
    """Fails when goods become more or fewer without a voucher."""
    place_id = await shop.place()
    good = await shop.stocked(10, place_id=place_id)
    counted = {"reference": f"COUNT-{shop.name}", "place_id": place_id, "reason": "yearly count"}
    await shop.oms.post("inventory", "/v1/counts", counted | {"lines": [{"sku_id": good.sku_id, "counted": 8}]})
    assert (await shop.stock(good))["on_hand"] == 8

    async def posted() -> bool:
        rows: list[dict[str, Any]] = [row async for row in shop.oms.pages("ledger", "/v1/vouchers", q=shop.name)]
        return {row["template"] for row in rows} >= {"stock_received", "stock_difference"}

    await until(posted, seconds=SECONDS, what="receipt and count are posted")
