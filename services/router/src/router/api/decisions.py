"""Decisions: kept ones, lists of them, dry runs, replays under another policy."""

import asyncio
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path, Query, Request
from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import Row, select

from contracts.envelope import Code, PlaceId, RegionCode
from router import store, tables
from router.api.common import NO_LIMIT, get_version, page, routing_of, runtime_of
from router.api.policies import PolicyDocument
from router.api.views import DecisionView, KeptDecisionView, ReplayView, decision_view
from router.domain import Decision, Need, Record, decide, is_reproduced, read_record
from webapi.callers import Viewer
from webapi.models import StrictModel, UtcTime
from webapi.paging import Keyset, Page, Paging
from webapi.problems import FieldError, Problem, language_of
from webapi.routing import Router

router = Router(prefix="/v1", tags=["decisions"])

Attempt = Annotated[int | None, Query(ge=1, le=NO_LIMIT)]
UNSAVED = 0
"""Version of a policy that was given to a replay and is kept nowhere."""


class DecisionSummary(BaseModel):
    order_id: UUID
    attempt: int
    decided_at: UtcTime
    candidates: int
    eligible: int
    combined: int
    place_no: int | None
    """The best single place."""
    policy_version: int
    freight_version: int


class PreviewBody(StrictModel):
    region_code: RegionCode
    latitude: float | None = Field(default=None, ge=-90, le=90)
    longitude: float | None = Field(default=None, ge=-180, le=180)
    weight_grams: int = Field(ge=0, le=100_000_000)
    wanted_carrier: Code | None = None
    place_ids: list[PlaceId] | None = Field(default=None, max_length=200, description="None: every place that is not gone.")

    @model_validator(mode="after")
    def whole_centre(self) -> "PreviewBody":
        if (self.latitude is None) != (self.longitude is None):
            raise PydanticCustomError("centre_incomplete", "one of two")
        return self


class ReplayBody(StrictModel):
    """Neither policy nor policy_version: by the policy that decided then."""

    attempt: int | None = Field(default=None, ge=1, le=NO_LIMIT, description="None: the last one.")
    policy_version: int | None = Field(default=None, ge=1, le=NO_LIMIT)
    policy: PolicyDocument | None = None

    @model_validator(mode="after")
    def one_policy(self) -> "ReplayBody":
        if self.policy is not None and self.policy_version is not None:
            raise PydanticCustomError("one_policy_only", "two policies")
        return self


class ComparisonBody(StrictModel):
    limit: int = Field(default=200, ge=1, le=500, description="How many decisions, the last ones first.")
    before: UtcTime | None = Field(default=None, description="Only those decided until then.")


class Outcome(BaseModel):
    """Totals over the compared decisions, by the best plan of each."""

    unroutable: int = 0
    parcels: int = 0
    cost_minor: int = 0
    promised_days: int = 0


class ChangedDecision(BaseModel):
    order_id: UUID
    attempt: int
    place_nos_then: list[int]
    place_nos_now: list[int]
    cost_minor_then: int
    cost_minor_now: int


class ComparisonView(BaseModel):
    policy_version: int
    decisions: int
    changed: int
    then: Outcome
    now: Outcome
    changes: list[ChangedDecision]
    """Whose best plan differs, newest first; at most 100."""


DECISIONS = Keyset(
    "decisions.decided_at",
    (tables.decision.c.decided_at, datetime),
    (tables.decision.c.order_id, UUID),
    (tables.decision.c.attempt, int),
    descending=True,
)


@router.get("/decisions", summary="Decisions, newest first")
async def list_decisions(
    request: Request,
    paging: Paging,
    principal: Viewer,
    since: UtcTime | None = None,
    until: UtcTime | None = None,
    outcome: store.Outcome | None = None,
    place_id: Annotated[PlaceId | None, Query(description="The best single place.")] = None,
    policy_version: Annotated[int | None, Query(ge=1, le=NO_LIMIT)] = None,
) -> Page[DecisionSummary]:
    columns = tables.decision.c
    statement = store.decisions() if outcome is None else store.decisions_of(outcome)
    if since is not None:
        statement = statement.where(columns.decided_at >= since)
    if until is not None:
        statement = statement.where(columns.decided_at <= until)
    if place_id is not None:
        named = select(tables.location.c.place_no).where(tables.location.c.place_id == place_id)
        statement = statement.where(columns.place_no.in_(named))  # A place set up anew has its id and another number.
    if policy_version is not None:
        statement = statement.where(columns.policy_version == policy_version)
    rows = await page(request, statement, DECISIONS, paging)
    return DECISIONS.page(rows, paging, key=lambda row: (row.decided_at, row.order_id, row.attempt), item=summary_view)


@router.get("/unroutable", summary="Decisions that found no place, newest first")
async def list_unroutable(request: Request, paging: Paging, principal: Viewer) -> Page[DecisionSummary]:
    """`GET /v1/decisions/{order_id}` says of each why. A later attempt may have found one since."""
    rows = await page(request, store.decisions_of("unroutable"), DECISIONS, paging)
    return DECISIONS.page(rows, paging, key=lambda row: (row.decided_at, row.order_id, row.attempt), item=summary_view)


@router.get("/decisions/{order_id}", summary="Why this place, and why not the others")
async def get_decision(order_id: UUID, request: Request, principal: Viewer, attempt: Attempt = None) -> KeptDecisionView:
    """The last attempt's decision, if none is named. Places are shown as they were then."""
    async with runtime_of(request).work() as work:
        row = await store.find_decision(work.connection, order_id, attempt)
        if row is None:
            raise Problem("decision_not_found", status=404)
        record = record_of(row)
        network = await store.get_network_of(work.connection, record)
    shown = decision_view(record.need, record.candidates, record.decision, network, language_of(request))
    return KeptDecisionView(
        **dict(shown),
        order_id=order_id,
        attempt=row.attempt,
        decided_at=row.decided_at,
        reproduced=is_reproduced(record, network, decided_at=row.decided_at),
    )


@router.post("/decisions/{order_id}/replay", summary="A dry run: what another policy would have decided")
async def replay_decision(order_id: UUID, body: ReplayBody, request: Request, principal: Viewer) -> ReplayView:
    """Stock, capacity, places and freight tables as they were then. Changes nothing. Policy version 0: the one given here."""
    async with runtime_of(request).work() as work:
        row = await store.find_decision(work.connection, order_id, body.attempt)
        if row is None:
            raise Problem("decision_not_found", status=404)
        record = record_of(row)
        if body.policy is not None:
            policy = store.policy_of(UNSAVED, body.policy.model_dump(mode="json"))
        else:
            version = body.policy_version or row.policy_version
            policy = store.policy_of(*store.version_of(await get_version(work, "policy", version)))
        [network] = await store.get_networks_of(work.connection, [record], policy)
    decision = decide(record.need, record.candidates, network, now=row.decided_at)
    shown = decision_view(record.need, record.candidates, decision, network, language_of(request))
    then = record.decision
    return ReplayView(
        **dict(shown),
        order_id=order_id,
        attempt=row.attempt,
        decided_at=row.decided_at,
        same=(decision.plans, decision.combined) == (then.plans, then.combined),
    )


@router.post("/policies/{version}/comparison", summary="Replay the last decisions under this policy")
async def compare_policy(
    version: Annotated[int, Path(ge=1, le=NO_LIMIT)], body: ComparisonBody, request: Request, principal: Viewer
) -> ComparisonView:
    """What would have come out: a look before activating. Changes nothing."""
    async with runtime_of(request).work() as work:
        policy = store.policy_of(*store.version_of(await get_version(work, "policy", version)))
        rows = await store.find_last_decisions(work.connection, before=body.before or work.now, limit=body.limit)
        records = [record_of(row) for row in rows]
        networks = await store.get_networks_of(work.connection, records, policy)
    then, now, changed = Outcome(), Outcome(), 0
    changes: list[ChangedDecision] = []
    for row, record, network in zip(rows, records, networks, strict=True):
        await asyncio.sleep(0)  # Five hundred of them take a second, in which orders are routed, too.
        decision = decide(record.need, record.candidates, network, now=row.decided_at)
        before, after = best_plan(record.decision), best_plan(decision)
        _add(then, before)
        _add(now, after)
        if before != after:
            changed += 1
            if len(changes) < MAX_CHANGES:
                changes.append(
                    ChangedDecision(
                        order_id=row.order_id,
                        attempt=row.attempt,
                        place_nos_then=[place_no for place_no, _, _ in before],
                        place_nos_now=[place_no for place_no, _, _ in after],
                        cost_minor_then=sum(cost for _, cost, _ in before),
                        cost_minor_now=sum(cost for _, cost, _ in after),
                    )
                )
    return ComparisonView(policy_version=version, decisions=len(rows), changed=changed, then=then, now=now, changes=changes)


MAX_CHANGES = 100


@router.post("/decisions/preview", summary="A dry run: what would be decided now")
async def preview_decision(body: PreviewBody, request: Request, principal: Viewer) -> DecisionView:
    """Takes capacity and stock for granted: only inventory knows them."""
    async with runtime_of(request).work() as work:
        network = await routing_of(request).network(work)
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
        skus=("*",),
        wanted=(1,),
        weights_grams=(body.weight_grams,),
        values_minor=(0,),
        wanted_carrier=body.wanted_carrier,
    )
    candidates = [(place_no, NO_LIMIT, (NO_LIMIT,)) for place_no in chosen]
    return decision_view(need, candidates, decide(need, candidates, network, now=work.now), network, language_of(request))


def record_of(row: Row[Any]) -> Record:
    return read_record(row.record, policy_version=row.policy_version, freight_version=row.freight_version)


def best_plan(decision: Decision) -> list[tuple[int, int, int]]:
    """(place_no, cost, days) per parcel of what is tried first; empty: nothing would do."""
    parcels = decision.plans[:1] or (decision.combined[0] if decision.combined else ())
    return [(parcel.place_no, parcel.cost_minor, parcel.promised_days) for parcel in parcels]


def _add(outcome: Outcome, parcels: list[tuple[int, int, int]]) -> None:
    outcome.unroutable += not parcels
    outcome.parcels += len(parcels)
    outcome.cost_minor += sum(cost for _, cost, _ in parcels)
    outcome.promised_days += max((days for _, _, days in parcels), default=0)


def summary_view(row: Row[Any]) -> DecisionSummary:
    return DecisionSummary(**{name: getattr(row, name) for name in DecisionSummary.model_fields})
