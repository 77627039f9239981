"""Which versions count, and what goes out, waits or is only recorded."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.arrival import PAYMENT_STATES, REFUND_STATES, TRADE_STATES, Facts, Known, News, State, dispose, news_of

PAID = Facts(
    trade_state="to_ship",
    payment_state="paid",
    refund_states=frozenset({"none"}),
    every_line_refunded=False,
    fulfilment_kind="to_ship",
    group_state=None,
    risk_locked=False,
)
CASES = [
    ("a paid order goes out", {}, "sent", "order_received"),
    ("cash on delivery goes out", {"payment_state": "cash_on_delivery"}, "sent", "order_received"),
    ("a formed group goes out", {"group_state": "formed"}, "sent", "order_received"),
    ("a refused refund does not stop it", {"refund_states": frozenset({"none", "refused"})}, "sent", "order_received"),
    ("unpaid waits", {"payment_state": "unpaid"}, "parked", "unpaid"),
    ("a deposit is not a payment", {"payment_state": "part_paid", "trade_state": "paid_pending"}, "parked", "unpaid"),
    ("created waits even if called paid", {"trade_state": "created"}, "parked", "unpaid"),
    ("a platform lock stops it", {"risk_locked": True}, "parked", "platform_locked"),
    ("paid pending must not ship", {"trade_state": "paid_pending"}, "parked", "platform_locked"),
    ("a forming group waits", {"group_state": "forming"}, "parked", "platform_locked"),
    ("a failed group is over", {"group_state": "failed"}, "closed", "closed_by_channel"),
    ("a refund on one line stops all", {"refund_states": frozenset({"none", "applied"})}, "parked", "refund_open"),
    ("a part refund is for people", {"payment_state": "part_refunded"}, "parked", "refund_open"),
    ("an unknown item waits", {"unknown_skus": ("X",)}, "parked", "unknown_sku"),
    ("unpaid comes before unknown", {"payment_state": "unpaid", "unknown_skus": ("X",)}, "parked", "unpaid"),
    ("cancelled is recorded only", {"trade_state": "cancelled", "payment_state": "unpaid"}, "closed", "closed_by_channel"),
    ("all refunded is over", {"every_line_refunded": True}, "closed", "closed_by_channel"),
    ("shipped elsewhere is never shipped again", {"trade_state": "shipped"}, "closed", "externally_fulfilled"),
    (
        "a till sale is finished and still booked",
        {"trade_state": "finished", "fulfilment_kind": "already_handed_over"},
        "sent",
        "order_received",
    ),
]


@pytest.mark.parametrize(("case", "changes", "state", "code"), CASES, ids=[case[0] for case in CASES])
def test_what_goes_out(case: str, changes: dict[str, object], state: str, code: str) -> None:
    disposition = dispose(replace(PAID, **changes))  # type: ignore[arg-type]
    assert (disposition.state.value, disposition.code) == (state, code), case


@given(
    st.builds(
        Facts,
        trade_state=st.sampled_from(sorted(TRADE_STATES)),
        payment_state=st.sampled_from(sorted(PAYMENT_STATES)),
        refund_states=st.frozensets(st.sampled_from(sorted(REFUND_STATES)), min_size=1),
        every_line_refunded=st.booleans(),
        fulfilment_kind=st.sampled_from(["to_ship", "pick_up"]),
        group_state=st.sampled_from([None, "forming", "formed", "failed"]),
        risk_locked=st.booleans(),
        unknown_skus=st.sampled_from([(), ("X",)]),
    )
)
def test_nothing_is_shipped_against_any_of_the_three_axes(facts: Facts) -> None:
    """Fails when one axis alone can no longer stop an order."""
    if dispose(facts).state is State.SENT:
        assert facts.trade_state == "to_ship"
        assert facts.payment_state in ("paid", "cash_on_delivery")
        assert not facts.refund_states & {"applied", "approved_wait_return", "returned_wait_receive", "refunded"}
        assert not facts.risk_locked
        assert not facts.unknown_skus


def test_older_never_overwrites_and_equal_needs_equal_content() -> None:
    known = Known(5, b"a", State.SENT)
    assert news_of(None, 1, b"a") is News.FIRST
    assert news_of(known, 4, b"b") is News.OLDER
    assert news_of(known, 5, b"a") is News.SAME
    assert news_of(known, 5, b"b") is News.CONFLICT
    assert news_of(known, 6, b"a") is News.NEWER
