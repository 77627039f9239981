"""Orders taken up again, merged, split or refunded together: one channel order in several hands."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4, uuid5

import httpx
import pytest
from sqlalchemy import text

from contracts import (
    CancellationSettled,
    CancelRequested,
    CatalogItem,
    ChangeRequested,
    ChangeSettled,
    ChannelOrder,
    Event,
    OrderReceived,
    ReceiverSealed,
    RefundSettled,
    SettledLine,
)
from contracts.envelope import Progress
from eventing.testing import Harness
from ingest.domain.identity import order_id_of

Make = Callable[..., dict[str, Any]]
MakeEvent = Callable[..., ChannelOrder]
ORDER = order_id_of("taobao", "小店", "T-1")
AGAIN = uuid5(ORDER, "again:1")
DRESS, SOCK = (ORDER, 1, "DRESS"), (ORDER, 2, "SOCK")
BY_CHANNEL = "/v1/orders/by-channel/taobao/小店/T-1"


def all_of(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def units(event: Any) -> dict[tuple[UUID, int, str], int]:
    return {tuple(line.key): line.quantity for line in event.lines}


def settled(
    request_id: UUID | str, *lines: tuple[tuple[UUID, int, str], int, int], root: UUID = ORDER, **more: Any
) -> CancellationSettled:
    return CancellationSettled(
        root_id=root,
        order_id=root,
        progress=Progress(step=1, stage="reserved", code="cancelled_reserved"),
        request_id=UUID(str(request_id)),
        settled_by="inventory",
        lines=[
            SettledLine(
                origin_order_id=key[0], origin_line=key[1], sku_id=key[2], cancelled=cancelled, refused=refused, code="too_late"
            )
            for key, cancelled, refused in lines
        ],
        **more,
    )


async def state_of(harness: Harness, order_id: UUID) -> str:
    async with harness.runtime.work() as work:
        found = await work.connection.execute(text("SELECT state FROM channel_order WHERE order_id = :id"), {"id": order_id})
        return str(found.scalar_one())


@pytest.fixture
async def revived(harness: Harness, event: MakeEvent, http: httpx.AsyncClient) -> Harness:
    """With the usual order sent and its dresses cancelled and taken up again, under an order of their own."""
    await harness.receive([event()])
    path = f"/v1/orders/{ORDER}/cancellation"
    body = {"reason": "buyer_asked", "lines": [{"line": 1}], "reference": "C-1"}
    request_id = (await http.post(path, json=body)).json()["request_id"]
    await harness.receive([settled(request_id, (DRESS, 2, 0))])
    await http.delete(f"/v1/cancellations/{request_id}", params={"reason": "thought again"})
    assert all_of(await harness.emitted(), OrderReceived)[-1].order_id == AGAIN
    return harness


async def test_a_newer_version_is_told_to_every_order_of_the_family_that_is_alive(
    revived: Harness, event: MakeEvent, an_order: Make
) -> None:
    """Fails when the second order keeps the old receiver, or money is told twice."""
    receiver = {**an_order()["receiver"], "street": "文一西路 970 号"}
    lines = [line | ({"unit_list_price_minor": 6000} if line["sku_id"] == "SOCK" else {}) for line in an_order()["lines"]]
    emitted = (await revived.receive([event(source_version=101, receiver=receiver, lines=lines, paid_minor=None)])).emitted
    (sealed,) = all_of(emitted, ReceiverSealed)
    first, second = all_of(emitted, ChangeRequested)
    assert (first.root_id, second.root_id) == (ORDER, AGAIN)
    assert (first.fields, second.fields) == (["receiver", "money"], ["receiver"])
    assert {first.order.receiver_ref, second.order.receiver_ref} == {sealed.receiver_ref}
    assert (second.order.order_id, second.order.again) == (AGAIN, 1)
    assert [(money.origin_line, money.current.paid_minor) for money in first.money] == [(2, 6000)]
    assert second.money == []
    assert [line.sku_id for line in first.part.lines] == ["SOCK"]
    assert [line.sku_id for line in second.part.lines] == ["DRESS"]


async def test_a_version_that_closes_cancels_every_order_of_the_family(revived: Harness, event: MakeEvent) -> None:
    """Fails when the order taken up again goes out although the buyer has cancelled all."""
    emitted = (await revived.receive([event(source_version=101, trade_state="cancelled")])).emitted
    assert {asked.root_id: units(asked) for asked in all_of(emitted, CancelRequested)} == {AGAIN: {DRESS: 2}, ORDER: {SOCK: 1}}


async def test_a_reference_is_one_cancel_whichever_order_of_the_family_it_finds(
    revived: Harness, http: httpx.AsyncClient
) -> None:
    """Fails when a channel that repeats its call cancels what was taken up again since."""
    body = {"reason": "buyer_asked", "lines": [{"line": 1}], "reference": "C-1"}
    answer = await http.post(f"{BY_CHANNEL}/cancellation", json=body)
    assert (answer.status_code, answer.json()["order_id"], answer.json()["state"]) == (202, str(ORDER), "withdrawn")
    assert await revived.emitted() == []


async def test_an_order_taken_up_again_is_erased_with_its_first(revived: Harness, http: httpx.AsyncClient) -> None:
    """Fails when the second order, which has no document of its own, is opened, or keeps masks and tokens."""
    answer = await http.post(f"/v1/orders/{AGAIN}/erasure", json={"reason": "asked", "force": True})
    assert (answer.status_code, answer.json()["order_id"]) == (200, str(ORDER)), answer.text
    async with revived.runtime.work() as work:
        blocks = list((await work.connection.execute(text("SELECT block FROM order_document"))).scalars())
    assert len(blocks) == 2
    assert not [block for block in blocks if "欧" in block or '"138' in block]


async def test_answers_under_a_merged_root_reach_the_order_that_asked(
    harness: Harness, event: MakeEvent, http: httpx.AsyncClient
) -> None:
    """Fails when a request of one parent stays open, or closes the other's, because the answer names the merged order."""
    await harness.receive([event("T-1"), event("T-2")])
    other, merged = order_id_of("taobao", "小店", "T-2"), uuid4()
    request_id = (await http.post(f"/v1/orders/{ORDER}/cancellation", json={"reason": "buyer_asked"})).json()["request_id"]
    await harness.receive([settled(request_id, (DRESS, 2, 0), root=merged)])
    await harness.receive([settled(request_id, (SOCK, 0, 1), root=merged)])
    told = (await http.get(f"/v1/cancellations/{request_id}")).json()
    assert (told["state"], [(line["cancelled"], line["refused"]) for line in told["lines"]]) == ("closed", [(2, 0), (0, 1)])
    by_place = uuid4()
    both = [((other, 1, "DRESS"), 1, 0), (SOCK, 1, 0)]
    await harness.receive([settled(by_place, *both, root=merged, reason="operator", requested_by="user:li")])
    told = (await http.get(f"/v1/cancellations/{by_place}")).json()
    assert {line["line"]: line["cancelled"] for line in told["lines"]} == {1: 1, 2: 1}
    assert (await state_of(harness, ORDER), await state_of(harness, other)) == ("cancelled", "sent")


async def test_money_that_went_back_meanwhile_stops_a_revival(
    harness: Harness, event: MakeEvent, http: httpx.AsyncClient
) -> None:
    """Fails when goods go out again whose refund came between the withdrawal and the last answer."""
    await harness.receive([event()])
    body = {"reason": "buyer_asked", "lines": [{"line": 1}]}
    request_id = (await http.post(f"/v1/orders/{ORDER}/cancellation", json=body)).json()["request_id"]
    await http.delete(f"/v1/cancellations/{request_id}", params={"reason": "thought again"})
    refund = {"refund_id": "R-1", "lines": [{"line": 1, "amount_minor": 100}], "settled_at": "2026-03-02T09:00:00Z"}
    assert (await http.post(f"/v1/orders/{ORDER}/refunds", json={**refund, "reason": "x"})).status_code == 202
    await harness.emitted()
    assert (await harness.receive([settled(request_id, (DRESS, 2, 0))])).emitted == []
    kinds = [case["kind"] for case in (await http.get("/v1/cases")).json()["items"]]
    assert kinds == ["revival_refused"]


async def test_an_answer_to_a_change_of_an_order_that_never_was_is_parked(harness: Harness) -> None:
    """Fails when an impossible answer is dropped without a trace."""
    root = uuid4()
    answer = ChangeSettled(
        root_id=root,
        order_id=root,
        progress=Progress(step=1, stage="held", code="change_refused"),
        request_id=uuid4(),
        settled_by="audit",
        refused=["money"],
        code="change_refused",
    )
    assert len((await harness.receive([answer])).parked) == 1


# Acts by the id of a part


async def book_split(harness: Harness, *orders: tuple[UUID, UUID]) -> None:
    async with harness.runtime.work() as work:
        for order_id, root_id in orders:
            await work.connection.execute(
                text("INSERT INTO order_stage (order_id, root_id, inventory, progress_at) VALUES (:id, :root, 1001060, now())"),
                {"id": order_id, "root": root_id},
            )


async def test_acts_take_the_id_of_a_part_and_mean_the_whole_order(
    harness: Harness, event: MakeEvent, http: httpx.AsyncClient
) -> None:
    """As GET does. Fails when an operator who looks at a part gets a 404 for what is on the screen."""
    await harness.receive([event()])
    part = uuid4()
    await book_split(harness, (ORDER, ORDER), (part, ORDER))
    body = {"reason": "buyer_asked", "lines": [{"line": 2}]}
    answer = await http.post(f"/v1/orders/{part}/cancellation", json=body)
    assert (answer.status_code, answer.json()["order_id"]) == (202, str(ORDER)), answer.text
    refund = {"refund_id": "R-1", "amount_minor": 100, "settled_at": "2026-03-02T09:00:00Z", "reason": "x"}
    assert (await http.post(f"/v1/orders/{part}/refunds", json=refund)).json()["order_id"] == str(ORDER)
    assert len((await http.get(f"/v1/orders/{part}/refunds")).json()) == 1


async def test_acts_on_a_merged_order_name_the_orders_in_it(
    harness: Harness, event: MakeEvent, http: httpx.AsyncClient
) -> None:
    """Fails when a cancel of a parcel of two buyers' orders takes one of them by chance."""
    await harness.receive([event("T-1"), event("T-2")])
    other, merged, child = order_id_of("taobao", "小店", "T-2"), uuid4(), uuid4()
    await book_split(harness, (ORDER, ORDER), (other, other), (merged, merged), (child, merged))
    async with harness.runtime.work() as work:
        for parent in (ORDER, other):
            await work.connection.execute(
                text("INSERT INTO order_link VALUES (:id, :merged, :merged, false)"), {"id": parent, "merged": merged}
            )
    for named in (merged, child):
        answer = await http.post(f"/v1/orders/{named}/cancellation", json={"reason": "buyer_asked"})
        assert (answer.status_code, answer.json()["code"]) == (409, "order_of_several")
        assert str(ORDER) in answer.json()["detail"]
        assert str(other) in answer.json()["detail"]
    assert all_of(await harness.emitted(), CancelRequested) == []


# Refunds that name each other


def refunded(event: MakeEvent, an_order: Make, number: str, **changes: Any) -> ChannelOrder:
    lines = [
        line | ({"refund_state": "refunded", "refund_id": "R-7"} if line["sku_id"] == "SOCK" else {})
        for line in an_order()["lines"]
    ]
    return event(number, source_version=101, lines=lines, **changes)


async def test_a_refund_id_of_one_shop_says_nothing_of_another(harness: Harness, event: MakeEvent, an_order: Make) -> None:
    """Fails when a batch of two shops' versions takes one shop's refund for the other's, and its money is never told."""
    await harness.receive([event("T-1"), event("T-2", shop_id="b"), event("T-3")])
    await harness.receive([refunded(event, an_order, "T-1")])
    emitted = (await harness.receive([refunded(event, an_order, "T-3"), refunded(event, an_order, "T-2", shop_id="b")])).emitted
    assert [told.order.shop_id for told in all_of(emitted, RefundSettled)] == ["b"]


async def test_one_refund_id_on_two_orders_of_a_batch_is_told_once(
    harness: Harness, an_order: Make, event: MakeEvent, http: httpx.AsyncClient
) -> None:
    """Fails when the batch is an error for ever: every repetition would meet itself again."""
    await harness.receive([event("T-1"), event("T-2")])
    await harness.emitted()
    versions = [refunded(event, an_order, number).model_dump(mode="json", exclude_unset=True) for number in ("T-1", "T-2")]
    answer = await http.post("/v1/orders", json={"orders": versions})
    assert answer.status_code == 202, answer.text
    assert len(all_of(await harness.emitted(), RefundSettled)) == 1


async def test_one_refund_id_of_two_orders_at_once_is_told_once(
    harness: Harness, an_order: Make, event: MakeEvent, http: httpx.AsyncClient
) -> None:
    """Fails when two callers at the same moment are an error of ours, or the money is told twice."""
    for turn in range(5):
        numbers = (f"A-{turn}", f"B-{turn}")
        await harness.receive([event(number) for number in numbers])
        await harness.emitted()
        bodies = [refunded(event, an_order, number).model_dump(mode="json", exclude_unset=True) for number in numbers]
        for body in bodies:
            body["lines"][1]["refund_id"] = f"R-{turn}"
        answers = await asyncio.gather(*(http.post("/v1/orders", json=body) for body in bodies))
        assert {answer.status_code for answer in answers} <= {202, 503}, [answer.text for answer in answers]
        for body in bodies:
            assert (await http.post("/v1/orders", json=body)).status_code == 202
        assert len(all_of(await harness.emitted(), RefundSettled)) == 1


# What a version leaves out


async def test_a_line_that_is_gone_takes_its_money_along(harness: Harness, event: MakeEvent, an_order: Make) -> None:
    """Fails when a buyer takes a line off the order and the books go on owing him its goods."""
    await harness.receive([event()])
    gone = event(source_version=101, lines=an_order()["lines"][:1], paid_minor=None)
    emitted = (await harness.receive([gone])).emitted
    assert [units(asked) for asked in all_of(emitted, CancelRequested)] == [{SOCK: 1}]
    (change,) = all_of(emitted, ChangeRequested)
    assert change.fields == ["money"]
    assert [(money.origin_line, money.previous.paid_minor, money.current.paid_minor) for money in change.money] == [
        (2, 5990, 0)
    ]


async def test_a_refunded_line_that_is_gone_later_moves_no_money_again(
    harness: Harness, event: MakeEvent, an_order: Make
) -> None:
    """Fails when the books take a line's money off twice: by its refund, and when the channel stops listing it."""
    await harness.receive([event()])
    await harness.receive([refunded(event, an_order, "T-1")])
    gone = event(source_version=102, lines=an_order()["lines"][:1], paid_minor=None)
    emitted = (await harness.receive([gone])).emitted
    assert [money for change in all_of(emitted, ChangeRequested) for money in change.money] == []


async def test_goods_that_replace_the_only_line_are_asked_for_although_nothing_is_left(
    harness: Harness, event: MakeEvent, an_order: Make, http: httpx.AsyncClient
) -> None:
    """Fails when a swap of all the goods cancels the old ones and forgets the new ones and their money."""
    dress = an_order()["lines"][0]
    plain = {"freight_list_minor": 0, "payments": [], "paid_minor": None}
    await harness.receive([event(lines=[dress], **plain)])
    sock = {"channel_line_id": "1", "sku_id": "SOCK", "quantity": 3, "unit_list_price_minor": 5990}
    emitted = (await harness.receive([event(source_version=101, lines=[sock], **plain)])).emitted
    assert [units(asked) for asked in all_of(emitted, CancelRequested)] == [{DRESS: 2}]
    (change,) = all_of(emitted, ChangeRequested)
    assert change.fields == ["lines", "money"]
    assert [(line.sku_id, line.quantity, line.paid_minor) for line in change.part.lines] == [("SOCK", 3, 17970)]
    assert {(money.sku_id, money.previous.paid_minor, money.current.paid_minor) for money in change.money} == {
        ("DRESS", 21403, 0),
        ("SOCK", 0, 17970),
    }


# Waking


async def test_orders_behind_a_batch_that_waits_on_wake_all_the_same(
    bare: Harness, event: MakeEvent, an_order: Make, an_item: Callable[..., CatalogItem]
) -> None:
    """Fails when a batch (three, here) that still lacks another item ends the waking, and the orders behind it stay."""
    await bare.apply([an_item("SOCK")])
    await bare.receive([event(f"B-{number}") for number in range(2)])
    hat = {"channel_line_id": "3", "sku_id": "HAT", "quantity": 1, "unit_list_price_minor": 1}
    lines = [*an_order()["lines"], hat]
    await bare.receive([event(f"A-{number}", lines=lines, paid_minor=None) for number in range(20)])
    await bare.apply([an_item("DRESS")])
    await bare.run_due_tasks("wake_parked")
    numbers = [told.order.channel_order_no for told in all_of(list(await bare.emitted()), OrderReceived)]
    assert sorted(numbers) == ["B-0", "B-1"]
