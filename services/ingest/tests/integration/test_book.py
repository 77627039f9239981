"""The order book: what every stage reports, folded and told."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from sqlalchemy import text

from contracts import ORDER_KEYED, TOPICS, ChannelOrder, OrderReceived
from contracts.envelope import OrderEvent
from eventing.testing import Harness
from ingest.domain.identity import order_id_of

EXAMPLES = Path(__file__).parents[4] / "libs/contracts/examples"
MODELS = {model.TOPIC: model for topic in TOPICS.values() for model in topic.events}
ORDER = order_id_of("taobao", "小店", "T-1")
STORY = (
    ("order.received", 1, "received", "order_received", {"channel": "taobao", "lines": 2, "paid_minor": 28393}),
    ("order.held", 1, "held", "address_incomplete", {"grade": "street_short"}),
    ("order.audited", 2, "cleared", "order_cleared", {"rules": 5, "version": 3}),
    ("stock.backordered", 1, "backordered", "stock_short", {"short": ["DRESS"]}),
    ("stock.reserved", 2, "reserved", "stock_reserved", {"pool": "main", "places": 4}),
    ("order.routed", 1, "routed", "order_routed", {"candidates": 4, "eligible": 4, "place": "杭州仓", "cost_minor": 800}),
    ("stock.allocated", 3, "allocated", "stock_allocated", {"place": "杭州仓", "plan": 1, "plans": 4}),
    ("shipment.created", 2, "shipped", "parcel_shipped", {"place": "杭州仓", "carrier": "sf", "waybill_no": "SF1"}),
    ("shipment.progressed", 3, "delivered", "parcel_delivered", {}),
    ("voucher.posted", 1, "posted", "voucher_posted", {"word": "记", "number": 1, "template": "paid", "total_minor": 1}),
)


def an_event(
    topic: str, step: int, stage: str, code: str, params: dict[str, Any], *, order_id: UUID = ORDER, root_id: UUID | None = None
) -> OrderEvent:
    """The topic's golden example with another order and progress."""
    model = MODELS[topic]
    (path,) = EXAMPLES.glob(f"{topic}.*.json")
    progress = {"step": step, "stage": stage, "code": code, "params": params}
    ids = {"order_id": str(order_id), "root_id": str(root_id or order_id)}
    event = model.model_validate_json(json.dumps(json.loads(path.read_text()) | ids | {"progress": progress}))
    assert isinstance(event, OrderEvent)
    return event


def a_story(order_id: UUID = ORDER) -> list[OrderEvent]:
    return [an_event(*chapter, order_id=order_id) for chapter in STORY]


async def state(harness: Harness) -> list[tuple[Any, ...]]:
    async with harness.runtime.work() as work:
        stages = await work.connection.execute(text("SELECT * FROM order_stage ORDER BY order_id"))
        lines = await work.connection.execute(text("SELECT * FROM timeline ORDER BY order_id, service, step, event_id"))
        return [tuple(row) for row in (*stages, *lines)]


async def test_the_story_of_an_order_is_one_get(
    harness: Harness, http: httpx.AsyncClient, an_order: Callable[..., dict[str, Any]]
) -> None:
    """Fails when a stage is missing from the timeline, in the wrong order, or without a text in either language."""
    await http.post("/v1/orders", json=an_order())
    for event in a_story():
        harness.clock.advance(seconds=1)
        await harness.receive([event])
    told = (await http.get(f"/v1/orders/{ORDER}")).json()
    assert (told["stage"], told["finished"], told["posted"], told["held"]) == ("delivered", True, True, False)
    assert (told["why"], told["why_zh"]) == ("delivered", "已签收")
    assert [entry["topic"] for entry in told["timeline"]] == [chapter[0] for chapter in STORY]
    assert [entry["service"] for entry in told["timeline"]] == [
        "ingest", "audit", "audit", "inventory", "inventory", "router", "inventory", "fulfillment", "fulfillment", "ledger",
    ]  # fmt: skip
    shipped = told["timeline"][7]
    assert shipped["text"] == "left 杭州仓 with sf, waybill SF1"
    assert shipped["text_zh"] == "已从 杭州仓 发出，sf 运单 SF1"
    assert told["order"]["destination"]["name_mask"] == "欧**"
    assert not told["provisional"]


async def test_where_and_why_at_every_step(
    harness: Harness, http: httpx.AsyncClient, an_order: Callable[..., dict[str, Any]]
) -> None:
    await http.post("/v1/orders", json=an_order())
    seen = []
    for event in a_story():
        await harness.receive([event])
        (item,) = (await http.get("/v1/orders")).json()["items"]
        seen.append((item["stage"], item["why"]))
    assert seen[1] == ("held", "the address cannot be delivered to (street_short)")
    assert seen[3] == ("backordered", "not enough stock: DRESS")
    assert [stage for stage, _ in seen] == [chapter[2] for chapter in STORY[:-1]] + ["delivered"]


async def test_every_topic_of_the_spine_reaches_the_book() -> None:
    """Fails when a topic is added that the story above does not tell."""
    assert {chapter[0] for chapter in STORY} | {"cancellation.settled"} == set(ORDER_KEYED)


async def test_deliveries_in_any_order_and_number_end_in_the_same_book(harness: Harness) -> None:
    """Fails when a redelivery doubles a line, or a late one takes the order back a stage."""
    events = a_story() + a_story(uuid4())
    await harness.receive(events)
    wanted = await state(harness)
    records = [record for topic in ORDER_KEYED for record in harness.bus.records(topic)]
    assert len(records) == len(events)
    for seed in range(3):
        async with harness.runtime.work() as work:
            await work.connection.execute(text("TRUNCATE order_stage, timeline"))
        shuffled = records * 2
        random.Random(seed).shuffle(shuffled)
        while shuffled:
            await harness.deliver([shuffled.pop() for _ in range(min(7, len(shuffled)))])
        assert await state(harness) == wanted


async def test_many_events_of_one_order_in_one_batch_are_one_row(harness: Harness) -> None:
    result = await harness.receive(a_story())
    assert (result.parked, result.quarantined) == ([], [])
    async with harness.runtime.work() as work:
        assert (await work.connection.execute(text("SELECT stage FROM order_stage"))).scalars().all() == [98]


async def test_parts_of_an_order_are_told_with_it(
    harness: Harness, http: httpx.AsyncClient, an_order: Callable[..., dict[str, Any]]
) -> None:
    """Fails when a split order loses sight of its parts, or a part's id leads nowhere."""
    await http.post("/v1/orders", json=an_order())
    part = uuid4()
    await harness.receive([an_event(*STORY[0]), an_event(*STORY[4], order_id=part, root_id=ORDER)])
    for order_id in (ORDER, part):
        told = (await http.get(f"/v1/orders/{order_id}")).json()
        assert told["order_id"] == str(ORDER)
        assert [(piece["order_id"], piece["stage"]) for piece in told["parts"]] == [(str(part), "reserved")]
        assert [entry["order_id"] for entry in told["timeline"]] == [str(ORDER), str(part)]


async def test_what_is_parked_stands_in_the_book_at_once(
    harness: Harness, http: httpx.AsyncClient, an_order: Callable[..., dict[str, Any]]
) -> None:
    await http.post("/v1/orders", json=an_order(payment_state="unpaid"))
    await http.post("/v1/orders", json=an_order(source_version=101))
    _, order = await harness.emitted()
    assert isinstance(order, OrderReceived)
    await harness.receive([order])
    told = (await http.get(f"/v1/orders/{ORDER}")).json()
    assert [(entry["step"], entry["stage"], entry["code"]) for entry in told["timeline"]] == [
        (1, "parked", "unpaid"),
        (2, "received", "order_received"),
    ]
    assert told["stage"] == "received"


async def test_stuck_orders_are_those_without_progress_that_are_not_finished(
    harness: Harness, http: httpx.AsyncClient, event: Callable[..., ChannelOrder]
) -> None:
    """Fails when a finished order is called stuck, or one that even the book has not heard of is not."""
    numbers = ("done", "held", "silent", "fresh")
    await harness.receive([event(number) for number in numbers])
    ids = {number: order_id_of("taobao", "小店", number) for number in numbers}
    await harness.receive([an_event(*STORY[0], order_id=ids["done"]), an_event(*STORY[8], order_id=ids["done"])])
    await harness.receive([an_event(*STORY[1], order_id=ids["held"])])
    harness.clock.advance(minutes=31)
    await harness.receive([an_event(*STORY[2], order_id=ids["fresh"])])

    async def found(**query: str | int) -> list[str]:
        page = (await http.get("/v1/orders", params={"sort": "received_at", **query})).json()
        return sorted(item["channel_order_no"] for item in page["items"])

    assert await found(stuck_minutes=30) == ["held", "silent"]
    assert await found(stuck_minutes=32) == []
    assert await found(stage="held") == ["held"]
    assert await found(stage="delivered") == ["done"]
    stages = {stage["stage"]: stage["count"] for stage in (await http.get("/v1/stages")).json()}
    assert stages == {"held": 1, "cleared": 1, "delivered": 1}


async def test_a_service_or_stage_younger_than_the_book_does_no_harm(harness: Harness) -> None:
    """Fails when a reader has to be deployed before a writer may say a new word."""
    result = await harness.receive([an_event("order.held", 1, "pondered", "something_new", {})], source="/oracle")
    assert (result.parked, result.quarantined) == ([], [])
    async with harness.runtime.work() as work:
        told = (await work.connection.execute(text("SELECT service, stage FROM timeline"))).all()
    assert [tuple(row) for row in told] == [("oracle", "pondered")]
