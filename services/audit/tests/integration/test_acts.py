"""Acts by hand: in bulk, with time to take them back; conditions; rules in every replica; trying rules out."""

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest

from audit.app import make_runtime
from audit.store.rules import add_rule_set
from contracts import CancellationSettled, CatalogItem, OrderAudited, OrderHeld, OrderReceived
from eventing import RuntimeSettings, create_engine
from eventing.testing import Harness, SeededIds

Make = Callable[..., OrderReceived]
BAD = {"address_grade": "unusable"}


async def put_rules(http: httpx.AsyncClient, *rules: dict[str, Any]) -> httpx.Response:
    answer = await http.put("/v1/rule-set", json={"reason": "a test", "rules": list(rules)})
    assert answer.status_code == 200, answer.text
    return answer


async def test_many_orders_are_released_each_for_itself(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    held, refused, unknown = an_order(**BAD), an_order(**BAD), uuid4()
    await harness.receive([held, refused])
    rejected = await http.post("/v1/orders/reject", json={"order_ids": [str(refused.order_id)], "reason": "x"})
    assert rejected.json()["outcomes"] == {str(refused.order_id): "done"}
    ids = [str(held.order_id), str(refused.order_id), str(unknown)]
    released = await http.post("/v1/orders/release", json={"order_ids": ids, "reason": "x"})
    assert released.json()["outcomes"] == dict(zip(ids, ["done", "cancelled", "not_found"], strict=True))
    assert [type(event) for event in await harness.emitted()] == [CancellationSettled, OrderAudited]
    assert (await http.post("/v1/orders/release", json={"order_ids": ids[:1], "reason": "x"})).json()["outcomes"] == {
        ids[0]: "done"
    }
    assert await harness.emitted() == []


@pytest.mark.parametrize(("act", "state"), [("release", "cleared"), ("reject", "cancelled")])
async def test_an_act_can_be_taken_back_until_it_is_done(
    harness: Harness, an_order: Make, http: httpx.AsyncClient, act: str, state: str
) -> None:
    """Fails when a waiting act is carried out although it was taken back, or one that is done says it was."""
    order = an_order(**BAD)
    await harness.receive([order])
    path, body = f"/v1/orders/{order.order_id}/{act}", {"reason": "x", "undo_seconds": 30}
    first = (await http.post(path, json=body)).json()
    assert (first["state"], first["pending_act"]["state"]) == ("held", "waiting")
    undo = f"/v1/acts/{first['pending_act']['act_id']}/undo"
    for _ in range(2):
        assert (await http.post(undo, json={"reason": "误操作"})).json()["state"] == "undone"
    harness.clock.advance(seconds=31)
    await harness.run_due_tasks("deferred_act")
    assert await harness.emitted() == []
    second = (await http.post(path, json=body)).json()["pending_act"]["act_id"]
    harness.clock.advance(seconds=31)
    await harness.run_due_tasks("deferred_act")
    assert (await http.get(f"/v1/orders/{order.order_id}")).json()["state"] == state
    late = await http.post(f"/v1/acts/{second}/undo", json={"reason": "x"})
    assert (late.status_code, late.json()["code"]) == (409, "act_already_done")
    listed = (await http.get("/v1/acts")).json()["items"]
    assert {act["state"] for act in listed} == {"done", "undone"}
    done = next(act for act in listed if act["state"] == "done")
    assert done["outcomes"] == {str(order.order_id): "done"}


async def test_a_cleared_order_cannot_be_held(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    order = an_order()
    await harness.receive([order])
    answer = await http.post(f"/v1/orders/{order.order_id}/holds", json={"reason": "x"})
    assert (answer.status_code, answer.json()["code"]) == (409, "order_already_cleared")
    assert str(order.order_id) in answer.json()["detail"]
    assert (await http.post(f"/v1/orders/{uuid4()}/holds", json={"reason": "x"})).status_code == 404


async def test_a_hold_ends_once_its_condition_holds(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    condition = {"field": "age_minutes", "op": ">=", "value": 30}
    await put_rules(http, {"kind": "address", "rule_id": "address", "allowed_grades": ["complete"], "release_when": condition})
    order = an_order(**BAD, received_at=harness.clock.now().isoformat())
    await harness.receive([order])
    harness.clock.advance(seconds=20 * 60)
    await harness.run_due_tasks("recheck")
    assert await harness.emitted() == []
    harness.clock.advance(seconds=11 * 60)
    await harness.run_due_tasks("recheck")
    [audited] = await harness.emitted()
    assert isinstance(audited, OrderAudited)
    assert audited.progress.code == "condition_met"


async def test_two_replicas_judge_by_the_newest_rules(migrated_database: Callable[[str], Any], an_order: Make) -> None:
    """Fails when a replica keeps rules in memory past its next batch: a change must hold everywhere within a second."""
    engine = create_engine(await migrated_database("audit"), pool_size=4)
    factory = partial(make_runtime, engine, settings=RuntimeSettings(order_partitions=4))
    replicas = [Harness(factory, ids=SeededIds(seed)) for seed in (1, 2)]
    for replica in replicas:
        assert isinstance((await replica.receive([an_order(address_grade="street_short")])).emitted[0], OrderAudited)
    async with replicas[0].runtime.work() as work:
        document = '{"rules": [{"kind": "address", "rule_id": "strict", "allowed_grades": ["complete"]}]}'
        await add_rule_set(work, document, made_by="mei", reason="x")
    for replica in replicas:
        assert isinstance((await replica.receive([an_order(address_grade="street_short")])).emitted[0], OrderHeld)
    await engine.dispose()


async def test_like_orders_of_one_buyer_are_held_with_what_they_are_like(
    harness: Harness, an_order: Make, http: httpx.AsyncClient
) -> None:
    """In one batch and in two; not when the time between them is too long."""
    await put_rules(http, {"kind": "duplicate", "rule_id": "dup", "within_minutes": 60, "token_kinds": ["buyer"]})
    first, second, third = (an_order(placed_at=f"2026-10-23T07:{minute}:00Z") for minute in (10, 20, 30))
    late = an_order(placed_at="2026-10-23T09:00:00Z")
    [one, two] = (await harness.receive([first, second])).emitted
    assert isinstance(one, OrderAudited)
    assert two.holds[0].evidence == {"orders": 2, "minutes": 60, "like": [str(first.order_id)]}
    [three] = (await harness.receive([third])).emitted
    assert (three.holds[0].code, three.holds[0].evidence["orders"]) == ("duplicate_buyer", 3)
    assert isinstance((await harness.receive([late])).emitted[0], OrderAudited)


async def test_an_order_taken_up_again_is_not_like_itself(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    """Fails when a withdrawn cancel is held as the duplicate of the order that was cancelled."""
    await put_rules(http, {"kind": "duplicate", "rule_id": "dup", "within_minutes": 60, "token_kinds": ["buyer"]})
    first, again = an_order(), uuid4()
    await harness.receive([first])
    block = first.order.model_copy(update={"order_id": again, "again": 1})
    part = first.part.model_copy(update={"order_id": again, "root_id": again})
    revived = first.model_copy(
        update={"order_id": again, "root_id": again, "order": block, "part": part, "revives": first.order_id}
    )
    assert isinstance((await harness.receive([revived])).emitted[0], OrderAudited)
    [held] = (await harness.receive([an_order()])).emitted
    assert held.holds[0].evidence["like"] == [str(first.order_id)]


async def test_trying_rules_leaves_what_is_remembered_of_like_orders(
    harness: Harness, an_order: Make, http: httpx.AsyncClient
) -> None:
    """Fails when a viewer who tries a rule makes audit remember orders, or forget those that the active rule looks for."""
    week = {"kind": "duplicate", "rule_id": "dup", "within_minutes": 7 * 24 * 60, "token_kinds": ["buyer"]}
    bad = {"kind": "address", "rule_id": "address", "allowed_grades": ["complete"]}
    await put_rules(http, week, bad)
    await harness.receive([an_order(), an_order(**BAD, buyer_token="somebody else")])
    harness.clock.advance(days=3)
    tried = await http.post("/v1/rule-set/check", json={"rules": [week | {"within_minutes": 1}]})
    assert tried.json()["would_clear"] == 1
    [held] = (await harness.receive([an_order()])).emitted
    assert held.holds[0].code == "duplicate_buyer"


async def test_acts_that_are_due_at_once_lock_their_orders_in_one_order(
    harness: Harness, an_order: Make, http: httpx.AsyncClient
) -> None:
    """Fails when one transaction carries out several acts: each sorts its own orders only, and two workers meet crosswise."""
    orders = sorted((an_order(**BAD) for _ in range(2)), key=lambda order: order.order_id, reverse=True)
    await harness.receive(orders)
    for order in orders:
        await http.post(f"/v1/orders/{order.order_id}/release", json={"reason": "x", "undo_seconds": 5})
    harness.clock.advance(seconds=6)
    (worker,) = [worker for worker in harness.runtime.task_workers.values() if worker.kind == "deferred_act"]
    assert [await worker.run_once() for _ in range(3)] == [1, 1, 0]


async def test_a_margin_is_judged_by_the_catalogues_cost(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    await put_rules(http, {"kind": "margin", "rule_id": "margin", "min_margin_minor": 0})
    assert isinstance((await harness.receive([an_order()])).emitted[0], OrderAudited)
    order = an_order()
    items = [
        CatalogItem(sku_id=line.sku_id, name="x", weight_grams=1, tax_rate_bp=1300, standard_cost_minor=90_000, version=version)
        for line in order.part.lines
        for version in (2, 1)
    ]
    await harness.apply(items)
    [held] = (await harness.receive([order])).emitted
    assert isinstance(held, OrderHeld)
    revenue = sum(line.receivable_minor - line.tax_minor for line in order.part.lines)
    units = sum(line.quantity for line in order.part.lines)
    assert held.holds[0].evidence == {"margin_minor": revenue - units * 90_000, "floor_minor": 0}


async def test_a_rule_set_is_tried_without_changing_anything(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    bad, lost = an_order(**BAD), an_order(phone_kind="missing")
    await harness.receive([bad, lost])
    rule = {"kind": "address", "rule_id": "strict", "allowed_grades": ["complete"]}
    answer = (await http.post("/v1/rule-set/check", json={"rules": [rule]})).json()
    assert {order["order_id"]: order["held_by"] for order in answer["orders"]} == {
        str(bad.order_id): ["strict"],
        str(lost.order_id): [],
    }
    assert answer["would_clear"] == 1
    assert (await http.get("/v1/rule-set")).json()["version"] == 1
    facets = (await http.get("/v1/holds/facets", params={"status": "open"})).json()
    assert facets == [{"value": "address", "holds": 1}, {"value": "phone", "holds": 1}]


CONDITION = {"kind": "condition", "rule_id": "c"}
AREA = {"kind": "area", "rule_id": "a"}
WRONG: list[tuple[str, str, Any]] = [
    ("POST", "/v1/orders/release", {"reason": "x", "order_ids": []}),
    ("POST", "/v1/orders/release", {"reason": "x", "order_ids": [str(uuid4())] * 501}),
    ("POST", "/v1/orders/reject", {"reason": "x", "order_ids": ["no"]}),
    ("POST", "/v1/orders/reject", {"order_ids": [str(uuid4())]}),
    ("POST", f"/v1/orders/{uuid4()}/release", {"reason": "x", "undo_seconds": 601}),
    ("POST", f"/v1/orders/{uuid4()}/release", {"reason": "x", "more": 1}),
    ("POST", f"/v1/orders/{uuid4()}/holds", {"reason": "x", "release_after_seconds": 0}),
    ("POST", f"/v1/orders/{uuid4()}/holds", {"reason": "x", "reference": "\u0001"}),
    ("POST", "/v1/orders/7/holds", {"reason": "x"}),
    ("POST", f"/v1/acts/{uuid4()}/undo", {}),
    ("POST", f"/v1/cases/{uuid4()}/close", {"reason": ""}),
    ("GET", "/v1/cases?status=gone", None),
    ("GET", "/v1/acts?state=gone", None),
    ("GET", "/v1/holds/facets?by=evidence", None),
    ("POST", "/v1/rule-set/check", {"rules": [], "limit": 201}),
    ("POST", "/v1/rule-set/check", {"rules": [CONDITION]}),
    ("POST", "/v1/rule-set/check", {"rules": [AREA | {"prefixes": ["6x"]}]}),
    ("POST", "/v1/rule-set/check", {"rules": [{"kind": "merge", "rule_id": "m", "wait_minutes": 0, "max_orders": 2}]}),
    ("POST", "/v1/rule-set/check", {"rules": [{"kind": "split_goods", "rule_id": "s"}]}),
    ("POST", "/v1/rule-set/check", {"rules": [{"kind": "margin", "rule_id": "m"}]}),
]
WRONG += [
    ("POST", "/v1/blacklist", {"reason": "x", "entries": [{"kind": "phone", "token": token}]})
    for token in ("13812345678", "b-bad", "A" * 32, "a" * 33, "")
]
WRONG_CONDITIONS: list[tuple[Any, str]] = [
    ({"field": "paid", "op": "=", "value": 1}, "condition_field_unknown"),
    ({"field": "paid_minor", "op": "regex", "value": 1}, "condition_operator_unfit"),
    ({"field": "paid_minor", "op": "=", "value": True}, "condition_value_unfit"),
    ({"field": "paid_minor", "op": "between", "value": [2, 1]}, "condition_value_unfit"),
    ({"field": "paid_minor", "op": "between", "value": [1, "2"]}, "condition_value_unfit"),
    ({"field": "presale", "op": "=", "value": 1}, "condition_value_unfit"),
    ({"field": "channel", "op": "=", "value": ["jd"]}, "condition_value_unfit"),
    ({"field": "channel", "op": "="}, "condition_shape"),
    ({}, "condition_shape"),
    ({"all": [], "any": []}, "wrong_length"),
    ({"at_least": 2, "of": [{"field": "presale", "op": "=", "value": True}]}, "condition_shape"),
]


@pytest.mark.parametrize(("method", "path", "body"), WRONG)
async def test_bad_input_is_refused_by_field(http: httpx.AsyncClient, method: str, path: str, body: Any) -> None:
    answer = await http.request(method, path, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"]


async def test_a_wrong_condition_is_refused_by_name(http: httpx.AsyncClient) -> None:
    """Fails when a condition is stored that a batch of orders would stumble over."""
    for condition, code in WRONG_CONDITIONS:
        answer = await http.post("/v1/rule-set/check", json={"rules": [CONDITION | {"when": condition}]})
        assert (answer.status_code, code in {error["code"] for error in answer.json()["errors"]}) == (422, True), answer.text
    deep: Any = {"field": "presale", "op": "=", "value": True}
    for _ in range(5):
        deep = {"any": [deep]}
    answer = await http.post("/v1/rule-set/check", json={"rules": [CONDITION | {"when": deep}]})
    assert "condition_too_large" in answer.text


async def test_unknown_acts_are_not_found(http: httpx.AsyncClient) -> None:
    answer = await http.post(f"/v1/acts/{uuid4()}/undo", json={"reason": "x"})
    assert (answer.status_code, answer.json()["code"]) == (404, "act_not_found")
