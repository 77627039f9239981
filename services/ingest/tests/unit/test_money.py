"""Line arithmetic in exact fen."""

from decimal import ROUND_HALF_UP, Decimal

from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.money import ImpossibleMoney, LineMoney, PricedOrder, price_order, share_out, tax_inside

AMOUNTS = st.integers(0, 10**12)
NO_FREIGHT = LineMoney(1, 0, 0, 0, 0, None, 0)


def a_line(price: int, quantity: int = 1, **changes: int | None) -> LineMoney:
    values: dict[str, int | None] = {
        "quantity": quantity,
        "unit_list_price_minor": price,
        "adjust_minor": 0,
        "shop_discount_minor": 0,
        "borne_by_others_minor": 0,
        "stated_paid_minor": None,
        "tax_rate_bp": 1300,
    }
    return LineMoney(**(values | changes))  # type: ignore[arg-type]


def priced(*lines: LineMoney, freight: LineMoney = NO_FREIGHT, stated: int | None = None) -> PricedOrder:
    result = price_order(lines, freight, stated)
    assert isinstance(result, PricedOrder)
    return result


def test_discounts_borne_by_others_come_back_to_the_shop() -> None:
    """Fails when a platform's share lowers the shop's revenue."""
    line = priced(a_line(25900, 2, shop_discount_minor=2000, borne_by_others_minor=2397)).lines[0]
    assert (line.paid_minor, line.receivable_minor) == (47403, 49800)


def test_vat_is_inside_the_price_and_rounds_half_up() -> None:
    assert tax_inside(11300, 1300) == 1300
    assert tax_inside(10000, 900) == 826  # 825.688…
    assert tax_inside(3, 10000) == 2  # 1.5 rounds up


@given(AMOUNTS, st.integers(0, 10_000))
def test_vat_equals_the_decimal_calculation(gross: int, rate: int) -> None:
    """Fails when integer arithmetic and the law's rounding part ways anywhere."""
    exact = Decimal(gross) * rate / (10_000 + rate)
    assert abs(Decimal(tax_inside(gross, rate)) - exact) <= Decimal("0.5")
    if (2 * gross * rate) % (10_000 + rate) == 0:
        assert tax_inside(gross, rate) == int(exact.quantize(Decimal(1), ROUND_HALF_UP))


@given(AMOUNTS, st.lists(AMOUNTS, min_size=1, max_size=30))
def test_shares_add_up_exactly_and_none_is_off_by_a_fen(total: int, weights: list[int]) -> None:
    """Fails when a remainder is lost or given twice."""
    shares = share_out(total, weights)
    assert sum(shares) == total
    assert all(share >= 0 for share in shares)
    if whole := sum(weights):
        assert all(abs(share * whole - total * weight) < whole for share, weight in zip(shares, weights, strict=True))


def test_discounts_beyond_the_price_are_impossible() -> None:
    assert price_order([a_line(100), a_line(100, shop_discount_minor=101)], NO_FREIGHT, None) == ImpossibleMoney(1)
    assert price_order([a_line(100)], a_line(5, borne_by_others_minor=6), None) == ImpossibleMoney(None)


def test_a_price_beyond_the_bound_is_impossible() -> None:
    """Fails when quantity × price may leave 64 bits and end as a database error."""
    assert price_order([a_line(10**15, 1_000_000)], NO_FREIGHT, None) == ImpossibleMoney(0)
    assert price_order([a_line(6 * 10**14), a_line(6 * 10**14)], NO_FREIGHT, None) == ImpossibleMoney(-1)


def test_the_channels_figure_for_a_line_counts_and_is_flagged() -> None:
    order = priced(a_line(1000, stated_paid_minor=990))
    assert order.lines[0].paid_minor == 990
    assert order.mismatch


@given(st.lists(st.builds(a_line, AMOUNTS, st.integers(1, 99)), min_size=1, max_size=10), AMOUNTS, st.none() | AMOUNTS)
def test_parts_always_add_up_to_what_the_buyer_paid(lines: list[LineMoney], freight: int, stated: int | None) -> None:
    """Fails when the books of the lines could differ from the buyer's payment."""
    order = priced(*lines, freight=a_line(freight), stated=stated)
    assert sum(line.paid_minor for line in order.lines) + order.freight.paid_minor == order.paid_minor
    assert sum(line.receivable_minor for line in order.lines) + order.freight.receivable_minor == order.receivable_minor
    if stated is not None:
        assert order.paid_minor == stated
    assert order.mismatch == (
        stated is not None and stated != sum(a.quantity * a.unit_list_price_minor for a in lines) + freight
    )
