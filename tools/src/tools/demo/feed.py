"""Sending the script over HTTP and over Kafka, and hearing what becomes of it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer

from tools.client import ApiError, Clients

BATCH = 50


async def send_over_http(oms: Clients, orders: Sequence[dict[str, Any]]) -> Counter[str]:
    """In batches, as a channel's connector would; returns outcomes by name."""
    outcomes: Counter[str] = Counter()
    for start in range(0, len(orders), BATCH):
        answer = await oms.post("ingest", "/v1/orders", {"orders": list(orders[start : start + BATCH])})
        outcomes.update(result["outcome"] for result in answer["results"])
    return outcomes


async def send_over_kafka(bootstrap_servers: str, topic: str, orders: Iterable[dict[str, Any] | bytes]) -> int:
    """As an external system would: plain JSON, a key of its own, no headers. Bytes go out as they are."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
    await producer.start()
    try:
        waits = []
        for order in orders:
            body = order if isinstance(order, bytes) else json.dumps(order, ensure_ascii=False).encode()
            key = b"demo" if isinstance(order, bytes) else order["channel_order_no"].encode()
            waits.append(await producer.send(topic, body, key=key))
        await asyncio.gather(*waits)
        return len(waits)
    finally:
        await producer.stop()


async def send_refused(oms: Clients, refused: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Orders that must be refused: (what is wrong, what the answer said). An answer that takes one is an error."""
    answers = []
    for what, order in refused.items():
        try:
            await oms.post("ingest", "/v1/orders", order)
        except ApiError as error:
            if error.status not in {413, 422}:
                raise
            errors = error.problem.get("errors") or [{"field": "", "reason": error.problem.get("title", "")}]
            answers.append((what, f"{error.status} {errors[0]['field']}: {errors[0]['reason']}"))
        else:
            raise AssertionError(f"{what}: the order was taken")
    return answers
