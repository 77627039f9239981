"""Inventory over HTTP."""

from typing import Any

import pytest

from contracts import CatalogItem, CatalogLocation
from webapi.routing import routes_without_role
from webapi.testing import as_caller

from .builders import a_place, an_item

RECEIPT = {"reference": "R1", "place_id": "杭州仓", "lines": [{"sku_id": "茶", "quantity": 5, "unit_cost_minor": 900}]}

NOBODY = "00000000-0000-4000-8000-000000000000"
SHOP = {"channel": "taobao", "shop_id": "旗舰店", "shortage": "split"}
UNKNOWN_PART = {"sku_id": "?", "quantity": 1}


async def test_a_catalogue_entry_is_sent_when_it_changes_and_only_then(shop: Any) -> None:
    """Fails if an unchanged entry gets a new version, or a changed one is not sent."""
    item = an_item(barcode="690123", bundle_parts=[])
    await shop.ok("PUT", "/v1/items", {"items": [item]})
    assert (await shop.ok("PUT", "/v1/items", {"items": [item]}))["entries"] == [{"key": "茶", "version": 1, "changed": False}]
    await shop.ok("PUT", "/v1/items", {"items": [item | {"standard_cost_minor": 99}]})
    sent = await shop.harness.emitted()
    assert [(type(event), event.version, event.standard_cost_minor) for event in sent] == [
        (CatalogItem, 1, 1234),
        (CatalogItem, 2, 99),
    ]
    assert (await shop.ok("GET", "/v1/items/茶"))["standard_cost_minor"] == 99


async def test_a_place_keeps_its_number_and_its_pool(shop: Any) -> None:
    """Fails if a change gives a place another number, burns numbers, or moves its stock to another pool."""
    await shop.ok("PUT", "/v1/locations", {"locations": [a_place("a"), a_place("b")]})
    for _ in range(3):
        await shop.ok("PUT", "/v1/locations", {"locations": [a_place("b", paused=True), a_place("a"), a_place("c")]})
    assert await shop.place_nos() == {"a": 1, "b": 2, "c": 3}
    sent = await shop.harness.emitted()
    assert [(type(event), event.place_id, event.version) for event in sent] == [
        (CatalogLocation, "a", 1),
        (CatalogLocation, "b", 1),
        (CatalogLocation, "b", 2),
        (CatalogLocation, "c", 1),
    ]
    answer = await shop.http.put("/v1/locations", json={"locations": [a_place("a", pool_id="other")]})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (409, "locations.0.pool_id")
    assert [place["place_id"] for place in (await shop.ok("GET", "/v1/locations?paused=true"))["items"]] == ["b"]


async def test_a_reference_is_booked_once(shop: Any) -> None:
    """Fails if a repeated receipt counts twice, or if another content under the same reference passes unseen."""
    await shop.stock_up({"杭州仓": {"茶": 0}})
    assert (await shop.http.post("/v1/receipts", json=RECEIPT)).status_code == 201
    again = await shop.http.post("/v1/receipts", json=RECEIPT)
    assert (again.status_code, again.json()["repeated"]) == (200, True)
    other = await shop.http.post("/v1/receipts", json=RECEIPT | {"lines": [{"sku_id": "茶", "quantity": 6}]})
    assert (other.status_code, other.json()["code"]) == (409, "reference_reused")
    assert (await shop.stock("茶"))["on_hand"] == 5
    (movement,) = (await shop.ok("GET", "/v1/movements?sku_id=茶"))["items"]
    assert (movement["kind"], movement["unit_cost_minor"], movement["place_id"]) == ("received", 900, "杭州仓")


async def test_more_than_is_counted_cannot_go(shop: Any) -> None:
    """Fails if an adjustment makes a count that cannot be, or books a part of itself."""
    await shop.stock_up({"杭州仓": {"茶": 5, "杯": 5}})
    body = {
        "reference": "A1",
        "place_id": "杭州仓",
        "reason": "盘点",
        "lines": [
            {"sku_id": "杯", "quantity": -1, "reason_code": "count"},
            {"sku_id": "茶", "quantity": -6, "reason_code": "count"},
        ],
    }
    answer = await shop.http.post("/v1/adjustments", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (409, "lines.1.quantity")
    assert (await shop.stock("杯"))["on_hand"] == 5
    await shop.adjust("杭州仓", "茶", -5)
    acts = (await shop.ok("GET", "/v1/operations/acts"))["items"]
    assert {act["act"] for act in acts} >= {"book_adjustment", "put_items", "put_locations"}


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PUT", "/v1/items", {"items": [an_item(weight_grams="5")]}, "items.0.weight_grams"),
        ("PUT", "/v1/items", {"items": [an_item(colour="red")]}, "items.0.colour"),
        ("PUT", "/v1/items", {"items": [an_item(), an_item()]}, "items.1.sku_id"),
        ("PUT", "/v1/items", {"items": []}, "items"),
        (
            "PUT",
            "/v1/items",
            {"items": [an_item("套装", bundle_parts=[{"sku_id": "?", "quantity": 1}])]},
            "items.0.bundle_parts.0.sku_id",
        ),
        ("PUT", "/v1/items", {"items": [an_item(standard_cost_minor=-1)]}, "items.0.standard_cost_minor"),
        ("PUT", "/v1/items", {"items": [an_item(name="a\x00b")]}, None),
        ("PUT", "/v1/locations", {"locations": [a_place(latitude=91)]}, "locations.0.latitude"),
        ("PUT", "/v1/locations", {"locations": [a_place(cut_off="18:00Z")]}, "locations.0.cut_off"),
        ("PUT", "/v1/locations", {"locations": [a_place(working_weekdays=[8])]}, "locations.0.working_weekdays.0"),
        ("POST", "/v1/receipts", RECEIPT | {"place_id": "?"}, "place_id"),
        ("POST", "/v1/receipts", RECEIPT | {"lines": [{"sku_id": "?", "quantity": 1}]}, "lines.0.sku_id"),
        ("POST", "/v1/receipts", RECEIPT | {"lines": [{"sku_id": "茶", "quantity": 0}]}, "lines.0.quantity"),
        ("POST", "/v1/receipts", RECEIPT | {"lines": [{"sku_id": "茶", "quantity": True}]}, "lines.0.quantity"),
        ("POST", "/v1/receipts", RECEIPT | {"lines": [{"sku_id": "茶", "quantity": 10**30}]}, "lines.0.quantity"),
        ("POST", "/v1/receipts", RECEIPT | {"reference": ""}, "reference"),
        ("POST", "/v1/adjustments", RECEIPT, "reason"),
        ("GET", "/v1/movements?order_id=1", None, "order_id"),
        ("GET", "/v1/stock?limit=0", None, "limit"),
        ("GET", "/v1/stock?next=abc", None, "next"),
        ("POST", "/v1/orders/x/redrive", {"reason": "r"}, "order_id"),
        ("POST", f"/v1/orders/{NOBODY}/place", {"reason": "r", "place_id": "?"}, "place_id"),
        ("POST", f"/v1/orders/{NOBODY}/priority", {"reason": "r", "priority": 1001}, "priority"),
        ("PUT", "/v1/policies/shortage", {"reason": "r", "shops": [SHOP, SHOP]}, "shops.1.shop_id"),
        ("PUT", "/v1/policies/shortage", {"reason": "r", "shops": [SHOP | {"shortage": "cancel"}]}, "shops.0.shortage"),
        ("GET", "/v1/stuck?sku_id=" + "x" * 65, None, "sku_id"),
    ],
)
async def test_bad_input_is_a_problem_that_names_the_field(
    shop: Any, method: str, path: str, body: object, field: str | None
) -> None:
    """Fails if anything wrong is booked, or answered with a 500."""
    answer = await shop.http.request(method, path, json=body)
    assert answer.status_code == (400 if field is None else 422), answer.text
    if field is not None:
        assert field in [error["field"] for error in answer.json()["errors"]]


async def test_what_is_not_there_is_404_and_what_is_not_stuck_409(shop: Any) -> None:
    nobody = NOBODY
    assert (await shop.http.get("/v1/items/没有")).json()["code"] == "item_not_found"
    assert (await shop.http.get(f"/v1/orders/{nobody}")).status_code == 404
    for act, body in (("redrive", {}), ("priority", {"priority": 1})):
        answer = await shop.http.post(f"/v1/orders/{nobody}/{act}", json={"reason": "r"} | body)
        assert (answer.status_code, answer.json()["code"]) == (404, "order_not_found")


async def test_each_role_may_do_its_own_part_and_no_more(shop: Any) -> None:
    """Fails if a route forgets its role."""
    assert routes_without_role(shop.app) == []
    async with as_caller(shop.app, roles=["viewer"], principal="v") as viewer:
        assert (await viewer.get("/v1/stock")).status_code == 200
        assert (await viewer.post("/v1/receipts", json=RECEIPT)).status_code == 403
    async with as_caller(shop.app, roles=["operator"], principal="o") as operator:
        assert (await operator.put("/v1/items", json={"items": [an_item()]})).status_code == 403
    shop.http.headers.pop("X-API-Key")
    assert (await shop.http.get("/v1/stock")).status_code == 401


async def test_pages_follow_each_other_without_gap_or_repeat(shop: Any) -> None:
    """Fails if a page starts in the wrong place or a sort order is not total."""
    skus = [f"茶{number}" for number in range(7)]
    await shop.stock_up({"杭州仓": dict.fromkeys(skus, 2)})
    for path, key in (("/v1/items?", "sku_id"), ("/v1/stock?", "sku_id"), ("/v1/movements?sort=moved_at&", "sku_id")):
        seen, cursor = [], ""
        for _ in range(3):
            page = await shop.ok("GET", f"{path}limit=3{cursor}")
            seen += [item[key] for item in page["items"]]
            cursor = f"&next={page['next']}"
        assert seen == skus
        assert page["next"] is None
    newest = (await shop.ok("GET", "/v1/movements?limit=1"))["items"]
    assert newest[0]["sku_id"] == "茶6"


async def test_stock_can_be_asked_for_by_place(shop: Any) -> None:
    await shop.stock_up({"杭州仓": {"茶": 5, "杯": 1}, "上海店": {"茶": 2}})
    items = (await shop.ok("GET", "/v1/stock?place_id=上海店"))["items"]
    assert [(level["sku_id"], level["on_hand"], len(level["places"])) for level in items] == [("茶", 7, 1)]
    assert items[0]["places"] == [
        {
            "place_id": "上海店",
            "on_hand": 2,
            "allocated": 0,
            "short": 0,
            "safety": 0,
            "damaged": 0,
            "incoming": 0,
            "available": 2,
        }
    ]
