"""Money that goes back, spread over what was paid for, never more than is left of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ingest.domain.money import share_out

LineNo = tuple[int, str | None]
"""(origin line, SKU): the freight is (0, None)."""


class Money(NamedTuple):
    paid_minor: int
    receivable_minor: int
    tax_minor: int

    def less(self, other: "Money") -> "Money":
        return Money(
            self.paid_minor - other.paid_minor,
            self.receivable_minor - other.receivable_minor,
            self.tax_minor - other.tax_minor,
        )

    def plus(self, other: "Money") -> "Money":
        return Money(
            self.paid_minor + other.paid_minor,
            self.receivable_minor + other.receivable_minor,
            self.tax_minor + other.tax_minor,
        )


NOTHING = Money(0, 0, 0)


@dataclass(frozen=True, slots=True)
class TooMuch:
    """More than was paid and not refunded yet. `line` is None where it is the order as a whole."""

    left_minor: int
    line: int | None = None


def remaining(told: Mapping[LineNo, Money], refunded: Sequence[Mapping[LineNo, Money]]) -> dict[LineNo, Money]:
    """What is left of each line's money after earlier refunds."""
    left = dict(told)
    for refund in refunded:
        for line, money in refund.items():
            left[line] = left.get(line, NOTHING).less(money)
    return left


def refund_order(amount_minor: int, left: Mapping[LineNo, Money]) -> dict[LineNo, Money] | TooMuch:
    """Spread an amount over all lines and the freight by what is left of each, largest remainder first.

    By what the buyer paid, so that no line gives back more than was paid for it.
    """
    lines = [line for line, money in left.items() if money.paid_minor > 0]
    whole = sum(left[line].paid_minor for line in lines)
    if amount_minor > whole:
        return TooMuch(whole)
    if not lines:
        return {}
    shares = share_out(amount_minor, [left[line].paid_minor for line in lines])
    return {line: _taken(share, left[line]) for line, share in zip(lines, shares, strict=True) if share}


def refund_lines(amounts: Mapping[int, int], left: Mapping[LineNo, Money]) -> dict[LineNo, Money] | TooMuch:
    """Take an amount off each of these lines; a bundle's line gives it from its parts."""
    taken: dict[LineNo, Money] = {}
    for number, amount_minor in amounts.items():
        spread = refund_order(amount_minor, {line: money for line, money in left.items() if line[0] == number})
        if isinstance(spread, TooMuch):
            return TooMuch(spread.left_minor, number)
        taken.update(spread)
    return taken


def _taken(paid_minor: int, left: Money) -> Money:
    """The same share of what the line brings in and of its tax; the last fen of the payment takes the rest of both along."""
    return Money(
        paid_minor,
        left.receivable_minor * paid_minor // left.paid_minor,
        left.tax_minor * paid_minor // left.paid_minor,
    )
