"""Vouchers that a person makes: a reversal of another one, or one of their own. Posted like all others, and never changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from eventing import UnitOfWork
from ledger.domain.chain import Content, Posting
from ledger.domain.period import BOOK_TIME
from ledger.domain.posting import MANUAL, REVERSAL, Fact, FactLine, Voucher, draft_by_hand, reversed_postings
from ledger.domain.template import Amounts
from ledger.handlers.posting import Bookkeeper
from ledger.store import books


class Original(NamedTuple):
    """The voucher that is to be reversed, as it stands in the books."""

    content: Content
    postings: Sequence[Posting]
    word: str
    number: int


async def reverse(bookkeeper: Bookkeeper, original: Original, work: UnitOfWork) -> UUID | None:
    """Post the same entries on the other sides, now; None if the voucher was reversed before.

    What the voucher told the accounts of its origins is taken back too, so that they are settled as if it had never been.
    """
    content = original.content
    known = await bookkeeper.prepare(work)
    touched = await books.get_touched(work.connection, content.voucher_id)
    # At noon: only the day counts, in the ageing of what is owed.
    paid_at = datetime.combine(touched.paid_on, time(12), BOOK_TIME) if touched.paid_on else content.occurred_at
    fact = Fact(
        template=REVERSAL,
        claim_id=content.voucher_id,
        event_id=content.voucher_id,
        event_time=work.now,
        content_hash=content.content_hash,
        root_id=content.root_id,
        order_id=content.order_id,
        shipment_id=content.shipment_id,
        channel=content.channel,
        shop_id=content.shop_id,
        reference="",
        collection="other",
        currency=content.currency,
        paid_at=paid_at,
        occurred_at=work.now,
        lines=tuple(FactLine(origin, 0, "", 0, Amounts()) for origin in touched.origins),
    )
    summary = f"冲销 {original.word}-{original.number} {content.summary}"
    postings = reversed_postings(original.postings)
    voucher = draft_by_hand(fact, postings, summary=summary, word=original.word, voucher_id=work.new_id())
    claims = await books.claim_vouchers(work.connection, [voucher], now=work.now)
    if not claims.voucher_ids:
        return None
    await books.add_reversed_facts(
        work.connection, content.voucher_id, reversal_id=voucher.voucher_id, occurred_on=voucher.occurred_on
    )
    await bookkeeper.record([voucher], claims, known, work)
    return voucher.voucher_id


async def post_manual(
    bookkeeper: Bookkeeper,
    postings: Sequence[Posting],
    *,
    word: str,
    summary: str,
    currency: str,
    occurred_at: datetime,
    work: UnitOfWork,
) -> UUID:
    """Post balanced entries that no event calls for: settlements, clearing of losses, accruals."""
    known = await bookkeeper.prepare(work)
    voucher = _manual(postings, word, summary, currency, occurred_at, work)
    claims = await books.claim_vouchers(work.connection, [voucher], now=work.now)
    await bookkeeper.record([voucher], claims, known, work)
    return voucher.voucher_id


def _manual(
    postings: Sequence[Posting], word: str, summary: str, currency: str, occurred_at: datetime, work: UnitOfWork
) -> Voucher:
    voucher_id = work.new_id()
    fact = Fact(
        template=MANUAL,
        claim_id=voucher_id,
        event_id=voucher_id,
        event_time=work.now,
        content_hash=sha256(repr(postings).encode()).digest(),
        root_id=voucher_id,
        order_id=voucher_id,
        shipment_id=None,
        channel="",
        shop_id="",
        reference="",
        collection="other",
        currency=currency,
        paid_at=occurred_at,
        occurred_at=occurred_at,
        lines=(),
    )
    return draft_by_hand(fact, postings, summary=summary, word=word, voucher_id=voucher_id)
