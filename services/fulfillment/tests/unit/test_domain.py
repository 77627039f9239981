"""What fulfilment decides, without I/O."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulfillment.domain import (
    FINISHED,
    Allocation,
    AlreadyFulfilledError,
    FulfilmentOrder,
    Kind,
    Policy,
    RequestStatus,
    Series,
    SeriesRange,
    State,
    Status,
    TrackedOrder,
    UnknownKindError,
    WaitingFor,
    WaybillPool,
    accept,
    hand_over,
    moves,
    report_of_departure,
    report_of_state,
    ship,
)

NOW = datetime(2026, 11, 11, 0, 0, tzinfo=UTC)
POLICY = Policy(
    ship_seconds=0,
    delivery_seconds=None,
    packaging_grams=100,
    freight_first_kg_minor=600,
    freight_next_kg_minor=200,
    default_carrier="sf",
)


def an_allocation(**changes: Any) -> Allocation:
    order_id = UUID(int=7)
    return replace(
        Allocation(
            order_id=order_id,
            root_id=order_id,
            attempt=1,
            kind="to_ship",
            place_id="杭州仓",
            place_no=1,
            carrier="zto",
            landed_cost_minor=830,
            promised_on=None,
            goods_grams=1500,
            receiver_ref=None,
            handed_over_at=None,
        ),
        **changes,
    )


def an_order(*, policy: Policy = POLICY, **changes: Any) -> FulfilmentOrder:
    return accept(an_allocation(**changes), connector="automatic", policy=policy, now=NOW)


def a_series(series_id: int = 1, *, place_id: str | None = None, next_no: int = 1, until_no: int = 999) -> Series:
    return Series(
        series_id=series_id,
        place_id=place_id,
        carrier="zto",
        prefix=f"Z{series_id}-",
        digits=3,
        next_no=next_no,
        until_no=until_no,
    )


def test_an_order_to_ship_is_due_at_once_where_no_delay_is_set() -> None:
    """Fails if `ship_seconds=0` left the parcel to a timer."""
    order = an_order()
    assert order.is_due(NOW)
    assert (order.status, order.request_status, order.waiting_for) == (Status.IN_PROGRESS, RequestStatus.ACCEPTED, None)
    assert not an_order(policy=replace(POLICY, ship_seconds=5)).is_due(NOW)
    assert an_order(policy=replace(POLICY, ship_seconds=5)).is_due(NOW + timedelta(seconds=5))


def test_weight_has_the_packaging_and_freight_is_the_plans_cost() -> None:
    """Fails if the packaging is left out, or the plan's cost is replaced by the estimate."""
    order = an_order()
    assert (order.weight_grams, order.freight_cost_minor) == (1600, 830)


@pytest.mark.parametrize(("goods_grams", "freight_minor"), [(0, 600), (900, 600), (901, 800), (1900, 800), (1901, 1000)])
def test_freight_without_a_plans_cost_is_the_first_kilogram_and_each_one_begun(goods_grams: int, freight_minor: int) -> None:
    """Fails if a kilogram begun is not charged whole."""
    assert an_order(goods_grams=goods_grams, landed_cost_minor=0).freight_cost_minor == freight_minor


def test_an_order_without_a_carrier_goes_with_the_default_one() -> None:
    """Fails if a plan without carrier would stop the order."""
    assert an_order(carrier=None).carrier == "sf"


def test_a_pick_up_order_waits_for_its_buyer_and_ships_by_no_timer() -> None:
    """Fails if a pick-up order could be sent off by the automatic connector."""
    order = an_order(kind="pick_up")
    assert (order.waiting_for, order.carrier, order.freight_cost_minor) == (WaitingFor.BUYER, None, 0)
    assert not order.is_due(NOW + timedelta(days=9))


def test_an_unknown_kind_is_refused() -> None:
    """Fails if a kind of a later version were shipped as if it were known."""
    with pytest.raises(UnknownKindError):
        an_order(kind="drone")


def test_an_attempt_counts_once_and_never_beside_a_live_one() -> None:
    """Fails if an older attempt, or a second live one, could make goods leave twice."""
    tracked = TrackedOrder(order_id=UUID(int=7), root_id=UUID(int=7))
    assert tracked.take(2)
    assert not tracked.take(2)
    assert not tracked.take(1)
    with pytest.raises(AlreadyFulfilledError):
        tracked.take(3)


def test_a_parcel_leaves_under_a_number_of_its_carrier() -> None:
    """Fails if number, carrier or state of the shipment are not the order's."""
    order, shipment = ship(an_order(), WaybillPool([a_series()]), now=NOW)
    assert shipment is not None
    assert (shipment.carrier, shipment.waybill_no, shipment.state) == ("zto", "Z1-001", State.SHIPPED)
    assert order.status is Status.CLOSED
    assert report_of_departure(shipment, place="杭州一号仓").params == {
        "place": "杭州一号仓",
        "carrier": "zto",
        "waybill_no": "Z1-001",
    }


def test_an_order_without_a_number_waits_in_sight() -> None:
    """Fails if an exhausted series were an error or closed the order."""
    order, shipment = ship(an_order(), WaybillPool([a_series(next_no=1000)]), now=NOW)
    assert shipment is None
    assert (order.status, order.waiting_for) == (Status.IN_PROGRESS, WaitingFor.WAYBILL)


def test_goods_handed_over_are_delivered_without_a_number() -> None:
    """Fails if a counter sale got a waybill or stayed under way."""
    order, shipment = hand_over(an_order(kind="already_handed_over"), at=NOW)
    assert (order.status, order.request_status) == (Status.CLOSED, RequestStatus.UNSUBMITTED)
    assert (shipment.kind, shipment.carrier, shipment.waybill_no) == (Kind.ALREADY_HANDED_OVER, None, None)
    assert (shipment.state, shipment.shipped_at, shipment.state_at) == (State.DELIVERED, NOW, NOW)
    assert report_of_departure(shipment, place="杭州一号仓").code == "goods_handed_over"


def test_a_places_own_series_goes_before_the_common_one() -> None:
    """Fails if the order of preference turns, or a used-up series hides the next."""
    pool = WaybillPool(
        [
            a_series(1),
            a_series(2, place_id="杭州仓", until_no=1),
            a_series(3, place_id="杭州仓", until_no=1),
            a_series(4, place_id="x"),
        ]
    )
    assert [pool.take("杭州仓", "zto") for _ in range(4)] == ["Z2-001", "Z3-001", "Z1-001", "Z1-002"]
    assert pool.take("杭州仓", "sf") is None
    assert dict(pool.touched()) == {1: 3, 2: 2, 3: 2}
    assert pool.without_series(["zto", "sf"]) == {"sf"}


_SERIES = st.builds(
    lambda prefix, digits, bounds: SeriesRange(prefix=prefix, digits=digits, first_no=min(bounds), until_no=max(bounds)),
    prefix=st.text("A12", max_size=3),
    digits=st.just(2),
    bounds=st.tuples(st.integers(0, 99), st.integers(0, 99)),
) | st.builds(
    lambda prefix, bounds: SeriesRange(prefix=prefix, digits=3, first_no=min(bounds), until_no=max(bounds)),
    prefix=st.text("A12", max_size=2),
    bounds=st.tuples(st.integers(0, 999), st.integers(0, 999)),
)


@given(_SERIES, _SERIES)
def test_two_series_overlap_exactly_where_they_could_give_one_text(left: SeriesRange, right: SeriesRange) -> None:
    """Fails if a pair of series that can collide were let in, or a harmless pair refused."""

    def texts(series: SeriesRange) -> set[str]:
        return {f"{series.prefix}{number:0{series.digits}d}" for number in range(series.first_no, series.until_no + 1)}

    assert left.overlaps(right) == right.overlaps(left) == bool(texts(left) & texts(right))


@given(st.lists(st.sampled_from(State)))
def test_a_shipment_only_moves_forward_and_ends_once(reported: list[State]) -> None:
    """Fails if a late scan could take a shipment back, or a second end follow the first."""
    current, seen = State.SHIPPED, [State.SHIPPED]
    for state in reported:
        if moves(current, state):
            current = state
            seen.append(state)
    assert len(seen) == len(set(seen))
    assert sum(state in FINISHED for state in seen) <= 1
    assert not any(moves(current, state) for state in seen)


def test_the_stage_stays_shipped_until_the_end() -> None:
    """Fails if a carrier's scan became a stage of its own, or the end did not."""
    assert {state: report_of_state(state).stage for state in State if state is not State.SHIPPED} == {
        State.PICKED_UP: "shipped",
        State.IN_TRANSIT: "shipped",
        State.OUT_FOR_DELIVERY: "shipped",
        State.DELIVERED: "delivered",
        State.REFUSED: "refused",
        State.LOST: "lost",
    }


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.booleans()), max_size=40), st.integers(0, 9))
def test_no_number_is_given_twice(takes: list[tuple[str, bool]], left: int) -> None:
    """Fails if a pool gave a number again, in one batch or in the next one made from what it left."""
    series = [a_series(1, until_no=left), a_series(2, place_id="a", until_no=left)]
    given_out: list[str] = []
    pool = WaybillPool(series)
    for place_id, next_batch in takes:
        if next_batch:
            after = pool.touched()
            series = [replace(one, next_no=after.get(one.series_id, one.next_no)) for one in series]
            pool = WaybillPool(series)
        if number := pool.take(place_id, "zto"):
            given_out.append(number)
    assert len(given_out) == len(set(given_out)) <= 2 * left


def test_ids_depend_on_order_and_attempt_alone() -> None:
    """Fails if a redelivery could make another fulfilment order."""
    order_id = uuid4()
    first, again = (an_order(order_id=order_id).fulfilment_order_id for _ in range(2))
    assert first == again != an_order(order_id=order_id, attempt=2).fulfilment_order_id
