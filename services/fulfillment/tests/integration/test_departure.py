"""From allocation to departure: what is written, what is said, and once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from contracts import CatalogLocation, ReceiverSealed, ShipmentCreated, ShipmentProgressed, StockAllocated, text_of
from eventing.testing import Harness

pytestmark = pytest.mark.postgres
Start = Callable[..., Awaitable[Any]]
Allocated = Callable[..., StockAllocated]
Sealed = Callable[..., ReceiverSealed]


def a_place(place_id: str = "WH-HZ1", *, version: int = 1, name: str = "杭州一号仓") -> CatalogLocation:
    return CatalogLocation(
        place_id=place_id,
        place_no=1,
        name=name,
        kind="warehouse",
        region_code="330110",
        latitude=30.3,
        longitude=120.0,
        daily_capacity=1000,
        version=version,
    )


async def test_an_allocated_order_leaves_at_once(start: Start, an_allocated: Allocated) -> None:
    """Fails if the event misses weight, freight, number, costs or reason, or the rows do not say the same."""
    service = await start(packaging_grams=100)
    await service.harness.apply([a_place()])
    allocated = an_allocated()
    (created,) = (await service.harness.receive([allocated])).emitted
    assert isinstance(created, ShipmentCreated)
    assert (created.carrier, created.waybill_no, created.fulfilment_kind) == ("sf", "SF000000000001", "to_ship")
    assert (created.weight_grams, created.freight_cost_minor) == (2 * 420 + 150 + 100, 830)
    assert created.shipped_at == service.harness.clock.now()
    assert (created.progress.step, created.progress.stage) == (1, "shipped")
    assert (
        text_of(created.progress.code, created.progress.params, chinese=True) == "已从 杭州一号仓 发出，sf 运单 SF000000000001"
    )
    assert created.part == allocated.part
    found = await service.get("/v1/fulfilment-orders", order_id=allocated.order_id)
    assert [(one["status"], one["request_status"]) for one in found["items"]] == [("closed", "accepted")]
    shipment = await service.get(f"/v1/shipments/{created.shipment_id}")
    assert [(line["sku_id"], line["quantity"]) for line in shipment["lines"]] == [("DRESS01-RED-M", 2), ("SOCK02-WHT", 1)]
    assert (shipment["state"], shipment["shipped_at"]) == ("shipped", "2026-11-11T00:00:00Z")


async def test_fields_of_the_order_block_that_nobody_knows_come_through(start: Start, an_allocated: Allocated) -> None:
    """Fails if the block is rebuilt from known fields, in the event or in what is stored for later events."""
    service = await start(delivery_seconds=1)
    (created,) = (await service.harness.receive([an_allocated(order={"new_in_2030": {"礼": [1]}})])).emitted
    service.harness.clock.advance(seconds=1)
    await service.harness.run_due_tasks("deliver")
    (delivered,) = await service.harness.emitted()
    assert created.order.new_in_2030 == delivered.order.new_in_2030 == {"礼": [1]}


async def test_an_allocation_that_comes_again_ships_nothing_more(start: Start, an_allocated: Allocated) -> None:
    """Fails if only the inbox, not the attempt, stood against a second parcel."""
    service = await start()
    allocated = an_allocated()
    first = await service.harness.receive([allocated, allocated])
    again = await service.harness.receive([allocated, an_allocated(order_id=allocated.order_id, attempt=0)])
    assert (len(first.emitted), first.parked) == (1, [])
    assert (again.emitted, again.parked, again.queued) == ([], [], [])
    assert await service.rows("SELECT count(*) FROM shipment") == [(1,)]


async def test_a_batch_delivered_twice_counts_once(start: Start, an_allocated: Allocated) -> None:
    """Fails if a redelivered batch changed a row or said anything."""
    service = await start()
    events = [an_allocated(carrier=carrier) for carrier in ("sf", "zto", "sf", "yto")]
    result = await service.harness.receive(events)
    assert sorted(event.waybill_no for event in result.emitted) == [
        "SF000000000001",
        "SF000000000002",
        "YTO000000000001",
        "ZTO000000000001",
    ]
    before = await service.rows("SELECT * FROM tracked_order ORDER BY order_id")
    records = service.harness.bus.records("stock.allocated")
    again = await service.harness.deliver(records)
    assert (again.duplicates, again.emitted) == (4, [])
    assert await service.rows("SELECT * FROM tracked_order ORDER BY order_id") == before


async def test_a_second_attempt_beside_a_live_one_is_parked(start: Start, an_allocated: Allocated) -> None:
    """Fails if two attempts of one order could both ship; the other orders of the batch still go."""
    service = await start()
    first, other = an_allocated(), an_allocated()
    await service.harness.receive([first])
    result = await service.harness.receive([an_allocated(order_id=first.order_id, attempt=2), other])
    assert [fated.key for fated in result.parked] == [first.key]
    assert [event.order_id for event in result.emitted] == [other.order_id]


async def test_an_unknown_kind_is_parked(start: Start, an_allocated: Allocated) -> None:
    """Fails if a kind of a later version were shipped or stopped the others."""
    service = await start()
    result = await service.harness.receive([an_allocated(kind="drone"), an_allocated()])
    assert (len(result.parked), len(result.emitted)) == (1, 1)


async def test_an_order_waits_for_its_late_receiver(start: Start, an_allocated: Allocated, a_sealed_receiver: Sealed) -> None:
    """Fails if an order left, or left a row, before its receiver is here, or did not go when it came."""
    service = await start()
    ref = uuid4()
    late = await service.harness.receive([an_allocated(receiver_ref=ref), an_allocated()])
    assert (late.waiting, len(late.emitted)) == ([("receiver", str(ref))], 1)
    assert await service.rows("SELECT count(*) FROM fulfilment_order") == [(1,)]
    here = await service.harness.receive([a_sealed_receiver(ref)])
    assert [event.TYPE for event in here.emitted] == ["ShipmentCreated"]
    assert (await service.harness.receive([an_allocated(receiver_ref=ref)])).waiting == []


async def test_goods_handed_over_are_shipped_and_delivered_at_once(start: Start, an_allocated: Allocated) -> None:
    """Fails if a till sale got a waybill, another moment, or its two events in another order."""
    service = await start(delivery_seconds=5)
    at = service.harness.clock.now() - timedelta(hours=3)
    event = an_allocated(kind="already_handed_over", attempt=0, carrier=None, handed_over_at=at, receiver_ref=uuid4())
    created, delivered = (await service.harness.receive([event])).emitted
    assert isinstance(created, ShipmentCreated)
    assert isinstance(delivered, ShipmentProgressed)
    assert (created.carrier, created.waybill_no, created.freight_cost_minor, created.shipped_at) == (None, None, 0, at)
    assert (delivered.state, delivered.occurred_at) == ("delivered", at)
    assert [(one.progress.step, one.progress.stage) for one in (created, delivered)] == [(1, "shipped"), (2, "delivered")]
    assert await service.rows("SELECT count(*) FROM task") == [(0,)]


async def test_an_order_leaves_when_its_time_has_come(start: Start, an_allocated: Allocated) -> None:
    """Fails if `ship_seconds` is not waited for, or the order is not seen as in progress meanwhile."""
    service = await start(ship_seconds=60)
    assert (await service.harness.receive([an_allocated(), an_allocated()])).emitted == []
    waiting = await service.get("/v1/fulfilment-orders", status="in_progress", place_id="WH-HZ1")
    assert [one["ship_at"] for one in waiting["items"]] == ["2026-11-11T00:01:00Z"] * 2
    assert await service.harness.run_due_tasks("ship") == 0
    service.harness.clock.advance(seconds=60)
    assert await service.harness.run_due_tasks("ship") == 2
    assert {event.waybill_no for event in await service.harness.emitted()} == {"SF000000000001", "SF000000000002"}
    assert (await service.get("/v1/fulfilment-orders", status="in_progress"))["items"] == []


async def test_delivery_is_reported_as_of_its_time(start: Start, an_allocated: Allocated) -> None:
    """Fails if delivery came early, twice, or with the time of the timer's run."""
    service = await start(delivery_seconds=3600)
    await service.harness.receive([an_allocated(), an_allocated()])
    service.harness.clock.advance(seconds=5400)
    assert await service.harness.run_due_tasks("deliver") == 2
    delivered = await service.harness.emitted()
    assert [(one.state, one.progress.step, one.progress.code) for one in delivered] == [
        ("delivered", 2, "parcel_delivered")
    ] * 2
    assert {one.occurred_at for one in delivered} == {service.harness.clock.now() - timedelta(seconds=1800)}
    assert await service.harness.run_due_tasks() == 0
    assert [one["state"] for one in (await service.get("/v1/shipments"))["items"]] == ["delivered"] * 2


async def test_orders_without_numbers_wait_in_sight_until_there_are_some(start: Start, an_allocated: Allocated) -> None:
    """Fails if a used-up series parked orders, lost them, or a new block did not wake them."""
    service = await start()
    block = {"carrier": "sf", "prefix": "A", "digits": 3, "first_no": 1, "until_no": 1, "reason": "试用号段"}
    async with service.caller() as http:
        assert (await http.put("/v1/waybill-series", json=block)).status_code == 200
        await service.harness.run_due_tasks()
        result = await service.harness.receive([an_allocated() for _ in range(3)])
        assert ([event.waybill_no for event in result.emitted], result.parked) == (["A001"], [])
        waiting = await service.get("/v1/fulfilment-orders", waiting_for="waybill", status="in_progress")
        assert len(waiting["items"]) == 2
        service.harness.clock.advance(seconds=31)
        await service.harness.run_due_tasks()
        assert await service.harness.emitted() == []
        assert (await http.put("/v1/waybill-series", json=block | {"until_no": 2})).json()["left"] == 1
        await service.harness.run_due_tasks()
        assert [event.waybill_no for event in await service.harness.emitted()] == ["A002"]
        other = block | {"prefix": "B", "place_id": "WH-HZ1"}
        assert (await http.put("/v1/waybill-series", json=other)).status_code == 200
        await service.harness.run_due_tasks()
        assert [event.waybill_no for event in await service.harness.emitted()] == ["B001"]
    assert (await service.get("/v1/fulfilment-orders", waiting_for="waybill"))["items"] == []


async def test_two_workers_never_give_one_number_twice(start: Start, an_allocated: Allocated) -> None:
    """Fails if the series' rows are not locked while numbers are taken from them."""
    workers = [await start(), await start(beside=True)]
    # The constraint would turn a missing lock into failures and retries, which end well and hide it.
    await workers[0].execute("ALTER TABLE shipment DROP CONSTRAINT shipment_waybill")

    async def send(harness: Harness) -> None:
        for _ in range(4):
            await harness.receive([an_allocated(carrier=carrier) for carrier in ("sf", "zto") for _ in range(10)])

    await asyncio.gather(*(send(worker.harness) for worker in workers))
    numbers = sorted(number for (number,) in await workers[0].rows("SELECT waybill_no FROM shipment"))
    assert numbers == [f"{prefix}{number:012d}" for prefix in ("SF", "ZTO") for number in range(1, 81)]


async def test_the_highest_version_of_a_place_is_kept(start: Start) -> None:
    """Fails if an older fact that comes late, or first of two in one batch, won."""
    service = await start()
    await service.harness.apply([a_place(version=3, name="三"), a_place(version=2, name="二"), a_place("WH-2", name="别处")])
    await service.harness.apply([a_place(version=1, name="一")])
    assert [(one["place_id"], one["name"]) for one in (await service.get("/v1/places"))["items"]] == [
        ("WH-2", "别处"),
        ("WH-HZ1", "三"),
    ]
