"""From outside, through HTTP and Kafka only: one order's way, and each kind of trouble."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from typing import Any
from uuid import uuid4

import httpx
import pytest
from e2e_support import SECONDS, Publish, Shop, body_of

from tools.client import ApiError, Clients
from tools.coherence.topics import KafkaTopics
from tools.stack import Stack
from tools.waiting import until


async def test_an_order_becomes_a_parcel_and_three_vouchers(shop: Shop) -> None:
    """Fails when any hop of the spine loses the order, its money or its reason."""
    good = await shop.stocked(5)
    order = shop.order(good, 2, freight_list_minor=800, paid_minor=10800)
    (result,) = await shop.send(order)
    assert result["outcome"] in {"accepted", "parked"}  # It may overtake its item, on another topic, by a moment.

    detail = await shop.reaches(order, "delivered")

    stages = [entry["stage"] for entry in detail["timeline"] if entry["service"] != "ledger"]
    assert [stage for stage in stages if stage != "parked"] == [
        "received", "cleared", "reserved", "routed", "allocated", "shipped", "delivered",
    ]  # fmt: skip
    vouchers = await shop.vouchers(result["order_id"], 3)
    assert {row["template"]: row["total_minor"] for row in vouchers}["paid"] == 10800
    assert Counter(row["template"] for row in vouchers) == Counter(paid=1, shipped=1, delivered=1)
    for voucher in vouchers:
        assert sum(entry["debit_minor"] - entry["credit_minor"] for entry in voucher["entries"]) == 0
    (stock,) = (await shop.oms.get("inventory", "/v1/stock", sku_id=good.sku_id))["items"]
    assert (stock["on_hand"], stock["allocated"], stock["reserved"], stock["atp"]) == (3, 0, 0, 3)


async def test_the_topic_takes_what_http_takes(shop: Shop, publish: Publish) -> None:
    """Fails when the two intakes derive another identity from the same order."""
    good = await shop.stocked(5)
    order = shop.order(good, channel="jd")
    await publish("channel.orders", body_of(order))
    detail = await shop.reaches(order, "delivered")
    (again,) = await shop.send(order)
    assert (again["outcome"], again["order_id"]) == ("duplicate", detail["order_id"])


async def test_repeats_are_taken_once_however_they_come(shop: Shop, publish: Publish) -> None:
    """Fails when dedup looks at message ids instead of the channel order."""
    good = await shop.stocked(5)
    order = shop.order(good)
    key = str(uuid4())
    first = await shop.oms.post("ingest", "/v1/orders", order, **{"Idempotency-Key": key})
    assert await shop.oms.post("ingest", "/v1/orders", order, **{"Idempotency-Key": key}) == first
    with pytest.raises(ApiError) as other:
        await shop.oms.post("ingest", "/v1/orders", shop.order(good), **{"Idempotency-Key": key})
    assert (other.value.status, other.value.problem["code"]) == (422, "idempotency_key_reused")
    for _ in range(3):
        await publish("channel.orders", body_of(order), key=uuid4().bytes)
    detail = await shop.reaches(order, "delivered")
    await asyncio.gather(*(shop.send(order) for _ in range(3)))
    assert len(await shop.vouchers(detail["order_id"], 3)) == 3
    (stock,) = (await shop.oms.get("inventory", "/v1/stock", sku_id=good.sku_id))["items"]
    assert stock["on_hand"] == 4


async def test_an_equal_version_with_other_content_is_flagged(shop: Shop) -> None:
    """Fails when one of two contents wins in silence."""
    good = await shop.stocked(5)
    order = shop.order(good)
    await shop.send(order)
    await shop.send(order | {"notes": {"buyer_note": "改了备注"}})
    detail = await shop.detail(order)
    assert detail is not None
    assert "version_conflict" in detail["flags"]


async def test_a_till_sale_skips_rules_and_routing_and_is_posted_at_once(shop: Shop) -> None:
    """Fails when a fact is held, routed, or booked at another place than where it happened."""
    good = await shop.stocked(3, place_id="ST-NANJING", price_minor=900_000)  # Above the amount rule's limit.
    handed_over = {"kind": "already_handed_over", "place_id": "ST-NANJING", "handed_over_at": "2026-11-11T03:00:00Z"}
    order = shop.order(good, channel="pos", fulfilment=handed_over, trade_state="finished")
    await shop.send(order)
    detail = await shop.reaches(order, "delivered")
    assert {entry["service"] for entry in detail["timeline"]} >= {"ingest", "audit", "inventory", "fulfillment"}
    assert "router" not in {entry["service"] for entry in detail["timeline"]}
    assert len(await shop.vouchers(detail["order_id"], 3)) == 3
    (stock,) = (await shop.oms.get("inventory", "/v1/stock", sku_id=good.sku_id))["items"]
    assert [(row["place_id"], row["on_hand"]) for row in stock["places"]] == [("ST-NANJING", 2)]


async def test_a_pick_up_order_leaves_when_it_is_picked_up(shop: Shop) -> None:
    """Fails when goods that lie ready are booked as gone, or stay after the buyer took them."""
    good = await shop.stocked(2, place_id="ST-BEIJING")
    order = shop.order(good, fulfilment={"kind": "pick_up", "place_id": "ST-BEIJING"})
    await shop.send(order)
    detail = await shop.reaches(order, "allocated")

    async def find() -> list[dict[str, Any]]:
        found = await shop.oms.get("fulfillment", "/v1/fulfilment-orders", order_id=detail["order_id"])
        items: list[dict[str, Any]] = found["items"]
        return items

    (work,) = await until(find, seconds=SECONDS, what="a fulfilment order")
    assert (work["status"], work["place_id"]) == ("in_progress", "ST-BEIJING")
    path = f"/v1/fulfilment-orders/{work['fulfilment_order_id']}/handover"
    await shop.oms.post("fulfillment", path, {"reason": "the buyer is known here"})
    await shop.reaches(order, "delivered")
    assert len(await shop.vouchers(detail["order_id"], 3)) == 3


async def test_an_unknown_sku_is_parked_and_goes_on_when_the_item_arrives(shop: Shop) -> None:
    """Fails when the wake-up of parked orders is lost: the buyer has paid."""
    good = shop.good()
    order = shop.order(good)
    (result,) = await shop.send(order)
    assert (result["outcome"], result["code"]) == ("parked", "unknown_sku")
    await shop.oms.put("inventory", "/v1/items", {"items": [good.item()]})
    await shop.receive(good, 1)
    await shop.reaches(order, "delivered")


@pytest.mark.parametrize(
    ("kind", "quantity", "receiver"),
    [
        ("address", 1, {"province": "火星省", "city": "乌托邦", "district": "", "street": "无"}),
        ("phone", 1, {"phone": "12345"}),
        ("amount", 9, {}),
        ("quantity", 25, {}),
    ],
)
async def test_a_rule_holds_and_a_person_releases(shop: Shop, kind: str, quantity: int, receiver: dict[str, str]) -> None:
    """Fails when a rule stops holding, or a release does not go on."""
    good = await shop.stocked(50, price_minor=60_000 if kind == "amount" else 1000)
    order = shop.order(good, quantity)
    order["receiver"] |= receiver
    await shop.send(order)
    detail = await shop.reaches(order, "held")
    holds = [hold async for hold in shop.oms.pages("audit", "/v1/holds", order_id=detail["order_id"], status="open")]
    assert [hold["kind"] for hold in holds] == [kind]
    await shop.oms.post("audit", f"/v1/orders/{detail['order_id']}/release", {"reason": "checked with the buyer"})
    if kind != "address":  # Nobody ships to Mars: it is cleared, and then no place covers it.
        await shop.reaches(order, "delivered")


async def test_a_blacklisted_phone_is_held_and_a_reject_cancels(shop: Shop, stack: Stack) -> None:
    """Fails when tokens of the same phone differ, or a rejected order ships after all."""
    good = await shop.stocked(3)
    order = shop.order(good)
    order["receiver"]["phone"] = f"137{int(shop.name[-6:], 16) % 10**8:08d}"
    tokens = await shop.oms.post("ingest", "/v1/tokens", {"phone": order["receiver"]["phone"], "reason": "fraud"})
    entry = {"kind": "phone", "token": tokens["phone_token"]}
    await shop.oms.post("audit", "/v1/blacklist", {"reason": "fraud", "entries": [entry]})
    await shop.send(order)
    detail = await shop.reaches(order, "held")
    await shop.oms.post("audit", f"/v1/orders/{detail['order_id']}/reject", {"reason": "fraud"})
    await shop.reaches(order, "cancelled")
    records = await KafkaTopics(stack.bootstrap_servers, stack.topic_prefix).records("cancellation.settled")
    (settled,) = [json.loads(record.body) for record in records if record.subject == detail["order_id"]]
    assert [(line["cancelled"], line["refused"]) for line in settled["lines"]] == [(1, 0)]
    (stock,) = (await shop.oms.get("inventory", "/v1/stock", sku_id=good.sku_id))["items"]
    assert (stock["on_hand"], stock["reserved"]) == (3, 0)


async def test_the_last_units_are_sold_once_and_new_ones_wake_who_waits(shop: Shop) -> None:
    """Fails when stock is oversold, a unit is left while somebody waits, or a receipt wakes nobody."""
    good = await shop.stocked(7)
    orders = [shop.order(good) for _ in range(20)]
    await shop.send(*orders)
    stages = Counter([(await shop.reaches(order, "delivered", "backordered"))["stage"] for order in orders])
    assert stages == Counter(delivered=7, backordered=13)
    await shop.receive(good, 13, place_id="WH-GUANGZHOU")
    for order in orders:
        await shop.reaches(order, "delivered")


async def test_bad_records_are_quarantined_and_the_next_one_flows(shop: Shop, publish: Publish) -> None:
    """Fails when a bad record stops the partition, or disappears without a reason."""
    good = await shop.stocked(1)
    order = shop.order(good)
    negative = shop.order(good) | {"lines": [{**order["lines"][0], "quantity": -4}]}
    bodies = (b"\x00\xff", b'{"channel": 1, "channel": 2}', body_of(negative), b"", body_of(order))
    *bad, fine = [await publish("channel.orders", body, key=b"one partition") for body in bodies]
    assert {record.partition for record in bad} == {fine.partition}
    await shop.reaches(order, "delivered")
    rows = {(row["partition"], row["offset"]): row async for row in shop.oms.pages("ingest", "/v1/operations/quarantined")}
    found = [rows[record.partition, record.offset] for record in bad]
    assert all(row["reason_code"] and row["reason"] for row in found)
    assert found[2]["field"] == "lines.0.quantity"
    assert (fine.partition, fine.offset) not in rows


async def test_a_field_that_ingest_does_not_know_stops_no_order_and_is_not_passed_on(
    shop: Shop, stack: Stack, publish: Publish
) -> None:
    """Fails when a newer sender's order is refused on the topic, or what may be personal data leaves ingest in clear."""
    good = await shop.stocked(1)
    order = shop.order(good) | {"wechat_nick": "暗号玫瑰"}
    order["lines"][0]["engraving"] = "暗号玫瑰"
    await publish("channel.orders", body_of(order))
    detail = await shop.reaches(order, "delivered")
    records = await KafkaTopics(stack.bootstrap_servers, stack.topic_prefix).records("order.received")
    (received,) = [record.body.decode() for record in records if record.subject == detail["order_id"]]
    assert "暗号玫瑰" not in received
    assert good.sku_id in received


_BASE: dict[str, Any] = {
    "channel": "wechat_shop",
    "shop_id": "bad",
    "channel_order_no": "1",
    "source_version": 1,
    "source_modified_at": "2026-11-11T00:00:00Z",
    "placed_at": "2026-11-11T00:00:00Z",
    "lines": [{"channel_line_id": "1", "sku_id": "S", "quantity": 1, "unit_list_price_minor": 100}],
}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (_BASE | {"source_version": "x"}, 422, "source_version"),
        (_BASE | {"source_version": 2**70}, 422, "source_version"),
        (_BASE | {"surprise": 1}, 422, "surprise"),
        (_BASE | {"lines": [{**_BASE["lines"][0], "quantity": -1}]}, 422, "lines.0.quantity"),
        (_BASE | {"lines": [{**_BASE["lines"][0], "unit_list_price_minor": 10**30}]}, 422, "lines.0.unit_list_price_minor"),
        (_BASE | {"lines": []}, 422, "lines"),
        (_BASE | {"lines": _BASE["lines"] * 501}, 422, "lines"),
        (_BASE | {"currency": "yuan"}, 422, "currency"),
        (_BASE | {"notes": {"buyer_note": "长" * 1001}}, 422, "notes.buyer_note"),
        (_BASE | {"notes": {"buyer_note": "长" * 400_000}}, 413, None),
        (_BASE | {"placed_at": "0001-01-01T00:00:00Z"}, 422, "placed_at"),
        (b'{"channel": "a", "channel": "b"}', 400, None),
        (b'{"channel": "\\u0000"}', 400, None),
        (b'{"channel": "\\ud800"}', 400, None),
        (b'{"half', 400, None),
        (b"[" * 100_000, 400, None),
    ],
    ids=lambda value: str(value)[:30] if not isinstance(value, dict) else "body",
)
async def test_bad_input_is_a_problem_that_names_the_field(
    stack: Stack, body: dict[str, Any] | bytes, status: int, field: str | None
) -> None:
    """Fails when bad input is taken, or ends in a 500."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {stack.keys['channel']}", "Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=stack.urls["ingest"], trust_env=False, timeout=30) as client:
        response = await client.post("/v1/orders", content=raw, headers=headers)
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    assert not re.search(r"[a-z] …\.", response.text)  # A limit that the text should name and does not.
    if field is not None:
        assert field in {error["field"] for error in response.json()["errors"]}


async def test_who_may_do_what(stack: Stack) -> None:
    """Fails when a route forgets its role."""
    async with Clients(stack.urls, stack.keys["viewer"]) as viewer, Clients(stack.urls, "oms_wrong") as nobody:
        for service, path, body in [
            ("ingest", "/v1/orders", _BASE),
            ("audit", "/v1/blacklist", {"reason": "x", "entries": [{"kind": "phone", "token": "t"}]}),
            ("inventory", "/v1/receipts", {"reference": "x", "place_id": "WH-HANGZHOU", "lines": []}),
        ]:
            async with httpx.AsyncClient(trust_env=False) as keyless:
                response = await keyless.post(f"{stack.urls[service]}{path}", json=body)
            assert (response.status_code, response.headers["content-type"]) == (401, "application/problem+json")
            for caller, status in ((viewer, 403), (nobody, 401)):
                with pytest.raises(ApiError) as refused:
                    await caller.post(service, path, body)
                assert refused.value.status == status
        for service in stack.urls:
            with pytest.raises(ApiError) as refused:
                await nobody.get(service, "/v1/operations/parked")
            assert refused.value.status == 401


async def test_the_order_book_pages_and_filters(shop: Shop) -> None:
    """Fails when a page repeats or skips an order, or a filter lets another stage through."""
    good = await shop.stocked(0)
    orders = [shop.order(good) for _ in range(5)]
    await shop.send(*orders)
    for order in orders:
        await shop.reaches(order, "backordered")
    seen = [row async for row in shop.oms.pages("ingest", "/v1/orders", shop_id=shop.name, stage="backordered", limit=2)]
    assert {row["channel_order_no"] for row in seen} == {order["channel_order_no"] for order in orders}
    assert len(seen) == 5
    assert (await shop.oms.get("ingest", "/v1/orders", shop_id=shop.name, stage="delivered"))["items"] == []
    assert (await shop.oms.get("ingest", "/v1/orders", shop_id=shop.name, stuck_minutes=60))["items"] == []
    with pytest.raises(ApiError) as bad:
        await shop.oms.get("ingest", "/v1/orders", next="nonsense")
    assert bad.value.status == 422
