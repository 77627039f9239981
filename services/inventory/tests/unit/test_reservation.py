"""Holding orders against the pool."""

from uuid import UUID

from inventory.domain.counts import PoolCount
from inventory.domain.reservation import Backordered, Demand, Held, Missing, Split, hold_again, reserve_in_turn, wake_in_turn


def a_demand(number: int, **wanted: int) -> Demand:
    return Demand(UUID(int=number), "main", wanted)


def levels(**free: int) -> dict[tuple[str, str], PoolCount]:
    return {(sku, "main"): PoolCount(free=units) for sku, units in free.items()}


def test_shortage_on_one_line_holds_nothing() -> None:
    """Fails if an order is held in part."""
    stock = levels(a=5, b=1)
    assert reserve_in_turn([a_demand(1, a=2, b=2)], stock) == [Backordered(UUID(int=1), [Missing("b", 2, 1)])]
    assert stock["a", "main"].free == 5


def test_each_demand_sees_what_the_ones_before_it_left() -> None:
    """Fails if a batch is decided on the numbers it started with."""
    outcomes = reserve_in_turn([a_demand(1, a=2), a_demand(2, a=2), a_demand(3, a=1)], levels(a=3))
    assert outcomes == [Held(UUID(int=1)), Backordered(UUID(int=2), [Missing("a", 2, 1)]), Held(UUID(int=3))]


def test_new_demand_queues_while_waiting_orders_are_about_to_be_served() -> None:
    """Fails if an order that arrives between goods in and the wake pass takes units that older orders wait for."""
    stock = {("a", "main"): PoolCount(free=3, waking=True)}
    assert reserve_in_turn([a_demand(1, a=1)], stock) == [Backordered(UUID(int=1), [Missing("a", 1, 1)])]
    assert wake_in_turn([a_demand(1, a=1)], stock) == [Held(UUID(int=1))]


def test_no_unit_rests_because_an_older_order_wants_more() -> None:
    """Fails if the wake pass stops at the first order that cannot be covered."""
    outcomes = wake_in_turn([a_demand(1, a=5), a_demand(2, a=1)], levels(a=1))
    assert isinstance(outcomes[0], Backordered)
    assert outcomes[1] == Held(UUID(int=2))


def test_a_shop_that_splits_sends_what_is_there() -> None:
    """Fails if a part is held that another order was promised, or if an order of which nothing is there is split."""
    stock = levels(a=3, b=0)
    demands = [a_demand(number, a=2, b=1)._replace(splits=True) for number in (1, 2, 3)]
    assert reserve_in_turn(demands, stock) == [
        Split(UUID(int=1), {"a": 2}, [Missing("b", 1, 1)]),
        Split(UUID(int=2), {"a": 1}, [Missing("a", 2, 1), Missing("b", 1, 1)]),
        Backordered(UUID(int=3), [Missing("a", 2, 2), Missing("b", 1, 1)]),
    ]
    assert stock["a", "main"].free == 0


def test_an_order_that_came_back_keeps_its_hold_unless_the_pool_lacks_it() -> None:
    """Fails if a returned order loses its place to others, or is promised what has vanished."""
    stock = {("a", "main"): PoolCount(), ("b", "main"): PoolCount(overpromised=1)}
    assert hold_again(a_demand(1, a=2), stock) == Held(UUID(int=1))
    assert hold_again(a_demand(2, a=2, b=2), stock) == Backordered(UUID(int=2), [Missing("b", 2, 1)])
    assert (stock["a", "main"].free, stock["b", "main"].free, stock["b", "main"].overpromised) == (2, 1, 0)
