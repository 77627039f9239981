"""Which orders are stopped, why, and how holds end."""

import json
from collections.abc import Set
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.domain.cancelling import audit_reject_id
from audit.domain.facts import Known, LineFacts, OrderFacts
from audit.domain.holds import Cleared, Held, Hold, decide, release
from audit.domain.rules import (
    _SETS as SETS,
)
from audit.domain.rules import (
    RULE_KINDS,
    AddressRule,
    AmountRule,
    BlacklistRule,
    PhoneRule,
    QuantityRule,
    Rule,
    RuleSet,
    rule_set_of,
)

NOW = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)
ORDER_ID = UUID("018f5b0a-0000-7000-8000-000000000001")


def an_order(**changes: Any) -> OrderFacts:
    facts: dict[str, Any] = {
        "order_id": ORDER_ID,
        "channel": "taobao",
        "shop_id": "shop-1",
        "fulfilment_kind": "to_ship",
        "currency": "CNY",
        "paid_minor": 9_900,
        "address_grade": "complete",
        "phone_kind": "mobile",
        "tokens": {"phone": "p1", "buyer": "b1"},
        "placed_at": NOW,
        "received_at": NOW,
    }
    units = changes.pop("units_by_sku", {"A": 2, "B": 1})
    facts["lines"] = [LineFacts(sku, quantity, 100, 100, 10, 50) for sku, quantity in units.items()]
    return OrderFacts(**(facts | changes))


def holds_of(order: OrderFacts, *rules: Rule, blacklisted: Set[str] = frozenset()) -> list[tuple[str, dict[str, Any]]]:
    outcome = decide(order, RuleSet(1, rules), Known(blacklisted=blacklisted, now=NOW))
    return [(hold.code, hold.evidence) for hold in outcome.holds] if isinstance(outcome, Held) else []


ADDRESS = AddressRule(rule_id="address", allowed_grades=frozenset({"complete", "street_short"}))
PHONE = PhoneRule(rule_id="phone", reachable_kinds=frozenset({"mobile", "landline"}))
AMOUNT = AmountRule(rule_id="amount", currency="CNY", min_paid_minor=1, max_paid_minor=10_000)
QUANTITY = QuantityRule(rule_id="quantity", max_units_per_sku=5, max_units_per_order=8)
BLACKLIST = BlacklistRule(rule_id="blacklist", token_kinds=frozenset({"buyer", "phone"}))


def test_an_order_with_nothing_in_doubt_is_cleared_and_says_how_many_rules_looked() -> None:
    outcome = decide(an_order(), RuleSet(7, (ADDRESS, PHONE, AMOUNT, QUANTITY, BLACKLIST)), Known(now=NOW))
    assert outcome == Cleared("order_cleared", 5)


def test_address_and_phone_hold_what_a_courier_cannot_use() -> None:
    assert holds_of(an_order(address_grade="city_unknown"), ADDRESS) == [("address_incomplete", {"grade": "city_unknown"})]
    assert holds_of(an_order(phone_kind="missing"), PHONE) == [("phone_unreachable", {"phone_kind": "missing"})]


def test_an_order_that_is_not_shipped_has_no_address_to_doubt() -> None:
    assert holds_of(an_order(fulfilment_kind="pick_up", address_grade="unusable"), ADDRESS, PHONE) == []
    assert holds_of(an_order(address_grade=None, phone_kind=None), ADDRESS, PHONE) == []


@pytest.mark.parametrize(("paid", "limit"), [(0, 1), (1, None), (10_000, None), (10_001, 10_000)])
def test_amount_limits_are_inclusive(paid: int, limit: int | None) -> None:
    expected = [("amount_out_of_range", {"paid_minor": paid, "limit_minor": limit, "currency": "CNY"})]
    assert holds_of(an_order(paid_minor=paid), AMOUNT) == (expected if limit is not None else [])


def test_an_amount_rule_judges_its_own_currency_only() -> None:
    assert holds_of(an_order(paid_minor=99_999, currency="USD"), AMOUNT) == []


def test_quantity_counts_units_per_sku_then_in_all() -> None:
    assert holds_of(an_order(units_by_sku={"A": 6, "B": 9, "C": 9}), QUANTITY) == [
        ("quantity_out_of_range", {"sku_id": "B", "quantity": 9, "limit": 5, "skus_over": 3})
    ]
    assert holds_of(an_order(units_by_sku={"A": 5, "B": 4}), QUANTITY) == [
        ("order_quantity_out_of_range", {"quantity": 9, "limit": 8})
    ]
    assert holds_of(an_order(units_by_sku={"A": 5, "B": 3}), QUANTITY) == []


def test_only_listed_kinds_of_token_count_and_the_token_is_never_in_the_evidence() -> None:
    listed = {"phone", "address"}
    assert holds_of(an_order(), BLACKLIST, blacklisted=listed) == [("buyer_blacklisted", {"token_kinds": ["phone"]})]
    assert holds_of(an_order(), BLACKLIST, blacklisted={"address"}) == []


def test_every_rule_is_asked_so_that_one_look_shows_everything() -> None:
    """Fails when the first hold ends the audit."""
    order = an_order(address_grade="unusable", phone_kind="missing", paid_minor=20_000, units_by_sku={"A": 6})
    found = holds_of(order, ADDRESS, PHONE, AMOUNT, QUANTITY, BLACKLIST, blacklisted={"buyer"})
    assert [code for code, _ in found] == [
        "address_incomplete",
        "phone_unreachable",
        "amount_out_of_range",
        "quantity_out_of_range",
        "buyer_blacklisted",
    ]


@pytest.mark.parametrize(
    ("scope", "asked"),
    [
        ({}, True),
        ({"channels": frozenset({"taobao", "jd"})}, True),
        ({"channels": frozenset({"jd"})}, False),
        ({"shop_ids": frozenset({"shop-1"})}, True),
        ({"channels": frozenset({"taobao"}), "shop_ids": frozenset({"shop-2"})}, False),
        ({"enabled": False}, False),
    ],
)
def test_a_rule_is_asked_within_its_scope_only(scope: dict[str, Any], asked: bool) -> None:
    rule = AddressRule(rule_id="address", allowed_grades=frozenset(), **scope)
    assert bool(holds_of(an_order(), rule)) is asked


def test_goods_already_handed_over_are_not_audited() -> None:
    """Fails when a till sale can be held: the goods are gone, a hold would only hide it."""
    order = an_order(fulfilment_kind="already_handed_over", paid_minor=99_999)
    assert decide(order, RuleSet(1, (AMOUNT,)), Known(now=NOW)) == Cleared("handed_over_passed", 0)


def test_a_timed_hold_knows_when_it_ends() -> None:
    rule = AddressRule(rule_id="address", allowed_grades=frozenset(), release_after_seconds=90)
    outcome = decide(an_order(), RuleSet(1, (rule,)), Known(now=NOW))
    assert isinstance(outcome, Held)
    assert [hold.release_at for hold in outcome.holds] == [NOW + timedelta(seconds=90)]


def test_rules_built_from_a_document_are_the_same_rules() -> None:
    document = {
        "rules": [
            {"kind": "address", "rule_id": "address", "allowed_grades": ["complete", "street_short"]},
            {"kind": "phone", "rule_id": "phone", "reachable_kinds": ["mobile", "landline"]},
            {"kind": "amount", "rule_id": "amount", "currency": "CNY", "min_paid_minor": 1, "max_paid_minor": 10_000},
            {"kind": "quantity", "rule_id": "quantity", "max_units_per_sku": 5, "max_units_per_order": 8},
            {"kind": "blacklist", "rule_id": "blacklist", "token_kinds": ["buyer", "phone"], "channels": [], "enabled": True},
        ]
    }
    built = rule_set_of(3, json.loads(json.dumps(document)))
    assert (built.version, built.rules) == (3, (ADDRESS, PHONE, AMOUNT, QUANTITY, BLACKLIST))


def test_every_parameter_that_is_a_set_is_built_as_one() -> None:
    """Fails when a rule gets a new set parameter that the builder would leave a list."""
    for rule in RULE_KINDS.values():
        for parameter in fields(rule):
            if "frozenset" in str(parameter.type):
                assert parameter.name in SETS


@given(
    grade=st.sampled_from(["complete", "unusable"]),
    paid=st.integers(0, 20_000),
    units=st.dictionaries(st.sampled_from("ABC"), st.integers(1, 10), min_size=1),
    listed=st.sets(st.sampled_from(["buyer", "phone"])),
    switched_on=st.sets(st.sampled_from([ADDRESS, PHONE, AMOUNT, QUANTITY, BLACKLIST])),
)
def test_an_order_is_held_by_exactly_the_rules_that_object_alone(
    grade: str, paid: int, units: dict[str, int], listed: set[str], switched_on: set[Rule]
) -> None:
    """Rules do not see each other: their union is what each of them says. Deciding twice says the same."""
    order = an_order(address_grade=grade, paid_minor=paid, units_by_sku=units)
    rules = RuleSet(4, tuple(sorted(switched_on, key=lambda rule: rule.rule_id)))
    outcome = decide(order, rules, Known(blacklisted=listed, now=NOW))
    assert outcome == decide(order, rules, Known(blacklisted=listed, now=NOW))
    alone = {rule.rule_id for rule in switched_on if holds_of(order, rule, blacklisted=listed)}
    placed = {hold.rule_id for hold in outcome.holds} if isinstance(outcome, Held) else set()
    assert placed == alone


def a_hold(state: str = "open") -> Hold:
    return Hold(
        hold_id=uuid4(),
        order_id=ORDER_ID,
        kind="phone",
        code="phone_unreachable",
        evidence={},
        rule_id="phone",
        release_at=None,
        state=state,
    )


def test_releasing_one_of_two_holds_leaves_the_other() -> None:
    first, second = a_hold(), a_hold()
    outcome = release([first, second], [first.hold_id])
    assert (outcome.closed, outcome.still_open) == ((first.hold_id,), (second,))


def test_releasing_twice_changes_nothing() -> None:
    first, second = a_hold("released"), a_hold()
    outcome = release([first, second], [first.hold_id])
    assert (outcome.closed, outcome.still_open) == ((), (second,))


def test_releasing_all_leaves_none_open() -> None:
    first, second = a_hold(), a_hold("rejected")
    assert release([first, second], None).closed == (first.hold_id,)
    assert release([first, second], None).still_open == ()


def test_a_reject_is_one_cancel_request_for_ever() -> None:
    assert audit_reject_id(ORDER_ID) == UUID("30e6256f-25f5-5ca0-966b-10193d802fdd")
