"""What to do with an arriving version of a channel order: is it news, and may it go out?"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

TRADE_STATES = frozenset(
    {
        "created",
        "paid_pending",
        "to_ship",
        "part_shipped",
        "shipped",
        "signed",
        "finished",
        "cancelled",
        "closed_refunded",
    }
)
PAYMENT_STATES = frozenset({"unpaid", "part_paid", "paid", "cash_on_delivery", "refunded", "part_refunded"})
REFUND_STATES = frozenset({"none", "applied", "approved_wait_return", "returned_wait_receive", "refused", "refunded", "closed"})
COLLECTIONS = frozenset({"platform_escrow", "direct", "cash_on_delivery"})
FULFILMENT_KINDS = frozenset({"to_ship", "pick_up", "already_handed_over"})
GROUP_STATES = frozenset({"forming", "formed", "failed"})

_SHIPPED = frozenset({"part_shipped", "shipped", "signed", "finished"})
_CLOSED = frozenset({"cancelled", "closed_refunded"})
_REFUND_OPEN = frozenset({"applied", "approved_wait_return", "returned_wait_receive"})


class State(StrEnum):
    """Where ingest stands with a channel order."""

    SENT = "sent"
    """`order.received` was written: from here on the order moves through the stages."""
    PARKED = "parked"
    """Waits here for a fact: payment, the platform's release, a catalogue item."""
    CLOSED = "closed"
    """Recorded only: nothing will ever be sent for it."""
    CANCELLED = "cancelled"
    """All of it was cancelled, here or by whoever held it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The axes of one version, and which of its SKUs the catalogue lacks."""

    trade_state: str
    payment_state: str
    refund_states: frozenset[str]
    """Of the order and of each line."""
    every_line_refunded: bool
    fulfilment_kind: str
    group_state: str | None
    risk_locked: bool
    unknown_skus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Disposition:
    state: State
    code: str


def dispose(facts: Facts) -> Disposition:
    """Send, park (with its cause) or close. Never splits the three axes into one status: each may stop the order alone."""
    if facts.trade_state in _CLOSED or facts.payment_state == "refunded" or facts.every_line_refunded:
        return Disposition(State.CLOSED, "closed_by_channel")
    if facts.group_state == "failed":
        return Disposition(State.CLOSED, "closed_by_channel")
    if facts.trade_state in _SHIPPED and facts.fulfilment_kind != "already_handed_over":
        # Somebody else shipped it; shipping it again from here would be a gift.
        return Disposition(State.CLOSED, "externally_fulfilled")
    if facts.payment_state in ("unpaid", "part_paid") or facts.trade_state == "created":
        return Disposition(State.PARKED, "unpaid")
    if facts.risk_locked or facts.trade_state == "paid_pending" or facts.group_state == "forming":
        return Disposition(State.PARKED, "platform_locked")
    if facts.refund_states & _REFUND_OPEN or "refunded" in facts.refund_states or facts.payment_state == "part_refunded":
        return Disposition(State.PARKED, "refund_open")
    if facts.unknown_skus:
        return Disposition(State.PARKED, "unknown_sku")
    return Disposition(State.SENT, "order_received")


class News(StrEnum):
    """How an arriving version relates to what is stored."""

    FIRST = "first"
    OLDER = "older"
    """Never overwrites."""
    SAME = "same"
    """Equal version, equal content."""
    CONFLICT = "conflict"
    """Equal version, other content: the later append wins, and it is flagged."""
    NEWER = "newer"


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored of an order: its latest version, and how far ingest got with it."""

    source_version: int
    content_hash: bytes
    state: State


def news_of(known: Known | None, source_version: int, content_hash: bytes) -> News:
    """Compare by the source's version, never by arrival time."""
    if known is None:
        return News.FIRST
    if source_version < known.source_version:
        return News.OLDER
    if source_version > known.source_version:
        return News.NEWER
    return News.SAME if content_hash == known.content_hash else News.CONFLICT


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason why an order cannot be taken in: a field of the body, dotted, and a stable code."""

    field: str
    code: str


def unknown_word(field: str, word: str | None, known: Collection[str]) -> Refusal | None:
    """An axis that we cannot read must not be guessed at: shipping, or not, would be wrong either way."""
    return None if word is None or word in known else Refusal(field, "unknown_value")
