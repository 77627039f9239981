"""Whatever goes wrong is a problem: never a stack trace, never the input, always a way out."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from webapi import texts
from webapi.problems import Problem
from webapi.texts import MissingTextWarning, preferred_language, register_texts, render

LINE = {"sku_id": "A", "quantity": 1}
Key = Callable[[str], dict[str, str]]


def a_thing(**fields: Any) -> dict[str, Any]:
    return {"lines": [LINE]} | fields


async def post(http: httpx.AsyncClient, key: Key, body: Any, path: str = "/v1/things", **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await http.post(path, content=content, headers={"Content-Type": "application/json", **key("operator"), **headers})


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["code"] == code
    assert body["type"] == f"urn:oms:problem:{code}"
    assert body["status"] == status
    assert body["title"]
    return body


async def test_a_good_body_is_taken(http: httpx.AsyncClient, key: Key) -> None:
    """Fails when strictness refuses what is right: ids, times, enums and Chinese text come as JSON strings."""
    thing = a_thing(
        made_at="2026-01-31T08:00:00+08:00",
        made_on="2026-01-31",
        thing_id="0f9c1388-1234-4678-9138-138123456789",
        colour="red",
        extra={"城市": "杭州"},
        ratio=2,
    )
    answer = await post(http, key, thing)
    assert answer.status_code == 201, answer.text
    assert answer.json() == {"by": "operator", "made_at": "2026-01-31T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_request"),
        (b"{", "malformed_json"),
        (b"\xff\xfe{\x00}\x00", "malformed_json"),
        (b'{"lines": "\xff"}', "malformed_json"),
        (b'{"lines": NaN}', "malformed_json"),
        (b'{"lines": Infinity}', "malformed_json"),
        (b'{"ratio": 1e999}', "malformed_json"),
        (b'{"ratio": ' + b"9" * 400 + b".0}", "malformed_json"),
        (b'{"price_minor": ' + b"9" * 5000 + b"}", "malformed_json"),
        (b"[" * 100_000, "malformed_json"),
        (b'{"lines": "\\ud800"}', "malformed_json"),
        (b'{"lines": "a\x00b"}', "malformed_json"),
        (b'{"lines": "a\\u0000b"}', "nul_character"),
        (b'{"a\\u0000b": 1}', "nul_character"),
        (b'{"price_minor": 1, "price_minor": 2}', "duplicate_json_key"),
        (b'{"extra": {"\xe7\x94\xb5": "1", "\\u7535": "2"}}', "duplicate_json_key"),
    ],
)
async def test_what_is_no_clear_json_is_refused(http: httpx.AsyncClient, key: Key, body: bytes, code: str) -> None:
    """Fails when the parser lets something through that another reader, or Postgres, would read otherwise."""
    answer = await post(http, key, body)
    assert_problem(answer, 422 if code == "invalid_request" else 400, code)


async def test_an_escaped_backslash_before_u0000_is_no_nul(http: httpx.AsyncClient, key: Key) -> None:
    """Fails when the bytes alone decide."""
    answer = await post(http, key, b'{"lines": [{"sku_id": "A\\\\u0000", "quantity": 1}]}')
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"lines": []}, "lines", "wrong_length"),
        ({"lines": "x"}, "lines", "not_a_list"),
        ({"lines": [{"sku_id": "A", "quantity": 0}]}, "lines.0.quantity", "out_of_range"),
        ({"lines": [LINE, {"sku_id": "A", "quantity": "1"}]}, "lines.1.quantity", "not_an_integer"),
        ({"lines": [{"sku_id": "A", "quantity": 1.0}]}, "lines.0.quantity", "not_an_integer"),
        ({"lines": [{"sku_id": "A", "quantity": True}]}, "lines.0.quantity", "not_an_integer"),
        ({"lines": [{"sku_id": 7, "quantity": 1}]}, "lines.0.sku_id", "not_a_text"),
        ({"lines": [{"quantity": 1}]}, "lines.0.sku_id", "field_missing"),
        ({"lines": [7]}, "lines.0", "not_an_object"),
        ({"colour_": 1}, "colour_", "field_unknown"),
        ({"gift": "yes"}, "gift", "not_a_boolean"),
        ({"gift": 1}, "gift", "not_a_boolean"),
        ({"ratio": "1"}, "ratio", "not_a_number"),
        ({"colour": "blue"}, "colour", "not_a_choice"),
        ({"thing_id": "x"}, "thing_id", "not_an_id"),
        ({"made_at": "2026-01-31T08:00:00"}, "made_at", "not_a_time"),
        ({"made_at": "0001-01-01T00:00:00+14:00"}, "made_at", "not_a_time"),
        ({"made_at": "yesterday"}, "made_at", "not_a_time"),
        ({"made_on": "31.1.2026"}, "made_on", "not_a_date"),
        ({"extra": {"a": 1}}, "extra.a", "not_a_text"),
        ({"price_minor": 9}, "price_minor", "price_below_cost"),
    ],
)
async def test_a_wrong_field_is_named_with_a_stable_code(
    http: httpx.AsyncClient, key: Key, fields: dict[str, Any], field: str, code: str
) -> None:
    """Fails when a model takes a lookalike, or the answer does not say where and why."""
    body = assert_problem(await post(http, key, a_thing(**fields)), 422, "invalid_request")
    assert [(error["field"], error["code"]) for error in body["errors"]] == [(field, code)]
    assert body["errors"][0]["reason"] != code


async def test_no_value_and_no_personal_key_of_the_input_is_echoed(http: httpx.AsyncClient, key: Key) -> None:
    """Fails when a problem quotes what was sent."""
    thing = a_thing(
        price_minor="张三丰", colour="13812345678", made_at="文三路478号", extra={"13812345678": 1}, 张13912345678=1
    )
    answer = await post(http, key, thing)
    assert_problem(answer, 422, "invalid_request")
    for secret in ("张三丰", "13812345678", "13912345678", "文三路"):
        assert secret not in answer.text


async def test_texts_are_chinese_for_those_who_ask(http: httpx.AsyncClient, key: Key) -> None:
    """Fails when a text has no Chinese or the header is ignored."""
    english = await post(http, key, {"lines": []})
    chinese = await post(http, key, {"lines": []}, **{"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"})
    assert english.json()["title"] == "The request is not valid"
    assert chinese.json()["title"] == "请求未通过校验"
    assert chinese.json()["errors"][0]["reason"] == "允许长度：≥ 1。"
    assert chinese.headers["content-language"] == "zh"
    assert [preferred_language(text) for text in ("", "de", "en,zh", "zh;q=0.5,en", "zh-TW", "zh;q=x", "*")] == [
        "en", "en", "en", "en", "zh", "en", "en",
    ]  # fmt: skip


async def test_every_text_has_both_languages_with_the_same_parameters() -> None:
    """Fails when a translation is missing or names other parameters."""
    for code, (english, chinese) in ((code, text) for code, known in texts._TEXTS.items() for text in known.values()):
        assert english.endswith("."), code
        assert chinese.endswith("。"), code
        assert sorted(texts._PARAM.findall(english)) == sorted(texts._PARAM.findall(chinese)), code


def test_a_code_means_one_thing_and_has_a_text() -> None:
    """Fails when a service may redefine a code, or use one without a text unnoticed."""
    register_texts({"field_missing": ("Is required.", "必填。")})
    with pytest.raises(ValueError, match="another text"):
        register_texts({"field_missing": ("Is needed.", "必填。")})
    with pytest.warns(MissingTextWarning):
        assert render("never_registered") == "never_registered"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/things/", 404, "not_found"),
        ("DELETE", "/v1/things/x", 405, "method_not_allowed"),
        ("GET", "/v1/things/missing", 404, "record_not_found"),
        ("GET", "/v1/things/busy", 503, "unavailable"),
        ("GET", "/v1/things/away", 503, "unavailable"),
        ("GET", "/v1/things/a%00b", 400, "nul_character"),
        ("GET", "/v1/things/a?at=%00", 400, "nul_character"),
        ("GET", "/v1/things/a?at=0001-01-01T00:00:00%2B14:00", 422, "invalid_request"),
        ("GET", "/v1/page?limit=0", 422, "invalid_request"),
        ("GET", "/v1/page?limit=501", 422, "invalid_request"),
    ],
)
async def test_every_refusal_is_a_problem(
    http: httpx.AsyncClient, key: Key, method: str, path: str, status: int, code: str
) -> None:
    """Fails when a path of the framework answers in its own form."""
    assert_problem(await http.request(method, path, headers=key("admin")), status, code)


async def test_a_misspelt_parameter_is_named_and_the_known_ones_are_told(http: httpx.AsyncClient, key: Key) -> None:
    """Fails when unknown parameters are ignored: a misspelt filter would answer with everything. Its value is not repeated."""
    answer = await http.get("/v1/things/a?att=13812345678&13812345678=1", headers=key("viewer"))
    body = assert_problem(answer, 422, "invalid_request")
    assert [error["code"] for error in body["errors"]] == ["parameter_unknown", "parameter_unknown"]
    assert body["errors"][0]["field"] == "att"
    assert "at" in body["errors"][0]["reason"].split(": ")[1].rstrip(".").split(", ")
    assert "13812345678" not in answer.text


async def test_retry_after_and_allow_are_kept(http: httpx.AsyncClient, key: Key) -> None:
    """Fails when a caller is not told when to come back, or what is allowed."""
    busy = await http.get("/v1/things/busy", headers=key("viewer"))
    assert busy.headers["retry-after"] == "7"
    assert "7 s" in busy.json()["detail"]
    assert "POST" in (await http.get("/v1/things", headers=key("viewer"))).headers["allow"]


@pytest.fixture
def spans() -> InMemorySpanExporter:
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


async def test_a_span_names_the_route_and_nothing_of_the_input(
    spans: InMemorySpanExporter, make_app: Callable[..., FastAPI], key: Key
) -> None:
    """Fails when paths, queries or exception texts leave with the traces, or the framework adds spans of its own."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(make_app()), base_url="http://test") as http:
        await http.get("/v1/things/broken?at=2026-01-31T00:00:00Z", headers=key("viewer"))
        await http.get("/v1/things/a?name=13812345678", headers=key("viewer"))
        await http.get("/livez")
    broken, misspelt = spans.get_finished_spans()
    for span, status in ((broken, 500), (misspelt, 422)):
        assert span.name == "GET /v1/things/{thing_id}"
        assert "13812345678" not in span.to_json()
        assert dict(span.attributes or {}) == {"http.response.status_code": status, "http.route": "/v1/things/{thing_id}"}


@pytest.mark.usefixtures("spans")
async def test_the_unexpected_is_a_500_without_internals_and_with_the_callers_trace_id(
    http: httpx.AsyncClient, key: Key
) -> None:
    """Fails when an exception's text reaches the caller, or the problem cannot be found in the log."""
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = key("viewer") | {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    answer = await http.get("/v1/things/broken", headers=headers)
    body = assert_problem(answer, 500, "unexpected")
    assert body["trace_id"] == trace_id
    assert body["instance"] == "/v1/things/broken"
    assert "internals" not in answer.text
    assert "Runtime" not in answer.text


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_413_before_all_of_it_is_read(
    http: httpx.AsyncClient, key: Key, announced: bool
) -> None:
    """Fails when a streamed body is buffered to its end first, or the announced length is not looked at."""
    sent = 0

    async def stream() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b" " * 100_000

    headers = {"Content-Type": "application/json", **key("operator")}
    if announced:
        headers["Content-Length"] = str(100 * 100_000)
    answer = await http.post("/v1/things", content=stream(), headers=headers)
    assert "1048576" in assert_problem(answer, 413, "body_too_large")["detail"]
    assert sent <= 12
    raw = await http.post("/v1/raw", content=b" " * 1_100_000, headers=key("channel"))
    assert_problem(raw, 413, "body_too_large")


async def test_a_route_may_take_more(http: httpx.AsyncClient, key: Key) -> None:
    """Fails when a route's own limit is ignored, in either direction."""
    filler = b" " * (2 * 1024 * 1024)
    assert (await post(http, key, b"[" + filler + b"]", "/v1/many")).status_code == 200
    assert_problem(await post(http, key, b"[" + filler + filler + b"]", "/v1/many"), 413, "body_too_large")


async def test_other_media_types_are_415(http: httpx.AsyncClient, key: Key) -> None:
    """Fails when a form or no type at all is parsed as JSON."""
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = await http.post("/v1/things", content=b"{}", headers={"Content-Type": content_type, **key("operator")})
        assert_problem(answer, 415, "unsupported_media_type")


def test_two_services_may_word_a_code_each_in_its_way() -> None:
    """Fails when a test run that imports several services cannot start, or one shows the other's text."""
    add = "from webapi.texts import register_texts\nregister_texts({'no_such_order': (text + '.', text + '。')})"
    for package in ("left", "right"):
        exec(add, {"__name__": f"{package}.api", "text": package})  # noqa: S102  another package's module, in short
    assert [render("no_such_order", "zh", package=package) for package in ("left", "right")] == ["left。", "right。"]
    with pytest.raises(ValueError, match="another text"):
        exec(add, {"__name__": "left.store", "text": "other"})  # noqa: S102


def test_a_problem_without_a_text_is_noticed_in_tests() -> None:
    """Fails when a code may be raised for years before somebody sees that it has no text."""
    assert Problem("unexpected", status=500).code == "unexpected"
    with pytest.warns(MissingTextWarning):
        texts.title_and_detail("never_registered", "en")
