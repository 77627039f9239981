"""Cancels, withdrawals and changes that travel behind their order."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from contracts import (
    CancelForwarded,
    CancellationSettled,
    CancelRequested,
    CancelWithdrawn,
    ChangeForwarded,
    ChangeRequested,
    ChangeSettled,
    OrderAudited,
    OrderHeld,
    OrderReceived,
    OriginQuantity,
    PartLine,
    Progress,
    WithdrawalForwarded,
)
from eventing.testing import Harness

Make = Callable[..., OrderReceived]
BAD = {"address_grade": "unusable"}


def wants(line: PartLine, quantity: int | None = None) -> OriginQuantity:
    return OriginQuantity(
        origin_order_id=line.origin_order_id,
        origin_line=line.origin_line,
        sku_id=line.sku_id,
        quantity=quantity or line.quantity,
    )


def a_cancel(order: OrderReceived, *lines: OriginQuantity, request_id: UUID | None = None) -> CancelRequested:
    return CancelRequested(
        root_id=order.root_id,
        order_id=order.order_id,
        progress=Progress(step=2, stage="received", code="cancel_requested", params={"by": "channel", "units": 1}),
        request_id=request_id or uuid4(),
        lines=list(lines) or [wants(line) for line in order.part.lines],
        reason="buyer_asked",
        requested_by="channel",
    )


def a_withdrawal(order: OrderReceived, request_id: UUID) -> CancelWithdrawn:
    return CancelWithdrawn(
        root_id=order.root_id,
        order_id=order.order_id,
        progress=Progress(step=3, stage="received", code="cancel_withdrawn", params={"by": "channel"}),
        request_id=request_id,
        reason="buyer_asked",
    )


def a_change(order: OrderReceived, newer: OrderReceived, *fields: str) -> ChangeRequested:
    return ChangeRequested(
        root_id=order.root_id,
        order_id=order.order_id,
        progress=Progress(step=2, stage="received", code="change_requested", params={"fields": list(fields)}),
        request_id=uuid4(),
        fields=list(fields),
        order=newer.order,
        part=newer.part,
        requested_by="channel",
    )


async def test_a_part_cancel_shrinks_a_held_order_and_keeps_its_holds(
    harness: Harness, an_order: Make, http: httpx.AsyncClient
) -> None:
    """Fails when the released order still has the cancelled units, or their money."""
    order = an_order(**BAD)
    first, second = order.part.lines
    cancel = a_cancel(order, wants(first, 1), wants(second))
    [held, settled] = (await harness.receive([order, cancel])).emitted
    assert isinstance(held, OrderHeld)
    assert isinstance(settled, CancellationSettled)
    assert (settled.order_id, settled.progress.step, settled.progress.stage) == (order.order_id, 2, "held")
    assert {(line.sku_id, line.cancelled, line.refused, line.code) for line in settled.lines} == {
        (first.sku_id, 1, 0, "cancelled_held"),
        (second.sku_id, 1, 0, "cancelled_held"),
    }
    await http.post(f"/v1/orders/{order.order_id}/release", json={"reason": "ok"})
    [audited] = await harness.emitted()
    assert isinstance(audited, OrderAudited)
    kept, gone = first.divide(1)
    assert audited.part.lines == [kept]
    assert [line.paid_minor for line in settled.lines] == [gone.paid_minor, second.paid_minor]
    assert audited.part.freight == order.part.freight
    assert audited.progress.step == 3


async def test_a_whole_cancel_ends_a_held_order_for_ever(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    order = an_order(**BAD)
    emitted = (await harness.receive([order, a_cancel(order)])).emitted
    assert [event.progress.stage for event in emitted] == ["held", "cancelled"]
    view = (await http.get(f"/v1/orders/{order.order_id}")).json()
    assert (view["state"], {hold["status"] for hold in view["holds"]}) == ("cancelled", {"cancelled"})
    for act in ("release", "holds"):
        refused = await http.post(f"/v1/orders/{order.order_id}/{act}", json={"reason": "x"})
        assert (refused.status_code, refused.json()["code"]) == (409, "order_already_cancelled")
    again = (await harness.receive([a_cancel(order)])).emitted
    assert [(line.cancelled, line.refused, line.code) for line in again[0].lines] == [
        (0, line.quantity, "nothing_to_cancel") for line in order.part.lines
    ]


async def test_what_audit_no_longer_holds_is_passed_on_whole(harness: Harness, an_order: Make) -> None:
    """Fails when audit settles units that inventory has."""
    order = an_order()
    cancel = a_cancel(order)
    [audited, forwarded] = (await harness.receive([order, cancel])).emitted
    assert isinstance(audited, OrderAudited)
    assert isinstance(forwarded, CancelForwarded)
    assert (forwarded.request_id, forwarded.lines, forwarded.reason) == (cancel.request_id, cancel.lines, "buyer_asked")
    assert (forwarded.progress.step, forwarded.progress.stage) == (2, "cleared")
    [withdrawn] = (await harness.receive([a_withdrawal(order, cancel.request_id)])).emitted
    assert isinstance(withdrawn, WithdrawalForwarded)
    assert (withdrawn.request_id, withdrawn.progress.step) == (cancel.request_id, 3)


async def test_a_cancel_of_an_order_whose_record_was_given_up_is_settled(harness: Harness, an_order: Make) -> None:
    """And the order does not come back when its record is sent again."""
    order = an_order()
    [settled] = (await harness.receive([a_cancel(order)])).emitted
    assert isinstance(settled, CancellationSettled)
    assert {line.code for line in settled.lines} == {"cancelled_discarded"}
    assert (await harness.receive([order])).emitted == []


async def test_a_whole_cancel_gives_up_an_order_that_is_parked_here(harness: Harness, an_order: Make) -> None:
    """Fails when a cancel queues behind the order that it cancels: it would wait for a person for nothing."""
    order, other = an_order(), an_order()
    broken = order.model_copy(update={"part": order.part.model_copy(update={"lines": []})})
    assert len((await harness.receive([broken])).parked) == 1
    broken = other.model_copy(update={"part": other.part.model_copy(update={"lines": []})})
    await harness.receive([broken])
    some = await harness.receive([a_cancel(other, wants(other.part.lines[0], 1))])
    assert (some.emitted, len(some.queued)) == ([], 1)
    whole = a_cancel(order).model_copy(update={"whole": True})
    [settled] = (await harness.receive([whole])).emitted
    assert isinstance(settled, CancellationSettled)
    assert {line.code for line in settled.lines} == {"cancelled_discarded"}
    assert [parked.key for parked in await harness.runtime.operations.list_parked(10)] == [str(other.order_id)]


async def test_only_a_cancel_of_all_that_went_on_is_passed_on_as_whole(
    harness: Harness, an_order: Make, http: httpx.AsyncClient
) -> None:
    """Fails when inventory keeps a parked order whose cancel is whole, or drops one of which audit gave a part."""
    order = an_order()
    whole = a_cancel(order).model_copy(update={"whole": True})
    assert (await harness.receive([order, whole])).emitted[-1].whole is True
    part, later = an_order(), an_order()
    assert (await harness.receive([part, a_cancel(part)])).emitted[-1].whole is False
    when = {"field": "skus", "op": "contains", "value": "SOCK02-WHT"}
    await put_rules(http, SOCKS_ALONE, {"kind": "condition", "rule_id": "look_at_socks", "when": when})
    emitted = (await harness.receive([later, a_cancel(later).model_copy(update={"whole": True})])).emitted
    assert [event.whole for event in emitted if isinstance(event, CancelForwarded)] == [False]


async def test_a_change_of_an_order_that_never_came_parks_its_key(harness: Harness, an_order: Make) -> None:
    order = an_order()
    for event in (a_change(order, order, "note"), a_withdrawal(order, uuid4())):
        result = await harness.receive([event])
        assert (result.emitted, len(result.parked) + len(result.queued)) == ([], 1)


async def test_a_release_and_a_cancel_at_once_count_every_unit_once(
    harness: Harness, an_order: Make, http: httpx.AsyncClient
) -> None:
    """Whoever is first: settled here, or passed on, never both. Fails without the lock on the root's row."""
    for _ in range(5):
        order = an_order(**BAD)
        await harness.receive([order])
        release = http.post(f"/v1/orders/{order.order_id}/release", json={"reason": "x"})
        answer, result = await asyncio.gather(release, harness.receive([a_cancel(order)]))
        emitted = [*result.emitted, *await harness.emitted()]
        kinds = sorted(type(event).__name__ for event in emitted)
        assert kinds in (["CancellationSettled"], ["CancelForwarded", "OrderAudited"])
        assert answer.status_code == (409 if kinds == ["CancellationSettled"] else 200)
        assert sorted(event.progress.step for event in emitted) == list(range(2, 2 + len(emitted)))


async def test_a_newer_version_takes_a_held_orders_place_and_is_judged_anew(harness: Harness, an_order: Make) -> None:
    """Fails when the old doubt keeps an order that has become good, or the old address goes on."""
    order = an_order(**BAD, phone_kind="missing")
    better = an_order(order.order_id, phone_kind="missing", source_version=1792771249999)
    [_, settled, held] = (await harness.receive([order, a_change(order, better, "receiver")])).emitted
    assert isinstance(settled, ChangeSettled)
    assert (settled.applied, settled.refused, settled.code) == (["receiver"], [], "order_replaced")
    assert isinstance(held, OrderHeld)
    assert [hold.kind for hold in held.holds] == ["phone"]
    best = an_order(order.order_id, source_version=1792771250000)
    [_, audited] = (await harness.receive([a_change(order, best, "receiver")])).emitted
    assert isinstance(audited, OrderAudited)
    assert (audited.order, audited.part, audited.progress.step) == (best.order, best.part, 5)


async def test_a_persons_hold_and_a_persons_release_outlast_a_change(
    harness: Harness, an_order: Make, http: httpx.AsyncClient
) -> None:
    """Fails when a re-audit ends a manual hold or raises a doubt again that a person put aside."""
    order = an_order(**BAD, phone_kind="missing")
    [held] = (await harness.receive([order])).emitted
    address = next(hold for hold in held.holds if hold.kind == "address")
    path = f"/v1/orders/{order.order_id}/holds"
    for _ in range(2):
        placed = await http.post(path, json={"reason": "等客户回电", "reference": "call-1"})
        assert placed.status_code == 201
    await http.post(f"/v1/holds/{address.hold_id}/release", json={"reason": "地址已核实"})
    assert len(await harness.emitted()) == 2
    [_, held] = (await harness.receive([a_change(order, an_order(order.order_id, **BAD), "receiver")])).emitted
    assert [(hold.kind, hold.placed_by) for hold in held.holds] == [("manual", "user:mei")]


async def test_late_fields_are_refused_and_become_a_case(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    order = an_order()
    change = a_change(order, an_order(order.order_id), "receiver", "lines", "a_word_of_tomorrow")
    [_, settled, forwarded] = (await harness.receive([order, change])).emitted
    assert isinstance(settled, ChangeSettled)
    assert (settled.applied, settled.refused, settled.code) == ([], ["lines", "a_word_of_tomorrow"], "change_refused")
    assert isinstance(forwarded, ChangeForwarded)
    assert (forwarded.fields, forwarded.order) == (["receiver"], change.order)
    [case] = (await http.get("/v1/cases", params={"status": "open"})).json()["items"]
    assert (case["order_id"], case["fields"]) == (str(order.order_id), ["lines", "a_word_of_tomorrow"])
    closed = await http.post(f"/v1/cases/{case['case_id']}/close", json={"reason": "已联系买家"})
    again = await http.post(f"/v1/cases/{case['case_id']}/close", json={"reason": "again"})
    assert closed.json() == again.json()
    assert (closed.json()["status"], closed.json()["closed_by"]) == ("closed", "mei")
    assert (await http.get("/v1/cases", params={"status": "open"})).json()["items"] == []
    assert (await http.post(f"/v1/cases/{uuid4()}/close", json={"reason": "x"})).status_code == 404


# --- splits

SOCKS_ALONE = {"kind": "split_goods", "rule_id": "socks_alone", "skus": ["SOCK02-WHT"]}
ADDRESS = {"kind": "address", "rule_id": "address", "allowed_grades": ["complete"]}


async def put_rules(http: httpx.AsyncClient, *rules: dict[str, Any]) -> None:
    answer = await http.put("/v1/rule-set", json={"reason": "a test", "rules": list(rules)})
    assert answer.status_code == 200, answer.text


async def test_named_goods_travel_alone_and_keep_every_fen(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    """Fails when a split loses units, money or freight, or is made twice."""
    await put_rules(http, SOCKS_ALONE)
    order = an_order()
    emitted = (await harness.receive([order, order])).emitted
    assert [event.replaces for event in emitted] == [[order.order_id]] * 2
    assert [line for event in emitted for line in event.part.lines] == order.part.lines
    assert [event.part.freight for event in emitted] == [order.part.freight, []]
    assert {(event.root_id, event.part.root_id, event.part.parent_id) for event in emitted} == {(order.order_id,) * 3}
    assert (await harness.receive([order])).emitted == []
    view = (await http.get(f"/v1/orders/{order.order_id}")).json()
    assert view["state"] == "split"
    assert [child["order_id"] for child in view["children"]] == [str(event.order_id) for event in emitted]
    refused = await http.post(f"/v1/orders/{order.order_id}/reject", json={"reason": "x"})
    assert (refused.status_code, refused.json()["code"]) == (409, "order_was_split")


async def test_a_cancel_spends_on_held_children_and_passes_on_the_rest(
    harness: Harness, an_order: Make, http: httpx.AsyncClient
) -> None:
    """One request over a cleared and a held child: each unit is settled or forwarded once."""
    when = {"field": "skus", "op": "contains", "value": "SOCK02-WHT"}
    await put_rules(http, SOCKS_ALONE, {"kind": "condition", "rule_id": "look_at_socks", "when": when})
    order = an_order()
    emitted = (await harness.receive([order])).emitted
    assert [type(event) for event in emitted] == [OrderAudited, OrderHeld]
    dress, socks = order.part.lines
    [settled, forwarded] = (await harness.receive([a_cancel(order)])).emitted
    assert isinstance(settled, CancellationSettled)
    assert (settled.order_id, settled.parent_id, settled.progress.stage) == (
        emitted[1].order_id,
        order.order_id,
        "cancelled",
    )
    assert [line.sku_id for line in settled.lines] == [socks.sku_id]
    assert isinstance(forwarded, CancelForwarded)
    assert (forwarded.order_id, forwarded.progress.stage) == (order.order_id, "split")
    assert forwarded.lines == [wants(dress)]


async def test_a_presale_line_waits_alone_until_it_is_due(harness: Harness, an_order: Make) -> None:
    """By the rules that are shipped."""
    order = an_order()
    due = harness.clock.now().replace(microsecond=0)
    given = order.model_dump(mode="json")
    given["order"]["lines"][1]["ship_not_before"] = due.replace(year=due.year + 1).isoformat()
    order = OrderReceived.model_validate(given)
    [audited, held] = (await harness.receive([order])).emitted
    assert isinstance(audited, OrderAudited)
    assert isinstance(held, OrderHeld)
    assert ([hold.code for hold in held.holds], [line.origin_line for line in audited.part.lines]) == (["presale_not_due"], [1])
    harness.clock.advance(seconds=366 * 24 * 3600)
    await harness.run_due_tasks("auto_release")
    [late] = await harness.emitted()
    assert isinstance(late, OrderAudited)
    assert (late.order_id, late.part.parent_id) == (held.order_id, order.order_id)


# --- merges

MERGE = {"kind": "merge", "rule_id": "merge", "wait_minutes": 10, "max_orders": 3}


async def test_orders_of_one_receiver_go_on_as_one(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    """A cancel before the merge counts for its own order, one after it goes on under the merged order's key."""
    await put_rules(http, MERGE)
    first, second = an_order(), an_order(received_at="2026-10-24T08:20:41Z")
    other = an_order(receiver_token="someone else")
    emitted = (await harness.receive([first, second, other])).emitted
    assert {hold.code for event in emitted for hold in event.holds} == {"waiting_to_merge"}
    dress, socks = first.part.lines
    [settled] = (await harness.receive([a_cancel(first, wants(socks))])).emitted
    assert (settled.order_id, settled.progress.stage) == (first.order_id, "held")
    harness.clock.advance(seconds=601)
    await harness.run_due_tasks("auto_release")
    by_replaced = {frozenset(event.replaces): event for event in await harness.emitted()}
    merged, alone = by_replaced[frozenset({first.order_id, second.order_id})], by_replaced[frozenset()]
    assert alone.order_id == other.order_id
    assert isinstance(merged, OrderAudited)
    assert merged.root_id == merged.order_id == merged.part.order_id == merged.part.root_id
    assert merged.part.lines == [dress, *second.part.lines]
    assert len(merged.part.freight) == 2
    assert (merged.order.order_id, [block.order_id for block in merged.order.merged_with]) == (
        first.order_id,
        [second.order_id],
    )
    cancel = a_cancel(second)
    [forwarded] = (await harness.receive([cancel])).emitted
    assert isinstance(forwarded, CancelForwarded)
    assert (forwarded.root_id, forwarded.order_id, forwarded.progress.step) == (merged.root_id, merged.root_id, 2)
    assert forwarded.lines == cancel.lines
    view = (await http.get(f"/v1/orders/{merged.order_id}")).json()
    assert {parent["order_id"] for parent in view["merged_from"]} == {str(first.order_id), str(second.order_id)}
    refused = await http.post(f"/v1/orders/{first.order_id}/reject", json={"reason": "x"})
    assert (refused.status_code, refused.json()["code"]) == (409, "order_was_merged")


@pytest.mark.parametrize(
    "different", [{"payment_state": "cash_on_delivery", "collection": "cash_on_delivery"}, {"shop_id": "other"}, BAD]
)
async def test_orders_that_differ_are_not_merged(
    harness: Harness, an_order: Make, http: httpx.AsyncClient, different: dict[str, Any]
) -> None:
    await put_rules(http, MERGE, ADDRESS)
    await harness.receive([an_order(), an_order(**different)])
    harness.clock.advance(seconds=601)
    await harness.run_due_tasks("auto_release")
    assert [event.replaces for event in await harness.emitted()] in ([[]], [[], []])


async def test_parts_of_a_split_order_wait_for_nobody(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    """Fails when what one rule splits another merges again: a cancel of the split order would not find its units."""
    await put_rules(http, MERGE, SOCKS_ALONE)
    first, second = an_order(), an_order()
    emitted = (await harness.receive([first, second])).emitted
    assert [type(event) for event in emitted] == [OrderAudited] * 4


async def test_a_parcel_is_measured_in_bytes(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    """Fails when orders in Chinese are merged into an event that is too large to be sent, and none of them goes on."""
    await put_rules(http, MERGE)
    orders = []
    for _ in range(3):
        order = an_order()
        line = order.order.lines[0].model_copy(update={"channel_line_id": "1", "title": "连" * 199})
        block = order.order.model_copy(update={"lines": [line] * 150})
        orders.append(order.model_copy(update={"order": block}))
        await harness.receive(orders[-1:])
    harness.clock.advance(seconds=601)
    await harness.run_due_tasks("auto_release")
    assert sorted(len(event.replaces) for event in await harness.emitted()) == [0, 2]


async def test_orders_that_are_merged_released_and_cancelled_at_once_go_on_once(
    harness: Harness, an_order: Make, http: httpx.AsyncClient
) -> None:
    """Fails when two workers put one order into two parcels, or a cancel takes units that are in one."""
    await put_rules(http, MERGE)
    for _ in range(5):
        orders = [an_order() for _ in range(4)]
        await harness.receive(orders)
        cancelled = orders[3]
        answers = await asyncio.gather(
            *(http.post(f"/v1/orders/{order.order_id}/release", json={"reason": "x"}) for order in orders[:3]),
            harness.receive([a_cancel(cancelled)]),
        )
        emitted = [*answers[-1].emitted, *await harness.emitted()]
        audited = [event for event in emitted if isinstance(event, OrderAudited)]
        gone_on = [order_id for event in audited for order_id in event.replaces or [event.order_id]]
        settled = [event.order_id for event in emitted if isinstance(event, CancellationSettled)]
        assert len(gone_on) == len(set(gone_on))
        assert {order.order_id for order in orders[:3]} <= set(gone_on)
        assert (cancelled.order_id in settled) != (cancelled.order_id in gone_on)
        forwarded = [event for event in emitted if isinstance(event, CancelForwarded)]
        assert bool(forwarded) == (cancelled.order_id in gone_on)


async def test_no_more_orders_are_merged_than_the_rule_allows(
    harness: Harness, an_order: Make, http: httpx.AsyncClient
) -> None:
    await put_rules(http, MERGE)
    await harness.receive([an_order() for _ in range(7)])
    harness.clock.advance(seconds=601)
    await harness.run_due_tasks("auto_release")
    assert sorted(len(event.replaces) for event in await harness.emitted()) == [0, 3, 3]
