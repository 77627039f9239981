"""Documents of stock keeping over HTTP: booked once, told to the books, and everything adds up afterwards."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from contracts import StockAdjusted, StockAllocated, StockReserved

from .builders import NOW, a_place, a_routed, an_audited, an_item

HERE = "杭州仓"
THERE = "上海店"


def a_document(reference: str, *lines: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"reference": reference, "place_id": HERE, "reason": "盘点", "lines": list(lines)} | changes


async def adjusted(shop: Any) -> list[tuple[str, str, list[tuple[str, int, int]]]]:
    """What the books were told: kind, place, lines (SKU, units, unit cost)."""
    return [
        (event.kind, event.place_id, [(line.sku_id, line.quantity, line.unit_cost_minor) for line in event.lines])
        for event in await shop.harness.emitted()
        if isinstance(event, StockAdjusted)
    ]


async def proven(shop: Any) -> None:
    proof = await shop.ok("GET", "/v1/prove?limit=500")
    assert proof["differences"] == []
    assert proof["skus"] > 0


async def place_counts(shop: Any, sku: str = "茶") -> dict[str, tuple[int, int, int, int, int]]:
    places = (await shop.stock(sku))["places"]
    return {p["place_id"]: tuple(p[term] for term in ("on_hand", "allocated", "short", "damaged", "incoming")) for p in places}


async def allocated(shop: Any, units: int) -> StockAllocated:
    (reserved,) = (await shop.harness.receive([an_audited({"茶": units})])).emitted
    assert isinstance(reserved, StockReserved)
    (event,) = (await shop.harness.receive([a_routed(reserved)])).emitted
    assert isinstance(event, StockAllocated)
    return event


async def test_a_stock_take_sets_what_was_counted_and_lacks_what_was_promised(shop: Any) -> None:
    """Fails if a count below what orders were promised breaks the counts, or the books do not hear of the difference."""
    await shop.stock_up({HERE: {"茶": 5}})
    await allocated(shop, 4)
    await shop.harness.emitted()
    body = a_document("C1", {"sku_id": "茶", "counted": 3})
    assert (await shop.http.post("/v1/counts", json=body)).status_code == 201
    assert (await shop.http.post("/v1/counts", json=body)).status_code == 200
    assert await place_counts(shop) == {HERE: (4, 4, 1, 0, 0)}
    assert await adjusted(shop) == [("count", HERE, [("茶", -2, 1234)])]
    await shop.ok("POST", "/v1/counts", a_document("C2", {"sku_id": "茶", "counted": 9}))
    assert await place_counts(shop) == {HERE: (9, 4, 0, 0, 0)}
    await proven(shop)


async def test_a_count_that_agrees_moves_nothing(shop: Any) -> None:
    await shop.stock_up({HERE: {"茶": 5}})
    await shop.ok("POST", "/v1/counts", a_document("C1", {"sku_id": "茶", "counted": 5}))
    assert await adjusted(shop) == []
    assert len((await shop.ok("GET", "/v1/movements"))["items"]) == 1


async def test_damaged_units_are_not_for_sale_until_they_are_good_again(shop: Any) -> None:
    """Fails if damaged units can be promised, come back twice, or can be thrown away when there are none."""
    await shop.stock_up({HERE: {"茶": 5}})
    line = {"sku_id": "茶", "quantity": 3}
    await shop.ok("POST", "/v1/damage", a_document("D1", line | {"to": "damaged"}))
    assert (await shop.stock("茶"))["atp"] == 2
    await shop.ok("POST", "/v1/damage", a_document("D2", line | {"quantity": 1, "to": "good"}))
    await shop.ok("POST", "/v1/damage", a_document("D3", line | {"quantity": 2, "to": "scrapped"}))
    assert await place_counts(shop) == {HERE: (3, 0, 0, 0, 0)}
    told = await adjusted(shop)
    assert told == [("damage", HERE, [("茶", -3, 1234)]), ("damage", HERE, [("茶", 1, 1234)])]
    answer = await shop.http.post("/v1/damage", json=a_document("D4", line | {"to": "scrapped"}))
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (409, "damaged_below_zero")
    await proven(shop)


async def test_a_transfer_is_in_between_until_it_is_received(shop: Any) -> None:
    """Fails if units in between can be promised, are lost or doubled, or if what did not come stays in between in the books."""
    await shop.stock_up({HERE: {"茶": 5}, THERE: {"茶": 0}})
    await shop.harness.emitted()
    sent = {
        "reference": "T1",
        "reason": "补货",
        "from_place_id": HERE,
        "to_place_id": THERE,
        "due_on": "2026-11-13",
        "lines": [{"sku_id": "茶", "quantity": 4}],
    }
    transfer = await shop.ok("POST", "/v1/transfers", sent)
    assert (await shop.ok("POST", "/v1/transfers", sent))["repeated"]
    assert await place_counts(shop) == {HERE: (1, 0, 0, 0, 0), THERE: (0, 0, 0, 0, 4)}
    assert (await shop.stock("茶"))["atp"] == 1
    (later,) = await shop.ok("GET", "/v1/atp?sku_id=茶&as_of_date=2026-11-13")
    assert (later["incoming"], later["atp"]) == (4, 5)
    await proven(shop)
    receipt = {"reason": "收货", "lines": [{"sku_id": "茶", "received": 3}]}
    path = f"/v1/transfers/{transfer['document_id']}/receipt"
    assert (await shop.http.post(path, json=receipt)).status_code == 201
    assert (await shop.http.post(path, json=receipt)).status_code == 200
    other = {"reason": "收货", "lines": [{"sku_id": "茶", "received": 4}]}
    assert (await shop.http.post(path, json=other)).status_code == 409
    assert await place_counts(shop) == {HERE: (1, 0, 0, 0, 0), THERE: (3, 0, 0, 0, 0)}
    assert await adjusted(shop) == [
        ("transfer_out", HERE, [("茶", -4, 1234)]),
        ("transfer_in", THERE, [("茶", 4, 1234)]),
        ("adjustment", THERE, [("茶", -1, 1234)]),
    ]
    await proven(shop)


async def test_only_what_nobody_was_promised_can_be_sent_away(shop: Any) -> None:
    """Fails if a transfer takes units that an order holds, pinned or not."""
    await shop.stock_up({HERE: {"茶": 5}, THERE: {"茶": 0}})
    await shop.harness.receive([an_audited({"茶": 3})])
    body = {"reference": "T1", "reason": "补货", "from_place_id": HERE, "to_place_id": THERE}
    answer = await shop.http.post("/v1/transfers", json=body | {"lines": [{"sku_id": "茶", "quantity": 3}]})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (409, "units_promised")
    await shop.ok("POST", "/v1/transfers", body | {"lines": [{"sku_id": "茶", "quantity": 2}]})
    await proven(shop)


async def test_two_transfers_in_opposite_directions_do_not_block_each_other(shop: Any) -> None:
    """Fails if a transfer locks the rows of its two places one after the other. Two pools: one would serialise them."""
    await shop.ok("PUT", "/v1/locations", {"locations": [a_place(THERE, pool_id="直播")]})
    await shop.stock_up({HERE: {"茶": 50, "杯": 50}})
    await shop.receive_goods(THERE, {"茶": 50, "杯": 50})

    async def send(number: int) -> None:
        ends = (HERE, THERE) if number % 2 else (THERE, HERE)
        lines = [{"sku_id": sku, "quantity": 1} for sku in ("茶", "杯")]
        body = {"reference": f"T{number}", "reason": "调拨", "from_place_id": ends[0], "to_place_id": ends[1], "lines": lines}
        await shop.ok("POST", "/v1/transfers", body)

    await asyncio.gather(*(send(number) for number in range(12)))
    assert shop.database_errors == []
    await proven(shop)


async def test_announced_goods_are_expected_until_they_come_or_are_given_up(shop: Any) -> None:
    """Fails if a receipt leaves what it brought announced, or if announced goods can be promised."""
    await shop.stock_up({HERE: {"茶": 0}})
    body = {"reference": "P1", "place_id": HERE, "due_on": "2026-11-20", "lines": [{"sku_id": "茶", "quantity": 10}]}
    announced = await shop.ok("POST", "/v1/incoming", body)
    assert (await shop.stock("茶"))["incoming"] == 10
    assert (await shop.stock("茶"))["atp"] == 0
    (early,) = await shop.ok("GET", "/v1/atp?sku_id=茶&as_of_date=2026-11-19")
    (due,) = await shop.ok("GET", "/v1/atp?sku_id=茶&as_of_date=2026-11-20")
    assert (early["atp"], due["atp"]) == (0, 10)
    receipt = {"reference": "R1", "place_id": HERE, "incoming_reference": "P1", "lines": [{"sku_id": "茶", "quantity": 4}]}
    await shop.ok("POST", "/v1/receipts", receipt)
    assert await place_counts(shop) == {HERE: (4, 0, 0, 0, 6)}
    await proven(shop)
    close = f"/v1/incoming/{announced['document_id']}/close"
    await shop.ok("POST", close, {"reason": "供应商取消"})
    assert (await shop.http.post(close, json={"reason": "再次"})).status_code == 409
    assert await place_counts(shop) == {HERE: (4, 0, 0, 0, 0)}
    (line,) = (await shop.ok("GET", "/v1/incoming?open=false"))["items"]
    assert (line["announced"], line["arrived"], line["place_id"]) == (10, 4, HERE)
    unknown = receipt | {"reference": "R2", "incoming_reference": "P2"}
    assert (await shop.http.post("/v1/receipts", json=unknown)).json()["errors"][0]["field"] == "incoming_reference"
    await proven(shop)


async def test_receipts_move_the_average_cost_and_orders_are_stamped_with_it(shop: Any) -> None:
    """Fails if a fen of what was paid is lost, or if allocations carry the catalogue's cost although goods were paid for."""
    await shop.stock_up({HERE: {"茶": 0}})
    for number, (quantity, cost) in enumerate(((3, 1000), (2, 1001), (1, 500))):
        line = {"sku_id": "茶", "quantity": quantity, "unit_cost_minor": cost}
        await shop.ok("POST", "/v1/receipts", {"reference": f"R{number}", "place_id": HERE, "lines": [line]})
    ((units, value),) = await shop.rows("SELECT units, value_minor FROM stock_cost")
    assert (units, value) == (6, 3 * 1000 + 2 * 1001 + 500)
    await shop.harness.emitted()
    event = await allocated(shop, 1)
    assert event.part.lines[0].unit_cost_minor == value // units


async def test_a_snapshot_counts_as_of_its_moment_and_later_movements_go_on_top(shop: Any) -> None:
    """Fails if goods that came after a snapshot was taken are counted away by it, or those before it are counted twice."""
    await shop.stock_up({HERE: {"茶": 5, "杯": 2}})
    taken_at = NOW + timedelta(seconds=30)
    shop.harness.clock.advance(seconds=7200)
    await shop.receive_goods(HERE, {"茶": 10})
    await shop.harness.emitted()
    body = {
        "reference": "S1",
        "taken_at": taken_at.isoformat(),
        "whole": True,
        "lines": [{"sku_id": "茶", "counted": 4, "damaged": 1}],
    }
    path = f"/v1/places/{HERE}/snapshot"
    assert (await shop.http.put(path, json=body)).status_code == 201
    assert (await shop.http.put(path, json=body)).status_code == 200
    assert await place_counts(shop) == {HERE: (14, 0, 0, 1, 0)}
    assert await place_counts(shop, "杯") == {HERE: (0, 0, 0, 0, 0)}
    assert await adjusted(shop) == [("count", HERE, [("茶", -1, 1234), ("杯", -2, 1234)])]
    older = body | {"reference": "S0", "taken_at": NOW.isoformat()}
    assert (await shop.http.put(path, json=older)).json()["code"] == "snapshot_outdated"
    future = body | {"reference": "S2", "taken_at": (NOW + timedelta(days=1)).isoformat()}
    assert (await shop.http.put(path, json=future)).status_code == 422
    await proven(shop)


async def test_a_snapshot_with_a_watermark_knows_exactly_what_it_includes(shop: Any) -> None:
    """Fails if time decides although the sender has told which movements its numbers include."""
    await shop.stock_up({HERE: {"茶": 5}})
    (movement,) = (await shop.ok("GET", "/v1/movements"))["items"]
    shop.harness.clock.advance(seconds=60)
    await shop.receive_goods(HERE, {"茶": 10})
    taken_at = (NOW + timedelta(minutes=3)).isoformat()
    body = {
        "reference": "S1",
        "taken_at": taken_at,
        "watermark": movement["movement_id"],
        "lines": [{"sku_id": "茶", "counted": 5}],
    }
    await shop.ok("PUT", f"/v1/places/{HERE}/snapshot", body)
    assert await place_counts(shop) == {HERE: (15, 0, 0, 0, 0)}


async def test_documents_can_be_found_again(shop: Any) -> None:
    await shop.stock_up({HERE: {"茶": 5}})
    await shop.adjust(HERE, "茶", -1)
    found = (await shop.ok("GET", f"/v1/documents?kind=adjustment&place_id={HERE}"))["items"]
    assert [(document["kind"], document["lines"][0]["quantity"]) for document in found] == [("adjustment", -1)]
    assert await shop.ok("GET", f"/v1/documents/{found[0]['document_id']}") == found[0]
    kinds = [document["kind"] for document in (await shop.ok("GET", "/v1/documents?sort=recorded_at"))["items"]]
    assert kinds == ["receipt", "adjustment"]
    nobody = "00000000-0000-4000-8000-000000000000"
    assert (await shop.http.get(f"/v1/documents/{nobody}")).status_code == 404
    assert (await shop.http.post(f"/v1/incoming/{nobody}/close", json={"reason": "r"})).status_code == 404


async def test_a_proof_names_the_first_difference(shop: Any) -> None:
    """Fails if counts that are not the sum of their movements pass for proven."""
    await shop.stock_up({HERE: {"茶": 5, "杯": 5}})
    await proven(shop)
    async with shop.harness.runtime.work() as work:
        await work.connection.exec_driver_sql("UPDATE place_stock SET on_hand = 6 WHERE sku_id = '茶'")
    proof = await shop.ok("GET", "/v1/prove")
    assert [(row["sku_id"], row["check"]) for row in proof["differences"]] == [
        ("茶", "counts_are_movements"),
        ("茶", "pool_adds_up"),
    ]
    assert (proof["differences"][0]["expected"], proof["differences"][0]["found"]) == ([5, 0, 0, 0], [6, 0, 0, 0])
    page = await shop.ok("GET", "/v1/prove?limit=1")
    assert (page["proven"], page["next"]) == (True, "杯")


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/v1/counts", a_document("C", {"sku_id": "茶", "counted": -1}), "lines.0.counted"),
        (
            "POST",
            "/v1/counts",
            a_document("C", {"sku_id": "茶", "counted": 1}, {"sku_id": "茶", "counted": 2}),
            "lines.1.sku_id",
        ),
        ("POST", "/v1/counts", a_document("C", {"sku_id": "?", "counted": 1}), "lines.0.sku_id"),
        ("POST", "/v1/counts", a_document("C", {"sku_id": "套装", "counted": 1}), "lines.0.sku_id"),
        ("POST", "/v1/counts", a_document("C"), "lines"),
        ("POST", "/v1/counts", a_document("C", *[{"sku_id": f"s{n}", "counted": 1} for n in range(1001)]), "lines"),
        ("POST", "/v1/damage", a_document("D", {"sku_id": "茶", "quantity": 1, "to": "lost"}), "lines.0.to"),
        ("POST", "/v1/incoming", {"reference": "P", "place_id": HERE, "due_on": "1026-01-01", "lines": []}, "due_on"),
        (
            "POST",
            "/v1/transfers",
            a_document("T", {"sku_id": "茶", "quantity": 1}, from_place_id=HERE, to_place_id=HERE) | {"place_id": None},
            "place_id",
        ),
        ("PUT", "/v1/places/没有/snapshot", {"reference": "S", "taken_at": "2026-11-11T10:00:00", "lines": []}, "taken_at"),
        (
            "PUT",
            f"/v1/places/{HERE}/snapshot",
            {"reference": "S", "taken_at": "0001-01-01T00:00:00Z", "lines": [{"sku_id": "茶", "counted": 1}]},
            "taken_at",
        ),
        (
            "PUT",
            f"/v1/places/{HERE}/snapshot",
            {"reference": "S", "taken_at": NOW.isoformat(), "watermark": 1, "lines": [{"sku_id": "茶", "counted": 1}]},
            "watermark",
        ),
        ("GET", "/v1/atp", None, "sku_id"),
        ("GET", "/v1/atp?sku_id=茶&as_of_date=tomorrow", None, "as_of_date"),
        ("GET", "/v1/prove?limit=501", None, "limit"),
        ("GET", "/v1/documents?kind=letter", None, "kind"),
        ("PUT", "/v1/safety-rules", {"reason": "r", "rules": [{"units": -1}]}, "rules.0.units"),
        ("PUT", "/v1/safety-rules", {"reason": "r", "rules": [{"units": 1, "sku_id": "?"}]}, "rules.0.sku_id"),
        ("PUT", "/v1/safety-rules", {"reason": "r", "rules": [{"units": 1, "sku_id": "茶", "category": "tea"}]}, "rules.0"),
        (
            "PUT",
            "/v1/policies/pools",
            {"reason": "r", "shops": [{"channel": "taobao", "shop_id": "s", "pool_id": "?"}]},
            "shops.0.pool_id",
        ),
    ],
)
async def test_bad_documents_are_problems_that_name_the_field(
    shop: Any, method: str, path: str, body: object, field: str
) -> None:
    """Fails if anything wrong is booked, or answered with a 500."""
    await shop.ok("PUT", "/v1/items", {"items": [an_item(), an_item("套装", bundle_parts=[{"sku_id": "茶", "quantity": 2}])]})
    await shop.ok("PUT", "/v1/locations", {"locations": [a_place()]})
    answer = await shop.http.request(method, path, json=body)
    assert answer.status_code == 422, answer.text
    assert field in [error["field"] for error in answer.json()["errors"]]
