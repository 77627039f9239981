"""The hash chain over vouchers: whoever changes, adds or removes one afterwards breaks it at a place that can be named.

A voucher's hash covers all it says but its number. A link covers the hashes of one batch, in the order of their numbers, and
the link before it: so the numbers are covered too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

GENESIS = bytes(32)
"""What stands before the first link of a book, period and word."""


class Posting(NamedTuple):
    """One debit or credit to one account; exactly one of the two amounts is positive."""

    account: str
    debit_minor: int
    credit_minor: int
    origin_order_id: UUID | None = None
    origin_line: int | None = None


class Content(NamedTuple):
    """All that a voucher says, as it is stored."""

    voucher_id: UUID
    event_id: UUID
    template: str
    template_version: int
    content_hash: bytes
    root_id: UUID
    order_id: UUID
    shipment_id: UUID | None
    channel: str
    shop_id: str
    currency: str
    occurred_at: datetime
    summary: str


def voucher_hash(content: Content, postings: Iterable[Posting]) -> bytes:
    canonical = json.dumps(
        [
            str(content.voucher_id),
            str(content.event_id),
            content.template,
            content.template_version,
            content.content_hash.hex(),
            str(content.root_id),
            str(content.order_id),
            content.shipment_id and str(content.shipment_id),
            content.channel,
            content.shop_id,
            content.currency,
            content.occurred_at.astimezone(UTC).isoformat(),
            content.summary,
            [[p[0], p[1], p[2], p[3] and str(p[3]), p[4]] for p in postings],
        ],
        ensure_ascii=False,
        separators=(",", ":"),
    )
    return sha256(canonical.encode()).digest()


def batch_digest(hashes: Sequence[bytes]) -> bytes:
    return sha256(b"".join(hashes)).digest()


def link_hash(previous: bytes, digest: bytes) -> bytes:
    """Kept in step with `store/numbering.py`, which computes it in SQL under the counter's lock."""
    return sha256(previous + digest).digest()


class Numbered(NamedTuple):
    """A voucher as it stands in the books; `content` is None where the number names a voucher that is gone."""

    number: int
    voucher_id: UUID
    hash: bytes
    content: Content | None
    postings: Sequence[Posting]


class Link(NamedTuple):
    link_no: int
    first_number: int
    last_number: int
    digest: bytes
    hash: bytes


class Head(NamedTuple):
    """The counter's row: where the chain of one book, period and word must end."""

    last_number: int
    link_no: int
    hash: bytes


class Break(NamedTuple):
    """The first thing that does not hold."""

    code: str
    """voucher_changed | voucher_missing | voucher_unexpected | link_changed | link_missing | head_changed"""
    link_no: int
    number: int | None = None
    voucher_id: UUID | None = None


class Verifier:
    """Walks one chain from its start: feed the links in order, each with its vouchers, then the head."""

    def __init__(self, last: Link | None = None) -> None:
        """Go on after `last`, a link that was checked before; from the start without it."""
        self.links = last.link_no if last else 0
        self.vouchers = last.last_number if last else 0
        self._previous = last.hash if last else GENESIS

    def check_links(self, links: Iterable[Link], vouchers: Sequence[Numbered]) -> Break | None:
        """Several links in their order, with the vouchers of all of them; the first that does not hold."""
        for link in links:
            members = [one for one in vouchers if link.first_number <= one.number <= link.last_number]
            if (found := self.check_link(link, members)) is not None:
                return found
        return None

    def check_link(self, link: Link, vouchers: Sequence[Numbered]) -> Break | None:
        if link.link_no != self.links + 1 or link.first_number != self.vouchers + 1:
            return Break("link_missing", self.links + 1)
        by_number = {voucher.number: voucher for voucher in vouchers}
        for number in range(link.first_number, link.last_number + 1):
            voucher = by_number.pop(number, None)
            if voucher is None:
                return Break("voucher_missing", link.link_no, number)
            if voucher.content is None:
                return Break("voucher_missing", link.link_no, number, voucher.voucher_id)
            if voucher_hash(voucher.content, voucher.postings) != voucher.hash:
                return Break("voucher_changed", link.link_no, number, voucher.voucher_id)
        if by_number:
            stray = min(by_number.values())
            return Break("voucher_unexpected", link.link_no, stray.number, stray.voucher_id)
        digest = batch_digest([voucher.hash for voucher in sorted(vouchers, key=lambda voucher: voucher.number)])
        if digest != link.digest or link_hash(self._previous, digest) != link.hash:
            return Break("link_changed", link.link_no)
        self._previous = link.hash
        self.links = link.link_no
        self.vouchers = link.last_number
        return None

    def check_head(self, head: Head) -> Break | None:
        """The chain must end where the counter stands, else its tail was cut off."""
        if head.link_no > self.links or head.last_number > self.vouchers:
            return Break("link_missing", self.links + 1, self.vouchers + 1)
        if head != Head(self.vouchers, self.links, self._previous):
            return Break("head_changed", head.link_no)
        return None
