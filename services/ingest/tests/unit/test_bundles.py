"""Bundles as their parts: every unit and every fen of the line, and whole bundles back from units."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.bundles import Component, Sets, explode, is_too_large, sets_of

MONEY = st.integers(0, 10**12)
COMPONENTS = st.lists(
    st.builds(Component, st.sampled_from("ABCDE"), st.integers(1, 9), st.integers(0, 10**6)), min_size=1, max_size=8
)


@given(st.integers(1, 999), MONEY, MONEY, MONEY, COMPONENTS)
def test_parts_carry_all_units_and_all_money(
    quantity: int, paid: int, receivable: int, tax: int, bundle: list[Component]
) -> None:
    """Fails when a fen is lost or made for some weights, or a SKU named twice becomes two lines of one key."""
    parts = explode(quantity, paid, receivable, tax, bundle)
    assert [
        sum(amounts) for amounts in zip(*((p.paid_minor, p.receivable_minor, p.tax_minor) for p in parts), strict=True)
    ] == [
        paid,
        receivable,
        tax,
    ]
    assert {part.sku_id: part.quantity for part in parts} == {
        sku: quantity * sum(part.quantity for part in bundle if part.sku_id == sku) for sku in {part.sku_id for part in bundle}
    }
    assert len({part.sku_id for part in parts}) == len(parts)
    assert all(min(part.paid_minor, part.receivable_minor, part.tax_minor) >= 0 for part in parts)


@given(st.integers(0, 50), st.dictionaries(st.sampled_from("ABC"), st.integers(1, 5), min_size=1))
def test_whole_bundles_are_counted_by_their_scarcest_part(count: int, per_set: dict[str, int]) -> None:
    units = {sku: count * each for sku, each in per_set.items()}
    assert sets_of(units, per_set) == Sets(count, even=True)
    first = min(per_set)
    assert sets_of({**units, first: units[first] + 1}, per_set).even is (per_set == {first: 1})


def test_what_no_message_could_say_is_too_large() -> None:
    """Fails when a bundle may leave the contract's bounds and be poison for everybody downstream."""
    assert not is_too_large([(1_000_000, ())] * 500)
    assert is_too_large([(500_001, (Component("A", 2),))])
    assert is_too_large([(1, tuple(Component(f"A-{number}", 1) for number in range(50)))] * 21)
