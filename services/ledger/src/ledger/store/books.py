"""The only writer of vouchers, in one order: claim, postings, then the counter's row lock, numbers, chain and balances.

Everything is insert-only but the counter's row, which every batch of a book, period and word queues for: it is locked last,
and what can be computed before is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.domain.chain import GENESIS
from ledger.domain.posting import Delta, Fact, Series, Voucher, posted_on

_CLAIM = text(
    """
    WITH claimed AS (
        INSERT INTO voucher (
            voucher_id, event_id, template, template_version, content_hash, root_id, order_id, shipment_id, channel, shop_id,
            currency, occurred_at, occurred_on, summary, total_minor, posting_count, hash, recorded_at
        )
        SELECT *, CAST(:now AS timestamptz) FROM unnest(
            CAST(:voucher_ids AS uuid[]), CAST(:event_ids AS uuid[]), CAST(:templates AS text[]), CAST(:versions AS integer[]),
            CAST(:content_hashes AS bytea[]), CAST(:root_ids AS uuid[]), CAST(:order_ids AS uuid[]),
            CAST(:shipment_ids AS uuid[]), CAST(:channels AS text[]), CAST(:shop_ids AS text[]), CAST(:currencies AS text[]),
            CAST(:occurred_at AS timestamptz[]), CAST(:occurred_on AS date[]), CAST(:summaries AS text[]),
            CAST(:totals AS bigint[]), CAST(:posting_counts AS integer[]), CAST(:hashes AS bytea[])
        )
        ON CONFLICT (event_id, template) DO NOTHING
        RETURNING voucher_id, order_id, root_id, posting_count
    ), stepped AS (
        INSERT INTO posted_order AS known (order_id, root_id, step)
        SELECT order_id, (array_agg(root_id))[1], count(*) FROM claimed WHERE posting_count > 0
        GROUP BY order_id ORDER BY 2, 1
        ON CONFLICT (order_id) DO UPDATE SET step = known.step + excluded.step
        RETURNING order_id, step
    )
    SELECT claimed.voucher_id, stepped.step FROM claimed LEFT JOIN stepped USING (order_id)
    """
)
_FIND_CLAIMS = text(
    """
    SELECT event_id, template, content_hash FROM voucher
    WHERE (event_id, template) IN (SELECT * FROM unnest(CAST(:event_ids AS uuid[]), CAST(:templates AS text[])))
    """
)
_ADD_FLAGS = text(
    """
    INSERT INTO posting_flag (flag_id, event_id, template, order_id, code, params, content_hash, flagged_at)
    SELECT flag_id, event_id, template, order_id, code, params::jsonb, content_hash, CAST(:now AS timestamptz) FROM unnest(
        CAST(:flag_ids AS uuid[]), CAST(:event_ids AS uuid[]), CAST(:templates AS text[]), CAST(:order_ids AS uuid[]),
        CAST(:codes AS text[]), CAST(:params AS text[]), CAST(:content_hashes AS bytea[])
    ) AS flag (flag_id, event_id, template, order_id, code, params, content_hash)
    ON CONFLICT ON CONSTRAINT posting_flag_once DO NOTHING
    """
)
_ADD_POSTINGS = text(
    """
    WITH added AS (
        INSERT INTO posting (voucher_id, line, account, debit_minor, credit_minor, origin_order_id, origin_line)
        SELECT * FROM unnest(
            CAST(:voucher_ids AS uuid[]), CAST(:lines AS integer[]), CAST(:accounts AS text[]), CAST(:debits AS bigint[]),
            CAST(:credits AS bigint[]), CAST(:origin_order_ids AS uuid[]), CAST(:origin_lines AS integer[])
        )
    )
    INSERT INTO profit_fact (
        voucher_id, line, phase, order_id, shipment_id, origin_order_id, origin_line, channel, shop_id, sku_id, currency,
        paid_on, occurred_on, quantity, revenue_minor, tax_minor, cost_minor, freight_minor
    )
    SELECT * FROM unnest(
        CAST(:fact_voucher_ids AS uuid[]), CAST(:fact_lines AS integer[]), CAST(:phases AS text[]),
        CAST(:order_ids AS uuid[]), CAST(:shipment_ids AS uuid[]), CAST(:fact_origin_order_ids AS uuid[]),
        CAST(:fact_origin_lines AS integer[]), CAST(:channels AS text[]), CAST(:shop_ids AS text[]), CAST(:sku_ids AS text[]),
        CAST(:currencies AS text[]), CAST(:paid_on AS date[]), CAST(:occurred_on AS date[]), CAST(:quantities AS integer[]),
        CAST(:revenues AS bigint[]), CAST(:taxes AS bigint[]), CAST(:costs AS bigint[]), CAST(:freights AS bigint[])
    )
    """
)
# Creates, locks and moves the counters in one statement, sorted. The link's hash is computed here, under the lock, from what
# was computed before: domain/chain.py:link_hash.
_TAKE_NUMBERS = text(
    """
    INSERT INTO voucher_counter AS counter (book, period, word, last_number, link_no, digest, link_hash)
    SELECT :book, period, word, amount, 1, digest, sha256(CAST(:genesis AS bytea) || digest)
    FROM unnest(CAST(:periods AS text[]), CAST(:words AS text[]), CAST(:amounts AS integer[]), CAST(:digests AS bytea[]))
        AS wanted (period, word, amount, digest)
    ORDER BY period COLLATE "C", word COLLATE "C"
    ON CONFLICT (book, period, word) DO UPDATE SET
        last_number = counter.last_number + excluded.last_number,
        link_no = counter.link_no + 1,
        digest = excluded.digest,
        link_hash = sha256(counter.link_hash || excluded.digest)
    RETURNING period, word, last_number, link_no, link_hash
    """
)
_ADD_NUMBERS = text(
    """
    WITH numbered AS (
        INSERT INTO voucher_number (book, period, word, number, voucher_id, hash, posted_on)
        SELECT :book, * FROM unnest(
            CAST(:periods AS text[]), CAST(:words AS text[]), CAST(:numbers AS integer[]), CAST(:voucher_ids AS uuid[]),
            CAST(:hashes AS bytea[]), CAST(:posted_on AS date[])
        )
    ), linked AS (
        INSERT INTO chain_link (book, period, word, link_no, first_number, last_number, digest, hash, linked_at)
        SELECT :book, *, CAST(:now AS timestamptz) FROM unnest(
            CAST(:link_periods AS text[]), CAST(:link_words AS text[]), CAST(:link_nos AS integer[]),
            CAST(:first_numbers AS integer[]), CAST(:last_numbers AS integer[]), CAST(:digests AS bytea[]),
            CAST(:link_hashes AS bytea[])
        )
    )
    INSERT INTO balance_delta (book, period, account, currency, debit_minor, credit_minor)
    SELECT :book, * FROM unnest(
        CAST(:delta_periods AS text[]), CAST(:accounts AS text[]), CAST(:currencies AS text[]), CAST(:debits AS bigint[]),
        CAST(:credits AS bigint[])
    )
    """
)
_FOLD = text(
    """
    WITH folded AS (
        DELETE FROM balance_delta
        WHERE delta_id IN (SELECT delta_id FROM balance_delta ORDER BY delta_id LIMIT :limit)
        RETURNING book, period, account, currency, debit_minor, credit_minor
    )
    INSERT INTO account_balance AS balance (book, period, account, currency, debit_minor, credit_minor)
    SELECT book, period, account, currency, sum(debit_minor), sum(credit_minor) FROM folded
    GROUP BY book, period, account, currency ORDER BY book, period, account, currency
    ON CONFLICT (book, period, account, currency) DO UPDATE SET
        debit_minor = balance.debit_minor + excluded.debit_minor,
        credit_minor = balance.credit_minor + excluded.credit_minor
    """
)


async def claim_vouchers(connection: AsyncConnection, vouchers: Sequence[Voucher], *, now: datetime) -> dict[UUID, int]:
    """Write vouchers whose (event, template) was not there yet.

    **Shapes**: voucher id → the order's step after all of its vouchers here; 0 where a claim has no postings. What is missing
    from the answer was posted before.
    """
    ordered = sorted(vouchers, key=lambda voucher: voucher.claim)
    contents = [voucher.content for voucher in ordered]
    rows = await connection.execute(
        _CLAIM,
        {
            "voucher_ids": [c.voucher_id for c in contents],
            "event_ids": [c.event_id for c in contents],
            "templates": [c.template for c in contents],
            "versions": [c.template_version for c in contents],
            "content_hashes": [c.content_hash for c in contents],
            "root_ids": [c.root_id for c in contents],
            "order_ids": [c.order_id for c in contents],
            "shipment_ids": [c.shipment_id for c in contents],
            "channels": [c.channel for c in contents],
            "shop_ids": [c.shop_id for c in contents],
            "currencies": [c.currency for c in contents],
            "occurred_at": [c.occurred_at for c in contents],
            "occurred_on": [voucher.occurred_on for voucher in ordered],
            "summaries": [c.summary for c in contents],
            "totals": [voucher.total_minor for voucher in ordered],
            "posting_counts": [len(voucher.postings) for voucher in ordered],
            "hashes": [voucher.hash for voucher in ordered],
            "now": now,
        },
    )
    return {row.voucher_id: row.step or 0 for row in rows}


async def find_claims(connection: AsyncConnection, facts: Sequence[Fact]) -> dict[tuple[UUID, str], bytes]:
    """(event, template) → content hash of those that were posted from before."""
    parameters = {"event_ids": [fact.event_id for fact in facts], "templates": [fact.template for fact in facts]}
    return {(row.event_id, row.template): row.content_hash for row in await connection.execute(_FIND_CLAIMS, parameters)}


class Flag(NamedTuple):
    """Something a person should look at; it stopped nothing."""

    flag_id: UUID
    fact: Fact
    code: str
    params: Mapping[str, object]


async def add_flags(connection: AsyncConnection, flags: Sequence[Flag], *, now: datetime) -> None:
    await connection.execute(
        _ADD_FLAGS,
        {
            "flag_ids": [flag.flag_id for flag in flags],
            "event_ids": [flag.fact.event_id for flag in flags],
            "templates": [flag.fact.template for flag in flags],
            "order_ids": [flag.fact.order_id for flag in flags],
            "codes": [flag.code for flag in flags],
            "params": [json.dumps(flag.params, ensure_ascii=False) for flag in flags],
            "content_hashes": [flag.fact.content_hash for flag in flags],
            "now": now,
        },
    )


async def add_postings(connection: AsyncConnection, vouchers: Iterable[Voucher]) -> None:
    """Write the postings of claimed vouchers and, beside them, what profit is made of.

    **Errors**: a check violation of `posting_balance` where debits and credits of a voucher differ.
    """
    voucher_ids, lines, accounts, debits, credits, origin_order_ids, origin_lines = ([] for _ in range(7))  # noqa: A001
    facts: list[tuple[object, ...]] = []
    for voucher in vouchers:
        voucher_id, fact, occurred_on = voucher.voucher_id, voucher.fact, voucher.occurred_on
        for line, posting in enumerate(voucher.postings, 1):
            voucher_ids.append(voucher_id)
            lines.append(line)
            accounts.append(posting[0])
            debits.append(posting[1])
            credits.append(posting[2])
            origin_order_ids.append(posting[3])
            origin_lines.append(posting[4])
        head = (fact.template, fact.order_id, fact.shipment_id)
        tail = (fact.currency, fact.paid_on, occurred_on)
        for line, (origin_order_id, origin_line, sku_id, quantity, amounts, _) in enumerate(fact.lines, 1):
            revenue = amounts.paid + amounts.subsidy - amounts.tax
            facts.append(
                (voucher_id, line, *head, origin_order_id, origin_line, fact.channel, fact.shop_id, sku_id, *tail, quantity,
                 revenue, amounts.tax, amounts.cost, amounts.freight_estimate)
            )  # fmt: skip
    columns = zip(*facts, strict=True) if facts else [()] * len(_FACT_COLUMNS)
    await connection.execute(
        _ADD_POSTINGS,
        {
            "voucher_ids": voucher_ids,
            "lines": lines,
            "accounts": accounts,
            "debits": debits,
            "credits": credits,
            "origin_order_ids": origin_order_ids,
            "origin_lines": origin_lines,
            **dict(zip(_FACT_COLUMNS, columns, strict=True)),
        },
    )


_FACT_COLUMNS = (
    "fact_voucher_ids", "fact_lines", "phases", "order_ids", "shipment_ids", "fact_origin_order_ids", "fact_origin_lines",
    "channels", "shop_ids", "sku_ids", "currencies", "paid_on", "occurred_on", "quantities", "revenues", "taxes", "costs",
    "freights",
)  # fmt: skip


class Taken(NamedTuple):
    """The last number that a series got, and its link."""

    last_number: int
    link_no: int
    link_hash: bytes


async def take_numbers(connection: AsyncConnection, book: str, series: Sequence[Series]) -> dict[tuple[str, str], Taken]:
    """Lock the counters, sorted, and move them on: (period, word) → numbers. From here on others wait."""
    rows = await connection.execute(
        _TAKE_NUMBERS,
        {
            "book": book,
            "genesis": GENESIS,
            "periods": [s.period for s in series],
            "words": [s.word for s in series],
            "amounts": [len(s.vouchers) for s in series],
            "digests": [s.digest for s in series],
        },
    )
    return {(row.period, row.word): Taken(row.last_number, row.link_no, row.link_hash) for row in rows}


class Numbers(NamedTuple):
    """A voucher's place in the books."""

    voucher: Voucher
    period: str
    word: str
    number: int


def numbers_of(series: Sequence[Series], taken: Mapping[tuple[str, str], Taken]) -> list[Numbers]:
    return [
        Numbers(voucher, s.period, s.word, taken[s.period, s.word].last_number - len(s.vouchers) + position)
        for s in series
        for position, voucher in enumerate(s.vouchers, 1)
    ]


async def add_numbers(
    connection: AsyncConnection,
    book: str,
    numbers: Sequence[Numbers],
    series: Sequence[Series],
    taken: Mapping[tuple[str, str], Taken],
    deltas: Sequence[Delta],
    *,
    now: datetime,
) -> None:
    """Write what holds a voucher in the books: its number, its chain link, and the balances."""
    links = [(s, taken[s.period, s.word]) for s in series]
    await connection.execute(
        _ADD_NUMBERS,
        {
            "book": book,
            "periods": [n.period for n in numbers],
            "words": [n.word for n in numbers],
            "numbers": [n.number for n in numbers],
            "voucher_ids": [n.voucher.voucher_id for n in numbers],
            "hashes": [n.voucher.hash for n in numbers],
            "posted_on": [posted_on(n.voucher, n.period) for n in numbers],
            "link_periods": [s.period for s, _ in links],
            "link_words": [s.word for s, _ in links],
            "link_nos": [link.link_no for _, link in links],
            "first_numbers": [link.last_number - len(s.vouchers) + 1 for s, link in links],
            "last_numbers": [link.last_number for _, link in links],
            "digests": [s.digest for s, _ in links],
            "link_hashes": [link.link_hash for _, link in links],
            "delta_periods": [delta.period for delta in deltas],
            "accounts": [delta.account for delta in deltas],
            "currencies": [delta.currency for delta in deltas],
            "debits": [delta.debit_minor for delta in deltas],
            "credits": [delta.credit_minor for delta in deltas],
            "now": now,
        },
    )


async def fold_balances(connection: AsyncConnection, *, limit: int) -> None:
    """Move balance deltas into the balances; what is read sums both, so it changes no report."""
    await connection.execute(_FOLD, {"limit": limit})
