"""The routing policy, the freight tables and router's copy of the places."""

import json
from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query, Request
from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import Row

from contracts import CatalogLocation
from contracts.envelope import Code
from router import store, tables
from router.api.common import NO_LIMIT, get_version, note_act, page, runtime_of
from webapi.callers import Admin, Viewer
from webapi.models import StrictModel, UtcTime
from webapi.operators import ManualReason
from webapi.paging import Keyset, Page, Paging
from webapi.problems import Problem
from webapi.routing import MEBIBYTE, Router, body_limit

router = Router(prefix="/v1")

Price = Annotated[int, Field(ge=0, le=100_000_000)]
Grams = Annotated[int, Field(ge=1, le=100_000_000)]
Prefix = Annotated[str, Field(pattern=r"^[0-9]{0,6}$")]
Filter = Literal["coverage", "capacity", "ship_before", "stock_after_pick"]
Criterion = Literal["parcels", "landed_cost", "promised_days", "distance", "priority"]
Split = Literal["never", "when_needed", "always"]
Version = Annotated[int, Path(ge=1, le=NO_LIMIT)]


class PolicyDocument(StrictModel):
    """Places that pass all filters are ranked by the criteria, lexicographically, lower is better; ties by place_no."""

    filters: list[Filter] = Field(max_length=4, description="Those left out exclude nobody.")
    criteria: list[Criterion] = Field(min_length=1, max_length=5, description="The next one only breaks ties.")
    bands: dict[Criterion, Annotated[int, Field(ge=1, le=1_000_000_000)]] = Field(
        default={}, description="Differences inside a band of this width count as none: fen, days, metres, as the criterion is."
    )
    min_stock_after_pick: int = Field(
        default=0, ge=0, le=1_000_000, description="Units of every SKU that must remain at the place."
    )
    split: Split = Field(
        default="when_needed",
        description="Several parcels: never, only where no single place will do, or always, as a reserve behind single places.",
    )
    max_parcels: int = Field(default=3, ge=1, le=10)
    min_parcel_value_minor: Price = Field(default=0, description="Every parcel of a split must be worth as much.")

    @model_validator(mode="after")
    def nothing_twice(self) -> "PolicyDocument":
        if len(set(self.criteria)) < len(self.criteria) or len(set(self.filters)) < len(self.filters):
            raise PydanticCustomError("named_twice", "twice")
        return self


class PolicyBody(PolicyDocument, ManualReason):
    pass


class PolicyView(BaseModel):
    version: int
    state: str
    """draft | active | inactive"""
    made_by: str
    made_at: UtcTime
    reason: str
    filters: list[str]
    criteria: list[str]
    bands: dict[str, int]
    min_stock_after_pick: int
    split: str
    max_parcels: int
    min_parcel_value_minor: int


class FreightPrice(StrictModel):
    first_weight_grams: Grams
    first_price_minor: Price
    step_weight_grams: Grams
    step_price_minor: Price
    days: int = Field(ge=0, le=365, description="From leaving the place to delivery.")


class FreightRowBody(FreightPrice):
    origin_prefix: Prefix = Field(default="", description='Region code of the place begins so; "" is everywhere.')
    destination_prefix: Prefix = ""
    max_weight_grams: Grams | None = Field(
        default=None,
        description="Heavier parcels take the next row of the same prefixes, or do not go with this carrier at all.",
    )


class FreightTablesBody(ManualReason):
    """The longest destination prefix wins, among equals the longest origin prefix, of those the weight."""

    default_row: FreightPrice | None = Field(
        default=None, description="For carriers without a table here; without it they reach nobody."
    )
    carriers: dict[Code, Annotated[list[FreightRowBody], Field(max_length=10_000)]] = Field(max_length=100)

    @model_validator(mode="after")
    def no_row_twice(self) -> "FreightTablesBody":
        for rows in self.carriers.values():
            if len({(row.origin_prefix, row.destination_prefix, row.max_weight_grams) for row in rows}) < len(rows):
                raise PydanticCustomError("named_twice", "twice")
        return self


class FreightTablesView(BaseModel):
    version: int
    state: str
    made_by: str
    made_at: UtcTime
    reason: str
    default_row: dict[str, Any] | None
    carriers: dict[str, list[dict[str, Any]]]


@router.get("/policies/active", tags=["policy"], summary="The policy that applies now")
async def get_active_policy(request: Request, principal: Viewer) -> PolicyView:
    async with runtime_of(request).work() as work:
        return policy_view(await get_version(work, "policy", None))


@router.put("/policies/active", tags=["policy"], summary="Replace the policy at once")
async def put_active_policy(body: PolicyBody, request: Request, principal: Admin) -> PolicyView:
    """Makes a new version and activates it: every replica decides by it from its next batch on."""
    document = body.model_dump(mode="json", exclude={"reason"})
    return policy_view(await _add_version(request, "policy", document, principal.name, body.reason, active=True))


@router.post("/policies", tags=["policy"], summary="Draft a policy", status_code=201)
async def add_policy(body: PolicyBody, request: Request, principal: Admin) -> PolicyView:
    """Decides nothing yet: try it with `/comparison` or by replaying single decisions, then activate it."""
    document = body.model_dump(mode="json", exclude={"reason"})
    return policy_view(await _add_version(request, "policy", document, principal.name, body.reason, active=False))


@router.post("/policies/{version}/activate", tags=["policy"], summary="Let a draft or an earlier policy hold")
async def activate_policy(version: Version, body: ManualReason, request: Request, principal: Admin) -> PolicyView:
    """Versions never change: this is also the way back to the one before."""
    async with runtime_of(request).work() as work:
        row = await get_version(work, "policy", version)
        if row.state == "active":
            raise Problem("already_active", status=409)
        await store.activate_version(work, "policy", version)
        await note_act(work, principal.name, "activate_policy", version, body.reason)
        return policy_view(await get_version(work, "policy", version))


POLICIES = Keyset("policies.version", (tables.policy.c.version, int), descending=True)


@router.get("/policies", tags=["policy"], summary="All versions of the policy, newest first")
async def list_policies(
    request: Request, paging: Paging, principal: Viewer, state: Literal["draft", "active", "inactive"] | None = None
) -> Page[PolicyView]:
    statement = store.versions("policy")
    if state is not None:
        statement = statement.where(tables.policy.c.state == state)
    rows = await page(request, statement, POLICIES, paging)
    return POLICIES.page(rows, paging, key=lambda row: (row.version,), item=policy_view)


@router.get("/policies/{version}", tags=["policy"], summary="One version of the policy")
async def get_policy(version: Version, request: Request, principal: Viewer) -> PolicyView:
    async with runtime_of(request).work() as work:
        return policy_view(await get_version(work, "policy", version))


@router.get("/freight-tables", tags=["policy"], summary="The freight tables that apply now, or a version of them")
async def get_freight_tables(
    request: Request, principal: Viewer, version: Annotated[int | None, Query(ge=1, le=NO_LIMIT)] = None
) -> FreightTablesView:
    async with runtime_of(request).work() as work:
        return freight_view(await get_version(work, "freight_tables", version))


@router.put(
    "/freight-tables",
    tags=["policy"],
    summary="Replace the freight tables of all carriers",
    dependencies=[Depends(body_limit(8 * MEBIBYTE))],
)
async def put_freight_tables(body: FreightTablesBody, request: Request, principal: Admin) -> FreightTablesView:
    """Makes a new version and activates it: every replica decides by it from its next batch on."""
    document = body.model_dump(mode="json", exclude={"reason"}, exclude_none=True)
    return freight_view(await _add_version(request, "freight_tables", document, principal.name, body.reason, active=True))


LOCATIONS = Keyset("locations.place_no", (tables.location.c.place_no, int))


@router.get("/locations", tags=["policy"], summary="Places as router knows them; inventory owns them")
async def list_locations(request: Request, paging: Paging, principal: Viewer) -> Page[CatalogLocation]:
    rows = await page(request, store.locations(), LOCATIONS, paging)
    return LOCATIONS.page(
        rows,
        paging,
        key=lambda row: (row.place_no,),
        item=lambda row: CatalogLocation.model_validate_json(row.document),
    )


def policy_view(row: Row[Any]) -> PolicyView:
    return PolicyView(**_version_fields(row), **json.loads(row.document))


def freight_view(row: Row[Any]) -> FreightTablesView:
    document = json.loads(row.document)
    return FreightTablesView(**_version_fields(row), default_row=document.get("default_row"), carriers=document["carriers"])


def _version_fields(row: Row[Any]) -> dict[str, Any]:
    return {
        "version": row.version,
        "state": row.state,
        "made_by": row.made_by,
        "made_at": row.made_at,
        "reason": row.reason,
    }


async def _add_version(
    request: Request, kind: store.Kind, document: dict[str, Any], who: str, why: str, *, active: bool
) -> Row[Any]:
    text = json.dumps(document, ensure_ascii=False)
    async with runtime_of(request).work() as work:
        version = await store.add_version(work, kind, text, active=active, made_by=who, reason=why)
        await note_act(work, who, f"put_{kind}" if active else f"draft_{kind}", version, why)
        return await get_version(work, kind, version)
