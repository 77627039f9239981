"""Cancels, changes, splits, merges and conditions as plain values."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.domain.cancelling import HeldOrder, spend
from audit.domain.changing import PassOn, Replace, Standing, judge_change
from audit.domain.conditions import FIELDS, OPERATORS, condition_of, fault_of
from audit.domain.facts import ItemFacts, Known, LikeOrder, LineFacts, OrderFacts
from audit.domain.holds import Held, Hold, decide, rejudge
from audit.domain.merging import Waiting, choose, merge_key, merged_id
from audit.domain.rules import RuleSet, rule_set_of
from audit.domain.splitting import apart, child_id

NOW = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)
ROOT, OTHER = UUID(int=1), UUID(int=2)
KNOWN = Known(now=NOW)


def an_order(*lines: LineFacts, **changes: Any) -> OrderFacts:
    facts: dict[str, Any] = {
        "order_id": ROOT,
        "channel": "taobao",
        "shop_id": "shop-1",
        "fulfilment_kind": "to_ship",
        "currency": "CNY",
        "paid_minor": 9_900,
        "address_grade": "complete",
        "phone_kind": "mobile",
        "region_code": "650102",
        "tokens": {"receiver": "r", "phone": "p", "address": "a", "buyer": "b"},
        "lines": lines or (a_line("A"), a_line("B")),
        "placed_at": NOW,
        "received_at": NOW,
    }
    return OrderFacts(**(facts | changes))


def a_line(sku: str, **changes: Any) -> LineFacts:
    return LineFacts(sku, 2, 5_000, 6_000, 690, 100)._replace(**changes)


def found_by(rule: dict[str, Any], order: OrderFacts, known: Known = KNOWN) -> list[str]:
    outcome = decide(order, rule_set_of(1, {"rules": [{"rule_id": "r", **rule}]}), known)
    return [hold.code for hold in outcome.holds] if isinstance(outcome, Held) else []


LATER = NOW + timedelta(days=3)
CHEAP = {"A": ItemFacts("toys", 1_000), "B": ItemFacts("liquid", 1_000)}
DEAR = {"A": ItemFacts("toys", 9_000), "B": ItemFacts("liquid", 1_000)}


@pytest.mark.parametrize(
    ("rule", "doubtful", "fine", "code"),
    [
        ({"kind": "buyer_note"}, {"has_buyer_note": True}, {}, "buyer_note"),
        ({"kind": "seller_note"}, {"seller_flag": "red"}, {}, "seller_note"),
        ({"kind": "seller_note", "flags": ["red"]}, {"seller_flag": "red"}, {"has_seller_note": True}, "seller_note"),
        ({"kind": "keyword"}, {"keywords": ["wants_carrier"]}, {}, "note_keyword"),
        ({"kind": "keyword", "keywords": ["x"]}, {"keywords": ["x"]}, {"keywords": ["wants_carrier"]}, "note_keyword"),
        ({"kind": "payment"}, {"payment_state": "part_paid"}, {"payment_state": "cash_on_delivery"}, "order_unpaid"),
        ({"kind": "refund"}, {"refund_state": "a_word_of_tomorrow"}, {"refund_state": "closed"}, "refund_applied"),
        ({"kind": "refund"}, {"lines": [a_line("A", refund_state="applied")]}, {}, "refund_applied"),
        ({"kind": "risk"}, {"risk_locked": True}, {}, "risk_locked"),
        ({"kind": "area", "prefixes": ["65", "54"]}, {}, {"region_code": "330110"}, "special_area"),
        ({"kind": "presale"}, {"lines": [a_line("A", ship_not_before=LATER)]}, {}, "presale_not_due"),
    ],
)
def test_each_rule_objects_to_its_own_doubt(
    rule: dict[str, Any], doubtful: dict[str, Any], fine: dict[str, Any], code: str
) -> None:
    assert found_by(rule, an_order(**doubtful)) == [code]
    assert found_by(rule, an_order(**fine)) == []


def test_a_margin_below_an_amount_or_a_share_is_held_and_an_unknown_cost_is_not_judged() -> None:
    for floor in ({"min_margin_minor": 0}, {"min_margin_bp": 100}):
        rule = {"kind": "margin", **floor}
        assert found_by(rule, an_order(), Known(items=DEAR, now=NOW)) == ["margin_below_floor"]
        assert found_by(rule, an_order(), Known(items=CHEAP, now=NOW)) == []
        assert found_by(rule, an_order(), Known(items={"A": DEAR["A"]}, now=NOW)) == []


def test_like_orders_count_by_token_and_time() -> None:
    rule = {"kind": "duplicate", "within_minutes": 10, "token_kinds": ["buyer"]}
    near, far = NOW - timedelta(minutes=10), NOW - timedelta(minutes=11)
    for like, codes in (
        ([LikeOrder(OTHER, "buyer", near)], ["duplicate_buyer"]),
        ([LikeOrder(OTHER, "buyer", far)], []),
        ([LikeOrder(OTHER, "receiver", near)], []),
    ):
        assert found_by(rule, an_order(), Known(like_orders=like, now=NOW)) == codes


def test_a_hold_ends_at_the_earliest_of_its_times_but_never_before_now() -> None:
    rule = {"kind": "risk", "release_after_seconds": 7200, "release_before_deadline_hours": 5}
    for ship_before, ends in (
        (None, NOW + timedelta(hours=2)),
        (NOW + timedelta(hours=6), NOW + timedelta(hours=1)),
        (NOW + timedelta(hours=1), NOW),
    ):
        order = an_order(risk_locked=True, ship_before=ship_before)
        outcome = decide(order, rule_set_of(1, {"rules": [{"rule_id": "r", **rule}]}), KNOWN)
        assert isinstance(outcome, Held)
        assert outcome.holds[0].release_at == ends


def test_rules_speak_in_the_order_of_their_priority_and_only_when_they_apply() -> None:
    when = {"field": "channel", "op": "in", "value": ["jd"]}
    rules = rule_set_of(
        1,
        {
            "rules": [
                {"kind": "risk", "rule_id": "late"},
                {"kind": "area", "rule_id": "early", "prefixes": ["65"], "priority": 1},
                {"kind": "buyer_note", "rule_id": "jd_only", "when": when},
            ]
        },
    )
    outcome = decide(an_order(risk_locked=True, has_buyer_note=True), rules, KNOWN)
    assert isinstance(outcome, Held)
    assert [hold.rule_id for hold in outcome.holds] == ["early", "late"]


# --- conditions


@pytest.mark.parametrize(
    ("field", "op", "value", "holds"),
    [
        ("paid_minor", ">", 9_899, True),
        ("paid_minor", ">=", 9_901, False),
        ("paid_minor", "<", 9_901, True),
        ("paid_minor", "<=", 9_899, False),
        ("paid_minor", "=", 9_900, True),
        ("paid_minor", "!=", 9_900, False),
        ("paid_minor", "between", [9_900, 9_900], True),
        ("units", "in", [3, 4], True),
        ("channel", "contains", "aob", True),
        ("region_code", "starts_with", "65", True),
        ("skus", "contains", "A", True),
        ("skus", "in", ["B", "C"], True),
        ("skus", "in", ["C"], False),
        ("categories", "contains", "liquid", True),
        ("presale", "=", False, True),
        ("seller_flag", "=", "red", False),
        ("seller_flag", "!=", "red", True),
        ("minutes_to_ship_before", "<", 60, False),
    ],
)
def test_a_comparison_holds_or_not(field: str, op: str, value: Any, holds: bool) -> None:
    assert fault_of(field, op, value) is None
    condition = condition_of({"field": field, "op": op, "value": value})
    assert condition.holds(an_order(), Known(items=CHEAP, now=NOW)) is holds


def test_every_field_and_operator_that_is_let_in_can_be_asked() -> None:
    """Fails when a stored condition raises for an order: the key would be parked, and with it every order after it."""
    values: dict[str, Any] = {"number": 1, "text": "x", "flag": True, "list": "x"}
    for field, (kind, _) in FIELDS.items():
        for operator in OPERATORS[kind]:
            value = [values[kind]] * 2 if operator in ("in", "between") else values[kind]
            assert fault_of(field, operator, value) is None
            for order in (an_order(), an_order(region_code=None, address_grade=None, phone_kind=None, tokens={})):
                condition_of({"field": field, "op": operator, "value": value}).holds(order, KNOWN)


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.integers(1, 6))
def test_groups_count_what_holds(values: list[bool], count: int) -> None:
    of = [{"field": "presale", "op": "=", "value": not value} for value in values]
    assert condition_of({"all": of}).holds(an_order(), KNOWN) is all(values)
    assert condition_of({"any": of}).holds(an_order(), KNOWN) is any(values)
    assert condition_of({"at_least": count, "of": of}).holds(an_order(), KNOWN) is (sum(values) >= count)


# --- cancels

KEYS = [(ROOT, line, "A") for line in (1, 2, 3)]
UNITS = st.dictionaries(st.sampled_from(KEYS), st.integers(1, 5), min_size=1)


@given(st.lists(UNITS, max_size=3), UNITS)
def test_a_cancel_takes_what_is_held_and_no_unit_twice(held: list[dict[Any, int]], wanted: dict[Any, int]) -> None:
    """Fails when a unit is both settled and forwarded, or an order gives more than it has."""
    orders = [HeldOrder(UUID(int=number), lines) for number, lines in enumerate(held)]
    spent = spend(orders, wanted)
    for key in KEYS:
        taken = sum(lines.get(key, 0) for lines in spent.taken.values())
        assert taken == min(wanted.get(key, 0), sum(lines.get(key, 0) for lines in held))
        assert taken + spent.remainder.get(key, 0) == wanted.get(key, 0)
    for order in orders:
        assert all(units <= order.lines[key] for key, units in spent.taken.get(order.order_id, {}).items())
    assert all(spent.remainder.values())


def test_children_give_in_turn() -> None:
    orders = [HeldOrder(ROOT, {KEYS[0]: 2}), HeldOrder(OTHER, {KEYS[0]: 2})]
    assert spend(orders, {KEYS[0]: 3}) == ({ROOT: {KEYS[0]: 2}, OTHER: {KEYS[0]: 1}}, {})


# --- changes


@pytest.mark.parametrize(
    ("states", "fields", "decision"),
    [
        (["held"], ["lines"], Replace(ROOT)),
        (["cleared"], ["note", "lines"], PassOn((), (), ("note",), ("lines",), True)),
        (["cancelled"], ["note", "lines"], PassOn((), (), (), ("note", "lines"), False)),
        (["merged"], ["receiver"], PassOn((), (), ("receiver",), (), False)),
        (["split", "held", "cleared"], ["note"], PassOn((UUID(int=11),), ("note",), ("note",), (), False)),
        (["split", "held", "cancelled"], ["money"], PassOn((), (), (), ("money",), True)),
    ],
)
def test_a_change_goes_where_the_order_is(states: list[str], fields: list[str], decision: object) -> None:
    rows = [Standing(ROOT if number == 0 else UUID(int=10 + number), state) for number, state in enumerate(states)]
    assert judge_change(fields, ROOT, rows) == decision


def a_hold(rule_id: str, state: str = "open", **changes: Any) -> Hold:
    facts: dict[str, Any] = {"kind": "x", "code": "c", "evidence": {}, "release_at": None}
    return Hold(hold_id=uuid4(), order_id=ROOT, rule_id=rule_id, state=state, **(facts | changes))


def test_a_new_look_keeps_equal_doubts_ends_old_ones_and_places_new_ones() -> None:
    equal, old, by_hand = a_hold("equal"), a_hold("old"), a_hold("manual", placed_by="user:mei")
    put_aside, ended_before = a_hold("aside", "released", closed_by="mei"), a_hold("back", "released", closed_by="system")
    found = [a_hold(rule_id) for rule_id in ("equal", "aside", "back", "new")]
    outcome = rejudge([equal, old, by_hand, put_aside, ended_before], found)
    assert outcome.ended == (old.hold_id,)
    assert [hold.rule_id for hold in outcome.placed] == ["back", "new"]
    assert outcome.still_open == (equal, by_hand, *outcome.placed)


# --- splits and merges


@given(st.lists(st.sampled_from("ABCD"), min_size=1, max_size=8), st.lists(st.booleans(), min_size=8, max_size=8))
def test_a_split_loses_no_line_and_makes_no_empty_order(skus: list[str], late: list[bool]) -> None:
    lines = [a_line(sku, ship_not_before=LATER if wait else None) for sku, wait in zip(skus, late, strict=False)]
    document = [
        {"kind": "split_presale", "rule_id": "presale"},
        {"kind": "split_goods", "rule_id": "goods", "skus": ["A"], "categories": ["liquid"]},
    ]
    groups = apart(an_order(*lines), rule_set_of(1, {"rules": document}), Known(items=CHEAP, now=NOW))
    assert len(groups) != 1
    assert all(group.lines for group in groups)
    if groups:
        assert sorted(line for group in groups for line in group.lines) == list(range(len(lines)))
        for group in groups:
            assert len({lines[position].ship_not_before for position in group.lines}) == 1


def test_many_dates_share_the_last_child() -> None:
    lines = [a_line("A", ship_not_before=NOW + timedelta(days=1 + number)) for number in range(40)]
    groups = apart(an_order(*lines), rule_set_of(1, {"rules": [{"kind": "split_presale", "rule_id": "p"}]}), KNOWN)
    assert (len(groups), len(groups[-1].lines)) == (20, 21)


def test_ids_of_children_and_merges_are_frozen() -> None:
    """Fails when they are made in another way: orders under way would be made twice."""
    assert child_id(ROOT, 1) == UUID("5dea47f6-55c7-5bec-8e83-3fb92cc3faf7")
    assert {merged_id(list(order)) for order in permutations([ROOT, OTHER])} == {UUID("ebf7ddac-1ad0-58fa-bebb-9062977ce443")}


@pytest.mark.parametrize(
    "different",
    [
        {"tokens": {"receiver": "r", "phone": "p", "address": "else"}},
        {"shop_id": "shop-2"},
        {"currency": "USD"},
        {"seller_flag": "red"},
        {"wanted_carrier": "sf"},
    ],
)
def test_orders_meet_only_where_receiver_shop_and_wishes_agree(different: dict[str, Any]) -> None:
    one, other = an_order(), an_order(**different)
    assert merge_key(one, across_shops=None) != merge_key(other, across_shops=None)
    assert merge_key(one, across_shops="all") == merge_key(an_order(shop_id="shop-2"), across_shops="all")


@pytest.mark.parametrize(
    "unfit",
    [
        {"fulfilment_kind": "pick_up"},
        {"payment_state": "part_paid"},
        {"collection": "cash_on_delivery"},
        {"presale": True},
        {"tokens": {"receiver": "r"}},
    ],
)
def test_what_cannot_be_merged_never_waits(unfit: dict[str, Any]) -> None:
    rules = rule_set_of(1, {"rules": [{"kind": "merge", "rule_id": "m", "wait_minutes": 5, "max_orders": 2}]})
    assert isinstance(decide(an_order(), rules, KNOWN), Held)
    assert not isinstance(decide(an_order(**unfit), rules, KNOWN), Held)
    assert not isinstance(decide(an_order(), RuleSet(1, ()), KNOWN), Held)


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300_000)), max_size=8), st.integers(2, 6))
def test_a_merge_stays_within_its_bounds_and_always_has_who_asked(sizes: list[tuple[int, int]], most: int) -> None:
    first = Waiting(ROOT, NOW, 1, 1000)
    others = [
        Waiting(UUID(int=10 + number), NOW - timedelta(minutes=number), lines, size_bytes)
        for number, (lines, size_bytes) in enumerate(sizes)
    ]
    chosen = choose(first, others, max_orders=most)
    assert first in chosen
    assert len(chosen) <= most
    assert sum(order.lines for order in chosen) <= 500
    assert sum(order.size_bytes for order in chosen) <= 400_000
    assert list(chosen) == sorted(chosen, key=lambda order: (order.received_at, order.order_id))
