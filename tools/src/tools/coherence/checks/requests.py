"""Cancels and stops: every request is answered in full, once, and nobody waits for an answer that cannot come."""

from __future__ import annotations

import json
from collections import Counter

from tools.coherence.checks.orders import different
from tools.coherence.model import Check, Finding, Sources, same_in_both, wrong_rows

_SETTLED = """
    SELECT request_id::text, origin_order_id::text, origin_line::int, sku_id, sum(l.cancelled)::int, sum(l.refused)::int
    FROM request_line AS l JOIN request USING (request_id, order_id) WHERE kind = 'cancel'
    GROUP BY request_id, origin_order_id, origin_line, sku_id HAVING sum(l.cancelled + l.refused) > 0
"""
_HALF_ANSWERED = """
    SELECT request_id::text || ' line ' || origin_line,
           format('closed: %s asked for, %s cancelled, %s refused', asked, l.cancelled, l.refused)
    FROM request_line AS l JOIN request USING (request_id, order_id)
    WHERE kind = 'cancel' AND state = 'closed' AND asked <> l.cancelled + l.refused
"""
_OPEN_UNITS = """
    SELECT format('%s of %s line %s %s', request_id, origin_order_id, origin_line, sku_id),
           sum(asked - l.cancelled - l.refused)::text
    FROM request_line AS l JOIN request USING (request_id, order_id)
    WHERE kind = 'cancel' AND state <> 'closed' AND asked > l.cancelled + l.refused
    GROUP BY request_id, origin_order_id, origin_line, sku_id
"""
_PENDING_UNITS = """
    SELECT format('%s of %s line %s %s', request_id, origin_order_id, origin_line, sku_id), sum(quantity)::text
    FROM pending_stop WHERE kind = 'cancel' GROUP BY request_id, origin_order_id, origin_line, sku_id
"""
_PENDING = "SELECT DISTINCT root_id::text, request_id::text FROM pending_stop"
_UNANSWERED = "SELECT root_id::text, request_id::text FROM stop_request WHERE answered_at IS NULL"
_ANSWERED = "SELECT root_id::text, request_id::text, stopped::text FROM stop_request WHERE answered_at IS NOT NULL"
_RETURNED = """
    SELECT order_id::text, attempt, return_no, units::text
    FROM allocation_return JOIN fulfilment_order USING (fulfilment_order_id)
"""

Units = frozenset[tuple[str, int, str, int]]


async def _settlements(sources: Sources) -> list[Finding]:
    """Per request and line, over all that was said: a resend has the same id and counts once."""
    said: dict[tuple[str, str, int, str], tuple[int, int]] = {}
    for record in different(await sources.topics.records("cancellation.settled")):
        if record.type != "CancellationSettled":
            continue
        body = json.loads(record.body)
        for line in body["lines"]:
            key = body["request_id"], line["origin_order_id"], line["origin_line"], line["sku_id"]
            cancelled, refused = said.get(key, (0, 0))
            said[key] = cancelled + line.get("cancelled", 0), refused + line.get("refused", 0)
    said = {key: units for key, units in said.items() if any(units)}
    known = {tuple(row[:4]): tuple(row[4:]) for row in await sources.rows("ingest", _SETTLED)}
    return [
        Finding(
            "{} of {} line {} {}".format(*key),
            f"settled {said.get(key, (0, 0))}, ingest knows of {known.get(key, (0, 0))} (cancelled, refused)",
        )
        for key in sorted(said.keys() | known.keys())
        if said.get(key) != known.get(key)
    ]


async def _pending(sources: Sources) -> list[Finding]:
    waiting = {tuple(row) for row in await sources.rows("inventory", _PENDING)}
    open_ = {tuple(row) for row in await sources.rows("fulfillment", _UNANSWERED)}
    return [
        Finding(f"request {request_id} of {root_id}", "inventory waits for an answer, and no place is asked")
        for root_id, request_id in sorted(waiting - open_)
    ]


async def _answers(sources: Sources) -> list[Finding]:
    """Stops answered and units given back, as fulfillment has them and as it told them: once in each of its lives at most,
    for what a backup has forgotten is decided and told again, and must come out as before."""
    lives: Counter[tuple[tuple[str, Units], str]] = Counter()
    for record in different(await sources.topics.records("allocation.returned")):
        body = json.loads(record.body)
        if record.type == "StopAnswered":
            answer = f"stop {body['request_id']} of {body['root_id']}", _units(body["lines"], "stopped")
        elif record.type == "AllocationReturned":
            subject = f"return {body['return_no']} of {body['order_id']} attempt {body['attempt']}"
            answer = subject, _units(body["lines"], "quantity")
        else:
            continue
        lives[answer, record.source] += 1
    told: Counter[tuple[str, Units]] = Counter()
    for (answer, _), times in lives.items():
        told[answer] = max(told[answer], times)
    kept = Counter(
        [
            (f"stop {request_id} of {root_id}", _stored(stopped))
            for root_id, request_id, stopped in await sources.rows("fulfillment", _ANSWERED)
        ]
        + [
            (f"return {return_no} of {order_id} attempt {attempt}", _stored(units))
            for order_id, attempt, return_no, units in await sources.rows("fulfillment", _RETURNED)
        ]
    )
    return [
        Finding(answer[0], f"{kept[answer]} times in fulfillment, {told[answer]} times on allocation.returned")
        for answer in sorted(kept.keys() | told.keys(), key=str)
        if not kept[answer] == told[answer] == 1
    ]


def _units(lines: list[dict[str, object]], count: str) -> Units:
    """Lines without units say nothing: an answer lists them, what is kept may not."""
    found = [(str(line["origin_order_id"]), line["origin_line"], str(line["sku_id"]), line[count]) for line in lines]
    return frozenset(unit for unit in found if unit[3])  # type: ignore[misc]  # JSON


def _stored(text: str) -> Units:
    return frozenset(tuple(unit) for unit in json.loads(text) if unit[3])


REQUESTS: tuple[Check, ...] = (
    Check("cancels_are_settled_once", "what was said of each cancel is what ingest knows of it, once", _settlements),
    wrong_rows(
        "closed_cancels_are_answered", "of a closed cancel every unit was cancelled or refused", "ingest", _HALF_ANSWERED
    ),
    same_in_both(
        "open_cancels_wait_for_a_place",
        "a cancel is open for the units that inventory has asked a place to stop, and no stop is pending without it",
        ("ingest", _OPEN_UNITS),
        ("inventory", _PENDING_UNITS),
    ),
    Check("pending_stops_can_be_answered", "for every stop that inventory waits for, fulfillment owes an answer", _pending),
    Check("stops_are_answered_once", "every answer to a stop, and all that places gave back, was told once", _answers),
)
