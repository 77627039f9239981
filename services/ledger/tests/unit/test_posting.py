"""From facts to vouchers: exact, balanced, in the right month, each event once."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.chain import Posting
from ledger.domain.period import first_day, next_period, period_of
from ledger.domain.posting import (
    Fact,
    FactLine,
    deltas_of,
    draft_voucher,
    draft_vouchers,
    posted_on,
    series_of,
    share_by_weight,
)
from ledger.domain.template import Amounts, Template, TemplateLine

ORDER = UUID(int=1)
NOON = datetime(2026, 11, 24, 4, tzinfo=UTC)
PAID = Template.of(
    code="paid",
    version=3,
    valid_from=datetime(2026, 1, 1, tzinfo=UTC),
    word="记",
    name="收款",
    lines=(
        TemplateLine("1122.01", "debit", "paid", collections=("platform_escrow", "other")),
        TemplateLine("1012", "debit", "paid", collections=("direct",)),
        TemplateLine("1122.03", "debit", "paid", collections=("cash_on_delivery",)),
        TemplateLine("1122.02", "debit", "subsidy"),
        TemplateLine("2205", "credit", "net_of_tax", per="line"),
        TemplateLine("2221.02", "credit", "tax"),
    ),
)
amounts = st.builds(Amounts, paid=st.integers(-(10**12), 10**12), subsidy=st.integers(0, 10**9), tax=st.integers(0, 10**9))


def a_fact(
    *lines: Amounts, event: int = 7, collection: str = "platform_escrow", at: datetime = NOON, content: bytes = b"a"
) -> Fact:
    return Fact(
        template="paid",
        claim_id=UUID(int=event),
        event_id=UUID(int=event),
        event_time=at,
        content_hash=content,
        root_id=ORDER,
        order_id=ORDER,
        shipment_id=None,
        channel="taobao",
        shop_id="旗舰店",
        reference="T1",
        collection=collection,
        currency="CNY",
        paid_at=at,
        occurred_at=at,
        lines=tuple(FactLine(ORDER, n, f"SKU-{n}", 1, line) for n, line in enumerate(lines or (Amounts(1130, 0, 130),), 1)),
    )


def ids() -> Iterator[UUID]:
    number = 1000
    while True:
        yield UUID(int=(number := number + 1))


@given(lines=st.lists(amounts, min_size=1, max_size=5), collection=st.sampled_from(["platform_escrow", "direct", "barter"]))
def test_every_voucher_balances_and_no_posting_is_zero_or_negative(lines: list[Amounts], collection: str) -> None:
    voucher = draft_voucher(a_fact(*lines, collection=collection), PAID, UUID(int=9))
    assert sum(p.debit_minor for p in voucher.postings) == sum(p.credit_minor for p in voucher.postings) == voucher.total_minor
    assert all(
        (p.debit_minor > 0) != (p.credit_minor > 0) and min(p.debit_minor, p.credit_minor) == 0 for p in voucher.postings
    )


def test_the_parts_of_an_order_post_what_the_whole_posts() -> None:
    """Fails when an amount is rounded on its way into a posting."""
    whole = draft_voucher(a_fact(Amounts(1001, 99, 127)), PAID, UUID(int=9))
    halves = [draft_voucher(a_fact(half), PAID, UUID(int=9)) for half in (Amounts(500, 50, 63), Amounts(501, 49, 64))]
    sums = [{p.account: p.debit_minor - p.credit_minor for p in v.postings} for v in (whole, *halves)]
    assert sums[0] == {account: sums[1][account] + sums[2][account] for account in sums[0]}


def test_who_collects_decides_the_account_and_lines_keep_their_origin() -> None:
    voucher = draft_voucher(a_fact(Amounts(1130, 0, 130), Amounts(565, 0, 65), collection="direct"), PAID, UUID(int=9))
    assert voucher.postings == (
        Posting("1012", 1695, 0),
        Posting("2205", 0, 1000, ORDER, 1),
        Posting("2205", 0, 500, ORDER, 2),
        Posting("2221.02", 0, 195),
    )


def test_an_event_of_zero_amounts_is_a_claim_without_postings_and_takes_no_number() -> None:
    """Fails when a gift's empty voucher gets a number."""
    voucher = draft_voucher(a_fact(Amounts()), PAID, UUID(int=9))
    assert (voucher.postings, voucher.total_minor) == ((), 0)
    assert series_of([voucher], first_open_period="") == []


def test_a_copy_inside_the_batch_is_posted_once_and_other_content_is_said() -> None:
    new_id = ids().__next__
    vouchers, repeated = draft_vouchers([a_fact(), a_fact(), a_fact(content=b"b"), a_fact(event=8)], {"paid": [PAID]}, new_id)
    assert [voucher.content.event_id.int for voucher in vouchers] == [7]  # One payment, whatever id it is told under.
    assert [copy.content_changed for copy in repeated] == [False, True, False]


def test_a_month_begins_at_midnight_in_china() -> None:
    """Fails when the period is taken from UTC: eight hours of sales would land in the wrong month."""
    vouchers = [
        draft_voucher(a_fact(event=n, at=at), PAID, UUID(int=n))
        for n, at in enumerate([datetime(2026, 10, 31, 16, tzinfo=UTC), datetime(2026, 10, 31, 15, 59, tzinfo=UTC)], 1)
    ]
    series = series_of(vouchers, first_open_period="")
    assert [(s.period, [v.voucher_id.int for v in s.vouchers]) for s in series] == [("2026-10", [2]), ("2026-11", [1])]


def test_what_comes_after_the_close_goes_to_the_open_period_with_its_own_date_kept() -> None:
    voucher = draft_voucher(a_fact(), PAID, UUID(int=9))
    (series,) = series_of([voucher], first_open_period="2027-01")
    assert (series.period, posted_on(voucher, series.period)) == ("2027-01", date(2027, 1, 1))
    assert (voucher.occurred_on, posted_on(voucher, "2026-11")) == (date(2026, 11, 24), date(2026, 11, 24))
    assert {delta.period for delta in deltas_of([series])[0]} == {"2027-01"}


@given(events=st.lists(st.lists(amounts, min_size=1, max_size=3), min_size=1, max_size=6))
def test_deltas_are_the_sum_of_the_postings(events: list[list[Amounts]]) -> None:
    vouchers = [draft_voucher(a_fact(*lines, event=n), PAID, UUID(int=n)) for n, lines in enumerate(events, 1)]
    deltas, owed = deltas_of(series_of(vouchers, first_open_period=""))
    for account in {p.account for v in vouchers for p in v.postings}:
        assert sum(d.debit_minor - d.credit_minor for d in deltas if d.account == account) == sum(
            p.debit_minor - p.credit_minor for v in vouchers for p in v.postings if p.account == account
        )
    assert sum(d.debit_minor for d in deltas) == sum(d.credit_minor for d in deltas)
    receivable = sum(d.debit_minor - d.credit_minor for d in deltas if d.account.startswith("1122"))
    assert sum(one.amount_minor for one in owed) == receivable


@given(amount=st.integers(0, 10**12), weights=st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_shares_add_up_and_none_is_off_by_a_whole_cent(amount: int, weights: list[int]) -> None:
    shares = share_by_weight(amount, weights)
    assert sum(shares) == amount
    if whole := sum(weights):
        assert all(abs(share * whole - amount * weight) < whole for share, weight in zip(shares, weights, strict=True))


def test_no_version_in_force_is_an_error_that_names_the_template() -> None:
    with pytest.raises(LookupError, match="paid"):
        draft_vouchers([a_fact(at=datetime(2025, 1, 1, tzinfo=UTC))], {"paid": [PAID]}, ids().__next__)


def test_periods_follow_each_other_over_the_year() -> None:
    assert [next_period("2026-11"), next_period("2026-12")] == ["2026-12", "2027-01"]
    assert period_of(first_day("2026-02")) == "2026-02"
