"""A newer version of an order that was sent: what differs from the version before, and what must be asked for.

Compared are two versions of the channel, never a version with what our own people changed meanwhile.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

RECEIVER = "receiver"
NOTE = "note"
LINES = "lines"
MONEY = "money"
DISPATCH = "dispatch"
OTHER = "other"

_RECEIVED = frozenset({"signed", "finished"})
_SHIPPED = frozenset({"part_shipped", "shipped"})
_TAKEN_BACK = frozenset({"refunded", "approved_wait_return"})


@dataclass(frozen=True, slots=True)
class Line:
    """A line of one version, under the number that it had from the first."""

    number: int
    sku_id: str
    quantity: int
    refund_state: str = "none"
    refund_id: str | None = None
    money: Hashable = None
    dispatch: Hashable = None


@dataclass(frozen=True, slots=True)
class Version:
    trade_state: str
    is_closed: bool
    """On any of the three axes."""
    lines: Sequence[Line]
    receiver: Hashable = None
    notes: Hashable = None
    money: Hashable = None
    """Freight and totals."""
    dispatch: Hashable = None
    other: Hashable = None


@dataclass(frozen=True, slots=True)
class Difference:
    closes: bool = False
    """Nothing of the order shall go on: cancel all that is left."""
    lower: Mapping[int, int] = field(default_factory=dict)
    """By line: the units that shall be left at most, of the SKU it had."""
    taken_back: frozenset[int] = frozenset()
    """Those lowered to nothing because their money goes back."""
    refunds: Mapping[int, str] = field(default_factory=dict)
    """By line: the platform's id of the refund that is done."""
    fields: tuple[str, ...] = ()
    """What a change request must say. Lower quantities are not among it."""
    is_received: bool = False
    """The buyer has confirmed receipt since the version before."""
    is_shipped: bool = False
    """The channel says shipped since the version before."""


def compare(before: Version, after: Version) -> Difference:
    """What the channel wants otherwise than in the version before."""
    known = {line.number: line for line in before.lines}
    there = {line.number: line for line in after.lines}
    refunds = {
        number: line.refund_id
        for number, line in there.items()
        if line.refund_id and line.refund_state == "refunded" and not _had_refund(known.get(number), line)
    }
    arrived = after.trade_state != before.trade_state
    is_received = arrived and after.trade_state in _RECEIVED and before.trade_state not in _RECEIVED
    is_shipped = arrived and after.trade_state in _SHIPPED and before.trade_state not in _SHIPPED | _RECEIVED
    if after.is_closed:
        return Difference(closes=not before.is_closed, refunds=refunds, is_received=is_received, is_shipped=is_shipped)
    lower: dict[int, int] = {}
    taken_back = set()
    changed: set[str] = set()
    for number, line in known.items():
        now = there.get(number)
        if now is None:
            lower[number] = 0
            if line.refund_state not in _TAKEN_BACK:  # Its refund has told the money.
                changed.add(MONEY)
            continue
        if now.sku_id != line.sku_id:
            lower[number] = 0  # Units of the old SKU; those of the new one are asked for beside them.
            changed.add(LINES)
        elif now.quantity > line.quantity:
            changed.add(LINES)
        elif now.quantity < line.quantity:
            lower[number] = now.quantity
        if now.refund_state in _TAKEN_BACK and line.refund_state not in _TAKEN_BACK:
            lower[number] = 0
            taken_back.add(number)
            continue
        if (now.refund_state == "applied") != (line.refund_state == "applied"):
            changed.add(OTHER)
        if now.money != line.money:
            changed.add(MONEY)
        if now.dispatch != line.dispatch:
            changed.add(DISPATCH)
    if there.keys() - known.keys():
        changed.add(LINES)
    for name, was, now_is in (
        (RECEIVER, before.receiver, after.receiver),
        (NOTE, before.notes, after.notes),
        (MONEY, before.money, after.money),
        (DISPATCH, before.dispatch, after.dispatch),
        (OTHER, before.other, after.other),
    ):
        if was != now_is:
            changed.add(name)
    order = (RECEIVER, NOTE, LINES, MONEY, DISPATCH, OTHER)
    return Difference(
        lower=lower,
        taken_back=frozenset(taken_back),
        refunds=refunds,
        fields=tuple(name for name in order if name in changed),
        is_received=is_received,
        is_shipped=is_shipped,
    )


def _had_refund(known: Line | None, line: Line) -> bool:
    return known is not None and known.refund_state == "refunded" and known.refund_id == line.refund_id
