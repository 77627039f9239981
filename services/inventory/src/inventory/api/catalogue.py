"""SKUs and places: changed here, and nowhere else."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import time
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import BaseModel, Field, field_validator
from pydantic_core import PydanticCustomError

from contracts import CatalogItem, CatalogLocation
from contracts.envelope import Code, Count, Currency, Id, MinorAmount, PlaceId, Quantity, RateBp, RegionCode, SkuId, Text
from eventing import NewTask, Runtime, UnitOfWork
from inventory import tables
from inventory.api.shared import InventoryOf, RuntimeOf
from inventory.handlers.keeping_back import safety_tasks
from inventory.handlers.redriving import REDRIVE
from inventory.handlers.resending import resend_task
from inventory.store import catalogue, queries
from inventory.store.catalogue import Saved
from webapi.callers import Admin, Operator, Principal, Viewer
from webapi.models import StrictModel
from webapi.operators import ManualReason, Reason, record_manual_act
from webapi.paging import Page, Paging
from webapi.problems import FieldError, Problem
from webapi.routing import MEBIBYTE, Router, body_limit

router = Router(prefix="/v1", tags=["catalogue"])
MOST_ENTRIES = 1_000
ActReason = Annotated[Reason, Query(description="Noted with your name.")]


class BundlePartBody(StrictModel):
    sku_id: SkuId
    quantity: Quantity
    price_weight: Count = Field(default=1, description="Share of the bundle's price, relative to the other parts.")


class ItemBody(StrictModel):
    sku_id: SkuId
    name: Text
    category: Code = "general"
    barcode: Id | None = None
    weight_grams: Count
    tax_rate_bp: RateBp = Field(description="Output VAT in basis points: 1300 is 13 %.")
    standard_cost_minor: MinorAmount = Field(description="Cost of one unit, in minor units; stamped on every allocation.")
    currency: Currency = "CNY"
    bundle_parts: list[BundlePartBody] = Field(
        default_factory=list, max_length=50, description="Not empty: a bundle, which has no stock of its own."
    )


class ItemsBody(StrictModel):
    items: list[ItemBody] = Field(min_length=1, max_length=MOST_ENTRIES)
    reason: Reason | None = Field(default=None, description="Noted beside who changed it.")


class LocationBody(StrictModel):
    place_id: PlaceId
    name: Text
    kind: Code = Field(description="warehouse | store")
    pool_id: Id = Field(default="main", description="The pool whose stock it shares; fixed once the place exists.")
    region_code: RegionCode
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    coverage: list[Annotated[str, Field(pattern=r"^[0-9]{0,6}$")]] = Field(
        default_factory=lambda: [""],
        max_length=4000,
        description='Prefixes of region codes it ships to: "" everywhere, "33" Zhejiang, "3301" Hangzhou.',
    )
    carriers: list[Code] = Field(default_factory=list, max_length=50)
    daily_capacity: Count = Field(description="Orders it can take in one local day.")
    cut_off: time = Field(default=time(18, 0), description="Local time; orders taken later leave the next working day.")
    working_weekdays: list[Annotated[int, Field(ge=1, le=7)]] = Field(
        default_factory=lambda: [1, 2, 3, 4, 5, 6, 7], max_length=7
    )
    priority: int = Field(default=100, ge=0, le=1000, description="Lower is preferred.")
    handling_cost_minor: MinorAmount = 0
    paused: bool = Field(default=False, description="Takes no new orders; what it has goes on.")
    ships: bool = True
    pick_up: bool = False

    @field_validator("cut_off")
    @classmethod
    def _is_local(cls, value: time) -> time:
        if value.tzinfo is not None:
            raise PydanticCustomError("local_time", "local time")
        return value


class LocationsBody(StrictModel):
    locations: list[LocationBody] = Field(min_length=1, max_length=MOST_ENTRIES)
    reason: Reason | None = Field(default=None, description="Noted beside who changed it.")


class SavedView(BaseModel):
    key: str
    version: int
    changed: bool


class SavedEntries(BaseModel):
    """One result per entry, sorted by key."""

    entries: list[SavedView]


@router.put("/items", summary="Add or change SKUs", dependencies=[Depends(body_limit(4 * MEBIBYTE))])
async def put_items(body: ItemsBody, principal: Admin, runtime: RuntimeOf, inventory: InventoryOf) -> SavedEntries:
    """All or none. The version rises only where something changed; changes go out on `catalog.item`. Orders that waited
    for a new SKU go on by themselves."""
    _refuse_twice("items", "sku_id", [item.sku_id for item in body.items])
    async with runtime.work() as work:
        known = {item.sku_id: item for item in await catalogue.get_items(work, [item.sku_id for item in body.items])}
        _refuse_deleted("items", "sku_id", "item_deleted", [item.sku_id for item in body.items], known)
        _refuse_other_kind(body.items, known)
        await _check_bundles(body.items, work)
        saved = await catalogue.save_items(work, [item.model_dump() for item in body.items])
        changed = [entry.key for entry in saved if entry.changed]
        await _note("put_items", body.reason, changed, principal, work)
        work.emit(await catalogue.get_items(work, changed))
        work.add_tasks([resend_task(work), *safety_tasks(inventory, changed, work)])
        inventory.mark_levels(work, skus=[item.sku_id for item in body.items if item.bundle_parts])
        await work.arrived("item", [entry.key for entry in saved if entry.created])
    return _entries(saved)


@router.get("/items", summary="List SKUs")
async def list_items(
    paging: Paging,
    principal: Viewer,
    runtime: RuntimeOf,
    query: Annotated[str | None, Query(min_length=1, max_length=100, description="Part of SKU or name.")] = None,
    category: Annotated[str | None, Query(max_length=40)] = None,
) -> Page[CatalogItem]:
    async with runtime.work() as work:
        rows = await queries.list_items(work, paging, query=query, category=category)
    return queries.ITEMS.page(rows, paging, key=lambda row: (row["sku_id"],), item=catalogue.to_item)


@router.get("/items/{sku_id:path}", summary="Show one SKU")
async def get_item(sku_id: str, principal: Viewer, runtime: RuntimeOf) -> CatalogItem:
    async with runtime.work() as work:
        found = await catalogue.get_items(work, [sku_id])
    if not found:
        raise Problem("item_not_found", status=404)
    return found[0]


@router.put("/locations", summary="Add or change places", dependencies=[Depends(body_limit(4 * MEBIBYTE))])
async def put_locations(body: LocationsBody, principal: Admin, runtime: RuntimeOf) -> SavedEntries:
    """All or none. A new place gets its number, which it keeps for ever; changes go out on `catalog.location`."""
    _refuse_twice("locations", "place_id", [location.place_id for location in body.locations])
    async with runtime.work() as work:
        known = {place.place_id: place for place in await catalogue.get_locations(work, [b.place_id for b in body.locations])}
        _refuse_deleted("locations", "place_id", "location_deleted", [b.place_id for b in body.locations], known)
        moved = [
            FieldError(f"locations.{index}.pool_id", "pool_fixed")
            for index, location in enumerate(body.locations)
            if location.place_id in known and known[location.place_id].pool_id != location.pool_id
        ]
        if moved:
            raise Problem("pool_fixed", status=409, errors=moved)
        saved = await catalogue.save_locations(work, [location.model_dump() for location in body.locations])
        changed = [entry.key for entry in saved if entry.changed]
        await _note("put_locations", body.reason, changed, principal, work)
        changed_now = await catalogue.get_locations(work, changed)
        work.emit(changed_now)
        work.add_tasks([resend_task(work), *(open_task(place, work) for place in changed_now if not place.paused)])
        await work.arrived("location", [entry.key for entry in saved if entry.created])
    return _entries(saved)


@router.get("/locations", summary="List places")
async def list_locations(
    paging: Paging,
    principal: Viewer,
    runtime: RuntimeOf,
    pool_id: Annotated[str | None, Query(max_length=64)] = None,
    kind: Annotated[str | None, Query(max_length=40)] = None,
    paused: bool | None = None,
) -> Page[CatalogLocation]:
    async with runtime.work() as work:
        rows = await queries.list_locations(work, paging, pool_id=pool_id, kind=kind, paused=paused)
    return queries.LOCATIONS.page(rows, paging, key=lambda row: (row["place_id"],), item=catalogue.to_location)


@router.delete("/items/{sku_id:path}", status_code=204, summary="Delete a SKU")
async def delete_item(sku_id: str, reason: ActReason, principal: Admin, runtime: RuntimeOf) -> None:
    """Leaves a tombstone: readers are told, and the id is never used again. Refused while anything of it is there, promised,
    announced, or part of a bundle."""
    async with runtime.work() as work:
        if not await catalogue.get_items(work, [sku_id]):
            raise Problem("item_not_found", status=404)
        used, bundle_id = await catalogue.find_use_of_item(work, sku_id)
        if bundle_id is not None:
            raise Problem("part_of_bundle", status=409, params={"bundle": bundle_id})
        if used:
            raise Problem("still_in_use", status=409)
        if await catalogue.delete_item(work, sku_id):
            await _note("delete_item", reason, [sku_id], principal, work)
            work.emit(await catalogue.get_items(work, [sku_id]))


@router.delete("/locations/{place_id:path}", status_code=204, summary="Delete a place")
async def delete_location(place_id: str, reason: ActReason, principal: Admin, runtime: RuntimeOf) -> None:
    """Leaves a tombstone. Refused while anything is there, promised or on its way there."""
    async with runtime.work() as work:
        place = await _location(place_id, work)
        if await catalogue.find_use_of_location(work, place.place_no):
            raise Problem("still_in_use", status=409)
        if await catalogue.delete_location(work, place_id):
            await _note("delete_location", reason, [place_id], principal, work)
            work.emit(await catalogue.get_locations(work, [place_id]))


@router.post("/locations/{place_id:path}/pause", summary="Stop giving orders to a place")
async def pause_location(place_id: str, body: ManualReason, principal: Operator, runtime: RuntimeOf) -> CatalogLocation:
    """It takes no new orders; what it has goes on. Its stock stays in the pool, and is promised."""
    return await _pause(place_id, body.reason, principal, runtime, paused=True)


@router.post("/locations/{place_id:path}/resume", summary="Give orders to a place again")
async def resume_location(place_id: str, body: ManualReason, principal: Operator, runtime: RuntimeOf) -> CatalogLocation:
    """Orders of its pool that no place could take are offered again."""
    return await _pause(place_id, body.reason, principal, runtime, paused=False)


async def _pause(place_id: str, why: str, principal: Principal, runtime: Runtime, *, paused: bool) -> CatalogLocation:
    """Repeating it changes nothing."""
    async with runtime.work() as work:
        place = await _location(place_id, work)
        if place.deleted:
            raise Problem("location_deleted", status=409)
        if await catalogue.pause_location(work, place_id, paused=paused):
            await _note("pause_location" if paused else "resume_location", why, [place_id], principal, work)
            place = await _location(place_id, work)
            work.emit([place])
            if not paused:
                work.add_tasks([open_task(place, work)])
    return place


def open_task(place: CatalogLocation, work: UnitOfWork) -> NewTask:
    """Have the stuck orders of the place's pool offered again."""
    return NewTask(REDRIVE, place.place_id, work.now, {"place_id": place.place_id, "pool_id": place.pool_id})


async def _location(place_id: str, work: UnitOfWork) -> CatalogLocation:
    found = await catalogue.get_locations(work, [place_id])
    if not found:
        raise Problem("location_not_found", status=404)
    return found[0]


def _refuse_deleted(
    field: str, key: str, code: str, names: Sequence[str], known: Mapping[str, CatalogItem | CatalogLocation]
) -> None:
    gone = [
        FieldError(f"{field}.{index}.{key}", code) for index, name in enumerate(names) if name in known and known[name].deleted
    ]
    if gone:
        raise Problem(code, status=409, errors=gone)


def _refuse_other_kind(items: Sequence[ItemBody], known: Mapping[str, CatalogItem]) -> None:
    """A bundle's level is counted apart from a plain SKU's, so the one cannot become the other."""
    wrong = [
        FieldError(f"items.{index}.bundle_parts", "bundle_fixed")
        for index, item in enumerate(items)
        if item.sku_id in known and bool(known[item.sku_id].bundle_parts) != bool(item.bundle_parts)
    ]
    if wrong:
        raise Problem("bundle_fixed", status=409, errors=wrong)


async def _check_bundles(items: Sequence[ItemBody], work: UnitOfWork) -> None:
    """A bundle's parts are SKUs of the catalogue or of this request, and no bundles themselves."""
    wanted = {part.sku_id for item in items for part in item.bundle_parts}
    if not wanted:
        return
    for index, item in enumerate(items):
        _refuse_twice(f"items.{index}.bundle_parts", "sku_id", [part.sku_id for part in item.bundle_parts])
    known = {item.sku_id: bool(item.bundle_parts) for item in await catalogue.get_items(work, wanted) if not item.deleted}
    known |= {item.sku_id: bool(item.bundle_parts) for item in items}
    wrong = [
        FieldError(
            f"items.{index}.bundle_parts.{number}.sku_id",
            "unknown_sku" if part.sku_id not in known else "bundle_in_bundle",
        )
        for index, item in enumerate(items)
        for number, part in enumerate(item.bundle_parts)
        if known.get(part.sku_id, True)
    ]
    if wrong:
        raise Problem("invalid_request", status=422, errors=wrong)


def _refuse_twice(field: str, key: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    twice = []
    for index, name in enumerate(names):
        if name in seen:
            twice.append(FieldError(f"{field}.{index}.{key}", "named_twice"))
        seen.add(name)
    if twice:
        raise Problem("invalid_request", status=422, errors=twice)


async def _note(act: str, reason: str | None, changed: Sequence[str], principal: Principal, work: UnitOfWork) -> None:
    if changed:
        detail: dict[str, Any] = {"changed": changed[:100], "count": len(changed)}
        await record_manual_act(
            work.connection,
            tables.manual_act,
            who=principal.name,
            act=act,
            subject=changed[0],
            why=reason or "catalogue update",
            at=work.now,
            detail=detail,
        )


def _entries(saved: Iterable[Saved]) -> SavedEntries:
    return SavedEntries(entries=[SavedView(key=entry.key, version=entry.version, changed=entry.changed) for entry in saved])
