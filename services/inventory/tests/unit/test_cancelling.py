"""Cancels, withdrawals, returns, answers, shipments and recalls in every order, against a plain model of places."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import UUID

import pytest

from inventory.domain import cancelling
from inventory.domain.cancelling import Held, LineKey, Outcome, Pending, Refused, RequestError, Root, child_id

KEY = LineKey(UUID(int=99), 1, "茶")
A, B, R1, R2, R3 = (UUID(int=number) for number in range(1, 6))


def an_order(order_id: UUID = A, units: int = 2, state: str = "reserved", **changes: int) -> Held:
    fields: dict[str, int] = {"number": order_id.int, "attempt": 1}
    return Held(order_id, state=state, lines={KEY: units}, **(fields | changes))


def taken(outcome: Outcome) -> list[tuple[UUID, int, str]]:
    return [(line.order_id, line.quantity, line.code) for line in outcome.taken]


def test_what_nobody_works_on_is_taken_first_and_the_youngest_of_it() -> None:
    """Fails if a place is asked to stop what waits elsewhere, or if a refusal comes while a unit is left."""
    orders = (
        an_order(A, 1, "allocated"),
        an_order(B, 1, "reserved"),
        an_order(R1, 1, "reserved"),
        an_order(R2, 1, "backordered"),
    )
    outcome = cancelling.cancel(Root(orders), R3, {KEY: 5})
    assert taken(outcome) == [
        (R2, 1, "cancelled_backordered"),
        (R1, 1, "cancelled_reserved"),
        (B, 1, "cancelled_reserved"),
    ]
    assert outcome.stops == {KEY: 1}
    assert outcome.refused == (Refused(KEY, 1, "too_late"),)
    assert {order.state for order in outcome.root.orders} == {"allocated", "cancelled"}


def test_what_waits_belongs_to_who_asked_for_it_first() -> None:
    """Fails if a later request takes what an earlier one is waiting for: that one would be refused, though a unit is left."""
    pending = (Pending(R1, KEY, 2, "cancel"),)
    root = Root((an_order(A, 1, "allocated"), an_order(B, 1, "returned", attempt=0), an_order(R3, 1)), pending)
    outcome = cancelling.cancel(root, R2, {KEY: 2})
    assert taken(outcome) == [(R3, 1, "cancelled_reserved")]
    assert (outcome.stops, outcome.refused) == ({}, (Refused(KEY, 1, "too_late"),))


def test_a_reserved_order_that_shrinks_is_reserved_anew() -> None:
    outcome = cancelling.cancel(Root((an_order(A, 3, "stuck"),)), R1, {KEY: 1})
    (order,) = outcome.root.orders
    assert (order.state, order.attempt, order.lines[KEY], outcome.again) == ("reserved", 2, 2, (A,))


def test_an_order_that_never_came_is_cancelled_whole() -> None:
    """Fails if a cancel of an order whose record was discarded is refused as shipped."""
    outcome = cancelling.cancel(Root(), R1, {KEY: 2})
    assert outcome.discarded == (Refused(KEY, 2, "cancelled_discarded"),)


def test_what_comes_back_in_part_is_an_order_of_its_own() -> None:
    """Fails if the units that stay at the place change their order, or if a number is used twice."""
    root = Root((an_order(A, 3, "allocated"),))
    first = cancelling.returned(root, A, 1, 1, {KEY: 1}, whole=False)
    assert first.again == (child_id(A, 1),)
    kept, child = first.root.orders
    assert (kept.lines[KEY], kept.state, child.lines[KEY], child.state, child.attempt) == (2, "allocated", 1, "reserved", 1)
    assert cancelling.returned(first.root, A, 1, 1, {KEY: 1}, whole=False) == Outcome(first.root)
    second = cancelling.returned(first.root, A, 1, 2, {KEY: 2}, whole=True)
    assert (second.root.orders[0].state, second.root.orders[0].attempt) == ("reserved", 2)
    assert cancelling.returned(second.root, A, 1, 3, {KEY: 1}, whole=False) == Outcome(second.root)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda root: cancelling.returned(root, A, 1, 1, {KEY: 3}, whole=False),
        lambda root: cancelling.returned(root, A, 1, 1, {KEY: 1}, whole=True),
        lambda root: cancelling.returned(root, B, 1, 1, {KEY: 1}, whole=False),
        lambda root: cancelling.shipped(root, A, {KEY: 3}),
        lambda root: cancelling.shipped(root, B, {KEY: 1}),
    ],
)
def test_units_that_were_never_there_are_an_error(wrong: Callable[[Root], Outcome]) -> None:
    """Fails if an impossible record is swallowed instead of parked."""
    with pytest.raises(RequestError):
        wrong(Root((an_order(A, 2, "allocated"),)))


def test_a_recall_settles_nothing_and_claims_nothing_of_a_cancel() -> None:
    """Fails if the buyer's cancel is refused because the same units were being recalled, or if what was recalled and has
    shipped makes a recall of fewer than no units."""
    root = Root((an_order(A, 2, "allocated"),))
    recalled = cancelling.recall(root, R1, {KEY: 5})
    assert recalled.stops == {KEY: 2}
    assert cancelling.recall(recalled.root, R2, {KEY: 1}).stops == {}
    shipped = cancelling.shipped(recalled.root, A, {KEY: 1})
    assert cancelling.recall(shipped.root, R2, {KEY: 1}).stops == {}
    asked = cancelling.cancel(recalled.root, R3, {KEY: 2})
    assert (asked.stops, asked.refused) == ({KEY: 2}, ())
    back = cancelling.returned(asked.root, A, 1, 1, {KEY: 2}, whole=True)
    assert back.again == ()
    answered = cancelling.answered(back.root, R1)
    assert (answered.taken, answered.refused, answered.again) == ((), (), ())
    assert taken(cancelling.answered(answered.root, R3)) == [(A, 2, "cancelled_stopped")]


# Every order of events. Places are a plain model: they ship, reject or stop what they have, and answer each stop once.


class Stop(NamedTuple):
    request_id: UUID
    asked: int
    promised: int


@dataclass(frozen=True)
class World:
    """What inventory knows, what the places have, what is under way between them, and what the requests were told."""

    root: Root
    there: tuple[tuple[UUID, int, int, int], ...] = ()
    """(order, attempt, units, last return) at the places."""
    stops: tuple[Stop, ...] = ()
    to_come: tuple[UUID, ...] = (R1, R2)
    """Requests that the buyer may still make."""
    withdrawn: frozenset[UUID] = frozenset()
    opened: frozenset[UUID] = frozenset()
    """Orders of which a parcel has left: they never come back whole."""
    asked: int = 0
    cancelled: int = 0
    refused: int = 0
    shipped: int = 0

    def apply(self, outcome: Outcome) -> "World":
        cancelled = sum(line.quantity for line in outcome.taken)
        late = sum(line.quantity for line in outcome.refused)
        return replace(self, root=outcome.root, cancelled=self.cancelled + cancelled, refused=self.refused + late)


UNITS = 3


def start() -> World:
    """One order of two units at a place, one unit reserved, one waiting for stock makes too many states: two orders do."""
    orders = (an_order(A, 2, "allocated"), an_order(B, 1, "reserved"))
    return World(Root(orders), there=((A, 1, 2, 0),))


def moves(world: World) -> Iterator[World]:
    root = world.root
    for index, request_id in enumerate(world.to_come):
        rest = world.to_come[:index] + world.to_come[index + 1 :]
        for units in (1, 2):
            # Ingest caps a request at what is neither open nor granted.
            if units > UNITS - world.cancelled - sum(claim.quantity for claim in root.pending):
                continue
            outcome = cancelling.cancel(root, request_id, {KEY: units})
            after = replace(world.apply(outcome), to_come=rest, asked=world.asked + units)
            if outcome.refused:
                claimed = sum(claim.quantity for claim in after.root.pending)
                assert _live(after.root) <= claimed, "refused while a unit was left that nobody had asked for"
            if outcome.stops:
                asked = outcome.stops[KEY]
                have = sum(there for _, _, there, _ in world.there)
                free = max(0, have - sum(stop.promised for stop in world.stops))
                after = replace(after, stops=(*world.stops, Stop(request_id, asked, min(asked, free))))
            yield after
        break  # Requests differ only in their ids.
    for claim in root.pending:
        if claim.request_id not in world.withdrawn:
            outcome = cancelling.withdraw(root, claim.request_id)
            yield replace(world.apply(outcome), withdrawn=world.withdrawn | {claim.request_id})
    for index, stop in enumerate(world.stops):
        others = world.stops[:index] + world.stops[index + 1 :]
        have = sum(there for _, _, there, _ in world.there)
        most = min(stop.promised, have)
        for stopped in {0, most}:
            # A place that can stop only whole gives all of it back.
            for given in {stopped, have if stopped else 0}:
                yield answer(world, stop, others, given)
    for order_id, attempt, units, return_no in world.there:
        yield ship(world, order_id, 1)
        if units > 1:
            yield ship(world, order_id, units)
        yield give_back(world, order_id, attempt, units, return_no)  # The place rejects it.
    for order in root.orders:
        if order.state == "reserved":
            allocated = replace(order, state="allocated")
            orders = tuple(allocated if other.order_id == order.order_id else other for other in root.orders)
            there = (*world.there, (order.order_id, order.attempt, order.lines[KEY], 0))
            if order.attempt < 3:  # Enough to see an order come back and go again.
                yield replace(world, root=replace(root, orders=orders), there=there)


def ship(world: World, order_id: UUID, units: int) -> World:
    outcome = cancelling.shipped(world.root, order_id, {KEY: units})
    return replace(
        world,
        root=outcome.root,
        there=_less(world.there, order_id, units),
        shipped=world.shipped + units,
        opened=world.opened | {order_id},
    )


def give_back(world: World, order_id: UUID, attempt: int, units: int, return_no: int) -> World:
    live = next(order.lines[KEY] for order in world.root.orders if order.order_id == order_id)
    whole = units == live and order_id not in world.opened
    outcome = cancelling.returned(world.root, order_id, attempt, return_no + 1, {KEY: units}, whole=whole)
    assert outcome.returned is not None
    there = tuple(
        (other, tries, have - units, number + 1) if other == order_id else (other, tries, have, number)
        for other, tries, have, number in world.there
    )
    return replace(world.apply(outcome), there=tuple(row for row in there if row[2]))


def answer(world: World, stop: Stop, others: tuple[Stop, ...], given: int) -> World:
    for order_id, attempt, units, return_no in world.there:
        part = min(given, units)
        if part:
            world = give_back(world, order_id, attempt, part, return_no)
            given -= part
    outcome = cancelling.answered(world.root, stop.request_id)
    assert not outcome.refused or not outcome.root.waiting(KEY), "refused while a unit was waiting"
    return replace(world.apply(outcome), stops=others)


def _live(root: Root) -> int:
    return sum(order.lines.get(KEY, 0) for order in root.orders)


def _less(there: tuple[tuple[UUID, int, int, int], ...], order_id: UUID, units: int) -> tuple[tuple[UUID, int, int, int], ...]:
    left = tuple(
        (other, attempt, have - units if other == order_id else have, number) for other, attempt, have, number in there
    )
    return tuple(row for row in left if row[2])


def check(world: World) -> None:
    live = _live(world.root)
    pending = sum(claim.quantity for claim in world.root.pending)
    assert live + world.cancelled + world.shipped == UNITS, "a unit was lost, or is two things at once"
    assert world.asked == world.cancelled + world.refused + pending, "a request is not settled exactly once"
    assert pending == sum(stop.asked for stop in world.stops if stop.request_id not in world.withdrawn)
    at_places = sum(units for _, _, units, _ in world.there)
    assert world.root.at_places(KEY) == at_places
    assert world.root.waiting(KEY) == 0 or world.root.pending, "something waits for nothing"


def frozen(world: World) -> object:
    """Worlds that can no longer be told apart."""
    orders = tuple(
        (order.order_id, order.state, order.attempt, order.children, order.return_no, tuple(order.lines.items()))
        for order in world.root.orders
    )
    return orders, replace(world, root=Root(pending=world.root.pending))


def test_in_every_order_of_events_no_unit_is_lost_or_both_cancelled_and_shipped() -> None:
    """Fails if any rule forgets a unit, settles a request twice or never, refuses one while a unit is left, or leaves units
    waiting for nothing."""
    seen: set[object] = set()
    todo = [start()]
    while todo:
        world = todo.pop()
        for after in moves(world):
            check(after)
            if (state := frozen(after)) not in seen:
                seen.add(state)
                todo.append(after)
    assert len(seen) > 5_000
