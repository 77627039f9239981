"""Every event of every spine topic, spoilt: each reader must set it aside with field and reason, and go on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any
from uuid import uuid4

from e2e_support import SECONDS, Publish, Shop

from contracts import TOPICS, ChannelOrder, Event
from contracts.schemas import example_of
from tools.client import Clients
from tools.waiting import until

RAW = "ingest"
"""Reads most topics by their headers alone; what it reads whole is tried at `cancellation.settled`."""
Spoilt = tuple[str, dict[str, bytes], bytes, str]
"""What is wrong, headers over the good ones, body, the field that must be named ("" where there is none)."""


def spoil(event: type[Event]) -> list[Spoilt]:
    body: dict[str, Any] = json.loads(example_of(event))
    subject = next(name for name in ("order_id", "document_id") if name in body)
    text = json.dumps(body)
    tomorrow = (datetime.now(UTC) + timedelta(hours=30)).isoformat().encode()
    return [
        ("a wrong type", {}, json.dumps(body | {subject: 17}).encode(), subject),
        ("a missing field", {}, json.dumps({name: value for name, value in body.items() if name != subject}).encode(), subject),
        ("a lone surrogate", {}, text.replace(body[subject], "\\ud800", 1).encode(), ""),
        ("a NUL character", {}, text.replace(body[subject], "a\\u0000b", 1).encode(), ""),
        ("no JSON", {}, text[: len(text) // 2].encode(), ""),
        ("a time to come", {"ce_time": tomorrow}, text.encode(), "ce_time"),
        ("no envelope", {"ce_id": b"17"}, text.encode(), "ce_id"),
    ]


async def test_a_spoilt_record_is_set_aside_by_every_reader(oms: Clients, publish: Publish, shop: Shop) -> None:
    """Fails when a reader takes an event unseen, stops at it, or loses it; or does not say what is wrong with it."""
    turn = cycle(range(7))
    sent: list[tuple[str, str, str, str, str]] = []
    for topic in TOPICS.values():
        readers = [reader for reader in topic.readers if reader not in {"external", RAW}]
        if topic.name == "cancellation.settled":
            readers = [RAW]
        if not topic.order_keyed or not readers or ChannelOrder in topic.events:
            continue
        for event in topic.events:
            read_by = [reader for reader in readers if (event.TYPE, reader) not in SKIPPED]
            for _ in range(2):
                what, headers, body, field = spoil(event)[next(turn)]
                key = str(uuid4())
                good = {
                    "ce_specversion": b"1.0",
                    "ce_id": str(uuid4()).encode(),
                    "ce_source": b"/test",
                    "ce_type": event.TYPE.encode(),
                    "ce_time": datetime.now(UTC).isoformat().encode(),
                    "ce_dataschema": f"urn:oms:{event.TYPE}:1".encode(),
                    "ce_subject": key.encode(),
                    "content-type": b"application/json",
                }
                await publish(topic.name, body, key=key.encode(), headers=good | headers)
                sent += [(reader, key, event.TYPE, what, field) for reader in read_by]
    assert len(sent) > 40
    order = shop.order(await shop.stocked(1))
    await shop.send(order)

    async def parked(reader: str, key: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await oms.get(reader, "/v1/operations/parked", key=key))["items"]
        return items

    wrong = []
    for reader, key, kind, what, field in sent:
        try:
            shown = await until(lambda r=reader, k=key: parked(r, k), seconds=SECONDS, what="it is parked")  # type: ignore[misc]
        except TimeoutError:
            wrong.append(f"{reader}: {kind} with {what}: not set aside")
            continue
        if field and field not in {each["field"] for each in shown}:
            wrong.append(f"{reader}: {kind} with {what}: does not name {field}: {shown[0]['reason']}")
    # Whatever was set aside, the partitions went on.
    await shop.reaches(order, "delivered")
    for reader, key, *_ in sent:
        if await parked(reader, key):
            await oms.post(reader, f"/v1/operations/parked/{key}/discard", {"reason": "made by a test"})
    assert not wrong, "\n".join(wrong)


SKIPPED = {("ReceiptConfirmed", "audit"), ("CancelRequested", "ledger"), ("CancelWithdrawn", "ledger")}
"""Types that a reader of the topic has no use for: it skips them by their header."""
