"""A buyer's name, phone and street pass through everything that can happen, and are in clear nowhere afterwards.

Runs after the coherence checks: it puts a bad record on a topic, which they would rightly report.
"""

from __future__ import annotations

import json
import secrets
from typing import Any
from uuid import uuid4

import httpx
from e2e_support import SECONDS, Publish, Shop, body_of

from tools.client import Clients
from tools.personal_data import Needles, files_of, scan
from tools.stack import Stack
from tools.waiting import until


async def test_nothing_personal_lies_open_anywhere(shop: Shop, stack: Stack, oms: Clients, publish: Publish) -> None:
    """Fails when a name, phone, street or note is written, sent, logged or answered in clear, in any form, by any service."""
    tag = secrets.token_hex(2)
    phone = f"13{secrets.randbelow(10**9):09d}"
    receiver = shop.maker.receiver() | {"name": f"司马鉴别{tag}", "phone": phone, "street": f"隐秘胡同 {tag} 弄九百九十九号"}
    moved = receiver | {"name": f"诸葛鉴别{tag}", "street": f"无人知巷 {tag} 号"}
    note = f"请放门口花盆{tag}"
    texts = [receiver["name"], phone, receiver["street"], moved["name"], moved["street"], note, f"乌有乡{tag}"]
    private = {"receiver": receiver, "notes": {"buyer_note": note, "seller_note": note}}
    answers: list[bytes] = []

    delivered = shop.order(await shop.stocked(9), 2, **private)
    held = shop.order(await shop.stocked(50), 25, **private)
    unknown_region = shop.order(await shop.stocked(9), **private | {"receiver": receiver | {"district": f"乌有乡{tag}"}})
    parked = shop.order(shop.good(), **private)
    await shop.send(delivered, held, unknown_region, parked)
    detail = await shop.reaches(held, "held")
    await oms.post("ingest", f"/v1/orders/{detail['order_id']}/changes", {"receiver": moved, "reason": "moved"})
    await shop.cancel(held, [{"line": 1, "quantity": 1}])
    await shop.reaches(delivered, "delivered")
    await shop.reaches(parked, "parked")

    # What is refused: over HTTP, over Kafka, and on a spine topic, where it is parked with all it holds.
    answers.append(await _refused(stack, delivered | {"lines": []}))
    answers.append(await _refused(stack, delivered | {phone: 1, "receiver": receiver | {"phone": [phone]}}))
    await publish("channel.orders", body_of(delivered | {"lines": "none", "source_version": 2}))
    bad_key = str(uuid4())
    await publish("order.received", body_of({"name": receiver["name"], "phone": phone}), key=bad_key.encode())

    async def set_aside() -> bool:
        quarantined = [row async for row in oms.pages("ingest", "/v1/operations/quarantined")]
        stashed = [row async for row in oms.pages("audit", "/v1/operations/parked")]
        answers.extend(json.dumps(rows, ensure_ascii=False).encode() for rows in (quarantined, stashed))
        return bool(quarantined and stashed)

    await until(set_aside, seconds=SECONDS, what="bad records are set aside")
    async with Clients(stack.urls, stack.keys["viewer"]) as viewer:
        orders = [await _shown(viewer, order) for order in (delivered, held, unknown_region, parked)]
    answers.append(json.dumps(orders, ensure_ascii=False).encode())

    needles = Needles(texts)
    found, places = await scan(
        needles,
        database_urls=stack.database_urls,
        bootstrap_servers=stack.bootstrap_servers,
        prefix=stack.topic_prefix,
        files=files_of("test"),
    )
    # The record of our own making on order.received is what it is: in clear where we put it, and nowhere else.
    found = [sighting for sighting in found if sighting.place != "topic order.received" or sighting.needle > 1]
    assert not found, found
    assert places > 200
    assert not [sighting for answer in answers for sighting in needles.find("an answer", answer)]

    for service in ("ingest", "audit", "ledger"):
        await oms.post(service, f"/v1/operations/parked/{bad_key}/discard", {"reason": "made by a test"})
    for row in [row async for row in oms.pages("ingest", "/v1/operations/quarantined")]:
        await oms.post("ingest", f"/v1/operations/quarantined/{row['id']}/discard", {"reason": "made by a test"})


async def _shown(viewer: Clients, order: dict[str, Any]) -> Any:
    path = f"/v1/orders/by-channel/{order['channel']}/{order['shop_id']}/{order['channel_order_no']}"
    return await viewer.get("ingest", path)


async def _refused(stack: Stack, order: dict[str, Any]) -> bytes:
    headers = {"Authorization": f"Bearer {stack.keys['channel']}"}
    async with httpx.AsyncClient(base_url=stack.urls["ingest"], headers=headers, trust_env=False) as client:
        answer = await client.post("/v1/orders", json=order)
    assert answer.status_code == 422
    return answer.content
