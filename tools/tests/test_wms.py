"""The demo WMS: what it does with orders and stops, and that it does it again with the same seed."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from uuid import UUID, uuid5

import httpx

from tools.wms.app import DemoWms, build
from tools.wms.floor import Dials, Floor
from tools.wms.signing import is_signed, sign, signed_headers

SECRET = b"demo-secret-0123"
DEADLINE_SECONDS = 5.0


def an_order(number: int = 1, *, dresses: int = 2) -> dict[str, Any]:
    order_id = str(uuid5(UUID(int=1), str(number)))
    lines = [("DRESS01-RED-M", dresses), ("SOCK02-WHT", 1)]
    return {
        "fulfilment_order_id": order_id,
        "place_id": "杭州仓",
        "channel_order_no": f"TB{number}",
        "lines": [
            {"origin_order_id": order_id, "origin_line": line, "sku_id": sku_id, "title": "衣", "quantity": quantity}
            for line, (sku_id, quantity) in enumerate(lines, start=1)
        ],
        "receiver": {"name": "欧阳娜娜"},
    }


class FakeOms:
    """Keeps what the WMS calls back, and fails as often as it is told."""

    def __init__(self, *, fails: int = 0, status: int = 200) -> None:
        self.heard: list[dict[str, Any]] = []
        self.fails = fails
        self.status = status

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        assert path == "/v1/wms/%E6%9D%AD%E5%B7%9E%E4%BB%93/events"
        assert is_signed(SECRET, request.headers, path=path, body=request.content)
        if self.fails:
            self.fails -= 1
            return httpx.Response(503)
        self.heard.append(json.loads(request.content))
        return httpx.Response(self.status, json={"code": "order_not_open"} if self.status >= 400 else {})

    async def hear(self, count: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(self.heard) < count:
            assert time.monotonic() < deadline, self.heard
            await asyncio.sleep(0.01)
        return self.heard


async def post(wms: DemoWms, path: str, body: dict[str, Any], *, secret: bytes = SECRET) -> httpx.Response:
    content = json.dumps(body).encode()
    transport = httpx.ASGITransport(build(wms))
    async with httpx.AsyncClient(transport=transport, base_url="http://wms") as http:
        return await http.post(path, content=content, headers=signed_headers(secret, path=path, body=content))


def a_wms(oms: FakeOms, **dials: Any) -> DemoWms:
    quick = {"pick_seconds": 0.01, "ship_seconds": 0.01}
    return DemoWms(Dials(**quick | dials), oms_url="http://oms/", secret=SECRET, transport=httpx.MockTransport(oms))


def test_the_signature_is_the_documents_own() -> None:
    """Fails if the simulator signs otherwise than docs/wms-http.md says."""
    expected = "a397880a5c1fd82baa74f1ebe30e0deb540bc3e42a0073364adb39761ecb47b9"
    assert sign(SECRET, timestamp="1767225600", path="/api/orders", body=b"{}") == expected


async def test_an_order_leaves_in_parcels_and_is_told_until_it_is_heard() -> None:
    """Fails if a unit is lost between parcels, a failed call-back is given up, or a repeat has another id."""
    oms = FakeOms(fails=1)
    wms = a_wms(oms, parcels=2, duplicate_rate=1.0)
    assert (await post(wms, "/orders", an_order())).json()["outcome"] == "accepted"
    assert (await post(wms, "/orders", an_order())).json() == {"outcome": "accepted"}
    heard = await oms.hear(4)
    assert [event["event_id"] for event in heard][::2] == [event["event_id"] for event in heard][1::2]
    assert [event["final"] for event in heard] == [False, False, True, True]
    units = [line for event in heard[::2] for line in event["parcels"][0]["lines"]]
    assert sum(line["quantity"] for line in units) == 3
    assert "欧阳娜娜" not in json.dumps([job.shown() for job in wms.floor.jobs.values()], ensure_ascii=False)
    await wms.close()


async def test_a_wrong_signature_is_not_let_in() -> None:
    """Fails if anybody could order a warehouse about."""
    wms = a_wms(FakeOms())
    assert (await post(wms, "/orders", an_order(), secret=b"another-secret")).status_code == 401
    assert wms.floor.jobs == {}
    await wms.close()


async def test_a_stop_is_answered_now_or_by_call_back_and_again_as_before() -> None:
    """Fails if stopped units leave, or the same stop is answered otherwise when asked again."""
    for pending in (False, True):
        oms = FakeOms()
        wms = a_wms(oms, pick_seconds=60, pending_stops=pending)
        order = an_order()
        await post(wms, "/orders", order)
        body = {"stop_id": "s1", "lines": order["lines"][:1]}
        path = f"/orders/{order['fulfilment_order_id']}/cancellation"
        first = (await post(wms, path, body)).json()
        assert (await post(wms, path, body)).json() == first
        if pending:
            assert first == {"outcome": "pending"}
            assert (await oms.hear(1))[0]["kind"] == "stopped"
        else:
            assert [line["quantity"] for line in first["lines"]] == [2]
        assert [line["sku_id"] for line in wms.floor.jobs[order["fulfilment_order_id"]].lines] == ["SOCK02-WHT"]
        await wms.close()


async def test_what_is_refused_for_good_is_kept_and_not_repeated() -> None:
    """Fails if the WMS called back for ever about an order that is closed, or hid it."""
    oms = FakeOms(status=409)
    wms = a_wms(oms, accept_seconds=0.01, reject_skus=("SOCK02-WHT",))
    await post(wms, "/orders", an_order())
    assert (await oms.hear(1))[0]["cause"] == "not_in_stock"
    await asyncio.sleep(0.05)
    assert [one["code"] for one in wms.refused] == ["order_not_open"]
    assert len(oms.heard) == 1
    await wms.close()


def test_equal_seeds_fare_equally_and_stops_depend_on_the_dials() -> None:
    """Fails if chance hung on anything but seed and order number, or a picked order were stopped against the dial."""

    def fates(seed: int) -> list[Any]:
        floor = Floor(Dials(reject_rate=0.3, short_rate=0.5, seed=seed))
        made = []
        for number in range(40):
            job, _, answer = floor.receive(an_order(number))
            made.append((answer["outcome"], floor.pick(job) if job.is_open else None))
        return made

    assert fates(1) == fates(1) != fates(2)
    assert {outcome for outcome, _ in fates(1)} == {"accepted", "rejected"}
    for stops_after_pick, outcome in ((False, "refused"), (True, "stopped")):
        floor = Floor(Dials(stops_after_pick=stops_after_pick, stops_only_whole=True))
        job, _, _ = floor.receive(an_order())
        floor.pick(job)
        answer = floor.stop(job, "s", an_order()["lines"][:1])
        assert answer["outcome"] == outcome
        assert sum(line["quantity"] for line in answer.get("lines", [])) == (3 if stops_after_pick else 0)
