"""What holds vouchers in the books: numbers, chain links, balances. The counter's row is the one that every batch of a book,
period and word queues for: it is locked last, and what can be computed before is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.domain.chain import GENESIS
from ledger.domain.posting import Delta, OwedDelta, Series, Voucher, posted_on

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
    ), owed AS (
        INSERT INTO owed_delta (book, account, channel, shop_id, currency, paid_on, posted_on, amount_minor)
        SELECT :book, * FROM unnest(
            CAST(:owed_accounts AS text[]), CAST(:owed_channels AS text[]), CAST(:owed_shop_ids AS text[]),
            CAST(:owed_currencies AS text[]), CAST(:owed_paid_on AS date[]), CAST(:owed_posted_on AS date[]),
            CAST(:owed_amounts AS bigint[])
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
_FOLD_OWED = text(
    """
    WITH folded AS (
        DELETE FROM owed_delta WHERE delta_id IN (SELECT delta_id FROM owed_delta ORDER BY delta_id LIMIT :limit)
        RETURNING book, account, channel, shop_id, currency, paid_on, posted_on, amount_minor
    )
    INSERT INTO owed_balance AS balance (book, account, channel, shop_id, currency, paid_on, posted_on, amount_minor)
    SELECT book, account, channel, shop_id, currency, paid_on, posted_on, sum(amount_minor) FROM folded
    GROUP BY book, account, channel, shop_id, currency, paid_on, posted_on
    ORDER BY book, account, channel, shop_id, currency, paid_on, posted_on
    ON CONFLICT (book, account, channel, shop_id, currency, paid_on, posted_on) DO UPDATE SET
        amount_minor = balance.amount_minor + excluded.amount_minor
    """
)


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
    owed: Sequence[OwedDelta],
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
            "owed_accounts": [one.account for one in owed],
            "owed_channels": [one.channel for one in owed],
            "owed_shop_ids": [one.shop_id for one in owed],
            "owed_currencies": [one.currency for one in owed],
            "owed_paid_on": [one.paid_on for one in owed],
            "owed_posted_on": [one.posted_on for one in owed],
            "owed_amounts": [one.amount_minor for one in owed],
            "now": now,
        },
    )


async def fold_balances(connection: AsyncConnection, *, limit: int) -> None:
    """Move balance deltas into the balances; what is read sums both, so it changes no report."""
    await connection.execute(_FOLD, {"limit": limit})
    await connection.execute(_FOLD_OWED, {"limit": limit})
