"""What is read from the books: vouchers, trial balance, profit, the chain. Each report is one statement: one snapshot."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger import tables
from ledger.domain.chain import Content, Head, Link, Numbered, Posting
from ledger.domain.period import period_of

_number, _voucher, _posting, _flag = tables.voucher_number, tables.voucher, tables.posting, tables.posting_flag

_POSTINGS = text(
    """
    SELECT voucher_id, line, account, debit_minor, credit_minor, origin_order_id, origin_line
    FROM posting WHERE voucher_id = ANY(CAST(:voucher_ids AS uuid[])) ORDER BY voucher_id, line
    """
)
# Balances and the deltas not yet folded into them, of whole periods; where a day is asked for, its period is summed from the
# vouchers up to that day.
_TRIAL_BALANCE = text(
    """
    WITH movement AS (
        SELECT account, currency, period, debit_minor, credit_minor FROM account_balance
        WHERE book = :book AND period <= :last_whole
        UNION ALL
        SELECT account, currency, period, debit_minor, credit_minor FROM balance_delta
        WHERE book = :book AND period <= :last_whole
        UNION ALL
        SELECT p.account, v.currency, n.period, p.debit_minor, p.credit_minor
        FROM voucher_number AS n JOIN voucher AS v USING (voucher_id) JOIN posting AS p USING (voucher_id)
        WHERE n.book = :book AND n.period = :part_period AND n.posted_on <= CAST(:as_of AS date)
    )
    SELECT account, currency,
           coalesce(sum(debit_minor - credit_minor) FILTER (WHERE period < :period), 0)::bigint AS opening_minor,
           coalesce(sum(debit_minor) FILTER (WHERE period >= :period), 0)::bigint AS debit_minor,
           coalesce(sum(credit_minor) FILTER (WHERE period >= :period), 0)::bigint AS credit_minor,
           sum(debit_minor - credit_minor)::bigint AS closing_minor
    FROM movement GROUP BY account, currency ORDER BY account, currency
    """
)
_KEYS = {
    "channel": ("channel", "channel"),
    "shop": ("channel || '/' || shop_id", "channel || '/' || shop_id"),
    "sku": ("coalesce(nullif(sku_id, ''), '(freight)')", "coalesce(nullif(sku_id, ''), '(freight)')"),
    "order": ("order_id::text", "order_id::text"),
    "day": ("to_char(occurred_on, 'YYYY-MM-DD')", "to_char(paid_on, 'YYYY-MM-DD')"),
}
"""What profit can be shown by: the key of what is recognised, and of what is estimated. Literals: callers cannot add to it."""

# Every fact carries the day its order was paid, so an estimate ends where the same money is recognised, without a join: what
# was paid less what was recognised and refunded is still to come. Only the carrier's freight needs its parcel, whose delivery
# does not know it; it is looked up by the parcel's order, and counts on the first day on which any of the parcel is recognised:
# a carrier delivers once, so only what a receipt recognised has to be asked for earlier days. All starts from the two indexes
# of days.
_PROFIT = """
    WITH recognised AS (
        SELECT order_id, shipment_id, min(occurred_on) AS occurred_on, bool_or(phase = 'recognised') AS is_in_pieces
        FROM profit_fact
        WHERE phase IN {recognising} AND phase IN ('delivered', 'recognised') AND occurred_on BETWEEN :from_day AND :to_day
          AND quantity > 0
        GROUP BY order_id, shipment_id
    ), freight AS (
        SELECT f.channel, f.shop_id, f.sku_id, f.order_id, f.currency, f.freight_minor, f.paid_on, r.occurred_on
        FROM recognised AS r
        JOIN voucher AS v ON v.order_id = r.order_id
        JOIN profit_fact AS f ON f.voucher_id = v.voucher_id AND f.shipment_id = r.shipment_id AND f.phase = 'shipped'
        WHERE f.freight_minor <> 0 AND NOT EXISTS (
            SELECT FROM profit_fact AS d
            WHERE d.shipment_id = r.shipment_id AND d.phase = 'recognised' AND d.occurred_on < :from_day
        ) AND NOT (r.is_in_pieces AND EXISTS (
            SELECT FROM voucher AS w JOIN profit_fact AS d USING (voucher_id)
            WHERE w.order_id = r.order_id AND d.shipment_id = r.shipment_id AND d.phase = 'delivered'
              AND d.occurred_on < :from_day
        ))
    ), open_freight AS (
        SELECT f.channel, f.shop_id, f.sku_id, f.order_id, f.currency, f.freight_minor, f.paid_on, f.occurred_on
        FROM profit_fact AS f
        WHERE f.phase = 'shipped' AND f.freight_minor <> 0 AND f.paid_on BETWEEN :from_day AND :to_day AND NOT EXISTS (
            SELECT FROM profit_fact AS d
            WHERE d.shipment_id = f.shipment_id AND d.paid_on BETWEEN :from_day AND :to_day
              AND d.phase IN ('delivered', 'recognised')
        )
    ), parts AS (
        SELECT {recognised_key} AS key, currency,
               CASE WHEN phase IN ('delivered', 'recognised') THEN quantity ELSE 0 END AS quantity,
               CASE WHEN phase IN ('delivered', 'recognised') THEN revenue_minor ELSE 0 END AS revenue,
               CASE phase WHEN 'recognition_overlap' THEN revenue_minor ELSE 0 END AS refunds,
               CASE WHEN phase IN ('delivered', 'recognised') THEN cost_minor ELSE 0 END AS cost,
               CASE WHEN phase IN ('delivered', 'recognised') AND revenue_minor = 0 THEN cost_minor ELSE 0 END AS gifts,
               CASE phase WHEN 'cost_overlap' THEN cost_minor ELSE 0 END AS returned,
               CASE phase WHEN 'write_off' THEN cost_minor ELSE 0 END AS write_off,
               0 AS freight, 0 AS open_quantity, 0 AS open_revenue, 0 AS open_cost, 0 AS open_freight, 0 AS uncosted
        FROM profit_fact
        WHERE phase IN {recognising} AND occurred_on BETWEEN :from_day AND :to_day {filters}
        UNION ALL
        SELECT {recognised_key}, currency, 0, 0, 0, 0, 0, 0, 0, freight_minor, 0, 0, 0, 0, 0 FROM freight WHERE true {filters}
        UNION ALL
        SELECT {estimated_key}, currency, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, freight_minor, 0
        FROM open_freight WHERE true {filters}
        UNION ALL
        SELECT {estimated_key}, currency, 0, 0, 0, 0, 0, 0, 0, 0,
               CASE WHEN phase = 'paid' THEN quantity WHEN phase IN ('delivered', 'recognised') THEN -quantity ELSE 0 END,
               CASE WHEN phase IN ('paid', 'changed', 'recognition_overlap') THEN revenue_minor
                    WHEN phase IN ('delivered', 'recognised', 'refunded') THEN -revenue_minor ELSE 0 END,
               CASE WHEN phase IN ('shipped', 'cost_overlap', 'loss_overlap') THEN cost_minor
                    WHEN phase IN ('delivered', 'recognised', 'return_good', 'return_bad', 'return_missing', 'lost')
                    THEN -cost_minor ELSE 0 END,
               0,
               CASE WHEN phase IN ('paid', 'changed') THEN revenue_minor
                    WHEN phase IN ('shipped', 'refunded') THEN -revenue_minor ELSE 0 END
        FROM profit_fact
        WHERE paid_on BETWEEN :from_day AND :to_day {filters}
    ), sums AS (
        SELECT key COLLATE "C" AS key, currency, sum(quantity)::bigint AS quantity, sum(revenue)::bigint AS revenue_minor,
               sum(refunds)::bigint AS refunds_minor, sum(cost)::bigint AS cost_minor, sum(gifts)::bigint AS gift_cost_minor,
               sum(returned)::bigint AS returned_cost_minor, sum(write_off)::bigint AS write_off_minor,
               sum(freight)::bigint AS freight_minor,
               sum(open_quantity)::bigint AS open_quantity, sum(open_revenue)::bigint AS open_revenue_minor,
               sum(open_cost)::bigint AS open_cost_minor, sum(open_freight)::bigint AS open_freight_minor,
               greatest(0, sum(uncosted))::bigint AS uncosted_minor
        FROM parts GROUP BY key COLLATE "C", currency
    )
    SELECT * FROM sums
    WHERE CAST(:after_key AS text) IS NULL OR (key, currency) > (CAST(:after_key AS text), CAST(:after_currency AS text))
    ORDER BY key, currency LIMIT :limit
"""
_OWED_KEYS = {"channel": "channel", "shop": "channel || '/' || shop_id", "account": "account"}
"""What receivables can be shown by. Literals, too."""
_OWED = """
    WITH owed AS (
        SELECT {key} COLLATE "C" AS key, currency, CAST(:as_of AS date) - paid_on AS days, amount_minor FROM (
            SELECT book, account, channel, shop_id, currency, paid_on, posted_on, amount_minor FROM owed_balance
            UNION ALL
            SELECT book, account, channel, shop_id, currency, paid_on, posted_on, amount_minor FROM owed_delta
        ) AS both_of_them
        WHERE book = :book AND posted_on <= :as_of
    )
    SELECT key, currency, sum(amount_minor)::bigint AS owed_minor,
           coalesce(sum(amount_minor) FILTER (WHERE days <= 7), 0)::bigint AS up_to_7_days_minor,
           coalesce(sum(amount_minor) FILTER (WHERE days BETWEEN 8 AND 30), 0)::bigint AS up_to_30_days_minor,
           coalesce(sum(amount_minor) FILTER (WHERE days BETWEEN 31 AND 90), 0)::bigint AS up_to_90_days_minor,
           coalesce(sum(amount_minor) FILTER (WHERE days > 90), 0)::bigint AS older_minor
    FROM owed
    WHERE CAST(:after_key AS text) IS NULL OR (key, currency) > (CAST(:after_key AS text), CAST(:after_currency AS text))
    GROUP BY key, currency ORDER BY key, currency LIMIT :limit
"""
_ORIGINS = text(
    """
    SELECT CAST(:order_id AS uuid) AS origin_order_id
    UNION SELECT origin_order_id FROM origin_part WHERE order_id = :order_id
    """
)
_ORIGIN_VOUCHERS = text(
    """
    SELECT v.voucher_id, v.order_id, n.period, n.word, n.number, v.template, v.total_minor
    FROM (
        SELECT unnest(CAST(:origins AS uuid[])) AS order_id
        UNION SELECT order_id FROM origin_part WHERE origin_order_id = ANY(CAST(:origins AS uuid[]))
    ) AS carrying
    JOIN voucher AS v USING (order_id) JOIN voucher_number AS n USING (voucher_id)
    WHERE n.book = :book ORDER BY n.period, n.word, n.number LIMIT 500
    """
)
_REVERSALS = text(
    "SELECT claim_id, voucher_id FROM voucher WHERE template = 'reversal' AND claim_id = ANY(CAST(:voucher_ids AS uuid[]))"
)
_HEADS = text(
    """
    SELECT period, word, last_number, link_no, link_hash FROM voucher_counter
    WHERE book = :book AND (CAST(:period AS text) IS NULL OR period = :period) AND (period, word) >= (:from_period, :from_word)
    ORDER BY period, word
    """
)
_LINKS = text(
    """
    SELECT link_no, first_number, last_number, digest, hash FROM chain_link
    WHERE book = :book AND period = :period AND word = :word AND link_no > :after AND link_no <= :upto
    ORDER BY link_no LIMIT :limit
    """
)
_LINK = text("SELECT link_no, first_number, last_number, digest, hash FROM chain_link"
    " WHERE book = :book AND period = :period AND word = :word AND link_no = :link_no")  # fmt: skip
_NUMBERED = text(
    """
    SELECT n.number, n.voucher_id, n.hash AS number_hash, v.event_id, v.template, v.template_version, v.content_hash, v.root_id,
           v.order_id, v.shipment_id, v.channel, v.shop_id, v.currency, v.occurred_at, v.summary
    FROM voucher_number AS n LEFT JOIN voucher AS v USING (voucher_id)
    WHERE n.book = :book AND n.period = :period AND n.word = :word AND n.number BETWEEN :first AND :last
    ORDER BY n.number
    """
)


class VoucherFilter(NamedTuple):
    order_id: UUID | None = None
    template: str | None = None
    period: str | None = None
    word: str | None = None
    account: str | None = None
    from_day: date | None = None
    to_day: date | None = None
    channel: str | None = None
    shop_id: str | None = None
    min_total_minor: int | None = None
    max_total_minor: int | None = None
    q: str | None = None


def _vouchers() -> Select[Any]:
    return select(
        _number.c.book,
        _number.c.period,
        _number.c.word,
        _number.c.number,
        _number.c.posted_on,
        *(column for column in _voucher.c if column.name not in ("claim_id", "posting_count")),
    ).join(_voucher, _voucher.c.voucher_id == _number.c.voucher_id)


async def find_vouchers(
    connection: AsyncConnection,
    book: str,
    wanted: VoucherFilter,
    *,
    after: ColumnElement[bool],
    order_by: Sequence[Any],
    limit: int,
) -> Sequence[Row[Any]]:
    """Numbered vouchers of a book, in the order asked for."""
    statement = _vouchers().where(_number.c.book == book, after).order_by(*order_by).limit(limit)
    if wanted.order_id:
        statement = statement.where(_voucher.c.order_id == wanted.order_id)
    if wanted.template:
        statement = statement.where(_voucher.c.template == wanted.template)
    if wanted.period:
        statement = statement.where(_number.c.period == wanted.period)
    if wanted.word:
        statement = statement.where(_number.c.word == wanted.word)
    if wanted.channel:
        statement = statement.where(_voucher.c.channel == wanted.channel)
    if wanted.shop_id:
        statement = statement.where(_voucher.c.shop_id == wanted.shop_id)
    if wanted.min_total_minor is not None:
        statement = statement.where(_voucher.c.total_minor >= wanted.min_total_minor)
    if wanted.max_total_minor is not None:
        statement = statement.where(_voucher.c.total_minor <= wanted.max_total_minor)
    if wanted.q:
        statement = statement.where(_voucher.c.summary.contains(wanted.q, autoescape=True))
    # The period beside the day lets the key of the numbers be used.
    if wanted.from_day:
        statement = statement.where(_number.c.posted_on >= wanted.from_day, _number.c.period >= period_of(wanted.from_day))
    if wanted.to_day:
        statement = statement.where(_number.c.posted_on <= wanted.to_day, _number.c.period <= period_of(wanted.to_day))
    if wanted.account:
        postings = select(_posting.c.voucher_id).where(
            _posting.c.voucher_id == _number.c.voucher_id,
            (_posting.c.account == wanted.account) | _posting.c.account.startswith(f"{wanted.account}.", autoescape=True),
        )
        statement = statement.where(postings.exists())
    rows: Sequence[Row[Any]] = (await connection.execute(statement)).all()
    return rows


async def find_voucher(connection: AsyncConnection, voucher_id: UUID) -> Row[Any] | None:
    statement = _vouchers().where(_voucher.c.voucher_id == voucher_id)
    row: Row[Any] | None = (await connection.execute(statement)).one_or_none()
    return row


async def get_postings(connection: AsyncConnection, voucher_ids: Sequence[UUID]) -> dict[UUID, list[Posting]]:
    postings: dict[UUID, list[Posting]] = {voucher_id: [] for voucher_id in voucher_ids}
    for row in await connection.execute(_POSTINGS, {"voucher_ids": list(voucher_ids)}):
        postings[row.voucher_id].append(
            Posting(row.account, row.debit_minor, row.credit_minor, row.origin_order_id, row.origin_line)
        )
    return postings


async def get_reversals(connection: AsyncConnection, voucher_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """Voucher → the one that reversed it."""
    return {row.claim_id: row.voucher_id for row in await connection.execute(_REVERSALS, {"voucher_ids": list(voucher_ids)})}


async def get_origins(connection: AsyncConnection, order_id: UUID) -> set[UUID]:
    """The channel orders whose lines an order carries; itself, mostly."""
    return set((await connection.execute(_ORIGINS, {"order_id": order_id})).scalars())


async def get_origin_vouchers(connection: AsyncConnection, book: str, origins: Collection[UUID]) -> Sequence[Row[Any]]:
    """Vouchers of all orders that carry lines of these origins, in the order of their numbers."""
    return (await connection.execute(_ORIGIN_VOUCHERS, {"book": book, "origins": sorted(origins)})).all()


async def get_owed(
    connection: AsyncConnection, book: str, by: str, *, as_of: date, after: tuple[str, str] | None, limit: int
) -> Sequence[Row[Any]]:
    """What is owed to us at the end of a day, by age since the order was paid."""
    after_key, after_currency = after or (None, None)
    parameters = {"book": book, "as_of": as_of, "after_key": after_key, "after_currency": after_currency, "limit": limit}
    return (await connection.execute(text(_OWED.format(key=_OWED_KEYS[by])), parameters)).all()


async def get_trial_balance(
    connection: AsyncConnection, book: str, *, period: str | None, as_of: date | None, today: date
) -> list[dict[str, Any]]:
    """Per account and currency what there was before `period`, what moved in it (up to `as_of`), and what is there then.

    Up to today, or to a month's last day, is a whole period: its vouchers, millions perhaps, need not be read.
    """
    month = period_of(as_of) if as_of else ""
    last_whole, part_period = period or month or "9999-99", ""
    if as_of is not None and as_of < today and period_of(as_of + timedelta(days=1)) == month:
        last_whole, part_period = f"{month[:5]}{int(month[5:]) - 1:02d}", month
    parameters = {
        "book": book,
        "period": period or month,
        "last_whole": last_whole,
        "part_period": part_period,
        "as_of": as_of,
    }
    return [row._asdict() for row in await connection.execute(_TRIAL_BALANCE, parameters)]


class ProfitFilter(NamedTuple):
    from_day: date
    to_day: date
    channel: str | None = None
    shop_id: str | None = None
    sku_id: str | None = None
    order_id: UUID | None = None


async def get_profit(
    connection: AsyncConnection, by: str, wanted: ProfitFilter, *, after: tuple[str, str] | None, limit: int
) -> Sequence[Row[Any]]:
    """Per key and currency: what deliveries of these days brought, and what orders paid on these days are still to bring."""
    recognised_key, estimated_key = _KEYS[by]
    filters = {
        name: value for name, value in wanted._asdict().items() if value is not None and name not in ("from_day", "to_day")
    }
    conditions = " ".join(f"AND {name} = :{name}" for name in filters)
    statement = text(
        _PROFIT.format(
            recognising=tables.RECOGNISING, recognised_key=recognised_key, estimated_key=estimated_key, filters=conditions
        )
    )
    after_key, after_currency = after or (None, None)
    parameters = {"after_key": after_key, "after_currency": after_currency, "limit": limit}
    days = {"from_day": wanted.from_day, "to_day": wanted.to_day}
    return (await connection.execute(statement, parameters | days | filters)).all()


class Chain(NamedTuple):
    """The chain of one period and word, up to where it stood when it was looked at."""

    period: str
    word: str
    head: Head


async def get_chains(connection: AsyncConnection, book: str, *, period: str | None, start: tuple[str, str]) -> list[Chain]:
    parameters = {"book": book, "period": period, "from_period": start[0], "from_word": start[1]}
    rows = await connection.execute(_HEADS, parameters)
    return [Chain(row.period, row.word, Head(row.last_number, row.link_no, row.link_hash)) for row in rows]


async def find_link(connection: AsyncConnection, book: str, chain: Chain, link_no: int) -> Link | None:
    parameters = {"book": book, "period": chain.period, "word": chain.word, "link_no": link_no}
    row = (await connection.execute(_LINK, parameters)).one_or_none()
    return None if row is None else Link(*row)


async def get_links(connection: AsyncConnection, book: str, chain: Chain, *, after: int, limit: int) -> list[Link]:
    parameters = {"book": book, "period": chain.period, "word": chain.word, "after": after, "upto": chain.head.link_no}
    return [Link(*row) for row in await connection.execute(_LINKS, parameters | {"limit": limit})]


async def get_numbered(connection: AsyncConnection, book: str, chain: Chain, *, first: int, last: int) -> list[Numbered]:
    """Vouchers by number, with all that their hashes cover."""
    parameters = {"book": book, "period": chain.period, "word": chain.word, "first": first, "last": last}
    rows = (await connection.execute(_NUMBERED, parameters)).all()
    postings = await get_postings(connection, [row.voucher_id for row in rows])
    return [
        Numbered(
            number=row.number,
            voucher_id=row.voucher_id,
            hash=row.number_hash,
            content=None if row.event_id is None else Content(row.voucher_id, *row[3:]),
            postings=postings[row.voucher_id],
        )
        for row in rows
    ]


async def find_flags(
    connection: AsyncConnection,
    *,
    code: str | None,
    order_id: UUID | None,
    after: ColumnElement[bool],
    order_by: Sequence[Any],
    limit: int,
) -> Sequence[Row[Any]]:
    statement = select(_flag).where(after).order_by(*order_by).limit(limit)
    if code:
        statement = statement.where(_flag.c.code == code)
    if order_id:
        statement = statement.where(_flag.c.order_id == order_id)
    return (await connection.execute(statement)).all()
