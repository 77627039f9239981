"""What a rewind alone does not bring back, made up for as an outsider can: by HTTP calls, told by what topics hold."""

from __future__ import annotations

import json
from datetime import datetime

from tools.client import ApiError, Clients
from tools.coherence.topics import KafkaTopics
from tools.drill.load import Load
from tools.stack import Stack
from tools.waiting import until

CAUGHT_UP_SECONDS = 60.0
REASON = "restored from a backup: it was cleared before the loss"


async def reconcile(service: str, stack: Stack, load: Load, since: datetime) -> dict[str, int]:
    """Returns what was done, counted by what it was."""
    if service == "ingest":
        return {"orders pushed again by their channels": await load.push_again(since.timestamp())}
    if service == "audit":
        topics = KafkaTopics(stack.bootstrap_servers, stack.topic_prefix)
        await until(lambda: _caught_up(topics, "audit"), seconds=CAUGHT_UP_SECONDS, what="audit has read its topics again")
        async with Clients(stack.urls, stack.keys["admin"]) as oms:
            return {"orders released again": await release_cleared(oms, topics)}
    return {}


async def release_cleared(oms: Clients, topics: KafkaTopics) -> int:
    """Release what audit holds anew although it once cleared it: a person's release is not in any topic but its outcome is.

    The release says OrderAudited once more; inventory has the order already and does nothing.
    """
    cleared = set()
    for message in await topics.messages("order.audited"):
        if dict(message.headers).get("ce_type") == b"OrderAudited" and message.value is not None:
            part = json.loads(message.value)
            cleared |= {part["order_id"], part["root_id"]}
    held = {hold["order_id"] async for hold in oms.pages("audit", "/v1/holds", status="open")}
    released = 0
    for order_id in sorted(held & cleared):
        try:
            await oms.post("audit", f"/v1/orders/{order_id}/release", {"reason": REASON})
        except ApiError as error:
            if error.status not in {404, 409}:  # Somebody was faster.
                raise
        else:
            released += 1
    return released


async def _caught_up(topics: KafkaTopics, service: str) -> bool:
    lags = await topics.lags()
    return not any(lag for name, lag in lags.items() if name.split(" ")[0].split(".")[0] == service)
