"""Orders and their units, from stage to stage: none lost, none doubled, however they were split, merged or cancelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tools.coherence.model import Check, Finding, Sources, Term, TopicRecord, adds_up, same_in_both, wrong_rows

HAS_PART = "part <> ''"
"""Ingest keeps a part only where the block does not say the same."""

_SENT = "SELECT order_id::text, '' FROM channel_order WHERE sent_version IS NOT NULL"
# A root that audit only knows from a cancel counts: its first record was discarded by it.
_HEARD = "SELECT order_id::text, '' FROM order_state WHERE parent_id IS NULL AND NOT is_merge"
_CLEARED = "SELECT order_id::text, '' FROM order_state WHERE state = 'cleared'"
_OF_ROOTS = "SELECT order_id::text FROM order_state WHERE root_id = ANY ($1::uuid[])"
_TAKEN = "SELECT order_id::text, '' FROM stock_order WHERE state <> 'root' AND parent_id IS NULL"
# An order that was parked there, and discarded for the cancel of all of it, leaves its root alone: it never was an order here.
_DISCARDED = """
    SELECT root_id::text FROM stock_order
    WHERE root_id IN (SELECT order_id FROM stock_order WHERE state = 'root') GROUP BY root_id HAVING count(*) = 1
"""
_UNROUTED = """
    SELECT order_id::text, 'held against the pool, and nobody is routing it' FROM stock_order WHERE state = 'reserved'
"""
# Decisions go with age: only those as young as the oldest that is kept can be missed.
_UNDECIDED = """
    SELECT o.order_id::text, 'no decision of attempt ' || o.attempt
    FROM order_state AS o LEFT JOIN decision AS d USING (order_id, attempt)
    WHERE d.order_id IS NULL AND o.decided_at >= (SELECT min(decided_at) FROM decision)
"""
# What a place was given has left, went back, or is still there.
_SHIPPED_AS_ORDERED = """
    WITH given AS (
        SELECT fulfilment_order_id, status, (l ->> 'origin_order_id')::uuid AS origin, (l ->> 'origin_line')::int AS line,
               l ->> 'sku_id' AS sku_id, (l ->> 'quantity')::int AS quantity
        FROM fulfilment_order JOIN fulfilment_content USING (fulfilment_order_id),
             json_array_elements(part_json::json -> 'lines') AS l
    ), gone AS (
        SELECT fulfilment_order_id, origin_order_id AS origin, origin_line AS line, sku_id, quantity
        FROM shipment JOIN shipment_line USING (shipment_id)
        UNION ALL
        SELECT fulfilment_order_id, (u ->> 0)::uuid, (u ->> 1)::int, u ->> 2, (u ->> 3)::int
        FROM allocation_return, jsonb_array_elements(units) AS u
        UNION ALL
        SELECT fulfilment_order_id, (l ->> 'origin_order_id')::uuid, (l ->> 'origin_line')::int, l ->> 'sku_id',
               (l ->> 'quantity')::int
        FROM fulfilment_order JOIN fulfilment_content USING (fulfilment_order_id),
             json_array_elements(coalesce(left_json, part_json)::json -> 'lines') AS l
        WHERE status NOT IN ('closed', 'cancelled')
    )
    SELECT format('%s line %s %s', fulfilment_order_id, line, sku_id),
           format('given %s, accounted for %s', coalesce(g.quantity, 0), coalesce(a.quantity, 0))
    FROM given AS g
    FULL JOIN (
        SELECT fulfilment_order_id, origin, line, sku_id, sum(quantity) AS quantity
        FROM gone GROUP BY fulfilment_order_id, origin, line, sku_id
    ) AS a USING (fulfilment_order_id, origin, line, sku_id)
    WHERE g.quantity IS DISTINCT FROM a.quantity
"""

# Each gives (line, units): where the units of a channel order's lines are.
_SENT_UNITS = f"""
    SELECT format('%s line %s %s', origin, line, sku_id), quantity
    FROM (
        SELECT first_order_id AS origin, (l ->> 'line')::int AS line, l ->> 'sku_id' AS sku_id,
               (l ->> 'quantity')::int AS quantity
        FROM channel_order JOIN order_document USING (order_id), json_array_elements(block::json -> 'lines') AS l
        WHERE sent_version IS NOT NULL AND NOT {HAS_PART}
        UNION ALL
        SELECT (l ->> 'origin_order_id')::uuid, (l ->> 'origin_line')::int, l ->> 'sku_id', (l ->> 'quantity')::int
        FROM channel_order JOIN order_document USING (order_id),
             json_array_elements(CASE WHEN {HAS_PART} THEN part::json -> 'part' -> 'lines' ELSE '[]' END) AS l
        WHERE sent_version IS NOT NULL
    ) AS sent
"""  # noqa: S608  a condition of ours
_CANCELLED_UNITS = """
    SELECT format('%s line %s %s', origin_order_id, origin_line, sku_id), cancelled
    FROM request_line JOIN request USING (request_id, order_id) WHERE kind = 'cancel' AND is_sent AND cancelled > 0
"""


def _units_in(lines: str, source: str) -> str:
    return f"""
        SELECT format('%s line %s %s', l ->> 'origin_order_id', l ->> 'origin_line', l ->> 'sku_id'), (l ->> 'quantity')::int
        FROM {source}, json_array_elements({lines} -> 'lines') AS l
    """  # noqa: S608  words of ours


_UNITS: tuple[Term, ...] = (
    Term("sent", "ingest", 1, _SENT_UNITS),
    Term("cancelled", "ingest", -1, _CANCELLED_UNITS),
    Term("held by audit", "audit", -1, _units_in("part_json::json", "(SELECT * FROM order_state WHERE state = 'held') AS o")),
    Term(
        "waiting in inventory",
        "inventory",
        -1,
        _units_in(
            "convert_from(body, 'UTF8')::json -> 'part'",
            "(SELECT body FROM stock_order JOIN order_document USING (order_id)"
            " WHERE state IN ('reserved', 'backordered', 'stuck', 'returned')) AS o",
        ),
    ),
    Term(
        "at a place",
        "fulfillment",
        -1,
        _units_in(
            "coalesce(left_json, part_json)::json",
            "(SELECT left_json, part_json FROM fulfilment_order JOIN fulfilment_content USING (fulfilment_order_id)"
            " WHERE status NOT IN ('closed', 'cancelled')) AS o",
        ),
    ),
    Term(
        "shipped",
        "fulfillment",
        -1,
        "SELECT format('%s line %s %s', origin_order_id, origin_line, sku_id), quantity FROM shipment_line",
    ),
)

# Lines that left in more than one part or parcel, with all their money.
_PARTED_MONEY = """
    WITH parted AS (
        SELECT DISTINCT origin_order_id
        FROM shipment JOIN shipment_line USING (shipment_id)
        WHERE order_id <> root_id OR part_json IS NOT NULL OR order_id <> origin_order_id
    )
    SELECT l ->> 'origin_order_id', (l ->> 'origin_line')::int, l ->> 'sku_id',
           sum((l ->> 'quantity')::int)::int, sum((l ->> 'paid_minor')::bigint)::bigint,
           sum((l ->> 'receivable_minor')::bigint)::bigint, sum((l ->> 'tax_minor')::bigint)::bigint
    FROM shipment AS s JOIN fulfilment_content AS c USING (fulfilment_order_id),
         json_array_elements(coalesce(s.part_json, c.part_json)::json -> 'lines') AS l
    WHERE (l ->> 'origin_order_id')::uuid IN (SELECT origin_order_id FROM parted)
    GROUP BY 1, 2, 3
"""
_SENT_MONEY = f"""
    SELECT order_id::text, coalesce(l ->> 'origin_line', l ->> 'line')::int, l ->> 'sku_id', (l ->> 'quantity')::int,
           (l ->> 'paid_minor')::bigint, (l ->> 'receivable_minor')::bigint, (l ->> 'tax_minor')::bigint
    FROM channel_order JOIN order_document USING (order_id),
         json_array_elements(CASE WHEN {HAS_PART} THEN part::json -> 'part' -> 'lines' ELSE block::json -> 'lines' END) AS o (l)
    WHERE order_id = ANY ($1::text[]::uuid[]) AND NOT EXISTS (
        SELECT FROM request AS r JOIN channel_order AS taken_up USING (order_id)
        WHERE taken_up.first_order_id = channel_order.order_id AND r.kind = 'change' AND r.is_sent
    )
"""  # noqa: S608  a condition of ours


async def _money(sources: Sources) -> list[Finding]:
    """Whatever divided a line, every fen of it is in one of its parcels once all units have left."""
    shipped = {tuple(row[:3]): tuple(row[3:]) for row in await sources.rows("fulfillment", _PARTED_MONEY)}
    origins = sorted({key[0] for key in shipped})
    sent = {tuple(row[:3]): tuple(row[3:]) for row in await sources.rows("ingest", _SENT_MONEY, origins)}
    return [
        Finding("{} line {} {}".format(*key), f"sent with {sent[key][1:]}, shipped with {left[1:]} (paid, receivable, tax)")
        for key, left in sorted(shipped.items())
        if key in sent and sent[key][0] == left[0] and sent[key] != left
    ]


async def _cleared(sources: Sources) -> list[Finding]:
    findings = await _cleared_and_taken.find(sources)
    if not findings:
        return []
    roots = [root for (root,) in await sources.rows("inventory", _DISCARDED)]
    discarded = {order_id for (order_id,) in await sources.rows("audit", _OF_ROOTS, roots)}
    return [finding for finding in findings if finding.subject not in discarded]


async def _received_topic(sources: Sources) -> list[Finding]:
    """Requests that follow an order on the same topic are not the order."""
    sent = {key for key, _ in await sources.rows("ingest", _SENT)}
    records = await sources.topics.records("order.received")
    said = {record.subject for record in records if record.type == "OrderReceived"}
    return [Finding(order_id, "sent according to ingest, not on order.received") for order_id in sorted(sent - said)] + [
        Finding(order_id, "on order.received, unknown to ingest")
        for order_id in sorted({record.subject for record in records} - sent)
    ]


def different(records: Sequence[TopicRecord]) -> list[TopicRecord]:
    """Each once: a resend has the same id."""
    return list({record.id: record for record in records}.values())


async def _waybills(sources: Sources) -> list[Finding]:
    rows = await sources.rows(
        "fulfillment", "SELECT carrier, waybill_no, shipment_id::text FROM shipment WHERE waybill_no IS NOT NULL"
    )
    times = Counter((carrier, number) for carrier, number, _ in rows)
    return [Finding(f"{carrier} {number}", f"on {count} parcels") for (carrier, number), count in times.items() if count > 1]


_cleared_and_taken = same_in_both(
    "cleared_orders_reach_stock",
    "every cleared order is reserved, back-ordered or further, and no other",
    ("audit", _CLEARED),
    ("inventory", _TAKEN),
)
ORDERS: tuple[Check, ...] = (
    same_in_both(
        "received_orders_are_audited",
        "every order that ingest sent is known to audit, and no other",
        ("ingest", _SENT),
        ("audit", _HEARD),
    ),
    wrong_rows(
        "open_holds_are_counted",
        "an order's count of open holds is the number of its open holds",
        "audit",
        """
        SELECT o.order_id::text, format('%s counted, %s open', o.open_holds, count(h.hold_id))
        FROM order_state AS o LEFT JOIN hold AS h ON h.order_id = o.order_id AND h.state = 'open'
        GROUP BY o.order_id HAVING o.open_holds <> count(h.hold_id)
        """,
    ),
    Check("cleared_orders_reach_stock", _cleared_and_taken.title, _cleared),
    wrong_rows(
        "reserved_orders_are_routed", "no order is left between reservation and routing", "inventory", _UNROUTED, live=False
    ),
    wrong_rows(
        "routed_orders_have_a_decision", "every routed order has the decision record of its last attempt", "router", _UNDECIDED
    ),
    same_in_both(
        "allocated_orders_are_fulfilled",
        "every allocated order has one fulfilment order at its place, and no other has",
        (
            "inventory",
            "SELECT order_id::text, attempt || ' at ' || place_no FROM stock_order WHERE state IN ('allocated', 'closed')",
        ),
        (
            "fulfillment",
            "SELECT order_id::text, attempt || ' at ' || place_no FROM fulfilment_order WHERE status <> 'cancelled'",
        ),
    ),
    wrong_rows(
        "shipped_as_ordered",
        "what a place was given of each line has left, went back, or is still there",
        "fulfillment",
        _SHIPPED_AS_ORDERED,
    ),
    adds_up("every_unit_is_somewhere", "every unit that was sent is cancelled, shipped, or in one place on its way", _UNITS),
    Check("money_follows_goods", "the parts of a line have left with all of its money", _money),
    Check("waybills_are_unique", "no waybill number is on two parcels", _waybills, live=True),
    Check("received_topic_is_complete", "order.received holds every sent order, and no other", _received_topic),
)
