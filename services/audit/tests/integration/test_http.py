"""What the HTTP edge refuses, who may do what, and paging."""

from collections.abc import Callable
from typing import Any

import httpx
from fastapi import FastAPI

from contracts import OrderReceived
from eventing.testing import Harness
from webapi.routing import routes_without_role
from webapi.testing import as_caller

ADDRESS = {"kind": "address", "rule_id": "address", "allowed_grades": ["complete"]}


AMOUNT = {"kind": "amount", "rule_id": "a", "currency": "CNY"}
QUANTITY = {"kind": "quantity", "rule_id": "q"}
WRONG_RULES: list[tuple[dict[str, Any], str, str]] = [
    (ADDRESS | {"allowed_grades": ["compelte"]}, "address.allowed_grades.0", "not_a_choice"),
    (ADDRESS | {"allowed_grades": []}, "address.allowed_grades", "wrong_length"),
    (ADDRESS | {"alowed": 1}, "address.alowed", "field_unknown"),
    (ADDRESS | {"kind": "colour"}, "", "not_a_choice"),
    (ADDRESS | {"rule_id": "Not A Code"}, "address.rule_id", "wrong_pattern"),
    (ADDRESS | {"release_after_seconds": 0}, "address.release_after_seconds", "out_of_range"),
    (AMOUNT, "amount", "limits_missing"),
    (AMOUNT | {"min_paid_minor": 2, "max_paid_minor": 1}, "amount", "limits_crossed"),
    (AMOUNT | {"max_paid_minor": -1}, "amount.max_paid_minor", "out_of_range"),
    (QUANTITY, "quantity", "limits_missing"),
    (QUANTITY | {"max_units_per_sku": True}, "quantity.max_units_per_sku", "not_an_integer"),
    ({"kind": "blacklist", "rule_id": "b", "token_kinds": ["name"]}, "blacklist.token_kinds.0", "not_a_choice"),
]


async def test_a_wrong_rule_is_refused_by_name(http: httpx.AsyncClient) -> None:
    """Fails when a rule's parameter is stored unchecked: the next batch of orders would stumble over it."""
    for rule, field, code in WRONG_RULES:
        answer = await http.put("/v1/rule-set", json={"reason": "x", "rules": [rule]})
        assert answer.status_code == 422
        told = [(error["field"], error["code"]) for error in answer.json()["errors"]]
        assert told == [(f"rules.0.{field}".rstrip("."), code)]
    assert (await http.get("/v1/rule-set")).json()["version"] == 1


async def test_two_rules_of_one_name_are_refused(http: httpx.AsyncClient) -> None:
    answer = await http.put("/v1/rule-set", json={"reason": "x", "rules": [ADDRESS, ADDRESS]})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "rule_id_twice"


async def test_a_manual_act_needs_a_reason(http: httpx.AsyncClient) -> None:
    answer = await http.put("/v1/rule-set", json={"rules": []})
    assert [error["field"] for error in answer.json()["errors"]] == ["reason"]


async def test_roles_open_what_they_should(app: FastAPI) -> None:
    for role, method, path, status in (
        ("viewer", "GET", "/v1/holds", 200),
        ("viewer", "PUT", "/v1/rule-set", 403),
        ("operator", "PUT", "/v1/rule-set", 403),
        ("viewer", "POST", "/v1/blacklist", 403),
        ("channel", "GET", "/v1/holds", 403),
    ):
        async with as_caller(app, roles=[role]) as http:
            assert (await http.request(method, path)).status_code == status
            assert (await http.request(method, path, headers={"X-API-Key": "wrong"})).status_code == 401


def test_every_route_says_who_may_call_it(app: FastAPI) -> None:
    assert routes_without_role(app) == []


async def test_holds_are_paged_filtered_and_told_in_chinese(
    harness: Harness, an_order: Callable[..., OrderReceived], http: httpx.AsyncClient
) -> None:
    await harness.receive([an_order(address_grade="unusable") for _ in range(5)])
    await harness.receive([an_order(phone_kind="missing", channel="jd") for _ in range(2)])
    seen: list[str] = []
    after: str | None = None
    while True:
        page = (await http.get("/v1/holds", params={"limit": 3} | ({"next": after} if after else {}))).json()
        seen += [hold["hold_id"] for hold in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert len(seen) == len(set(seen)) == 7
    newest = (await http.get("/v1/holds", params={"sort": "-placed_at", "limit": 500})).json()["items"]
    assert [hold["hold_id"] for hold in newest] == seen[::-1]
    of_jd = (
        await http.get("/v1/holds", params={"channel": "jd", "status": "open"}, headers={"Accept-Language": "zh-CN"})
    ).json()["items"]
    assert {hold["text"] for hold in of_jd} == {"没有可联系的电话（missing）"}
    assert len(of_jd) == 2
    order_id = of_jd[0]["order_id"]
    assert len((await http.get("/v1/holds", params={"order_id": order_id})).json()["items"]) == 1
    assert (await http.get("/v1/holds", params={"status": "closed"})).status_code == 422
    assert (await http.get("/v1/holds", params={"next": "AAAA"})).status_code == 422
