"""What a rewind alone does not bring back, made up for as an outsider can: by HTTP calls, told by what topics hold."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import httpx
from aiokafka.structs import ConsumerRecord

from tools.client import ApiError, Clients
from tools.coherence.topics import KafkaTopics
from tools.drill.load import Load
from tools.stack import Stack
from tools.waiting import until

CAUGHT_UP_SECONDS = 60.0
FLOWING_RECORDS = 100
"""Under load there is always something between the broker and a consumer: what came in since its last batch began."""
REASON = "restored from a backup: it was cleared before the loss"


async def reconcile(service: str, stack: Stack, load: Load, since: datetime) -> dict[str, int]:
    """Returns what was done, counted by what it was."""
    if service == "ingest":
        pushed = await load.push_again(since.timestamp())
        await wait_caught_up(stack, service)
        async with Clients(stack.urls, stack.keys["admin"]) as oms:
            # What peers settled about an order that was pushed over HTTP comes before the order itself is there again.
            retried = await retry_parked(oms, service, reason="restored: the order is here again")
            return {"orders pushed again by their channels": pushed, "parked keys retried": retried}
    topics = KafkaTopics(stack.bootstrap_servers, stack.topic_prefix)
    if service == "audit":
        await wait_caught_up(stack, service)
        async with Clients(stack.urls, stack.keys["admin"]) as oms:
            return {"orders released again": await release_cleared(oms, topics)}
    if service == "ledger":
        await wait_caught_up(stack, service)
        void = superseded(list(map(posted, await topics.messages("voucher.posted"))))
        path = stack.folder / "superseded-vouchers.json"
        path.write_text(json.dumps(void, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        renumbered = sum(row["number"] != row["replaced_by_number"] for row in void)
        return {"vouchers superseded": len(void), "of them with another number": renumbered}
    return {}


async def parked_keys(oms: Clients, service: str) -> set[str]:
    return {row["key"] async for row in oms.pages(service, "/v1/operations/parked")}


async def retry_parked(oms: Clients, service: str, *, reason: str) -> int:
    """Have everything that is parked tried again; returns how many keys that were."""
    keys = await parked_keys(oms, service)
    for key in sorted(keys):
        try:
            await oms.post(service, f"/v1/operations/parked/{key}/retry", {"reason": reason})
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:  # Drained meanwhile.
                raise
    return len(keys)


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


def posted(message: ConsumerRecord[bytes, bytes]) -> dict[str, Any]:
    """A voucher as it was told, with the life of the ledger that told it."""
    voucher: dict[str, Any] = json.loads(message.value or b"{}")
    return voucher | {"source": dict(message.headers).get("ce_source", b"").decode()}


def superseded(vouchers: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Vouchers of an earlier life that a later one posted anew, from the same event by the same template.

    Finance strikes out the one and keeps the other: the books hold the later only.
    """
    last: dict[tuple[str, str], dict[str, Any]] = {}
    different = {voucher["voucher_id"]: voucher for voucher in vouchers}.values()
    void = []
    for voucher in different:
        key = voucher["event_id"], voucher["template"]
        before, last[key] = last.get(key), voucher
        if before is not None and before["source"] != voucher["source"]:
            void.append((before, voucher))
    return [
        {name: old[name] for name in ("voucher_id", "source", "book", "period", "word", "number", "template", "event_id")}
        | {"replaced_by": new["voucher_id"], "replaced_by_number": new["number"]}
        for old, new in void
    ]


async def wait_caught_up(stack: Stack, service: str) -> None:
    """Errors: TimeoutError where the service does not read on: it is parked whole, or its breaker is open."""
    topics = KafkaTopics(stack.bootstrap_servers, stack.topic_prefix)
    await until(lambda: _caught_up(topics, service), seconds=CAUGHT_UP_SECONDS, what=f"{service} has read its topics again")


async def _caught_up(topics: KafkaTopics, service: str) -> bool:
    lags = await topics.lags()
    behind = sum(lag for name, lag in lags.items() if name.split(" ")[0].split(".")[0] == service)
    return behind <= FLOWING_RECORDS
