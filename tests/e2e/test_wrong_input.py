"""Every route of every service against input it must refuse: drawn from the services' own OpenAPI, so none is forgotten.

Runs last: what is drawn may by chance be allowed, and then it is done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from tools.stack import Stack

SERVICES = ("ingest", "audit", "inventory", "router", "fulfillment", "ledger")
EXAMPLES = 12
UNPAIRED = b'{"reason": "\\ud83d"}'
BODIES = {
    "no JSON": (b"{", {400, 422}),
    "no UTF-8": (b'{"reason": "\xff"}', {400, 422}),
    "a lone surrogate": (UNPAIRED, {400, 422}),
    "a NUL character": (b'{"reason": "a\\u0000b"}', {400, 422}),
    "a key twice": (b'{"reason": "a", "reason": "b"}', {400, 422}),
    "an unknown field": (b'{"no_such_field": 1}', {422}),
    "a number beyond all bounds": (b'{"limit": ' + b"9" * 5000 + b"}", {400, 422}),
    "not a number": (b'{"limit": NaN}', {400, 422}),
    "a deep nest": (b"[" * 20_000 + b"]" * 20_000, {400, 422}),
    "the wrong kind": (b'"text"', {422}),
    "nothing": (b"null", {422}),
    "too much": (b'{"reason": "' + b"x" * (9 * 1024 * 1024) + b'"}', {413}),
}


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in sorted(document["paths"].items()):
        for method, operation in sorted(methods.items()):
            yield method.upper(), path, operation


def is_problem(answer: httpx.Response) -> bool:
    """RFC 9457, with our code and the trace to look for."""
    if not answer.headers["content-type"].startswith("application/problem+json"):
        return False
    body = answer.json()
    return body["status"] == answer.status_code and {"type", "title", "detail", "code", "trace_id"} <= body.keys()


@pytest.mark.parametrize("service", SERVICES)
def test_a_body_that_has_no_meaning_is_a_problem_on_every_route(stack: Stack, service: str) -> None:
    """Fails when a route reads its body by itself, without the size, JSON and field checks that all share."""
    wrong: list[str] = []
    headers = {"Authorization": f"Bearer {stack.keys['admin']}", "Content-Type": "application/json"}
    with httpx.Client(base_url=stack.urls[service], headers=headers, timeout=30) as http:
        for method, path, operation in operations_of(http.get("/openapi.json").json()):
            if "requestBody" not in operation:
                continue
            where = re.sub(r"\{[^}]*\}", str(UUID(int=1)), path)
            # Call-backs are signed: who cannot sign is refused before anything is read.
            signed = {401} if path.startswith("/v1/wms/") else set()
            for what, (body, allowed) in BODIES.items():
                if what == "nothing" and not operation["requestBody"].get("required"):
                    continue
                try:
                    answer = http.request(method, where, content=body)
                except httpx.TransportError:
                    # The server answers 413 before it has read all of it, and closes: some clients see only that.
                    if what != "too much":
                        raise
                    continue
                if answer.status_code not in allowed | signed or not is_problem(answer):
                    wrong.append(f"{method} {path}: {what}: {answer.status_code} {answer.text[:120]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("service", SERVICES)
def test_input_against_the_schema_never_ends_in_a_500(stack: Stack, service: str) -> None:
    """Fails when a bound stands in no model: the database or the code below would meet it first."""
    wrong: set[str] = set()
    document = httpx.get(f"{stack.urls[service]}/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=stack.urls[service])
    for result in schema.get_all_operations():
        wrong |= attack(result.ok(), {"Authorization": f"Bearer {stack.keys['admin']}"})
    assert not wrong, "\n".join(sorted(wrong))


def attack(operation: Any, headers: dict[str, str]) -> set[str]:
    """Draw some requests that the schema forbids; return what came back that is no answer."""
    wrong: set[str] = set()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def send(case: schemathesis.Case) -> None:
        answer = case.call(headers=headers, timeout=30)
        content_type = answer.headers.get("content-type", [""])[0]
        if answer.status_code >= 500 and answer.status_code != 503:
            wrong.add(f"{operation.label}: {answer.status_code} for {case.as_curl_command()[:600]}")
        elif answer.status_code >= 400 and "application/problem+json" not in content_type:
            wrong.add(f"{operation.label}: {answer.status_code} without a problem: {answer.text[:120]!r}")

    send()
    return wrong
