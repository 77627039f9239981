"""Pinning orders to places."""

from uuid import UUID

from inventory.domain.allocation import Choice, Plan, Routed, choose_in_turn, is_stuck


def an_order(number: int, *places: int, **wanted: int) -> Routed:
    return Routed(UUID(int=number), wanted, [Plan(place, "sf", 800, 2) for place in places])


def test_the_first_plan_that_fits_whole_wins() -> None:
    """Fails if a plan is taken that lacks a unit of one line."""
    free = {("a", 1): 5, ("b", 1): 0, ("a", 2): 1, ("b", 2): 1}
    assert choose_in_turn([an_order(1, 1, 2, a=1, b=1)], free, {1: 9, 2: 9}) == [Choice(UUID(int=1), 1)]
    assert free == {("a", 1): 5, ("b", 1): 0, ("a", 2): 0, ("b", 2): 0}


def test_equal_orders_spread_once_their_best_place_is_used_up() -> None:
    """Fails if an order of a batch does not see what the ones before it took."""
    orders = [an_order(number, 1, 2, a=1) for number in range(1, 5)]
    choices = choose_in_turn(orders, {("a", 1): 2, ("a", 2): 1}, {1: 9, 2: 9})
    assert [(choice.order_id.int, choice.plan) for choice in choices] == [(1, 0), (2, 0), (3, 1)]


def test_a_place_without_capacity_takes_no_order() -> None:
    """Fails if the day's capacity is not spent with the stock."""
    orders = [an_order(1, 1, a=1), an_order(2, 1, a=1)]
    assert [choice.order_id.int for choice in choose_in_turn(orders, {("a", 1): 9}, {1: 1})] == [1]


def test_an_order_is_offered_again_twice_before_people_see_it() -> None:
    assert [is_stuck(reoffers) for reoffers in range(4)] == [False, False, True, True]
