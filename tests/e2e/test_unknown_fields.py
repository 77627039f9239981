"""Runs after the coherence checks: it plants an order that ingest never sent, which they would rightly report."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from e2e_support import SECONDS, Publish, Shop, body_of

from tools.coherence.topics import KafkaTopics
from tools.stack import Stack
from tools.waiting import until


async def test_a_field_no_service_knows_arrives_at_the_end(shop: Shop, stack: Stack, publish: Publish) -> None:
    """Fails when a middle service drops what a newer ingest added to the order block."""
    good = await shop.stocked(2)
    order = shop.order(good)
    await shop.send(order)
    detail = await shop.reaches(order, "delivered")
    topics = KafkaTopics(stack.bootstrap_servers, stack.topic_prefix)
    (record,) = [record for record in await topics.records("order.received") if record.subject == detail["order_id"]]
    new_id = str(uuid4())
    body = json.loads(record.body.replace(detail["order_id"].encode(), new_id.encode()))
    body["order"]["loyalty"] = {"tier": "金卡", "points": 12}
    headers = {
        "ce_specversion": b"1.0",
        "ce_id": str(uuid4()).encode(),
        "ce_source": b"/ingest",
        "ce_type": b"OrderReceived",
        "ce_time": detail["received_at"].encode(),
        "ce_dataschema": b"urn:oms:OrderReceived:1",
        "ce_subject": new_id.encode(),
        "ce_progress": json.dumps(body["progress"]).encode(),
        "content-type": b"application/json",
    }
    await publish("order.received", body_of(body), key=new_id.encode(), headers=headers)

    async def shipped() -> dict[str, Any] | None:
        found = [each for each in await topics.records("shipment.created") if each.subject == new_id]
        return json.loads(found[0].body) if found else None

    event = await until(shipped, seconds=SECONDS, what="the order is shipped", every_seconds=1)
    assert event is not None
    assert event["order"]["loyalty"] == {"tier": "金卡", "points": 12}
