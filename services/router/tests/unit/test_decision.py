"""Which place ships, and why not the others."""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.domain import (
    CRITERIA,
    FILTERS,
    PICK_UP,
    Candidate,
    Decision,
    FreightRow,
    FreightTables,
    Need,
    Network,
    Place,
    Plan,
    Policy,
    cheapest_flip,
    decide,
    runner_up_gap,
)
from router.domain.place import CHINA

NOW = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)  # Tuesday noon in China.
ROW = FreightRow(first_weight_grams=1000, first_price_minor=800, step_weight_grams=500, step_price_minor=150, days=2)


def a_place(place_no: int, **changes: Any) -> Place:
    facts: dict[str, Any] = {
        "place_no": place_no,
        "place_id": f"W{place_no}",
        "version": place_no * 10,
        "name": f"仓库{place_no}",
        "region_code": "330106",
        "latitude": 30.26,
        "longitude": 120.13,
        "coverage": frozenset({""}),
        "carriers": ("sf",),
        "cut_off": time(18),
        "working_weekdays": frozenset(range(1, 8)),
        "priority": 100,
        "handling_cost_minor": 0,
    }
    return Place(**(facts | changes))


def a_need(**changes: Any) -> Need:
    """One unit of one SKU, one kilogram."""
    facts: dict[str, Any] = {
        "region_code": "310104",
        "latitude": 31.17,
        "longitude": 121.43,
        "skus": ("A",),
        "wanted": (1,),
        "weights_grams": (changes.pop("weight_grams", 1000),),
        "values_minor": (1000,),
    }
    return Need(**(facts | changes))


def a_network(*places: Place, policy: Policy | None = None, freight: FreightTables | None = None) -> Network:
    return Network.of(places, freight or FreightTables(1, {}, ROW), policy or Policy(version=1))


def candidates_of(*place_nos: int) -> list[Candidate]:
    return [(place_no, 10, [6]) for place_no in place_nos]


def verdicts(decision: Decision) -> list[str]:
    return [finding.verdict for finding in decision.findings]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"deleted": True}, "place_gone"),
        ({"paused": True}, "place_paused"),
        ({"ships": False}, "place_does_not_ship"),
        ({"coverage": frozenset({"33", "3201"})}, "region_not_covered"),
        ({"working_weekdays": frozenset()}, "place_never_open"),
        ({"carriers": ()}, "no_carrier_reaches"),
    ],
)
def test_a_place_that_cannot_ship_is_named_with_its_reason(changes: dict[str, Any], verdict: str) -> None:
    """Fails when a filter is dropped from the decision."""
    decision = decide(a_need(), candidates_of(1, 2), a_network(a_place(1, **changes), a_place(2)), now=NOW)
    assert verdicts(decision) == [verdict, "eligible"]
    assert [plan.place_no for plan in decision.plans] == [2]


def test_capacity_stock_and_earlier_refusals_exclude() -> None:
    network = a_network(a_place(1), a_place(2), a_place(3), policy=Policy(version=1, min_stock_after_pick=3))
    offered: list[Candidate] = [(1, 0, [10]), (2, 1, [3]), (3, 1, [4]), (4, 1, [10])]
    assert verdicts(decide(a_need(), offered, network, now=NOW)) == [
        "capacity_full",
        "stock_too_low_after_pick",
        "eligible",
        "place_unknown",
    ]
    assert verdicts(decide(a_need(excluded=frozenset({3})), offered, network, now=NOW))[2] == "place_refused_before"


def test_a_filter_that_is_off_excludes_nobody() -> None:
    policy = Policy(version=1, filters=frozenset(), min_stock_after_pick=3)
    network = a_network(a_place(1, coverage=frozenset({"99"})), policy=policy)
    assert verdicts(decide(a_need(), [(1, 0, [1])], network, now=NOW)) == ["eligible"]


def test_coverage_takes_prefixes_of_any_length() -> None:
    for prefix in ("", "31", "3101", "310104"):
        assert a_place(1, coverage=frozenset({prefix})).covers("310104")
    for prefix in ("32", "3102", "310105"):
        assert not a_place(1, coverage=frozenset({prefix})).covers("310104")


def test_the_cheapest_carrier_of_a_place_is_taken_unless_the_buyer_named_one() -> None:
    freight = FreightTables(1, {"sf": [ROW], "yto": [FreightRow(**(_fields(ROW) | {"first_price_minor": 500, "days": 4}))]})
    network = a_network(a_place(1, carriers=("sf", "yto"), handling_cost_minor=70), freight=freight)
    assert decide(a_need(), candidates_of(1), network, now=NOW).plans == (Plan(1, "yto", 570, 4),)
    assert decide(a_need(wanted_carrier="sf"), candidates_of(1), network, now=NOW).plans == (Plan(1, "sf", 870, 2),)
    # A carrier that the place does not have cannot be wished for: the order must go all the same.
    assert decide(a_need(wanted_carrier="zto"), candidates_of(1), network, now=NOW).plans == (Plan(1, "yto", 570, 4),)


def test_every_begun_step_of_weight_costs_one_step() -> None:
    assert [ROW.price_minor(grams) for grams in (0, 1000, 1001, 1500, 1501)] == [800, 800, 950, 950, 1100]


def test_the_longest_destination_prefix_wins_then_the_longest_origin() -> None:
    def row(origin: str, destination: str) -> FreightRow:
        return FreightRow(**(_fields(ROW) | {"origin_prefix": origin, "destination_prefix": destination}))

    tables = FreightTables(1, {"sf": [row("", ""), row("3301", "31"), row("33", "31"), row("", "3101"), row("44", "310104")]})
    [found] = tables.services("sf", "330106", "310104")
    assert (found.row.origin_prefix, found.row.destination_prefix) == ("", "3101")
    [found] = tables.services("sf", "330106", "310204")
    assert (found.row.origin_prefix, found.row.destination_prefix) == ("3301", "31")


def test_a_carrier_without_a_table_reaches_nobody_unless_there_is_a_default_row() -> None:
    assert FreightTables(1, {"sf": [ROW]}).services("yto", "330106", "310104") == []
    assert FreightTables(1, {"sf": []}, ROW).services("sf", "330106", "310104") == []
    assert [service.row for service in FreightTables(1, {}, ROW).services("yto", "330106", "310104")] == [ROW]


def test_a_weight_band_prices_its_own_parcels_and_nothing_heavier_goes() -> None:
    """Fails when a band's limit is read as its beginning, or the heaviest band takes everything."""
    light = FreightRow(**(_fields(ROW) | {"max_weight_grams": 1000, "first_price_minor": 500}))
    heavy = FreightRow(**(_fields(ROW) | {"max_weight_grams": 3000, "first_price_minor": 300}))
    network = a_network(a_place(1), freight=FreightTables(1, {"sf": [heavy, light]}))
    prices = {}
    for grams in (0, 1000, 1001, 3000, 3001):
        decision = decide(a_need(weight_grams=grams), candidates_of(1), network, now=NOW)
        prices[grams] = decision.plans[0].cost_minor if decision.plans else verdicts(decision)[0]
    assert prices == {0: 500, 1000: 500, 1001: 450, 3000: 900, 3001: "no_carrier_reaches"}


@pytest.mark.parametrize(
    ("now", "weekdays", "days"),
    [
        (datetime(2026, 11, 24, 10, 0, tzinfo=UTC), range(1, 8), 0),  # 18:00 in China: still today.
        (datetime(2026, 11, 24, 10, 0, 1, tzinfo=UTC), range(1, 8), 1),
        (datetime(2026, 11, 24, 16, 30, tzinfo=UTC), range(1, 8), 0),  # Half past midnight of Wednesday in China.
        (datetime(2026, 11, 27, 11, 0, tzinfo=UTC), range(1, 6), 3),  # Friday after cut-off: Monday.
        (datetime(2026, 11, 24, 4, 0, tzinfo=UTC), [1], 6),
        (datetime(2026, 11, 24, 11, 0, tzinfo=UTC), [2], 7),  # Works on Tuesdays only, and today's parcels are gone.
    ],
)
def test_cut_off_and_calendar_are_local_and_move_the_promise(now: datetime, weekdays: list[int], days: int) -> None:
    place = a_place(1, working_weekdays=frozenset(weekdays))
    assert place.days_to_dispatch(now) == days
    assert decide(a_need(), candidates_of(1), a_network(place), now=now).plans[0].promised_days == days + ROW.days


def test_distance_is_the_great_circle() -> None:
    hangzhou, shanghai_xuhui = a_place(1), (31.18, 121.44)
    assert hangzhou.distance_metres(*shanghai_xuhui) == pytest.approx(161_600, rel=0.01)


def test_criteria_are_lexicographic_and_the_place_number_breaks_ties() -> None:
    """Fails when criteria are summed, or the sort is not stable by place_no."""
    near_dear = a_place(3, handling_cost_minor=500, latitude=31.17, longitude=121.43)
    far_cheap, twin = a_place(7), a_place(5)
    network = a_network(near_dear, far_cheap, twin)
    assert [plan.place_no for plan in decide(a_need(), candidates_of(7, 3, 5), network, now=NOW).plans] == [5, 7, 3]
    nearest = Policy(version=2, criteria=("distance", "landed_cost"))
    network = a_network(near_dear, far_cheap, twin, policy=nearest)
    decision = decide(a_need(), candidates_of(7, 3, 5), network, now=NOW)
    assert [plan.place_no for plan in decision.plans] == [3, 5, 7]
    assert runner_up_gap(decision, nearest) == ("distance", decision.findings[0].distance_metres)


def test_the_runner_up_gap_names_the_criterion_that_decided() -> None:
    policy = Policy(version=1)
    network = a_network(a_place(1), a_place(2, priority=130), a_place(3))
    assert runner_up_gap(decide(a_need(), candidates_of(1, 2), network, now=NOW), policy) == ("priority", 30)
    assert runner_up_gap(decide(a_need(), candidates_of(1, 3), network, now=NOW), policy) == ("place_no", 0)
    assert runner_up_gap(decide(a_need(), candidates_of(1), network, now=NOW), policy) is None


def test_a_destination_without_a_centre_makes_distance_decide_nothing() -> None:
    decision = decide(a_need(latitude=None), candidates_of(2, 1), a_network(a_place(1), a_place(2)), now=NOW)
    assert [plan.place_no for plan in decision.plans] == [1, 2]
    assert {finding.distance_metres for finding in decision.findings} == {0}


def test_a_pick_up_order_goes_to_the_place_the_buyer_named_only() -> None:
    network = a_network(
        a_place(1, pick_up=True, ships=False, carriers=(), handling_cost_minor=30), a_place(2, pick_up=True), a_place(3)
    )
    decision = decide(a_need(pick_up_place_id="W1"), candidates_of(1, 2), network, now=NOW)
    assert decision.plans == (Plan(1, PICK_UP, 30, 0),)
    assert verdicts(decision) == ["eligible", "other_place_wanted"]
    assert verdicts(decide(a_need(pick_up_place_id="W3"), candidates_of(3), network, now=NOW)) == ["place_has_no_pick_up"]


def test_nothing_offered_is_a_decision_without_plans() -> None:
    assert decide(a_need(), [], a_network(), now=NOW).plans == ()


def test_a_place_that_would_send_it_too_late_is_out_where_the_policy_asks() -> None:
    """Fails when the deadline is compared in UTC: 16:30 UTC is half past midnight in China, a day later."""
    network = a_network(a_place(1), a_place(2, cut_off=time(11)))
    tonight = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)
    decision = decide(a_need(ship_before=tonight), candidates_of(1, 2), network, now=NOW)
    assert verdicts(decision) == ["eligible", "leaves_too_late"]
    tomorrow = datetime(2026, 11, 24, 16, 30, tzinfo=UTC)
    assert verdicts(decide(a_need(ship_before=tomorrow), candidates_of(1, 2), network, now=NOW)) == ["eligible", "eligible"]
    careless = a_network(a_place(2, cut_off=time(11)), policy=Policy(version=1, filters=frozenset({"coverage"})))
    assert verdicts(decide(a_need(ship_before=tonight), candidates_of(2), careless, now=NOW)) == ["eligible"]


def test_a_place_a_person_chose_is_asked_for_nothing_but_goods_and_an_open_door() -> None:
    """Fails when a policy's filter, or the order's earlier refusals, stand above a person."""
    closed = {"coverage": frozenset({"99"}), "working_weekdays": frozenset(), "ships": False}
    network = a_network(
        a_place(1, **closed),
        a_place(2),
        a_place(3, paused=True),
        a_place(4, deleted=True),
        a_place(5, carriers=()),
        a_place(6, carriers=("zto",)),
        policy=Policy(version=1, min_stock_after_pick=9),
        freight=FreightTables(1, {"zto": []}, ROW),
    )
    need = a_need(forced=1, excluded=frozenset({1}))
    decision = decide(need, [(1, 0, [1]), (2, 9, [90])], network, now=NOW)
    assert verdicts(decision) == ["place_forced", "other_place_forced"]
    assert decision.plans == (Plan(1, "sf", 800, 2),)
    assert decide(need, [(1, 0, [0])], network, now=NOW).split_verdict == "split_forbidden"
    for forced, verdict in ((3, "place_paused"), (4, "place_gone"), (5, "no_carrier_reaches"), (9, "place_unknown")):
        assert verdicts(decide(a_need(forced=forced), candidates_of(forced), network, now=NOW)) == [verdict]
    # No table reaches the region: the place's own carrier goes all the same, at a price to be found out.
    assert decide(a_need(forced=6), candidates_of(6), network, now=NOW).plans == (Plan(6, "zto", 0, 0),)


def test_inside_a_band_the_next_criterion_decides() -> None:
    dear_near, cheap_far = a_place(1, handling_cost_minor=90, latitude=31.17, longitude=121.43), a_place(2)
    for width, winner in ((1, 2), (1000, 1)):
        policy = Policy(version=1, criteria=("landed_cost", "distance"), bands={"landed_cost": width})
        decision = decide(a_need(), candidates_of(1, 2), a_network(dear_near, cheap_far, policy=policy), now=NOW)
        assert decision.plans[0].place_no == winner


@given(
    costs=st.lists(st.integers(0, 30), min_size=2, max_size=4),
    near=st.integers(0, 3),
    band=st.integers(1, 7),
    criteria=st.permutations(["landed_cost", "priority"]).flatmap(lambda names: st.sampled_from([names, names[:1]])),
)
def test_the_flip_is_the_smallest_saving_that_changes_the_winner(
    costs: list[int], near: int, band: int, criteria: list[str]
) -> None:
    """Fails when bands, ties or a criterion before cost are forgotten."""
    free = FreightRow(**(_fields(ROW) | {"first_price_minor": 0}))
    policy = Policy(version=1, criteria=tuple(criteria), bands={"landed_cost": band})

    def winner(given_costs: list[int]) -> int:
        places = [
            a_place(number, handling_cost_minor=cost, priority=int(number == near))
            for number, cost in enumerate(given_costs, start=1)
        ]
        network = a_network(*places, policy=policy, freight=FreightTables(1, {}, free))
        made.append(decide(a_need(), candidates_of(*range(1, len(given_costs) + 1)), network, now=NOW))
        return made[-1].plans[0].place_no

    made: list[Decision] = []
    best = winner(costs)
    flip = cheapest_flip(made[0], policy)
    savings = [
        (saving, number)
        for number, cost in enumerate(costs, start=1)
        if number != best
        for saving in range(cost + 1)
        if winner([*costs[: number - 1], cost - saving, *costs[number:]]) == number
    ]
    assert (None if flip is None else (flip.cheaper_by_minor, flip.place_no)) == min(savings, default=None)


def test_a_lane_is_found_without_reading_the_whole_freight_table() -> None:
    """Fails when each lane scans the rows: after a change of any place, ten thousand rows are asked by every lane anew."""
    read = 0

    class Rows(list[FreightRow]):
        def __iter__(self) -> Iterator[FreightRow]:
            nonlocal read
            read += 1
            return super().__iter__()

    rows = Rows(FreightRow(**(_fields(ROW) | {"destination_prefix": f"{code:04d}"})) for code in range(10_000))
    tables = FreightTables(1, {"sf": rows})
    for code in range(1000, 1100):
        assert [service.row.destination_prefix for service in tables.services("sf", "330106", f"{code}01")] == [f"{code}"]
    assert read == 1


def _fields(row: FreightRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in FreightRow.__dataclass_fields__}


regions = st.sampled_from(["310104", "330106", "330204", "440305", "650102"])
prefixes = st.sampled_from(["", "31", "33", "3301", "330106", "44"])
rows = st.builds(
    FreightRow,
    origin_prefix=prefixes,
    destination_prefix=prefixes,
    first_weight_grams=st.integers(1, 2000),
    first_price_minor=st.integers(0, 5),
    step_weight_grams=st.integers(1, 1000),
    step_price_minor=st.integers(0, 3),
    days=st.integers(0, 3),
)
carriers = st.sampled_from(["sf", "yto", "zto"])
places = st.builds(
    a_place,
    st.integers(1, 6),
    region_code=regions,
    coverage=st.frozensets(prefixes, max_size=3),
    carriers=st.lists(carriers, unique=True, max_size=3).map(tuple),
    working_weekdays=st.frozensets(st.integers(1, 7)),
    cut_off=st.sampled_from([time(0), time(12), time(18)]),
    priority=st.integers(0, 2),
    handling_cost_minor=st.integers(0, 3),
    latitude=st.sampled_from([30.0, 31.0]),
    paused=st.booleans(),
    ships=st.integers(0, 4).map(bool),
    deleted=st.integers(0, 4).map(lambda n: n == 0),
)
policies = st.builds(
    Policy,
    version=st.just(1),
    filters=st.frozensets(st.sampled_from(FILTERS)),
    criteria=st.permutations(CRITERIA).flatmap(lambda order: st.integers(1, 5).map(lambda n: tuple(order[:n]))),
    bands=st.dictionaries(st.sampled_from(CRITERIA), st.integers(1, 3)),
    min_stock_after_pick=st.integers(0, 3),
)


def by_brute_force(need: Need, candidates: list[Candidate], network: Network, now: datetime) -> list[Plan]:
    """The rules once more, as naively as can be: all services of all places, filtered, then compared pair by pair."""
    policy, plans = network.policy, []
    for place_no, capacity_left, free in candidates:
        place = network.places.get(place_no)
        if place is None or place.deleted or place.paused or not place.ships or place.place_no in need.excluded:
            continue
        if "coverage" in policy.filters and not any(need.region_code.startswith(prefix) for prefix in place.coverage):
            continue
        if "capacity" in policy.filters and capacity_left <= 0:
            continue
        keep = policy.min_stock_after_pick if "stock_after_pick" in policy.filters else 0
        if any(here - wanted < keep for here, wanted in zip(free, need.wanted, strict=True)):
            continue
        wait = place.days_to_dispatch(now)
        if wait is None:
            continue
        if "ship_before" in policy.filters and need.ship_before is not None:
            leaves_on = (now.astimezone(CHINA) + timedelta(days=wait)).date()
            if leaves_on > need.ship_before.astimezone(CHINA).date():
                continue
        services = []
        for carrier in place.carriers:
            fitting = [
                row
                for row in network.freight.rows.get(carrier, [])
                if need.region_code.startswith(row.destination_prefix) and place.region_code.startswith(row.origin_prefix)
            ]
            if carrier not in network.freight.rows and network.freight.default_row:
                fitting = [network.freight.default_row]
            longest = [
                row
                for row in fitting
                if all(
                    (len(row.destination_prefix), len(row.origin_prefix)) >= (len(o.destination_prefix), len(o.origin_prefix))
                    for o in fitting
                )
            ]
            services += [(row.price_minor(sum(need.weights_grams)), row.days, carrier) for row in longest[:1]]
        if not services:
            continue
        wished = [service for service in services if service[2] == need.wanted_carrier]
        price, transit, carrier = min(wished or services)
        assert need.latitude is not None
        assert need.longitude is not None
        values = {
            "parcels": 1,
            "landed_cost": price + place.handling_cost_minor,
            "promised_days": wait + transit,
            "distance": place.distance_metres(need.latitude, need.longitude),
            "priority": place.priority,
        }
        plan = Plan(place.place_no, carrier, values["landed_cost"], values["promised_days"])
        plans.append(([values[name] // policy.bands.get(name, 1) for name in policy.criteria], plan))
    ranked: list[Plan] = []
    while plans:
        best = plans[0]
        for other in plans[1:]:
            better = other[0] < best[0] or (other[0] == best[0] and other[1].place_no < best[1].place_no)
            best = other if better else best
        plans.remove(best)
        ranked.append(best[1])
    return ranked


@settings(max_examples=300, deadline=None)
@given(
    known=st.lists(places, max_size=6, unique_by=lambda place: place.place_no),
    tables=st.builds(
        FreightTables, st.just(1), st.dictionaries(carriers, st.lists(rows, max_size=4)), st.one_of(st.none(), rows)
    ),
    policy=policies,
    need=st.builds(
        a_need,
        region_code=regions,
        weight_grams=st.integers(0, 5000),
        wanted_carrier=st.one_of(st.none(), carriers),
        wanted=st.tuples(st.integers(1, 2)),
        ship_before=st.one_of(
            st.none(), st.integers(0, 9).map(lambda days: datetime(2026, 11, 21, 20, tzinfo=UTC) + timedelta(days))
        ),
        excluded=st.frozensets(st.integers(1, 6), max_size=2),
    ),
    offered=st.lists(
        st.tuples(st.integers(1, 7), st.integers(0, 2), st.integers(0, 5).map(lambda units: (units,))),
        max_size=7,
        unique_by=lambda candidate: candidate[0],
    ),
    now=st.datetimes(datetime(2026, 11, 20), datetime(2026, 11, 30)).map(lambda moment: moment.replace(tzinfo=UTC)),  # noqa: DTZ001
)
def test_the_ranking_is_what_brute_force_finds(
    known: list[Place], tables: FreightTables, policy: Policy, need: Need, offered: list[Candidate], now: datetime
) -> None:
    """Fails when a filter, the carrier choice, the longest prefix or the lexicographic order is changed."""
    network = a_network(*known, policy=policy, freight=tables)
    decision = decide(need, offered, network, now=now)
    assert list(decision.plans) == by_brute_force(need, offered, network, now)
    assert [finding.place_no for finding in decision.findings] == [place_no for place_no, _, _ in offered]
    shuffled = decide(need, offered[::-1], network, now=now)
    assert (shuffled.plans, shuffled.combined) == (decision.plans, decision.combined)
    # Lanes that were kept give the same answer as lanes worked out.
    assert decide(need, offered, network, now=now) == decision
