"""Who may call what."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from webapi import callers as callers_module
from webapi.callers import ROLES, Callers, CallersError, Viewer, expand, new_key, requires
from webapi.routing import Router, check_routes, routes_without_role

Key = Callable[[str], dict[str, str]]


async def test_no_key_and_a_wrong_key_are_401(http: httpx.AsyncClient) -> None:
    """Fails when a stranger gets in, or is not told how to come in."""
    for headers, code in (
        ({}, "key_missing"),
        ({"Authorization": "Basic eDp5"}, "key_missing"),
        ({"Authorization": "Bearer nope"}, "key_unknown"),
        ({"X-API-Key": "nope"}, "key_unknown"),
        ({"X-API-Key": "ÿ".encode("latin-1")}, "key_unknown"),
    ):
        answer = await http.get("/v1/things/x", headers=headers)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (401, code)
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_either_header_carries_the_key(http: httpx.AsyncClient, key: Key) -> None:
    """Fails when one of the two ways stops working."""
    assert (await http.get("/v1/things/x", headers=key("viewer"))).status_code == 200
    assert (await http.get("/v1/things/x", headers={"X-API-Key": "key-of-viewer"})).status_code == 200


async def test_a_role_too_small_is_403_and_says_which_one_is_needed(http: httpx.AsyncClient, key: Key) -> None:
    """Fails when roles are not checked or not explained."""
    answer = await http.post("/v1/things", json={"lines": []}, headers=key("viewer"))
    assert answer.status_code == 403
    assert "operator" in answer.json()["detail"]
    assert (await http.post("/v1/many", json=[], headers=key("channel"))).status_code == 200
    assert (await http.post("/v1/many", json=[], headers=key("viewer"))).status_code == 403


async def test_the_key_is_asked_for_before_the_body_is_read(http: httpx.AsyncClient, key: Key) -> None:
    """Fails when a stranger can make us parse: the bad body would be answered with 400."""
    for headers, status in (({}, 401), (key("viewer"), 403)):
        answer = await http.post("/v1/things", content=b"{", headers={"Content-Type": "application/json", **headers})
        assert answer.status_code == status


async def test_a_public_route_needs_no_key(http: httpx.AsyncClient) -> None:
    """Fails when signed call-backs are locked out."""
    assert (await http.post("/v1/callbacks", json={"sku_id": "A", "quantity": 1})).status_code == 200


def test_admin_implies_all_but_personal_data() -> None:
    """Fails when personal data becomes a by-product of another role."""
    assert expand(["admin"]) == set(ROLES) - {"pii.read"}
    assert expand(["operator"]) == {"operator", "viewer"}
    assert expand(["pii.read"]) == {"pii.read"}
    assert expand(["channel"]) == {"channel"}


def test_the_key_file_is_read_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a revoked key stays in force, or a half-written file locks everybody out."""
    monkeypatch.setattr(callers_module, "LOOK_SECONDS", 0.0)
    path = tmp_path / "keys.json"
    (first, first_hash), (second, second_hash) = new_key(), new_key()

    def write(text: str) -> None:
        path.with_suffix(".new").write_text(text, encoding="utf-8")
        os.replace(path.with_suffix(".new"), path)  # noqa: PTH105

    write(json.dumps([{"principal": "店铺", "key_sha256": first_hash, "roles": ["operator"]}]))
    callers = Callers(path)
    assert (found := callers.find(first)) is not None
    assert (found.name, found.has("viewer")) == ("店铺", True)
    assert callers.find(second) is None
    write("[{")
    assert callers.find(first) is not None
    write(json.dumps([{"principal": "b", "key_sha256": second_hash, "roles": ["channel"]}]))
    assert callers.find(first) is None
    assert callers.find(second) is not None
    path.unlink()
    assert callers.find(second) is not None


@pytest.mark.parametrize(
    "text", ["[{", "{}", '[{"principal": "a", "key_sha256": "x", "roles": []}]', '[{"principal": "a"}]', "\ud800"]
)
def test_a_bad_key_file_stops_the_start_and_names_the_field(tmp_path: Path, text: str) -> None:
    """Fails when a service starts with callers that nobody meant."""
    path = tmp_path / "keys.json"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(CallersError, match=r"keys\.json"):
        Callers(path)


def test_every_route_says_who_may_call_it(make_app: Callable[..., FastAPI]) -> None:
    """Fails when a route without a role, or one that is not strict, can be served."""
    assert routes_without_role(make_app()) == []
    open_router, lax_router = Router(), APIRouter()

    @open_router.get("/v1/open")
    async def open_route() -> None: ...

    @lax_router.get("/v1/lax")
    async def lax_route(principal: Viewer) -> None: ...

    with pytest.raises(TypeError, match="no role"):
        check_routes(open_router)
    with pytest.raises(TypeError, match="Router"):
        make_app(routers=[lax_router])
    app = FastAPI()
    app.include_router(open_router)
    assert routes_without_role(app) == ["/v1/open"]
    with pytest.raises(ValueError, match="roles must be"):
        requires("superuser")


async def test_roles_and_problems_are_in_the_openapi_document(http: httpx.AsyncClient) -> None:
    """Fails when a reader of /docs cannot see which key a route needs or how errors look."""
    document = (await http.get("/openapi.json")).json()
    operation = document["paths"]["/v1/things"]["post"]
    assert operation["x-roles"] == ["operator"]
    assert "Role: operator." in operation["description"]
    assert operation["security"] == [{"bearer": ["operator"]}, {"api_key": ["operator"]}]
    assert "422" not in operation["responses"]
    assert operation["responses"]["default"]["content"]["application/problem+json"]
    assert document["paths"]["/v1/callbacks"]["post"]["security"] == []
    assert document["components"]["schemas"]["Problem"]["properties"]["trace_id"]


async def test_documentation_opens_without_a_cdn(http: httpx.AsyncClient) -> None:
    """Fails when /docs loads anything from another host, or an asset is missing."""
    page = await http.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        path = f"/static-offline-docs/{name}"
        assert path in page.text
        assert (await http.get(path)).status_code == 200
