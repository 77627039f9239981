"""Two workers and HTTP on the same orders at the same moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from contracts import AllocationReturned, ShipmentCreated, StockAllocated, StopAnswered

from .test_places import DRESS, SOCKS, FakeWms, a_stop, call_back, connect, line

pytestmark = pytest.mark.postgres
Start = Callable[..., Awaitable[Any]]
Allocated = Callable[..., StockAllocated]
ORDERS = 12


class StopsSocks(FakeWms):
    """Has every dress packed already."""

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = await super().__call__(request)
        if not request.url.path.endswith("/cancellation"):
            return answer
        socks = [line(SOCKS, 1) for one in self.asked[-1][1]["lines"] if one["sku_id"] == SOCKS]
        return httpx.Response(200, json={"outcome": "stopped", "lines": socks} if socks else {"outcome": "refused"})


async def test_stops_and_shipments_of_two_workers_share_out_every_unit(start: Start, an_allocated: Allocated) -> None:
    """Fails if a unit is stopped and shipped, stopped for two requests, or lost; or if a stop that came to both workers is
    answered twice or not at all."""
    wms = StopsSocks()
    workers = [await start(wms=httpx.MockTransport(wms)), await start(beside=True, wms=httpx.MockTransport(wms))]
    wms.now = workers[0].harness.clock.now
    await connect(workers[0])
    orders = [an_allocated() for _ in range(ORDERS)]
    await workers[0].harness.receive(orders)
    await workers[0].harness.run_due_tasks("instruct")
    places = dict(await workers[0].rows("SELECT order_id, fulfilment_order_id FROM fulfilment_order"))
    stops = [a_stop(order, dress=2) for order in orders] + [a_stop(order, dress=1, socks=1) for order in orders]

    async def leaves(number: int, order: StockAllocated) -> None:
        body = {
            "event_id": f"箱-{number}",
            "fulfilment_order_id": str(places[order.order_id]),
            "kind": "shipped",
            "final": False,
            "parcels": [{"lines": [line(DRESS, 1)]}],
        }
        await call_back(workers[number % 2], body)

    events: list[Any] = []
    for number, order in enumerate(orders):
        mine = [stop for stop in stops if stop.root_id == order.order_id]
        one, other, _ = await asyncio.gather(
            workers[0].harness.receive(mine), workers[1].harness.receive(mine[::-1]), leaves(number, order)
        )
        assert [one.parked, other.parked] == [[], []]
        events += [*one.emitted, *other.emitted]
    for _ in range(4):
        await asyncio.gather(*(worker.harness.run_due_tasks("stop") for worker in workers))
    for order in orders:  # What nobody stopped leaves now: no stop is open any more.
        rest = {"event_id": str(order.order_id), "fulfilment_order_id": str(places[order.order_id]), "kind": "shipped"}
        await call_back(workers[0], rest | {"parcels": [{}]})
    for worker in workers:
        events += await worker.harness.emitted()
    answered = Counter(event.request_id for event in events if isinstance(event, StopAnswered))
    assert answered == Counter(stop.request_id for stop in stops)
    gone: Counter[tuple[UUID, str]] = Counter()
    for event in events:
        lines = event.part.lines if isinstance(event, ShipmentCreated) else event.lines
        if isinstance(event, ShipmentCreated | AllocationReturned):
            gone.update({(event.order_id, units.sku_id): units.quantity for units in lines})
    assert gone == {(order.order_id, units.sku_id): units.quantity for order in orders for units in order.part.lines}
