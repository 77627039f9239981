"""Orders as inventory sees them: where they stand, who waits, who is stuck."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Request
from pydantic import BaseModel, Field

from contracts import text_of
from contracts.envelope import PlaceId
from eventing import UnitOfWork
from inventory import tables
from inventory.api.shared import InventoryOf, RuntimeOf
from inventory.domain.offers import Place
from inventory.handlers.context import PICK_UP, Inventory, local_day
from inventory.handlers.redriving import RETRY_STUCK, redrive
from inventory.handlers.waking import reprioritise
from inventory.store import orders, queries, requests
from webapi.callers import Operator, Principal, Viewer
from webapi.models import UtcTime
from webapi.operators import ManualReason, record_manual_act
from webapi.paging import Page, Paging
from webapi.problems import FieldError, Problem, language_of
from webapi.routing import Router

router = Router(prefix="/v1", tags=["orders"])


class HeldLineView(BaseModel):
    sku_id: str
    quantity: int
    missing: int
    """What was missing when it was last looked at."""


class ChildView(BaseModel):
    order_id: UUID
    state: str
    attempt: int
    place_id: str | None
    units_left: int


class PendingStopView(BaseModel):
    request_id: UUID
    kind: str
    """cancel | recall"""
    origin_order_id: UUID
    origin_line: int
    sku_id: str
    quantity: int
    since: UtcTime


class OrderView(BaseModel):
    order_id: UUID
    root_id: UUID
    state: str
    """reserved | backordered | stuck | allocated | returned | split | cancelled | closed"""
    code: str | None
    """Why it waits, as a stable code."""
    why: str | None
    """The same in the caller's language."""
    step: int
    attempt: int
    """Reserves so far."""
    reoffers: int
    """How often it was offered to routing again since it was last held."""
    pool_id: str
    place_id: str | None
    fulfilment_kind: str
    priority: int
    """Lower is served first, where stock is short."""
    units_left: int
    """Units that have neither left nor been cancelled."""
    lines: list[HeldLineView]
    parent_id: UUID | None
    """The order that it was split off from."""
    children: list[ChildView]
    """Orders of the same root that were split off from it."""
    excluded_places: list[str]
    """Places that gave it back."""
    forced_place: str | None
    """The place that a person chose."""
    pending_stops: list[PendingStopView]
    """What places were asked to stop under the same root, and have not answered."""
    received_at: UtcTime
    changed_at: UtcTime


class BackorderView(BaseModel):
    sku_id: str
    pool_id: str
    order_id: UUID
    priority: int
    received_at: UtcTime
    quantity: int
    missing: int


class StuckView(BaseModel):
    order_id: UUID
    since: UtcTime
    code: str
    why: str
    attempt: int
    pool_id: str
    lines: list[HeldLineView]


@router.get("/orders/{order_id}", summary="Show one order's hold")
async def get_order(order_id: UUID, principal: Viewer, runtime: RuntimeOf, request: Request) -> OrderView:
    async with runtime.work() as work:
        order = await queries.find_order(work, order_id)
        if order is None:
            raise Problem("order_not_found", status=404)
        missing = await queries.find_missing(work, order) if order.state == "backordered" else {}
        children = await orders.find_children(work, order_id)
        stops = await requests.list_stops(work, order.root_id)
        names = await orders.find_place_ids(work, [*order.excluded, *filter(None, [order.forced_place_no])])
    code = "stock_short" if order.state == "backordered" else order.code
    short = [f"{sku_id} -{units}" for sku_id, units in missing.items()]
    why = text_of(code, {"short": short}, chinese=language_of(request) == "zh") if code else None
    return OrderView(
        order_id=order.order_id,
        root_id=order.root_id,
        state=order.state,
        code=code,
        why=why,
        step=order.step,
        attempt=order.attempt,
        reoffers=order.reoffers,
        pool_id=order.pool_id,
        place_id=order.place_id,
        fulfilment_kind=order.kind,
        units_left=order.units_left,
        priority=order.priority,
        lines=_lines(order.skus, order.quantities, missing),
        parent_id=order.parent_id,
        children=[ChildView.model_validate(child, from_attributes=True) for child in children],
        excluded_places=[names[number] for number in order.excluded],
        forced_place=names.get(order.forced_place_no),
        pending_stops=[PendingStopView.model_validate(stop, from_attributes=True) for stop in stops],
        received_at=order.received_at,
        changed_at=order.changed_at,
    )


@router.get("/backorders", summary="List waiting lines")
async def list_backorders(
    paging: Paging,
    principal: Viewer,
    runtime: RuntimeOf,
    sku_id: Annotated[str | None, Query(max_length=64)] = None,
    pool_id: Annotated[str | None, Query(max_length=64)] = None,
    order_id: UUID | None = None,
    most_priority: Annotated[int | None, Query(ge=0, le=1000, description="Only orders served as early as that.")] = None,
) -> Page[BackorderView]:
    """Per SKU in the order in which they will be served. An order that lacks one SKU waits under every SKU it wants."""
    async with runtime.work() as work:
        rows = await queries.list_backorders(
            work, paging, sku_id=sku_id, pool_id=pool_id, order_id=order_id, most_priority=most_priority
        )
    return queries.BACKORDERS.page(
        rows,
        paging,
        key=lambda row: (row.sku_id, row.pool_id, row.priority, row.received_at, row.order_id),
        item=lambda row: BackorderView.model_validate(row, from_attributes=True),
    )


@router.get("/stuck", summary="List orders that no place could take")
async def list_stuck(
    paging: Paging,
    principal: Viewer,
    runtime: RuntimeOf,
    request: Request,
    sku_id: Annotated[str | None, Query(max_length=64)] = None,
    pool_id: Annotated[str | None, Query(max_length=64)] = None,
    code: Annotated[str | None, Query(max_length=40)] = None,
) -> Page[StuckView]:
    """Held, and offered to routing three times in vain; oldest first. They are tried again by themselves from time to time."""
    chinese = language_of(request) == "zh"
    async with runtime.work() as work:
        rows = await queries.list_stuck(work, paging, sku_id=sku_id, pool_id=pool_id, code=code)
    return queries.STUCK.page(
        rows,
        paging,
        key=lambda row: (row.since, row.order_id),
        item=lambda row: StuckView(
            order_id=row.order_id,
            since=row.since,
            code=row.code,
            why=text_of(row.code, chinese=chinese),
            attempt=row.attempt,
            pool_id=row.pool_id,
            lines=_lines(row.skus, row.quantities, {}),
        ),
    )


class PlaceBody(ManualReason):
    place_id: PlaceId


class PriorityBody(ManualReason):
    priority: int = Field(ge=0, le=1000, description="Lower is served first where stock is short; 100 is normal.")


@router.post("/orders/{order_id}/redrive", status_code=202, summary="Offer a held order to routing again")
async def redrive_order(
    order_id: UUID, body: ManualReason, principal: Operator, runtime: RuntimeOf, inventory: InventoryOf
) -> None:
    """With fresh stock and capacity, as if it had just been held. A plan that is on its way is void."""
    async with runtime.work() as work:
        await _offer(order_id, "redrive_order", body.reason, principal, inventory, work)


@router.post("/orders/{order_id}/place", status_code=202, summary="Choose the place that ships a held order")
async def force_place(order_id: UUID, body: PlaceBody, principal: Operator, runtime: RuntimeOf, inventory: InventoryOf) -> None:
    """Only its stock there, and whether the place is open, count. Where that fails, the order is routed as others are."""
    async with runtime.work() as work:
        places, _ = await inventory.places.read(work, local_day(work.now))
        place = places.by_id.get(body.place_id)
        if place is None:
            raise Problem("invalid_request", status=422, errors=[FieldError("place_id", "unknown_place")])
        await _offer(order_id, "force_place", body.reason, principal, inventory, work, place=place)


@router.post("/orders/{order_id}/priority", status_code=202, summary="Change when a waiting order is served")
async def set_priority(
    order_id: UUID, body: PriorityBody, principal: Operator, runtime: RuntimeOf, inventory: InventoryOf
) -> None:
    async with runtime.work() as work:
        await _get_order(order_id, work)
        if not await reprioritise(inventory, order_id, body.priority, work):
            raise Problem("order_not_open", status=409)
        await _note("set_priority", order_id, body.reason, principal, work, priority=body.priority)


async def _offer(
    order_id: UUID,
    act: str,
    reason: str,
    principal: Principal,
    inventory: Inventory,
    work: UnitOfWork,
    *,
    place: Place | None = None,
) -> None:
    order = await _get_order(order_id, work)
    if place is not None and place.pool_id != order.pool_id:
        raise Problem("stock_refused", status=409, errors=[FieldError("place_id", "place_of_other_pool")])
    if place is not None and order.kind == PICK_UP:
        raise Problem("stock_refused", status=409, errors=[FieldError("place_id", "place_of_buyer")])
    force = None if place is None else place.place_no
    if not await redrive(inventory, [order_id], work, states=("reserved", "stuck"), force=force):
        raise Problem("order_not_held", status=409, params={"order_id": str(order_id)})
    work.cancel_tasks(RETRY_STUCK, [str(order_id)])
    await _note(act, order_id, reason, principal, work, **({} if place is None else {"place_id": place.place_id}))


async def _get_order(order_id: UUID, work: UnitOfWork) -> Any:
    order = await queries.find_order(work, order_id)
    if order is None:
        raise Problem("order_not_found", status=404)
    return order


async def _note(act: str, order_id: UUID, reason: str, principal: Principal, work: UnitOfWork, **detail: Any) -> None:
    await record_manual_act(
        work.connection,
        tables.manual_act,
        who=principal.name,
        act=act,
        subject=str(order_id),
        why=reason,
        at=work.now,
        detail=detail,
    )


def _lines(skus: list[str], quantities: list[int], missing: dict[str, int]) -> list[HeldLineView]:
    return [
        HeldLineView(sku_id=sku_id, quantity=quantity, missing=missing.get(sku_id, 0))
        for sku_id, quantity in zip(skus, quantities, strict=True)
    ]
