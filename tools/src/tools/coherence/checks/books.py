"""The books: every fact has its voucher, once; vouchers balance, are numbered and add up."""

from __future__ import annotations

from tools.coherence.checks.orders import HAS_PART
from tools.coherence.model import Check, Finding, Sources, same_in_both, wrong_rows

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
# What was promised when it was paid is owed until it is delivered or given back: then nothing is. (A merge is paid under the
# roots of its parents and delivered under its own; neither side is whole, so it is not looked at.)
_OWED_FOR_NOTHING = """
    SELECT p.root_id::text, p.owed || ' still owed, although all of it was delivered'
    FROM (
        SELECT root_id, sum(credit_minor - debit_minor) AS owed
        FROM voucher JOIN posting USING (voucher_id) WHERE account = '2204' GROUP BY root_id
    ) AS p
    JOIN (
        SELECT root_id,
               sum(quantity) FILTER (WHERE phase = 'paid') AS paid,
               sum(quantity) FILTER (WHERE phase IN ('delivered', 'recognised')) AS recognised
        FROM profit_fact JOIN voucher USING (voucher_id) GROUP BY root_id
    ) AS f USING (root_id)
    WHERE f.paid = f.recognised AND p.owed <> 0
      AND NOT EXISTS (SELECT FROM voucher AS v WHERE v.root_id = p.root_id AND v.template IN ('changed', 'reversal'))
"""
_OWED = f"""
    SELECT order_id::text, CASE WHEN {HAS_PART} THEN (
        SELECT sum((l ->> 'receivable_minor')::bigint)
        FROM (
            SELECT json_array_elements(part::json -> 'part' -> 'lines')
            UNION ALL SELECT json_array_elements(part::json -> 'part' -> 'freight')
        ) AS lines (l)
    )::text ELSE block::json ->> 'receivable_minor' END
    FROM channel_order JOIN order_document USING (order_id)
    WHERE sent_version IS NOT NULL AND again = 0
"""  # noqa: S608  a condition of ours
_PAID_TOTALS = (
    "SELECT order_id::text, string_agg(total_minor::text, ' + ') FROM voucher WHERE template = 'paid' GROUP BY order_id"
)
_CHANGED = "SELECT DISTINCT order_id::text FROM request WHERE kind = 'change' AND is_sent"
_paid = same_in_both("", "", ("ingest", _OWED), ("ledger", _PAID_TOTALS))
_REFUNDS = "SELECT order_id::text, count(*)::text FROM refund GROUP BY order_id"
_REFUND_VOUCHERS = "SELECT order_id::text, count(*)::text FROM voucher WHERE template = 'refunded' GROUP BY order_id"
_RETURNS = """
    SELECT order_id::text, count(*)::text FROM goods_return JOIN goods_return_line USING (return_id) GROUP BY order_id
"""
_RETURN_VOUCHERS = """
    SELECT order_id::text, count(*)::text FROM voucher
    WHERE template IN ('return_good', 'return_bad', 'return_missing') GROUP BY order_id
"""
_STOCK_VOUCHERS = "SELECT event_id::text, count(*) FROM voucher WHERE starts_with(template, 'stock_') GROUP BY event_id"


def _vouchers(template: str) -> str:
    return f"SELECT shipment_id::text, count(*)::text FROM voucher WHERE template = '{template}' GROUP BY shipment_id"  # noqa: S608  a word of ours


async def _payments(sources: Sources) -> list[Finding]:
    """Over what was owed when it was sent. Where the channel changed the order since, ingest knows only what is owed now."""
    findings = await _paid.find(sources)
    if not findings:
        return []
    changed = {order_id for (order_id,) in await sources.rows("ingest", _CHANGED)}
    return [finding for finding in findings if finding.subject not in changed]


async def _stock_documents(sources: Sources) -> list[Finding]:
    """By event: a long document, or a transfer that comes bit by bit, is told in several."""
    told = {record.id: record.subject for record in await sources.topics.records("stock.adjusted")}
    posted = dict(map(tuple, await sources.rows("ledger", _STOCK_VOUCHERS)))
    return [
        Finding(f"event {event} of {told.get(event, '?')}", f"{posted.get(event, 0)} times in the books")
        for event in sorted(told.keys() | posted.keys())
        if event not in told or posted.get(event) != 1
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


BOOKS: tuple[Check, ...] = (
    Check("paid_orders_are_posted", "every received order has one voucher of its payment, over what is owed for it", _payments),
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
    same_in_both("refunds_are_posted", "every refund has one voucher", ("ingest", _REFUNDS), ("ledger", _REFUND_VOUCHERS)),
    same_in_both(
        "returns_are_posted",
        "every line that came back has one voucher per condition",
        ("fulfillment", _RETURNS),
        ("ledger", _RETURN_VOUCHERS),
    ),
    Check("stock_documents_are_posted", "everything told on stock.adjusted has one voucher", _stock_documents),
    wrong_rows(
        "delivered_orders_are_not_owed",
        "nothing is owed for an order of which every unit was delivered",
        "ledger",
        _OWED_FOR_NOTHING,
        live=False,
    ),
    wrong_rows("vouchers_balance", "every voucher balances and has all its postings", "ledger", _VOUCHERS_BALANCE),
    wrong_rows("numbers_are_gapless", "voucher numbers run from 1 without a gap", "ledger", _NUMBERS_GAPLESS),
    wrong_rows("vouchers_are_numbered_once", "every voucher with postings has one number", "ledger", _NUMBERED_ONCE),
    wrong_rows("balances_are_postings", "account balances are the sum of their postings", "ledger", _BALANCES_ARE_POSTINGS),
    Check("voucher_topic_is_complete", "voucher.posted holds every voucher, each with one content", _voucher_topic),
)
