"""Reserved orders through the loop: ranked, waiting for a place, re-routed; and what the records tell."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
from sqlalchemy import text

from contracts import CatalogLocation, OrderRouted, StockReserved
from eventing import NewTask
from eventing.testing import Harness
from router.handlers import PURGE

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
    assert (event.attempt, event.progress.attempt, event.policy_version) == (1, 1, 1)
    assert (event.skus, event.combined) == ([], [])
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
    assert [(entry["version"], entry["state"]) for entry in (await http.get("/v1/policies")).json()["items"]] == [
        (2, "active"),
        (1, "inactive"),
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


async def test_an_order_no_place_has_whole_is_offered_in_parcels(
    harness: Harness, an_order: Make, a_place: Place, http: httpx.AsyncClient
) -> None:
    """Fails when units are told in another order than the SKUs, or a plan is kept from the record."""
    await harness.apply([a_place(1), a_place(2)])
    order = an_order(places=[[1, 10, [5, 0]], [2, 10, [1, 1]]], attempt=3)
    [event] = await routed(harness, order)
    assert event.plans == []
    assert event.skus == order.skus
    assert event.combined[0] == [(1, "sf", 1350, 3, [1, 0]), (2, "sf", 1350, 3, [1, 1])]
    assert (event.progress.stage, event.progress.code, event.progress.attempt) == ("routed", "split_by_place", 3)
    assert event.progress.params["places"] == 2
    assert (await http.get("/v1/unroutable")).json()["items"] == []
    told = (await http.get(f"/v1/decisions/{order.order_id}")).json()
    assert (told["reproduced"], told["split"]["code"], told["split"]["text"]) == (
        True,
        "split_by_place",
        "ships from 2 places",
    )
    assert told["combined"][0]["parcels"][1]["units"] == dict(zip(order.skus, [1, 1], strict=True))
    assert told["findings"][0]["text"] == "only 2 of 3 units are there"
    assert "?" not in "".join(finding["text"] for finding in told["findings"])


async def test_a_forced_place_is_the_only_plan(
    harness: Harness, an_order: Make, a_place: Place, http: httpx.AsyncClient
) -> None:
    await harness.apply([a_place(1), a_place(2, coverage=["99"])])
    order = an_order(forced=2, excluded=[2])
    [event] = await routed(harness, order)
    assert [plan[0] for plan in event.plans] == [2]
    told = (await http.get(f"/v1/decisions/{order.order_id}", headers={"Accept-Language": "zh"})).json()
    assert (told["forced_place_no"], told["reproduced"]) == (2, True)
    assert [finding["text"] for finding in told["findings"]] == ["人工指定地点", "人工指定了其他地点"]


async def test_a_replay_under_the_same_policy_is_the_kept_decision_and_under_another_it_is_not(
    harness: Harness, an_order: Make, a_place: Place, http: httpx.AsyncClient
) -> None:
    """Fails when a replay reads today's places, freight or clock, or writes anything."""
    await harness.apply([a_place(1, handling_cost_minor=900), a_place(2, latitude=40.0)])
    order = an_order()
    await routed(harness, order)
    await harness.apply([a_place(2, version=9, paused=True)])
    harness.clock.advance(seconds=86_400 + 2 * 3600)  # After cut-off: decided now, the promise would be a day later.
    path = f"/v1/decisions/{order.order_id}/replay"
    same = (await http.post(path, json={})).json()
    assert (same["same"], same["policy_version"], same["winner"]["place_id"]) == (True, 1, "W2")
    kept = (await http.get(f"/v1/decisions/{order.order_id}")).json()
    assert {name: same[name] for name in same if name != "same"} == {name: kept[name] for name in kept if name != "reproduced"}
    nearest = {"filters": [], "criteria": ["distance"]}
    other = (await http.post(path, json={"policy": nearest})).json()
    assert (other["same"], other["policy_version"], other["winner"]["place_id"]) == (False, 0, "W1")
    drafted = await http.post("/v1/policies", json={"reason": "试算", **nearest})
    assert (drafted.status_code, drafted.json()["state"], drafted.json()["version"]) == (201, "draft", 2)
    other = (await http.post(path, json={"policy_version": 2})).json()
    assert (other["same"], other["policy_version"], other["winner"]["place_id"]) == (False, 2, "W1")
    compared = (await http.post("/v1/policies/2/comparison", json={})).json()
    assert (compared["decisions"], compared["changed"]) == (1, 1)
    assert [change["place_nos_now"] for change in compared["changes"]] == [[1]]
    assert compared["now"]["cost_minor"] - compared["then"]["cost_minor"] == 750
    assert (await http.post("/v1/policies/1/comparison", json={})).json()["changed"] == 0
    assert (await http.get("/v1/policies/active")).json()["version"] == 1
    assert await harness.emitted() == []


async def test_a_draft_decides_nothing_until_it_is_activated_and_the_old_one_can_come_back(
    harness: Harness, an_order: Make, a_place: Place, http: httpx.AsyncClient
) -> None:
    await harness.apply([a_place(1, handling_cost_minor=900), a_place(2, latitude=40.0)])
    await http.post("/v1/policies", json={"reason": "就近", "filters": [], "criteria": ["distance"]})
    assert [plan[0] for plan in (await routed(harness, an_order()))[0].plans] == [2, 1]
    activated = await http.post("/v1/policies/2/activate", json={"reason": "大促"})
    assert (activated.status_code, activated.json()["state"]) == (200, "active")
    assert [plan[0] for plan in (await routed(harness, an_order()))[0].plans] == [1, 2]
    again = await http.post("/v1/policies/2/activate", json={"reason": "大促"})
    assert (again.status_code, again.json()["code"]) == (409, "already_active")
    assert (await http.post("/v1/policies/1/activate", json={"reason": "恢复"})).json()["state"] == "active"
    assert [plan[0] for plan in (await routed(harness, an_order()))[0].plans] == [2, 1]
    states = [(row["version"], row["state"]) for row in (await http.get("/v1/policies")).json()["items"]]
    assert states == [(2, "inactive"), (1, "active")]
    acts = (await http.get("/v1/operations/acts")).json()["items"]
    assert [(act["act"], act["who"], act["why"]) for act in acts[:2]] == [
        ("activate_policy", "mei", "恢复"),
        ("activate_policy", "mei", "大促"),
    ]


async def test_decisions_are_listed_by_outcome_place_and_time(
    harness: Harness, an_order: Make, a_place: Place, http: httpx.AsyncClient
) -> None:
    await harness.apply([a_place(1), a_place(2)])
    single, combined = an_order(places=[[2, 9, [9, 9]]]), an_order(places=[[1, 9, [9, 0]], [2, 9, [0, 9]]])
    stuck = an_order(places=[[1, 9, [0, 9]]])
    for order in (single, combined, stuck):
        await routed(harness, order)
        harness.clock.advance(seconds=60)

    async def listed(**filters: Any) -> list[str]:
        return [row["order_id"] for row in (await http.get("/v1/decisions", params=filters)).json()["items"]]

    newest_first = [str(order.order_id) for order in (stuck, combined, single)]
    assert await listed() == newest_first
    assert await listed(outcome="single") == [str(single.order_id)]
    assert await listed(outcome="combined") == [str(combined.order_id)]
    assert await listed(outcome="unroutable") == [str(stuck.order_id)]
    assert await listed(place_id="W2") == [str(single.order_id)]
    assert await listed(policy_version=2) == []
    [first] = (await http.get("/v1/decisions", params={"outcome": "single"})).json()["items"]
    assert await listed(since=first["decided_at"]) == newest_first
    assert await listed(until=first["decided_at"]) == [str(single.order_id)]


async def test_a_place_set_up_anew_is_found_under_both_its_numbers(
    harness: Harness, an_order: Make, a_place: Place, http: httpx.AsyncClient
) -> None:
    """Fails when an id is taken to have one number: the answer would be a 500."""
    await harness.apply([a_place(1, place_id="W"), a_place(2, place_id="W")])
    for order in (an_order(places=[[1, 9, [9, 9]]]), an_order(places=[[2, 9, [9, 9]]])):
        await routed(harness, order)
    answer = await http.get("/v1/decisions", params={"place_id": "W"})
    assert (answer.status_code, {row["place_no"] for row in answer.json()["items"]}) == (200, {1, 2})


async def test_a_cut_off_with_an_offset_stops_no_order(harness: Harness, an_order: Make, a_place: Place) -> None:
    """Fails when it is compared as it came: every order of every place would be parked."""
    await harness.apply([a_place(1, cut_off="18:00:00+08:00"), a_place(2)])
    [event] = await routed(harness, an_order())
    assert {plan[0] for plan in event.plans} == {1, 2}


async def test_old_decisions_go_and_young_ones_stay(
    harness: Harness, an_order: Make, a_place: Place, http: httpx.AsyncClient
) -> None:
    """Fails when the purge forgets to arm itself again, or takes what is still wanted."""
    await harness.apply([a_place(1), a_place(2)])
    old, young = an_order(), an_order()
    await routed(harness, old)
    harness.clock.advance(seconds=50 * 86_400)
    await routed(harness, young)
    async with harness.runtime.work() as work:
        work.add_tasks([NewTask(PURGE, "all", work.now)])
    for days, left in ((0, [young, old]), (41, [young]), (50, [])):
        harness.clock.advance(seconds=days * 86_400)
        assert await harness.run_due_tasks(PURGE) == 1
        rows = (await http.get("/v1/decisions")).json()["items"]
        assert [row["order_id"] for row in rows] == [str(order.order_id) for order in left]


async def test_an_offer_that_cannot_be_meant_is_parked(harness: Harness, an_order: Make, a_place: Place) -> None:
    """Units would be counted as those of another SKU, or one place's goods twice."""
    await harness.apply([a_place(1), a_place(2)])
    twice = an_order(places=[[1, 10, [9, 9]], [1, 10, [9, 9]]])
    other = an_order(skus=["DRESS01-RED-M", "NEVER-ORDERED"])
    less = an_order(skus=["DRESS01-RED-M"], places=[[1, 10, [9]]])
    doubled = an_order(skus=["DRESS01-RED-M", "DRESS01-RED-M"])
    result = await harness.receive([twice, other, less, doubled])
    assert (len(result.parked), result.emitted) == (4, [])
