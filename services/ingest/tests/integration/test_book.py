"""The order book: what every stage reports, folded and told."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from fastapi import FastAPI
from sqlalchemy import text

from contracts import TOPICS, ChannelOrder, OrderReceived, VoucherPosted
from contracts.envelope import OrderEvent
from eventing.testing import Harness
from ingest.app import BOOK_TOPICS
from ingest.domain.identity import order_id_of
from webapi.testing import as_caller

EXAMPLES = Path(__file__).parents[4] / "libs/contracts/examples"
MODELS = {topic.name: topic.events[0] for topic in TOPICS.values() if topic.events}
ORDER = order_id_of("taobao", "小店", "T-1")
STORY: tuple[tuple[str, int, str, str, dict[str, Any], int], ...] = (
    ("order.received", 1, "received", "order_received", {"channel": "taobao", "lines": 2, "paid_minor": 28393}, 0),
    ("order.held", 1, "held", "address_incomplete", {"grade": "street_short"}, 0),
    ("order.audited", 2, "cleared", "order_cleared", {"rules": 5, "version": 3}, 0),
    ("stock.backordered", 1, "backordered", "stock_short", {"short": ["DRESS"]}, 1),
    ("stock.reserved", 2, "reserved", "stock_reserved", {"pool": "main", "places": 4}, 2),
    ("order.routed", 1, "routed", "order_routed", {"candidates": 4, "eligible": 4, "place": "杭州仓", "cost_minor": 800}, 2),
    ("stock.allocated", 3, "allocated", "stock_allocated", {"place": "杭州仓", "plan": 1, "plans": 4}, 2),
    ("shipment.created", 2, "shipped", "parcel_shipped", {"place": "杭州仓", "carrier": "sf", "waybill_no": "SF1"}, 2),
    ("shipment.progressed", 3, "delivered", "parcel_delivered", {}, 2),
    ("voucher.posted", 1, "posted", "voucher_posted", {"word": "记", "number": 1, "template": "paid", "total_minor": 1}, 0),
)
LATER = ("allocation.returned", "cancellation.settled", "return.received", "refund.settled")
"""Topics of the book that the usual order never sees."""


def an_event(
    topic: str,
    step: int,
    stage: str,
    code: str,
    params: dict[str, Any],
    attempt: int = 0,
    *,
    order_id: UUID = ORDER,
    root_id: UUID | None = None,
    **fields: Any,
) -> OrderEvent:
    """The golden example of the topic's first type, with another order and progress."""
    model = MODELS[topic]
    example = json.loads((EXAMPLES / f"{topic}.{model.TYPE}.v1.json").read_text())
    progress = {"step": step, "stage": stage, "code": code, "params": params, "attempt": attempt}
    ids = {"order_id": str(order_id), "root_id": str(root_id or order_id)}
    event = model.model_validate_json(json.dumps(example | ids | {"progress": progress} | fields))
    assert isinstance(event, OrderEvent)
    return event


def a_story(order_id: UUID = ORDER) -> list[OrderEvent]:
    return [an_event(*chapter, order_id=order_id) for chapter in STORY]


def of_part(
    order_id: UUID, root_id: UUID, stage: str, step: int = 1, *, attempt: int = 1, replaces: tuple[UUID, ...] = ()
) -> OrderEvent:
    """What inventory says of one of several orders."""
    topic = {"reserved": "stock.reserved", "backordered": "stock.backordered", "allocated": "stock.allocated"}.get(
        stage, "stock.allocated"
    )
    replaced = [str(parent) for parent in replaces]
    return an_event(topic, step, stage, "stock_reserved", {}, attempt, order_id=order_id, root_id=root_id, replaces=replaced)


async def seen_in_list(http: httpx.AsyncClient, **query: str | int) -> list[tuple[str, str]]:
    page = (await http.get("/v1/orders", params={"sort": "received_at", **query})).json()
    return sorted((item["channel_order_no"], item["stage"]) for item in page["items"])


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
    assert {chapter[0] for chapter in STORY} | set(LATER) == set(BOOK_TOPICS)


async def test_deliveries_in_any_order_and_number_end_in_the_same_book(harness: Harness) -> None:
    """Fails when a redelivery doubles a line, or a late one takes the order back a stage."""
    events = a_story() + a_story(uuid4())
    await harness.receive(events)
    wanted = await state(harness)
    records = [record for topic in BOOK_TOPICS for record in harness.bus.records(topic)]
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
    """Fails when an order that gave back a part loses sight of it, or a part's id leads nowhere."""
    await http.post("/v1/orders", json=an_order())
    part = uuid4()
    await harness.receive([an_event(*STORY[0]), of_part(part, ORDER, "reserved")])
    await harness.receive([an_event(*STORY[7])])  # Of the order itself: its header does not say that it has parts.
    assert await seen_in_list(http, stage="part_shipped") == [("T-1", "part_shipped")]
    for order_id in (ORDER, part):
        told = (await http.get(f"/v1/orders/{order_id}")).json()
        assert (told["order_id"], told["stage"], told["finished"]) == (str(ORDER), "part_shipped", False)
        assert [(piece["order_id"], piece["stage"]) for piece in told["parts"]] == [
            (str(ORDER), "shipped"),
            (str(part), "reserved"),
        ]
        assert {entry["order_id"] for entry in told["timeline"]} == {str(ORDER), str(part)}
    assert told["why"].startswith("1 of 2 parts have left; ")
    assert told["why_zh"].startswith("2 个包裹中已发出 1 个；")


async def test_a_split_order_is_shown_by_its_parts_and_found_by_what_they_come_to(
    harness: Harness, http: httpx.AsyncClient, an_order: Callable[..., dict[str, Any]]
) -> None:
    """Fails when the order that was split still counts, or list, filter, detail and counts disagree about its stage."""
    await http.post("/v1/orders", json=an_order())
    first, second = uuid4(), uuid4()
    await harness.receive(
        [
            an_event(*STORY[0]),
            an_event(*STORY[2]),
            of_part(first, ORDER, "reserved", replaces=(ORDER,)),
            of_part(second, ORDER, "backordered", replaces=(ORDER,)),
        ]
    )
    for events, wanted in (
        ([], "backordered"),
        ([of_part(first, ORDER, "shipped", 2)], "part_shipped"),
        ([of_part(second, ORDER, "cancelled", 2)], "shipped"),
        ([of_part(first, ORDER, "delivered", 3)], "delivered"),
    ):
        await harness.receive(events)
        assert (await http.get(f"/v1/orders/{second}")).json()["stage"] == wanted
        assert await seen_in_list(http, stage=wanted) == [("T-1", wanted)]
        assert {row["stage"]: row["count"] for row in (await http.get("/v1/stages")).json()} == {wanted: 1}
    told = (await http.get(f"/v1/orders/{ORDER}")).json()
    assert {piece["order_id"] for piece in told["parts"]} == {str(first), str(second)}


async def test_merged_orders_are_each_shown_where_the_merged_one_is(
    harness: Harness, http: httpx.AsyncClient, event: Callable[..., ChannelOrder]
) -> None:
    """Fails when a merged order stays `cleared` for ever, or counts once more beside its parents."""
    await harness.receive([event(number) for number in ("M-1", "M-2")])
    parents = tuple(order_id_of("taobao", "小店", number) for number in ("M-1", "M-2"))
    merged, child = uuid4(), uuid4()
    for parent in parents:
        await harness.receive([an_event(*STORY[0], order_id=parent)])
    replaces = [str(parent) for parent in parents]
    await harness.receive([an_event(*STORY[2], order_id=merged, replaces=replaces)])
    assert await seen_in_list(http, stage="cleared") == [("M-1", "cleared"), ("M-2", "cleared")]
    await harness.receive([of_part(merged, merged, "shipped"), of_part(child, merged, "reserved")])
    assert await seen_in_list(http) == [("M-1", "part_shipped"), ("M-2", "part_shipped")]
    assert {row["stage"]: row["count"] for row in (await http.get("/v1/stages")).json()} == {"part_shipped": 2}
    for parent in parents:
        told = (await http.get(f"/v1/orders/{parent}")).json()
        assert {piece["order_id"] for piece in told["parts"]} == {str(merged), str(child)}
        assert told["order_id"] == str(parent)
    assert (await http.get(f"/v1/orders/{child}")).json()["order_id"] in replaces


async def test_an_order_taken_up_again_is_shown_with_the_cancelled_one(
    harness: Harness, http: httpx.AsyncClient, an_order: Callable[..., dict[str, Any]]
) -> None:
    """Fails when a revived order hides behind its cancelled first, or its id leads nowhere."""
    await http.post("/v1/orders", json=an_order())
    again = uuid4()
    cancelled = an_event("cancellation.settled", 2, "cancelled", "cancelled_held", {})
    await harness.receive([an_event(*STORY[0]), cancelled])
    assert await seen_in_list(http) == [("T-1", "cancelled")]
    revived = an_event(*STORY[0][:3], "order_revived", {"again": 1}, order_id=again, revives=str(ORDER))
    await harness.receive([revived, of_part(again, again, "reserved")])
    assert await seen_in_list(http) == [("T-1", "reserved")]
    told = (await http.get(f"/v1/orders/{again}")).json()
    assert (told["order_id"], told["stage"]) == (str(ORDER), "reserved")
    assert {piece["order_id"] for piece in told["parts"]} == {str(ORDER), str(again)}


async def test_splits_and_merges_in_any_order_of_arrival_end_in_the_same_book(harness: Harness) -> None:
    """Fails when what an order comes to is derived from what had arrived, and not derived again."""
    one, two, merged, again = (UUID(int=number) for number in range(1, 5))
    left, right = uuid4(), uuid4()
    story = [
        *(an_event(*STORY[0], order_id=parent) for parent in (one, two)),
        an_event("cancellation.settled", 2, "cancelled", "cancelled_held", {}, order_id=one),
        an_event(*STORY[0][:3], "order_revived", {"again": 1}, order_id=again, revives=str(one)),
        *(an_event(*STORY[2], order_id=parent) for parent in (again, two)),
        an_event(*STORY[2], order_id=merged, replaces=[str(again), str(two)]),
        of_part(merged, merged, "reserved"),
        of_part(left, merged, "allocated", replaces=(merged,)),
        of_part(right, merged, "backordered", replaces=(merged,)),
        of_part(left, merged, "shipped", 2),
        of_part(right, merged, "reserved", 2, attempt=2),
    ]
    await harness.receive(story)
    shown = text("SELECT order_id, root_id, stage, since, replaced, joined FROM order_stage ORDER BY order_id")
    async with harness.runtime.work() as work:
        wanted = (await work.connection.execute(shown)).all()
    assert [(row.order_id.int, row.stage) for row in wanted[:4]] == [(1, 89), (2, 89), (3, None), (4, None)]
    records = [record for topic in BOOK_TOPICS for record in harness.bus.records(topic)]
    for seed in range(12):
        async with harness.runtime.work() as work:
            await work.connection.execute(text("TRUNCATE order_stage, order_link, timeline"))
        shuffled = records * 2
        random.Random(seed).shuffle(shuffled)
        while shuffled:
            await harness.deliver([shuffled.pop() for _ in range(min(1 + seed % 4, len(shuffled)))])
        async with harness.runtime.work() as work:
            assert (await work.connection.execute(shown)).all() == wanted, seed


async def test_an_order_sent_back_by_its_place_is_shown_as_reserved_again(
    harness: Harness, http: httpx.AsyncClient, an_order: Callable[..., dict[str, Any]]
) -> None:
    """Fails when the attempt does not reach the book: `allocated` of the first would outrank `reserved` of the second."""
    await http.post("/v1/orders", json=an_order())
    back = an_event("allocation.returned", 2, "returned", "place_rejected", {"place": "杭州仓"}, 2)
    await harness.receive([*a_story()[:7], back])
    assert await seen_in_list(http) == [("T-1", "returned")]
    await harness.receive([of_part(ORDER, ORDER, "reserved", 4, attempt=3)])
    assert await seen_in_list(http, stage="reserved") == [("T-1", "reserved")]


async def test_two_events_that_claim_one_step_are_both_shown(
    harness: Harness, http: httpx.AsyncClient, an_order: Callable[..., dict[str, Any]]
) -> None:
    """Fails when the second of two events of one step is lost, or looks like the only one."""
    await http.post("/v1/orders", json=an_order())
    await harness.receive([an_event(*STORY[0]), an_event(*STORY[2]), an_event(*STORY[2])])
    told = (await http.get(f"/v1/orders/{ORDER}")).json()
    assert [entry["conflict"] for entry in told["timeline"]] == [False, True, True]


async def test_vouchers_of_stock_documents_are_none_of_the_books_business(harness: Harness) -> None:
    """Fails when a stock document is taken for an order."""
    voucher = an_event(*STORY[9], about="stock")
    assert isinstance(voucher, VoucherPosted)
    await harness.receive([voucher])
    async with harness.runtime.work() as work:
        assert (await work.connection.execute(text("SELECT count(*) FROM timeline"))).scalar_one() == 0


async def test_where_many_orders_are_is_one_question(
    harness: Harness, http: httpx.AsyncClient, an_order: Callable[..., dict[str, Any]]
) -> None:
    """Fails when an unknown order is left out, answers change their order, or a split order answers for itself."""
    await http.post("/v1/orders", json={"orders": [an_order(number) for number in ("T-1", "T-2")]})
    await harness.receive([an_event(*STORY[0]), of_part(uuid4(), ORDER, "reserved", replaces=(ORDER,))])
    names = [{"channel": "taobao", "shop_id": "小店", "channel_order_no": number} for number in ("T-2", "?", "T-1", "T-2")]
    answer = await http.post("/v1/orders/status", json={"orders": names})
    assert [status["stage"] for status in answer.json()["statuses"]] == ["received", None, "reserved", "received"]
    assert answer.json()["statuses"][2]["order_id"] == str(ORDER)
    for wrong in ([], names * 126, [names[0] | {"channel": 1}], [names[0] | {"extra": 1}]):
        assert (await http.post("/v1/orders/status", json={"orders": wrong})).status_code == 422


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


async def test_a_part_that_is_stuck_makes_its_order_stuck(
    harness: Harness, http: httpx.AsyncClient, an_order: Callable[..., dict[str, Any]]
) -> None:
    """Fails when a part that moves hides one that does not."""
    await http.post("/v1/orders", json=an_order())
    still, moving = uuid4(), uuid4()
    await harness.receive([of_part(part, ORDER, "reserved", replaces=(ORDER,)) for part in (still, moving)])
    harness.clock.advance(minutes=31)
    await harness.receive([of_part(moving, ORDER, "allocated", 2)])
    assert await seen_in_list(http, stuck_minutes=30) == [("T-1", "reserved")]
    stuck = (await http.get("/v1/stages", params={"stuck_minutes": 30})).json()
    assert [(row["stage"], row["count"]) for row in stuck] == [("reserved", 1)]
    assert (await http.get("/v1/stages", params={"stuck_minutes": 32})).json() == []


async def test_what_a_viewer_reads_names_nobody(
    harness: Harness, app: FastAPI, http: httpx.AsyncClient, an_order: Callable[..., dict[str, Any]]
) -> None:
    """Fails when a name, a phone, a street or a note comes out of the book."""
    order = an_order()
    await http.post("/v1/orders", json=order)
    await harness.receive(a_story())
    private = [order["receiver"][name] for name in ("name", "phone", "street")]
    async with as_caller(app, roles=["viewer"], principal="li") as viewer:
        names = {name: order[name] for name in ("channel", "shop_id", "channel_order_no")}
        answers = [
            await viewer.get("/v1/orders"),
            await viewer.get(f"/v1/orders/{ORDER}"),
            await viewer.get("/v1/orders/by-channel/taobao/小店/T-1"),
            await viewer.get("/v1/stages"),
            await viewer.post("/v1/orders/status", json={"orders": [names]}),
        ]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert not [word for word in private for answer in answers if word in answer.text]


async def test_a_service_or_stage_younger_than_the_book_does_no_harm(harness: Harness) -> None:
    """Fails when a reader has to be deployed before a writer may say a new word."""
    result = await harness.receive([an_event("order.held", 1, "pondered", "something_new", {})], source="/oracle")
    assert (result.parked, result.quarantined) == ([], [])
    async with harness.runtime.work() as work:
        told = (await work.connection.execute(text("SELECT service, stage FROM timeline"))).all()
    assert [tuple(row) for row in told] == [("oracle", "pondered")]
