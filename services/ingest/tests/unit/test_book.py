"""The fold of the order book."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.book import FINISHED, RANKS, SERVICES, STAGES, Seen, mark_of, shown_stage

START = datetime(2026, 11, 11, tzinfo=UTC)
REPORTS = st.lists(
    st.tuples(
        st.sampled_from(SERVICES), st.integers(1, 50), st.sampled_from([*STAGES, "something_new"]), st.integers(0, 10**6)
    ),
    max_size=20,
)
Report = tuple[str, int, str, int]


def folded(reports: list[Report]) -> Seen:
    seen = Seen("1", [0] * len(SERVICES), START)
    for service, step, stage, seconds in reports:
        seen.see(service, step, stage, START + timedelta(seconds=seconds))
    return seen


@given(REPORTS, st.randoms(use_true_random=False))
def test_the_order_of_reports_does_not_matter(reports: list[Report], random: object) -> None:
    """Fails when a late delivery could take an order back to an earlier stage."""
    shuffled = [*reports, *reports]  # Delivered twice, too.
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert folded(reports) == folded(shuffled)


def test_the_highest_step_of_a_service_wins_even_if_it_goes_back() -> None:
    marks = folded([("inventory", 2, "backordered", 0), ("inventory", 1, "reserved", 0), ("audit", 1, "cleared", 0)]).marks
    assert shown_stage(marks) == ("backordered", "inventory", 2)


def test_the_furthest_stage_is_shown_and_books_stand_apart() -> None:
    marks = folded([("fulfillment", 2, "delivered", 0), ("router", 1, "routed", 0), ("ledger", 9, "posted", 0)]).marks
    assert shown_stage(marks) == ("delivered", "fulfillment", 2)


def test_a_cancel_in_an_early_stage_outranks_what_it_stopped() -> None:
    marks = folded([("ingest", 1, "received", 0), ("audit", 3, "cancelled", 0), ("audit", 2, "held", 0)]).marks
    assert shown_stage(marks) == ("cancelled", "audit", 3)


def test_a_stage_that_is_not_known_hides_nothing() -> None:
    marks = folded([("ingest", 1, "received", 0), ("audit", 1, "pondered", 0)]).marks
    assert shown_stage(marks)[0] == "received"


def test_ranks_fit_into_marks_and_differ() -> None:
    """Fails when a rank spills over into the step."""
    assert max(STAGES.values()) < RANKS
    assert len(set(STAGES.values())) == len(STAGES)
    assert set(STAGES) >= FINISHED
    assert mark_of(3, "shipped") > mark_of(2, "delivered")
