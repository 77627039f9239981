"""Fulfilment over HTTP, as operators, WMS and label printers use it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from contracts import CatalogLocation, ReceiverSealed, ShipmentProgressed, StockAllocated
from fulfillment import tables
from webapi.routing import routes_without_role

pytestmark = pytest.mark.postgres
Start = Callable[..., Awaitable[Any]]
Allocated = Callable[..., StockAllocated]
Sealed = Callable[..., ReceiverSealed]

BLOCK = {"carrier": "sf", "prefix": "SF", "digits": 4, "first_no": 100, "until_no": 199, "reason": "新号段"}


async def test_the_migrations_make_the_tables_that_the_code_knows(start: Start) -> None:
    """Fails if a column, index or unique constraint is in one of the two only."""
    service = await start()
    async with service.harness.runtime.engine.connect() as connection:
        found = await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(
                    sync, opts={"include_name": lambda name, kind, _: kind != "table" or name in tables.metadata.tables}
                ),
                tables.metadata,
            )
        )
    own = {table.name for table in tables.metadata.sorted_tables} - {
        table.name for table in (getattr(tables.runtime, name) for name in tables.runtime.__slots__)
    }
    # Comments live in the code only; the runtime's tables are held to their DDL by its own tests.
    differences = [one for one in found if _table_of(one) in own and "comment" not in str(one[0])]
    assert differences == []


def _table_of(difference: Any) -> str:
    first = difference[0] if isinstance(difference, list) else difference
    thing = first[1]
    if isinstance(thing, str) or thing is None:
        return str(first[2])
    return str(getattr(getattr(thing, "table", thing), "name", thing))


async def test_every_route_says_who_may_call_it(start: Start) -> None:
    """Fails if a route is open without a reason."""
    assert routes_without_role((await start()).app) == []


ROLES = [
    ("GET", "/v1/fulfilment-orders", "wms", "viewer"),
    ("GET", "/v1/shipments", "channel", "viewer"),
    ("GET", "/v1/places", "channel", "viewer"),
    ("GET", f"/v1/fulfilment-orders/{UUID(int=1)}/label", "admin", "pii.read"),
    ("POST", f"/v1/fulfilment-orders/{UUID(int=1)}/handover", "viewer", "operator"),
    ("GET", f"/v1/fulfilment-orders/{UUID(int=1)}/pick-up-code", "viewer", "channel"),
    *(
        ("POST", f"/v1/fulfilment-orders/{UUID(int=1)}/{act}", "wms", "operator")
        for act in ("acceptance", "rejection", "short-pick", "shipment", "stop-answer", "hold", "release", "resend")
    ),
    ("POST", "/v1/returns", "viewer", "wms"),
    ("GET", "/v1/returns", "channel", "viewer"),
    ("GET", "/v1/cases", "channel", "viewer"),
    ("POST", f"/v1/cases/{UUID(int=1)}/close", "viewer", "operator"),
    ("GET", "/v1/carrier-rules", "channel", "viewer"),
    ("PUT", "/v1/carrier-rules/R1", "operator", "admin"),
    ("POST", "/v1/carrier-rules/R1/removal", "operator", "admin"),
    ("POST", f"/v1/shipments/{UUID(int=1)}/progress", "viewer", "wms"),
    ("PUT", "/v1/waybill-series", "operator", "admin"),
    ("PUT", "/v1/places/W1/connector", "operator", "admin"),
]


async def test_routes_need_their_role(start: Start) -> None:
    """Fails if another role opened a route (an administrator sees no personal data), or the right one did not."""
    service = await start()
    for method, path, role, enough in ROLES:
        async with service.caller(role) as http:
            assert (await http.request(method, path, headers={"X-API-Key": "unknown"})).status_code == 401
            assert (await http.request(method, path)).status_code == 403, path
        async with service.caller(enough) as http:
            assert (await http.request(method, path)).status_code in {200, 404, 422}, path


async def test_fulfilment_orders_are_paged_and_filtered(start: Start, an_allocated: Allocated) -> None:
    """Fails if a page skipped or repeated a row, also where many have one time stamp, or a filter let others in."""
    service = await start()
    await service.harness.receive([an_allocated(place_id=f"W{number % 2}") for number in range(6)])
    service.harness.clock.advance(seconds=1)
    picked = an_allocated(kind="pick_up", place_id="W1")
    await service.harness.receive([picked])
    for sort in ("created_at", "-created_at"):
        seen, cursor = [], None
        while True:
            page = await service.get("/v1/fulfilment-orders", limit=2, sort=sort, **({"next": cursor} if cursor else {}))
            seen += [one["order_id"] for one in page["items"]]
            if (cursor := page["next"]) is None:
                break
        assert len(seen) == len(set(seen)) == 7
        assert seen[-1 if sort == "created_at" else 0] == str(picked.order_id)

    async def count(**filters: Any) -> int:
        return len((await service.get("/v1/fulfilment-orders", **filters))["items"])

    assert await count(place_id="W1") == 4
    assert await count(status="closed") == 6
    assert await count(status="in_progress", place_id="W1") == 1
    assert await count(waiting_for="buyer", request_status="accepted") == 1
    assert await count(order_id=str(picked.order_id)) == 1
    assert await count(order_id=str(uuid4())) == 0
    async with service.caller() as http:
        response = await http.get("/v1/fulfilment-orders", params={"status": "打包中", "limit": 0})
    assert (response.status_code, {error["field"] for error in response.json()["errors"]}) == (422, {"status", "limit"})


async def test_shipments_are_found_by_what_people_have_at_hand(start: Start, an_allocated: Allocated) -> None:
    """Fails if a filter missed its shipment or let another in."""
    service = await start()
    first = (await service.harness.receive([an_allocated(place_id="W1")])).emitted[0]
    service.harness.clock.advance(hours=1)
    second = (await service.harness.receive([an_allocated(place_id="W2", carrier="zto")])).emitted[0]

    async def found(**filters: Any) -> list[str]:
        return [one["shipment_id"] for one in (await service.get("/v1/shipments", **filters))["items"]]

    one, two = str(first.shipment_id), str(second.shipment_id)
    assert await found() == [two, one]
    assert await found(sort="shipped_at") == [one, two]
    assert await found(waybill_no=first.waybill_no) == [one]
    assert await found(carrier="zto") == [two]
    assert await found(place_id="W1") == [one]
    assert await found(order_id=str(second.order_id)) == [two]
    assert await found(state="shipped") == [two, one]
    assert await found(state="lost") == []
    assert await found(shipped_from="2026-11-11T08:30:00+08:00") == [two]
    assert await found(shipped_to="2026-11-11T01:00:00Z") == [one]
    async with service.caller() as http:
        params = {"shipped_from": "2026-11-11T01:00:00Z", "shipped_to": "2026-11-11T00:00:00Z"}
        response = await http.get("/v1/shipments", params=params)
        assert [error["field"] for error in response.json()["errors"]] == ["shipped_to"]
        missing = await http.get(f"/v1/shipments/{uuid4()}", headers={"Accept-Language": "zh-CN"})
    assert (missing.status_code, missing.json()["title"]) == (404, "没有这个包裹")


async def test_carrier_events_move_a_shipment_forward_once(start: Start, an_allocated: Allocated) -> None:
    """Fails if a late or repeated scan changed the shipment or was told to others, or the timer delivered again."""
    service = await start(delivery_seconds=60)
    (shipped,) = (await service.harness.receive([an_allocated()])).emitted
    path = f"/v1/shipments/{shipped.shipment_id}/progress"
    now = service.harness.clock.now()

    def event(state: str, reference: str, minutes: int = 0) -> dict[str, Any]:
        return {"state": state, "reference": reference, "occurred_at": (now + timedelta(minutes=minutes)).isoformat()}

    async with service.caller("wms") as http:
        scans = [("in_transit", "扫描-2"), ("picked_up", "扫描-1"), ("out_for_delivery", "扫描-3")]
        for state, reference in [*scans, ("delivered", "扫描-4"), ("delivered", "扫描-4"), ("refused", "扫描-5")]:
            response = await http.post(path, json=event(state, reference))
            assert response.status_code == 200, response.text
        body = response.json()
        changed = await http.post(path, json=event("delivered", "扫描-4", 1))
        assert (changed.status_code, changed.json()["code"]) == (409, "reference_reused")
    told = await service.harness.emitted()
    assert [(one.state, one.progress.step, one.progress.stage) for one in told if isinstance(one, ShipmentProgressed)] == [
        ("in_transit", 2, "shipped"),
        ("out_for_delivery", 3, "shipped"),
        ("delivered", 4, "delivered"),
    ]
    assert body["state"] == "delivered"
    assert {one["reference"]: one["applied"] for one in body["events"]} == {
        "扫描-1": False,
        "扫描-2": True,
        "扫描-3": True,
        "扫描-4": True,
        "扫描-5": False,
    }
    service.harness.clock.advance(seconds=61)
    await service.harness.run_due_tasks()
    assert await service.harness.emitted() == []


async def test_bad_carrier_events_are_refused_by_field(start: Start, an_allocated: Allocated) -> None:
    """Fails if nonsense were recorded, or the answer did not name the field."""
    service = await start()
    (shipped,) = (await service.harness.receive([an_allocated()])).emitted
    good = {"state": "delivered", "occurred_at": "2026-11-11T00:00:00Z", "reference": "r1"}
    bad: list[tuple[dict[str, Any], set[str]]] = [
        ({"state": "shipped"}, {"state"}),
        ({"state": "丢失"}, {"state"}),
        ({"occurred_at": "2026-11-11T00:00:00"}, {"occurred_at"}),
        ({"occurred_at": "2026-11-12T00:00:00Z"}, {"occurred_at"}),
        ({"reference": ""}, {"reference"}),
        ({"reference": 7}, {"reference"}),
        ({"note": "x"}, {"note"}),
    ]
    async with service.caller("wms") as http:
        for change, fields in bad:
            response = await http.post(f"/v1/shipments/{shipped.shipment_id}/progress", json=good | change)
            assert (response.status_code, {error["field"] for error in response.json()["errors"]}) == (422, fields)
        assert (await http.post(f"/v1/shipments/{uuid4()}/progress", json=good)).status_code == 404
    assert await service.rows("SELECT count(*) FROM carrier_event") == [(0,)]


async def test_a_person_reports_a_carrier_event_with_a_reason(start: Start, an_allocated: Allocated) -> None:
    """Fails if an operator could move a shipment without leaving name and reason."""
    service = await start()
    (shipped,) = (await service.harness.receive([an_allocated()])).emitted
    path = f"/v1/shipments/{shipped.shipment_id}/progress"
    event = {"state": "lost", "occurred_at": "2026-11-11T00:00:00Z", "reference": "工单-1"}
    async with service.caller("operator") as http:
        refused = await http.post(path, json=event)
        assert [error["field"] for error in refused.json()["errors"]] == ["reason"]
        assert (await http.post(path, json=event | {"reason": "承运商确认丢失"})).json()["state"] == "lost"
    assert await service.rows("SELECT who, act, why FROM manual_act") == [("tester", "report_carrier_event", "承运商确认丢失")]


async def test_a_label_shows_the_receiver_and_each_look_is_noted(
    start: Start, an_allocated: Allocated, a_sealed_receiver: Sealed
) -> None:
    """Fails if the label is wrong or cached, a look goes unnoted, or an erased receiver is still shown."""
    service = await start()
    ref = uuid4()
    await service.harness.receive([a_sealed_receiver(ref)])
    (shipped,) = (await service.harness.receive([an_allocated(receiver_ref=ref)])).emitted
    (order,) = (await service.get("/v1/fulfilment-orders"))["items"]
    path = f"/v1/fulfilment-orders/{order['fulfilment_order_id']}/label"
    async with service.caller("pii.read") as http:
        response = await http.get(path)
        assert response.status_code == 200, response.text
        assert response.headers["Cache-Control"] == "no-store"
        shown = response.json()
        assert (shown["name"], shown["phone"], shown["waybill_no"]) == ("欧阳娜娜", "13800138000", shipped.waybill_no)
        assert shown["address"] == "北京市 朝阳区 建国路88号"
        assert "连衣裙 × 2" in shown["text"]
        assert await service.rows("SELECT who, act, subject FROM manual_act") == [
            ("tester", "read_label", order["fulfilment_order_id"])
        ]
        await service.harness.receive([a_sealed_receiver(ref, version=2, deleted=True)])
        await service.harness.receive([a_sealed_receiver(ref, version=1)])  # Comes again, too late.
        erased = await http.get(path)
    assert (erased.status_code, erased.json()["code"]) == (410, "receiver_erased")
    assert await service.rows("SELECT deleted, ciphertext FROM receiver") == [(True, None)]


async def test_each_parcel_has_its_own_label(start: Start, an_allocated: Allocated, a_sealed_receiver: Sealed) -> None:
    """Fails if the label of one parcel shows the number or the goods of another."""
    service = await start()
    ref = uuid4()
    await service.execute("INSERT INTO place_connector VALUES ('WH-HZ1', 'manual', now())")
    await service.harness.receive([a_sealed_receiver(ref)])
    await service.harness.receive([an_allocated(receiver_ref=ref)])
    (order,) = (await service.get("/v1/fulfilment-orders"))["items"]
    path = f"/v1/fulfilment-orders/{order['fulfilment_order_id']}"
    async with service.caller("pii.read", "operator") as http:
        assert "连衣裙 × 2" in (await http.get(f"{path}/label")).json()["text"]
        for sku_id in ("DRESS01-RED-M", "SOCK02-WHT"):
            parcel = {"lines": [{"sku_id": sku_id, "quantity": 1}]}
            await http.post(f"{path}/shipment", json={"reason": "发货", "parcels": [parcel]})
        assert (await http.get(f"{path}/label")).json()["code"] == "label_of_which_parcel"
        assert (await http.get(f"{path}/label?shipment_id={uuid4()}")).status_code == 404
        parcels = (await service.get("/v1/shipments"))["items"]
        labels = [(await http.get(f"{path}/label?shipment_id={one['shipment_id']}")).json() for one in parcels]
    assert [one["waybill_no"] for one in labels] == [one["waybill_no"] for one in parcels]
    assert sorted(("连衣裙 × 1" in one["text"], "棉袜三双 × 1" in one["text"]) for one in labels) == [
        (False, True),
        (True, False),
    ]


@pytest.mark.parametrize(
    ("kek", "key_id", "code"), [(bytes(32), "1", "receiver_unreadable"), (bytes(range(32)), "9", "receiver_key_unknown")]
)
async def test_a_receiver_that_does_not_open_is_said_not_shown(
    start: Start, an_allocated: Allocated, a_sealed_receiver: Sealed, kek: bytes, key_id: str, code: str
) -> None:
    """Fails if a wrong key became a 500 or the answer did not say what to do."""
    service = await start()
    ref = uuid4()
    await service.harness.receive([a_sealed_receiver(ref, kek=kek, key_id=key_id)])
    await service.harness.receive([an_allocated(receiver_ref=ref)])
    (order,) = (await service.get("/v1/fulfilment-orders"))["items"]
    async with service.caller("pii.read") as http:
        response = await http.get(f"/v1/fulfilment-orders/{order['fulfilment_order_id']}/label")
    assert (response.status_code, response.json()["code"]) == (409, code)


async def test_personal_data_is_in_no_row_and_no_event(
    start: Start, an_allocated: Allocated, a_sealed_receiver: Sealed
) -> None:
    """Fails if a name or a phone were stored in clear, or travelled in an event, label printed or not."""
    service = await start()
    ref = uuid4()
    await service.harness.receive([a_sealed_receiver(ref)])
    (event,) = (await service.harness.receive([an_allocated(receiver_ref=ref)])).emitted
    (order,) = (await service.get("/v1/fulfilment-orders"))["items"]
    await service.get(f"/v1/fulfilment-orders/{order['fulfilment_order_id']}/label", "pii.read")
    stored = [event.model_dump_json()]
    for (name,) in await service.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        stored += [str(row) for row in await service.rows(f'SELECT * FROM "{name}"')]  # noqa: S608  our own table names
    assert not any(secret in text for text in stored for secret in ("欧阳娜娜", "13800138000", "建国路88号"))


async def test_blocks_of_numbers_never_overlap(start: Start, an_allocated: Allocated) -> None:
    """Fails if two blocks could give one number, or a block could end before what it gave."""
    service = await start()
    async with service.caller() as http:

        async def put(**changes: Any) -> tuple[int, Any]:
            response = await http.put("/v1/waybill-series", json=BLOCK | changes)
            return response.status_code, response.json()

        assert (await put())[1]["left"] == 100
        assert (await put(until_no=299))[1]["left"] == 200
        assert (await put(first_no=200))[1]["code"] == "series_overlaps"
        assert (await put(prefix="SF0", digits=3))[1]["code"] == "series_overlaps"
        assert (await put(carrier="zto"))[0] == 200
        await service.harness.receive([an_allocated() for _ in range(3)])
        assert (await put(until_no=101))[1]["code"] == "series_in_use"
        assert (await put(until_no=102))[1]["left"] == 0
        for change, field in [
            ({"digits": 0}, "digits"),
            ({"prefix": "顺丰"}, "prefix"),
            ({"first_no": -1}, "first_no"),
            ({"reason": " "}, "reason"),
            ({"until_no": True}, "until_no"),
        ]:
            status, problem = await put(**change)
            assert (status, [error["field"] for error in problem["errors"]]) == (422, [field])
        assert [error["code"] for error in (await put(until_no=10_000))[1]["errors"]] == ["block_too_wide"]
        assert [error["code"] for error in (await put(until_no=98))[1]["errors"]] == ["block_reversed"]
    listed = await service.get("/v1/waybill-series", carrier="sf")
    assert [(one["next_no"], one["until_no"]) for one in listed["items"]] == [(103, 102)]
    assert await service.rows("SELECT count(*) FROM manual_act WHERE act = 'put_waybill_series'") == [(4,)]


async def test_a_block_set_up_first_is_the_one_that_is_used(start: Start, an_allocated: Allocated) -> None:
    """Fails if a carrier with a block of its own still got the common one."""
    service = await start()
    async with service.caller() as http:
        await http.put("/v1/waybill-series", json=BLOCK)
    (shipped,) = (await service.harness.receive([an_allocated()])).emitted
    assert shipped.waybill_no == "SF0100"
    assert await service.rows("SELECT count(*) FROM waybill_series") == [(1,)]


async def test_the_connector_of_a_place_is_data(start: Start, an_allocated: Allocated) -> None:
    """Fails if the choice is not kept and noted, or a connector that is not there could be chosen."""
    service = await start()
    place = CatalogLocation(
        place_id="门店-1",
        place_no=1,
        name="南京西路店",
        kind="store",
        region_code="310106",
        latitude=31.2,
        longitude=121.5,
        daily_capacity=10,
        version=1,
    )
    async with service.caller() as http:
        body = {"connector": "automatic", "reason": "试运行"}
        assert (await http.put("/v1/places/门店-1/connector", json=body)).status_code == 404
        await service.harness.apply([place])
        assert (await http.put("/v1/places/门店-1/connector", json=body)).json()["connector"] == "automatic"
        unknown = await http.put("/v1/places/门店-1/connector", json=body | {"connector": "carrier_pigeon"})
        assert [error["field"] for error in unknown.json()["errors"]] == ["connector"]
    assert await service.rows("SELECT place_id, connector FROM place_connector") == [("门店-1", "automatic")]
