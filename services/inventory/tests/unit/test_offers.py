"""What is offered to routing."""

from datetime import date, datetime, time
from uuid import UUID

from inventory.domain.offers import Place, Places, Wish, offer


def a_place(number: int, **changes: object) -> Place:
    fields: dict[str, object] = {
        "place_no": number,
        "place_id": f"仓{number}",
        "name": f"{number} 号仓",
        "pool_id": "main",
        "coverage": frozenset({""}),
        "latitude": 30.0,
        "longitude": 100.0 + number / 10,
        "daily_capacity": 10,
    }
    return Place(**(fields | changes))  # type: ignore[arg-type]


def a_wish(**changes: object) -> Wish:
    fields: dict[str, object] = {
        "order_id": UUID(int=7),
        "pool_id": "main",
        "wanted": {"茶": 2},
        "region_code": "330106",
        "latitude": 30.0,
        "longitude": 100.0,
    }
    return Wish(**(fields | changes))  # type: ignore[arg-type]


def test_only_places_that_could_ship_the_whole_order_are_offered() -> None:
    """Fails if coverage, pause, shipping, pool or any line's stock is not looked at."""
    places = Places(
        [
            a_place(1),
            a_place(2, coverage=frozenset({"31"})),
            a_place(3, paused=True),
            a_place(4, ships=False),
            a_place(5, pool_id="other"),
            a_place(6, coverage=frozenset({"3301"})),
            a_place(7),
        ]
    )
    free = {"茶": {1: 5, 2: 5, 3: 5, 4: 5, 5: 5, 6: 2, 7: 1}, "杯": dict.fromkeys(range(1, 8), 1)}
    made = offer(a_wish(wanted={"茶": 2, "杯": 1}), places, free=free, capacity_left={1: 6, 6: 0})
    assert made.skus == ["茶", "杯"]
    assert made.places == [(1, 6, [5, 1]), (6, 0, [2, 1]), (7, 0, [1, 1])]  # The last has a part of it.
    assert made.able == 2


def test_an_order_to_pick_up_is_offered_its_own_place_alone() -> None:
    """Fails if a pick-up order could be routed elsewhere, or to a place without pick-up."""
    places = Places([a_place(1), a_place(2, pick_up=True, ships=False)])
    free = {"茶": {1: 9, 2: 9}}
    assert [row[0] for row in offer(a_wish(pick_up_at="仓2"), places, free=free, capacity_left={}).places] == [2]
    assert offer(a_wish(pick_up_at="仓1"), places, free=free, capacity_left={}).places == []


def test_places_that_refused_an_order_are_not_offered_again() -> None:
    places = Places([a_place(1), a_place(2)])
    made = offer(a_wish(excluded=[1]), places, free={"茶": {1: 9, 2: 9}}, capacity_left={})
    assert [row[0] for row in made.places] == [2]


def test_of_many_places_the_nearest_and_some_drawn_by_the_order_are_offered() -> None:
    """Fails if equal orders would all meet at the same places, or if the draw is not the same each time."""
    places = Places([a_place(number) for number in range(1, 301)])
    free = {"茶": dict.fromkeys(range(1, 301), 5)}
    numbers = [
        {row[0] for row in offer(a_wish(order_id=UUID(int=order)), places, free=free, capacity_left={}).places}
        for order in (1, 2, 1)
    ]
    assert all(len(chosen) == 200 and set(range(1, 101)) <= chosen for chosen in numbers)
    assert numbers[0] != numbers[1]
    assert numbers[0] == numbers[2]


def test_places_with_a_part_are_told_only_where_few_have_the_whole() -> None:
    """Fails if a plan of several parcels cannot be made, or if each offer pays for it."""
    places = Places([a_place(number) for number in range(1, 61)])
    free = {"茶": dict.fromkeys(range(1, 61), 1) | {1: 2}}
    made = offer(a_wish(), places, free=free, capacity_left={})
    assert [row[0] for row in made.places] == list(range(1, 22))  # The able one and the 20 nearest others.
    free = {"茶": dict.fromkeys(range(1, 61), 2) | {1: 1}}
    assert 1 not in [row[0] for row in offer(a_wish(), places, free=free, capacity_left={}).places]


def test_an_order_of_many_skus_names_fewer_places() -> None:
    """Fails if one offer may grow beyond what an event can hold."""
    skus = {f"S{number}": 1 for number in range(500)}
    places = Places([a_place(number) for number in range(1, 201)])
    made = offer(a_wish(wanted=skus), places, free={sku: dict.fromkeys(range(1, 201), 1) for sku in skus}, capacity_left={})
    assert len(made.places) == 40


def test_a_forced_place_is_offered_alone_whatever_speaks_against_it() -> None:
    places = Places([a_place(1), a_place(2, paused=True, coverage=frozenset({"31"}))])
    made = offer(a_wish(forced=2, excluded=[2]), places, free={"茶": {1: 9}}, capacity_left={1: 3, 2: 0})
    assert made.places == []
    made = offer(a_wish(forced=2), places, free={"茶": {1: 9, 2: 9}}, capacity_left={1: 3, 2: 0})
    assert [row[0] for row in made.places] == [2]


def test_capacity_is_that_of_the_day_the_place_would_ship() -> None:
    """Fails if an order after the cut-off, or on a closed day, takes today's capacity."""
    place = a_place(1, cut_off=time(16), working_weekdays=frozenset({1, 2, 3, 4, 5}))
    wednesday, friday, saturday = date(2026, 11, 11), date(2026, 11, 13), date(2026, 11, 14)
    for now, day in (
        (datetime(2026, 11, 11, 15, 59), wednesday),  # noqa: DTZ001  local time
        (datetime(2026, 11, 11, 16, 0), date(2026, 11, 12)),  # noqa: DTZ001
        (datetime(2026, 11, 13, 9, 0), friday),  # noqa: DTZ001
        (datetime(2026, 11, 13, 17, 0), date(2026, 11, 16)),  # noqa: DTZ001
        (datetime(2026, 11, 14, 9, 0), date(2026, 11, 16)),  # noqa: DTZ001
    ):
        assert place.ships_on(now) == day
    never = a_place(2, working_weekdays=frozenset())
    left = Places([place, never]).capacity_left(datetime(2026, 11, 14, 9), {(1, saturday): 3, (1, date(2026, 11, 16)): 4})  # noqa: DTZ001
    assert left == {1: 6, 2: 0}
