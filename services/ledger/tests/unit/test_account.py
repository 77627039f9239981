"""Accounts of origins: whatever order facts come in, the same is recognised and taken back, and nothing twice."""

import random
from collections import Counter
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.account import OriginFact, Units, accounts_of, settle
from ledger.domain.policy import DELIVERED, FIRST_POLICY, RECEIPT_CONFIRMED, Policy, apply_policies
from ledger.domain.posting import Fact, FactLine, Home
from ledger.domain.template import Amounts

ORDER, A, B = UUID(int=1), UUID(int=10), UUID(int=11)
OWN = Home(ORDER, None, "taobao", "旗舰店", date(2026, 11, 1))
LINE = Units(3, 3000, 390, 1500)


def fact(phase: str, units: Units, parcel: UUID | None = None, line: int = 1) -> OriginFact:
    return OriginFact(phase, OWN._replace(shipment_id=parcel), line, "SKU" if line else "", units)


def after(facts: list[OriginFact], recognition: str) -> list[OriginFact]:
    adjustments = settle(facts, recognition)
    return facts + [OriginFact(a.template, a.home, line, sku, units) for a in adjustments for line, sku, units in a.lines]


def state_of(facts: list[OriginFact]) -> dict[tuple[Any, ...], Units]:
    """What the books hold per kind, parcel and line, however many vouchers it took."""
    sums: dict[tuple[Any, ...], Units] = {}
    for one in facts:
        phase = "recognised" if one.phase in ("delivered", "recognised") else one.phase
        if phase != "arrived":
            key = (phase, one.home.shipment_id, one.origin_line)
            sums[key] = sums.get(key, Units()).plus(one.units)
    return {key: units for key, units in sums.items() if any(units)}


lives = st.fixed_dictionaries(
    {
        "changes": st.lists(st.integers(-1500, 500), max_size=3),
        "refunds": st.lists(st.integers(0, 2000), max_size=3),
        "confirmed": st.lists(st.integers(1, 3), max_size=2),
        "arrived": st.sets(st.sampled_from([A, B])),
        "lost": st.sets(st.sampled_from([A, B])),
        "returned": st.lists(st.tuples(st.sampled_from(["return_good", "return_bad", "return_missing"]), st.integers(1, 2))),
        "recognition": st.sampled_from([DELIVERED, RECEIPT_CONFIRMED]),
        "noted_only": st.booleans(),
    }
)


def facts_of(life: dict[str, Any]) -> list[OriginFact]:
    one, two = LINE.first(1), LINE.minus(LINE.first(1))
    parcels = {A: one, B: two}
    arrival = "arrived" if life["noted_only"] or life["recognition"] != DELIVERED else "delivered"
    freight = Units(net=900, tax=54)
    return [
        fact("paid", LINE),
        fact("paid", freight, line=0),
        *(fact("changed", Units(net=net, tax=net // 10)) for net in life["changes"]),
        *(fact("shipped", units, parcel) for parcel, units in parcels.items()),
        fact("shipped", freight, A, line=0),
        *(fact(arrival, parcels[parcel], parcel) for parcel in sorted(life["arrived"])),
        *([fact(arrival, freight, A, line=0)] if A in life["arrived"] else []),
        *(fact("receipt_confirmed", Units(quantity)) for quantity in life["confirmed"]),
        *(fact("refunded", Units(net=net, tax=net // 10)) for net in life["refunds"]),
        *(fact("lost", Units(parcels[parcel].quantity, cost=parcels[parcel].cost), parcel) for parcel in sorted(life["lost"])),
        *(fact(grade, Units(quantity, cost=500 * quantity), B) for grade, quantity in life["returned"]),
    ]


@given(life=lives, seed=st.integers(0, 2**32))
def test_any_order_of_facts_ends_in_the_same_accounts(life: dict[str, Any], seed: int) -> None:
    """Fails when an overlap is posted whole instead of by its difference, or is not a function of the sums."""
    chance = random.Random(seed)
    ends = []
    for shuffled in (False, True):
        facts = facts_of(life)
        if shuffled:
            chance.shuffle(facts)
        books: list[OriginFact] = []
        while facts:
            count = chance.randint(1, len(facts))
            books, facts = after([*books, *facts[:count]], life["recognition"]), facts[count:]
        assert settle(books, life["recognition"]) == []
        ends.append(state_of(books))
    assert ends[0] == ends[1]


@given(life=lives)
def test_nothing_is_recognised_twice_or_owed_below_zero(life: dict[str, Any]) -> None:
    """Fails when a unit that both the carrier and the buyer speak of is recognised by each of them."""
    books = after(facts_of(life), life["recognition"])
    account = accounts_of(books)[1]
    assert account.recognised.quantity <= 3
    assert account.recognised.net <= LINE.net
    wanted = min(3, sum(life["confirmed"]))
    if life["recognition"] == DELIVERED:
        wanted = max(wanted, sum({A: 1, B: 2}[parcel] for parcel in life["arrived"]))
    assert account.recognised.quantity == wanted
    if account.paid.net >= account.refunded.net:
        assert account.liability.net >= 0
    if account.returned.cost <= account.shipped.cost:
        assert 0 <= account.goods_out <= LINE.cost


def test_what_is_refunded_after_recognition_is_taken_off_revenue_and_tax() -> None:
    books = [
        fact("paid", LINE),
        fact("shipped", LINE, A),
        fact("delivered", LINE, A),
        fact("refunded", Units(net=1000, tax=130)),
    ]
    (move,) = settle(books, DELIVERED)
    assert (move.template, move.lines) == ("recognition_overlap", ((1, "SKU", Units(net=1000, tax=130)),))
    assert accounts_of(after(books, DELIVERED))[1].liability == Units()


def test_a_refund_of_what_never_shipped_touches_no_revenue() -> None:
    """Fails when every refund is taken off revenue."""
    sent = LINE.first(2)
    books = [fact("paid", LINE), fact("shipped", sent, A), fact("delivered", sent, A), fact("refunded", LINE.minus(sent))]
    assert settle(books, DELIVERED) == []


def test_nothing_is_taken_back_before_the_payment_is_known() -> None:
    """Fails when a refund that overtakes its order is taken for one of recognised revenue."""
    assert settle([fact("shipped", LINE, A), fact("delivered", LINE, A), fact("refunded", LINE)], DELIVERED) == []


@pytest.mark.parametrize("grade", ["return_good", "return_bad", "return_missing"])
def test_what_comes_back_undelivered_was_never_sold(grade: str) -> None:
    books = [fact("paid", LINE), fact("shipped", LINE, A), fact(grade, Units(3, cost=1500), A)]
    assert settle(books, DELIVERED) == []
    (move,) = settle([*books, fact("delivered", LINE, A)], DELIVERED)
    assert (move.template, move.lines[0][2].cost) == ("cost_overlap", 1500)


def test_a_lost_parcel_that_turns_up_is_not_lost() -> None:
    books = [fact("paid", LINE), fact("shipped", LINE, A), fact("lost", Units(3, cost=1500), A)]
    assert settle(books, DELIVERED) == []
    for found in (fact("delivered", LINE, A), fact("return_good", Units(3, cost=1500), A)):
        moves = settle([*books, found], DELIVERED)
        assert [(move.template, move.lines[0][2].cost) for move in moves] == [("loss_overlap", 1500)]


def test_the_buyers_word_recognises_what_the_carrier_never_reported() -> None:
    """Fails when a confirmed receipt is taken for the parcel that had arrived already."""
    one, two = LINE.first(1), LINE.minus(LINE.first(1))
    books = [fact("paid", LINE), fact("shipped", one, A), fact("shipped", two, B), fact("arrived", two, B)]
    books = after(books, DELIVERED)
    assert accounts_of(books)[1].recognised == two
    assert settle([*books, fact("receipt_confirmed", Units(2))], DELIVERED) == []
    books = after([*books, fact("receipt_confirmed", Units(3))], DELIVERED)
    assert accounts_of(books)[1].recognised == LINE
    assert settle([*books, fact("arrived", one, A)], DELIVERED) == []


def a_delivery(policy_time: datetime) -> Fact:
    lines = tuple(FactLine(origin, 1, "SKU", 1, Amounts(113, 0, 13, 50)) for origin in (ORDER, A))
    return Fact(
        template="delivered",
        claim_id=B,
        event_id=B,
        event_time=policy_time,
        content_hash=b"",
        root_id=ORDER,
        order_id=ORDER,
        shipment_id=B,
        channel="jd",
        shop_id="店",
        reference="1",
        collection="direct",
        currency="CNY",
        paid_at=policy_time,
        occurred_at=policy_time,
        lines=lines,
    )


def test_an_order_keeps_the_policy_of_the_day_it_was_paid() -> None:
    """Fails when the version is chosen by the delivery's time: an order's parcels would follow different policies."""
    spring, summer = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
    policies = [FIRST_POLICY, Policy(1, datetime(2026, 5, 1, tzinfo=UTC), RECEIPT_CONFIRMED, 0)]
    old, new = (apply_policies(a_delivery(at), policies, ()) for at in (spring, summer))
    assert (len(old.lines), len(old.deferred)) == (2, 0)
    assert (len(new.lines), len(new.deferred)) == (0, 2)
    merged = apply_policies(a_delivery(spring)._replace(paid_at_of={A: summer}), policies, ())
    assert [line.origin_order_id for line in merged.lines] == [ORDER]
    assert [line.origin_order_id for line in merged.deferred] == [A]


def test_where_the_buyer_has_spoken_a_delivery_is_only_noted() -> None:
    noted = apply_policies(a_delivery(datetime(2026, 3, 1, tzinfo=UTC)), [FIRST_POLICY], {A})
    assert Counter(line.origin_order_id for line in noted.lines) == {ORDER: 1}
    assert Counter(line.origin_order_id for line in noted.deferred) == {A: 1}


@given(cost=st.integers(-(10**9), 10**9), share=st.integers(0, 10_000))
def test_damaged_goods_keep_their_share_and_the_opposite_takes_it_back(cost: int, share: int) -> None:
    policy = Policy(1, FIRST_POLICY.valid_from, DELIVERED, share)
    at = datetime(2026, 3, 1, tzinfo=UTC)
    lines = tuple(FactLine(ORDER, 1, "SKU", 1, Amounts(cost=amount)) for amount in (cost, -cost))
    damaged = apply_policies(a_delivery(at)._replace(template="return_bad", lines=lines), [policy], ())
    there, back = (line.amounts.residual for line in damaged.lines)
    assert there == -back
    assert abs(there) <= abs(cost)
