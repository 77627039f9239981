"""Erasure: the person goes, the order stays."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text

from contracts import ChangeRequested, Event, OrderReceived, ReceiverSealed
from eventing.testing import Harness
from ingest.app import make_gateway
from ingest.domain.identity import order_id_of
from ingest.settings import Settings
from webapi.testing import as_caller

ORDER = order_id_of("taobao", "小店", "T-1")
ERASURE = f"/v1/orders/{ORDER}/erasure"
WHY = {"reason": "the buyer asked"}
Make = Callable[..., dict[str, Any]]


def refs_of(events: list[Event]) -> list[UUID]:
    return [event.receiver_ref for event in events if isinstance(event, ReceiverSealed)]


async def finish(harness: Harness) -> None:
    """As if the book had heard of the delivery."""
    async with harness.runtime.work() as work:
        await work.connection.execute(
            text(
                "INSERT INTO order_stage (order_id, root_id, fulfillment, progress_at) VALUES (:id, :id, 1001098, now())"
                " ON CONFLICT (order_id) DO UPDATE SET fulfillment = excluded.fulfillment"
            ),
            {"id": ORDER},
        )


async def test_erasure_destroys_what_names_the_person_and_tells_fulfillment(
    harness: Harness, http: httpx.AsyncClient, an_order: Make
) -> None:
    """Fails when the old data key or a mask stays, or a receiver gets no tombstone."""
    await http.post("/v1/orders", json=an_order())
    sealed = refs_of(await harness.emitted())
    await finish(harness)
    async with harness.runtime.work() as work:
        before = (await work.connection.execute(text("SELECT wrapped_key, ciphertext FROM order_document"))).one()
    answer = await http.post(ERASURE, json=WHY)
    assert (answer.status_code, answer.json()["receivers"]) == (200, 1)
    (tombstone,) = await harness.emitted()
    assert isinstance(tombstone, ReceiverSealed)
    assert (tombstone.receiver_ref, tombstone.deleted, tombstone.version) == (sealed[0], True, 2)
    assert (tombstone.wrapped_key, tombstone.nonce, tombstone.ciphertext) == (b"", b"", b"")
    async with harness.runtime.work() as work:
        after = (await work.connection.execute(text("SELECT wrapped_key, ciphertext FROM order_document"))).one()
        block = (await work.connection.execute(text("SELECT block FROM order_document"))).scalar_one()
    assert after.wrapped_key != before.wrapped_key
    assert after.ciphertext != before.ciphertext
    assert "欧" not in block
    told = (await http.get(f"/v1/orders/{ORDER}")).json()
    assert told["erased_at"] == answer.json()["erased_at"]
    destination = told["order"]["destination"]
    assert {destination[name] for name in ("name_mask", "phone_mask", "phone_token", "receiver_token")} == {""}
    assert (destination["city"], told["order"]["buyer_token"]) == ("杭州市", "")
    assert [(act["act"], act["who"], act["why"]) for act in told["acts"]] == [("erase_order", "mei", "the buyer asked")]


async def test_the_sealed_original_holds_no_person_afterwards(
    harness: Harness, app: FastAPI, http: httpx.AsyncClient, an_order: Make
) -> None:
    """Fails when a field of the original that may name somebody is forgotten, one that no model declares among them."""
    order = an_order(invoice={"kind": "ordinary", "title": "欧阳小明", "email": "o@example.org"})
    await http.post("/v1/orders", json=order)
    await finish(harness)
    await http.post(ERASURE, json=WHY)
    async with harness.runtime.work() as work:
        found = (await work.connection.execute(text("SELECT key_id, wrapped_key, nonce, ciphertext FROM order_document"))).one()
    clear = app.state.gateway.envelope.open(found, str(ORDER)).decode()
    words = ("欧阳", "13812345678", "文一西路", "buyer-1", "不要打电话", "o@example.org")
    assert not [word for word in words if word in clear]
    assert "DRESS" in clear


async def test_erasing_twice_is_erasing_once(harness: Harness, http: httpx.AsyncClient, an_order: Make) -> None:
    """Fails when a repetition sends tombstones or notes an act again."""
    await http.post("/v1/orders", json=an_order())
    await finish(harness)
    first = await http.post(ERASURE, json=WHY)
    await harness.emitted()
    harness.clock.advance(minutes=5)
    second = await http.post(ERASURE, json=WHY)
    assert (second.status_code, second.json()) == (200, first.json())
    assert await harness.emitted() == []
    assert len((await http.get(f"/v1/orders/{ORDER}")).json()["acts"]) == 1


async def test_a_changed_receiver_is_erased_with_its_former_one(
    harness: Harness, http: httpx.AsyncClient, an_order: Make
) -> None:
    """Fails when only the receiver that the block names last gets a tombstone."""
    await http.post("/v1/orders", json=an_order())
    receiver = an_order()["receiver"] | {"street": "文三西路 1 号"}
    await http.post("/v1/orders", json=an_order(source_version=101, receiver=receiver))
    events = await harness.emitted()
    assert [type(event) for event in events if not isinstance(event, ReceiverSealed)] == [OrderReceived, ChangeRequested]
    sealed = refs_of(events)
    await finish(harness)
    assert (await http.post(ERASURE, json=WHY)).json()["receivers"] == 2
    assert sorted(refs_of(await harness.emitted())) == sorted(sealed)


async def test_what_people_wrote_beside_their_acts_goes_too(harness: Harness, http: httpx.AsyncClient, an_order: Make) -> None:
    """Fails when a name in a note or reason outlives the order's receiver; who did what, and when, stays."""
    await http.post("/v1/orders", json=an_order())
    path = f"/v1/orders/{ORDER}"
    words = "欧阳小明 rang, 13812345678"
    await http.post(f"{path}/changes", json={"notes": {"seller_note": "x"}, "reason": words})
    body = {"reason": "buyer_asked", "note": words, "lines": [{"line": 2}]}
    request_id = (await http.post(f"{path}/cancellation", json=body)).json()["request_id"]
    await http.delete(f"/v1/cancellations/{request_id}", params={"reason": words})
    await finish(harness)
    await http.post(ERASURE, json=WHY)
    async with harness.runtime.work() as work:
        acts = (await work.connection.execute(text("SELECT act, who, why FROM manual_act ORDER BY at, id"))).all()
        notes = (await work.connection.execute(text("SELECT note FROM request"))).scalars().all()
    assert [act.act for act in acts] == ["change_order", "cancel_order", "withdraw_cancellation", "erase_order"]
    assert [act.why for act in acts] == ["", "", "", WHY["reason"]]
    assert set(notes) == {""}


async def test_a_version_that_comes_after_the_erasure_is_still_understood(
    harness: Harness, http: httpx.AsyncClient, an_order: Make
) -> None:
    """Fails when nothing is left to compare a newer version with."""
    await http.post("/v1/orders", json=an_order())
    await finish(harness)
    await http.post(ERASURE, json=WHY)
    answer = await http.post("/v1/orders", json=an_order(source_version=101, receiver=None, trade_state="finished"))
    assert (answer.status_code, answer.json()["results"][0]["outcome"]) == (202, "accepted")


async def test_an_order_on_its_way_keeps_its_receiver_unless_forced(
    harness: Harness, http: httpx.AsyncClient, an_order: Make
) -> None:
    """Fails when an order that still has to be shipped loses its receiver by a slip."""
    await http.post("/v1/orders", json=an_order())
    answer = await http.post(ERASURE, json=WHY)
    assert (answer.status_code, answer.json()["code"]) == (409, "erasure_too_early")
    assert (await http.post(ERASURE, json={**WHY, "force": True})).status_code == 200


async def test_an_order_that_waits_here_must_be_cancelled_first(
    harness: Harness, http: httpx.AsyncClient, an_order: Make
) -> None:
    """Fails when an order that could still be sent is left without its receiver."""
    await http.post("/v1/orders", json=an_order(payment_state="unpaid"))
    answer = await http.post(ERASURE, json={**WHY, "force": True})
    assert (answer.status_code, answer.json()["code"]) == (409, "erasure_of_unsent")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"/v1/orders/{UUID(int=1)}/erasure", WHY, 404),
        (ERASURE, {}, 422),
        (ERASURE, {"reason": "x", "force": "yes"}, 422),
        (ERASURE, {"reason": "x", "all": True}, 422),
    ],
)
async def test_a_wrong_erasure_is_a_problem(http: httpx.AsyncClient, path: str, body: dict[str, Any], status: int) -> None:
    assert (await http.post(path, json=body)).status_code == status


async def test_only_an_administrator_erases(app: FastAPI, harness: Harness) -> None:
    async with as_caller(app, roles=["operator"], principal="li") as operator:
        assert (await operator.post(ERASURE, json=WHY)).status_code == 403


async def test_documents_sealed_before_a_change_of_key_open_with_the_file_of_older_keys(
    harness: Harness, app: FastAPI, settings: Settings, http: httpx.AsyncClient, an_order: Make, tmp_path: Path
) -> None:
    """Fails when a new key-encryption key makes every earlier order unreadable, or old ones are still sealed with."""
    await http.post("/v1/orders", json=an_order())
    await finish(harness)
    older = tmp_path / "older.json"
    older.write_text(json.dumps({settings.receiver_kek_id: settings.receiver_kek.get_secret_value()}))
    newer = {"receiver_kek": SecretStr("B" * 42 + "A="), "receiver_kek_id": "2", "receiver_older_keks_file": older}
    app.state.gateway = make_gateway(settings.model_copy(update=newer), app.state.tokens)
    assert (await http.post(ERASURE, json=WHY)).status_code == 200
    async with harness.runtime.work() as work:
        assert (await work.connection.execute(text("SELECT key_id FROM order_document"))).scalar_one() == "2"
