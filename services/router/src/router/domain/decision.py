"""The decision: which candidates may ship an order, ranked, and why the others may not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

from router.domain.network import Lane, Network
from router.domain.place import Place
from router.domain.policy import Policy

MAX_PROMISE_DAYS = 365
MAX_COST_MINOR = 10**15
"""What the contract can carry: a nonsensical weight must not stop an order."""
PICK_UP = "pick_up"
"""Stands for the carrier where the buyer comes to the place."""

ELIGIBLE = "eligible"
PLACE_UNKNOWN = "place_unknown"
PLACE_GONE = "place_gone"
PLACE_PAUSED = "place_paused"
PLACE_CLOSED = "place_never_open"
DOES_NOT_SHIP = "place_does_not_ship"
NO_PICK_UP = "place_has_no_pick_up"
OTHER_PLACE_WANTED = "other_place_wanted"
REFUSED_BEFORE = "place_refused_before"
NOT_COVERED = "region_not_covered"
NO_CARRIER = "no_carrier_reaches"
CAPACITY_FULL = "capacity_full"
STOCK_TOO_LOW = "stock_too_low_after_pick"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What an order asks of a place."""

    region_code: str
    latitude: float | None = None
    longitude: float | None = None
    weight_grams: int
    wanted_carrier: str | None = None
    """Wins at every place that has it."""
    pick_up_place_id: str | None = None
    """The buyer comes there; no other place will do."""
    excluded: frozenset[int] = frozenset()
    """Places that refused this order before."""


class Candidate(NamedTuple):
    """A place that could ship the whole order."""

    place_no: int
    capacity_left: int
    stock_after_pick: int
    """Of the SKU that would be scarcest there afterwards."""


class Plan(NamedTuple):
    """One place ships the whole order."""

    place_no: int
    carrier: str
    cost_minor: int
    promised_days: int


class Finding(NamedTuple):
    """What came of one candidate; the numbers are zero where it fell out before they were worked out."""

    place_no: int
    place_version: int
    """0: the place is unknown."""
    verdict: str
    """`eligible`, or the first filter that it failed."""
    carrier: str
    cost_minor: int
    promised_days: int
    distance_metres: int
    priority: int


@dataclass(frozen=True, slots=True)
class Decision:
    policy_version: int
    freight_version: int
    findings: tuple[Finding, ...]
    """One per candidate, in the order they came."""
    plans: tuple[Plan, ...]
    """Eligible ones, best first."""

    @property
    def unknown_places(self) -> list[int]:
        return [finding.place_no for finding in self.findings if finding.verdict == PLACE_UNKNOWN]


_COLUMN = {"landed_cost": 4, "promised_days": 5, "distance": 6, "priority": 7}
"""Where a criterion stands in a Finding."""


def decide(need: Need, candidates: Sequence[Candidate], network: Network, *, now: datetime) -> Decision:
    """Every candidate is judged; the eligible ones are ranked by the policy, ties by place_no."""
    policy = network.policy
    judge = _judge_shipping if need.pick_up_place_id is None else _judge_pick_up
    findings = judge(need, candidates, network, now)
    eligible = [finding for finding in findings if finding.verdict == ELIGIBLE]
    if len(eligible) > 1:
        eligible.sort(key=_ranking(policy))
    return Decision(
        policy.version,
        network.freight.version,
        tuple(findings),
        tuple([Plan(finding[0], finding[3], finding[4], finding[5]) for finding in eligible]),
    )


def runner_up_gap(decision: Decision, policy: Policy) -> tuple[str, int] | None:
    """By which criterion, and by how much, the winner beat the second; ("place_no", 0) when nothing told them apart."""
    if len(decision.plans) < 2:
        return None
    by_place = {finding.place_no: finding for finding in decision.findings}
    best, second = by_place[decision.plans[0].place_no], by_place[decision.plans[1].place_no]
    for criterion in policy.criteria:
        name = Finding._fields[_COLUMN[criterion]]
        if gap := getattr(second, name) - getattr(best, name):
            return criterion, gap
    return "place_no", 0


def _ranking(policy: Policy) -> Callable[[Finding], Any]:
    return itemgetter(*(_COLUMN[criterion] for criterion in policy.criteria), 0)


def _judge_shipping(need: Need, candidates: Sequence[Candidate], network: Network, now: datetime) -> list[Finding]:
    # The hot path: ten to two hundred places per order, so attributes are looked up once, and rows are tuples.
    policy = network.policy
    check_coverage = "coverage" in policy.filters
    min_capacity = 1 if "capacity" in policy.filters else -1
    check_stock = "stock_after_pick" in policy.filters
    min_stock = policy.min_stock_after_pick
    dispatch = network.days_to_dispatch(now)
    region, latitude, longitude = need.region_code, need.latitude, need.longitude
    lanes = network.lanes_to(region, latitude, longitude)
    excluded, wanted, weight = need.excluded, need.wanted_carrier, need.weight_grams
    findings = []
    for place_no, capacity_left, stock_after_pick in candidates:
        lane = lanes.get(place_no)
        if lane is None:
            known = network.places.get(place_no)
            if known is None:
                findings.append(_unknown(place_no))
                continue
            lane = network.add_lane(lanes, known, region, latitude, longitude)
        place = lane.place
        days = dispatch[place_no]
        if place.deleted:
            verdict = PLACE_GONE
        elif place.paused:
            verdict = PLACE_PAUSED
        elif not place.ships:
            verdict = DOES_NOT_SHIP
        elif place_no in excluded:
            verdict = REFUSED_BEFORE
        elif check_coverage and not lane.covered:
            verdict = NOT_COVERED
        elif days is None:
            verdict = PLACE_CLOSED
        elif capacity_left < min_capacity:
            verdict = CAPACITY_FULL
        elif check_stock and stock_after_pick < min_stock:
            verdict = STOCK_TOO_LOW
        elif not lane.services:
            verdict = NO_CARRIER
        else:
            price, transit, carrier = _best_service(lane, weight, wanted)
            findings.append(
                Finding(
                    place_no,
                    place.version,
                    ELIGIBLE,
                    carrier,
                    min(price + place.handling_cost_minor, MAX_COST_MINOR),
                    min(days + transit, MAX_PROMISE_DAYS),
                    lane.distance_metres,
                    place.priority,
                )
            )
            continue
        findings.append(_out(place, verdict, lane.distance_metres))
    return findings


def _best_service(lane: Lane, weight_grams: int, wanted: str | None) -> tuple[int, int, str]:
    """Price, days in transit and carrier: the buyer's where the place has it, else the cheapest, then the fastest."""
    offers = [(row.price_minor(weight_grams), row.days, carrier) for carrier, row in lane.services]
    if wanted is not None:
        for offer in offers:
            if offer[2] == wanted:
                return offer
    return min(offers)


def _judge_pick_up(need: Need, candidates: Sequence[Candidate], network: Network, now: datetime) -> list[Finding]:
    """The place is given: what remains to ask is whether it is there, open and able."""
    policy = network.policy
    dispatch = network.days_to_dispatch(now)
    findings = []
    for place_no, capacity_left, stock_after_pick in candidates:
        place = network.places.get(place_no)
        if place is None:
            findings.append(_unknown(place_no))
            continue
        days = dispatch[place_no]
        if place.place_id != need.pick_up_place_id:
            verdict = OTHER_PLACE_WANTED
        elif place.deleted:
            verdict = PLACE_GONE
        elif place.paused:
            verdict = PLACE_PAUSED
        elif not place.pick_up:
            verdict = NO_PICK_UP
        elif place_no in need.excluded:
            verdict = REFUSED_BEFORE
        elif days is None:
            verdict = PLACE_CLOSED
        elif "capacity" in policy.filters and capacity_left < 1:
            verdict = CAPACITY_FULL
        elif "stock_after_pick" in policy.filters and stock_after_pick < policy.min_stock_after_pick:
            verdict = STOCK_TOO_LOW
        else:
            cost = place.handling_cost_minor
            findings.append(Finding(place_no, place.version, ELIGIBLE, PICK_UP, cost, days, 0, place.priority))
            continue
        findings.append(_out(place, verdict, 0))
    return findings


def _unknown(place_no: int) -> Finding:
    return Finding(place_no, 0, PLACE_UNKNOWN, "", 0, 0, 0, 0)


def _out(place: Place, verdict: str, distance_metres: int) -> Finding:
    return Finding(place.place_no, place.version, verdict, "", 0, 0, distance_metres, place.priority)
