"""Is anything still under way, late, or told otherwise than it was?"""

from __future__ import annotations

import json
from collections.abc import Mapping

from tools.coherence.model import Check, Finding, Sources, TopicRecord, everywhere, same_in_both

SERVICES = ("ingest", "audit", "inventory", "router", "fulfillment", "ledger")
OLD_OUTBOX_SECONDS = 60
"""A row that waits longer tells of a relay that stands still; ordinarily it is milliseconds."""
OLD_WAIT_SECONDS = 120
LATE_TASK_SECONDS = 300
STEP = 1_000_000
"""What one step weighs in a mark of the order book."""

# An order that was taken up again stays at the version that it was taken up from; the first one goes on.
_KNOWN_VERSIONS = "SELECT channel, shop_id, channel_order_no, max(source_version) FROM channel_order GROUP BY 1, 2, 3"
_QUARANTINED = "SELECT partition, record_offset FROM quarantine WHERE topic LIKE '%channel.orders'"
_SET_ASIDE = """
    SELECT count(DISTINCT subject) FROM manual_act
    WHERE act IN ('discard_quarantined', 'edit_quarantined') AND subject NOT IN (SELECT id::text FROM quarantine)
"""


def _seen_by_the_book(service: str, sql: str) -> Check:
    return same_in_both(
        f"book_has_seen_{service}",
        f"the order book knows the last step that {service} reported of every order",
        (service, sql),
        ("ingest", f"SELECT order_id::text, ({service} / {STEP})::text FROM order_stage WHERE {service} >= {STEP}"),  # noqa: S608
    )


async def _lag(sources: Sources) -> list[Finding]:
    return [Finding(name, f"{lag} records not consumed") for name, lag in (await sources.topics.lags()).items() if lag]


async def _intake(sources: Sources) -> list[Finding]:
    """What a person discarded or mended is in neither place; such an act makes up for one record."""
    known = {
        (channel, shop, number): version for channel, shop, number, version in await sources.rows("ingest", _KNOWN_VERSIONS)
    }
    quarantined = {tuple(row) for row in await sources.rows("ingest", _QUARANTINED)}
    missing = [
        record
        for record in await sources.topics.records("channel.orders")
        if not _is_known(record, known) and (record.partition, record.offset) not in quarantined
    ]
    if len(missing) <= (await sources.rows("ingest", _SET_ASIDE))[0][0]:
        return []
    return [Finding(f"partition {r.partition} offset {r.offset}", "neither in the order book nor quarantined") for r in missing]


def _is_known(record: TopicRecord, known: Mapping[tuple[str, str, str], int]) -> bool:
    try:
        body = json.loads(record.body)
        version = known.get((body["channel"], body["shop_id"], body["channel_order_no"]))
        return version is not None and bool(body["source_version"] <= version)
    except (ValueError, LookupError, TypeError, RecursionError):
        return False  # Not readable: then it belongs in quarantine.


FLOW: tuple[Check, ...] = (
    # Nothing under way
    Check("consumers_caught_up", "every consumer has read its topics to the end", _lag),
    everywhere(
        "outboxes_empty", "nothing waits to be sent", SERVICES, "SELECT shard, count(*) || ' rows' FROM outbox GROUP BY shard"
    ),
    everywhere(
        "no_task_due",
        "no task is due",
        SERVICES,
        "SELECT kind || ' ' || key, 'due since ' || due_at FROM task WHERE due_at <= now()",
    ),
    everywhere(
        "nothing_parked",
        "no key is parked and no record waits for a fact",
        SERVICES,
        "SELECT consumer || ' ' || key, cause || ': ' || reason_code || ' ' || reason FROM parked_key",
    ),
    # Age limits
    everywhere(
        "outbox_moves",
        f"no outbox row is older than {OLD_OUTBOX_SECONDS} s",
        SERVICES,
        f"SELECT shard, max(now() - ce_time) || ' old' FROM outbox WHERE ce_time < now() - interval '{OLD_OUTBOX_SECONDS} s' GROUP BY shard",  # noqa: E501, S608
        live=True,
    ),
    everywhere(
        "facts_arrive",
        f"no record waits longer than {OLD_WAIT_SECONDS} s for a fact",
        SERVICES,
        f"SELECT kind || ' ' || key, 'since ' || since FROM waiting WHERE since < now() - interval '{OLD_WAIT_SECONDS} s'",  # noqa: S608
        live=True,
    ),
    everywhere(
        "tasks_run",
        f"no task is more than {LATE_TASK_SECONDS} s late",
        SERVICES,
        f"SELECT kind || ' ' || key, 'due since ' || due_at FROM task WHERE due_at < now() - interval '{LATE_TASK_SECONDS} s'",  # noqa: S608
        live=True,
    ),
    # Intake and the order book
    Check("channel_orders_are_taken", "every record on channel.orders is in the order book or in quarantine", _intake),
    _seen_by_the_book("audit", "SELECT order_id::text, step::text FROM order_state WHERE step > 0"),
    _seen_by_the_book("inventory", "SELECT order_id::text, step::text FROM stock_order WHERE step > 0"),
    _seen_by_the_book("router", "SELECT order_id::text, step::text FROM order_state"),
    _seen_by_the_book("fulfillment", "SELECT order_id::text, step::text FROM tracked_order WHERE step > 0"),
    _seen_by_the_book("ledger", "SELECT order_id::text, step::text FROM posted_order"),
)
