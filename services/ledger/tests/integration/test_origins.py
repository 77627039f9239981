"""One origin, several orders and several workers: splits, merges, and who comes second."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from contracts import Event, ShipmentCreated, ShipmentProgressed
from eventing.testing import Harness
from eventing.testing.values import SeededIds

from .conftest import Story, make_harness
from .test_lives import ALL_UNITS, WHOLE, moved, nonzero, waiting_for_a_lock
from .test_posting import publish, rows_of


async def test_two_workers_on_one_origin_lose_nothing(engine: AsyncEngine) -> None:
    """Fails when origins are not locked, or not in one order: an overlap would be missed, moved twice, or end in a deadlock."""
    harnesses = [make_harness(engine, ids=SeededIds(seed)) for seed in (1, 2)]
    stories = [Story() for _ in range(6)]
    children = {story.order_id: uuid4() for story in stories}

    def child(story: Story, event: Any) -> Any:
        return moved(event, children[story.order_id])

    one = [[e for s in stories for e in (s.received, child(s, s.shipped))], [child(s, s.delivered) for s in stories]]
    two = [[s.refunded(1, *WHOLE) for s in reversed(stories)], [s.returned(1, (0, 2, "good"), (1, 1, "good")) for s in stories]]
    batches = [[publish(h, batch) for batch in part] for h, part in zip(harnesses, (one, two), strict=True)]

    async def write(number: int) -> None:
        processor = harnesses[number].runtime.processors["main"]
        for batch in batches[number]:
            assert (await processor.process(batch)).parked == []

    await asyncio.gather(write(0), write(1))
    freight = 1350 * len(stories)
    assert await nonzero(engine) == {"6601.01": freight, "2202.01": -freight}
    numbers = [row.number for row in await rows_of(engine, "SELECT number FROM voucher_number ORDER BY number")]
    assert numbers == list(range(1, len(numbers) + 1))


SOLD = {"6001": -26772, "2221.01": -3415, "1122.01": 27790, "1122.02": 2397, "6401": 13900, "1405.01": -13900}
GIVEN_BACK = {"1405.01": -13900, "6401": 13900}
FREIGHT = {"6601.01": 1350, "2202.01": -1350}
RACES: dict[str, tuple[Callable[[Story], Event], dict[str, int]]] = {
    "refund": (lambda story: story.refunded(1, *WHOLE), GIVEN_BACK),
    "receipt": (lambda story: story.confirmed(1, *ALL_UNITS), SOLD),
}


@pytest.mark.parametrize("other", RACES)
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("delivery_first", [False, True])
async def test_who_comes_second_to_an_origin_sees_what_the_first_has_posted(
    engine: AsyncEngine, other: str, split: bool, delivery_first: bool
) -> None:
    """The first stands at the counter, all posted and nothing committed, while the second comes.

    Fails when the accounts are read before the origin's row is locked, or the row is not locked at all.
    """
    story, part = Story(), uuid4()

    def of_parcel(event: Any) -> Event:
        return moved(event, part) if split else event

    one, two = (make_harness(engine, ids=SeededIds(seed)) for seed in (1, 2))
    await one.receive([story.received, of_parcel(story.shipped)])
    event, balances = RACES[other][0](story), RACES[other][1]
    events = [of_parcel(story.delivered), event] if delivery_first else [event, of_parcel(story.delivered)]
    batches = [publish(harness, [event]) for harness, event in zip((one, two), events, strict=True)]
    async with engine.begin() as connection:
        await connection.execute(text("SELECT FROM voucher_counter FOR UPDATE"))
        first = asyncio.create_task(one.runtime.processors["main"].process(batches[0]))
        await waiting_for_a_lock(engine, 1)
        second = asyncio.create_task(two.runtime.processors["main"].process(batches[1]))
        await waiting_for_a_lock(engine, 2)
    assert [(await task).parked for task in (first, second)] == [[], []]
    assert await nonzero(engine) == balances | FREIGHT


def merged(one: Any, other: Any, order_id: Any) -> Any:
    """Two orders' parcels as the one of the order that they were merged into."""
    part = one.part.model_copy(
        update={
            "order_id": order_id,
            "root_id": order_id,
            "lines": [*one.part.lines, *other.part.lines],
            "freight": [*one.part.freight, *other.part.freight],
        }
    )
    order = one.order.model_copy(update={"merged_with": [other.order]})
    return one.model_copy(update={"order_id": order_id, "root_id": order_id, "order": order, "part": part})


@pytest.mark.parametrize("backwards", [False, True])
async def test_a_merged_parcel_settles_each_order_that_is_in_it(
    harness: Harness, http: httpx.AsyncClient, engine: AsyncEngine, backwards: bool
) -> None:
    """Fails when a merge's lines are booked to the merged order: what one buyer gave back would not meet its payment."""
    one, other, whole = Story(), Story(), uuid4()
    shipped: ShipmentCreated = merged(one.shipped, other.shipped, whole)
    delivered: ShipmentProgressed = merged(one.delivered, other.delivered, whole)
    returned = one.returned(1, (0, 2, "good"), (1, 1, "good"))
    returned = returned.model_copy(update={"order_id": whole, "root_id": whole, "order": shipped.order})
    events: list[Event] = [one.received, other.received, shipped, one.refunded(1, *WHOLE), delivered, returned]
    for event in reversed(events) if backwards else events:
        assert (await harness.receive([event])).parked == []
    # The parcel's freight was estimated once; what is sold is the other order alone.
    assert await nonzero(engine) == SOLD | FREIGHT
    for order_id, origins in ((one.order_id, {one.order_id}), (whole, {one.order_id, other.order_id, whole})):
        accounts = (await http.get(f"/v1/orders/{order_id}/accounts")).json()
        assert accounts["closed"] is True
        assert {line["origin_order_id"] for line in accounts["lines"]} <= {str(origin) for origin in origins}
    assert len(accounts["lines"]) == 6
    assert (await http.get("/v1/chain/verify")).json()["holds"] is True


async def test_a_policy_is_asked_of_each_order_in_a_merge(
    harness: Harness, http: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    """Fails when a merge is recognised by the policy of the order whose block it carries."""
    policy = {"reason": "新准则", "recognition": "receipt_confirmed", "damaged_value_bp": 3000}
    assert (await http.put("/v1/policy", json=policy)).status_code == 200
    harness.clock.advance(seconds=3600)
    old, new, whole = Story(), Story(at=harness.clock.now().isoformat()), uuid4()
    await harness.receive([old.received, new.received, merged(old.shipped, new.shipped, whole)])
    await harness.receive([merged(old.delivered, new.delivered, whole)])
    assert (await nonzero(engine))["6001"] == -26772
    await harness.receive([new.confirmed(1, *ALL_UNITS)])
    assert (await nonzero(engine))["6001"] == -26772 * 2
