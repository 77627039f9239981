"""How a decision is shown: every candidate with its verdict, plans, what decided, what would have changed it."""

from collections.abc import Sequence
from uuid import UUID

from pydantic import BaseModel

from contracts import text_of
from router.domain import (
    Candidate,
    CombinedPlan,
    Decision,
    Finding,
    Need,
    Network,
    cheapest_flip,
    combined_gap,
    runner_up_gap,
    stock_after_pick,
)
from webapi.models import UtcTime
from webapi.texts import Language


class FindingView(BaseModel):
    rank: int | None
    """1 is the winner; none: not eligible."""
    place_no: int
    place_id: str | None
    name: str | None
    verdict: str
    text: str
    """Why (not), in the caller's language."""
    carrier: str | None = None
    cost_minor: int | None = None
    promised_days: int | None = None
    distance_metres: int
    priority: int
    capacity_left: int
    stock_after_pick: int
    """Of the scarcest SKU; negative: only a part is there."""
    free: dict[str, int]
    """Units by SKU."""


class ParcelView(BaseModel):
    place_no: int
    place_id: str | None
    name: str | None
    carrier: str
    cost_minor: int
    promised_days: int
    units: dict[str, int]


class CombinedPlanView(BaseModel):
    rank: int
    cost_minor: int
    promised_days: int
    parcels: list[ParcelView]


class GapView(BaseModel):
    """What the winner beat the second by."""

    place_no: int | None
    """None: the second is a plan of several parcels."""
    name: str | None
    criterion: str
    gap: int
    text: str


class FlipView(BaseModel):
    """The smallest change of cost by which another place would have won."""

    place_no: int
    name: str | None
    cheaper_by_minor: int
    text: str


class SplitView(BaseModel):
    code: str
    text: str
    """Why there are plans of several parcels, or none."""
    parcels: int


class DecisionView(BaseModel):
    policy_version: int
    freight_version: int
    eligible: int
    candidates: int
    forced_place_no: int | None
    winner: FindingView | None
    runner_up: GapView | None
    flip: FlipView | None
    split: SplitView
    combined: list[CombinedPlanView]
    """Tried after the single places, best first."""
    findings: list[FindingView]
    """Eligible places by rank, then the others as they were offered."""


class KeptDecisionView(DecisionView):
    order_id: UUID
    attempt: int
    decided_at: UtcTime
    reproduced: bool
    """Deciding the kept inputs again gives this decision."""


class ReplayView(DecisionView):
    order_id: UUID
    attempt: int
    decided_at: UtcTime
    same: bool
    """The same plans in the same order as were decided then."""


def decision_view(
    need: Need, candidates: Sequence[Candidate], decision: Decision, network: Network, language: Language
) -> DecisionView:
    ranks = {plan.place_no: rank for rank, plan in enumerate(decision.plans, start=1)}
    findings = [
        _finding_view(need, candidate, finding, ranks.get(finding.place_no), network, language)
        for candidate, finding in zip(candidates, decision.findings, strict=True)
    ]
    last = len(findings) + 1  # Inside the sort the list is empty.
    findings.sort(key=lambda finding: finding.rank or last)  # Stable: the others stay as they were offered.
    return DecisionView(
        policy_version=decision.policy_version,
        freight_version=decision.freight_version,
        eligible=len(decision.plans),
        candidates=len(findings),
        forced_place_no=need.forced,
        winner=findings[0] if decision.plans else None,
        runner_up=_gap_view(decision, network, language),
        flip=_flip_view(decision, network, language),
        split=_split_view(decision, network, language),
        combined=[_combined_view(rank, plan, need, network) for rank, plan in enumerate(decision.combined, start=1)],
        findings=findings,
    )


def _finding_view(
    need: Need, candidate: Candidate, finding: Finding, rank: int | None, network: Network, language: Language
) -> FindingView:
    place = network.places.get(finding.place_no)
    _, capacity_left, free = candidate
    left = stock_after_pick(need, free)
    params = finding._asdict() | {
        "region_code": need.region_code,
        "stock_after_pick": left,
        "min_stock": network.policy.min_stock_after_pick,
        "available": sum(map(min, free, need.wanted)),
        "wanted": sum(need.wanted),
        "ship_before": "" if need.ship_before is None else need.ship_before.isoformat(timespec="minutes"),
    }
    return FindingView(
        rank=rank,
        place_no=finding.place_no,
        place_id=place.place_id if place else None,
        name=place.name if place else None,
        verdict=finding.verdict,
        text=text_of(finding.verdict, params, chinese=language == "zh"),
        carrier=finding.carrier if rank else None,
        cost_minor=finding.cost_minor if rank else None,
        promised_days=finding.promised_days if rank else None,
        distance_metres=finding.distance_metres,
        priority=finding.priority,
        capacity_left=capacity_left,
        stock_after_pick=left,
        free=dict(zip(need.skus, free, strict=True)),
    )


def _combined_view(rank: int, plan: CombinedPlan, need: Need, network: Network) -> CombinedPlanView:
    parcels = []
    for parcel in plan:
        place = network.places.get(parcel.place_no)
        parcels.append(
            ParcelView(
                place_no=parcel.place_no,
                place_id=place.place_id if place else None,
                name=place.name if place else None,
                carrier=parcel.carrier,
                cost_minor=parcel.cost_minor,
                promised_days=parcel.promised_days,
                units={sku: count for sku, count in zip(need.skus, parcel.units, strict=True) if count},
            )
        )
    return CombinedPlanView(
        rank=rank,
        cost_minor=sum(parcel.cost_minor for parcel in plan),
        promised_days=max(parcel.promised_days for parcel in plan),
        parcels=parcels,
    )


def _gap_view(decision: Decision, network: Network, language: Language) -> GapView | None:
    single = bool(decision.plans)
    found = (runner_up_gap if single else combined_gap)(decision, network.policy)
    if found is None:
        return None
    criterion, gap = found
    second = decision.plans[1].place_no if single else None
    params = {"gap": gap, "gap_minor": gap, "gap_km": round(gap / 1000, 1)}
    return GapView(
        place_no=second,
        name=_name(second, network),
        criterion=criterion,
        gap=gap,
        text=text_of(f"won_by_{criterion}", params, chinese=language == "zh"),
    )


def _flip_view(decision: Decision, network: Network, language: Language) -> FlipView | None:
    flip = cheapest_flip(decision, network.policy)
    if flip is None:
        return None
    params = {"change_minor": flip.cheaper_by_minor}
    return FlipView(
        place_no=flip.place_no,
        name=_name(flip.place_no, network),
        cheaper_by_minor=flip.cheaper_by_minor,
        text=text_of("would_win_if_cheaper", params, chinese=language == "zh"),
    )


def _split_view(decision: Decision, network: Network, language: Language) -> SplitView:
    policy = network.policy
    params = {
        "parcels": decision.parcels,
        "places": decision.parcels,
        "limit": policy.max_parcels,
        "limit_minor": policy.min_parcel_value_minor,
    }
    text = text_of(decision.split_verdict, params, chinese=language == "zh")
    return SplitView(code=decision.split_verdict, text=text, parcels=decision.parcels)


def _name(place_no: int | None, network: Network) -> str | None:
    place = None if place_no is None else network.places.get(place_no)
    return place.name if place else None
