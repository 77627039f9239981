"""What is read from the books: vouchers, trial balance, profit, the chain. Each report is one statement: one snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Row, RowMapping, Select, select, text
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

# Every fact carries the day its order was paid, so an estimate ends where the same money is recognised, without a join: paid
# minus delivered is what is still to come. Only the carrier's freight needs its shipment: `delivered` does not know it.
_PROFIT = """
    WITH delivered AS (
        SELECT shipment_id, min(occurred_on) AS occurred_on FROM profit_fact WHERE phase = 'delivered' GROUP BY shipment_id
    ), freight AS (
        SELECT f.channel, f.shop_id, f.sku_id, f.order_id, f.currency, f.freight_minor, f.paid_on, d.occurred_on
        FROM profit_fact AS f LEFT JOIN delivered AS d USING (shipment_id)
        WHERE f.phase = 'shipped' AND f.freight_minor <> 0
    ), parts AS (
        SELECT {recognised_key} AS key, currency, quantity, revenue_minor AS revenue, cost_minor AS cost, 0 AS freight,
               0 AS open_quantity, 0 AS open_revenue, 0 AS open_cost, 0 AS open_freight, 0 AS uncosted
        FROM profit_fact
        WHERE phase = 'delivered' AND occurred_on BETWEEN :from_day AND :to_day {filters}
        UNION ALL
        SELECT {recognised_key}, currency, 0, 0, 0, freight_minor, 0, 0, 0, 0, 0
        FROM freight
        WHERE occurred_on BETWEEN :from_day AND :to_day {filters}
        UNION ALL
        SELECT {estimated_key}, currency, 0, 0, 0, 0, 0, 0, 0, freight_minor, 0
        FROM freight
        WHERE occurred_on IS NULL AND paid_on BETWEEN :from_day AND :to_day {filters}
        UNION ALL
        SELECT {estimated_key}, currency, 0, 0, 0, 0,
               CASE phase WHEN 'paid' THEN quantity WHEN 'delivered' THEN -quantity ELSE 0 END,
               CASE phase WHEN 'paid' THEN revenue_minor WHEN 'delivered' THEN -revenue_minor ELSE 0 END,
               CASE phase WHEN 'shipped' THEN cost_minor WHEN 'delivered' THEN -cost_minor ELSE 0 END,
               0,
               CASE phase WHEN 'paid' THEN revenue_minor WHEN 'shipped' THEN -revenue_minor ELSE 0 END
        FROM profit_fact
        WHERE paid_on BETWEEN :from_day AND :to_day {filters}
    ), sums AS (
        SELECT key COLLATE "C" AS key, currency, sum(quantity)::bigint AS quantity, sum(revenue)::bigint AS revenue_minor,
               sum(cost)::bigint AS cost_minor, sum(freight)::bigint AS freight_minor,
               sum(open_quantity)::bigint AS open_quantity, sum(open_revenue)::bigint AS open_revenue_minor,
               sum(open_cost)::bigint AS open_cost_minor, sum(open_freight)::bigint AS open_freight_minor,
               sum(uncosted)::bigint AS uncosted_minor
        FROM parts GROUP BY key COLLATE "C", currency
    )
    SELECT * FROM sums
    WHERE CAST(:after_key AS text) IS NULL OR (key, currency) > (CAST(:after_key AS text), CAST(:after_currency AS text))
    ORDER BY key, currency LIMIT :limit
"""
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


def _vouchers() -> Select[Any]:
    return select(
        _number.c.book,
        _number.c.period,
        _number.c.word,
        _number.c.number,
        _number.c.posted_on,
        *(column for column in _voucher.c if column.name not in ("content_hash", "posting_count")),
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


async def get_trial_balance(
    connection: AsyncConnection, book: str, *, period: str | None, as_of: date | None
) -> Sequence[RowMapping]:
    """Per account and currency what there was before `period`, what moved in it (up to `as_of`), and what is there then."""
    part_period = period_of(as_of) if as_of else ""
    last_whole = f"{part_period[:5]}{int(part_period[5:]) - 1:02d}" if as_of else period or "9999-99"
    parameters = {
        "book": book,
        "period": period or part_period,
        "last_whole": last_whole,
        "part_period": part_period,
        "as_of": as_of,
    }
    return (await connection.execute(_TRIAL_BALANCE, parameters)).mappings().all()


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
    statement = text(_PROFIT.format(recognised_key=recognised_key, estimated_key=estimated_key, filters=conditions))
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
