"""Fulfilment and the demo WMS, each behind its HTTP: the protocol as two parties speak it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from contracts import AllocationReturned, ShipmentCreated, StockAllocated, StopAnswered
from tools.wms.app import DemoWms, build
from tools.wms.floor import Dials

from .test_places import DRESS, SECRET, a_place, a_stop

pytestmark = pytest.mark.postgres
Start = Callable[..., Awaitable[Any]]
Allocated = Callable[..., StockAllocated]
DEADLINE_SECONDS = 30.0


class Late(httpx.AsyncBaseTransport):
    """A way to an application that is not there yet when the client is made."""

    app: Any = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await httpx.ASGITransport(self.app).handle_async_request(request)


async def both(start: Start, **dials: Any) -> tuple[Any, DemoWms]:
    to_oms, to_wms = Late(), Late()
    wms = DemoWms(Dials(**dials), oms_url="http://oms", secret=SECRET, transport=to_oms)
    to_wms.app = build(wms)
    service = await start(wms=to_wms)
    to_oms.app = service.app
    service.harness.clock.advance(seconds=(datetime.now(UTC) - service.harness.clock.now()).total_seconds())
    await service.harness.apply([a_place()])
    body = {"connector": "http", "base_url": "http://wms", "secret_name": "demo", "reason": "演示仓"}
    async with service.caller() as http:
        assert (await http.put("/v1/places/WH-HZ1/connector", json=body)).status_code == 200
    return service, wms


async def said(service: Any, count: int) -> list[Any]:
    """What was emitted, once there is so much."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    events: list[Any] = []
    while len(events) < count:
        assert time.monotonic() < deadline, events
        await service.harness.run_due_tasks()
        events += await service.harness.emitted()
        await asyncio.sleep(0.02)
    return events


async def test_orders_leave_the_demo_wms_short_and_in_parcels(start: Start, an_allocated: Allocated) -> None:
    """Fails if the two read docs/wms-http.md differently, a repeat counts twice, or a unit is neither shipped nor returned."""
    service, wms = await both(
        start, accept_seconds=0.01, pick_seconds=0.01, ship_seconds=0.01, short_rate=1.0, parcels=2, duplicate_rate=1.0
    )
    allocated = an_allocated()
    await service.harness.receive([allocated])
    events = await said(service, 3)
    assert sorted(type(event).__name__ for event in events) == ["AllocationReturned", "ShipmentCreated", "ShipmentCreated"]
    shipped = sum(line.quantity for event in events if isinstance(event, ShipmentCreated) for line in event.part.lines)
    returned = sum(line.quantity for event in events if isinstance(event, AllocationReturned) for line in event.lines)
    assert (shipped, returned, wms.refused) == (2, 1, [])
    assert [one["status"] for one in (await service.get("/v1/fulfilment-orders"))["items"]] == ["closed"]
    await wms.close()


@pytest.mark.parametrize("pending_stops", [False, True])
async def test_a_stop_reaches_the_demo_wms(start: Start, an_allocated: Allocated, pending_stops: bool) -> None:
    """Fails if stopped units leave, or the answer is lost on either way."""
    service, wms = await both(start, pick_seconds=2.0, ship_seconds=0.01, pending_stops=pending_stops)
    allocated = an_allocated()
    await service.harness.receive([allocated])
    await service.harness.run_due_tasks("instruct")
    await service.harness.receive([a_stop(allocated, dress=2)])
    events = await said(service, 3)
    assert [type(event) for event in events] == [AllocationReturned, StopAnswered, ShipmentCreated]
    assert [line.stopped for line in events[1].lines] == [2]
    assert DRESS not in {line.sku_id for line in events[2].part.lines}
    assert wms.refused == []
    await wms.close()
