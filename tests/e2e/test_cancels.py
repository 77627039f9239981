"""Cancels from outside: at every stage of an order, whole and in part, withdrawn, from newer versions of the channel."""

from __future__ import annotations

from typing import Any

import pytest
from e2e_support import SECONDS, DemoWms, Shop

from tools.client import ApiError
from tools.waiting import until

pytestmark = pytest.mark.usefixtures("coherent")


def settled(request: dict[str, Any]) -> list[tuple[int, int, str]]:
    """(cancelled, refused, code) per line."""
    return [(line["cancelled"], line["refused"], line["code"]) for line in request["lines"]]


async def test_a_parked_order_is_cancelled_where_it_lies(shop: Shop) -> None:
    """Fails when a cancel is sent after an order that never left ingest: nobody would ever answer it."""
    order = shop.order(shop.good(), 2)
    await shop.send(order)
    await shop.reaches(order, "parked")
    assert settled(await shop.cancel(order)) == [(2, 0, "cancelled_unsent")]
    await shop.reaches(order, "cancelled")


async def test_a_held_order_is_cancelled_by_audit(shop: Shop) -> None:
    """Fails when audit passes a cancel on although it holds the units: they would ship once it is released."""
    order = shop.order(await shop.stocked(50), 25)
    await shop.send(order)
    await shop.reaches(order, "held")
    assert settled(await shop.cancel(order, [{"line": 1, "quantity": 5}])) == [(5, 0, "cancelled_held")]
    await shop.reaches(order, "held")
    assert settled(await shop.cancel(order)) == [(20, 0, "cancelled_held")]
    detail = await shop.reaches(order, "cancelled")
    with pytest.raises(ApiError) as refused:
        await shop.oms.post("ingest", f"/v1/orders/{detail['order_id']}/cancellation", {"reason": "buyer_asked"})
    assert refused.value.status == 409


async def test_a_back_ordered_order_is_cancelled_by_inventory(shop: Shop) -> None:
    """Fails when the waiting demand stays: goods that come later would be held for nobody."""
    good = await shop.stocked(0)
    order = shop.order(good, 2)
    await shop.send(order)
    await shop.reaches(order, "backordered")
    assert settled(await shop.cancel(order)) == [(2, 0, "cancelled_backordered")]
    await shop.reaches(order, "cancelled")
    await shop.receive(good, 3)
    other = shop.order(good, 3)
    await shop.send(other)
    await shop.reaches(other, "delivered")


async def test_a_reserved_order_is_cancelled_while_its_place_is_paused(shop: Shop) -> None:
    """Fails when a cancelled hold keeps its units, or an opened place wakes nobody."""
    place_id = await shop.place()
    good = await shop.stocked(3, place_id=place_id)
    await shop.oms.post("inventory", f"/v1/locations/{place_id}/pause", {"reason": "stock-taking"})
    cancelled, waits = shop.order(good, 2), shop.order(good, 1)
    await shop.send(cancelled, waits)
    for order in (cancelled, waits):
        await shop.reaches(order, "reserved", "unroutable", "stuck")
    assert settled(await shop.cancel(cancelled, [{"line": 1, "quantity": 1}])) == [(1, 0, "cancelled_reserved")]
    assert settled(await shop.cancel(cancelled)) == [(1, 0, "cancelled_reserved")]
    await shop.reaches(cancelled, "cancelled")
    await shop.oms.post("inventory", f"/v1/locations/{place_id}/resume", {"reason": "done"})
    await shop.reaches(waits, "delivered")
    stock = await shop.stock(good)
    assert (stock["on_hand"], stock["allocated"], stock["reserved"], stock["atp"]) == (2, 0, 0, 2)


@pytest.mark.parametrize("pending_stops", [False, True], ids=["answered at once", "answered by call-back"])
async def test_an_open_order_at_a_wms_is_stopped_whole_and_in_part(shop: Shop, wms: DemoWms, pending_stops: bool) -> None:
    """Fails when a stop is not asked, answered twice, or takes more than was asked for."""
    place_id = await shop.place()
    await wms.drives(shop.oms, place_id)
    await wms.turn(pick_seconds=6.0, pending_stops=pending_stops, duplicate_rate=1.0)
    good = await shop.stocked(9, place_id=place_id)
    whole, part = shop.order(good, 2), shop.order(good, 3)
    await shop.send(whole, part)
    for order in (whole, part):
        await shop.reaches(order, "allocated")
        await shop.work(order, request_status="accepted")
    assert settled(await shop.cancel(whole)) == [(2, 0, "cancelled_stopped")]
    await shop.reaches(whole, "cancelled")
    assert settled(await shop.cancel(part, [{"line": 1, "quantity": 1}])) == [(1, 0, "cancelled_stopped")]
    await shop.deliver(part)
    await shop.reaches(part, "delivered")
    stock = await shop.stock(good)
    assert (stock["on_hand"], stock["allocated"], stock["reserved"]) == (7, 0, 0)


async def test_a_wms_that_can_only_stop_whole_orders_ships_the_rest_anew(shop: Shop, wms: DemoWms) -> None:
    """Fails when the surplus of a stop is cancelled too, or lost."""
    place_id = await shop.place()
    await wms.drives(shop.oms, place_id)
    await wms.turn(pick_seconds=6.0, stops_only_whole=True)
    good = await shop.stocked(3, place_id=place_id)
    order = shop.order(good, 3)
    await shop.send(order)
    await shop.reaches(order, "allocated")
    await shop.work(order, request_status="accepted")
    await wms.turn(stops_only_whole=True)
    assert settled(await shop.cancel(order, [{"line": 1, "quantity": 1}])) == [(1, 0, "cancelled_stopped")]
    await shop.deliver(order)
    await shop.reaches(order, "delivered")
    stock = await shop.stock(good)
    assert (stock["on_hand"], stock["allocated"], stock["reserved"]) == (1, 0, 0)


async def test_a_stop_after_picking_is_refused_and_the_parcel_leaves(shop: Shop, wms: DemoWms) -> None:
    """Fails when a refusal is taken for a stop: the unit would be cancelled and shipped."""
    place_id = await shop.place()
    await wms.drives(shop.oms, place_id)
    await wms.turn(ship_seconds=5.0)
    good = await shop.stocked(2, place_id=place_id)
    order = shop.order(good, 2)
    await shop.send(order)
    await shop.reaches(order, "allocated")
    await shop.work(order, request_status="accepted")
    assert settled(await shop.cancel(order)) == [(0, 2, "too_late")]
    await shop.deliver(order)
    await shop.reaches(order, "delivered")


async def test_a_shipped_order_refuses_the_cancel(shop: Shop) -> None:
    """Fails when a cancel after shipping is granted, or never answered."""
    order = shop.order(await shop.stocked(1))
    await shop.send(order)
    await shop.reaches(order, "delivered")
    assert settled(await shop.cancel(order)) == [(0, 1, "too_late")]


async def test_one_line_of_two_is_cancelled_and_the_other_ships(shop: Shop) -> None:
    """Fails when a part cancel takes the whole order, or the money of the wrong line."""
    first, second = await shop.stocked(30), await shop.stocked(30, price_minor=7000)
    lines = [shop.maker.line(first, 21, number=1), shop.maker.line(second, 1, number=2)]
    order = shop.order(first, lines=lines, paid_minor=sum(line["paid_minor"] for line in lines))
    await shop.send(order)
    detail = await shop.reaches(order, "held")
    assert settled(await shop.cancel(order, [{"line": 1}])) == [(21, 0, "cancelled_held")]
    await shop.oms.post("audit", f"/v1/orders/{detail['order_id']}/release", {"reason": "the rest is fine"})
    await shop.reaches(order, "delivered")
    await shop.refund(order, 21 * 5000)
    await shop.templates(order, "paid", "shipped", "delivered", "refunded")
    assert (await shop.stock(first))["on_hand"] == 30
    assert (await shop.stock(second))["on_hand"] == 29


async def test_more_than_is_left_is_refused_by_line(shop: Shop) -> None:
    """Fails when two requests may take the same unit."""
    order = shop.order(await shop.stocked(50), 25)
    await shop.send(order)
    detail = await shop.reaches(order, "held")
    await shop.cancel(order, [{"line": 1, "quantity": 20}])
    path = f"/v1/orders/{detail['order_id']}/cancellation"
    with pytest.raises(ApiError) as refused:
        await shop.oms.post("ingest", path, {"reason": "buyer_asked", "lines": [{"line": 1, "quantity": 6}]})
    assert refused.value.status == 409
    assert refused.value.problem["errors"][0]["field"].startswith("lines.0")


async def test_a_withdrawn_cancel_ships_after_all(shop: Shop) -> None:
    """Fails when what was cancelled before the withdrawal is lost to the buyer, or paid for twice in the books."""
    good = await shop.stocked(50)
    order = shop.order(good, 25)
    await shop.send(order)
    await shop.reaches(order, "held")
    request = await shop.cancel(order, [{"line": 1, "quantity": 7}])
    await shop.oms.call("ingest", "DELETE", f"/v1/cancellations/{request['request_id']}", params={"reason": "kept after all"})
    withdrawn = await shop.request(request["request_id"], "withdrawn")
    again = withdrawn["revived_as"]
    assert again is not None

    async def shipped() -> bool:
        detail = await shop.detail(order)
        assert detail is not None
        return {part["order_id"]: part["stage"] for part in detail["parts"]}.get(again) == "delivered"

    await until(shipped, seconds=SECONDS, what="the revived order is delivered")
    assert (await shop.stock(good))["on_hand"] == 43
    rows = [row async for row in shop.oms.pages("ledger", "/v1/vouchers", order_id=again)]
    assert "paid" not in {row["template"] for row in rows}


@pytest.mark.parametrize("stage", ["held", "delivered"])
async def test_a_channel_that_closes_an_order_cancels_it(shop: Shop, stage: str) -> None:
    """Fails when a newer version that closes the order is only stored."""
    order = shop.order(await shop.stocked(50), 25 if stage == "held" else 2)
    await shop.send(order)
    detail = await shop.reaches(order, stage)
    closed = order | {"source_version": order["source_version"] + 1000, "trade_state": "closed_refunded"}
    await shop.send(closed)

    async def closed_requests() -> list[dict[str, Any]]:
        page = await shop.oms.get("ingest", "/v1/cancellations", order_id=detail["order_id"])
        return [item for item in page["items"] if item["state"] == "closed"]

    (request,) = await until(closed_requests, seconds=SECONDS, what="the channel's cancel is settled")
    assert request["reason"] == "closed_by_channel"
    assert settled(request) == ([(25, 0, "cancelled_held")] if stage == "held" else [(0, 2, "too_late")])
    if stage == "held":
        await shop.reaches(order, "cancelled")


async def test_a_channel_that_lowers_a_quantity_cancels_the_difference(shop: Shop) -> None:
    """Fails when a lower quantity is taken for a price, or cancels the whole line."""
    good = await shop.stocked(50)
    order = shop.order(good, 25)
    await shop.send(order)
    detail = await shop.reaches(order, "held")
    line = shop.maker.line(good, 22)
    fewer = {"lines": [line], "paid_minor": line["paid_minor"], "source_version": order["source_version"] + 1000}
    await shop.send(order | fewer)

    async def look() -> list[dict[str, Any]]:
        page = await shop.oms.get("ingest", "/v1/cancellations", order_id=detail["order_id"])
        return [item for item in page["items"] if item["state"] == "closed"]

    (request,) = await until(look, seconds=SECONDS, what="the difference is cancelled")
    assert settled(request) == [(3, 0, "cancelled_held")]
    await shop.oms.post("audit", f"/v1/orders/{detail['order_id']}/release", {"reason": "fine"})
    await shop.reaches(order, "delivered")
    assert (await shop.stock(good))["on_hand"] == 28
