"""Pinning orders to places."""

from uuid import UUID

from inventory.domain.allocation import Parcel, Plan, Routed, choose_in_turn, is_last_try


def an_order(number: int, *places: int, **wanted: int) -> Routed:
    return Routed(UUID(int=number), wanted, [Plan(place, "sf", 800, 2) for place in places])


def test_the_first_plan_that_fits_whole_wins() -> None:
    """Fails if a plan is taken that lacks a unit of one line."""
    free = {("a", 1): 5, ("b", 1): 0, ("a", 2): 1, ("b", 2): 1}
    (choice,) = choose_in_turn([an_order(1, 1, 2, a=1, b=1)], free, {1: 9, 2: 9})
    assert (choice.plan, choice.parcels) == (1, (Parcel(Plan(2, "sf", 800, 2), {"a": 1, "b": 1}),))
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


def test_an_order_is_offered_again_twice_before_its_last_try() -> None:
    assert [is_last_try(reoffers) for reoffers in range(4)] == [False, False, True, True]


def combined(*parcels: tuple[int, dict[str, int]]) -> list[Parcel]:
    return [Parcel(Plan(place, "sf", 800, 2), units) for place, units in parcels]


def test_several_parcels_are_tried_after_every_single_place() -> None:
    """Fails if an order is split that one place could ship, or if a parcel's place lacks a unit or capacity."""
    parcels = combined((1, {"a": 1}), (2, {"a": 1, "b": 1}))
    order = an_order(1, 3, a=2, b=1)._replace(combined=[parcels])
    free = {("a", 1): 1, ("a", 2): 1, ("b", 2): 1, ("a", 3): 2, ("b", 3): 1}
    assert [choice.plan for choice in choose_in_turn([order, order], free, {1: 1, 2: 1, 3: 9})] == [0, 1]
    assert set(free.values()) == {0}
    free = {("a", 1): 1, ("a", 2): 1, ("b", 2): 1}
    assert choose_in_turn([order], free, {1: 1, 2: 0, 3: 9}) == []


def test_the_last_try_takes_what_the_places_have_together() -> None:
    """Fails if an order gets stuck although the places of its plans have all of it, or if it is split against the policy."""
    parcels = combined((1, {"a": 2}), (2, {"a": 1}))
    order = an_order(1, a=3)._replace(combined=[parcels], splits_freely=True)
    free = {("a", 1): 1, ("a", 2): 5}
    (choice,) = choose_in_turn([order], dict(free), {1: 1, 2: 1})
    assert [(parcel.plan.place_no, parcel.units) for parcel in choice.parcels] == [(1, {"a": 1}), (2, {"a": 2})]
    assert choose_in_turn([order._replace(splits_freely=False)], dict(free), {1: 1, 2: 1}) == []
    assert choose_in_turn([order], {("a", 1): 1, ("a", 2): 1}, {1: 1, 2: 1}) == []


def test_a_forced_place_needs_no_capacity() -> None:
    order = an_order(1, 1, a=1)._replace(forced=True)
    assert len(choose_in_turn([order], {("a", 1): 1}, {1: 0})) == 1
