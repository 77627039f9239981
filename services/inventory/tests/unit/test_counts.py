"""The counts of one SKU at a place and in a pool."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.domain.counts import Change, PlaceCount, PoolCount, StockError

quantities = st.integers(1, 50)


def test_goods_in_pay_off_what_is_short_first() -> None:
    """Fails if a receipt raises on_hand while orders promised there still lack goods."""
    count = PlaceCount(on_hand=3, allocated=3, short=2)
    change = count.add(5)
    assert (change.on_hand, change.short) == (3, -2)
    assert count == PlaceCount(on_hand=6, allocated=3, short=0)


def test_goods_that_vanish_take_free_units_first_and_the_rest_is_short() -> None:
    """Fails if a shrink may push on_hand below what is allocated."""
    count = PlaceCount(on_hand=5, allocated=3)
    count.remove(4)
    assert count == PlaceCount(on_hand=3, allocated=3, short=2)
    assert count.counted == 1


def test_more_than_is_available_is_never_allocated() -> None:
    """Fails if `allocate` stops looking at short."""
    with pytest.raises(StockError):
        PlaceCount(on_hand=5, allocated=3, short=1).allocate(2)


def test_a_pool_pays_off_its_overpromise_before_it_promises_again() -> None:
    """Fails if goods in become free while held orders lack them."""
    pool = PoolCount(free=1)
    pool.remove(3)
    assert (pool.free, pool.overpromised) == (0, 2)
    pool.add(3)
    assert (pool.free, pool.overpromised) == (1, 0)


def test_a_pool_never_holds_what_is_not_free() -> None:
    with pytest.raises(StockError):
        PoolCount(free=1).hold(2)


def test_units_that_come_back_pay_off_what_is_short_first() -> None:
    """Fails if a place that lacks units offers those that an order gave back to it, although they are not there."""
    count = PlaceCount(on_hand=3, allocated=3, short=2)
    assert count.release(3) == Change(on_hand=-2, allocated=-3, short=-2)
    assert (count.available, count.counted) == (1, 1)


def test_what_left_although_it_was_counted_away_was_there() -> None:
    """Fails if goods that shipped after all stay booked as short and the next receipt pays for them."""
    count = PlaceCount(on_hand=3, allocated=3, short=2)
    count.ship(3)
    count.disprove()
    assert count == PlaceCount()


MOVES = ["add", "remove", "allocate", "ship", "release", "damage", "repair", "scrap", "put_aside"]


@given(st.lists(st.tuples(st.sampled_from(MOVES), quantities)))
def test_counts_are_the_sum_of_their_changes_and_stay_in_bounds(moves: list[tuple[str, int]]) -> None:
    """Fails if a change and what it does to the counts ever differ, or if a bound that the database checks can be broken."""
    count, sums = PlaceCount(), Change()
    for name, quantity in moves:
        try:
            sums += getattr(count, name)(quantity)
        except StockError:
            continue
        assert Change(count.on_hand, count.allocated, count.short, count.damaged) == sums
        assert 0 <= count.allocated <= count.on_hand
        assert count.short >= 0
        assert count.damaged >= 0
        assert not (count.short and count.on_hand > count.allocated)
