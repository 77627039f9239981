"""Reserved orders through the loop: ranked, waiting for a place, re-routed; and what the records tell."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
from sqlalchemy import text

from contracts import CatalogLocation, OrderRouted, StockReserved
from eventing.testing import Harness

Make = Callable[..., StockReserved]
Place = Callable[..., CatalogLocation]
FREIGHT = {"first_weight_grams": 1000, "first_price_minor": 800, "step_weight_grams": 500, "step_price_minor": 100, "days": 2}


async def routed(harness: Harness, *orders: StockReserved) -> list[OrderRouted]:
    emitted = (await harness.receive(orders)).emitted
    assert all(isinstance(event, OrderRouted) for event in emitted)
    return [event for event in emitted if isinstance(event, OrderRouted)]


async def test_all_eligible_places_are_offered_best_first(harness: Harness, an_order: Make, a_place: Place) -> None:
    """The harness's clock stands at 17:00 in China, before cut-off; the default freight row costs 12.00 up to a kilogram."""
    await harness.apply([a_place(1, handling_cost_minor=150), a_place(2, handling_cost_minor=100)])
    [event] = await routed(harness, an_order())
    assert event.plans == [(2, "sf", 1300, 3), (1, "sf", 1350, 3)]
    assert (event.attempt, event.policy_version) == (1, 1)
    assert (event.progress.step, event.progress.stage, event.progress.code) == (1, "routed", "order_routed")
    assert event.progress.params == {
        "eligible": 2,
        "candidates": 2,
        "place": "2号仓",
        "cost_minor": 1300,
        "promised_days": 3,
    }


async def test_an_order_that_fits_nowhere_says_so(
    harness: Harness, an_order: Make, a_place: Place, http: httpx.AsyncClient
) -> None:
    await harness.apply([a_place(1, paused=True), a_place(2, coverage=["44"])])
    order = an_order()
    [event] = await routed(harness, order)
    assert (event.plans, event.progress.stage, event.progress.code) == ([], "unroutable", "no_place_eligible")
    [listed] = (await http.get("/v1/unroutable")).json()["items"]
    assert listed["order_id"] == str(order.order_id)
    told = (await http.get(f"/v1/decisions/{order.order_id}", headers={"Accept-Language": "zh"})).json()
    assert [finding["text"] for finding in told["findings"]] == ["地点已暂停接单", "地点不覆盖地区 330110"]
    assert told["winner"] is None


async def test_an_attempt_is_decided_once_and_only_forward(harness: Harness, an_order: Make, a_place: Place) -> None:
    """Fails without the attempt's guard: a late copy of attempt 1 would count a step and route what is routed."""
    await harness.apply([a_place(1), a_place(2)])
    order_id = uuid4()
    first, second = an_order(order_id), an_order(order_id, attempt=2, excluded=[1])
    assert len(await routed(harness, first, first)) == 1
    assert await routed(harness, first) == []
    [event] = await routed(harness, second)
    assert (event.progress.step, event.attempt, [plan[0] for plan in event.plans]) == (2, 2, [2])
    assert await routed(harness, first) == []


async def test_of_several_attempts_in_a_batch_the_newest_is_decided(harness: Harness, an_order: Make, a_place: Place) -> None:
    await harness.apply([a_place(1), a_place(2)])
    order_id = uuid4()
    [event] = await routed(harness, an_order(order_id, attempt=1), an_order(order_id, attempt=2), an_order(order_id, attempt=2))
    assert (event.attempt, event.progress.step) == (2, 1)


async def test_an_order_waits_for_a_place_only_where_it_has_no_other(harness: Harness, an_order: Make, a_place: Place) -> None:
    """Fails when an unknown place is taken for an unfit one: the order would be stuck for a second of lag."""
    await harness.apply([a_place(1)])
    [event] = await routed(harness, an_order())
    assert [plan[0] for plan in event.plans] == [1]
    waiting = an_order(places=[[7, 10, [35, 210]]])
    result = await harness.receive([waiting])
    assert (result.emitted, result.waiting) == ([], [("place", "7")])
    [woken] = (await harness.apply([a_place(7)])).emitted
    assert isinstance(woken, OrderRouted)
    assert (woken.order_id, [plan[0] for plan in woken.plans]) == (waiting.order_id, [7])


async def test_the_highest_version_of_a_place_counts(harness: Harness, an_order: Make, a_place: Place) -> None:
    await harness.apply([a_place(1, version=5, paused=True), a_place(2)])
    await harness.apply([a_place(1, version=4)])
    [event] = await routed(harness, an_order())
    assert [plan[0] for plan in event.plans] == [2]
    await harness.apply([a_place(1, version=6), a_place(1, version=5, paused=True)])
    [event] = await routed(harness, an_order())
    assert {plan[0] for plan in event.plans} == {1, 2}


async def test_a_policy_and_freight_tables_hold_from_the_next_batch_on(
    harness: Harness, an_order: Make, a_place: Place, http: httpx.AsyncClient
) -> None:
    """Fails when a worker keeps its network past a change made elsewhere."""
    await harness.apply([a_place(1, handling_cost_minor=900), a_place(2, latitude=40.0)])
    [event] = await routed(harness, an_order())
    assert [plan[0] for plan in event.plans] == [2, 1]
    nearest = {"reason": "冬季", "filters": ["stock_after_pick"], "criteria": ["distance"], "min_stock_after_pick": 3}
    answer = await http.put("/v1/policies/active", json=nearest)
    assert (answer.status_code, answer.json()["version"], answer.json()["made_by"]) == (200, 2, "mei")
    [event] = await routed(harness, an_order())
    assert (event.policy_version, [plan[0] for plan in event.plans]) == (2, [1])
    tables = {
        "reason": "新合同",
        "carriers": {"zto": [FREIGHT, FREIGHT | {"destination_prefix": "33", "first_price_minor": 300}]},
    }
    assert (await http.put("/v1/freight-tables", json=tables)).status_code == 200
    [event] = await routed(harness, an_order())
    assert event.plans == [(1, "zto", 1200, 2)]
    assert [(entry["version"], entry["active"]) for entry in (await http.get("/v1/policies")).json()["items"]] == [
        (2, True),
        (1, False),
    ]
    assert (await http.get("/v1/freight-tables", params={"version": 1})).json()["default_row"]["days"] == 3


async def test_the_buyers_carrier_wins_where_the_place_has_it(
    harness: Harness, an_order: Make, a_place: Place, http: httpx.AsyncClient
) -> None:
    tables = {"reason": "x", "carriers": {"sf": [FREIGHT], "zto": [FREIGHT | {"first_price_minor": 100}]}}
    await http.put("/v1/freight-tables", json=tables)
    await harness.apply([a_place(1), a_place(2, carriers=["zto"])])
    [event] = await routed(harness, an_order(order={"wanted_carrier": "sf"}))
    assert {plan[0]: plan[1] for plan in event.plans} == {1: "sf", 2: "zto"}


async def test_a_pick_up_order_goes_where_the_buyer_comes(harness: Harness, an_order: Make, a_place: Place) -> None:
    await harness.apply([a_place(1), a_place(2, pick_up=True, handling_cost_minor=50)])
    fulfilment = {"kind": "pick_up", "place_id": "W2"}
    [event] = await routed(harness, an_order(order={"fulfilment": fulfilment, "destination": None}))
    assert event.plans == [(2, "pick_up", 50, 0)]


async def test_a_kept_decision_tells_why_and_is_made_again_the_same(
    harness: Harness, an_order: Make, a_place: Place, http: httpx.AsyncClient
) -> None:
    """Fails when an input of the decision is not kept, or a version that it used can be overwritten."""
    await harness.apply([a_place(1, handling_cost_minor=150), a_place(2), a_place(3, daily_capacity=0)])
    places = [[1, 10, [35, 210]], [2, 10, [4, 12]], [3, 0, [9, 9]], [8, 1, [9, 9]]]
    order = an_order(places=places, excluded=[2], order={"latitude": None})
    await routed(harness, order)
    # Everything it rested on changes afterwards.
    await harness.apply([a_place(1, version=9, carriers=[], name="改名"), a_place(3, version=9, deleted=True)])
    await http.put("/v1/policies/active", json={"reason": "x", "filters": [], "criteria": ["priority"]})
    await http.put("/v1/freight-tables", json={"reason": "x", "carriers": {}})
    told = (await http.get(f"/v1/decisions/{order.order_id}")).json()
    assert told["reproduced"] is True
    assert [(finding["place_no"], finding["rank"], finding["verdict"]) for finding in told["findings"]] == [
        (1, 1, "eligible"),
        (2, None, "place_refused_before"),
        (3, None, "capacity_full"),
        (8, None, "place_unknown"),
    ]
    assert told["winner"]["name"] == "1号仓"
    assert told["winner"]["text"] == "eligible: sf, cost 13.50, 3 days"
    assert (told["policy_version"], told["freight_version"], told["attempt"]) == (1, 1, 1)
    async with harness.runtime.work() as work:
        await work.connection.execute(text("UPDATE decision SET decided_at = decided_at + interval '2 hours'"))
    assert (await http.get(f"/v1/decisions/{order.order_id}")).json()["reproduced"] is False


async def test_the_runner_up_is_told_with_its_gap(
    harness: Harness, an_order: Make, a_place: Place, http: httpx.AsyncClient
) -> None:
    await harness.apply([a_place(1, handling_cost_minor=150), a_place(2, handling_cost_minor=470)])
    order = an_order()
    await routed(harness, order)
    told = (await http.get(f"/v1/decisions/{order.order_id}", headers={"Accept-Language": "zh-CN"})).json()
    assert told["runner_up"] == {
        "place_no": 2,
        "name": "2号仓",
        "criterion": "landed_cost",
        "gap": 320,
        "text": "成本比次选低 3.20",
    }


async def test_a_preview_decides_without_an_order(harness: Harness, a_place: Place, http: httpx.AsyncClient) -> None:
    await harness.apply([a_place(1), a_place(2, coverage=["44"]), a_place(3, deleted=True)])
    body: dict[str, Any] = {"region_code": "330110", "weight_grams": 1500, "latitude": 30.27, "longitude": 119.98}
    told = (await http.post("/v1/decisions/preview", json=body)).json()
    assert [(finding["place_id"], finding["verdict"]) for finding in told["findings"]] == [
        ("W1", "eligible"),
        ("W2", "region_not_covered"),
    ]
    assert told["winner"]["cost_minor"] == 1200 + 500 + 150
    one = (await http.post("/v1/decisions/preview", json=body | {"place_ids": ["W2"]})).json()
    assert one["candidates"] == 1
    unknown = await http.post("/v1/decisions/preview", json=body | {"place_ids": ["W1", "W9"]})
    assert unknown.status_code == 422
    assert [(error["field"], error["code"]) for error in unknown.json()["errors"]] == [("place_ids.1", "unknown_place")]


async def test_stock_that_does_not_fit_its_skus_is_parked(harness: Harness, an_order: Make, a_place: Place) -> None:
    """Input from outside: taking the shorter of the two lists would rank by numbers of another SKU."""
    await harness.apply([a_place(1)])
    good = an_order()
    result = await harness.receive([an_order(places=[[1, 10, [35]]]), good])
    assert len(result.parked) == 1
    assert [event.order_id for event in result.emitted if isinstance(event, OrderRouted)] == [good.order_id]
