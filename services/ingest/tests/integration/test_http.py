"""The HTTP edge: intake, the order book, parked orders, tokens, roles."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text

from contracts import CatalogItem, ChannelOrder, OrderReceived
from eventing import UnitOfWork
from eventing.testing import Harness
from ingest.app import build
from ingest.domain.identity import order_id_of
from ingest.intake import Arrival, Outcome
from ingest.settings import Settings
from webapi.routing import routes_without_role
from webapi.testing import as_caller, client

Make = Callable[..., dict[str, Any]]


def outcomes(answer: httpx.Response) -> list[tuple[str, str]]:
    return [(result["outcome"], result["code"]) for result in answer.json()["results"]]


async def test_one_order_is_taken_and_durable(harness: Harness, http: httpx.AsyncClient, an_order: Make) -> None:
    answer = await http.post("/v1/orders", json=an_order())
    assert answer.status_code == 202, answer.text
    (result,) = answer.json()["results"]
    assert (result["outcome"], result["code"]) == ("accepted", "order_received")
    assert result["order_id"] == str(order_id_of("taobao", "小店", "T-1"))
    assert isinstance((await harness.emitted())[1], OrderReceived)


async def _soon(holds: Callable[[], bool]) -> None:
    for _ in range(2000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("not within ten seconds")


class Together:
    """Orders by transaction. The first ones stand until all that were asked for wait behind them; "poison" fails, as by a
    defect."""

    def __init__(self, app: FastAPI, http: httpx.AsyncClient) -> None:
        self.batches: list[list[str]] = []
        self._app, self._http = app, http
        self._gate = asyncio.Event()
        self._take = app.state.gateway.take

    async def take(self, arrivals: Sequence[Arrival], work: UnitOfWork) -> list[Outcome]:
        self.batches.append([arrival.order.channel_order_no for arrival in arrivals])
        await self._gate.wait()
        if any(arrival.order.channel_order_no == "poison" for arrival in arrivals):
            raise RuntimeError("a defect")
        taken: list[Outcome] = await self._take(arrivals, work)
        return taken

    async def post(self, orders: Sequence[dict[str, Any]]) -> list[asyncio.Task[httpx.Response]]:
        """Sent, and all of them waiting: the first two in transactions of their own, the others behind them."""
        asked: list[asyncio.Task[httpx.Response]] = []
        waiting = self._app.state.gathering._waiting
        for order in orders:
            asked.append(asyncio.create_task(self._http.post("/v1/orders", json=order)))
            await _soon(lambda: sum(map(len, self.batches)) + len(waiting) == len(asked))
            await _soon(lambda: len(self.batches) >= min(2, len(asked)))
        return asked

    def go(self) -> None:
        self._gate.set()


@pytest.fixture
def together(app: FastAPI, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> Together:
    together = Together(app, http)
    monkeypatch.setattr(app.state.gateway, "take", together.take)
    return together


async def test_single_orders_that_come_at_once_share_a_transaction(
    harness: Harness, an_order: Make, together: Together
) -> None:
    """Fails when each single order costs a transaction of its own, or one's answer goes to another."""
    numbers = [f"T-{number}" for number in range(20)]
    asked = await together.post([an_order(number) for number in numbers])
    together.go()
    answers = await asyncio.gather(*asked)
    assert [answer.json()["results"][0]["channel_order_no"] for answer in answers] == numbers
    assert {result for answer in answers for result in outcomes(answer)} == {("accepted", "order_received")}
    assert sorted(number for batch in together.batches for number in batch) == sorted(numbers)
    assert len(together.batches) == 3
    assert sum(isinstance(event, OrderReceived) for event in await harness.emitted()) == 20


async def test_an_order_that_fails_costs_none_of_those_beside_it(harness: Harness, an_order: Make, together: Together) -> None:
    """Fails when the failure of a shared transaction is the answer to everyone in it."""
    asked = await together.post([an_order(number) for number in ("A", "B", "C", "poison", "D", "E")])
    together.go()
    given = await asyncio.gather(*asked, return_exceptions=True)
    good = [answer for answer in given if isinstance(answer, httpx.Response) and answer.status_code == 202]
    assert len(good) == 5
    assert sum(isinstance(event, OrderReceived) for event in await harness.emitted()) == 5
    assert max(len(batch) for batch in together.batches if "poison" in batch) == 4


async def test_a_caller_that_hangs_up_takes_nobody_along(harness: Harness, an_order: Make, together: Together) -> None:
    """Fails when the transaction belongs to the request that opened it."""
    first, *others = await together.post([an_order(f"T-{number}") for number in range(6)])
    first.cancel()
    together.go()
    answers = await asyncio.gather(*others)
    assert {result for answer in answers for result in outcomes(answer)} == {("accepted", "order_received")}


async def test_a_batch_answers_for_each_order(harness: Harness, http: httpx.AsyncClient, an_order: Make) -> None:
    """Fails when one bad order costs the others, or the caller cannot tell which one it was."""
    line = {"channel_line_id": "1", "sku_id": "NEW", "quantity": 1, "unit_list_price_minor": 100}
    orders = [
        an_order("A"),
        an_order("B", lines=[line]),
        an_order("C", lines=[{**line, "quantity": 0}]),
        an_order("D", lines=[{**line, "adjust_minor": -101}]),
        an_order("A"),
        an_order("E", colour="red"),
        "no order at all",
    ]
    answer = await http.post("/v1/orders", json={"orders": orders})
    assert answer.status_code == 202
    assert outcomes(answer) == [
        ("accepted", "order_received"),
        ("parked", "unknown_sku"),
        ("refused", "out_of_range"),
        ("refused", "impossible_money"),
        ("duplicate", "order_received"),
        ("refused", "field_unknown"),
        ("refused", "not_an_object"),
    ]
    results = answer.json()["results"]
    assert results[1]["reason"] == "parked: SKU not in the catalogue: NEW"
    assert [error["field"] for error in results[2]["errors"]] == ["lines.0.quantity"]
    assert [error["field"] for error in results[3]["errors"]] == ["lines.0"]
    assert [error["field"] for error in results[5]["errors"]] == ["colour"]
    assert len([event for event in await harness.emitted() if isinstance(event, OrderReceived)]) == 1


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"discount": 1}, "discount", "field_unknown"),
        ({"receiver": {"phone_number": "1"}}, "receiver.phone_number", "field_unknown"),
        ({"notes": {"buyer_note": 3}}, "notes.buyer_note", "not_a_text"),
        ({"source_version": "5"}, "source_version", "not_an_integer"),
        ({"source_version": 5.5}, "source_version", "not_an_integer"),
        ({"presale": 1}, "presale", "not_a_boolean"),
        ({"placed_at": "2026-03-01T10:00:00"}, "placed_at", "not_a_time"),
        ({"placed_at": "1999-12-31T23:59:59Z"}, "placed_at", "time_out_of_range"),
        ({"currency": "yuan"}, "currency", "wrong_pattern"),
        ({"lines": []}, "lines", "wrong_length"),
        ({"paid_minor": -1}, "paid_minor", "out_of_range"),
        ({"paid_minor": 10**18}, "paid_minor", "out_of_range"),
        ({"trade_state": "odd"}, "trade_state", "unknown_value"),
        ({"fulfilment": {"kind": "pick_up"}}, "fulfilment.place_id", "place_missing"),
        ({"freight_discounts": [{"payer": "shop", "amount_minor": 1001}]}, "freight_discounts", "impossible_money"),
    ],
)
async def test_a_bad_order_is_a_problem_that_names_the_field(
    harness: Harness, http: httpx.AsyncClient, an_order: Make, changes: dict[str, Any], field: str, code: str
) -> None:
    """Fails when bad input is stored, guessed at, or answered without saying where it is wrong."""
    answer = await http.post("/v1/orders", json=an_order(**changes))
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert (field, code) in [(error["field"], error["code"]) for error in answer.json()["errors"]]
    assert "欧阳小明" not in answer.text
    assert "13812345678" not in answer.text
    assert await harness.emitted() == []


async def test_other_bodies_are_refused(harness: Harness, http: httpx.AsyncClient, an_order: Make) -> None:
    headers = {"Content-Type": "application/json"}
    for body, status in (
        (b"{", 400),
        (b'{"channel":"a","channel":"b"}', 400),
        (b'{"channel":"\\u0000"}', 400),
        (b'{"channel":"\\ud800"}', 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"orders":[]}', 422),
        (b'{"orders":{}}', 422),
        (b'{"orders":[1],"more":1}', 422),
        (b'{"orders":[' + b"1," * 500 + b"1]}", 422),
    ):
        answer = await http.post("/v1/orders", content=body, headers=headers)
        assert answer.status_code == status, (body[:40], answer.text)
    huge = await http.post("/v1/orders", content=b" " * (17 * 1024 * 1024), headers=headers)
    assert huge.status_code == 413
    too_large = an_order(lines=[{**an_order()["lines"][1], "title": "长" * 199}] * 400)
    assert (await http.post("/v1/orders", json=too_large)).json()["code"] == "too_large"


async def test_problems_speak_the_callers_language(http: httpx.AsyncClient, an_order: Make) -> None:
    line = {**an_order()["lines"][1], "adjust_minor": -5991}
    answer = await http.post("/v1/orders", json=an_order(lines=[line]), headers={"Accept-Language": "zh-CN"})
    assert answer.json()["title"] == "优惠超过价格"


async def test_an_idempotency_key_gives_the_first_answer_again(
    harness: Harness, http: httpx.AsyncClient, an_order: Make
) -> None:
    headers = {"Idempotency-Key": "k-1"}
    first = await http.post("/v1/orders", json=an_order(), headers=headers)
    again = await http.post("/v1/orders", json=an_order(), headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    other = await http.post("/v1/orders", json=an_order("T-2"), headers=headers)
    assert other.json()["code"] == "idempotency_key_reused"


async def test_intake_stops_before_the_outbox_overflows(harness: Harness, http: httpx.AsyncClient, an_order: Make) -> None:
    """Fails when orders are taken faster than they are passed on, until the disk is full."""
    orders = [an_order(f"T-{number}") for number in range(26)]  # Two events each; the limit is 50.
    assert (await http.post("/v1/orders", json={"orders": orders})).status_code == 202
    refused = await http.post("/v1/orders", json=an_order("LATE"))
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "intake_full", "5")
    await harness.emitted()
    assert (await http.post("/v1/orders", json=an_order("LATE"))).status_code == 202


async def test_http_and_kafka_intake_know_each_others_orders(harness: Harness, http: httpx.AsyncClient, an_order: Make) -> None:
    """Fails when the two ways in hash an order differently: the second would be flagged as a conflict."""
    await harness.receive([ChannelOrder.model_validate(an_order())])
    answer = await http.post("/v1/orders", json=an_order())
    assert outcomes(answer) == [("duplicate", "order_received")]


async def test_only_channels_and_operators_may_post_orders(app: FastAPI, an_order: Make) -> None:
    async with as_caller(app, roles=["viewer"]) as viewer:
        assert (await viewer.post("/v1/orders", json=an_order())).status_code == 403
        assert (await viewer.post("/v1/tokens", json={"reason": "x"})).status_code == 403
        assert (await viewer.get("/v1/orders")).status_code == 200
    async with as_caller(app, roles=["channel"]) as channel:
        assert (await channel.post("/v1/orders", json=an_order())).status_code == 202
        assert (await channel.get("/v1/orders")).status_code == 403
        nobody = await channel.get("/v1/orders", headers={"X-API-Key": "wrong"})
        assert nobody.status_code == 401
    assert routes_without_role(app) == []


async def test_the_documentation_says_what_an_order_is(app: FastAPI) -> None:
    document = app.openapi()
    body = document["paths"]["/v1/orders"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "ChannelOrder" in str(body)
    assert "unit_list_price_minor" in document["components"]["schemas"]["ChannelOrderLine"]["properties"]


async def test_parked_orders_are_listed_and_retried_with_a_reason(
    bare: Harness, http: httpx.AsyncClient, an_order: Make, an_item: Callable[..., CatalogItem]
) -> None:
    await http.post("/v1/orders", json={"orders": [an_order("T-1"), an_order("T-2", payment_state="unpaid")]})
    listed = (await http.get("/v1/parked-orders")).json()["items"]
    assert {item["why"] for item in listed} == {
        "parked: SKU not in the catalogue: DRESS, SOCK",
        "waiting for payment",
    }
    order_id = order_id_of("taobao", "小店", "T-1")
    path = f"/v1/parked-orders/{order_id}/retry"
    assert (await http.post(path, json={})).status_code == 422
    still = await http.post(path, json={"reason": "看看"})
    assert (still.status_code, still.json()["stage"]) == (200, "parked")
    await bare.apply([an_item("DRESS"), an_item("SOCK")])
    done = await http.post(path, json={"reason": "商品已补录"})
    assert done.json()["state"] == "sent"
    assert [(act["who"], act["why"]) for act in done.json()["acts"]] == [("mei", "看看"), ("mei", "商品已补录")]
    again = await http.post(path, json={"reason": "再来"})
    assert (again.status_code, again.json()["code"]) == (409, "order_not_parked")
    missing = await http.post(f"/v1/parked-orders/{order_id_of('a', 'b', 'c')}/retry", json={"reason": "x"})
    assert missing.status_code == 404


async def test_tokens_match_those_in_orders_and_the_look_is_noted(
    harness: Harness, http: httpx.AsyncClient, an_order: Make
) -> None:
    """Fails when an operator's token for a phone differs from the one in orders: the blacklist would never hit."""
    await http.post("/v1/orders", json=an_order())
    _, order = await harness.emitted()
    assert isinstance(order, OrderReceived)
    destination = order.order.destination
    assert destination is not None
    receiver = an_order()["receiver"]
    answer = await http.post(
        "/v1/tokens",
        json={
            "reason": "黑名单",
            "phone": "+86 138-1234-5678",
            "name": receiver["name"],
            "address": {name: receiver[name] for name in ("province", "city", "district", "street")},
            "buyer": {"channel": "taobao", "buyer_id": "buyer-1"},
        },
    )
    assert answer.json() == {
        "phone_token": destination.phone_token,
        "address_token": destination.address_token,
        "receiver_token": destination.receiver_token,
        "buyer_token": order.order.buyer_token,
    }
    async with harness.runtime.work() as work:
        acts = await work.connection.execute(text("SELECT who, act, why, detail::text FROM manual_act"))
        assert [tuple(act) for act in acts] == [
            ("mei", "make_tokens", "黑名单", '{"asked": ["address", "buyer", "name", "phone"]}')
        ]


@pytest.mark.parametrize(
    "asked",
    [
        {"buyer": {"channel": "taobao", "buyer_id": ""}},
        {"buyer": {"channel": "taobao", "buyer_id": "x" * 65}},
        {"buyer": {"channel": "Tao Bao", "buyer_id": "x"}},
        {"phone": "1" * 65},
        {"address": {"street": "x" * 1001}},
        {"address": {"street": "x", "region_code": "33"}},
        {"handle": "x" * 1001},
    ],
)
async def test_a_token_of_what_no_order_can_hold_is_refused(http: httpx.AsyncClient, asked: dict[str, Any]) -> None:
    """Fails when a value beyond the order's bounds is an error of ours."""
    answer = await http.post("/v1/tokens", json={"reason": "x", **asked})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text


async def test_an_order_without_a_book_entry_is_found_all_the_same(
    harness: Harness, http: httpx.AsyncClient, an_order: Make
) -> None:
    """Fails when an order is invisible between its acceptance and the book's first delivery."""
    await http.post("/v1/orders", json=an_order())
    answer = (await http.get("/v1/orders/by-channel/taobao/小店/T-1")).json()
    assert (answer["stage"], answer["state"], answer["timeline"]) == ("received", "sent", [])
    assert answer["why"] == "taken in; no stage has reported yet"
    assert (await http.get("/v1/orders/by-channel/taobao/小店/T-9")).status_code == 404


async def test_lists_page_filter_and_sort(harness: Harness, http: httpx.AsyncClient, an_order: Make) -> None:
    """Fails when a page skips or repeats an order, or a filter lets others through."""
    for number in range(7):
        placed = f"2026-02-{20 - number:02d}T00:00:00Z"
        await http.post("/v1/orders", json=an_order(f"T-{number}", placed_at=placed, shop_id="a" if number % 2 else "b"))
        harness.clock.advance(seconds=1)

    async def walk(**query: str | int) -> list[str]:
        found, cursor = list[str](), dict[str, str]()
        while True:
            page = (await http.get("/v1/orders", params={"limit": 2, **query, **cursor})).json()
            found += [item["channel_order_no"] for item in page["items"]]
            if page["next"] is None:
                return found
            cursor = {"next": page["next"]}

    numbers = [f"T-{number}" for number in range(7)]
    assert await walk() == numbers[::-1]
    assert await walk(sort="received_at") == numbers
    assert await walk(sort="placed_at") == numbers[::-1]
    assert await walk(sort="-placed_at") == numbers
    assert await walk(shop_id="a", sort="received_at") == numbers[1::2]
    assert await walk(channel="jd") == []
    assert await walk(q="T-3") == ["T-3"] == await walk(channel_order_no="T-3")
    assert await walk(q=str(order_id_of("taobao", "a", "T-3"))) == ["T-3"]
    assert await walk(received_from="2026-03-02T09:00:02Z", received_to="2026-03-02T09:00:04Z") == ["T-3", "T-2"]
    for bad in ({"limit": 0}, {"limit": 501}, {"next": "x"}, {"sort": "name"}, {"stage": "odd"}, {"received_from": "x"}):
        assert (await http.get("/v1/orders", params=bad)).status_code == 422, bad
    other = (await http.get("/v1/orders", params={"limit": 2})).json()["next"]
    assert (await http.get("/v1/orders", params={"sort": "placed_at", "next": other})).status_code == 422


async def test_the_api_role_takes_orders_while_the_broker_is_away(
    migrated_database: Callable[[str], Any], settings: Settings, an_order: Make
) -> None:
    """Fails when composition is broken, or intake over HTTP needs Kafka: the outbox is there so that it does not."""
    url = str(await migrated_database("ingest"))
    alone = settings.model_copy(update={"database_url": SecretStr(url), "kafka_bootstrap_servers": "127.0.0.1:1"})
    async with client(build(alone, "api")) as http:
        assert outcomes(await http.post("/v1/orders", json=an_order())) == [("parked", "unknown_sku")]
        assert (await http.get("/v1/parked-orders")).json()["items"][0]["channel_order_no"] == "T-1"
