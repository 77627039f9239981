"""Refunds in exact fen, and never more than was paid."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.refunds import NOTHING, Money, TooMuch, refund_lines, refund_order, remaining

AMOUNT = st.integers(0, 10**9)
MONEY = st.tuples(AMOUNT, AMOUNT, AMOUNT).map(lambda m: Money(m[0], m[0] + m[1], min(m[2], m[0] + m[1])))
TOLD = st.dictionaries(st.tuples(st.integers(0, 5), st.sampled_from([None, "A", "B"])), MONEY, min_size=1)


@given(TOLD, st.lists(AMOUNT, max_size=6))
def test_refunds_add_up_and_the_last_one_leaves_nothing(told: dict[tuple[int, str | None], Money], amounts: list[int]) -> None:
    """Fails when a fen is lost on the way, a line gives back more than it brought, or the last refund leaves tax behind."""
    done: list[dict[tuple[int, str | None], Money]] = []
    paid = sum(money.paid_minor for money in told.values())
    for amount in amounts:
        left = paid - sum(money.paid_minor for refund in done for money in refund.values())
        taken = refund_order(amount, remaining(told, done))
        if amount > left:
            assert taken == TooMuch(left)
            continue
        assert isinstance(taken, dict)
        assert sum(money.paid_minor for money in taken.values()) == amount
        done.append(taken)
        assert all(min(money) >= 0 for money in remaining(told, done).values())
    last = refund_order(sum(money.paid_minor for money in remaining(told, done).values()), remaining(told, done))
    assert isinstance(last, dict)
    for line, money in remaining(told, [*done, last]).items():
        assert money == NOTHING or told[line].paid_minor == 0 or line not in last


def test_a_line_gives_no_more_than_is_left_of_it() -> None:
    left: dict[tuple[int, str | None], Money] = {
        (1, "A"): Money(100, 120, 10),
        (1, "B"): Money(50, 60, 5),
        (2, "C"): Money(10, 10, 1),
    }
    assert refund_lines({1: 151}, left) == TooMuch(150, 1)
    taken = refund_lines({1: 30, 2: 10}, left)
    assert isinstance(taken, dict)
    assert {line: money.paid_minor for line, money in taken.items()} == {(1, "A"): 20, (1, "B"): 10, (2, "C"): 10}
    assert taken[1, "A"] == Money(20, 24, 2)
