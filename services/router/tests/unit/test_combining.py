"""Plans of several parcels: against brute force on small instances, and what always holds on larger ones."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, time
from itertools import permutations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from router.domain import (
    CRITERIA,
    Candidate,
    Decision,
    FreightRow,
    FreightTables,
    Need,
    Network,
    Parcel,
    Place,
    Policy,
    decide,
    is_reproduced,
    read_record,
    write_record,
)

NOW = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)
ROW = FreightRow(first_weight_grams=1000, first_price_minor=800, step_weight_grams=500, step_price_minor=150, days=2)


def a_place(place_no: int, **changes: Any) -> Place:
    facts: dict[str, Any] = {
        "place_no": place_no,
        "place_id": f"W{place_no}",
        "version": 1,
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


def a_network(*places: Place, policy: Policy | None = None, freight: FreightTables | None = None) -> Network:
    return Network.of(places, freight or FreightTables(1, {}, ROW), policy or Policy(version=1))


def verdicts(decision: Decision) -> list[str]:
    return [finding.verdict for finding in decision.findings]


def a_need(*wanted: int, **changes: Any) -> Need:
    """Each unit weighs 300 g and is worth 10.00."""
    facts: dict[str, Any] = {
        "region_code": "310104",
        "skus": tuple(f"S{n}" for n in range(len(wanted))),
        "wanted": wanted,
        "weights_grams": tuple(300 * units for units in wanted),
        "values_minor": tuple(1000 * units for units in wanted),
    }
    return Need(**(facts | changes))


def test_where_no_place_has_it_all_two_share_it() -> None:
    network = a_network(a_place(1), a_place(2), a_place(3, handling_cost_minor=5))
    offered: list[Candidate] = [(1, 5, [2, 0]), (2, 5, [1, 1]), (3, 5, [1, 1])]
    decision = decide(a_need(2, 1), offered, network, now=NOW)
    assert decision.plans == ()
    assert verdicts(decision) == ["stock_only_in_part"] * 3
    assert (decision.split_verdict, decision.parcels) == ("split_by_place", 2)
    assert decision.combined[0] == (Parcel(1, "sf", 800, 2, (1, 0)), Parcel(2, "sf", 800, 2, (1, 1)))
    assert decision.combined[1] == (Parcel(1, "sf", 800, 2, (2, 0)), Parcel(2, "sf", 800, 2, (0, 1)))


def test_a_single_place_comes_first_and_several_only_where_asked() -> None:
    offered: list[Candidate] = [(1, 5, [2, 1]), (2, 5, [2, 0]), (3, 5, [0, 1])]
    places = (a_place(1, handling_cost_minor=9000), a_place(2), a_place(3))
    for split, expected in (("never", 0), ("when_needed", 0), ("always", 3)):
        decision = decide(a_need(2, 1), offered, a_network(*places, policy=Policy(version=1, split=split)), now=NOW)
        assert [plan.place_no for plan in decision.plans] == [1]
        assert len(decision.combined) == expected, split


def test_why_there_is_no_plan_is_said() -> None:
    """Fails when a stuck order cannot tell a person which knob to turn."""
    places = [a_place(number) for number in range(1, 5)]
    offered: list[Candidate] = [(number, 5, [1]) for number in range(1, 5)]

    def said(wanted: int, **policy: Any) -> tuple[str, int]:
        decision = decide(a_need(wanted), offered, a_network(*places, policy=Policy(version=1, **policy)), now=NOW)
        assert not decision.is_routed
        return decision.split_verdict, decision.parcels

    assert said(4) == ("too_many_parcels", 4)
    assert said(5) == ("goods_not_there", 0)
    assert said(2, split="never") == ("split_forbidden", 0)
    assert said(2, min_parcel_value_minor=1001) == ("parcel_value_too_low", 2)
    assert said(2, min_stock_after_pick=1) == ("goods_not_there", 0)


def test_who_collects_is_never_sent_to_two_places() -> None:
    network = a_network(a_place(1, pick_up=True), a_place(2, pick_up=True))
    decision = decide(a_need(2, pick_up_place_id="W1"), [(1, 5, [1]), (2, 5, [1])], network, now=NOW)
    assert (decision.combined, decision.split_verdict) == ((), "split_forbidden")


def test_an_order_too_heavy_for_every_carrier_goes_in_two_parcels() -> None:
    """Fails when a place without a carrier for the whole order is not asked for a part of it."""
    light = FreightRow(**({name: getattr(ROW, name) for name in FreightRow.__dataclass_fields__} | {"max_weight_grams": 600}))
    network = a_network(a_place(1), a_place(2), freight=FreightTables(1, {"sf": [light]}))
    decision = decide(a_need(4), [(1, 5, [2]), (2, 5, [9])], network, now=NOW)
    assert verdicts(decision) == ["no_carrier_reaches"] * 2
    assert [[(parcel.place_no, parcel.units) for parcel in plan] for plan in decision.combined] == [[(1, (2,)), (2, (2,))]]


def sequences(need: Need, usable: dict[int, tuple[int, ...]], most: int) -> Iterator[dict[int, tuple[int, ...]]]:
    """Every way in which places, tried in turn, each take all they can and leave nothing."""
    for count in range(2, most + 1):
        for order in permutations(sorted(usable), count):
            left, takes = list(need.wanted), {}
            for place_no in order:
                if not any(left):
                    break
                takes[place_no] = tuple(min(here, rest) for here, rest in zip(usable[place_no], left, strict=True))
                left = [rest - taken for rest, taken in zip(left, takes[place_no], strict=True)]
            if len(takes) == count and not any(left) and all(any(take) for take in takes.values()):
                yield takes


@settings(max_examples=300, deadline=None)
@given(
    free=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5),
    wanted=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    handling=st.lists(st.integers(0, 300), min_size=5, max_size=5),
    priority=st.lists(st.integers(0, 2), min_size=5, max_size=5),
    criteria=st.permutations(CRITERIA).flatmap(lambda order: st.integers(1, 5).map(lambda n: tuple(order[:n]))),
    bands=st.dictionaries(st.sampled_from(CRITERIA), st.integers(1, 500)),
    max_parcels=st.integers(2, 3),
    floor=st.sampled_from([0, 0, 1000, 2500]),
    limit=st.sampled_from([None, 900]),
)
def test_the_best_of_several_parcels_is_what_brute_force_finds(
    free: list[tuple[int, int]],
    wanted: tuple[int, int],
    handling: list[int],
    priority: list[int],
    criteria: tuple[str, ...],
    bands: dict[str, int],
    max_parcels: int,
    floor: int,
    limit: int | None,
) -> None:
    """Fails when the search drops a sequence, prices a parcel by another weight, or ranks by another order."""
    policy = Policy(
        version=1,
        criteria=criteria,
        bands=bands,
        split="always",
        max_parcels=max_parcels,
        min_parcel_value_minor=floor,
    )
    numbers = range(1, len(free) + 1)
    places = [a_place(n, handling_cost_minor=handling[n - 1], priority=priority[n - 1], latitude=30 + n) for n in numbers]
    row = FreightRow(first_weight_grams=300, first_price_minor=500, step_weight_grams=300, step_price_minor=100, days=2,
                     max_weight_grams=limit)  # fmt: skip
    network = a_network(*places, policy=policy, freight=FreightTables(1, {"sf": [row]}))
    need = a_need(*wanted, latitude=31.0, longitude=121.0)
    offered: list[Candidate] = [(n, 5, list(free[n - 1])) for n in numbers]
    decision = decide(need, offered, network, now=NOW)
    by_no = {place.place_no: place for place in places}
    best = []
    for takes in sequences(need, {n: free[n - 1] for n in numbers}, max_parcels):
        if any(sum(take) * 1000 < floor or (limit and sum(take) * 300 > limit) for take in takes.values()):
            continue
        costs = [500 + 100 * (sum(take) - 1) + by_no[n].handling_cost_minor for n, take in takes.items()]
        values = {
            "parcels": len(takes),
            "landed_cost": sum(costs),
            "promised_days": 2,
            "distance": sum(by_no[n].distance_metres(31.0, 121.0) for n in takes),
            "priority": sum(by_no[n].priority for n in takes),
        }
        best.append([values[name] // bands.get(name, 1) for name in criteria])
    assert bool(best) == bool(decision.combined)
    if best:
        first = decision.combined[0]
        chosen = {
            "parcels": len(first),
            "landed_cost": sum(parcel.cost_minor for parcel in first),
            "promised_days": max(parcel.promised_days for parcel in first),
            "distance": sum(by_no[parcel.place_no].distance_metres(31.0, 121.0) for parcel in first),
            "priority": sum(by_no[parcel.place_no].priority for parcel in first),
        }
        assert [chosen[name] // bands.get(name, 1) for name in criteria] == min(best)


def a_wide_case(seed: int) -> tuple[Need, list[Candidate], Network]:
    chance = random.Random(seed)
    skus, places = chance.randint(1, 8), chance.randint(2, 60)
    wanted = [chance.randint(1, 4) for _ in range(skus)]
    offered: list[Candidate] = [
        (number, chance.randint(0, 2), [chance.choice([0, 0, 0, 1, 2, 4]) for _ in wanted]) for number in range(1, places + 1)
    ]
    known = [
        a_place(number, handling_cost_minor=chance.randrange(500), paused=chance.random() < 0.1) for number, _, _ in offered
    ]
    need = a_need(*wanted, excluded=frozenset(chance.sample(range(1, places + 1), 1)))
    policy = Policy(version=1, split=chance.choice(["when_needed", "always"]), max_parcels=chance.randint(2, 6))
    return need, offered, a_network(*known, policy=policy)


def test_on_larger_instances_what_must_hold_holds() -> None:
    """Fails when a unit is lost or doubled, a place that may not ship does, or the order of the offer matters."""
    found = 0
    for seed in range(200):
        need, offered, network = a_wide_case(seed)
        decision = decide(need, offered, network, now=NOW)
        free = {place_no: units for place_no, capacity, units in offered if capacity}
        for plan in decision.combined:
            numbers = [parcel.place_no for parcel in plan]
            assert numbers == sorted(set(numbers))
            assert 2 <= len(plan) <= network.policy.max_parcels
            assert [sum(units) for units in zip(*(parcel.units for parcel in plan), strict=True)] == list(need.wanted)
            for parcel in plan:
                assert any(parcel.units)
                assert all(taken <= here for taken, here in zip(parcel.units, free[parcel.place_no], strict=True))
                assert parcel.place_no not in need.excluded
                assert not network.places[parcel.place_no].paused
        found += bool(decision.combined)
        assert len(decision.combined) <= 20
        shuffled = random.Random(seed).sample(offered, len(offered))
        again = decide(need, shuffled, network, now=NOW)
        assert (again.plans, again.combined, again.parcels) == (decision.plans, decision.combined, decision.parcels)
        kept = read_record(write_record(need, offered, decision), policy_version=1, freight_version=1)
        assert kept.decision == decision
        assert is_reproduced(kept, network, decided_at=NOW)
    assert found > 50
