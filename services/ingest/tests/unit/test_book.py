"""The fold of the order book."""

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.book import (
    ATTEMPTS,
    FINISHED,
    RANKS,
    SERVICES,
    STAGES,
    PartState,
    Seen,
    mark_of,
    shown_stage,
    step_of,
    together,
)

START = datetime(2026, 11, 11, tzinfo=UTC)
Report = tuple[str, int, int, str, int]
REPORTS = st.lists(
    st.tuples(
        st.sampled_from(SERVICES),
        st.integers(1, 50),
        st.integers(0, 999),
        st.sampled_from([*STAGES, "something_new"]),
        st.integers(0, 10**6),
    ),
    max_size=20,
)
SENT_BACK = (
    ("ingest", 1, 0, "received"),
    ("audit", 1, 0, "cleared"),
    ("inventory", 1, 1, "reserved"),
    ("router", 1, 1, "routed"),
    ("inventory", 2, 1, "allocated"),
    ("fulfillment", 1, 1, "returned"),
    ("inventory", 3, 1, "returned"),
    ("inventory", 4, 2, "reserved"),
    ("router", 2, 2, "routed"),
    ("inventory", 5, 2, "allocated"),
    ("fulfillment", 2, 2, "shipped"),
)
"""An order whose first place sent it back."""


def folded(reports: list[Report]) -> Seen:
    seen = Seen.unheard("1")
    for service, step, attempt, stage, seconds in reports:
        seen.see(service, step, attempt, stage, START + timedelta(seconds=seconds))
    return seen


def told(*reports: tuple[str, int, int, str]) -> list[int]:
    return folded([(*report, 0) for report in reports]).marks


def a_part(number: int, stage: str, *, minutes: int = 0) -> PartState:
    marks = told(("inventory", 1, 1, stage))
    return PartState(UUID(int=number), tuple(marks), START + timedelta(minutes=minutes))


@given(REPORTS, st.randoms(use_true_random=False))
def test_the_order_of_reports_does_not_matter(reports: list[Report], shuffling: random.Random) -> None:
    """Fails when a late delivery could take an order back to an earlier stage."""
    shuffled = [*reports, *reports]  # Delivered twice, too.
    shuffling.shuffle(shuffled)
    assert folded(reports) == folded(shuffled)


def test_an_order_sent_back_by_its_place_is_shown_where_it_now_is() -> None:
    """Fails when the attempt is left out of the mark: what the first place said would hide the second attempt."""
    seen = [shown_stage(told(*SENT_BACK[: known + 1])).stage for known in range(len(SENT_BACK))]
    assert seen == [report[3] for report in SENT_BACK]


@given(st.permutations(SENT_BACK))
def test_a_loop_ends_in_one_stage_in_any_order_of_arrival(reports: list[tuple[str, int, int, str]]) -> None:
    """Fails when what is shown depends on which of two attempts was heard of first."""
    assert told(*reports) == told(*SENT_BACK)


def test_the_highest_step_of_a_service_wins_even_if_it_goes_back() -> None:
    marks = told(("inventory", 2, 1, "backordered"), ("inventory", 1, 1, "reserved"), ("audit", 1, 0, "cleared"))
    shown = shown_stage(marks)
    assert (shown.stage, shown.service, shown.step) == ("backordered", "inventory", 2)


def test_the_furthest_stage_is_shown_and_books_stand_apart() -> None:
    marks = told(("fulfillment", 2, 1, "delivered"), ("router", 1, 1, "routed"), ("ledger", 9, 2, "posted"))
    assert shown_stage(marks).stage == "delivered"


def test_a_cancel_in_an_early_stage_outranks_what_it_stopped() -> None:
    marks = told(("ingest", 1, 0, "received"), ("audit", 3, 0, "cancelled"), ("audit", 2, 0, "held"))
    shown = shown_stage(marks)
    assert (shown.stage, shown.service, shown.step) == ("cancelled", "audit", 3)


def test_a_stage_that_is_not_known_hides_nothing() -> None:
    assert shown_stage(told(("ingest", 1, 0, "received"), ("audit", 1, 0, "pondered"))).stage == "received"


def test_ranks_fit_into_marks_and_differ() -> None:
    """Fails when a rank spills over into the attempt, or an attempt into the step."""
    assert max(STAGES.values()) < RANKS
    assert len(set(STAGES.values())) == len(STAGES)
    assert set(STAGES) >= FINISHED
    assert mark_of(3, 0, "shipped") > mark_of(2, ATTEMPTS - 1, "delivered")
    assert step_of(mark_of(7, ATTEMPTS - 1, "cancelled")) == 7


def test_every_stage_of_one_attempt_stands_where_the_trade_puts_it() -> None:
    """Fails when a rank is moved past another."""
    way = ["received", "held", "cleared", "backordered", "reserved", "routed", "allocated", "returned", "instructed", "shipped"]
    ranks = [STAGES[stage] for stage in way]
    assert ranks == sorted(ranks)
    assert max(STAGES, key=lambda stage: STAGES[stage]) == "cancelled"


def test_parts_come_to_one_stage() -> None:
    """Fails when a cancelled part, or one that is ahead, speaks for the whole order."""
    for stages, wanted in {
        ("reserved",): "reserved",
        ("delivered", "delivered"): "delivered",
        ("shipped", "delivered"): "shipped",
        ("shipped", "reserved"): "part_shipped",
        ("delivered", "backordered", "cancelled"): "part_shipped",
        ("allocated", "backordered"): "backordered",
        ("cancelled", "reserved"): "reserved",
        ("cancelled", "delivered"): "delivered",
        ("cancelled", "cancelled"): "cancelled",
        ("delivered", "lost"): "lost",
    }.items():
        assert together([a_part(number, stage) for number, stage in enumerate(stages)]).stage == wanted, stages


def test_the_least_advanced_part_says_why() -> None:
    parts = together([a_part(1, "shipped"), a_part(2, "backordered"), a_part(3, "reserved")])
    assert (parts.telling.order_id.int, parts.shipped, parts.live) == (2, 1, 3)


def test_a_part_that_stands_still_is_not_hidden_by_one_that_moves() -> None:
    """Fails when an order counts as moving because any of its parts does."""
    parts = [a_part(1, "reserved", minutes=1), a_part(2, "shipped", minutes=60), a_part(3, "delivered", minutes=0)]
    assert together(parts).since == START + timedelta(minutes=1)
    assert together([a_part(3, "delivered"), a_part(4, "delivered", minutes=9)]).since == START + timedelta(minutes=9)


@given(st.permutations([a_part(number, stage) for number, stage in enumerate(("shipped", "held", "held", "cancelled"))]))
def test_the_order_of_parts_does_not_matter(parts: list[PartState]) -> None:
    assert together(parts).telling.order_id.int == 1
