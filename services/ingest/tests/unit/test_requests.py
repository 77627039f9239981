"""Cancel requests: what may be asked, and where answers in any order end."""

import random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.requests import (
    Accepted,
    ImpossibleSettlementError,
    Key,
    OrderState,
    Progress,
    Refused,
    Settled,
    ask,
    left_unsent,
    settle,
    withdraw,
)

ORDER = UUID(int=1)
A: Key = (ORDER, 1, "A")
B: Key = (ORDER, 2, "B")
R1, R2, R3 = UUID(int=11), UUID(int=12), UUID(int=13)


def an_order(**units: int) -> OrderState:
    return OrderState({A: units.get("a", 3), B: units.get("b", 1)})


def asked(state: OrderState, request_id: UUID, wanted: dict[Key, int] | None = None) -> OrderState:
    answer = ask(state, request_id, wanted)
    assert isinstance(answer, Accepted), answer
    return answer.state


def test_what_is_asked_for_cannot_be_asked_for_again() -> None:
    """Fails when two open requests may name one unit: the second would be settled as cancelled with nothing to cancel."""
    state = asked(an_order(), R1, {A: 2})
    assert state.left() == {A: 1, B: 1}
    assert ask(state, R2, {A: 2}) == Refused({A: 1, B: 1}, {A: 1})
    assert ask(asked(state, R2), R3) == Refused({}, {})


def test_a_refused_unit_is_free_again_and_a_cancelled_one_is_not() -> None:
    state = settle(asked(an_order(), R1, {A: 2}), R1, [Settled(A, cancelled=1, refused=1)]).state
    assert state.left() == {A: 2, B: 1}
    assert state.cancelled() == {A: 1}


def test_a_request_for_everything_there_ever_was_is_whole() -> None:
    """Fails when a stage may drop an order unseen of which a part is still wanted, or must keep one of which nothing is."""
    whole, part = ask(an_order(), R1), ask(an_order(), R1, {A: 3})
    assert isinstance(whole, Accepted)
    assert isinstance(part, Accepted)
    assert (whole.whole, part.whole) == (True, False)
    rest = ask(part.state, R2)
    assert isinstance(rest, Accepted)
    assert not rest.whole


@given(st.integers(1, 6), st.integers(0, 6), st.randoms())
def test_answers_in_any_order_and_pieces_end_the_same(quantity: int, cancelled: int, dice: random.Random) -> None:
    """Fails when closing depends on which holder answers first."""
    cancelled = min(cancelled, quantity)
    pieces = [Settled(A, cancelled=1)] * cancelled + [Settled(A, refused=1)] * (quantity - cancelled)
    dice.shuffle(pieces)
    state = asked(OrderState({A: quantity}), R1)
    closings = []
    for piece in pieces:
        result = settle(state, R1, [piece])
        state = result.state
        closings.append(result.is_answered)
    assert closings == [False] * (quantity - 1) + [True]
    assert state.requests[R1].progress is Progress.CLOSED
    assert state.cancelled() == ({A: cancelled} if cancelled else {})
    assert state.is_cancelled is (cancelled == quantity)


def test_more_than_was_asked_for_is_impossible() -> None:
    """Fails when a stage's mistake is booked as fact instead of being shown to people."""
    state = asked(an_order(), R1, {A: 1})
    with pytest.raises(ImpossibleSettlementError):
        settle(state, R1, [Settled(A, cancelled=2)])
    with pytest.raises(ImpossibleSettlementError):
        settle(state, R1, [Settled(B, refused=1)])
    with pytest.raises(ImpossibleSettlementError):
        settle(state, R2, [Settled(A, cancelled=4)])


def test_what_a_stage_cancels_by_itself_is_opened_on_first_sight() -> None:
    result = settle(an_order(), R1, [Settled(A, cancelled=2)])
    assert result.is_answered
    assert not result.request.is_ours
    more = settle(result.state, R1, [Settled(A, cancelled=1), Settled(B, cancelled=1)])
    assert more.is_answered
    assert more.state.is_cancelled


def test_a_withdrawal_brings_back_what_was_cancelled_by_then_and_nothing_twice() -> None:
    """Fails when a withdrawn request revives before everything is answered, twice, or what was refused anyway."""
    state = settle(asked(an_order(), R1, {A: 3}), R1, [Settled(A, cancelled=1)]).state
    taken_back = withdraw(state, R1)
    assert (taken_back.is_sent, taken_back.revive) == (True, {})
    late = settle(taken_back.state, R1, [Settled(A, cancelled=1)])
    assert (late.is_answered, late.revive) == (False, {})
    last = settle(late.state, R1, [Settled(A, refused=1)])
    assert (last.is_answered, last.revive) == (True, {A: 2})
    again = withdraw(last.state, R1)
    assert (again.is_sent, again.revive) == (False, {})


def test_a_closed_request_revives_at_once() -> None:
    state = settle(asked(an_order(), R1, {A: 1}), R1, [Settled(A, cancelled=1)]).state
    assert withdraw(state, R1).revive == {A: 1}


@pytest.mark.parametrize(
    ("quantity", "cancelled", "then", "left"),
    [(3, 1, 3, 2), (2, 1, 3, 2), (1, 1, 3, 1), (5, 1, 3, 4), (3, 3, 3, 0), (0, 3, 3, 0), (1, 2, 2, 0)],
)
def test_a_lower_quantity_of_the_channel_speaks_of_units_cancelled_here(
    quantity: int, cancelled: int, then: int, left: int
) -> None:
    """Fails when a cancel that the channel repeats in its next version is taken off twice."""
    assert left_unsent(quantity, cancelled, then) == left
