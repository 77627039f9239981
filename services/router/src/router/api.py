"""Router over HTTP: why an order went where it went, what would be decided, the policy and the freight tables."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query, Request
from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import Row

from contracts import CatalogLocation, text_of
from contracts.envelope import Code, PlaceId, RegionCode
from eventing import Runtime, UnitOfWork
from router import store, tables
from router.domain import Candidate, Decision, Finding, Need, Network, decide, is_reproduced, read_record, runner_up_gap
from router.handlers import Routing
from webapi.callers import Admin, Viewer
from webapi.models import StrictModel, UtcTime
from webapi.operators import ManualReason, record_manual_act
from webapi.paging import Keyset, Page, PageRequest, Paging
from webapi.problems import FieldError, Problem, language_of
from webapi.routing import MEBIBYTE, Router, body_limit
from webapi.texts import Language, register_texts

register_texts(
    {
        "decision_not_found": (
            "No such decision. The order has not been routed (yet); GET /v1/orders of ingest tells where it is.",
            "没有该路由记录。订单尚未分仓，可在接单服务 GET /v1/orders 查询其位置。",
        ),
        "version_not_found": (
            "No such version. Leave version out for the active one.",
            "没有该版本。省略 version 可查询当前版本。",
        ),
        "unknown_place": ("Is not a known place; see GET /v1/locations.", "不是已知地点，请用 GET /v1/locations 查询。"),
        "named_twice": ("Names the same thing twice.", "内容重复。"),
    }
)

router = Router(prefix="/v1")

Price = Annotated[int, Field(ge=0, le=100_000_000)]
Grams = Annotated[int, Field(ge=1, le=100_000_000)]
Prefix = Annotated[str, Field(pattern=r"^[0-9]{0,6}$")]
Filter = Literal["coverage", "capacity", "stock_after_pick"]
Criterion = Literal["landed_cost", "promised_days", "distance", "priority"]
NO_LIMIT = 2_000_000_000
"""Capacity and stock of a dry run: router knows neither, inventory tells them with each reserved order."""


# --- policy and freight tables


class PolicyBody(ManualReason):
    """Places that pass all filters are ranked by the criteria, lexicographically, lower is better; ties by place_no."""

    filters: list[Filter] = Field(max_length=3, description="Those left out exclude nobody.")
    criteria: list[Criterion] = Field(min_length=1, max_length=4, description="The next one only breaks ties.")
    min_stock_after_pick: int = Field(
        default=0, ge=0, le=1_000_000, description="Units of every SKU that must remain at the place."
    )

    @model_validator(mode="after")
    def nothing_twice(self) -> "PolicyBody":
        if len(set(self.criteria)) < len(self.criteria) or len(set(self.filters)) < len(self.filters):
            raise PydanticCustomError("named_twice", "twice")
        return self


class PolicyView(BaseModel):
    version: int
    active: bool
    made_by: str
    made_at: UtcTime
    reason: str
    filters: list[str]
    criteria: list[str]
    min_stock_after_pick: int


class FreightPrice(StrictModel):
    first_weight_grams: Grams
    first_price_minor: Price
    step_weight_grams: Grams
    step_price_minor: Price
    days: int = Field(ge=0, le=365, description="From leaving the place to delivery.")


class FreightRowBody(FreightPrice):
    origin_prefix: Prefix = Field(default="", description='Region code of the place begins so; "" is everywhere.')
    destination_prefix: Prefix = ""


class FreightTablesBody(ManualReason):
    """The longest destination prefix wins, among equals the longest origin prefix."""

    default_row: FreightPrice | None = Field(
        default=None, description="For carriers without a table here; without it they reach nobody."
    )
    carriers: dict[Code, Annotated[list[FreightRowBody], Field(max_length=10_000)]] = Field(max_length=100)

    @model_validator(mode="after")
    def no_prefix_twice(self) -> "FreightTablesBody":
        for rows in self.carriers.values():
            if len({(row.origin_prefix, row.destination_prefix) for row in rows}) < len(rows):
                raise PydanticCustomError("named_twice", "twice")
        return self


class FreightTablesView(BaseModel):
    version: int
    active: bool
    made_by: str
    made_at: UtcTime
    reason: str
    default_row: dict[str, Any] | None
    carriers: dict[str, list[dict[str, Any]]]


# --- decisions


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


class GapView(BaseModel):
    """What the winner beat the second by."""

    place_no: int
    name: str | None
    criterion: str
    gap: int
    text: str


class DecisionView(BaseModel):
    policy_version: int
    freight_version: int
    eligible: int
    candidates: int
    winner: FindingView | None
    runner_up: GapView | None
    findings: list[FindingView]
    """Eligible places by rank, then the others as they were offered."""


class KeptDecisionView(DecisionView):
    order_id: UUID
    attempt: int
    decided_at: UtcTime
    reproduced: bool
    """Deciding the kept inputs again gives this decision."""


class UnroutableView(BaseModel):
    order_id: UUID
    attempt: int
    decided_at: UtcTime
    candidates: int
    policy_version: int
    freight_version: int


class PreviewBody(StrictModel):
    region_code: RegionCode
    latitude: float | None = Field(default=None, ge=-90, le=90)
    longitude: float | None = Field(default=None, ge=-180, le=180)
    weight_grams: int = Field(ge=0, le=100_000_000)
    wanted_carrier: Code | None = None
    place_ids: list[PlaceId] | None = Field(default=None, max_length=200, description="None: every place that is not gone.")


@router.get("/decisions/{order_id}", tags=["decisions"], summary="Why this place, and why not the others")
async def get_decision(
    order_id: UUID, request: Request, principal: Viewer, attempt: Annotated[int | None, Query(ge=1, le=NO_LIMIT)] = None
) -> KeptDecisionView:
    """The last attempt's decision, if none is named. Places are shown as they were then."""
    async with _runtime(request).work() as work:
        row = await store.find_decision(work.connection, order_id, attempt)
        if row is None:
            raise Problem("decision_not_found", status=404)
        record = read_record(row.record, policy_version=row.policy_version, freight_version=row.freight_version)
        network = await store.get_network_of(work.connection, record)
    shown = decision_view(record.need, record.candidates, record.decision, network, language_of(request))
    return KeptDecisionView(
        **shown.model_dump(),
        order_id=order_id,
        attempt=row.attempt,
        decided_at=row.decided_at,
        reproduced=is_reproduced(record, network, decided_at=row.decided_at),
    )


@router.post("/decisions/preview", tags=["decisions"], summary="A dry run: what would be decided now")
async def preview_decision(body: PreviewBody, request: Request, principal: Viewer) -> DecisionView:
    """Takes capacity and stock for granted: only inventory knows them."""
    async with _runtime(request).work() as work:
        network = await _routing(request).network(work)
    by_id = {place.place_id: place for place in network.places.values()}
    if body.place_ids is None:
        chosen = sorted(place.place_no for place in network.places.values() if not place.deleted)
    else:
        unknown = [index for index, place_id in enumerate(body.place_ids) if place_id not in by_id]
        if unknown:
            errors = [FieldError(f"place_ids.{index}", "unknown_place") for index in unknown]
            raise Problem("invalid_request", status=422, errors=errors)
        chosen = [by_id[place_id].place_no for place_id in dict.fromkeys(body.place_ids)]
    need = Need(
        region_code=body.region_code,
        latitude=body.latitude,
        longitude=body.longitude,
        weight_grams=body.weight_grams,
        wanted_carrier=body.wanted_carrier,
    )
    candidates = [Candidate(place_no, NO_LIMIT, NO_LIMIT) for place_no in chosen]
    return decision_view(need, candidates, decide(need, candidates, network, now=work.now), network, language_of(request))


UNROUTABLE = Keyset(
    "unroutable.decided_at",
    (tables.decision.c.decided_at, datetime),
    (tables.decision.c.order_id, UUID),
    (tables.decision.c.attempt, int),
    descending=True,
)


@router.get("/unroutable", tags=["decisions"], summary="Decisions that found no place, newest first")
async def list_unroutable(request: Request, paging: Paging, principal: Viewer) -> Page[UnroutableView]:
    """`GET /v1/decisions/{order_id}` says of each why. A later attempt may have found one since."""
    rows = await _page(request, store.unroutable(), UNROUTABLE, paging)
    return UNROUTABLE.page(rows, paging, key=lambda row: (row.decided_at, row.order_id, row.attempt), item=unroutable_view)


@router.get("/policies/active", tags=["policy"], summary="The policy that applies now")
async def get_active_policy(request: Request, principal: Viewer) -> PolicyView:
    return policy_view(await _version(request, "policy", None))


@router.put("/policies/active", tags=["policy"], summary="Replace the policy")
async def put_active_policy(body: PolicyBody, request: Request, principal: Admin) -> PolicyView:
    """Makes a new version and activates it: every replica decides by it from its next batch on."""
    document = body.model_dump(mode="json", exclude={"reason"})
    return policy_view(await _put_version(request, "policy", document, principal.name, body.reason))


POLICIES = Keyset("policies.version", (tables.policy.c.version, int), descending=True)


@router.get("/policies", tags=["policy"], summary="All versions of the policy, newest first")
async def list_policies(request: Request, paging: Paging, principal: Viewer) -> Page[PolicyView]:
    rows = await _page(request, store.versions("policy"), POLICIES, paging)
    return POLICIES.page(rows, paging, key=lambda row: (row.version,), item=policy_view)


@router.get("/freight-tables", tags=["policy"], summary="The freight tables that apply now, or a version of them")
async def get_freight_tables(
    request: Request, principal: Viewer, version: Annotated[int | None, Query(ge=1, le=NO_LIMIT)] = None
) -> FreightTablesView:
    return freight_view(await _version(request, "freight_tables", version))


@router.put(
    "/freight-tables",
    tags=["policy"],
    summary="Replace the freight tables of all carriers",
    dependencies=[Depends(body_limit(8 * MEBIBYTE))],
)
async def put_freight_tables(body: FreightTablesBody, request: Request, principal: Admin) -> FreightTablesView:
    """Makes a new version and activates it: every replica decides by it from its next batch on."""
    document = body.model_dump(mode="json", exclude={"reason"}, exclude_none=True)
    return freight_view(await _put_version(request, "freight_tables", document, principal.name, body.reason))


LOCATIONS = Keyset("locations.place_no", (tables.location.c.place_no, int))


@router.get("/locations", tags=["policy"], summary="Places as router knows them; inventory owns them")
async def list_locations(request: Request, paging: Paging, principal: Viewer) -> Page[CatalogLocation]:
    rows = await _page(request, store.locations(), LOCATIONS, paging)
    return LOCATIONS.page(
        rows,
        paging,
        key=lambda row: (row.place_no,),
        item=lambda row: CatalogLocation.model_validate_json(row.document),
    )


# --- shaping


def decision_view(
    need: Need, candidates: Sequence[Candidate], decision: Decision, network: Network, language: Language
) -> DecisionView:
    ranks = {plan.place_no: rank for rank, plan in enumerate(decision.plans, start=1)}
    findings = [
        _finding_view(need, candidate, finding, ranks.get(finding.place_no), network, language)
        for candidate, finding in zip(candidates, decision.findings, strict=True)
    ]
    findings.sort(key=lambda finding: finding.rank or len(findings) + 1)  # Stable: the others stay as they were offered.
    return DecisionView(
        policy_version=decision.policy_version,
        freight_version=decision.freight_version,
        eligible=len(decision.plans),
        candidates=len(findings),
        winner=findings[0] if decision.plans else None,
        runner_up=_gap_view(decision, network, language),
        findings=findings,
    )


def _finding_view(
    need: Need, candidate: Candidate, finding: Finding, rank: int | None, network: Network, language: Language
) -> FindingView:
    place = network.places.get(finding.place_no)
    eligible = rank is not None
    params = finding._asdict() | {
        "region_code": need.region_code,
        "stock_after_pick": candidate.stock_after_pick,
        "min_stock": network.policy.min_stock_after_pick,
    }
    return FindingView(
        rank=rank,
        place_no=finding.place_no,
        place_id=place.place_id if place else None,
        name=place.name if place else None,
        verdict=finding.verdict,
        text=text_of(finding.verdict, params, chinese=language == "zh"),
        carrier=finding.carrier if eligible else None,
        cost_minor=finding.cost_minor if eligible else None,
        promised_days=finding.promised_days if eligible else None,
        distance_metres=finding.distance_metres,
        priority=finding.priority,
        capacity_left=candidate.capacity_left,
        stock_after_pick=candidate.stock_after_pick,
    )


def _gap_view(decision: Decision, network: Network, language: Language) -> GapView | None:
    found = runner_up_gap(decision, network.policy)
    if found is None:
        return None
    criterion, gap = found
    second = decision.plans[1].place_no
    place = network.places.get(second)
    params = {"gap": gap, "gap_minor": gap, "gap_km": round(gap / 1000, 1)}
    return GapView(
        place_no=second,
        name=place.name if place else None,
        criterion=criterion,
        gap=gap,
        text=text_of(f"won_by_{criterion}", params, chinese=language == "zh"),
    )


def policy_view(row: Row[Any]) -> PolicyView:
    return PolicyView(**_version_fields(row), **json.loads(row.document))


def freight_view(row: Row[Any]) -> FreightTablesView:
    document = json.loads(row.document)
    return FreightTablesView(**_version_fields(row), default_row=document.get("default_row"), carriers=document["carriers"])


def unroutable_view(row: Row[Any]) -> UnroutableView:
    return UnroutableView(
        order_id=row.order_id,
        attempt=row.attempt,
        decided_at=row.decided_at,
        candidates=row.candidates,
        policy_version=row.policy_version,
        freight_version=row.freight_version,
    )


def _version_fields(row: Row[Any]) -> dict[str, Any]:
    return {
        "version": row.version,
        "active": row.active,
        "made_by": row.made_by,
        "made_at": row.made_at,
        "reason": row.reason,
    }


async def _version(request: Request, kind: store.Kind, version: int | None) -> Row[Any]:
    async with _runtime(request).work() as work:
        row = await store.find_version(work.connection, kind, version)
    if row is None:
        raise Problem("version_not_found", status=404)
    return row


async def _put_version(request: Request, kind: store.Kind, document: dict[str, Any], who: str, why: str) -> Row[Any]:
    text = json.dumps(document, ensure_ascii=False)
    async with _runtime(request).work() as work:
        version = await store.add_version(work, kind, text, made_by=who, reason=why)
        await _note(work, who, f"put_{kind}", version, why)
    return await _version(request, kind, version)


async def _page(request: Request, statement: Any, keyset: Keyset, paging: PageRequest) -> Sequence[Row[Any]]:
    limited = statement.where(keyset.after(keyset.decode(paging.next))).order_by(*keyset.order_by).limit(paging.limit + 1)
    async with _runtime(request).work() as work:
        return list(await work.connection.execute(limited))


async def _note(work: UnitOfWork, who: str, act: str, subject: object, why: str) -> None:
    await record_manual_act(
        work.connection, tables.manual_act, who=who, act=act, subject=str(subject), why=why, at=work.now, detail={}
    )


def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def _routing(request: Request) -> Routing:
    routing: Routing = request.app.state.routing
    return routing
