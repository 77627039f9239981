"""What the HTTP edge refuses, who may do what, and paging."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
from fastapi import FastAPI

from contracts import CatalogLocation
from eventing.testing import Harness
from webapi.routing import routes_without_role
from webapi.testing import as_caller

ROW = {"first_weight_grams": 1000, "first_price_minor": 800, "step_weight_grams": 500, "step_price_minor": 100, "days": 2}
POLICY = {"reason": "x", "filters": ["coverage"], "criteria": ["landed_cost"]}


def freight(**changes: Any) -> dict[str, Any]:
    return {"reason": "x", "carriers": {"sf": [ROW | changes]}}


WRONG: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("PUT", "/v1/policies/active", POLICY | {"criteria": []}, "criteria", "wrong_length"),
    ("PUT", "/v1/policies/active", POLICY | {"criteria": ["price"]}, "criteria.0", "not_a_choice"),
    ("PUT", "/v1/policies/active", POLICY | {"criteria": ["distance", "distance"]}, "body", "named_twice"),
    ("PUT", "/v1/policies/active", POLICY | {"reason": " "}, "reason", "wrong_length"),
    ("PUT", "/v1/policies/active", POLICY | {"min_stock_after_pick": -1}, "min_stock_after_pick", "out_of_range"),
    ("PUT", "/v1/policies/active", POLICY | {"bands": {"landed_cost": 0}}, "bands.landed_cost", "out_of_range"),
    ("PUT", "/v1/policies/active", POLICY | {"bands": {"price": 5}}, "bands.price.[key]", "not_a_choice"),
    ("POST", "/v1/policies", POLICY | {"split": "often"}, "split", "not_a_choice"),
    ("POST", "/v1/policies", POLICY | {"max_parcels": 11}, "max_parcels", "out_of_range"),
    ("POST", "/v1/policies", POLICY | {"min_parcel_value_minor": -1}, "min_parcel_value_minor", "out_of_range"),
    ("POST", "/v1/policies/1/comparison", {"limit": 501}, "limit", "out_of_range"),
    ("POST", f"/v1/decisions/{uuid4()}/replay", {"policy": POLICY}, "policy.reason", "field_unknown"),
    ("POST", f"/v1/decisions/{uuid4()}/replay", {"attempt": 0}, "attempt", "out_of_range"),
    (
        "POST",
        f"/v1/decisions/{uuid4()}/replay",
        {"policy_version": 1, "policy": {"filters": [], "criteria": ["distance"]}},
        "body",
        "one_policy_only",
    ),
    ("POST", "/v1/decisions/preview", {"region_code": "330100", "weight_grams": 1, "latitude": 1}, "body", "centre_incomplete"),
    ("PUT", "/v1/freight-tables", freight(max_weight_grams=0), "carriers.sf.0.max_weight_grams", "out_of_range"),
    ("PUT", "/v1/freight-tables", freight(step_weight_grams=0), "carriers.sf.0.step_weight_grams", "out_of_range"),
    ("PUT", "/v1/freight-tables", freight(first_price_minor=1.5), "carriers.sf.0.first_price_minor", "not_an_integer"),
    ("PUT", "/v1/freight-tables", freight(destination_prefix="ZJ"), "carriers.sf.0.destination_prefix", "wrong_pattern"),
    ("PUT", "/v1/freight-tables", freight(price=1), "carriers.sf.0.price", "field_unknown"),
    ("PUT", "/v1/freight-tables", {"reason": "x", "carriers": {"sf": [ROW, ROW]}}, "body", "named_twice"),
    ("POST", "/v1/decisions/preview", {"region_code": "33", "weight_grams": 1}, "region_code", "wrong_pattern"),
]


async def test_wrong_input_is_refused_by_name(http: httpx.AsyncClient) -> None:
    for method, path, body, field, code in WRONG:
        answer = await http.request(method, path, json=body)
        assert answer.status_code == 422, (path, body, answer.text)
        assert [(error["field"], error["code"]) for error in answer.json()["errors"]] == [(field, code)]
    assert (await http.get("/v1/policies/active")).json()["version"] == 1
    assert (await http.get("/v1/freight-tables")).json()["version"] == 1


async def test_roles_open_what_they_should(app: FastAPI) -> None:
    for role, method, path, status in (
        ("viewer", "GET", "/v1/policies/active", 200),
        ("viewer", "PUT", "/v1/policies/active", 403),
        ("operator", "PUT", "/v1/freight-tables", 403),
        ("channel", "GET", f"/v1/decisions/{uuid4()}", 403),
        ("viewer", "GET", f"/v1/decisions/{uuid4()}", 404),
        ("operator", "POST", "/v1/policies", 403),
        ("operator", "POST", "/v1/policies/1/activate", 403),
        ("channel", "GET", "/v1/decisions", 403),
        ("viewer", "GET", "/v1/policies/9", 404),
        ("viewer", "GET", "/v1/policies/0", 422),
        ("viewer", "GET", "/v1/decisions?outcome=odd", 422),
        ("viewer", "GET", "/v1/decisions?since=yesterday", 422),
    ):
        async with as_caller(app, roles=[role]) as http:
            assert (await http.request(method, path)).status_code == status
            assert (await http.request(method, path, headers={"X-API-Key": "wrong"})).status_code == 401


def test_every_route_says_who_may_call_it(app: FastAPI) -> None:
    assert routes_without_role(app) == []


async def test_places_are_paged(harness: Harness, a_place: Callable[..., CatalogLocation], http: httpx.AsyncClient) -> None:
    await harness.apply([a_place(number) for number in range(1, 6)])
    first = (await http.get("/v1/locations", params={"limit": 3})).json()
    rest = (await http.get("/v1/locations", params={"limit": 3, "next": first["next"]})).json()
    assert [place["place_no"] for place in first["items"] + rest["items"]] == [1, 2, 3, 4, 5]
    assert rest["next"] is None
