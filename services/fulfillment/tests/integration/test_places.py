"""What places do with orders: stops, a WMS that is told and calls back, people at stores, goods that come back."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import pytest

from contracts import (
    AllocatedOrderChanged,
    AllocationReturned,
    CatalogLocation,
    ChangeSettled,
    ReceiverSealed,
    ReturnReceived,
    ShipmentCreated,
    StockAllocated,
    StopAnswered,
    StopRequested,
)
from fulfillment.signature import is_signed, signed_headers

pytestmark = pytest.mark.postgres
Start = Callable[..., Awaitable[Any]]
Allocated = Callable[..., StockAllocated]
Sealed = Callable[..., ReceiverSealed]
SECRET = b"a-secret-of-the-demo-wms"
DRESS, SOCKS = "DRESS01-RED-M", "SOCK02-WHT"


class FakeWms:
    """Answers as it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.answers: dict[str, dict[str, Any]] = {"orders": {"outcome": "accepted"}, "cancellation": {"outcome": "pending"}}
        self.fails = 0
        self.now: Any = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        body = request.content
        assert is_signed(SECRET, request.headers, now=self.now(), method="POST", path=request.url.path, body=body)
        self.asked.append((request.url.path, json.loads(body), request.headers["Idempotency-Key"]))
        if self.fails:
            self.fails -= 1
            return httpx.Response(503)
        return httpx.Response(200, json=self.answers[request.url.path.rsplit("/", 1)[-1]])


@pytest.fixture
def wms() -> FakeWms:
    return FakeWms()


def a_place(place_id: str = "WH-HZ1") -> CatalogLocation:
    return CatalogLocation(
        place_id=place_id,
        place_no=1,
        name="杭州一号仓",
        kind="warehouse",
        region_code="330110",
        latitude=30.3,
        longitude=120.0,
        daily_capacity=1000,
        version=1,
    )


def a_stop(allocated: StockAllocated, *, request_id: UUID | None = None, **units: int) -> StopRequested:
    """`a_stop(order, dress=1)`"""
    lines = [
        {
            "origin_order_id": str(allocated.root_id),
            "origin_line": number,
            "sku_id": sku_id,
            "quantity": units[name],
        }
        for number, (name, sku_id) in enumerate((("dress", DRESS), ("socks", SOCKS)), start=1)
        if name in units
    ]
    return StopRequested.model_validate_json(
        json.dumps(
            {
                "root_id": str(allocated.root_id),
                "order_id": str(allocated.root_id),
                "progress": {"step": 9, "stage": "allocated", "code": "stop_requested"},
                "request_id": str(request_id or uuid4()),
                "lines": lines,
                "reason": "buyer_asked",
            }
        )
    )


async def connect(service: Any, connector: str = "http") -> None:
    body: dict[str, Any] = {"connector": connector, "reason": "接入仓库"}
    if connector == "http":
        body |= {"base_url": "http://wms.test/api", "secret_name": "demo"}
    await service.harness.apply([a_place()])
    async with service.caller() as http:
        response = await http.put("/v1/places/WH-HZ1/connector", json=body)
        assert response.status_code == 200, response.text


async def call_back(service: Any, body: dict[str, Any], *, place_id: str = "WH-HZ1", **signing: Any) -> httpx.Response:
    """A signed call-back; `secret`, `at` and `signed` (another body) make it a wrong one."""
    now = service.harness.clock.now()
    content = json.dumps({"event_id": str(uuid4()), "occurred_at": now.isoformat(), **body}).encode()
    path = f"/v1/wms/{place_id}/events"
    headers = signed_headers(
        signing.get("secret", SECRET),
        now=signing.get("at", now),
        method="POST",
        path=path,
        body=signing.get("signed", content),
    )
    transport = httpx.ASGITransport(service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        return await http.post(path, content=content, headers={**headers, "Content-Type": "application/json"})


async def the_order(service: Any, allocated: StockAllocated) -> Any:
    (found,) = (await service.get("/v1/fulfilment-orders", order_id=allocated.order_id))["items"]
    return await service.get(f"/v1/fulfilment-orders/{found['fulfilment_order_id']}")


async def at_the_wms(start: Start, wms: FakeWms, allocated: StockAllocated) -> tuple[Any, str]:
    """A service whose WMS has taken on the order."""
    service = await start(wms=httpx.MockTransport(wms))
    wms.now = service.harness.clock.now
    await connect(service)
    assert (await service.harness.receive([allocated])).emitted == []
    await service.harness.run_due_tasks("instruct")
    order = await the_order(service, allocated)
    assert (order["status"], order["request_status"]) == ("in_progress", "accepted")
    return service, order["fulfilment_order_id"]


def line(sku_id: str, quantity: int) -> dict[str, Any]:
    return {"sku_id": sku_id, "quantity": quantity}


async def test_a_wms_is_told_until_it_answers_and_ships_in_parcels(
    start: Start, an_allocated: Allocated, a_sealed_receiver: Sealed, wms: FakeWms
) -> None:
    """Fails if the WMS is told under another key after a failure, a parcel is missed, or a fen is lost between parcels."""
    service = await start(wms=httpx.MockTransport(wms))
    wms.now = service.harness.clock.now
    await connect(service)
    ref = uuid4()
    await service.harness.receive([a_sealed_receiver(ref)])
    allocated = an_allocated(receiver_ref=ref)
    await service.harness.receive([allocated])
    wms.fails = 1
    await service.harness.run_due_tasks("instruct")
    assert (await the_order(service, allocated))["request_status"] == "submitted"
    service.harness.clock.advance(seconds=60)
    await service.harness.run_due_tasks("instruct")
    order = await the_order(service, allocated)
    assert (order["status"], order["request_status"]) == ("in_progress", "accepted")
    assert wms.asked[0] == wms.asked[1]
    path, body, key = wms.asked[0]
    assert (path, key, body["receiver"]["name"]) == ("/api/orders", order["fulfilment_order_id"], "欧阳娜娜")
    assert [(one["sku_id"], one["quantity"]) for one in body["lines"]] == [(DRESS, 2), (SOCKS, 1)]
    event = {"fulfilment_order_id": order["fulfilment_order_id"], "kind": "shipped"}
    first = {"parcels": [{"lines": [line(DRESS, 1)], "weight_grams": 510}], "final": False, "event_id": "箱-1"}
    second = {"parcels": [{"waybill_no": "73100001", "carrier": "zto"}], "event_id": "箱-2"}
    for one in (first, first, second):
        response = await call_back(service, event | one)
        assert response.status_code == 200, response.text
    parcels = await service.harness.emitted()
    assert all(isinstance(one, ShipmentCreated) for one in parcels)
    assert [(one.carrier, one.waybill_no, one.weight_grams) for one in parcels] == [
        ("sf", "SF000000000001", 510),
        ("zto", "73100001", 420 + 150 + 150),
    ]
    assert [one.progress.attempt for one in parcels] == [1, 1]
    for name in ("paid_minor", "receivable_minor", "tax_minor", "quantity"):
        told = sum(getattr(part_line, name) for one in parcels for part_line in one.part.lines)
        assert told == sum(getattr(part_line, name) for part_line in allocated.part.lines)
    assert (await the_order(service, allocated))["status"] == "closed"
    stored = [str(row) for row in await service.rows("SELECT * FROM fulfilment_content, task, wms_event")]
    assert not any("欧阳娜娜" in row for row in stored)


async def test_a_stop_at_a_wms_is_answered_when_the_wms_has_spoken(start: Start, an_allocated: Allocated, wms: FakeWms) -> None:
    """Fails if the answer came before the place spoke, before its return, twice, or for more than was asked; or if what
    stays is not the first units of its line, as inventory has it."""
    allocated = an_allocated()
    service, key = await at_the_wms(start, wms, allocated)
    request = a_stop(allocated, dress=1)
    assert (await service.harness.receive([request])).emitted == []
    await service.harness.run_due_tasks("stop")
    order = await the_order(service, allocated)
    (stop,) = order["stops"]
    assert (order["request_status"], stop["open"]) == ("cancellation_requested", True)
    path, body, idempotency_key = wms.asked[-1]
    assert (path, body["stop_id"], idempotency_key) == (f"/api/orders/{key}/cancellation", stop["stop_id"], stop["stop_id"])
    stopped = {"fulfilment_order_id": key, "kind": "stopped", "stop_id": stop["stop_id"], "lines": [line(DRESS, 1)]}
    for event in ({"event_id": "s1"}, {"event_id": "s1"}, {"event_id": "s2"}):
        response = await call_back(service, stopped | event)
        assert response.status_code == 200, response.text
    back, answered = await service.harness.emitted()
    assert isinstance(back, AllocationReturned)
    assert isinstance(answered, StopAnswered)
    assert [(one.sku_id, one.quantity) for one in back.lines] == [(DRESS, 1)]
    assert (back.attempt, back.return_no, back.whole, back.reason, back.stock_effect) == (1, 1, False, "stopped", "none")
    assert (answered.request_id, [one.stopped for one in answered.lines]) == (request.request_id, [1])
    order = await the_order(service, allocated)
    assert (order["status"], order["request_status"]) == ("in_progress", "cancellation_accepted")
    assert [(one["sku_id"], one["quantity"]) for one in order["left"]] == [(DRESS, 1), (SOCKS, 1)]
    await call_back(service, {"fulfilment_order_id": key, "kind": "shipped", "parcels": [{}]})
    (shipped,) = await service.harness.emitted()
    assert [(one.sku_id, one.quantity, one.paid_minor, one.tax_minor) for one in shipped.part.lines] == [
        (DRESS, 1, 12900, 51),  # Of 101: the kept unit is the first one, and has the odd fen.
        (SOCKS, 1, 5990, 101),
    ]


async def test_a_shipment_wins_over_a_stop_under_way(start: Start, an_allocated: Allocated, wms: FakeWms) -> None:
    """Fails if a stop whose goods have left were not answered with 0, or the refusal after it were an error."""
    allocated = an_allocated()
    service, key = await at_the_wms(start, wms, allocated)
    requests = [a_stop(allocated, dress=1), a_stop(allocated, dress=2, socks=1)]
    await service.harness.receive(requests)
    await service.harness.run_due_tasks("stop")
    stops = (await the_order(service, allocated))["stops"]
    await call_back(service, {"fulfilment_order_id": key, "kind": "shipped", "parcels": [{}]})
    shipped, *answers = await service.harness.emitted()
    assert isinstance(shipped, ShipmentCreated)
    assert {one.request_id: [stopped.stopped for stopped in one.lines] for one in answers} == {
        requests[0].request_id: [0],
        requests[1].request_id: [0, 0],
    }
    late = {"fulfilment_order_id": key, "kind": "stop_refused", "stop_id": stops[0]["stop_id"]}
    assert (await call_back(service, late)).status_code == 200
    assert await service.harness.emitted() == []


async def test_what_the_wms_was_never_told_is_stopped_at_once(start: Start, an_allocated: Allocated, wms: FakeWms) -> None:
    """Fails if a WMS were told of an order that was stopped before, or the order could not come again."""
    service = await start(wms=httpx.MockTransport(wms))
    await connect(service)
    allocated = an_allocated()
    await service.harness.receive([allocated])
    back, answered = (await service.harness.receive([a_stop(allocated, dress=2, socks=1)])).emitted
    assert (back.whole, back.progress.stage, [one.stopped for one in answered.lines]) == (True, "returned", [2, 1])
    await service.harness.run_due_tasks()
    assert wms.asked == []
    again = await service.harness.receive([an_allocated(order_id=allocated.order_id, attempt=2)])
    assert again.parked == []
    assert [one["attempt"] for one in (await service.get("/v1/fulfilment-orders", status="open"))["items"]] == [2]


async def test_a_stop_of_the_automatic_place_takes_what_has_not_left(start: Start, an_allocated: Allocated) -> None:
    """Fails if stopped units left all the same, a stop after shipping were not answered, or one request were answered twice."""
    service = await start(ship_seconds=60)
    allocated = an_allocated()
    request = a_stop(allocated, dress=1, socks=1)
    back, answered = (await service.harness.receive([allocated, request])).emitted
    assert (back.whole, [one.stopped for one in answered.lines]) == (False, [1, 1])
    assert answered.progress.stage == "allocated"
    service.harness.clock.advance(seconds=60)
    await service.harness.run_due_tasks("ship")
    (shipped,) = await service.harness.emitted()
    assert [(one.sku_id, one.quantity) for one in shipped.part.lines] == [(DRESS, 1)]
    late = a_stop(allocated, dress=1)
    outcome = await service.harness.receive([late, request])
    (answered,) = outcome.emitted
    assert outcome.parked == []
    assert (answered.request_id, [one.stopped for one in answered.lines]) == (late.request_id, [0])
    assert answered.progress.stage == "shipped"


async def test_call_backs_need_the_signature_of_their_place(start: Start, an_allocated: Allocated, wms: FakeWms) -> None:
    """Fails if a wrong, old or moved signature let anything in, or said which places there are."""
    allocated = an_allocated()
    service, key = await at_the_wms(start, wms, allocated)
    event = {"fulfilment_order_id": key, "kind": "shipped", "parcels": [{}], "event_id": "e1"}
    now = service.harness.clock.now()
    wrong: list[dict[str, Any]] = [
        {"secret": b"another-secret-of-somebody"},
        {"at": now - timedelta(seconds=301)},
        {"at": now + timedelta(seconds=301)},
        {"signed": b"{}"},
        {"place_id": "WH-NO"},
    ]
    for signing in wrong:
        response = await call_back(service, event, **signing)
        assert (response.status_code, response.json()["code"]) == (401, "signature_wrong")
    async with service.caller("admin") as http:
        assert (await http.post("/v1/wms/WH-HZ1/events", json=event)).status_code == 401
    assert await service.harness.emitted() == []
    assert (await call_back(service, event)).status_code == 200
    assert len(await service.harness.emitted()) == 1
    assert (await call_back(service, event)).status_code == 200  # The same once more, or replayed by somebody.
    changed = await call_back(service, event | {"parcels": [{"weight_grams": 9}]})
    assert (changed.status_code, changed.json()["code"]) == (409, "event_id_reused")
    assert await service.harness.emitted() == []


async def test_a_place_whose_id_has_a_slash_is_driven_like_others(start: Start, an_allocated: Allocated, wms: FakeWms) -> None:
    """Fails if an id that the catalogue allows cannot be named in a path: no WMS could drive the place."""
    service, here = await start(wms=httpx.MockTransport(wms)), "杭州/1 号"
    wms.now = service.harness.clock.now
    await service.harness.apply([a_place(here)])
    path = quote(here, safe="")
    async with service.caller() as http:
        body = {"connector": "http", "base_url": "http://wms.test", "secret_name": "demo", "reason": "接入仓库"}
        assert (await http.put(f"/v1/places/{path}/connector", json=body)).json()["connector"] == "http"
        rule = {"carrier": "zto", "reason": "合同"}
        assert (await http.put("/v1/carrier-rules/a%2Fb", json=rule)).json()["rule_id"] == "a/b"
        assert (await http.post("/v1/carrier-rules/a%2Fb/removal", json={"reason": "到期"})).status_code == 204
    allocated = an_allocated(place_id=here)
    await service.harness.receive([allocated])
    await service.harness.run_due_tasks("instruct")
    key = (await the_order(service, allocated))["fulfilment_order_id"]
    response = await call_back(service, {"fulfilment_order_id": key, "kind": "shipped", "parcels": [{}]}, place_id=path)
    assert response.status_code == 200, response.text


async def test_bad_call_backs_are_refused_by_field(start: Start, an_allocated: Allocated, wms: FakeWms) -> None:
    """Fails if nonsense were recorded, became a 500, or the answer did not name the field."""
    allocated = an_allocated()
    service, key = await at_the_wms(start, wms, allocated)
    shipped = {"fulfilment_order_id": key, "kind": "shipped"}
    bad: list[tuple[dict[str, Any], int, str]] = [
        (shipped | {"parcels": [{"lines": [line(DRESS, 3)]}]}, 409, "parcels.0.quantity"),
        (shipped | {"parcels": [{"lines": [line("没有", 1)]}]}, 422, "parcels.0.quantity"),
        (
            shipped | {"parcels": [{"waybill_no": "X1", "lines": [line(DRESS, 1)]}, {"waybill_no": "X1"}]},
            409,
            "parcels.1.waybill_no",
        ),
        (shipped | {"parcels": []}, 422, "shipped.parcels"),
        ({"fulfilment_order_id": key, "kind": "vanished"}, 422, ""),
        ({"fulfilment_order_id": key, "kind": "stopped", "stop_id": str(uuid4()), "lines": [line(DRESS, 1)]}, 404, "stop_id"),
        ({"fulfilment_order_id": str(uuid4()), "kind": "accepted"}, 404, ""),
        ({"fulfilment_order_id": key, "kind": "short_pick", "lines": [line(DRESS, 3)]}, 409, "lines.0.quantity"),
    ]
    for body, status, field in bad:
        response = await call_back(service, body)
        assert response.status_code == status, response.text
        if field:
            assert [error["field"] for error in response.json()["errors"]] == [field], response.text
    assert await service.harness.emitted() == []
    assert await service.rows("SELECT count(*) FROM wms_event") == [(0,)]


async def test_goods_that_leave_after_their_stop_open_a_case_once(start: Start, an_allocated: Allocated, wms: FakeWms) -> None:
    """Fails if a parcel with stopped goods were believed, forgotten, or made two cases."""
    allocated = an_allocated()
    service, key = await at_the_wms(start, wms, allocated)
    wms.answers["cancellation"] = {"outcome": "stopped", "lines": [line(DRESS, 2), line(SOCKS, 1)]}
    await service.harness.receive([a_stop(allocated, dress=2, socks=1)])
    await service.harness.run_due_tasks("stop")
    assert [type(one) for one in await service.harness.emitted()] == [AllocationReturned, StopAnswered]
    event = {"fulfilment_order_id": key, "kind": "shipped", "event_id": "晚", "parcels": [{"waybill_no": "X1"}]}
    for _ in range(2):
        response = await call_back(service, event)
        assert (response.status_code, response.json()["code"]) == (409, "shipped_after_stop")
    assert await service.harness.emitted() == []
    (case,) = (await service.get("/v1/cases", kind="shipped_after_stop"))["items"]
    assert (case["fulfilment_order_id"], case["detail"]["parcels"][0]["waybill_no"]) == (key, "X1")
    async with service.caller("operator") as http:
        path = f"/v1/cases/{case['case_id']}/close"
        assert (await http.post(path, json={"reason": "已追回包裹"})).json()["closed_by"] == "tester"
        assert (await http.post(path, json={"reason": "已追回包裹"})).status_code == 409
    assert (await service.get("/v1/cases"))["items"] == []


async def test_a_rejection_goes_back_with_its_stock_effect(start: Start, an_allocated: Allocated, wms: FakeWms) -> None:
    """Fails if a WMS's no stayed here, at once or later, or its effect on the stock were lost."""
    wms.answers["orders"] = {"outcome": "rejected"}
    service = await start(wms=httpx.MockTransport(wms))
    wms.now = service.harness.clock.now
    await connect(service)
    first, second = an_allocated(), an_allocated()
    await service.harness.receive([first])
    await service.harness.run_due_tasks("instruct")
    (refused,) = await service.harness.emitted()
    assert (refused.reason, refused.stock_effect, refused.whole) == ("wms_refused", "none", True)
    wms.answers["orders"] = {"outcome": "accepted"}
    await service.harness.receive([second])
    await service.harness.run_due_tasks("instruct")
    key = (await the_order(service, second))["fulfilment_order_id"]
    await call_back(service, {"fulfilment_order_id": key, "kind": "short_pick", "lines": [line(SOCKS, 1)]})
    await call_back(service, {"fulfilment_order_id": key, "kind": "rejected", "cause": "not_in_stock"})
    short, rejected = await service.harness.emitted()
    assert (short.reason, short.stock_effect, short.whole, short.return_no) == ("short_pick", "missing", False, 1)
    assert (rejected.reason, rejected.stock_effect, rejected.whole, rejected.return_no) == (
        "place_rejected",
        "nothing_left",
        True,
        2,
    )
    late = await call_back(service, {"fulfilment_order_id": key, "kind": "accepted"})
    assert (late.status_code, late.json()["code"]) == (409, "order_not_open")
    assert (await the_order(service, second))["request_status"] == "rejected"


async def test_people_at_a_store_do_by_hand_what_a_wms_does(start: Start, an_allocated: Allocated) -> None:
    """Fails if a manual act has no effect, no name and reason, or goes through in a wrong state."""
    service = await start()
    await connect(service, "manual")
    allocated = an_allocated()
    await service.harness.receive([allocated])
    key = (await the_order(service, allocated))["fulfilment_order_id"]

    async with service.caller("operator") as http:

        async def act(name: str, **body: Any) -> httpx.Response:
            return await http.post(f"/v1/fulfilment-orders/{key}/{name}", json={"reason": "店长处理", **body})

        assert (await act("release")).json()["code"] == "state_forbids"
        assert (await act("hold")).json()["status"] == "on_hold"
        assert (await act("release")).json()["status"] == "open"
        assert (await act("acceptance")).json()["request_status"] == "accepted"
        assert (await act("resend")).json()["code"] == "state_forbids"
        assert (await act("short-pick", lines=[line(DRESS, 1)])).json()["returns"][0]["stock_effect"] == "missing"
        too_much = await act("shipment", parcels=[{"lines": [line(DRESS, 2)]}])
        assert (too_much.status_code, too_much.json()["errors"][0]["field"]) == (409, "lines.0.quantity")
        done = (await act("shipment", parcels=[{"lines": [line(DRESS, 1)]}], final=True)).json()
        assert (done["status"], len(done["shipments"]), [one["reason"] for one in done["returns"]]) == (
            "closed",
            1,
            ["short_pick", "short_pick"],
        )
        assert (await act("rejection")).status_code == 409
        assert (await http.post(f"/v1/fulfilment-orders/{uuid4()}/hold", json={"reason": "x"})).status_code == 404
        assert (await act("shipment", parcels=[{"lines": [{"sku_id": DRESS, "quantity": 0}]}])).status_code == 422
    assert [type(one) for one in await service.harness.emitted()] == [
        AllocationReturned,
        AllocationReturned,
        ShipmentCreated,
    ]
    acts = {act for (act,) in await service.rows("SELECT act FROM manual_act WHERE why = '店长处理'")}
    assert acts == {"hold_order", "release_order", "accept_order", "short_pick", "ship_order"}


async def test_what_is_picked_short_parts_from_its_line_before_the_parcels(start: Start, an_allocated: Allocated) -> None:
    """Fails if the money of a line is divided in another order than inventory divides it, which hears of what comes back
    before it hears of parcels: a fen would be on both sides, or on none."""
    allocated = an_allocated()
    dress = allocated.part.lines[0].model_copy(update={"quantity": 10, "paid_minor": 1008})
    allocated = allocated.model_copy(update={"part": allocated.part.model_copy(update={"lines": [dress]})})
    service = await start()
    await connect(service, "manual")
    await service.harness.receive([allocated])
    key = (await the_order(service, allocated))["fulfilment_order_id"]
    parcels = [{"lines": [line(DRESS, 1)]}, {"lines": [line(DRESS, 1)]}]
    async with service.caller("operator") as http:
        body = {"reason": "发货", "parcels": parcels, "final": True}
        response = await http.post(f"/v1/fulfilment-orders/{key}/shipment", json=body)
        assert response.status_code == 200, response.text
    back, *shipped = await service.harness.emitted()
    assert ([one.quantity for one in back.lines], back.whole, back.progress.stage) == ([8], False, "allocated")
    kept, _ = dress.divide(2)
    assert sum(one.part.lines[0].paid_minor for one in shipped) == kept.paid_minor
    assert [one.progress.stage for one in shipped] == ["shipped", "shipped"]


async def test_one_parcel_that_arrives_does_not_hide_the_others(start: Start, an_allocated: Allocated) -> None:
    """Fails if an order is shown as delivered while a parcel of it is under way or units lie at its place."""
    allocated = an_allocated()
    service = await start()
    await connect(service, "manual")
    await service.harness.receive([allocated])
    key = (await the_order(service, allocated))["fulfilment_order_id"]
    stages = []
    async with service.caller("operator", "wms") as http:
        for number, sku_id in enumerate((DRESS, DRESS, SOCKS)):
            body = {"reason": "发货", "parcels": [{"lines": [line(sku_id, 1)], "waybill_no": f"7310000{number}"}]}
            assert (await http.post(f"/v1/fulfilment-orders/{key}/shipment", json=body)).status_code == 200
        (first, second, third) = [one.shipment_id for one in await service.harness.emitted()]
        for shipment_id, state in ((first, "delivered"), (second, "refused"), (third, "delivered")):
            told = {"state": state, "occurred_at": "2026-11-11T00:00:00Z", "reference": str(shipment_id)}
            assert (await http.post(f"/v1/shipments/{shipment_id}/progress", json=told)).status_code == 200
            (event,) = await service.harness.emitted()
            stages.append((event.progress.stage, event.state, len(event.part.lines)))
    assert stages == [("shipped", "delivered", 1), ("refused", "refused", 1), ("delivered", "delivered", 1)]


async def test_a_new_receiver_is_applied_until_the_place_is_told(
    start: Start, an_allocated: Allocated, a_sealed_receiver: Sealed
) -> None:
    """Fails if a label could show the old receiver after "applied", or a shipped order were said to be changed."""
    service = await start(ship_seconds=60)
    old, new = uuid4(), uuid4()
    await service.harness.receive([a_sealed_receiver(old)])
    allocated = an_allocated(receiver_ref=old)
    await service.harness.receive([allocated])

    def change() -> AllocatedOrderChanged:
        return AllocatedOrderChanged.model_validate(
            {
                **allocated.model_dump(include={"root_id", "order_id", "progress"}),
                "request_id": uuid4(),
                "fields": ["receiver", "note", "hat"],
                "order": allocated.order.model_copy(update={"receiver_ref": new}),
            }
        )

    assert (await service.harness.receive([change()])).waiting == [("receiver", str(new))]
    (settled,) = (await service.harness.receive([a_sealed_receiver(new, name="上官婉儿")])).emitted
    assert isinstance(settled, ChangeSettled)
    assert (settled.applied, settled.refused) == (["receiver", "note"], ["hat"])
    key = (await the_order(service, allocated))["fulfilment_order_id"]
    assert (await service.get(f"/v1/fulfilment-orders/{key}/label", "pii.read"))["name"] == "上官婉儿"
    service.harness.clock.advance(seconds=60)
    await service.harness.run_due_tasks("ship")
    (shipped,) = await service.harness.emitted()
    assert shipped.order.receiver_ref == new
    (late,) = (await service.harness.receive([change()])).emitted
    assert (late.applied, late.code) == ([], "change_refused")
    assert (
        len((await service.harness.receive([change().model_copy(update={"root_id": uuid4(), "order_id": uuid4()})])).parked)
        == 1
    )


async def test_the_counter_hands_over_for_the_code_alone(start: Start, an_allocated: Allocated) -> None:
    """Fails if goods left for a wrong code, twice, while locked, or a look at the code went unnoted."""
    service = await start(delivery_seconds=60)
    allocated = an_allocated(kind="pick_up", carrier="pick_up")
    assert (await service.harness.receive([allocated])).emitted == []
    key = (await the_order(service, allocated))["fulfilment_order_id"]
    path = f"/v1/fulfilment-orders/{key}"
    async with service.caller("channel") as http:
        shown = await http.get(f"{path}/pick-up-code")
        assert shown.headers["Cache-Control"] == "no-store"
        code = shown.json()["code"]
        assert len(code) == 8
    async with service.caller("operator") as http:
        wrong = f"{(int(code) + 1) % 10**8:08d}"
        for body in ({}, {"code": code, "reason": "x"}, {"code": "１２３４５６７８"}, {"code": "1234"}):
            assert (await http.post(f"{path}/handover", json=body)).status_code == 422
        for _ in range(5):
            assert (await http.post(f"{path}/handover", json={"code": wrong})).json()["code"] == "pick_up_code_wrong"
        locked = await http.post(f"{path}/handover", json={"code": code})
        assert (locked.json()["code"], locked.headers["Retry-After"]) == ("pick_up_locked", "601")
        service.harness.clock.advance(seconds=601)
        assert (await http.post(f"{path}/handover", json={"code": code})).json()["state"] == "delivered"
        assert (await http.post(f"{path}/handover", json={"code": code})).json()["code"] == "state_forbids"
        assert (await http.post(f"/v1/fulfilment-orders/{uuid4()}/handover", json={"code": code})).status_code == 404
    created, delivered = await service.harness.emitted()
    assert (created.fulfilment_kind, created.carrier, created.waybill_no) == ("pick_up", None, None)
    assert (created.progress.stage, delivered.progress.stage, delivered.state) == ("shipped", "delivered", "delivered")
    assert [act for (act,) in await service.rows("SELECT act FROM manual_act ORDER BY at")] == [
        "read_pick_up_code",
        "hand_over",
    ]
    stored = [str(row) for row in await service.rows("SELECT * FROM manual_act")]
    assert not any(code in row for row in stored)


async def test_a_person_vouches_for_a_buyer_and_nobody_waits_for_ever(start: Start, an_allocated: Allocated) -> None:
    """Fails if a lost code kept the goods, or a buyer who does not come were not seen."""
    service = await start(pick_up_days=3)
    first, second = (an_allocated(kind="pick_up") for _ in range(2))
    await service.harness.receive([first, second])
    key = (await the_order(service, first))["fulfilment_order_id"]
    async with service.caller("operator") as http:
        body = {"reason": "核对身份证"}
        once = {"Idempotency-Key": "counter-1"}
        answers = [await http.post(f"/v1/fulfilment-orders/{key}/handover", json=body, headers=once) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert len(await service.harness.emitted()) == 2
    service.harness.clock.advance(hours=72)
    await service.harness.run_due_tasks("pick_up_expiry")
    (case,) = (await service.get("/v1/cases"))["items"]
    assert (case["kind"], case["order_id"]) == ("pick_up_expired", str(second.order_id))


async def test_goods_come_back_once_and_with_their_money(start: Start, an_allocated: Allocated) -> None:
    """Fails if more came back than left, a reference counted twice, or a fen were lost between conditions."""
    service = await start()
    allocated = an_allocated()
    (shipped,) = (await service.harness.receive([allocated])).emitted
    body = {
        "carrier": "sf",
        "waybill_no": shipped.waybill_no,
        "reference": "退-1",
        "why": "buyer_return",
        "lines": [{"sku_id": DRESS, "good": 1, "bad": 1}],
    }
    async with service.caller("wms") as http:
        first = await http.post("/v1/returns", json=body)
        assert first.status_code == 201, first.text
        assert (await http.post("/v1/returns", json=body)).json() == first.json()
        reused = await http.post("/v1/returns", json=body | {"why": "recalled"})
        assert (reused.status_code, reused.json()["code"]) == (409, "reference_reused")
        too_much = await http.post("/v1/returns", json=body | {"reference": "退-2"})
        assert (too_much.status_code, too_much.json()["errors"][0]["field"]) == (409, "lines.0")
        rest = {"order_id": str(allocated.order_id), "reference": "退-3", "lines": [{"sku_id": SOCKS, "missing": 1}]}
        both = {name: body[name] for name in ("why",)} | rest
        assert (await http.post("/v1/returns", json=both)).status_code == 201
        for change, status in [
            ({"shipment_id": str(shipped.shipment_id)}, 422),
            ({"carrier": None, "waybill_no": None}, 422),
            ({"waybill_no": "没有"}, 404),
            ({"lines": [{"sku_id": DRESS}]}, 422),
            ({"lines": [{"sku_id": DRESS, "good": -1}]}, 422),
            ({"place_id": "没有"}, 422),
        ]:
            assert (await http.post("/v1/returns", json=body | {"reference": "退-9"} | change)).status_code == status, change
    async with service.caller("operator") as http:
        assert (await http.post("/v1/returns", json=body | {"reference": "退-9"})).json()["errors"][0]["field"] == "reason"
    returned = await service.harness.emitted()
    assert all(isinstance(one, ReturnReceived) for one in returned)
    assert [[(one.sku_id, one.grade, one.quantity) for one in event.lines] for event in returned] == [
        [(DRESS, "bad", 1), (DRESS, "good", 1)],
        [(SOCKS, "missing", 1)],
    ]
    for name in ("paid_minor", "receivable_minor", "tax_minor"):
        came = sum(getattr(one, name) for event in returned for one in event.lines)
        assert came == sum(getattr(one, name) for one in shipped.part.lines)
    assert all(one.unit_cost_minor == 5000 for event in returned for one in event.lines)
    listed = await service.get("/v1/returns", order_id=str(allocated.order_id), sort="received_at")
    assert len(listed["items"]) == 2


async def test_rules_of_carriers_hold_for_what_comes(start: Start, an_allocated: Allocated) -> None:
    """Fails if a rule is not kept, not obeyed, or stays after its removal."""
    service = await start()
    rule = {"carrier": "zto", "place_id": "WH-HZ1", "reason": "杭州仓走中通"}
    async with service.caller() as http:
        assert (await http.put("/v1/carrier-rules/杭州", json=rule)).status_code == 200
        bad = await http.put("/v1/carrier-rules/x", json=rule | {"min_weight_grams": 5, "max_weight_grams": 5})
        assert bad.json()["errors"][0]["code"] == "band_reversed"
        (shipped,) = (await service.harness.receive([an_allocated()])).emitted
        assert (shipped.carrier, shipped.freight_cost_minor) == ("zto", 600 + 200)
        (wanted,) = (await service.harness.receive([an_allocated(order={"wanted_carrier": "ems"})])).emitted
        assert wanted.carrier == "ems"
        assert [one["rule_id"] for one in (await http.get("/v1/carrier-rules")).json()["items"]] == ["杭州"]
        assert (await http.post("/v1/carrier-rules/杭州/removal", json={"reason": "到期"})).status_code == 204
        assert (await http.post("/v1/carrier-rules/杭州/removal", json={"reason": "到期"})).status_code == 404
        assert (await service.harness.receive([an_allocated()])).emitted[0].carrier == "sf"


async def test_a_places_own_number_is_never_given_again(start: Start, an_allocated: Allocated) -> None:
    """Fails if a block, made by hand or by itself, gave a number that a place had used, or a place used a block's."""
    service = await start()
    await connect(service, "manual")
    orders = [an_allocated(carrier="zto") for _ in range(3)]
    await service.harness.receive(orders)
    keys = [(await the_order(service, order))["fulfilment_order_id"] for order in orders]

    async with service.caller() as http:

        async def ship(key: str, **parcel: Any) -> httpx.Response:
            body = {"reason": "自带面单", "parcels": [parcel]}
            return await http.post(f"/v1/fulfilment-orders/{key}/shipment", json=body)

        assert (await ship(keys[0], waybill_no="ZTO000000000007")).status_code == 200
        assert (await ship(keys[1], waybill_no="ZTO000000000007")).json()["code"] == "waybill_taken"
        block = {"carrier": "zto", "prefix": "ZTO00000", "digits": 7, "first_no": 0, "until_no": 9, "reason": "号段"}
        assert (await http.put("/v1/waybill-series", json=block)).json()["code"] == "series_overlaps"
        shipped = (await ship(keys[1])).json()
        assert shipped["shipments"][0]["waybill_no"] == "ZTO000000000008"
        assert (await ship(keys[2], waybill_no="ZTO000000000009")).json()["code"] == "waybill_of_series"


async def test_a_connector_that_cannot_work_is_refused_by_field(start: Start) -> None:
    """Fails if a secret came in or out in clear, or an address that leads elsewhere were kept."""
    service = await start()
    await service.harness.apply([a_place()])
    good = {"connector": "http", "base_url": "https://wms.example/api", "secret_name": "demo", "reason": "接入"}
    async with service.caller() as http:
        for change, field in [
            ({"base_url": "ftp://wms.example"}, "base_url"),
            ({"base_url": "https://user:secret@wms.example"}, "base_url"),
            ({"base_url": "https://wms.example/?a=1"}, "base_url"),
            ({"base_url": "https://wms.example:99999"}, "base_url"),
            ({"secret_name": "没有"}, "secret_name"),
            ({"timeout_seconds": 21}, "timeout_seconds"),
        ]:
            response = await http.put("/v1/places/WH-HZ1/connector", json=good | change)
            assert (response.status_code, response.json()["errors"][0]["field"]) == (422, field)
        assert (await http.put("/v1/places/WH-HZ1/connector", json=good | {"connector": "manual"})).status_code == 422
        assert (await http.put("/v1/places/WH-HZ1/connector", json=good)).status_code == 200
    assert SECRET.decode() not in str(await service.get("/v1/places"))
