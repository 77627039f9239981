"""Stock: what is there, what came and went, and booking it."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, Field, field_validator
from pydantic_core import PydanticCustomError

from contracts.envelope import Code, MinorAmount, PlaceId, Quantity, SkuId
from eventing import UnitOfWork
from inventory import tables
from inventory.api.shared import InventoryOf, Reference, RuntimeOf
from inventory.handlers.context import Inventory, local_day
from inventory.handlers.waking import ImpossibleCountError, StockMove, move_stock
from inventory.store import catalogue, queries
from webapi.callers import Operator, Principal, Viewer
from webapi.models import StrictModel, UtcTime
from webapi.operators import ManualReason, record_manual_act
from webapi.paging import Page, Paging
from webapi.problems import FieldError, Problem
from webapi.routing import Router

router = Router(prefix="/v1", tags=["stock"])
MOST_LINES = 1_000


class ReceiptLineBody(StrictModel):
    sku_id: SkuId
    quantity: Quantity
    unit_cost_minor: MinorAmount | None = Field(default=None, description="What one unit cost, where it is known.")


class ReceiptBody(StrictModel):
    """Goods that came in at a place."""

    reference: Reference = Field(description="Your number for it: the same reference is booked once.")
    place_id: PlaceId
    lines: list[ReceiptLineBody] = Field(min_length=1, max_length=MOST_LINES)


class AdjustmentLineBody(StrictModel):
    sku_id: SkuId
    quantity: int = Field(ge=-1_000_000, le=1_000_000, description="Units found (positive) or missing (negative).")
    reason_code: Code = Field(description="count | damaged | expired | found | …")

    @field_validator("quantity")
    @classmethod
    def _is_not_zero(cls, value: int) -> int:
        if value == 0:
            raise PydanticCustomError("quantity_zero", "zero")
        return value


class AdjustmentBody(ManualReason):
    """Units that turned out to be more or fewer than counted. Units promised to orders there are never taken away: what is
    missing of them is booked as `short`."""

    reference: Reference = Field(description="Your number for it: the same reference is booked once.")
    place_id: PlaceId
    lines: list[AdjustmentLineBody] = Field(min_length=1, max_length=MOST_LINES)


class DocumentView(BaseModel):
    document_id: UUID
    kind: str
    reference: str
    place_id: str
    recorded_by: str
    recorded_at: UtcTime
    lines: list[dict[str, Any]]
    repeated: bool
    """True: it had been booked before; nothing happened now."""


class PlaceCountView(BaseModel):
    place_id: str
    on_hand: int
    allocated: int
    short: int
    available: int


class StockView(BaseModel):
    """ATP of one SKU in one pool with its terms: atp = max(0, on_hand - allocated - short - reserved)."""

    sku_id: str
    pool_id: str
    on_hand: int
    allocated: int
    """Pinned to orders at a place."""
    short: int
    """Promised at a place and known not to be there."""
    reserved: int
    """Held for orders, not yet pinned to a place."""
    overpromised: int
    """Held beyond what is left, because goods vanished as a fact."""
    atp: int
    waking: bool
    """Orders that wait for it are being served right now."""
    places: list[PlaceCountView]


class MovementView(BaseModel):
    movement_id: int
    moved_at: UtcTime
    kind: str
    sku_id: str
    place_id: str
    on_hand: int
    allocated: int
    short: int
    unit_cost_minor: int | None
    reason_code: str | None
    subject_id: UUID
    """The channel order; for receipts and adjustments the document."""
    cause_id: UUID
    line: int


@router.post("/receipts", status_code=201, summary="Book goods that came in")
async def add_receipt(
    body: ReceiptBody, principal: Operator, runtime: RuntimeOf, inventory: InventoryOf, response: Response
) -> DocumentView:
    """Orders that waited for these SKUs are served, oldest first. Repeating a reference with the same content answers 200
    and books nothing; with other content 409."""
    moves = [
        StockMove(number, line.sku_id, line.quantity, unit_cost_minor=line.unit_cost_minor)
        for number, line in enumerate(body.lines, 1)
    ]
    async with runtime.work() as work:
        view = await _book("receipt", "received", body, moves, principal, inventory, work)
    response.status_code = 200 if view.repeated else 201
    return view


@router.post("/adjustments", status_code=201, summary="Correct counts")
async def add_adjustment(
    body: AdjustmentBody, principal: Operator, runtime: RuntimeOf, inventory: InventoryOf, response: Response
) -> DocumentView:
    """Each line names why. Repeating a reference with the same content answers 200 and books nothing."""
    moves = [
        StockMove(number, line.sku_id, line.quantity, reason_code=line.reason_code) for number, line in enumerate(body.lines, 1)
    ]
    async with runtime.work() as work:
        view = await _book("adjustment", "adjusted", body, moves, principal, inventory, work)
        if not view.repeated:
            await record_manual_act(
                work.connection,
                tables.manual_act,
                who=principal.name,
                act="adjust_stock",
                subject=body.place_id,
                why=body.reason,
                at=work.now,
                detail={"document_id": str(view.document_id), "lines": len(body.lines)},
            )
    response.status_code = 200 if view.repeated else 201
    return view


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


@router.get("/movements", summary="Show what moved")
async def list_movements(
    paging: Paging,
    principal: Viewer,
    runtime: RuntimeOf,
    sku_id: Annotated[str | None, Query(max_length=64)] = None,
    place_id: Annotated[str | None, Query(max_length=64)] = None,
    order_id: Annotated[UUID | None, Query(description="A channel order, or the document of a receipt.")] = None,
    kind: Literal["received", "adjusted", "handed_over", "allocated", "shipped"] | None = None,
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


async def _book(
    kind: str,
    movement_kind: str,
    body: ReceiptBody | AdjustmentBody,
    moves: Sequence[StockMove],
    principal: Principal,
    inventory: Inventory,
    work: UnitOfWork,
) -> DocumentView:
    places, _ = await inventory.places.read(work, local_day(work.now))
    place = places.by_id.get(body.place_id)
    await _check_lines([line.sku_id for line in body.lines], place is not None, work)
    assert place is not None  # noqa: S101  _check_lines has raised otherwise
    content = body.model_dump_json(exclude={"reference"})
    document_id = work.new_id()
    added = await queries.add_document(
        work,
        document_id=document_id,
        kind=kind,
        reference=body.reference,
        place_no=place.place_no,
        content=content,
        recorded_by=principal.name,
    )
    document = await queries.get_document(work, kind=kind, reference=body.reference)
    if not added and document.content != content:
        raise Problem("reference_reused", status=409, errors=[FieldError("reference", "reference_reused")])
    if added:
        try:
            await move_stock(
                inventory,
                moves,
                work,
                document_id=document_id,
                kind=movement_kind,
                place_no=place.place_no,
                pool_id=place.pool_id,
            )
        except ImpossibleCountError as error:
            field = f"lines.{error.line - 1}.quantity"
            wrong = FieldError(field, error.code, {"counted": error.counted})
            raise Problem("stock_refused", status=409, errors=[wrong]) from None
    return DocumentView(
        document_id=document.document_id,
        kind=kind,
        reference=document.reference,
        place_id=body.place_id,
        recorded_by=document.recorded_by,
        recorded_at=document.recorded_at,
        lines=json.loads(document.content)["lines"],
        repeated=not added,
    )


async def _check_lines(sku_ids: Sequence[str], place_is_known: bool, work: UnitOfWork) -> None:
    wrong = [] if place_is_known else [FieldError("place_id", "unknown_place")]
    known = {item.sku_id: item for item in await catalogue.get_items(work, set(sku_ids))}
    for index, sku_id in enumerate(sku_ids):
        if sku_id not in known:
            wrong.append(FieldError(f"lines.{index}.sku_id", "unknown_sku"))
        elif known[sku_id].bundle_parts:
            wrong.append(FieldError(f"lines.{index}.sku_id", "bundle_has_no_stock"))
    if wrong:
        raise Problem("invalid_request", status=422, errors=wrong)


def _stock_view(row: Any) -> StockView:
    places: list[Mapping[str, Any]] = json.loads(row.places)
    return StockView(
        sku_id=row.sku_id,
        pool_id=row.pool_id,
        on_hand=row.on_hand,
        allocated=row.allocated,
        short=row.short,
        reserved=row.reserved,
        overpromised=row.overpromised,
        atp=row.free,
        waking=row.waking,
        places=[PlaceCountView(**place, available=place["on_hand"] - place["allocated"] - place["short"]) for place in places],
    )
