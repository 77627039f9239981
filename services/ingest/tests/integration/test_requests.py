"""Cancels, withdrawals, changes, refunds, receipts and newer versions, over HTTP and topics."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID, uuid4, uuid5

import httpx
import pytest
from sqlalchemy import text

from contracts import (
    CancellationSettled,
    CancelRequested,
    CancelWithdrawn,
    CatalogItem,
    ChangeRequested,
    ChangeSettled,
    ChannelOrder,
    Event,
    OrderReceived,
    ReceiptConfirmed,
    ReceiverSealed,
    RefundSettled,
    SettledLine,
)
from contracts.envelope import Progress
from eventing.testing import Harness
from ingest.domain.identity import order_id_of
from webapi.testing import as_caller

Make = Callable[..., dict[str, Any]]
MakeEvent = Callable[..., ChannelOrder]
Item = Callable[..., CatalogItem]
ORDER = order_id_of("taobao", "小店", "T-1")
DRESS, SOCK = (ORDER, 1, "DRESS"), (ORDER, 2, "SOCK")
AT = "2026-03-02T09:00:00Z"


def only(events: Sequence[Event], kind: type[Any]) -> Any:
    (event,) = [event for event in events if isinstance(event, kind)]
    return event


def quantities(event: Any) -> dict[tuple[UUID, int, str], int]:
    return {tuple(line.key): line.quantity for line in event.lines}


def settled(request_id: UUID | str, *lines: tuple[Any, int, int], root: UUID = ORDER, **changes: Any) -> CancellationSettled:
    return CancellationSettled(
        root_id=root,
        order_id=root,
        progress=Progress(step=1, stage="cleared", code="cancelled_held"),
        request_id=request_id,
        settled_by="audit",
        lines=[
            SettledLine(
                origin_order_id=key[0],
                origin_line=key[1],
                sku_id=key[2],
                cancelled=cancelled,
                refused=refused,
                code="cancelled_held" if cancelled else "too_late",
            )
            for key, cancelled, refused in lines
        ],
        **changes,
    )


@pytest.fixture
async def sent(harness: Harness, event: MakeEvent) -> Harness:
    """With the usual order sent: two dresses, a pair of socks."""
    await harness.receive([event()])
    return harness


async def cancel(http: httpx.AsyncClient, *lines: dict[str, Any], order: UUID = ORDER, **more: Any) -> httpx.Response:
    body = {"reason": "buyer_asked", **({"lines": list(lines)} if lines else {}), **more}
    return await http.post(f"/v1/orders/{order}/cancellation", json=body)


async def state_of(harness: Harness, order_id: UUID = ORDER) -> str:
    async with harness.runtime.work() as work:
        found = await work.connection.execute(text("SELECT state FROM channel_order WHERE order_id = :id"), {"id": order_id})
        return str(found.scalar_one())


async def cases(http: httpx.AsyncClient) -> list[tuple[str, str]]:
    return [(case["kind"], case["subject"]) for case in (await http.get("/v1/cases")).json()["items"]]


# Cancels


async def test_a_cancel_follows_its_order_and_closes_when_all_is_answered(sent: Harness, http: httpx.AsyncClient) -> None:
    """Fails when a request is sent elsewhere than under its order's key, or closes before every unit was answered."""
    answer = await cancel(http, {"line": 1, "quantity": 1}, {"channel_line_id": "2"})
    assert answer.status_code == 202, answer.text
    asked = only(await sent.emitted(), CancelRequested)
    assert (asked.root_id, asked.order_id, asked.progress.step, asked.whole) == (ORDER, ORDER, 2, False)
    assert quantities(asked) == {DRESS: 1, SOCK: 1}
    assert str(asked.request_id) == answer.json()["request_id"]
    await sent.receive([settled(asked.request_id, (SOCK, 0, 1))])
    told = (await http.get(f"/v1/cancellations/{asked.request_id}")).json()
    assert (told["state"], [line["open"] for line in told["lines"]]) == ("open", [1, 0])
    await sent.receive([settled(asked.request_id, (DRESS, 1, 0))])
    told = (await http.get(f"/v1/cancellations/{asked.request_id}")).json()
    assert (told["state"], [(line["cancelled"], line["refused"]) for line in told["lines"]]) == ("closed", [(1, 0), (0, 1)])
    assert [line["why"] for line in told["lines"]] == ["cancelled while held by audit", "too late: already shipped"]
    assert await state_of(sent) == "sent"


async def test_a_wholly_cancelled_order_says_so_whatever_answers_first(sent: Harness, http: httpx.AsyncClient) -> None:
    """Fails when the order's state depends on the order or number of deliveries."""
    request_id = (await cancel(http)).json()["request_id"]
    assert only(await sent.emitted(), CancelRequested).whole
    pieces = [settled(request_id, (DRESS, 1, 0)), settled(request_id, (SOCK, 1, 0)), settled(request_id, (DRESS, 1, 0))]
    for position, piece in enumerate(pieces):
        same = uuid4()
        await sent.receive([piece], id=same)
        assert (await sent.receive([piece], id=same)).duplicates == 1
        assert await state_of(sent) == ("cancelled" if position == 2 else "sent")
    assert (await cancel(http)).json()["code"] == "nothing_left"


async def test_more_than_is_left_is_refused_with_the_line_and_what_is_left(sent: Harness, http: httpx.AsyncClient) -> None:
    """Fails when units can be asked for twice, or a caller is not told how many there are."""
    await cancel(http, {"line": 1, "quantity": 1})
    answer = await cancel(http, {"line": 1, "quantity": 2}, {"line": 2})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_much_asked")
    assert [(error["field"], error["reason"]) for error in answer.json()["errors"]] == [
        ("lines.0.quantity", "Line 1 has 1 left.")
    ]
    assert len([event for event in await sent.emitted() if isinstance(event, CancelRequested)]) == 1


async def test_a_repeated_cancel_is_one(sent: Harness, http: httpx.AsyncClient) -> None:
    """Fails when a retry, by key or by the channel's own reference, cancels twice."""
    first = await cancel(http, {"line": 1, "quantity": 1}, reference="C-9")
    again = await cancel(http, {"line": 1, "quantity": 1}, reference="C-9")
    assert first.json()["request_id"] == again.json()["request_id"]
    headers = {"Idempotency-Key": "k"}
    path, body = f"/v1/orders/{ORDER}/cancellation", {"reason": "buyer_asked", "lines": [{"line": 2}]}
    keyed = await http.post(path, json=body, headers=headers)
    assert (await http.post(path, json=body, headers=headers)).json() == keyed.json()
    assert len([event for event in await sent.emitted() if isinstance(event, CancelRequested)]) == 2


async def test_an_order_not_sent_yet_is_cancelled_at_once(harness: Harness, event: MakeEvent, http: httpx.AsyncClient) -> None:
    """Fails when a parked order cancelled in part is sent whole once it is paid, or a cancelled one is sent at all."""
    await harness.receive([event(payment_state="unpaid"), event("T-2", payment_state="unpaid")])
    part = await cancel(http, {"line": 1, "quantity": 1})
    assert (part.json()["state"], part.json()["lines"][0]["why"]) == ("closed", "cancelled before it was sent on")
    told = only(await harness.emitted(), CancellationSettled)
    assert (told.settled_by, told.progress.stage, told.lines[0].cancelled) == ("ingest", "parked", 1)
    whole = await cancel(http, order=order_id_of("taobao", "小店", "T-2"))
    assert whole.status_code == 202
    assert await state_of(harness, order_id_of("taobao", "小店", "T-2")) == "cancelled"
    ours = await harness.emitted()  # Our own answers come back by the topic, and change nothing.
    assert (await harness.receive([told, *ours])).parked == []
    result = await harness.receive([event(source_version=101), event("T-2", source_version=101)])
    order = only(result.emitted, OrderReceived)
    assert {line.sku_id: line.quantity for line in order.part.lines} == {"DRESS": 1, "SOCK": 1}
    both = order.part.lines[0].model_copy(update={"quantity": 2, "paid_minor": order.order.lines[0].paid_minor})
    assert (order.part.lines[0].paid_minor, both.paid_minor) == (both.divide(1)[0].paid_minor, 21403)
    assert quantities_left(await cancel(http)) == {1: 1, 2: 1}


def quantities_left(answer: httpx.Response) -> dict[int, int]:
    return {line["line"]: line["asked"] for line in answer.json()["lines"]}


async def test_what_a_stage_cancels_by_itself_is_a_request_too(sent: Harness, http: httpx.AsyncClient) -> None:
    request_id = uuid4()
    await sent.receive([settled(request_id, (DRESS, 2, 0), (SOCK, 1, 0), reason="order_rejected", requested_by="user:mei")])
    (told,) = (await http.get("/v1/cancellations", params={"order_id": str(ORDER)})).json()["items"]
    assert (told["state"], told["reason"], told["requested_by"]) == ("closed", "order_rejected", "user:mei")
    assert await state_of(sent) == "cancelled"


async def test_answers_that_cannot_be_are_parked(sent: Harness, http: httpx.AsyncClient) -> None:
    """Fails when a stage's impossible answer is booked, or stops the answers of other orders."""
    request_id = (await cancel(http, {"line": 1, "quantity": 1})).json()["request_id"]
    stranger = uuid4()
    result = await sent.receive(
        [settled(request_id, (DRESS, 2, 0)), settled(uuid4(), ((stranger, 1, "X"), 1, 0), root=stranger)]
    )
    assert sorted(fate.key for fate in result.parked) == sorted([str(ORDER), str(stranger)])


# Withdrawals


async def test_a_withdrawn_cancel_lets_go_and_revives_what_was_gone(sent: Harness, http: httpx.AsyncClient) -> None:
    """Fails when cancelled units of a withdrawn request are lost, revived twice, or under the old order."""
    request_id = (await cancel(http, {"line": 1})).json()["request_id"]
    await sent.receive([settled(request_id, (DRESS, 1, 0))])
    await sent.emitted()
    answer = await http.delete(f"/v1/cancellations/{request_id}", params={"reason": "buyer thought again"})
    assert (answer.status_code, answer.json()["state"]) == (202, "withdrawn"), answer.text
    assert only(await sent.emitted(), CancelWithdrawn).request_id == UUID(request_id)
    revived = only((await sent.receive([settled(request_id, (DRESS, 0, 1))])).emitted, OrderReceived)
    assert revived.order_id == revived.root_id == uuid5(ORDER, "again:1")
    assert (revived.revives, revived.order.again, revived.progress.code) == (ORDER, 1, "order_revived")
    assert {tuple(line.key): line.quantity for line in revived.part.lines} == {DRESS: 1}
    assert revived.part.freight == []
    again = await http.delete(f"/v1/cancellations/{request_id}", params={"reason": "once more"})
    assert again.json()["revived_as"] == str(revived.order_id)
    assert await sent.emitted() == []
    rest = await cancel(http, order=revived.order_id)
    assert rest.status_code == 202
    assert only(await sent.emitted(), CancelRequested).root_id == revived.order_id
    await sent.receive([settled(rest.json()["request_id"], (DRESS, 1, 0), root=revived.order_id)])
    assert await state_of(sent, revived.order_id) == "cancelled"
    assert await state_of(sent) == "sent"


async def test_a_closed_cancel_is_revived_at_once_with_its_freight(sent: Harness, http: httpx.AsyncClient) -> None:
    request_id = (await cancel(http)).json()["request_id"]
    await sent.receive([settled(request_id, (DRESS, 2, 0), (SOCK, 1, 0))])
    await sent.emitted()
    await http.delete(f"/v1/cancellations/{request_id}", params={"reason": "x"})
    revived = only(await sent.emitted(), OrderReceived)
    assert [line.paid_minor for line in revived.part.lines] == [21403, 5990]
    assert revived.part.freight[0].paid_minor == 1000


async def test_what_was_refunded_is_not_taken_up_again(sent: Harness, http: httpx.AsyncClient) -> None:
    """Fails when goods go out again whose money has gone back."""
    request_id = (await cancel(http, {"line": 2})).json()["request_id"]
    await sent.receive([settled(request_id, (SOCK, 1, 0))])
    refund = {"refund_id": "R-1", "lines": [{"line": 2, "amount_minor": 5990}], "settled_at": AT, "reason": "cancelled"}
    assert (await http.post(f"/v1/orders/{ORDER}/refunds", json=refund)).status_code == 202
    answer = await http.delete(f"/v1/cancellations/{request_id}", params={"reason": "x"})
    assert (answer.status_code, answer.json()["code"]) == (409, "cancellation_refunded")


async def test_an_unsent_cancel_taken_back_is_as_if_it_had_not_been(
    harness: Harness, event: MakeEvent, http: httpx.AsyncClient, an_item: Item
) -> None:
    await harness.receive([event(payment_state="unpaid")])
    request_id = (await cancel(http)).json()["request_id"]
    await harness.receive([event(source_version=101)])
    assert await state_of(harness) == "cancelled"
    await harness.emitted()
    await http.delete(f"/v1/cancellations/{request_id}", params={"reason": "x"})
    assert [line.quantity for line in only(await harness.emitted(), OrderReceived).part.lines] == [2, 1]


# Bundles


@pytest.fixture
async def boxed(harness: Harness, an_item: Item, event: MakeEvent) -> Harness:
    """With an order of three gift boxes of one dress and two pairs of socks each, sent."""
    parts = [
        {"sku_id": "DRESS", "quantity": 1, "price_weight": 2},
        {"sku_id": "SOCK", "quantity": 2, "price_weight": 1},
    ]
    await harness.apply([an_item("BOX", bundle_parts=parts)])
    await harness.receive([event(lines=[a_box()], paid_minor=None, payments=[], freight_list_minor=0)])
    return harness


def a_box(**changes: Any) -> dict[str, Any]:
    return {"channel_line_id": "b", "sku_id": "BOX", "quantity": 3, "unit_list_price_minor": 3333, **changes}


async def test_a_bundle_moves_as_its_parts(harness: Harness, an_item: Item, event: MakeEvent) -> None:
    """Fails when a fen is lost between a bundle and its parts, or a bundle goes out before its parts are known."""
    parts = [{"sku_id": "DRESS", "quantity": 1, "price_weight": 2}, {"sku_id": "RIBBON", "quantity": 2, "price_weight": 1}]
    await harness.apply([an_item("BOX", bundle_parts=parts)])
    order = event(lines=[a_box()], paid_minor=None, payments=[], freight_list_minor=0)
    assert (await harness.receive([order])).emitted == []
    await harness.apply([an_item("RIBBON", weight_grams=7)])
    await harness.run_due_tasks("wake_parked")
    sent = only(await harness.emitted(), OrderReceived)
    assert [(line.sku_id, line.quantity, line.paid_minor, line.unit_weight_grams) for line in sent.part.lines] == [
        ("DRESS", 3, 6666, 400),
        ("RIBBON", 6, 3333, 7),
    ]
    assert [(line.sku_id, line.quantity) for line in sent.order.lines] == [("BOX", 3)]
    assert sum(line.tax_minor for line in sent.part.lines) == sent.order.lines[0].tax_minor


async def test_a_bundle_is_cancelled_in_whole_bundles(boxed: Harness, http: httpx.AsyncClient) -> None:
    """Fails when parts of one bundle are asked for unevenly, or nobody is told that they were settled so."""
    answer = await cancel(http, {"line": 1, "quantity": 2})
    asked = only(await boxed.emitted(), CancelRequested)
    assert quantities(asked) == {(ORDER, 1, "DRESS"): 2, (ORDER, 1, "SOCK"): 4}
    over = await cancel(http, {"channel_line_id": "b", "quantity": 2})
    assert over.json()["errors"][0]["reason"] == "Line 1 has 1 left."
    request_id = answer.json()["request_id"]
    await boxed.receive([settled(request_id, ((ORDER, 1, "DRESS"), 2, 0), ((ORDER, 1, "SOCK"), 3, 1))])
    told = (await http.get(f"/v1/cancellations/{request_id}")).json()
    assert told["bundles"] == [{"line": 1, "asked": 2, "cancelled": 1}]
    assert await cases(http) == [("bundle_uneven", request_id)]


# Changes by people


async def test_another_receiver_is_sealed_and_asked_for(sent: Harness, http: httpx.AsyncClient) -> None:
    """Fails when the new receiver leaves in clear, keeps the old reference, or a later version takes it back."""
    body = {"receiver": {"name": "王芳", "phone": "13900001111", "province": "北京市", "street": "长安街 1 号"}}
    answer = await http.post(f"/v1/orders/{ORDER}/changes", json={**body, "reason": "buyer called"})
    assert answer.status_code == 202, answer.text
    emitted = await sent.emitted()
    sealed, change = only(emitted, ReceiverSealed), only(emitted, ChangeRequested)
    assert (change.fields, change.order.receiver_ref) == (["receiver"], sealed.receiver_ref)
    assert change.order.destination.region_code == "110000"
    assert "王芳" not in change.model_dump_json()
    assert [line.quantity for line in change.part.lines] == [2, 1]
    async with sent.runtime.work() as work:
        former = (await work.connection.execute(text("SELECT former_refs FROM order_document"))).scalar_one()
    assert len(former) == 1


async def test_a_version_that_repeats_the_old_receiver_changes_nothing(
    sent: Harness, http: httpx.AsyncClient, event: MakeEvent
) -> None:
    """Fails when a platform's next version, of whatever, undoes what the buyer told our people."""
    body = {"receiver": {"name": "王芳", "phone": "13900001111", "street": "长安街 1 号"}, "reason": "buyer called"}
    await http.post(f"/v1/orders/{ORDER}/changes", json=body)
    ours = only(await sent.emitted(), ChangeRequested).order.receiver_ref
    change = only((await sent.receive([event(source_version=101, notes={})])).emitted, ChangeRequested)
    assert (change.fields, change.order.receiver_ref) == (["note"], ours)


async def test_a_version_changes_what_it_names_and_nothing_else(
    sent: Harness, http: httpx.AsyncClient, event: MakeEvent, an_item: Item
) -> None:
    """Fails when a new tax rate of the catalogue alters a sale, or notes that people wrote vanish with the next version."""
    await http.post(f"/v1/orders/{ORDER}/changes", json={"notes": {"seller_note": "加急"}, "reason": "buyer called"})
    await sent.emitted()
    await sent.apply([an_item("DRESS", version=2, tax_rate_bp=600)])
    change = only((await sent.receive([event(source_version=101, wanted_carrier="sf")])).emitted, ChangeRequested)
    assert (change.fields, change.money, change.order.notes.keywords) == (["dispatch"], [], ["urgent"])


async def test_a_refused_change_is_a_case_and_an_applied_one_is_not(sent: Harness, http: httpx.AsyncClient) -> None:
    body = {"notes": {"buyer_note": "急用"}, "reason": "buyer called"}
    asked = (await http.post(f"/v1/orders/{ORDER}/changes", json=body)).json()
    for applied, refused, kinds in ((["note"], [], []), ([], ["note"], ["change_refused"])):
        answer = ChangeSettled(
            root_id=ORDER,
            order_id=ORDER,
            progress=Progress(step=1, stage="cleared", code="change_applied"),
            request_id=asked["request_id"],
            settled_by="audit",
            applied=applied,
            refused=refused,
            code="change_refused" if refused else "change_applied",
        )
        await sent.receive([answer])
        assert [kind for kind, _ in await cases(http)] == kinds
    (told,) = (await http.get("/v1/changes", params={"state": "closed"})).json()["items"]
    assert (told["fields"], told["applied"]) == (["note"], ["note"])
    case = (await http.get("/v1/cases")).json()["items"][0]
    assert (case["why"], case["channel_order_no"]) == ("too late to change: note", "T-1")
    closing = f"/v1/cases/{case['case_id']}/close"
    assert (await http.post(closing, json={"reason": "told the buyer"})).status_code == 200
    assert (await http.post(closing, json={"reason": "again"})).json()["code"] == "case_closed"
    assert await cases(http) == []


async def test_a_parked_order_takes_a_change_at_once(harness: Harness, event: MakeEvent, http: httpx.AsyncClient) -> None:
    await harness.receive([event(payment_state="unpaid", receiver=None)])
    body = {"receiver": {"name": "王芳", "phone": "13900001111", "province": "北京市", "street": "长安街 1 号"}}
    answer = await http.post(f"/v1/orders/{ORDER}/changes", json={**body, "reason": "buyer called"})
    assert (answer.json()["state"], answer.json()["applied"]) == ("closed", ["receiver"])
    told = (await http.get(f"/v1/orders/{ORDER}")).json()
    assert told["order"]["destination"]["name_mask"] == "王**"


# Money and receipts


async def test_a_refund_is_spread_to_the_fen_and_told_once(sent: Harness, http: httpx.AsyncClient) -> None:
    """Fails when a refund is told twice, more goes back than was paid, or its lines do not add up."""
    path = f"/v1/orders/{ORDER}/refunds"
    body = {"refund_id": "R-1", "amount_minor": 10000, "settled_at": AT, "reason": "goodwill"}
    assert (await http.post(path, json=body)).status_code == 202
    told = only(await sent.emitted(), RefundSettled)
    assert sum(line.paid_minor for line in told.lines) == 10000
    assert [line.origin_line for line in told.lines] == [1, 2, 0]
    assert (told.refund_id, told.progress.params["amount_minor"]) == ("R-1", 10000)
    assert (await http.post(path, json=body)).status_code == 202
    assert await sent.emitted() == []
    other = await http.post(path, json={**body, "amount_minor": 1})
    assert (other.status_code, other.json()["code"]) == (409, "refund_known")
    beyond = await http.post(path, json={**body, "refund_id": "R-2", "amount_minor": 18394})
    assert (beyond.status_code, beyond.json()["code"]) == (409, "refund_too_much")
    assert "18393" in beyond.json()["detail"]
    rest = await http.post(path, json={**body, "refund_id": "R-3", "amount_minor": 18393})
    assert rest.status_code == 202
    last = only(await sent.emitted(), RefundSettled)
    assert sum(line.receivable_minor for line in (*told.lines, *last.lines)) == 30790
    assert len((await http.get(path)).json()) == 2


async def test_a_refund_of_goods_that_are_out_is_a_case(sent: Harness, http: httpx.AsyncClient) -> None:
    async with sent.runtime.work() as work:
        await work.connection.execute(
            text(
                "INSERT INTO timeline (order_id, service, step, event_id, root_id, stage, code, params, topic, at)"
                " VALUES (:id, 'fulfillment', 1, :id, :id, 'shipped', 'x', '{}', '', now())"
            ),
            {"id": ORDER},
        )
        await work.connection.execute(
            text("INSERT INTO order_stage (order_id, root_id, fulfillment, progress_at) VALUES (:id, :id, 1001090, now())"),
            {"id": ORDER},
        )
    body = {"refund_id": "R-1", "amount_minor": 100, "settled_at": AT, "reason": "goodwill"}
    await http.post(f"/v1/orders/{ORDER}/refunds", json=body)
    assert await cases(http) == [("refund_after_shipping", "R-1")]


async def test_a_receipt_is_told_once_per_reference(sent: Harness, http: httpx.AsyncClient) -> None:
    path = "/v1/orders/by-channel/taobao/小店/T-1/receipt"
    body = {"reference": "A-1", "confirmed_at": AT, "lines": [{"line": 1}]}
    assert (await http.post(path, json=body)).json()["outcome"] == "accepted"
    assert quantities(only(await sent.emitted(), ReceiptConfirmed)) == {DRESS: 2}
    assert (await http.post(path, json=body)).json()["outcome"] == "duplicate"
    assert await sent.emitted() == []


# Newer versions


async def test_a_receipt_of_a_line_that_was_cancelled_is_refused(sent: Harness, http: httpx.AsyncClient) -> None:
    """Fails when all that is left of a line is nothing, and confirming that is an error of ours."""
    await cancel(http, {"line": 2})
    body = {"reference": "c-1", "confirmed_at": AT}
    answer = await http.post(f"/v1/orders/{ORDER}/receipt", json=body | {"lines": [{"line": 2}]})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_much_asked"), answer.text
    await sent.emitted()
    both = await http.post(f"/v1/orders/{ORDER}/receipt", json=body | {"lines": [{"line": 1}, {"line": 2}]})
    assert both.status_code == 202, both.text
    assert quantities(only(await sent.emitted(), ReceiptConfirmed)) == {DRESS: 2}


def lines_of(order: dict[str, Any], **changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**line, **changes.get(line["sku_id"], {})} for line in order["lines"]]


async def test_a_version_that_closes_the_order_cancels_all_that_is_left(
    sent: Harness, event: MakeEvent, http: httpx.AsyncClient
) -> None:
    """Fails when a buyer's cancel on the platform stays unknown to the stages, or is asked for again by each later version."""
    await cancel(http, {"line": 2})
    await sent.emitted()
    asked = only((await sent.receive([event(source_version=101, trade_state="cancelled")])).emitted, CancelRequested)
    assert (quantities(asked), asked.reason, asked.requested_by) == ({DRESS: 2}, "closed_by_channel", "channel")
    again = await sent.receive([event(source_version=102, trade_state="cancelled", notes={})])
    assert [event for event in again.emitted if isinstance(event, CancelRequested)] == []


async def test_lower_quantities_are_cancels_and_the_rest_is_a_change(
    sent: Harness, event: MakeEvent, an_order: Make, http: httpx.AsyncClient
) -> None:
    """Fails when a quantity is lowered by a change, when units cancelled by hand are taken off again, or money is untold."""
    lower = lines_of(an_order(), DRESS={"quantity": 1, "paid_minor": 10000, "discounts": []})
    emitted = (await sent.receive([event(source_version=101, lines=lower, paid_minor=None)])).emitted
    asked, change = only(emitted, CancelRequested), only(emitted, ChangeRequested)
    assert emitted.index(asked) < emitted.index(change)
    assert quantities(asked) == {DRESS: 1}
    assert {line.sku_id: line.quantity for line in change.part.lines} == {"DRESS": 1, "SOCK": 1}
    assert change.fields == ["money"]
    (money,) = change.money
    assert (money.origin_line, money.previous.paid_minor, money.current.paid_minor) == (1, 21403, 10000)
    assert (await cancel(http, {"line": 1, "quantity": 1})).status_code == 202
    await sent.emitted()
    gone = lines_of(an_order())[1:]
    later = (await sent.receive([event(source_version=102, lines=gone, paid_minor=None)])).emitted
    assert [event for event in later if isinstance(event, CancelRequested)] == []


async def test_more_units_and_new_lines_are_asked_for(
    sent: Harness, event: MakeEvent, an_order: Make, http: httpx.AsyncClient
) -> None:
    """Fails when a line changes its number because the channel lists it elsewhere, or granted units cannot be cancelled."""
    grown = [
        {"channel_line_id": "9", "sku_id": "SOCK", "quantity": 4, "unit_list_price_minor": 100},
        *lines_of(an_order(), DRESS={"quantity": 3, "paid_minor": 30000}),
    ]
    change = only((await sent.receive([event(source_version=101, lines=grown, paid_minor=None)])).emitted, ChangeRequested)
    assert change.fields == ["lines", "money"]
    assert {(line.origin_line, line.sku_id): line.quantity for line in change.part.lines} == {
        (1, "DRESS"): 3,
        (2, "SOCK"): 1,
        (3, "SOCK"): 4,
    }
    assert (await cancel(http, {"line": 3})).json()["code"] == "invalid_request"
    answer = ChangeSettled(
        root_id=ORDER,
        order_id=ORDER,
        progress=Progress(step=1, stage="held", code="order_replaced"),
        request_id=change.request_id,
        settled_by="audit",
        applied=change.fields,
        code="order_replaced",
    )
    await sent.receive([answer])
    assert quantities_left(await cancel(http)) == {1: 3, 2: 1, 3: 4}


async def test_a_refunded_line_is_cancelled_and_its_money_told_once(sent: Harness, event: MakeEvent, an_order: Make) -> None:
    """Fails when a platform's refund reaches the books twice, or its goods still go out."""
    back = {"refund_state": "refunded", "refund_id": "R-7"}
    lines = lines_of(an_order(), SOCK=back)
    emitted = (await sent.receive([event(source_version=101, lines=lines)])).emitted
    assert quantities(only(emitted, CancelRequested)) == {SOCK: 1}
    told = only(emitted, RefundSettled)
    assert (told.refund_id, [(line.origin_line, line.paid_minor) for line in told.lines]) == ("R-7", [(2, 5990)])
    both = lines_of(an_order(), SOCK=back, DRESS={"refund_state": "refunded", "refund_id": "R-7"})
    later = (await sent.receive([event(source_version=102, lines=both)])).emitted
    assert [event for event in later if isinstance(event, RefundSettled)] == []


async def test_a_new_receiver_in_a_version_gets_a_reference_of_its_own(sent: Harness, event: MakeEvent, an_order: Make) -> None:
    receiver = {**an_order()["receiver"], "street": "文一西路 970 号"}
    emitted = (await sent.receive([event(source_version=101, receiver=receiver)])).emitted
    change = only(emitted, ChangeRequested)
    assert (change.fields, change.order.receiver_ref) == (["receiver"], only(emitted, ReceiverSealed).receiver_ref)
    blotted = {**receiver, "name": "欧**", "phone": "138****5678", "street": "***"}
    assert (await sent.receive([event(source_version=102, receiver=blotted)])).emitted == []


async def test_receipt_and_shipment_by_the_channel_are_told_or_looked_at(
    sent: Harness, event: MakeEvent, http: httpx.AsyncClient
) -> None:
    """Fails when the buyer's confirmation is told twice, or goods shipped by somebody else go out from here unseen."""
    assert (await sent.receive([event(source_version=101, trade_state="shipped")])).emitted == []
    assert await cases(http) == [("shipped_elsewhere", "101")]
    receipt = only((await sent.receive([event(source_version=102, trade_state="signed")])).emitted, ReceiptConfirmed)
    assert (receipt.reference, quantities(receipt)) == ("version:102", {DRESS: 2, SOCK: 1})
    assert (await sent.receive([event(source_version=103, trade_state="finished")])).emitted == []


async def test_versions_in_one_batch_or_one_by_one_ask_for_the_same(harness: Harness, event: MakeEvent, an_order: Make) -> None:
    """Fails when a batch compares every version with what was sent instead of with the one before it."""

    def versions(number: str) -> list[ChannelOrder]:
        return [
            event(number),
            event(number, source_version=101, lines=lines_of(an_order(), DRESS={"quantity": 1}), paid_minor=None),
            event(number, source_version=102, lines=lines_of(an_order(), DRESS={"quantity": 1}), paid_minor=None, notes={}),
            event(number, source_version=103, trade_state="cancelled"),
        ]

    def told(events: Sequence[Any]) -> list[Any]:
        return [
            (type(event).__name__, event.progress.step, [line.quantity for line in getattr(event, "lines", [])])
            for event in events
            if not isinstance(event, ReceiverSealed)
        ]

    at_once = (await harness.receive(versions("A"))).emitted
    one_by_one = [event for version in versions("B") for event in (await harness.receive([version])).emitted]
    assert told(at_once) == told(one_by_one)
    assert [name for name, *_ in told(at_once)] == [
        "OrderReceived", "CancelRequested", "ChangeRequested", "CancelRequested",
    ]  # fmt: skip


# Bad input


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("cancellation", {}),
        ("cancellation", {"reason": "Has Blanks"}),
        ("cancellation", {"reason": "a", "lines": []}),
        ("cancellation", {"reason": "a", "lines": [{}]}),
        ("cancellation", {"reason": "a", "lines": [{"line": 1, "channel_line_id": "1"}]}),
        ("cancellation", {"reason": "a", "lines": [{"line": 1, "quantity": 0}]}),
        ("cancellation", {"reason": "a", "lines": [{"line": 1, "quantity": "1"}]}),
        ("cancellation", {"reason": "a", "lines": [{"line": 9}]}),
        ("cancellation", {"reason": "a", "lines": [{"channel_line_id": "none"}]}),
        ("cancellation", {"reason": "a", "lines": [{"line": 1}] * 501}),
        ("cancellation", {"reason": "a", "more": 1}),
        ("changes", {"reason": "a"}),
        ("changes", {"reason": "a", "receiver": {"phone_number": "1"}}),
        ("changes", {"reason": "", "notes": {}}),
        ("refunds", {"refund_id": "R", "settled_at": AT, "reason": "a"}),
        ("refunds", {"refund_id": "R", "settled_at": AT, "reason": "a", "amount_minor": 0}),
        ("refunds", {"refund_id": "R", "settled_at": AT, "reason": "a", "amount_minor": 10**18}),
        ("refunds", {"refund_id": "R", "settled_at": "1999-01-01T00:00:00Z", "reason": "a", "amount_minor": 1}),
        ("refunds", {"refund_id": "R", "settled_at": AT, "reason": "a", "lines": [{"line": 9, "amount_minor": 1}]}),
        ("refunds", {"refund_id": "R\n", "settled_at": AT, "reason": "a", "amount_minor": 1}),
        ("receipt", {"reference": "A", "confirmed_at": "2100-01-01T00:00:00Z"}),
        ("receipt", {"reference": "", "confirmed_at": AT}),
    ],
)
async def test_bad_requests_name_the_field(sent: Harness, http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    """Fails when bad input is taken, guessed at, or answered with anything but a problem that names the field."""
    answer = await http.post(f"/v1/orders/{ORDER}/{path}", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"]
    assert [event for event in await sent.emitted() if not isinstance(event, OrderReceived | ReceiverSealed)] == []


async def test_unknown_orders_and_requests_are_not_found(sent: Harness, http: httpx.AsyncClient) -> None:
    body = {"reason": "a"}
    assert (await http.post(f"/v1/orders/{uuid4()}/cancellation", json=body)).status_code == 404
    assert (await http.post("/v1/orders/by-channel/taobao/小店/none/cancellation", json=body)).status_code == 404
    assert (await http.get(f"/v1/cancellations/{uuid4()}")).status_code == 404
    assert (await http.delete(f"/v1/cancellations/{uuid4()}", params={"reason": "a"})).status_code == 404
    assert (await http.post(f"/v1/cases/{uuid4()}/close", json=body)).status_code == 404
    assert (await http.get("/v1/cancellations", params={"state": "odd"})).status_code == 422


async def test_roles_hold(sent: Harness, app: Any) -> None:
    """Fails when a viewer can cancel or refund, or a channel can close a case."""
    async with as_caller(app, roles=["viewer"], principal="looker") as viewer:
        for path in ("cancellation", "changes", "refunds", "receipt"):
            assert (await viewer.post(f"/v1/orders/{ORDER}/{path}", json={})).status_code == 403
        assert (await viewer.get("/v1/cancellations")).status_code == 200
    async with as_caller(app, roles=["channel"], principal="taobao-adapter") as channel:
        answer = await cancel(channel, {"line": 1})
        assert (answer.status_code, answer.json()["requested_by"]) == (202, "channel")
        assert (await channel.post(f"/v1/cases/{uuid4()}/close", json={"reason": "a"})).status_code == 403
