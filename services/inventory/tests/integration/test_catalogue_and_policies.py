"""Safety rules, pools by shop, bundles' levels, pausing and deleting, customers' returns, effects of what places give back."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from contracts import (
    AllocationReturned,
    CatalogItem,
    CatalogLocation,
    Progress,
    ReturnReceived,
    StockAdjusted,
    StockAllocated,
    StockBackordered,
    StockLevel,
    StockReserved,
)
from contracts.spine import OriginQuantity, ReturnedLine

from .builders import NOW, PROGRESS, a_place, a_routed, a_shipment, an_audited, an_item
from .test_documents import HERE, THERE, place_counts, proven
from .test_stock_levels import flush


async def set_safety(shop: Any, *rules: dict[str, Any]) -> None:
    await shop.ok("PUT", "/v1/safety-rules", {"reason": "大促", "rules": list(rules)})
    await shop.harness.run_due_tasks("apply_safety")


async def test_what_safety_keeps_back_is_not_promised(shop: Any) -> None:
    """Fails if an order takes units that a rule keeps back, or if a looser rule leaves orders waiting for them."""
    await shop.stock_up({HERE: {"茶": 5}})
    await set_safety(shop, {"units": 3})
    assert (await shop.stock("茶"))["atp"] == 2
    (first,) = (await shop.harness.receive([an_audited({"茶": 3})])).emitted
    assert isinstance(first, StockBackordered)
    assert [line.missing for line in first.short] == [1]
    await proven(shop)
    await set_safety(shop, {"units": 2})
    await shop.harness.run_due_tasks()
    (woken,) = [event for event in await shop.harness.emitted() if isinstance(event, StockReserved)]
    assert woken.order_id == first.order_id
    await proven(shop)


async def test_the_most_special_rule_counts_also_for_places_that_come_later(shop: Any) -> None:
    """Fails if rules are not asked about a place that keeps a SKU for the first time."""
    await shop.stock_up({HERE: {"茶": 9}})
    rules: list[dict[str, Any]] = [
        {"units": 1},
        {"units": 2, "category": "general"},
        {"units": 3, "sku_id": "茶"},
        {"units": 4, "place_id": THERE},
    ]
    await shop.ok("PUT", "/v1/locations", {"locations": [a_place(THERE)]})
    await set_safety(shop, *rules, {"units": 5, "sku_id": "茶", "place_id": THERE})
    await shop.receive_goods(THERE, {"茶": 9})
    await shop.harness.run_due_tasks("apply_safety")
    places = {place["place_id"]: place["safety"] for place in (await shop.stock("茶"))["places"]}
    assert places == {HERE: 3, THERE: 5}
    assert (await shop.stock("茶"))["safety"] == 8
    assert [rule["units"] for rule in (await shop.ok("GET", "/v1/safety-rules"))["rules"]] == [1, 2, 3, 4, 5]
    await proven(shop)


async def test_a_held_order_is_offered_safety_stock_rather_than_nothing(shop: Any) -> None:
    """Fails if a rule that comes after a promise makes the promised order stuck."""
    await shop.stock_up({HERE: {"茶": 5}})
    await set_safety(shop, {"units": 4})
    (reserved,) = (await shop.harness.receive([an_audited({"茶": 1})])).emitted
    assert reserved.places[0][2] == [1]
    await set_safety(shop, {"units": 5})
    await shop.harness.emitted()
    again = reserved.model_copy(update={"places": []})
    (offered,) = [
        event for event in (await shop.harness.receive([a_routed(again)])).emitted if isinstance(event, StockReserved)
    ]
    assert offered.places[0][2] == [5]


async def test_a_shop_sells_from_its_own_pool(shop: Any) -> None:
    """Fails if the policy is not seen by the next order, or holds for another shop."""
    await shop.stock_up({HERE: {"茶": 5}})
    await shop.ok("PUT", "/v1/locations", {"locations": [a_place(THERE, pool_id="直播")]})
    body = {"reason": "直播", "shops": [{"channel": "taobao", "shop_id": "旗舰店", "pool_id": "直播"}]}
    assert (await shop.ok("PUT", "/v1/policies/pools", body))["shops"] == body["shops"]
    await shop.harness.emitted()
    (event,) = (await shop.harness.receive([an_audited({"茶": 1})])).emitted
    assert isinstance(event, StockBackordered)
    assert event.pool_id == "直播"
    await shop.ok("PUT", "/v1/policies/pools", {"reason": "结束", "shops": []})
    (event,) = (await shop.harness.receive([an_audited({"茶": 1})])).emitted
    assert event.pool_id == "main"


async def test_a_bundle_can_be_promised_as_often_as_its_parts(shop: Any) -> None:
    """Fails if a bundle's level is not sent when a part changes, or its version does not rise."""
    await shop.stock_up({HERE: {"茶": 7, "杯": 2}})
    bundle = an_item("套装", bundle_parts=[{"sku_id": "茶", "quantity": 3}, {"sku_id": "杯", "quantity": 1}])
    await shop.ok("PUT", "/v1/items", {"items": [bundle]})
    before = {level.key: level for level in await flush(shop)}["套装@pool:main"]
    assert before.atp == 2
    await shop.harness.receive([an_audited({"茶": 2})])
    after = {level.key: level for level in await flush(shop)}["套装@pool:main"]
    assert after.atp == 1
    assert after.version > before.version
    (view,) = await shop.ok("GET", "/v1/atp?sku_id=套装")
    assert (view["atp"], view["parts"]) == (1, {"杯": 2, "茶": 5})
    answer = await shop.http.put("/v1/items", json={"items": [an_item("套装")]})
    assert (answer.status_code, answer.json()["code"]) == (409, "bundle_fixed")


async def test_a_place_is_paused_and_resumed_by_hand(shop: Any) -> None:
    """Fails if an act is not noted, is noted twice, or readers are not told."""
    await shop.stock_up({HERE: {"茶": 5}})
    for _ in range(2):
        assert (await shop.ok("POST", f"/v1/locations/{HERE}/pause", {"reason": "爆仓"}))["paused"]
    await shop.ok("POST", f"/v1/locations/{HERE}/resume", {"reason": "恢复"})
    sent = [(event.paused, event.version) for event in await shop.harness.emitted() if isinstance(event, CatalogLocation)]
    assert sent == [(True, 2), (False, 3)]
    acts = [act["act"] for act in (await shop.ok("GET", f"/v1/operations/acts?subject={HERE}"))["items"]]
    assert acts[:2] == ["resume_location", "pause_location"]
    assert (await shop.http.post("/v1/locations/没有/pause", json={"reason": "r"})).status_code == 404


async def test_a_sku_is_deleted_once_nothing_needs_it(shop: Any) -> None:
    """Fails if stock or a bundle loses its SKU, or if a deleted id comes back to life."""
    await shop.stock_up({HERE: {"茶": 1}})
    await shop.ok("PUT", "/v1/items", {"items": [an_item("套装", bundle_parts=[{"sku_id": "茶", "quantity": 1}])]})
    path = "/v1/items/茶?reason=停产"
    assert (await shop.http.delete(path)).json()["code"] == "part_of_bundle"
    await shop.ok("DELETE", "/v1/items/套装?reason=停产")
    assert (await shop.http.delete(path)).json()["code"] == "still_in_use"
    assert (await shop.http.delete(f"/v1/locations/{HERE}?reason=关店")).json()["code"] == "still_in_use"
    told = await shop.harness.emitted()
    await shop.adjust(HERE, "茶", -1)
    await shop.ok("DELETE", path)
    await shop.ok("DELETE", f"/v1/locations/{HERE}?reason=关店")
    told += await shop.harness.emitted()
    gone = [event for event in told if isinstance(event, CatalogItem | CatalogLocation) and event.deleted]
    assert [event.key for event in gone] == ["套装", "茶", HERE]
    assert (await shop.http.put("/v1/items", json={"items": [an_item("茶")]})).json()["code"] == "item_deleted"
    assert (await shop.http.delete("/v1/items/茶")).status_code == 422


def a_return(allocated: StockAllocated, grades: Mapping[str, int], *, return_id: UUID | None = None) -> ReturnReceived:
    line = allocated.part.lines[0]
    return ReturnReceived(
        root_id=allocated.root_id,
        order_id=allocated.order_id,
        progress=PROGRESS,
        order=allocated.order,
        return_id=return_id or uuid4(),
        shipment_id=uuid4(),
        place_id=allocated.place_id,
        lines=[ReturnedLine(**line.model_dump() | {"quantity": units, "grade": grade}) for grade, units in grades.items()],
        reason="buyer_return",
        received_at=NOW,
    )


async def test_goods_that_buyers_send_back_are_for_sale_if_they_are_good(shop: Any) -> None:
    """Fails if damaged or missing goods are promised, a return counts twice, or nobody is woken by it."""
    await shop.stock_up({HERE: {"茶": 6}})
    (reserved,) = (await shop.harness.receive([an_audited({"茶": 6})])).emitted
    (event,) = (await shop.harness.receive([a_routed(reserved)])).emitted
    await shop.harness.receive([a_shipment(event)])
    (waiting,) = (await shop.harness.receive([an_audited({"茶": 2})])).emitted
    came = a_return(event, {"good": 2, "bad": 1, "missing": 1, "unheard_of": 1})
    await shop.harness.receive([came])
    await shop.harness.receive([came])
    assert await place_counts(shop) == {HERE: (2, 0, 0, 2, 0)}
    await shop.harness.run_due_tasks("wake_backorders")
    assert [e.order_id for e in await shop.harness.emitted() if isinstance(e, StockReserved)] == [waiting.order_id]
    await proven(shop)


async def test_a_return_to_a_place_that_never_was_is_parked(shop: Any) -> None:
    await shop.stock_up({HERE: {"茶": 6}})
    (reserved,) = (await shop.harness.receive([an_audited({"茶": 1})])).emitted
    (event,) = (await shop.harness.receive([a_routed(reserved)])).emitted
    outcome = await shop.harness.receive([a_return(event.model_copy(update={"place_id": "没有"}), {"good": 1})])
    assert len(outcome.parked) == 1


async def returned(shop: Any, effect: str, *, free: int, counted: int = 0) -> list[StockAdjusted]:
    """Allocate 3 of 3 + `free` units, correct the count by `counted`, have 2 given back with this effect; what the books were
    told of that."""
    await shop.stock_up({HERE: {"茶": 3 + free}})
    (reserved,) = (await shop.harness.receive([an_audited({"茶": 3})])).emitted
    (event,) = (await shop.harness.receive([a_routed(reserved)])).emitted
    if counted:
        await shop.adjust(HERE, "茶", counted)
    line = event.part.lines[0]
    back = AllocationReturned(
        root_id=event.root_id,
        order_id=event.order_id,
        progress=Progress(step=1, stage="returned", code="short_pick", attempt=event.attempt),
        attempt=event.attempt,
        return_no=1,
        place_id=event.place_id,
        place_no=event.place_no,
        lines=[
            OriginQuantity(origin_order_id=line.origin_order_id, origin_line=line.origin_line, sku_id=line.sku_id, quantity=2)
        ],
        reason="short_pick",
        stock_effect=effect,
        whole=False,
    )
    emitted = (await shop.harness.receive([back])).emitted
    return [told for told in emitted if isinstance(told, StockAdjusted)]


async def test_units_that_a_place_says_are_missing_leave_its_counts_and_the_books(shop: Any) -> None:
    """Fails if a short pick leaves units on the shelf that are not there."""
    (told,) = await returned(shop, "missing", free=1)
    assert (told.kind, told.reason, [line.quantity for line in told.lines]) == ("place_reject", "missing", [-2])
    assert await place_counts(shop) == {HERE: (2, 1, 0, 0, 0)}
    await shop.harness.run_due_tasks("shrink")
    await proven(shop)


async def test_units_that_were_counted_away_are_not_missed_twice(shop: Any) -> None:
    """Fails if a short pick of what a count found missing before takes as many units off the shelf and the books once more."""
    assert await returned(shop, "missing", free=0, counted=-2) == []
    assert await place_counts(shop) == {HERE: (1, 1, 0, 0, 0)}
    await shop.harness.run_due_tasks("shrink")
    await proven(shop)


async def test_what_ships_although_it_was_counted_away_is_back_in_the_books(shop: Any) -> None:
    """Fails if a wrong count stays booked as short after its goods have left, or if the books keep them written off."""
    await shop.stock_up({HERE: {"茶": 3}})
    (reserved,) = (await shop.harness.receive([an_audited({"茶": 3})])).emitted
    (event,) = (await shop.harness.receive([a_routed(reserved)])).emitted
    await shop.adjust(HERE, "茶", -2)
    assert (await shop.harness.receive([a_shipment(event)])).parked == []
    await shop.harness.run_due_tasks("disprove_short")
    (told,) = [event for event in await shop.harness.emitted() if isinstance(event, StockAdjusted)]
    assert (told.kind, told.reason, [(line.quantity, line.unit_cost_minor) for line in told.lines]) == (
        "count",
        "count_difference",
        [(2, 1234)],
    )
    assert await place_counts(shop) == {HERE: (0, 0, 0, 0, 0)}
    assert await shop.harness.run_due_tasks("disprove_short") == 0
    await proven(shop)


async def test_a_place_with_nothing_left_loses_its_free_units_too(shop: Any) -> None:
    (told,) = await returned(shop, "nothing_left", free=4)
    assert [line.quantity for line in told.lines] == [-6]
    assert await place_counts(shop) == {HERE: (1, 1, 0, 0, 0)}
    await shop.harness.run_due_tasks("shrink")
    await proven(shop)


async def test_damaged_units_stay_at_the_place_and_are_not_for_sale(shop: Any) -> None:
    await returned(shop, "damaged", free=2)
    assert await place_counts(shop) == {HERE: (3, 1, 0, 2, 0)}
    await shop.harness.run_due_tasks("shrink")
    await proven(shop)


async def test_compacted_facts_are_sent_again_each_day(shop: Any) -> None:
    """Fails if a reader that lost a fact never gets it again, or if levels that are sent all day are sent once more."""
    await shop.stock_up({HERE: {"茶": 5, "杯": 5}})
    await flush(shop)
    shop.harness.clock.advance(seconds=timedelta(hours=25).total_seconds())
    await shop.receive_goods(HERE, {"茶": 1})
    fresh = {level.key for level in await flush(shop)}
    assert fresh == {"茶@pool:main", "茶@杭州仓"}
    await shop.harness.run_due_tasks("resend_compacted")
    again = [(type(event), event.key) for event in await shop.harness.emitted()]
    assert set(again) == {
        (CatalogItem, "茶"),
        (CatalogItem, "杯"),
        (CatalogLocation, HERE),
        (StockLevel, "杯@pool:main"),
        (StockLevel, "杯@杭州仓"),
    }
    assert await shop.harness.run_due_tasks("resend_compacted") == 0
