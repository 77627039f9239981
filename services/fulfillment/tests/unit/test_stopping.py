"""Stops against everything that may happen to an order meanwhile, without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulfillment.domain import (
    REQUEST_MOVES,
    STATUS_MOVES,
    Allocation,
    AtPlace,
    CarrierRule,
    Claim,
    LineError,
    LineRef,
    Outcome,
    PickUpLock,
    Policy,
    RequestStatus,
    Return,
    Status,
    StopRequest,
    TooManyUnitsError,
    TransitionError,
    Wish,
    accept,
    answer,
    answered,
    choose_carrier,
    depart,
    give_back,
    resolve,
    stop,
    taken_on,
    wrong_code,
)

NOW = datetime(2026, 11, 11, tzinfo=UTC)
POLICY = Policy(
    ship_seconds=60,
    delivery_seconds=None,
    packaging_grams=100,
    freight_first_kg_minor=600,
    freight_next_kg_minor=200,
    default_carrier="sf",
)
ROOT = UUID(int=1)
A = (ROOT, 1, "裙-红")
B = (ROOT, 2, "袜-白")


def a_place(
    number: int = 1, *, connector: str = "http", submitted: bool = True, left: Any = None, kind: str = "to_ship"
) -> AtPlace:
    allocation = Allocation(
        order_id=UUID(int=number),
        root_id=ROOT,
        attempt=1,
        kind="to_ship",
        place_id=f"仓-{number}",
        place_no=number,
        carrier="sf",
        landed_cost_minor=800,
        promised_on=None,
        goods_grams=500,
        receiver_ref=None,
        handed_over_at=None,
    )
    order = accept(allocation, connector=connector, policy=POLICY, now=NOW + timedelta(seconds=number))
    if connector == "http" and submitted:
        order = order.asked(RequestStatus.SUBMITTED)
    place = AtPlace(order=order, left={A: 2} if left is None else left)
    return taken_on(place, []).places[0] if order.is_told else place


@dataclass(frozen=True)
class World:
    """All that is open under one root, and what became of its units."""

    places: Mapping[UUID, AtPlace]
    claims: Mapping[tuple[UUID, UUID], Claim]
    requests: tuple[StopRequest, ...] = ()
    answers: Mapping[UUID, int] | None = None
    shipped: int = 0
    returned: int = 0
    returns: tuple[Return, ...] = ()

    def after(self, outcome: Outcome, *, shipped: int = 0) -> World:
        places = dict(self.places) | {place.order.fulfilment_order_id: place for place in outcome.places}
        claims = dict(self.claims) | {(one.fulfilment_order_id, one.request_id): one for one in outcome.claims}
        return replace(
            self,
            places=places,
            claims=claims,
            shipped=self.shipped + shipped,
            returned=self.returned + sum(sum(back.units.values()) for back in outcome.returns),
            returns=self.returns + outcome.returns,
        ).settled()

    def settled(self) -> World:
        """Answer what can be answered: each request once."""
        answers = dict(self.answers or {})
        for request in self.requests:
            stopped = answered(request, self.claims.values())
            if stopped is not None and request.request_id not in answers:
                answers[request.request_id] = sum(stopped.values())
        return replace(self, answers=answers)

    def ask(self, request: StopRequest) -> World:
        open_now = [place for place in self.places.values() if place.order.is_open]
        world = replace(self, requests=(*self.requests, request))
        return world.after(stop(request, open_now, list(self.claims.values())))

    def steps(self) -> Iterator[World]:
        """Every thing that may happen next."""
        claims = list(self.claims.values())
        for place in self.places.values():
            if not place.order.is_open:
                continue
            for units in ({A: 1}, dict(place.left)):
                if any(units[key] > place.left.get(key, 0) for key in units):
                    continue
                yield self.after(depart(place, claims, units), shipped=sum(units.values()))
                yield self.after(give_back(place, claims, units, reason="short_pick", stock_effect="missing"))
            for claim in claims:
                if not claim.open or claim.fulfilment_order_id != place.order.fulfilment_order_id:
                    continue
                told = replace(
                    self, claims=dict(self.claims) | {(claim.fulfilment_order_id, claim.request_id): replace(claim, told=True)}
                )
                for stopped in ({}, {A: 1}, dict(place.left)):
                    if all(stopped[key] <= place.left.get(key, 0) for key in stopped):
                        outcome = answer(place, list(told.claims.values()), request_id=claim.request_id, stopped=stopped)
                        yield told.after(outcome)

    def check(self, total: int) -> None:
        left = sum(sum(place.left.values()) for place in self.places.values())
        assert left + self.shipped + self.returned == total
        for place in self.places.values():
            assert place.order.is_open == bool(place.left)
            mine = [back for back in self.returns if back.order.fulfilment_order_id == place.order.fulfilment_order_id]
            assert [back.order.returns for back in mine] == list(range(1, len(mine) + 1))
            assert sum(back.whole for back in mine) <= 1
            assert (place.order.status is Status.CANCELLED) == any(back.whole for back in mine)
        for claim in self.claims.values():
            assert all(claim.stopped.get(key, 0) <= claim.asked.get(key, 0) for key in claim.stopped)
        assert sum(sum(claim.stopped.values()) for claim in self.claims.values()) <= self.returned
        for request in self.requests:
            assert (self.answers or {}).get(request.request_id, 0) <= sum(request.asked.values())
        if not any(place.order.is_open for place in self.places.values()):
            assert {request.request_id for request in self.requests} == set(self.answers or {})


@pytest.mark.parametrize("connectors", [("http", "http"), ("http", "automatic"), ("manual", "automatic")])
def test_units_are_kept_and_each_stop_is_answered_once_whatever_happens(connectors: tuple[str, str]) -> None:
    """Exhaustive: two orders, two stops, parcels, short picks and answers in any order.

    Fails if a unit is lost or counted twice, promised to two requests, or a request is never answered or answered anew.
    """
    places = {
        place.order.fulfilment_order_id: place
        for place in (a_place(1, connector=connectors[0]), a_place(2, connector=connectors[1]))
    }
    first = StopRequest(request_id=UUID(int=91), root_id=ROOT, asked={A: 3})
    second = StopRequest(request_id=UUID(int=92), root_id=ROOT, asked={A: 1})
    seen: set[str] = set()
    todo = [World(places=places, claims={})]
    while todo:
        world = todo.pop()
        if (state := repr(world)) in seen:
            continue
        seen.add(state)
        world.check(4)
        asked = len(world.requests)
        if asked < 2:
            todo.append(world.ask((first, second)[asked]))
        for after in world.steps():
            for request_id, stopped in (world.answers or {}).items():
                assert (after.answers or {})[request_id] == stopped
            todo.append(after)
    assert len(seen) > 20


def test_a_stop_takes_first_what_nobody_has_to_be_asked_for() -> None:
    """Fails if a WMS were asked although the units of an order that nobody works on would do."""
    outcome = stop(
        StopRequest(request_id=UUID(int=9), root_id=ROOT, asked={A: 3}),
        [a_place(1), a_place(2, connector="automatic"), a_place(3, submitted=False)],
        [],
    )
    assert [(back.order.place_no, dict(back.units), back.whole) for back in outcome.returns] == [
        (3, {A: 2}, True),
        (2, {A: 1}, False),
    ]
    assert not any(claim.open for claim in outcome.claims)


def test_a_unit_is_promised_to_one_request_only() -> None:
    """Fails if two requests could wait for the same unit: one of them would be told of a stop that stopped nothing."""
    place = a_place(1)
    first = stop(StopRequest(request_id=UUID(int=8), root_id=ROOT, asked={A: 1}), [place], [])
    second = StopRequest(request_id=UUID(int=9), root_id=ROOT, asked={A: 2})
    outcome = stop(second, first.places, first.claims)
    assert [dict(claim.asked) for claim in outcome.claims] == [{A: 1}]
    third = StopRequest(request_id=UUID(int=10), root_id=ROOT, asked={A: 1})
    assert stop(third, outcome.places, [*first.claims, *outcome.claims]) == Outcome()
    assert answered(third, []) == {A: 0}


def test_an_order_that_is_not_taken_on_yet_hears_of_its_stop_then() -> None:
    """Fails if the stop of an order under way to the WMS were lost, or asked before the WMS has the order."""
    place = a_place(1, submitted=False)
    place = replace(place, order=place.order.asked(RequestStatus.SUBMITTED))
    outcome = stop(StopRequest(request_id=UUID(int=9), root_id=ROOT, asked={A: 1}), [place], [])
    assert (outcome.places, [claim.open for claim in outcome.claims]) == ((), [True])
    (after,) = taken_on(place, outcome.claims).places
    assert after.order.request_status is RequestStatus.CANCELLATION_REQUESTED


def test_a_place_that_stops_only_whole_gives_back_more_than_was_asked() -> None:
    """Fails if the surplus stayed at the place, or was counted as stopped for the request."""
    place = a_place(1, left={A: 2, B: 1})
    request = StopRequest(request_id=UUID(int=9), root_id=ROOT, asked={A: 1})
    asked = stop(request, [place], [])
    outcome = answer(asked.places[0], asked.claims, request_id=request.request_id, stopped={A: 2, B: 1})
    assert [(dict(back.units), back.whole) for back in outcome.returns] == [({A: 2, B: 1}, True)]
    assert answered(request, outcome.claims) == {A: 1}
    assert outcome.places[0].order.request_status is RequestStatus.CANCELLATION_ACCEPTED


def test_the_same_answer_on_two_ways_counts_once() -> None:
    """Fails if the answer of a call and its call-back gave units back twice."""
    place = a_place(1)
    request = StopRequest(request_id=UUID(int=9), root_id=ROOT, asked={A: 1})
    asked = stop(request, [place], [])
    first = answer(asked.places[0], asked.claims, request_id=request.request_id, stopped={A: 1})
    assert answer(first.places[0], first.claims, request_id=request.request_id, stopped={A: 1}) == Outcome()


def test_more_than_is_left_is_refused() -> None:
    """Fails if a parcel or a return could take units that are not there."""
    with pytest.raises(TooManyUnitsError):
        depart(a_place(1), [], {A: 3})
    with pytest.raises(TooManyUnitsError):
        give_back(a_place(1), [], {B: 1}, reason="short_pick", stock_effect="missing")


@given(st.lists(st.sampled_from([*Status, *RequestStatus]), max_size=12))
def test_states_move_only_as_the_tables_say(wanted: list[Status | RequestStatus]) -> None:
    """Fails if a transition outside the tables went through, or an end had a way out."""
    order = a_place(1, submitted=False).order
    for state in wanted:
        table, now = (STATUS_MOVES, order.status) if isinstance(state, Status) else (REQUEST_MOVES, order.request_status)
        move = order.moved if isinstance(state, Status) else order.asked
        if state is now or state in table[now]:  # type: ignore[index]
            order = move(state)  # type: ignore[arg-type]
        else:
            with pytest.raises(TransitionError):
                move(state)  # type: ignore[arg-type]
    assert not STATUS_MOVES[Status.CLOSED]
    assert not STATUS_MOVES[Status.CANCELLED]


def test_lines_named_by_sku_alone_are_spread_over_the_origins() -> None:
    """Fails if a SKU on two lines could not be told by a WMS that knows SKUs only, or more than there is went through."""
    other = (UUID(int=2), 1, A[2])
    left = {A: 1, other: 2}
    assert resolve([LineRef(sku_id=A[2], quantity=2)], left) == {A: 1, other: 1}
    assert resolve([LineRef(sku_id=A[2], quantity=1, origin_order_id=UUID(int=2))], left) == {other: 1}
    for lines, expected in [
        ([LineRef(sku_id=A[2], quantity=2), LineRef(sku_id=A[2], quantity=2)], (1, "more_than_left", 1)),
        ([LineRef(sku_id="没有", quantity=1)], (0, "line_unknown", 0)),
    ]:
        with pytest.raises(LineError) as caught:
            resolve(lines, left)
        assert (caught.value.index, caught.value.code, caught.value.left) == expected


def test_the_carrier_is_the_buyers_then_the_rules_then_the_plans() -> None:
    """Fails if the order of choice turned, or a forbidden carrier were taken."""

    def rule(rule_id: str, carrier: str, **changes: Any) -> CarrierRule:
        return CarrierRule(**{"rule_id": rule_id, "priority": 1, "carrier": carrier, "forbid": False, **changes})

    wish = Wish(place_id="仓", shop_id="店", region_code="330106", weight_grams=900, wanted=None, planned="yto")
    heavy = rule("a", "deppon", min_weight_grams=1000)
    zhejiang = rule("b", "zto", area_prefix="33")
    no_yto = rule("c", "yto", forbid=True, shop_id="店")

    def chosen(*rules: CarrierRule, **changes: Any) -> str:
        return choose_carrier(rules, replace(wish, **changes), default="sf")

    assert chosen() == "yto"
    assert chosen(heavy, zhejiang) == "zto"
    assert chosen(heavy, zhejiang, weight_grams=1000) == "deppon"
    assert chosen(zhejiang, wanted="ems") == "ems"
    assert chosen(zhejiang, region_code="110101") == "yto"
    assert chosen(no_yto) == "sf"
    assert chosen(no_yto, wanted="yto", planned="zto") == "zto"


def test_five_wrong_codes_lock_for_ten_minutes() -> None:
    """Fails if codes could be tried without end, or the lock never opened."""
    lock = PickUpLock()
    for _ in range(4):
        lock = wrong_code(lock, now=NOW)
        assert not lock.is_locked(NOW)
    lock = wrong_code(lock, now=NOW)
    assert lock.is_locked(NOW + timedelta(minutes=9))
    assert not lock.is_locked(NOW + timedelta(minutes=10))
