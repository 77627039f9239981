"""Stock: what is there and can be promised, what came and went, and whether it all adds up."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel

from inventory.api.shared import RuntimeOf
from inventory.domain.bundles import whole_sets
from inventory.handlers.context import local_day
from inventory.store import proofs, queries
from webapi.callers import Viewer
from webapi.models import UtcTime
from webapi.paging import Page, Paging
from webapi.routing import Router

router = Router(prefix="/v1", tags=["stock"])


class PlaceCountView(BaseModel):
    place_id: str
    on_hand: int
    allocated: int
    short: int
    safety: int
    """Kept back by rule."""
    damaged: int
    """There, not for sale, not in on_hand."""
    incoming: int
    """Announced, or on its way from another place."""
    available: int
    """on_hand - allocated - short: what nobody was promised."""


class StockView(BaseModel):
    """ATP of one SKU in one pool with its terms: atp = max(0, on_hand - allocated - short - reserved - safety)."""

    sku_id: str
    pool_id: str
    on_hand: int
    allocated: int
    """Pinned to orders at a place."""
    short: int
    """Promised at a place and known not to be there."""
    reserved: int
    """Held for orders, not yet pinned to a place."""
    safety: int
    """Kept back by rule: the sum over the places that keep the SKU."""
    damaged: int
    incoming: int
    overpromised: int
    """Held beyond what is left, because goods vanished as a fact."""
    atp: int
    waking: bool
    """Orders that wait for it are being served right now."""
    places: list[PlaceCountView]


class AtpView(BaseModel):
    """What can be promised of one SKU in one pool on a day, with its terms: atp = max(0, on_hand - allocated - short - reserved
    - safety + incoming). Of a bundle: whole sets, and the ATP of its parts."""

    sku_id: str
    pool_id: str
    as_of_date: date
    on_hand: int
    allocated: int
    short: int
    reserved: int
    safety: int
    incoming: int
    """Due by that day; what has no date is not in it."""
    atp: int
    parts: dict[str, int] | None = None
    """Of a bundle: ATP by part."""


class MovementView(BaseModel):
    movement_id: int
    moved_at: UtcTime
    kind: str
    sku_id: str
    place_id: str
    on_hand: int
    allocated: int
    short: int
    damaged: int
    unit_cost_minor: int | None
    reason_code: str | None
    subject_id: UUID
    """The channel order; for documents themselves."""
    cause_id: UUID
    line: int


class DifferenceView(BaseModel):
    sku_id: str
    check: str
    """counts_are_movements | pool_adds_up | allocated_for_orders | incoming_adds_up | safety_adds_up"""
    where: str
    """The place or pool."""
    expected: list[int]
    found: list[int]


class ProofView(BaseModel):
    proven: bool
    """Nothing differs on this page."""
    skus: int
    """SKUs looked at."""
    differences: list[DifferenceView]
    next: str | None
    """The SKU after which to go on; None at the end."""


@router.get("/stock", summary="Show what is there")
async def list_stock(
    paging: Paging,
    principal: Viewer,
    runtime: RuntimeOf,
    sku_id: Annotated[str | None, Query(max_length=64)] = None,
    place_id: Annotated[str | None, Query(max_length=64, description="Only SKUs counted there, and only its counts.")] = None,
    pool_id: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[StockView]:
    """By SKU and pool: what can be promised, with its terms, and the counts of each place."""
    async with runtime.work() as work:
        rows = await queries.list_stock(work, paging, sku_id=sku_id, place_id=place_id, pool_id=pool_id)
    return queries.STOCK.page(rows, paging, key=lambda row: (row.sku_id, row.pool_id), item=_stock_view)


@router.get("/atp", summary="Show what can be promised by a day")
async def list_atp(
    principal: Viewer,
    runtime: RuntimeOf,
    sku_id: Annotated[list[Annotated[str, Query(min_length=1, max_length=64)]], Query(min_length=1, max_length=100)],
    as_of_date: Annotated[date | None, Query(description="Local day; today where it is left out.")] = None,
    pool_id: Annotated[str | None, Query(max_length=64)] = None,
) -> list[AtpView]:
    """Per SKU (`sku_id` may be repeated) and pool. SKUs that no place ever had are left out."""
    async with runtime.work() as work:
        today = local_day(work.now)
        due_by = max(today, as_of_date or today)
        parts = await queries.find_bundle_parts(work, sku_id)
        wanted = sorted({*sku_id, *(part for of_bundle in parts.values() for part in of_bundle)})
        rows = await queries.read_atp(work, wanted, due_by=due_by)
    plain = {
        (row.sku_id, row.pool_id): AtpView.model_validate({**row._mapping, "as_of_date": due_by})  # noqa: SLF001  SQLAlchemy's way
        for row in rows
    }
    asked = set(sku_id)
    views = [view for view in plain.values() if view.sku_id in asked]
    views += _bundle_views(parts, plain, due_by)
    return sorted((view for view in views if pool_id in (None, view.pool_id)), key=lambda view: (view.sku_id, view.pool_id))


@router.get("/movements", summary="Show what moved")
async def list_movements(
    paging: Paging,
    principal: Viewer,
    runtime: RuntimeOf,
    sku_id: Annotated[str | None, Query(max_length=64)] = None,
    place_id: Annotated[str | None, Query(max_length=64)] = None,
    order_id: Annotated[UUID | None, Query(description="A channel order, or a document.")] = None,
    kind: Literal[
        "received",
        "adjusted",
        "counted",
        "regraded",
        "transfer_out",
        "transfer_in",
        "handed_over",
        "allocated",
        "shipped",
        "returned",
        "sent_back",
    ]
    | None = None,
    sort: Annotated[Literal["-moved_at", "moved_at"], Query(description="Newest first, or oldest first.")] = "-moved_at",
) -> Page[MovementView]:
    """Movements are never changed; every count is their sum."""
    newest_first = sort.startswith("-")
    async with runtime.work() as work:
        rows = await queries.list_movements(
            work, paging, sku_id=sku_id, place_id=place_id, order_id=order_id, kind=kind, newest_first=newest_first
        )
    keyset = queries.movements_keyset(newest_first=newest_first)
    return keyset.page(
        rows,
        paging,
        key=lambda row: (row.movement_id,),
        item=lambda row: MovementView.model_validate(row, from_attributes=True),
    )


@router.get("/prove", summary="Prove that the counts add up")
async def prove(
    principal: Viewer,
    runtime: RuntimeOf,
    sku_id: Annotated[str | None, Query(max_length=64, description="This SKU only.")] = None,
    after: Annotated[str, Query(max_length=64, description="Go on after this SKU (`next` of the page before).")] = "",
    limit: Annotated[int, Query(ge=1, le=500, description="SKUs per page.")] = 100,
) -> ProofView:
    """Sums every movement again and compares: counts of places, pools with their holds, allocations with their orders,
    announced goods and safety. All as of one moment. The first difference is the first of the list."""
    async with runtime.work() as work:
        skus, found = await proofs.prove(work, sku_id=sku_id, after=after, limit=limit)
    differences = [
        DifferenceView(sku_id=row.sku_id, check=row.check, where=row.where, expected=row.expected, found=row.found)
        for row in found
    ]
    last = skus[-1] if sku_id is None and len(skus) == limit else None
    return ProofView(proven=not differences, skus=len(skus), differences=differences, next=last)


def _stock_view(row: Any) -> StockView:
    places: list[Mapping[str, Any]] = json.loads(row.places)
    return StockView(
        sku_id=row.sku_id,
        pool_id=row.pool_id,
        on_hand=row.on_hand,
        allocated=row.allocated,
        short=row.short,
        reserved=row.reserved,
        safety=row.safety,
        damaged=row.damaged,
        incoming=row.incoming,
        overpromised=row.overpromised,
        atp=max(0, row.free - row.safety),
        waking=row.waking,
        places=[PlaceCountView(**place, available=place["on_hand"] - place["allocated"] - place["short"]) for place in places],
    )


def _bundle_views(
    parts: Mapping[str, Mapping[str, int]], plain: Mapping[tuple[str, str], AtpView], as_of_date: date
) -> Sequence[AtpView]:
    views = []
    for bundle_id, units in parts.items():
        for pool_id in sorted({pool_id for sku_id, pool_id in plain if sku_id in units}):
            atp = {part: plain[part, pool_id].atp if (part, pool_id) in plain else 0 for part in units}
            views.append(
                AtpView(
                    sku_id=bundle_id,
                    pool_id=pool_id,
                    as_of_date=as_of_date,
                    on_hand=0,
                    allocated=0,
                    short=0,
                    reserved=0,
                    safety=0,
                    incoming=0,
                    atp=whole_sets(units, atp),
                    parts=atp,
                )
            )
    return views
