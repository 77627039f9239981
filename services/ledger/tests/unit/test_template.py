"""Templates: what is accepted balances, whatever the amounts."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.template import (
    COLLECTIONS,
    KNOWN_TERMS,
    TERMS,
    Amounts,
    Template,
    TemplateLine,
    document_of,
    faults_of,
    in_force,
    lines_of,
)

ACCOUNTS = ("1122.01", "1012", "2205", "2221.02")
POSTABLE = frozenset(ACCOUNTS)
JANUARY = datetime(2026, 1, 1, tzinfo=UTC)

paid_lines = st.lists(
    st.builds(
        TemplateLine,
        account=st.sampled_from(ACCOUNTS),
        side=st.sampled_from(["debit", "credit"]),
        term=st.sampled_from(sorted(KNOWN_TERMS["paid"])),
        per=st.sampled_from(["order", "line"]),
        collections=st.lists(st.sampled_from(COLLECTIONS), min_size=1, unique=True).map(tuple),
    ),
    max_size=5,
)


def a_template(version: int = 1, valid_from: datetime = JANUARY) -> Template:
    return Template.of(code="paid", version=version, valid_from=valid_from, word="记", name="收款", lines=())


@given(lines=paid_lines, amounts=st.builds(Amounts, *[st.integers(-(10**15), 10**15)] * len(Amounts._fields)))
def test_an_accepted_template_balances_for_any_amounts(lines: list[TemplateLine], amounts: Amounts) -> None:
    """Fails when `_imbalances` looks at fewer collections or base amounts than are posted."""
    if faults_of("paid", lines, postable=POSTABLE):
        return
    for collection in COLLECTIONS:
        balance = sum(
            (1 if line.side == "debit" else -1) * sum(f * a for f, a in zip(TERMS[line.term], amounts, strict=True))
            for line in lines
            if collection in line.collections
        )
        assert balance == 0


def test_a_term_left_out_is_named_with_its_collection() -> None:
    """Fails when the difference is probed with values in which tax is zero."""
    lines = [TemplateLine("1122.01", "debit", "receivable"), TemplateLine("2205", "credit", "net_of_tax")]
    faults = faults_of("paid", lines, postable=POSTABLE)
    assert [fault.code for fault in faults] == ["unbalanced_template"] * len(COLLECTIONS)
    assert faults[0].params == {"collection": "platform_escrow", "difference": "tax"}


def test_a_line_for_one_collection_only_unbalances_the_others() -> None:
    lines = [
        TemplateLine("1122.01", "debit", "receivable", collections=("platform_escrow",)),
        TemplateLine("2205", "credit", "receivable"),
    ]
    faults = faults_of("paid", lines, postable=POSTABLE)
    assert [fault.params["collection"] for fault in faults] == ["direct", "cash_on_delivery", "other"]
    assert faults[0].params["difference"] == "- paid - subsidy"


@pytest.mark.parametrize(
    ("account", "term", "code"), [("9999", "paid", "account_not_postable"), ("2205", "cost", "term_not_known")]
)
def test_what_the_event_or_the_chart_does_not_have_is_refused(account: str, term: str, code: str) -> None:
    lines = [TemplateLine(account, "debit", term), TemplateLine("1012", "credit", "paid")]
    assert [(fault.code, fault.field.rpartition(".")[0]) for fault in faults_of("paid", lines, postable=POSTABLE)] == [
        (code, "lines.0")
    ]


@given(lines=paid_lines)
def test_lines_survive_being_stored(lines: list[TemplateLine]) -> None:
    stored = lines_of(document_of(lines))
    assert [(line[:4], set(line.collections)) for line in stored] == [(line[:4], set(line.collections)) for line in lines]


def test_the_highest_version_in_force_at_the_event_time_is_taken() -> None:
    """Fails when the version is chosen by the time of posting: a late event would be posted by tomorrow's rules."""
    july = datetime(2026, 7, 1, tzinfo=UTC)
    versions = [a_template(2, july), a_template(1)]
    assert in_force(versions, datetime(2026, 6, 30, 23, 59, tzinfo=UTC)) is versions[1]
    assert in_force(versions, july) is versions[0]
    assert in_force(versions, datetime(2025, 12, 31, tzinfo=UTC)) is None
