"""Received orders through the loop: cleared, held, released, rejected."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
from sqlalchemy import text

from contracts import CancellationSettled, OrderAudited, OrderHeld, OrderReceived
from eventing.testing import Harness

Make = Callable[..., OrderReceived]
BAD_ADDRESS = {"address_grade": "unusable"}
BAD_TOKEN = "bad" + "0" * 29
BAD_ALL = {"address_grade": "unusable", "phone_kind": "missing", "quantity": 2000}


async def put_rules(http: httpx.AsyncClient, *rules: dict[str, Any]) -> httpx.Response:
    return await http.put("/v1/rule-set", json={"reason": "a test", "rules": list(rules)})


ADDRESS = {"kind": "address", "rule_id": "address", "allowed_grades": ["complete"]}


async def test_an_order_without_doubt_goes_on_whole(harness: Harness, an_order: Make) -> None:
    order = an_order(a_field_of_tomorrow={"kept": "是"})
    [audited] = (await harness.receive([order])).emitted
    assert isinstance(audited, OrderAudited)
    assert (audited.order, audited.part) == (order.order, order.part)
    assert audited.order.model_extra == {"a_field_of_tomorrow": {"kept": "是"}}
    assert (audited.progress.step, audited.progress.stage, audited.progress.code) == (1, "cleared", "order_cleared")
    assert audited.rule_set_version == 1


async def test_every_doubt_is_a_hold_of_its_own(harness: Harness, an_order: Make) -> None:
    [held] = (await harness.receive([an_order(**BAD_ALL)])).emitted
    assert isinstance(held, OrderHeld)
    assert [hold.code for hold in held.holds] == ["address_incomplete", "phone_unreachable", "quantity_out_of_range"]
    assert held.progress.params == {"kinds": ["address", "phone", "quantity"]}


async def test_the_same_order_twice_is_decided_once(harness: Harness, an_order: Make) -> None:
    """Twice in one batch, once more later under a new event id. Fails without the insert's conflict clause."""
    for order in (an_order(**BAD_ADDRESS), an_order()):
        assert len((await harness.receive([order, order])).emitted) == 1
        again = await harness.receive([order])
        assert (again.emitted, again.parked) == ([], [])


async def test_a_batch_goes_on_in_the_order_of_arrival(harness: Harness, an_order: Make) -> None:
    orders = [an_order(**(BAD_ADDRESS if number % 3 else {})) for number in range(20)]
    emitted = (await harness.receive(orders)).emitted
    assert [event.order_id for event in emitted] == [order.order_id for order in orders]


async def test_a_till_sale_is_not_audited(harness: Harness, an_order: Make) -> None:
    sale = an_order(fulfilment={"kind": "already_handed_over", "place_id": "S1"}, **BAD_ALL)
    [audited] = (await harness.receive([sale])).emitted
    assert isinstance(audited, OrderAudited)
    assert audited.progress.code == "handed_over_passed"


async def test_a_released_order_goes_on_with_all_it_came_with(
    harness: Harness, an_order: Make, http: httpx.AsyncClient
) -> None:
    """The last hold's release clears it. Fails when fields unknown to audit do not survive the wait."""
    order = an_order(**BAD_ALL, a_field_of_tomorrow="是")
    await harness.receive([order])
    listed = (await http.get("/v1/holds", params={"status": "open"})).json()["items"]
    assert {hold["kind"] for hold in listed} == {"address", "phone", "quantity"}
    for number, hold in enumerate(listed, start=1):
        answer = await http.post(f"/v1/holds/{hold['hold_id']}/release", json={"reason": "客服已确认"})
        assert answer.status_code == 200
        [event] = await harness.emitted()
        assert event.progress.step == number + 1
        assert event.progress.code == "hold_released"
        assert isinstance(event, OrderAudited if number == 3 else OrderHeld)
    assert (event.order, event.part) == (order.order, order.part)
    assert answer.json()["state"] == "cleared"
    assert {(hold["status"], hold["closed_by"], hold["reason"]) for hold in answer.json()["holds"]} == {
        ("released", "mei", "客服已确认")
    }


async def test_releasing_twice_answers_the_same(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    """Fails when a second release emits the order again: it would be reserved twice."""
    order = an_order(**BAD_ALL)
    await harness.receive([order])
    first = await http.post(f"/v1/orders/{order.order_id}/release", json={"reason": "ok"})
    assert len(await harness.emitted()) == 1
    again = await http.post(f"/v1/orders/{order.order_id}/release", json={"reason": "ok"})
    hold_id = first.json()["holds"][0]["hold_id"]
    single = await http.post(f"/v1/holds/{hold_id}/release", json={"reason": "ok"})
    assert first.json() == again.json() == single.json()
    assert await harness.emitted() == []
    refused = await http.post(f"/v1/orders/{order.order_id}/reject", json={"reason": "no"})
    assert (refused.status_code, refused.json()["code"]) == (409, "order_already_cleared")


async def test_a_reject_settles_every_unit_once(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    order = an_order(**BAD_ADDRESS)
    await harness.receive([order])
    answer = await http.post(f"/v1/orders/{order.order_id}/reject", json={"reason": "刷单"})
    assert answer.json()["state"] == "cancelled"
    [settled] = await harness.emitted()
    assert isinstance(settled, CancellationSettled)
    assert (settled.settled_by, settled.progress.stage, settled.progress.code) == ("audit", "cancelled", "order_rejected")
    assert [(line.origin_line, line.cancelled, line.refused) for line in settled.lines] == [
        (line.origin_line, line.quantity, 0) for line in order.part.lines
    ]
    again = await http.post(f"/v1/orders/{order.order_id}/reject", json={"reason": "刷单"})
    assert again.json() == answer.json()
    released = await http.post(f"/v1/orders/{order.order_id}/release", json={"reason": "ok"})
    assert (released.status_code, released.json()["code"]) == (409, "order_already_cancelled")
    assert await harness.emitted() == []
    assert (await harness.receive([order])).emitted == []


async def test_of_release_and_reject_at_once_one_counts(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    """Fails when the order's row is not locked before it is looked at: it would go on and be cancelled as well."""
    orders = [an_order(**BAD_ALL) for _ in range(5)]
    await harness.receive(orders)
    acts = [(order, act) for order in orders for act in ("release", "reject", "release")]
    answers = await asyncio.gather(
        *(http.post(f"/v1/orders/{order.order_id}/{act}", json={"reason": "x"}) for order, act in acts)
    )
    assert {answer.status_code for answer in answers} <= {200, 409}
    emitted = await harness.emitted()
    assert sorted(str(event.key) for event in emitted) == sorted(str(order.root_id) for order in orders)


async def test_a_timed_hold_ends_by_itself_and_only_when_due(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    await put_rules(http, ADDRESS | {"release_after_seconds": 600})
    order = an_order(**BAD_ADDRESS)
    await harness.receive([order])
    harness.clock.advance(seconds=599)
    assert await harness.run_due_tasks("auto_release") == 0
    harness.clock.advance(seconds=2)
    assert await harness.run_due_tasks("auto_release") == 1
    [audited] = await harness.emitted()
    assert isinstance(audited, OrderAudited)
    assert audited.progress.params == {"by": "timer"}


async def test_a_timer_finds_nothing_where_a_person_was_faster(
    harness: Harness, an_order: Make, http: httpx.AsyncClient
) -> None:
    await put_rules(http, ADDRESS | {"release_after_seconds": 600})
    order = an_order(**BAD_ADDRESS)
    await harness.receive([order])
    await http.post(f"/v1/orders/{order.order_id}/reject", json={"reason": "no"})
    await harness.emitted()
    harness.clock.advance(seconds=601)
    await harness.run_due_tasks("auto_release")
    assert await harness.emitted() == []


async def test_a_new_rule_set_judges_the_next_batch(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    """Fails when a worker keeps its rules past a change."""
    assert isinstance((await harness.receive([an_order(address_grade="street_short")])).emitted[0], OrderAudited)
    made = await put_rules(http, ADDRESS)
    assert (made.status_code, made.json()["version"], made.json()["made_by"]) == (200, 2, "mei")
    assert isinstance((await harness.receive([an_order(address_grade="street_short")])).emitted[0], OrderHeld)
    listed = (await http.get("/v1/rule-set/versions")).json()["items"]
    assert [(entry["version"], entry["active"]) for entry in listed] == [(2, True), (1, False)]
    assert (await http.get("/v1/rule-set/versions/1")).json()["rules"][0]["rule_id"] == "address"
    assert (await http.get("/v1/rule-set/versions/9")).status_code == 404


async def test_a_blacklisted_token_holds_until_it_is_taken_off(
    harness: Harness, an_order: Make, http: httpx.AsyncClient
) -> None:
    entry = {"kind": "buyer", "token": BAD_TOKEN}
    added = await http.post("/v1/blacklist", json={"reason": "恶意退款", "entries": [entry, entry]})
    assert added.json() == {"added": 1, "already_listed": 0}
    listed, other = an_order(buyer_token=BAD_TOKEN), an_order()
    outcomes = {event.order_id: type(event) for event in (await harness.receive([listed, other])).emitted}
    assert outcomes == {listed.order_id: OrderHeld, other.order_id: OrderAudited}
    # A token of another kind is another token.
    assert isinstance((await harness.receive([an_order(receiver_token=BAD_TOKEN)])).emitted[0], OrderAudited)
    removed = await http.delete("/v1/blacklist", params=entry | {"reason": "已解决"})
    assert removed.status_code == 204
    assert (await http.delete("/v1/blacklist", params=entry | {"reason": "again"})).status_code == 404
    assert isinstance((await harness.receive([an_order(buyer_token=BAD_TOKEN)])).emitted[0], OrderAudited)


async def test_manual_acts_are_kept_with_who_and_why(harness: Harness, an_order: Make, http: httpx.AsyncClient) -> None:
    order = an_order(**BAD_ADDRESS)
    await harness.receive([order])
    await http.post(f"/v1/orders/{order.order_id}/release", json={"reason": "电话核实"})
    [act] = (await http.get("/v1/operations/acts")).json()["items"]
    assert (act["who"], act["act"], act["subject"], act["why"]) == ("mei", "release_order", str(order.order_id), "电话核实")


async def test_the_database_refuses_a_held_order_without_open_holds(harness: Harness, an_order: Make) -> None:
    order = an_order(**BAD_ADDRESS)
    await harness.receive([order])
    async with harness.runtime.work() as work:
        row = await work.connection.execute(text("SELECT state, open_holds, step FROM order_state"))
        assert row.one() == ("held", 1, 1)
        assert await work.connection.scalar(text("SELECT count(*) FROM hold WHERE state = 'open'")) == 1


async def test_unknown_ids_are_not_found(http: httpx.AsyncClient) -> None:
    missing = UUID(int=uuid4().int)
    for path, code in (
        (f"/v1/orders/{missing}/release", "order_not_found"),
        (f"/v1/orders/{missing}/reject", "order_not_found"),
        (f"/v1/holds/{missing}/release", "hold_not_found"),
    ):
        answer = await http.post(path, json={"reason": "x"})
        assert (answer.status_code, answer.json()["code"]) == (404, code)
    assert (await http.get(f"/v1/orders/{missing}")).status_code == 404
