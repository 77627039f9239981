"""Every check, from the first order to the last voucher. Each is planted a fault in `tests/e2e`, and fires alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from tools.coherence.model import Check, Finding, Sources, TopicRecord, everywhere, same_in_both, wrong_rows

SERVICES = ("ingest", "audit", "inventory", "router", "fulfillment", "ledger")
OLD_OUTBOX_SECONDS = 60
"""A row that waits longer tells of a relay that stands still; ordinarily it is milliseconds."""
OLD_WAIT_SECONDS = 120
LATE_TASK_SECONDS = 300

# The goods ----------------------------------------------------------------------------------------------------------

_COUNTS_ARE_MOVEMENTS = """
    SELECT coalesce(s.sku_id, m.sku_id) || ' at place ' || coalesce(s.place_no, m.place_no),
           format('counts (on hand, allocated, short) are (%s, %s, %s), movements sum to (%s, %s, %s)',
                  s.on_hand, s.allocated, s.short, m.on_hand, m.allocated, m.short)
    FROM place_stock AS s
    FULL JOIN (
        SELECT sku_id, place_no, sum(on_hand) AS on_hand, sum(allocated) AS allocated, sum(short) AS short
        FROM movement GROUP BY sku_id, place_no
    ) AS m USING (sku_id, place_no)
    WHERE (coalesce(s.on_hand, 0), coalesce(s.allocated, 0), coalesce(s.short, 0))
          IS DISTINCT FROM (coalesce(m.on_hand, 0), coalesce(m.allocated, 0), coalesce(m.short, 0))
"""
_POOL_ADDS_UP = """
    SELECT sku_id || ' in pool ' || pool_id,
           format('free %s less overpromised %s, but places have %s available and %s are held',
                  p.free, p.overpromised, coalesce(s.available, 0), coalesce(h.held, 0))
    FROM pool_stock AS p
    FULL JOIN (
        SELECT sku_id, pool_id, sum(on_hand - allocated - short) AS available
        FROM place_stock JOIN location USING (place_no) GROUP BY sku_id, pool_id
    ) AS s USING (sku_id, pool_id)
    FULL JOIN (
        SELECT wanted.sku_id, o.pool_id, sum(wanted.quantity) AS held
        FROM stock_order AS o, unnest(o.skus, o.quantities) AS wanted (sku_id, quantity)
        WHERE o.state IN ('reserved', 'stuck')
        GROUP BY wanted.sku_id, o.pool_id
    ) AS h USING (sku_id, pool_id)
    WHERE coalesce(p.free - p.overpromised, 0) <> coalesce(s.available, 0) - coalesce(h.held, 0)
"""
_NEGATIVE = """
    SELECT sku_id || ' at place ' || place_no,
           format('on hand %s, allocated %s, short %s', on_hand, allocated, short)
    FROM place_stock WHERE least(on_hand, allocated, short, on_hand - allocated) < 0
    UNION ALL
    SELECT sku_id || ' in pool ' || pool_id, format('free %s, overpromised %s', free, overpromised)
    FROM pool_stock WHERE least(free, overpromised) < 0
"""
_ALLOCATED_FOR_ORDERS = """
    SELECT coalesce(s.sku_id, o.sku_id) || ' at place ' || coalesce(s.place_no, o.place_no),
           format('%s allocated, orders there want %s', coalesce(s.allocated, 0), coalesce(o.wanted, 0))
    FROM (SELECT sku_id, place_no, allocated FROM place_stock WHERE allocated > 0) AS s
    FULL JOIN (
        SELECT wanted.sku_id, o.place_no, sum(wanted.quantity) AS wanted
        FROM stock_order AS o, unnest(o.skus, o.quantities) AS wanted (sku_id, quantity)
        WHERE o.state = 'allocated'
        GROUP BY wanted.sku_id, o.place_no
    ) AS o USING (sku_id, place_no)
    WHERE coalesce(s.allocated, 0) <> coalesce(o.wanted, 0)
"""
_NOBODY_WAITS_IN_VAIN = """
    SELECT b.order_id::text, 'back-ordered although every unit it wants is free'
    FROM backorder AS b JOIN pool_stock AS p USING (sku_id, pool_id)
    GROUP BY b.order_id
    HAVING bool_and(b.quantity <= p.free)
"""
_WAITING_ROWS = """
    SELECT coalesce(o.order_id, b.order_id)::text,
           CASE WHEN b.order_id IS NULL THEN 'back-ordered, but nothing says what it waits for'
                ELSE 'listed as waiting, but its state is ' || coalesce(o.state, 'unknown') END
    FROM (SELECT order_id, state FROM stock_order WHERE state = 'backordered') AS o
    FULL JOIN (SELECT DISTINCT order_id FROM backorder) AS b USING (order_id)
    WHERE o.order_id IS NULL OR b.order_id IS NULL
"""
_UNROUTED = """
    SELECT order_id::text, 'held against the pool, and nobody is routing it' FROM stock_order WHERE state = 'reserved'
"""
_SHIPPED_AS_ORDERED = """
    SELECT coalesce(w.order_id, s.order_id) || ' line ' || coalesce(w.line, s.line),
           format('ordered %s of %s, shipped %s of %s', coalesce(w.quantity, 0), coalesce(w.sku_id, '-'),
                  coalesce(s.quantity, 0), coalesce(s.sku_id, '-'))
    FROM (
        SELECT f.order_id, (l ->> 'origin_line')::int AS line, l ->> 'sku_id' AS sku_id, (l ->> 'quantity')::int AS quantity
        FROM fulfilment_order AS f JOIN fulfilment_content USING (fulfilment_order_id),
             json_array_elements(part_json::json -> 'lines') AS l
        WHERE f.status = 'closed'
    ) AS w
    FULL JOIN (
        SELECT order_id, origin_line AS line, sku_id, sum(quantity)::int AS quantity
        FROM shipment JOIN shipment_line USING (shipment_id) GROUP BY order_id, origin_line, sku_id
    ) AS s USING (order_id, line, sku_id)
    WHERE w.quantity IS DISTINCT FROM s.quantity
"""
# What the buyer ordered and what moves must be the same units, while nothing is split or cancelled in part.
_MOVES_WHAT_WAS_ORDERED = """
    SELECT coalesce(o.order_id, p.order_id) || ' line ' || coalesce(o.line, p.line),
           format('the order says %s of %s, its part %s of %s', o.quantity, o.sku_id, p.quantity, p.sku_id)
    FROM (
        SELECT f.order_id, (l ->> 'line')::int AS line, l ->> 'sku_id' AS sku_id, (l ->> 'quantity')::int AS quantity
        FROM fulfilment_order AS f JOIN fulfilment_content USING (fulfilment_order_id),
             json_array_elements(order_json::json -> 'lines') AS l
        WHERE f.status <> 'cancelled' AND f.order_id = f.root_id
    ) AS o
    FULL JOIN (
        SELECT f.order_id, (l ->> 'origin_line')::int AS line, l ->> 'sku_id' AS sku_id, (l ->> 'quantity')::int AS quantity
        FROM fulfilment_order AS f JOIN fulfilment_content USING (fulfilment_order_id),
             json_array_elements(part_json::json -> 'lines') AS l
        WHERE f.status <> 'cancelled' AND f.order_id = f.root_id
    ) AS p USING (order_id, line)
    WHERE (o.sku_id, o.quantity) IS DISTINCT FROM (p.sku_id, p.quantity)
"""
# The end against the beginning: whatever the stages between them handed on, the buyer gets what the channel sold.
_SOLD_LINES = """
    SELECT order_id || ' line ' || (l ->> 'line'), (l ->> 'quantity') || ' of ' || (l ->> 'sku_id')
    FROM order_stage JOIN order_document USING (order_id), json_array_elements(block::json -> 'lines') AS l
    WHERE fulfillment % 1000 IN (90, 94, 96, 98)
"""
"""Lines of orders that the book shows as shipped, lost, refused or delivered."""
_SHIPPED_LINES = """
    SELECT origin_order_id || ' line ' || origin_line, string_agg(quantity || ' of ' || sku_id, ', ' ORDER BY sku_id)
    FROM (
        SELECT origin_order_id, origin_line, sku_id, sum(quantity) AS quantity
        FROM shipment_line GROUP BY origin_order_id, origin_line, sku_id
    ) AS line
    GROUP BY origin_order_id, origin_line
"""

# The books ----------------------------------------------------------------------------------------------------------

_VOUCHERS_BALANCE = """
    SELECT v.voucher_id::text,
           format('debits %s, credits %s, total %s in %s postings of %s', coalesce(p.debit, 0), coalesce(p.credit, 0),
                  v.total_minor, coalesce(p.count, 0), v.posting_count)
    FROM voucher AS v
    LEFT JOIN (
        SELECT voucher_id, sum(debit_minor) AS debit, sum(credit_minor) AS credit, count(*) AS count
        FROM posting GROUP BY voucher_id
    ) AS p USING (voucher_id)
    WHERE (coalesce(p.debit, 0), coalesce(p.credit, 0), coalesce(p.count, 0)) <> (v.total_minor, v.total_minor, v.posting_count)
"""
_NUMBERS_GAPLESS = """
    SELECT format('%s %s %s', book, period, word),
           format('%s vouchers, numbers %s to %s, counter at %s', count(n.number), min(n.number), max(n.number), c.last_number)
    FROM voucher_counter AS c LEFT JOIN voucher_number AS n USING (book, period, word)
    GROUP BY book, period, word, c.last_number
    HAVING count(n.number) <> c.last_number OR coalesce(max(n.number), 0) <> c.last_number
"""
_NUMBERED_ONCE = """
    SELECT coalesce(v.voucher_id, n.voucher_id)::text,
           CASE WHEN n.voucher_id IS NULL THEN 'has postings and no number' ELSE 'has a number and no postings' END
    FROM (SELECT voucher_id FROM voucher WHERE posting_count > 0) AS v FULL JOIN voucher_number AS n USING (voucher_id)
    WHERE v.voucher_id IS NULL OR n.voucher_id IS NULL
"""
_BALANCES_ARE_POSTINGS = """
    SELECT format('%s %s %s', coalesce(b.period, p.period), coalesce(b.account, p.account), coalesce(b.currency, p.currency)),
           format('balance (%s, %s), postings (%s, %s)', b.debit, b.credit, p.debit, p.credit)
    FROM (
        SELECT book, period, account, currency, sum(debit_minor) AS debit, sum(credit_minor) AS credit
        FROM (
            SELECT book, period, account, currency, debit_minor, credit_minor FROM account_balance
            UNION ALL
            SELECT book, period, account, currency, debit_minor, credit_minor FROM balance_delta
        ) AS said
        GROUP BY book, period, account, currency
    ) AS b
    FULL JOIN (
        SELECT n.book, n.period, p.account, v.currency, sum(p.debit_minor) AS debit, sum(p.credit_minor) AS credit
        FROM voucher_number AS n JOIN voucher AS v USING (voucher_id) JOIN posting AS p USING (voucher_id)
        GROUP BY n.book, n.period, p.account, v.currency
    ) AS p USING (book, period, account, currency)
    WHERE (b.debit, b.credit) IS DISTINCT FROM (p.debit, p.credit)
"""

# From stage to stage --------------------------------------------------------------------------------------------------

_SENT = "SELECT order_id::text, '' FROM channel_order WHERE state = 'sent'"
_OWED = """
    SELECT order_id::text, block::json ->> 'receivable_minor'
    FROM channel_order JOIN order_document USING (order_id) WHERE state = 'sent'
"""
_PAID_TOTALS = (
    "SELECT order_id::text, string_agg(total_minor::text, ' + ') FROM voucher WHERE template = 'paid' GROUP BY order_id"
)
_REJECTED = "SELECT order_id::text FROM order_state WHERE state = 'rejected'"
_LINES_OF = """
    SELECT order_id::text, (l ->> 'line')::int, (l ->> 'quantity')::int
    FROM order_document, json_array_elements(block::json -> 'lines') AS l WHERE order_id = ANY ($1::text[]::uuid[])
"""
_KNOWN_VERSIONS = "SELECT channel, shop_id, channel_order_no, source_version FROM channel_order"
_QUARANTINED = "SELECT partition, record_offset FROM quarantine WHERE topic LIKE '%channel.orders'"
_SET_ASIDE = """
    SELECT count(DISTINCT subject) FROM manual_act
    WHERE act IN ('discard_quarantined', 'edit_quarantined') AND subject NOT IN (SELECT id::text FROM quarantine)
"""
_GONE_UNITS = """
    SELECT sku_id || ' at ' || place_id, sum(short - on_hand)::text
    FROM movement AS m JOIN location USING (place_no) WHERE m.kind IN ('shipped', 'handed_over') GROUP BY sku_id, place_id
"""
_SHIPPED_UNITS = """
    SELECT sku_id || ' at ' || place_id, sum(quantity)::text
    FROM shipment JOIN shipment_line USING (shipment_id) GROUP BY sku_id, place_id
"""
_CLOSED_ORDERS = """
    SELECT order_id || ' ' || wanted.sku_id, sum(wanted.quantity)::text
    FROM stock_order, unnest(skus, quantities) AS wanted (sku_id, quantity)
    WHERE state = 'closed' GROUP BY order_id, wanted.sku_id
"""
_SHIPPED_ORDERS = """
    SELECT order_id || ' ' || sku_id, sum(quantity)::text
    FROM shipment JOIN shipment_line USING (shipment_id) GROUP BY order_id, sku_id
"""


def _vouchers(template: str) -> str:
    return f"SELECT shipment_id::text, count(*)::text FROM voucher WHERE template = '{template}' GROUP BY shipment_id"  # noqa: S608  a word of ours


def _seen_by_the_book(service: str, sql: str) -> Check:
    return same_in_both(
        f"book_has_seen_{service}",
        f"the order book knows the last step that {service} reported of every order",
        (service, sql),
        ("ingest", f"SELECT order_id::text, ({service} / 1000)::text FROM order_stage WHERE {service} >= 1000"),  # noqa: S608
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


async def _cancellations(sources: Sources) -> list[Finding]:
    """Per line, over all that was said of it: a resend has the same id and counts once."""
    settled: Counter[tuple[str, int]] = Counter()
    for record in _different(await sources.topics.records("cancellation.settled")):
        for line in json.loads(record.body)["lines"]:
            settled[line["origin_order_id"], line["origin_line"]] += line.get("cancelled", 0) + line.get("refused", 0)
    rejected = [order_id for (order_id,) in await sources.rows("audit", _REJECTED)]
    asked = Counter(
        {(order_id, line): quantity for order_id, line, quantity in await sources.rows("ingest", _LINES_OF, rejected)}
    )
    return [
        Finding(f"{order_id} line {line}", f"{asked[order_id, line]} to be cancelled, {settled[order_id, line]} settled")
        for order_id, line in sorted(asked.keys() | settled.keys())
        if asked[order_id, line] != settled[order_id, line]
    ]


def _different(records: Sequence[TopicRecord]) -> list[TopicRecord]:
    return list({record.id: record for record in records}.values())


async def _received_topic(sources: Sources) -> list[Finding]:
    sent = {key for key, _ in await sources.rows("ingest", _SENT)}
    said = {record.subject for record in await sources.topics.records("order.received")}
    return [Finding(order_id, "sent according to ingest, not on order.received") for order_id in sorted(sent - said)] + [
        Finding(order_id, "on order.received, unknown to ingest") for order_id in sorted(said - sent)
    ]


async def _voucher_topic(sources: Sources) -> list[Finding]:
    digests: dict[str, set[bytes]] = {}
    for record in await sources.topics.records("voucher.posted"):
        digests.setdefault(record.id, set()).add(record.digest)
    numbered = (await sources.rows("ledger", "SELECT count(*) FROM voucher_number"))[0][0]
    findings = [Finding(id_, "sent twice with different bytes") for id_, seen in digests.items() if len(seen) > 1]
    if len(digests) != numbered:
        findings.append(Finding("voucher.posted", f"{numbered} numbered vouchers, {len(digests)} different events"))
    return findings


async def _waybills(sources: Sources) -> list[Finding]:
    rows = await sources.rows(
        "fulfillment", "SELECT carrier, waybill_no, shipment_id::text FROM shipment WHERE waybill_no IS NOT NULL"
    )
    times = Counter((carrier, number) for carrier, number, _ in rows)
    return [Finding(f"{carrier} {number}", f"on {count} parcels") for (carrier, number), count in times.items() if count > 1]


CHECKS: tuple[Check, ...] = (
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
    # Orders: none lost, none doubled
    Check("channel_orders_are_taken", "every record on channel.orders is in the order book or in quarantine", _intake),
    same_in_both(
        "received_orders_are_audited",
        "every order that ingest sent is known to audit, and no other",
        ("ingest", _SENT),
        ("audit", "SELECT order_id::text, '' FROM order_state"),
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
    same_in_both(
        "cleared_orders_reach_stock",
        "every cleared order is reserved, back-ordered or further, and no other",
        ("audit", "SELECT order_id::text, '' FROM order_state WHERE state = 'cleared'"),
        ("inventory", "SELECT order_id::text, '' FROM stock_order WHERE state <> 'root'"),
    ),
    wrong_rows(
        "reserved_orders_are_routed", "no order is left between reservation and routing", "inventory", _UNROUTED, live=False
    ),
    wrong_rows(
        "routed_orders_have_a_decision",
        "every routed order has the decision record of its last attempt",
        "router",
        """
        SELECT o.order_id::text, 'no decision of attempt ' || o.attempt
        FROM order_state AS o LEFT JOIN decision AS d USING (order_id, attempt) WHERE d.order_id IS NULL
        """,
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
        "a closed fulfilment order shipped each origin line: its SKU, its quantity",
        "fulfillment",
        _SHIPPED_AS_ORDERED,
    ),
    wrong_rows(
        "parts_move_what_was_ordered", "an unsplit order's part holds its lines", "fulfillment", _MOVES_WHAT_WAS_ORDERED
    ),
    same_in_both(
        "shipped_as_sold",
        "each line of a shipped order left in the quantity that the channel sold",
        ("ingest", _SOLD_LINES),
        ("fulfillment", _SHIPPED_LINES),
    ),
    Check("cancels_are_settled_once", "each line of a rejected order is settled in full, once", _cancellations),
    same_in_both(
        "shipped_orders_leave_stock",
        "stock has let go of exactly what was shipped for each order",
        ("inventory", _CLOSED_ORDERS),
        ("fulfillment", _SHIPPED_ORDERS),
    ),
    Check("waybills_are_unique", "no waybill number is on two parcels", _waybills, live=True),
    # Goods
    wrong_rows("counts_are_movements", "stock counts are the sum of their movements", "inventory", _COUNTS_ARE_MOVEMENTS),
    wrong_rows("nothing_is_negative", "no count is negative, and no place promises more than it has", "inventory", _NEGATIVE),
    wrong_rows("pools_add_up", "what a pool may promise is what its places have less what is held", "inventory", _POOL_ADDS_UP),
    wrong_rows(
        "allocated_for_orders", "units allocated at a place are those of the orders there", "inventory", _ALLOCATED_FOR_ORDERS
    ),
    wrong_rows(
        "waiting_orders_are_listed", "back-ordered orders and the list of what they wait for agree", "inventory", _WAITING_ROWS
    ),
    wrong_rows(
        "nobody_waits_in_vain",
        "nobody is back-ordered while everything they want is free",
        "inventory",
        _NOBODY_WAITS_IN_VAIN,
        live=False,
    ),
    same_in_both(
        "goods_left_as_shipped",
        "units gone from each place are those in its shipments",
        ("inventory", _GONE_UNITS),
        ("fulfillment", _SHIPPED_UNITS),
    ),
    # Books
    same_in_both(
        "paid_orders_are_posted",
        "every received order has one voucher of its payment, over what is owed for it",
        ("ingest", _OWED),
        ("ledger", _PAID_TOTALS),
    ),
    same_in_both(
        "shipments_are_posted",
        "every shipment has one voucher",
        ("fulfillment", "SELECT shipment_id::text, '1' FROM shipment"),
        ("ledger", _vouchers("shipped")),
    ),
    same_in_both(
        "deliveries_are_posted",
        "every delivery has one voucher",
        ("fulfillment", "SELECT shipment_id::text, '1' FROM shipment WHERE state = 'delivered'"),
        ("ledger", _vouchers("delivered")),
    ),
    wrong_rows("vouchers_balance", "every voucher balances and has all its postings", "ledger", _VOUCHERS_BALANCE),
    wrong_rows("numbers_are_gapless", "voucher numbers run from 1 without a gap", "ledger", _NUMBERS_GAPLESS),
    wrong_rows("vouchers_are_numbered_once", "every voucher with postings has one number", "ledger", _NUMBERED_ONCE),
    wrong_rows("balances_are_postings", "account balances are the sum of their postings", "ledger", _BALANCES_ARE_POSTINGS),
    # The order book and the topics
    _seen_by_the_book("audit", "SELECT order_id::text, step::text FROM order_state"),
    _seen_by_the_book("inventory", "SELECT order_id::text, step::text FROM stock_order WHERE step > 0"),
    _seen_by_the_book("router", "SELECT order_id::text, step::text FROM order_state"),
    _seen_by_the_book("fulfillment", "SELECT order_id::text, step::text FROM tracked_order WHERE step > 0"),
    _seen_by_the_book("ledger", "SELECT order_id::text, step::text FROM posted_order"),
    Check("received_topic_is_complete", "order.received holds every sent order, and no other", _received_topic),
    Check("voucher_topic_is_complete", "voucher.posted holds every voucher, each with one content", _voucher_topic),
)
