"""Documents of stock keeping: goods that came, went, were counted or graded. Each happens once, by its reference."""

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
from inventory.domain.documents import Act, Entry, ImpossibleCountError
from inventory.domain.offers import Place
from inventory.handlers.booking import Paper, book
from inventory.handlers.context import Inventory, local_day
from inventory.store import catalogue, documents, queries
from inventory.store.documents import Document, ExpectedRow, Since
from inventory.store.stock import PlaceKey
from webapi.callers import Operator, Principal, Viewer
from webapi.models import StrictModel, UtcTime
from webapi.operators import ManualReason, record_manual_act
from webapi.paging import Page, Paging
from webapi.problems import FieldError, Problem
from webapi.routing import Router

router = Router(prefix="/v1", tags=["stock"])
MOST_LINES = 1_000
KINDS = Literal["receipt", "adjustment", "count", "damage", "incoming", "transfer", "transfer_receipt", "snapshot"]
Units = Annotated[int, Field(ge=0, le=1_000_000)]


class DocumentBody(StrictModel):
    reference: Reference = Field(description="Your number for it: the same reference is booked once.")
    place_id: PlaceId


class ReceiptLineBody(StrictModel):
    sku_id: SkuId
    quantity: Quantity
    unit_cost_minor: MinorAmount | None = Field(
        default=None, description="What one unit cost, where it is known: it moves the SKU's average cost."
    )


class ReceiptBody(DocumentBody):
    """Goods that came in at a place."""

    incoming_reference: Reference | None = Field(
        default=None, description="The announcement (`POST /v1/incoming`) that these goods belong to."
    )
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


class AdjustmentBody(DocumentBody, ManualReason):
    """Units that turned out to be more or fewer than counted. Units promised to orders there are never taken away: what is
    missing of them is booked as `short`, and those orders are recalled."""

    lines: list[AdjustmentLineBody] = Field(min_length=1, max_length=MOST_LINES)


class CountLineBody(StrictModel):
    sku_id: SkuId
    counted: Units = Field(description="Good units on the shelf, those promised to orders included.")


class CountBody(DocumentBody, ManualReason):
    """A stock-take: each SKU named is set to what was counted; the difference is booked."""

    lines: list[CountLineBody] = Field(min_length=1, max_length=MOST_LINES)


class DamageLineBody(StrictModel):
    sku_id: SkuId
    quantity: Quantity
    to: Literal["damaged", "good", "scrapped"] = Field(
        description="damaged: not for sale from now on | good: damaged units that are for sale again | scrapped: thrown away"
    )


class DamageBody(DocumentBody, ManualReason):
    lines: list[DamageLineBody] = Field(min_length=1, max_length=MOST_LINES)


class DocumentView(BaseModel):
    document_id: UUID
    kind: str
    reference: str
    place_id: str
    recorded_by: str
    recorded_at: UtcTime
    lines: list[dict[str, Any]]
    """As they were given."""
    repeated: bool = False
    """True: it had been booked before; nothing happened now."""


@router.post("/receipts", status_code=201, summary="Book goods that came in")
async def add_receipt(
    body: ReceiptBody, principal: Operator, runtime: RuntimeOf, inventory: InventoryOf, response: Response
) -> DocumentView:
    """Orders that waited for these SKUs are served, oldest first. Repeating a reference with the same content answers 200
    and books nothing; with other content 409."""
    entries = [
        Entry(number, line.sku_id, Act.ADD, line.quantity, "goods_received", line.unit_cost_minor)
        for number, line in enumerate(body.lines, 1)
    ]
    async with runtime.work() as work:
        place = await place_of(body, inventory, work)
        view, document_id = await note("receipt", body, place, principal, work)
        if document_id is not None:
            incoming = await _take_from_incoming(body, place, work)
            paper = Paper(document_id, "receipt", body.reference, "received")
            await book_entries(inventory, entries, work, paper=paper, place=place, incoming=incoming)
    return answered(view, response)


@router.post("/adjustments", status_code=201, summary="Correct counts")
async def add_adjustment(
    body: AdjustmentBody, principal: Operator, runtime: RuntimeOf, inventory: InventoryOf, response: Response
) -> DocumentView:
    """Each line names why. Repeating a reference with the same content answers 200 and books nothing."""
    entries = [
        Entry(number, line.sku_id, Act.ADJUST, line.quantity, line.reason_code) for number, line in enumerate(body.lines, 1)
    ]
    return await _correct("adjustment", "adjusted", body, entries, principal, runtime, inventory, response)


@router.post("/counts", status_code=201, summary="Book a stock-take")
async def add_count(
    body: CountBody, principal: Operator, runtime: RuntimeOf, inventory: InventoryOf, response: Response
) -> DocumentView:
    """Counts become what was counted. Where fewer are there than orders were promised, the rest is `short`."""
    refuse_twice([line.sku_id for line in body.lines])
    entries = [
        Entry(number, line.sku_id, Act.COUNT, line.counted, "count_difference") for number, line in enumerate(body.lines, 1)
    ]
    return await _correct("count", "counted", body, entries, principal, runtime, inventory, response)


@router.post("/damage", status_code=201, summary="Move units between good and damaged")
async def add_damage(
    body: DamageBody, principal: Operator, runtime: RuntimeOf, inventory: InventoryOf, response: Response
) -> DocumentView:
    """Damaged units lie at the place and are not for sale. Good units that orders were promised become `short`."""
    acts = {
        "damaged": (Act.DAMAGE, "goods_damaged"),
        "good": (Act.REPAIR, "goods_repaired"),
        "scrapped": (Act.SCRAP, "goods_scrapped"),
    }
    entries = []
    for number, line in enumerate(body.lines, 1):
        act, reason_code = acts[line.to]
        entries.append(Entry(number, line.sku_id, act, line.quantity, reason_code))
    return await _correct("damage", "regraded", body, entries, principal, runtime, inventory, response)


@router.get("/documents", summary="List documents")
async def list_documents(
    paging: Paging,
    principal: Viewer,
    runtime: RuntimeOf,
    kind: KINDS | None = None,
    place_id: Annotated[str | None, Query(max_length=64)] = None,
    reference: Annotated[str | None, Query(max_length=64)] = None,
    recorded_by: Annotated[str | None, Query(max_length=200)] = None,
    sort: Annotated[
        Literal["-recorded_at", "recorded_at"], Query(description="Newest first, or oldest first.")
    ] = "-recorded_at",
) -> Page[DocumentView]:
    newest_first = sort.startswith("-")
    async with runtime.work() as work:
        rows = await queries.list_documents(
            work, paging, kind=kind, place_id=place_id, reference=reference, recorded_by=recorded_by, newest_first=newest_first
        )
    keyset = queries.documents_keyset(newest_first=newest_first)
    return keyset.page(rows, paging, key=lambda row: (row.document_id,), item=lambda row: view_of(row, row.place_id))


@router.get("/documents/{document_id}", summary="Show one document")
async def get_document(document_id: UUID, principal: Viewer, runtime: RuntimeOf) -> DocumentView:
    async with runtime.work() as work:
        row = await queries.find_document(work, document_id)
    if row is None:
        raise Problem("document_not_found", status=404)
    return view_of(row, row.place_id)


async def _correct(
    kind: str,
    movement_kind: str,
    body: AdjustmentBody | CountBody | DamageBody,
    entries: Sequence[Entry],
    principal: Principal,
    runtime: RuntimeOf,
    inventory: Inventory,
    response: Response,
) -> DocumentView:
    async with runtime.work() as work:
        place = await place_of(body, inventory, work)
        view, document_id = await note(kind, body, place, principal, work)
        if document_id is not None:
            paper = Paper(document_id, kind, body.reference, movement_kind)
            await book_entries(inventory, entries, work, paper=paper, place=place)
            await note_act(f"book_{kind}", body.place_id, body.reason, view, principal, work)
    return answered(view, response)


async def _take_from_incoming(body: ReceiptBody, place: Place, work: UnitOfWork) -> dict[PlaceKey, int]:
    """What was announced is on its way no more; returns the change."""
    if body.incoming_reference is None:
        return {}
    announcement = await documents.find_document(work, kind="incoming", reference=body.incoming_reference)
    if announcement is None or announcement.place_no != place.place_no:
        raise Problem("invalid_request", status=422, errors=[FieldError("incoming_reference", "unknown_incoming")])
    arrived: dict[str, int] = {}
    for line in body.lines:
        arrived[line.sku_id] = arrived.get(line.sku_id, 0) + line.quantity
    expected = await documents.lock_incoming(work, announcement.document_id)
    changed = [_arrive(row, arrived[row.sku_id]) for row in expected if row.sku_id in arrived]
    await documents.save_incoming(work, announcement.document_id, changed)
    before = {row.sku_id: row.left for row in expected}
    return {(row.sku_id, place.place_no): row.left - before[row.sku_id] for row in changed}


def _arrive(row: ExpectedRow, units: int) -> ExpectedRow:
    arrived = row.arrived + units
    return row._replace(arrived=arrived, is_open=row.is_open and arrived < row.announced)


async def places_of(named: Mapping[str, str], sku_ids: Sequence[str], inventory: Inventory, work: UnitOfWork) -> list[Place]:
    """The places of these fields, all of them known; the lines' SKUs have stock of their own."""
    places, _ = await inventory.places.read(work, local_day(work.now))
    wrong = [FieldError(field, "unknown_place") for field, place_id in named.items() if place_id not in places.by_id]
    known = {item.sku_id: item for item in await catalogue.get_items(work, set(sku_ids))}
    for index, sku_id in enumerate(sku_ids):
        if sku_id not in known or known[sku_id].deleted:
            wrong.append(FieldError(f"lines.{index}.sku_id", "unknown_sku"))
        elif known[sku_id].bundle_parts:
            wrong.append(FieldError(f"lines.{index}.sku_id", "bundle_has_no_stock"))
    if wrong:
        raise Problem("invalid_request", status=422, errors=wrong)
    return [places.by_id[place_id] for place_id in named.values()]


async def place_of(body: Any, inventory: Inventory, work: UnitOfWork) -> Place:
    (place,) = await places_of({"place_id": body.place_id}, [line.sku_id for line in body.lines], inventory, work)
    return place


async def note(
    kind: str, body: Any, place: Place, principal: Principal, work: UnitOfWork, *, reference: str | None = None
) -> tuple[DocumentView, UUID | None]:
    """Note a document; its id only where it is new."""
    content = body.model_dump_json(exclude={"reference"})
    reference = reference or body.reference
    document = Document(work.new_id(), kind, reference, place.place_no, content, principal.name, work.now)
    if await documents.add_document(work, document):
        return view_of(document, place.place_id), document.document_id
    known = await documents.find_document(work, kind=kind, reference=reference)
    if known is None or known.content != content:
        raise Problem("reference_reused", status=409, errors=[FieldError("reference", "reference_reused")])
    return view_of(known, place.place_id, repeated=True), None


async def book_entries(
    inventory: Inventory,
    entries: Sequence[Entry],
    work: UnitOfWork,
    *,
    paper: Paper,
    place: Place,
    incoming: Mapping[PlaceKey, int] | None = None,
    since: Since | None = None,
    field: str = "quantity",
) -> None:
    try:
        await book(inventory, entries, work, paper=paper, place=place, incoming=incoming, since=since)
    except ImpossibleCountError as error:
        wrong = FieldError(f"lines.{error.line - 1}.{field}", error.code, {"counted": error.counted})
        raise Problem("stock_refused", status=409, errors=[wrong]) from None


def refuse_twice(names: Sequence[str], *, field: str = "lines", key: str = "sku_id") -> None:
    seen: set[str] = set()
    twice = []
    for index, name in enumerate(names):
        if name in seen:
            twice.append(FieldError(f"{field}.{index}.{key}", "named_twice"))
        seen.add(name)
    if twice:
        raise Problem("invalid_request", status=422, errors=twice)


async def note_act(act: str, subject: str, why: str, view: DocumentView, principal: Principal, work: UnitOfWork) -> None:
    await record_manual_act(
        work.connection,
        tables.manual_act,
        who=principal.name,
        act=act,
        subject=subject,
        why=why,
        at=work.now,
        detail={"document_id": str(view.document_id), "lines": len(view.lines)},
    )


def view_of(document: Any, place_id: str, *, repeated: bool = False) -> DocumentView:
    return DocumentView(
        document_id=document.document_id,
        kind=document.kind,
        reference=document.reference,
        place_id=place_id,
        recorded_by=document.recorded_by,
        recorded_at=document.recorded_at,
        lines=json.loads(document.content)["lines"],
        repeated=repeated,
    )


def answered(view: DocumentView, response: Response) -> DocumentView:
    response.status_code = 200 if view.repeated else 201
    return view
