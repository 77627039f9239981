"""The one rule by which money follows goods when a line is divided."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts import Part, PartLine

_MONEY = ("paid_minor", "receivable_minor", "tax_minor")


def _line(quantity: int, paid: int, receivable: int, tax: int) -> PartLine:
    return PartLine(
        origin_order_id=UUID(int=1),
        origin_line=1,
        sku_id="A",
        quantity=quantity,
        paid_minor=paid,
        receivable_minor=receivable,
        tax_minor=tax,
        unit_weight_grams=100,
        unit_cost_minor=300,
    )


@given(
    st.integers(2, 1000).flatmap(lambda quantity: st.tuples(st.just(quantity), st.integers(1, quantity - 1))),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
)
def test_a_divided_line_loses_neither_units_nor_money(units: tuple[int, int], paid: int, receivable: int, tax: int) -> None:
    """Fails when both sides round on their own, which loses or makes a fen."""
    line = _line(units[0], paid, receivable, tax)
    taken, rest = line.divide(units[1])
    assert (taken.quantity, rest.quantity) == (units[1], units[0] - units[1])
    for name in _MONEY:
        assert getattr(taken, name) + getattr(rest, name) == getattr(line, name)
        assert 0 <= getattr(rest, name) == getattr(line, name) // units[0] * rest.quantity
    assert taken.key == rest.key == line.key
    assert taken.unit_cost_minor == rest.unit_cost_minor == line.unit_cost_minor


@given(st.integers(3, 50), st.integers(0, 10**6), st.data())
def test_what_is_divided_off_later_does_not_depend_on_what_went_before(units: int, paid: int, data: st.DataObject) -> None:
    """Fails when odd fens travel on: a parcel and a return heard in another order would part by a fen."""
    _, rest = _line(units, paid, paid, paid).divide(1)
    one = data.draw(st.integers(1, rest.quantity - 1))
    first, second = rest.divide(one)
    assert [getattr(first, name) for name in _MONEY] == [paid // units * one] * 3
    assert [getattr(second, name) for name in _MONEY] == [paid // units * (rest.quantity - one)] * 3


@pytest.mark.parametrize("quantity", [0, 3, 4, -1])
def test_a_division_leaves_units_on_both_sides(quantity: int) -> None:
    """Fails when a line of no units can come to be: no topic takes one."""
    with pytest.raises(ValueError, match="on one side"):
        _line(3, 900, 900, 100).divide(quantity)


def test_a_part_names_each_of_its_units_once() -> None:
    """Fails when two lines may share a key: what is asked or answered of one could be meant of the other."""
    lines = [_line(1, 100, 100, 10), _line(2, 200, 200, 20)]
    with pytest.raises(ValidationError, match="the same units"):
        Part(order_id=UUID(int=1), root_id=UUID(int=1), lines=lines)
