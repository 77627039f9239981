"""What each line costs, brings in and owes in tax, in exact minor units."""

from collections.abc import Sequence
from dataclasses import dataclass

AMOUNT_LIMIT_MINOR = 10**15
"""The contract's bound: the sum of 500 lines stays inside 64 bits."""


@dataclass(frozen=True, slots=True)
class LineMoney:
    """A line (or the freight, with quantity 1) as the channel states it."""

    quantity: int
    unit_list_price_minor: int
    adjust_minor: int
    shop_discount_minor: int
    borne_by_others_minor: int
    """Discounts that a platform, creator, payment channel or government pays back to the shop."""
    stated_paid_minor: int | None
    tax_rate_bp: int


@dataclass(frozen=True, slots=True)
class Priced:
    paid_minor: int
    receivable_minor: int
    """What the shop gets for it in all, tax included."""
    tax_minor: int


@dataclass(frozen=True, slots=True)
class PricedOrder:
    lines: list[Priced]
    freight: Priced
    paid_minor: int
    receivable_minor: int
    flags: tuple[str, ...] = ()
    """What does not add up, as codes. Where the channel's own figure differs from its parts, the channel's counts."""

    @property
    def mismatch(self) -> bool:
        return "money_mismatch" in self.flags


@dataclass(frozen=True, slots=True)
class ImpossibleMoney:
    """Discounts beyond the price, or an amount beyond the bound. `line` counts from 0; None is the freight, -1 the total."""

    line: int | None


def tax_inside(gross_minor: int, rate_bp: int) -> int:
    """The VAT inside a price that includes it, rounded half up to the fen."""
    divisor = 10_000 + rate_bp
    return (2 * gross_minor * rate_bp + divisor) // (2 * divisor)


def share_out(total: int, weights: Sequence[int]) -> list[int]:
    """Split `total` by weight, exactly: largest remainder first, then the earlier one. All weights 0: the first takes it."""
    whole = sum(weights)
    if not whole:
        return [total, *[0] * (len(weights) - 1)]
    shares = [total * weight // whole for weight in weights]
    left = total - sum(shares)
    if left:
        by_remainder = sorted(range(len(weights)), key=lambda index: (-(total * weights[index] % whole), index))
        for index in by_remainder[:left]:
            shares[index] += 1
    return shares


def price_order(lines: Sequence[LineMoney], freight: LineMoney, stated_paid_minor: int | None) -> PricedOrder | ImpossibleMoney:
    """Price every line and the freight.

    Where the channel's total differs from the sum of its parts, the total counts and the difference is spread over
    them by what is paid for each, so that books built from lines meet the buyer's payment to the fen.
    """
    paid: list[int] = []
    is_line_off = is_total_off = is_discount_beyond = False
    parts = [*lines, freight]
    for index, part in enumerate(parts):
        own = (
            part.quantity * part.unit_list_price_minor
            + part.adjust_minor
            - part.shop_discount_minor
            - part.borne_by_others_minor
        )
        if own < 0 or own > AMOUNT_LIMIT_MINOR:
            return ImpossibleMoney(index if index < len(lines) else None)
        if part.shop_discount_minor + part.borne_by_others_minor > part.quantity * part.unit_list_price_minor:
            is_discount_beyond = True  # Possible only where the seller raised the price by hand.
        if part.stated_paid_minor is not None and part.stated_paid_minor != own:
            is_line_off = True
            own = part.stated_paid_minor
        if own + part.borne_by_others_minor > AMOUNT_LIMIT_MINOR:
            return ImpossibleMoney(index if index < len(lines) else None)
        paid.append(own)
    total = sum(paid)
    if stated_paid_minor is not None and stated_paid_minor != total:
        is_total_off = True
        paid = share_out(stated_paid_minor, paid)
        total = stated_paid_minor
    priced = []
    receivable_total = 0
    for own, part in zip(paid, parts, strict=True):
        receivable = own + part.borne_by_others_minor
        receivable_total += receivable
        priced.append(Priced(own, receivable, tax_inside(receivable, part.tax_rate_bp)))
    if receivable_total > AMOUNT_LIMIT_MINOR or total > AMOUNT_LIMIT_MINOR:
        return ImpossibleMoney(-1)
    flags = (
        ("money_mismatch", is_line_off or is_total_off),
        ("line_money_mismatch", is_line_off),
        ("total_money_mismatch", is_total_off),
        ("discount_exceeds_price", is_discount_beyond),
    )
    return PricedOrder(priced[:-1], priced[-1], total, receivable_total, tuple(code for code, is_so in flags if is_so))
