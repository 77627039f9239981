"""Several parcels from several places where one will not do: a small search over places that are tried in turn.

A plan is a sequence of places: each takes all it can of what is left, the last takes the rest. All sequences over a short list
of places are tried, fewest parcels first, within fixed counts (not a clock: equal inputs must give equal plans). For up to five
places and three parcels that is every sequence there is; what the counts cut off, a greedy cover makes good.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import ge, sub
from typing import NamedTuple, Protocol

from router.domain.freight import Service, best_service
from router.domain.need import MAX_COST_MINOR, MAX_PROMISE_DAYS, CombinedPlan, Need, Parcel
from router.domain.policy import Policy

MAX_PLANS = 20
"""What an `order.routed` event carries."""
MAX_PLACES = 9
"""Short list: 72 pairs, 504 triples; with it the worst order of 200 places and 10 SKUs stays under 2 ms (bench/decide.py)."""
MAX_STEPS = 1200
MAX_PRICED = 120

ALONE_ENOUGH = "alone_enough"
COMBINED = "split_by_place"
SPLIT_FORBIDDEN = "split_forbidden"
GOODS_NOT_THERE = "goods_not_there"
TOO_MANY_PARCELS = "too_many_parcels"
VALUE_TOO_LOW = "parcel_value_too_low"
NO_CARRIER = "no_carrier_reaches"

Units = tuple[int, ...]


class Member(NamedTuple):
    """A place that may ship a part."""

    place_no: int
    usable: Units
    """What it could give of what is wanted, policy's reserve left in place."""
    services: tuple[Service, ...]
    handling_minor: int
    days: int
    distance_metres: int
    priority: int


class Combination(NamedTuple):
    plans: tuple[CombinedPlan, ...]
    """Best first."""
    verdict: str
    """`split_by_place`, or why there is none."""
    parcels: int
    """Of the best plan; where there is none, how many the greedy cover needs (0: the goods are not there)."""


def combine(need: Need, members: Sequence[Member], policy: Policy) -> Combination:
    """Plans of two or more parcels, best first by the policy's criteria, ties by place numbers."""
    total = [sum(column) for column in zip(*(member.usable for member in members), strict=True)]
    if not total or not all(map(ge, total, need.wanted)):
        return Combination((), GOODS_NOT_THERE, 0)
    members = sorted(members, key=_base_rank(need, policy))
    cover = _greedy_cover(members, need.wanted)
    search = _Search(need, policy, {member.place_no: member for member in members})
    search.run(_short_list(members, cover))  # Even where the cover is too long: greedy is not always the fewest.
    if 1 < len(cover) <= policy.max_parcels:
        search.price(_takes(cover, need.wanted))
    ranked = sorted(search.found.items(), key=lambda item: (search.rank(item[0]), item[0]))[:MAX_PLANS]
    if ranked:
        return Combination(tuple(plan for plan, _ in ranked), COMBINED, len(ranked[0][0]))
    return Combination((), search.refusal or TOO_MANY_PARCELS, len(cover))


def _base_rank(need: Need, policy: Policy) -> Callable[[Member], tuple[int, ...]]:
    """As if the place shipped everything: who comes early in the short list."""
    weight = sum(need.weights_grams)

    def rank(member: Member) -> tuple[int, ...]:
        offer = best_service(member.services, weight, need.wanted_carrier) or (MAX_COST_MINOR, MAX_PROMISE_DAYS, "")
        values = {
            "landed_cost": offer[0] + member.handling_minor,
            "promised_days": offer[1] + member.days,
            "distance": member.distance_metres,
            "priority": member.priority,
        }
        bands = policy.bands
        return *[values[name] // bands.get(name, 1) for name in policy.criteria if name in values], member.place_no

    return rank


def _greedy_cover(members: Sequence[Member], wanted: Units) -> list[Member]:
    """The place that gives most units, again and again; among equals the one that ranks first."""
    left, rest, cover = wanted, list(members), []
    while any(left):
        best = max(rest, key=lambda member: sum(map(min, member.usable, left)))
        rest.remove(best)
        cover.append(best)
        left = tuple(map(sub, left, map(min, best.usable, left)))
    return cover


def _short_list(members: Sequence[Member], cover: Sequence[Member]) -> list[Member]:
    """All where they are few; else the greedy cover, then those that give most and those that rank first, in turn."""
    if len(members) <= MAX_PLACES:
        return list(members)
    chosen = {member.place_no for member in cover[:MAX_PLACES]}
    most = sorted(members, key=lambda member: -sum(member.usable))
    for pair in zip(most, members, strict=True):
        for member in pair:
            if len(chosen) < MAX_PLACES:
                chosen.add(member.place_no)
    return [member for member in members if member.place_no in chosen]


def _takes(order: Sequence[Member], wanted: Units) -> list[tuple[int, Units]]:
    left, takes = wanted, []
    for member in order:
        take = tuple(map(min, member.usable, left))
        takes.append((member.place_no, take))
        left = tuple(map(sub, left, take))
    return takes


@dataclass(slots=True)
class _Search:
    need: Need
    policy: Policy
    members: dict[int, Member]
    found: dict[CombinedPlan, None] = field(default_factory=dict)
    refusal: str = ""
    _seen: set[tuple[tuple[int, Units], ...]] = field(default_factory=set)
    _offers: dict[tuple[int, Units], Parcel | str] = field(default_factory=dict)
    _steps: int = 0

    def run(self, places: Sequence[Member]) -> None:
        wanted = self.need.wanted
        most = [max(column) for column in zip(*(member.usable for member in places), strict=True)]
        for parcels in range(2, min(self.policy.max_parcels, len(places)) + 1):
            for takes in self._sequences(places, wanted, parcels, most):
                self.price(takes)
                if len(self._seen) >= MAX_PRICED:
                    return
            if self._steps >= MAX_STEPS or (self.policy.criteria[0] == "parcels" and len(self.found) >= MAX_PLANS):
                return

    def _sequences(
        self, places: Sequence[Member], left: Units, parcels: int, most: Sequence[int]
    ) -> Iterator[list[tuple[int, Units]]]:
        """Ways in which exactly so many of the places, tried in turn, give what is left."""
        for need, one in zip(left, most, strict=True):
            if need > one * parcels:
                return
        for member in places:
            if self._steps >= MAX_STEPS:
                return
            self._steps += 1
            usable = member.usable
            covers = all(map(ge, usable, left))
            if parcels == 1:
                if covers:
                    yield [(member.place_no, left)]
                continue
            if covers:
                continue  # Nothing would be left for the others: that is a plan of fewer parcels.
            take = tuple(map(min, usable, left))
            if any(take):
                others = [other for other in places if other is not member]
                for rest in self._sequences(others, tuple(map(sub, left, take)), parcels - 1, most):
                    yield [(member.place_no, take), *rest]

    def price(self, takes: list[tuple[int, Units]]) -> None:
        """Keep the plan, unless a parcel is worth too little or no carrier takes it."""
        key = tuple(sorted(takes))
        if key in self._seen:
            return  # Another order of the same places came to the same parcels.
        self._seen.add(key)
        parcels = []
        for one in key:
            parcel = self._offers.get(one)
            if parcel is None:
                parcel = self._offers[one] = self._parcel(*one)
            if isinstance(parcel, str):
                self.refusal = self.refusal or parcel
                return
            parcels.append(parcel)
        self.found[tuple(parcels)] = None

    def _parcel(self, place_no: int, units: Units) -> Parcel | str:
        need, member = self.need, self.members[place_no]
        shares = list(zip(units, need.wanted, strict=True))
        value = sum(all_of * taken // wanted for all_of, (taken, wanted) in zip(need.values_minor, shares, strict=True))
        if value < self.policy.min_parcel_value_minor:
            return VALUE_TOO_LOW
        # A begun gram counts whole: a carrier's limit is a limit.
        weight = sum(-(-all_of * taken // wanted) for all_of, (taken, wanted) in zip(need.weights_grams, shares, strict=True))
        offer = best_service(member.services, weight, need.wanted_carrier)
        if offer is None:
            return NO_CARRIER
        price, transit, carrier = offer
        cost, days = min(price + member.handling_minor, MAX_COST_MINOR), min(member.days + transit, MAX_PROMISE_DAYS)
        return Parcel(place_no, carrier, cost, days, units)

    def rank(self, plan: CombinedPlan) -> tuple[int, ...]:
        values = combined_values(plan, self.members)
        return tuple(values[name] // self.policy.bands.get(name, 1) for name in self.policy.criteria)


class Located(Protocol):
    @property
    def distance_metres(self) -> int: ...
    @property
    def priority(self) -> int: ...


def combined_values(plan: CombinedPlan, members: Mapping[int, Located]) -> dict[str, int]:
    """A plan's numbers: costs, distances and priorities add up, the last parcel makes the promise."""
    return {
        "parcels": len(plan),
        "landed_cost": sum(parcel.cost_minor for parcel in plan),
        "promised_days": max(parcel.promised_days for parcel in plan),
        "distance": sum(members[parcel.place_no].distance_metres for parcel in plan),
        "priority": sum(members[parcel.place_no].priority for parcel in plan),
    }
