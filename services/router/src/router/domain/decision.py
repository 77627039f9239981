"""The decision: which candidates may ship an order, ranked, and why the others may not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter, sub
from typing import Any, NamedTuple

from router.domain.combining import ALONE_ENOUGH, SPLIT_FORBIDDEN, Combination, Member, combine, combined_values
from router.domain.freight import best_service
from router.domain.need import MAX_COST_MINOR, MAX_PROMISE_DAYS, Candidate, CombinedPlan, Need, Plan, stock_after_pick
from router.domain.network import Network
from router.domain.place import CHINA, Place
from router.domain.policy import Policy

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
PLACE_FORCED = "place_forced"
"""Eligible because a person said so."""
OTHER_PLACE_FORCED = "other_place_forced"
REFUSED_BEFORE = "place_refused_before"
NOT_COVERED = "region_not_covered"
NO_CARRIER = "no_carrier_reaches"
CAPACITY_FULL = "capacity_full"
LEAVES_TOO_LATE = "leaves_too_late"
ONLY_IN_PART = "stock_only_in_part"
STOCK_TOO_LOW = "stock_too_low_after_pick"

WHOLE = frozenset({ELIGIBLE, PLACE_FORCED})
IN_PART = frozenset({ELIGIBLE, NO_CARRIER, ONLY_IN_PART, STOCK_TOO_LOW})
"""Who may ship a part: those that fell out by the size of the order alone. (A heavy order may find carriers in two parcels.)"""


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
    combined: tuple[CombinedPlan, ...] = ()
    """Tried after `plans`, best first."""
    split_verdict: str = ALONE_ENOUGH
    """Why there are combined plans, or none."""
    parcels: int = 0
    """Of the best combined plan; where there is none, how many there would have to be (0: the goods are not there)."""

    @property
    def is_routed(self) -> bool:
        return bool(self.plans or self.combined)

    @property
    def unknown_places(self) -> list[int]:
        return [finding.place_no for finding in self.findings if finding.verdict == PLACE_UNKNOWN]


class Flip(NamedTuple):
    """The smallest change of cost by which another place would have won."""

    place_no: int
    cheaper_by_minor: int


_COLUMN = {"landed_cost": 4, "promised_days": 5, "distance": 6, "priority": 7}
"""Where a criterion stands in a Finding."""


def decide(need: Need, candidates: Sequence[Candidate], network: Network, *, now: datetime) -> Decision:
    """Every candidate is judged; the eligible ones are ranked by the policy, ties by place_no."""
    policy = network.policy
    if need.forced is not None:
        judge = _judge_forced
    elif need.pick_up_place_id is not None:
        judge = _judge_pick_up
    else:
        judge = _judge_shipping
    findings = judge(need, candidates, network, now)
    eligible = [finding for finding in findings if finding[2] in WHOLE]
    if len(eligible) > 1:
        eligible.sort(key=_ranking(policy))
    plans = tuple([Plan(finding[0], finding[3], finding[4], finding[5]) for finding in eligible])
    if plans and policy.split != "always":
        return Decision(policy.version, network.freight.version, tuple(findings), plans)
    several = _combine(need, candidates, findings, network, now)
    if plans and not several.plans:
        several = Combination((), ALONE_ENOUGH, 0)
    return Decision(policy.version, network.freight.version, tuple(findings), plans, *several)


def runner_up_gap(decision: Decision, policy: Policy) -> tuple[str, int] | None:
    """By which criterion, and by how much, the winner beat the second; ("place_no", 0) when nothing told them apart."""
    if len(decision.plans) < 2:
        return None
    by_place = {finding.place_no: finding for finding in decision.findings}
    best, second = (_values(by_place[plan.place_no]) for plan in decision.plans[:2])
    return _gap(best, second, policy)


def combined_gap(decision: Decision, policy: Policy) -> tuple[str, int] | None:
    """The same between the best two plans of several parcels."""
    if len(decision.combined) < 2:
        return None
    by_place = {finding.place_no: finding for finding in decision.findings}
    best, second = (combined_values(plan, by_place) for plan in decision.combined[:2])
    return _gap(best, second, policy)


def cheapest_flip(decision: Decision, policy: Policy) -> Flip | None:
    """Which other place would have won if it had cost a little less, and how much that is; None where no cost would do."""
    if len(decision.plans) < 2 or "landed_cost" not in policy.criteria:
        return None
    at = policy.criteria.index("landed_cost")
    by_place = {finding.place_no: finding for finding in decision.findings}
    band = policy.bands.get("landed_cost", 1)
    best = by_place[decision.plans[0].place_no]
    best_key = _key(best, policy)
    flips = []
    for plan in decision.plans[1:]:
        key = _key(by_place[plan.place_no], policy)
        if key[:at] != best_key[:at]:
            continue  # Lost by something that weighs more than cost.
        level = best_key[at] if (key[at + 1 :], plan.place_no) < (best_key[at + 1 :], best.place_no) else best_key[at] - 1
        highest = level * band + band - 1
        if highest >= 0:
            flips.append(Flip(plan.place_no, plan.cost_minor - highest))
    return min(flips, key=lambda flip: (flip.cheaper_by_minor, flip.place_no), default=None)


def _gap(best: dict[str, int], second: dict[str, int], policy: Policy) -> tuple[str, int]:
    for criterion in policy.criteria:
        band = policy.bands.get(criterion, 1)
        if second[criterion] // band != best[criterion] // band:
            return criterion, second[criterion] - best[criterion]
    return "place_no", 0


def _values(finding: Finding) -> dict[str, int]:
    return {
        "parcels": 1,
        "landed_cost": finding.cost_minor,
        "promised_days": finding.promised_days,
        "distance": finding.distance_metres,
        "priority": finding.priority,
    }


def _key(finding: Finding, policy: Policy) -> tuple[int, ...]:
    values = _values(finding)
    return tuple(values[name] // policy.bands.get(name, 1) for name in policy.criteria)


def _ranking(policy: Policy) -> Callable[[Finding], Any]:
    if policy.bands:
        return lambda finding: (*_key(finding, policy), finding.place_no)
    return itemgetter(*(_COLUMN[name] for name in policy.criteria if name != "parcels"), 0)


def _combine(
    need: Need, candidates: Sequence[Candidate], findings: Sequence[Finding], network: Network, now: datetime
) -> Combination:
    policy = network.policy
    # Who comes to collect, or was sent to one place by a person, is served there or not at all.
    if policy.split == "never" or policy.max_parcels < 2 or need.pick_up_place_id is not None or need.forced is not None:
        return Combination((), SPLIT_FORBIDDEN, 0)
    keep = policy.min_stock_after_pick if "stock_after_pick" in policy.filters else 0
    dispatch = network.days_to_dispatch(now)
    lanes = network.lanes_to(need.region_code, need.latitude, need.longitude)
    members = []
    for finding, (place_no, _, free) in zip(findings, candidates, strict=True):
        if finding.verdict not in IN_PART:
            continue
        usable = tuple(map(min, (max(0, here - keep) for here in free) if keep else free, need.wanted))
        lane, days = lanes[place_no], dispatch[place_no]
        if any(usable) and lane.services and days is not None:
            place = lane.place
            members.append(
                Member(place_no, usable, lane.services, place.handling_cost_minor, days, lane.distance_metres, place.priority)
            )
    return combine(need, members, policy)


def _judge_shipping(need: Need, candidates: Sequence[Candidate], network: Network, now: datetime) -> list[Finding]:
    # The hot path: ten to two hundred places per order, so attributes are looked up once, and rows are tuples.
    policy = network.policy
    check_coverage = "coverage" in policy.filters
    min_capacity = 1 if "capacity" in policy.filters else -1
    min_stock = policy.min_stock_after_pick if "stock_after_pick" in policy.filters else 0
    latest = _latest_days(need, policy, now)
    dispatch = network.days_to_dispatch(now)
    region, latitude, longitude = need.region_code, need.latitude, need.longitude
    lanes = network.lanes_to(region, latitude, longitude)
    excluded, carrier_wanted, wanted, weight = need.excluded, need.wanted_carrier, need.wanted, sum(need.weights_grams)
    findings = []
    for place_no, capacity_left, free in candidates:
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
        elif days > latest:
            verdict = LEAVES_TOO_LATE
        elif (offer := best_service(lane.services, weight, carrier_wanted)) is None:
            verdict = NO_CARRIER
        elif (stock := min(map(sub, free, wanted), default=0)) < min_stock:
            verdict = ONLY_IN_PART if stock < 0 else STOCK_TOO_LOW
        else:
            findings.append(
                Finding(
                    place_no,
                    place.version,
                    ELIGIBLE,
                    offer[2],
                    min(offer[0] + place.handling_cost_minor, MAX_COST_MINOR),
                    min(days + offer[1], MAX_PROMISE_DAYS),
                    lane.distance_metres,
                    place.priority,
                )
            )
            continue
        findings.append(_out(place, verdict, lane.distance_metres))
    return findings


def _judge_pick_up(need: Need, candidates: Sequence[Candidate], network: Network, now: datetime) -> list[Finding]:
    """The place is given: what remains to ask is whether it is there, open and able."""
    policy = network.policy
    min_stock = policy.min_stock_after_pick if "stock_after_pick" in policy.filters else 0
    dispatch = network.days_to_dispatch(now)
    findings = []
    for place_no, capacity_left, free in candidates:
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
        elif (stock := stock_after_pick(need, free)) < min_stock:
            verdict = ONLY_IN_PART if stock < 0 else STOCK_TOO_LOW
        else:
            cost = place.handling_cost_minor
            findings.append(Finding(place.place_no, place.version, ELIGIBLE, PICK_UP, cost, days, 0, place.priority))
            continue
        findings.append(_out(place, verdict, 0))
    return findings


def _judge_forced(need: Need, candidates: Sequence[Candidate], network: Network, now: datetime) -> list[Finding]:
    """A person chose: the policy is not asked, only whether the place is there, takes orders and has the goods."""
    lanes = network.lanes_to(need.region_code, need.latitude, need.longitude)
    findings = []
    for place_no, _, free in candidates:
        place = network.places.get(place_no)
        if place is None:
            findings.append(_unknown(place_no))
            continue
        lane = lanes.get(place.place_no) or network.add_lane(lanes, place, need.region_code, need.latitude, need.longitude)
        if place_no != need.forced:
            verdict = OTHER_PLACE_FORCED
        elif place.deleted:
            verdict = PLACE_GONE
        elif place.paused:
            verdict = PLACE_PAUSED
        elif stock_after_pick(need, free) < 0:
            verdict = ONLY_IN_PART
        elif (offer := _forced_service(need, place, network)) is None:
            verdict = NO_CARRIER
        else:
            price, transit, carrier = offer
            findings.append(
                Finding(
                    place.place_no,
                    place.version,
                    PLACE_FORCED,
                    carrier,
                    min(price + place.handling_cost_minor, MAX_COST_MINOR),
                    min((network.days_to_dispatch(now)[place.place_no] or 0) + transit, MAX_PROMISE_DAYS),
                    lane.distance_metres,
                    place.priority,
                )
            )
            continue
        findings.append(_out(place, verdict, lane.distance_metres))
    return findings


def _forced_service(need: Need, place: Place, network: Network) -> tuple[int, int, str] | None:
    """Where no table reaches the place's carriers take it all the same, at a price nobody knows yet."""
    if need.pick_up_place_id is not None and need.pick_up_place_id == place.place_id:
        return 0, 0, PICK_UP
    lane = network.lanes_to(need.region_code, need.latitude, need.longitude)[place.place_no]
    if offer := best_service(lane.services, sum(need.weights_grams), need.wanted_carrier):
        return offer
    carriers = [carrier for carrier in place.carriers if carrier == need.wanted_carrier] or list(place.carriers)
    return (0, 0, carriers[0]) if carriers else None


def _latest_days(need: Need, policy: Policy, now: datetime) -> int:
    """By when an order must leave, in local days from now."""
    if need.ship_before is None or "ship_before" not in policy.filters:
        return MAX_COST_MINOR
    return (need.ship_before.astimezone(CHINA).date() - now.astimezone(CHINA).date()).days


def _unknown(place_no: int) -> Finding:
    return Finding(place_no, 0, PLACE_UNKNOWN, "", 0, 0, 0, 0)


def _out(place: Place, verdict: str, distance_metres: int) -> Finding:
    return Finding(place.place_no, place.version, verdict, "", 0, 0, distance_metres, place.priority)
