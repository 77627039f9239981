"""Orders as inventory sees them: where they stand, who waits, who is stuck."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Request
from pydantic import BaseModel

from contracts import text_of
from inventory import tables
from inventory.api.shared import InventoryOf, RuntimeOf
from inventory.handlers.redriving import RETRY_STUCK, redrive
from inventory.store import queries
from webapi.callers import Operator, Viewer
from webapi.models import UtcTime
from webapi.operators import ManualReason, record_manual_act
from webapi.paging import Page, Paging
from webapi.problems import Problem, language_of
from webapi.routing import Router

router = Router(prefix="/v1", tags=["orders"])


class HeldLineView(BaseModel):
    sku_id: str
    quantity: int
    missing: int
    """What was missing when it was last looked at."""


class OrderView(BaseModel):
    order_id: UUID
    root_id: UUID
    state: str
    """reserved | backordered | stuck | allocated | closed"""
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
    units_left: int
    """Units that have not left yet."""
    lines: list[HeldLineView]
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
        lines=_lines(order.skus, order.quantities, missing),
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
) -> Page[BackorderView]:
    """Per SKU in the order in which they will be served. An order that lacks one SKU waits under every SKU it wants."""
    async with runtime.work() as work:
        rows = await queries.list_backorders(work, paging, sku_id=sku_id, pool_id=pool_id)
    return queries.BACKORDERS.page(
        rows,
        paging,
        key=lambda row: (row.sku_id, row.pool_id, row.priority, row.received_at, row.order_id),
        item=lambda row: BackorderView.model_validate(row, from_attributes=True),
    )


@router.get("/stuck", summary="List orders that no place could take")
async def list_stuck(paging: Paging, principal: Viewer, runtime: RuntimeOf, request: Request) -> Page[StuckView]:
    """Held, and offered to routing three times in vain; oldest first. They are tried again by themselves from time to time."""
    chinese = language_of(request) == "zh"
    async with runtime.work() as work:
        rows = await queries.list_stuck(work, paging)
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


@router.post("/stuck/{order_id}/retry", status_code=202, summary="Offer a stuck order to routing again")
async def retry_stuck(
    order_id: UUID, body: ManualReason, principal: Operator, runtime: RuntimeOf, inventory: InventoryOf
) -> None:
    """With fresh stock and capacity, as if it had just been held."""
    async with runtime.work() as work:
        if not await redrive(inventory, [order_id], work):
            raise Problem("order_not_stuck", status=409)
        work.cancel_tasks(RETRY_STUCK, [str(order_id)])
        await record_manual_act(
            work.connection,
            tables.manual_act,
            who=principal.name,
            act="retry_stuck",
            subject=str(order_id),
            why=body.reason,
            at=work.now,
        )


def _lines(skus: list[str], quantities: list[int], missing: dict[str, int]) -> list[HeldLineView]:
    return [
        HeldLineView(sku_id=sku_id, quantity=quantity, missing=missing.get(sku_id, 0))
        for sku_id, quantity in zip(skus, quantities, strict=True)
    ]
