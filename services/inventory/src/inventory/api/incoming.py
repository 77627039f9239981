"""Goods on their way: announced by a supplier, or sent from one place to another."""

from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, Field

from contracts.envelope import PlaceId, Quantity, SkuId
from eventing import UnitOfWork
from inventory.api.documents import (
    MOST_LINES,
    DocumentBody,
    DocumentView,
    Units,
    answered,
    book_entries,
    note,
    note_act,
    place_of,
    places_of,
    refuse_twice,
)
from inventory.api.shared import InventoryOf, Reference, RuntimeOf
from inventory.domain.documents import Act, Entry
from inventory.domain.offers import Place
from inventory.handlers.booking import Paper, lock_places
from inventory.handlers.context import Inventory, local_day
from inventory.store import documents, queries, stock
from inventory.store.documents import Expected, ExpectedRow
from webapi.callers import Operator, Viewer
from webapi.models import StrictModel, UtcTime
from webapi.operators import ManualReason
from webapi.paging import Page, Paging
from webapi.problems import FieldError, Problem
from webapi.routing import Router

router = Router(prefix="/v1", tags=["stock"])


class IncomingLineBody(StrictModel):
    sku_id: SkuId
    quantity: Quantity


class IncomingBody(DocumentBody):
    """Goods that a supplier announced. They are not promised before they are received."""

    due_on: date = Field(ge=date(2000, 1, 1), le=date(2100, 1, 1))
    lines: list[IncomingLineBody] = Field(min_length=1, max_length=MOST_LINES)


class TransferBody(ManualReason):
    """Units that leave one place for another. Only those that nobody was promised can go."""

    reference: Reference = Field(description="Your number for it: the same reference is booked once.")
    from_place_id: PlaceId
    to_place_id: PlaceId
    due_on: date | None = Field(default=None, ge=date(2000, 1, 1), le=date(2100, 1, 1))
    lines: list[IncomingLineBody] = Field(min_length=1, max_length=MOST_LINES)


class ReceivedLineBody(StrictModel):
    sku_id: SkuId
    received: Units


class TransferReceiptBody(ManualReason):
    """What came of a transfer; it names every SKU that was sent, and closes it."""

    lines: list[ReceivedLineBody] = Field(min_length=1, max_length=MOST_LINES)


class ExpectedView(BaseModel):
    document_id: UUID
    kind: str
    """incoming | transfer"""
    reference: str
    place_id: str
    """Where it goes."""
    due_on: date | None
    sku_id: str
    announced: int
    arrived: int
    open: bool
    recorded_at: UtcTime


@router.post("/incoming", status_code=201, summary="Announce goods")
async def add_incoming(
    body: IncomingBody, principal: Operator, runtime: RuntimeOf, inventory: InventoryOf, response: Response
) -> DocumentView:
    """Counts as `incoming` until a receipt that names this reference, or until it is closed."""
    refuse_twice([line.sku_id for line in body.lines])
    async with runtime.work() as work:
        place = await place_of(body, inventory, work)
        view, document_id = await note("incoming", body, place, principal, work)
        if document_id is not None:
            expected = [Expected(line.sku_id, line.quantity) for line in body.lines]
            await documents.add_incoming(work, document_id, place_no=place.place_no, due_on=body.due_on, expected=expected)
            await _move(inventory, place, {row.sku_id: row.announced for row in expected}, work)
    return answered(view, response)


@router.post("/incoming/{document_id}/close", status_code=204, summary="Expect no more of it")
async def close_incoming(
    document_id: UUID, body: ManualReason, principal: Operator, runtime: RuntimeOf, inventory: InventoryOf
) -> None:
    """What has not come of an announcement counts as incoming no longer. A transfer is closed by its receipt."""
    async with runtime.work() as work:
        document = await queries.find_document(work, document_id)
        if document is None or document.kind != "incoming":
            raise Problem("document_not_found", status=404)
        left = [row for row in await documents.lock_incoming(work, document_id) if row.is_open]
        if not left:
            raise Problem("incoming_closed", status=409)
        await documents.save_incoming(work, document_id, [row._replace(is_open=False) for row in left])
        places, _ = await inventory.places.read(work, local_day(work.now))
        await _move(inventory, places.by_no[document.place_no], {row.sku_id: -row.left for row in left}, work)
        view = DocumentView(
            document_id=document_id,
            kind=document.kind,
            reference=document.reference,
            place_id=document.place_id,
            recorded_by=document.recorded_by,
            recorded_at=document.recorded_at,
            lines=[{"sku_id": row.sku_id, "left": row.left} for row in left],
        )
        await note_act("close_incoming", document.reference, body.reason, view, principal, work)


@router.get("/incoming", summary="List what is on its way")
async def list_incoming(
    paging: Paging,
    principal: Viewer,
    runtime: RuntimeOf,
    sku_id: Annotated[str | None, Query(max_length=64)] = None,
    place_id: Annotated[str | None, Query(max_length=64)] = None,
    kind: Literal["incoming", "transfer"] | None = None,
    open: Annotated[bool | None, Query(description="Only what is still expected, or only what is not.")] = None,  # noqa: A002
) -> Page[ExpectedView]:
    """Announcements and transfers, line by line, the newest first."""
    async with runtime.work() as work:
        rows = await queries.list_incoming(work, paging, sku_id=sku_id, place_id=place_id, kind=kind, is_open=open)
    return queries.INCOMING.page(
        rows,
        paging,
        key=lambda row: (row.document_id, row.sku_id),
        item=lambda row: ExpectedView.model_validate(row, from_attributes=True),
    )


@router.post("/transfers", status_code=201, summary="Send goods to another place")
async def add_transfer(
    body: TransferBody, principal: Operator, runtime: RuntimeOf, inventory: InventoryOf, response: Response
) -> DocumentView:
    """The units leave the counts of the one place and are `incoming` at the other until they are received there."""
    refuse_twice([line.sku_id for line in body.lines])
    if body.from_place_id == body.to_place_id:
        raise Problem("invalid_request", status=422, errors=[FieldError("to_place_id", "same_place")])
    entries = [
        Entry(number, line.sku_id, Act.SEND, line.quantity, "stock_transferred") for number, line in enumerate(body.lines, 1)
    ]
    async with runtime.work() as work:
        named = {"from_place_id": body.from_place_id, "to_place_id": body.to_place_id}
        place, to = await places_of(named, [line.sku_id for line in body.lines], inventory, work)
        view, document_id = await note("transfer", body, place, principal, work)
        if document_id is not None:
            costs = await stock.read_costs(work, {line.sku_id for line in body.lines})
            expected = [Expected(line.sku_id, line.quantity, costs[line.sku_id]) for line in body.lines]
            await documents.add_incoming(work, document_id, place_no=to.place_no, due_on=body.due_on, expected=expected)
            paper = Paper(document_id, "transfer_out", body.reference, "transfer_out")
            incoming = {(row.sku_id, to.place_no): row.announced for row in expected}
            await book_entries(inventory, entries, work, paper=paper, place=place, incoming=incoming)
            await note_act("send_transfer", body.from_place_id, body.reason, view, principal, work)
    return answered(view, response)


@router.post("/transfers/{document_id}/receipt", status_code=201, summary="Receive a transfer")
async def receive_transfer(
    document_id: UUID,
    body: TransferReceiptBody,
    principal: Operator,
    runtime: RuntimeOf,
    inventory: InventoryOf,
    response: Response,
) -> DocumentView:
    """All that was sent comes in at the other place, and what was not received (or more) is booked as a difference there, so
    that nothing stays in between. Repeating it with the same lines answers 200."""
    refuse_twice([line.sku_id for line in body.lines])
    async with runtime.work() as work:
        transfer = await queries.find_document(work, document_id)
        if transfer is None or transfer.kind != "transfer":
            raise Problem("document_not_found", status=404)
        sent = {row.sku_id: row for row in await documents.lock_incoming(work, document_id)}
        _check_all_named(body, sent)
        places, _ = await inventory.places.read(work, local_day(work.now))
        to = places.by_no[next(iter(sent.values())).place_no]
        view, receipt_id = await note("transfer_receipt", body, to, principal, work, reference=str(document_id))
        if receipt_id is not None:
            closed = [sent[line.sku_id]._replace(arrived=line.received, is_open=False) for line in body.lines]
            await documents.save_incoming(work, document_id, closed)
            await _receive(inventory, closed, sent, to, transfer.reference, receipt_id, work)
            await note_act("receive_transfer", to.place_id, body.reason, view, principal, work)
    return answered(view, response)


async def _receive(
    inventory: Inventory,
    closed: list[ExpectedRow],
    sent: dict[str, ExpectedRow],
    to: Place,
    reference: str,
    receipt_id: UUID,
    work: UnitOfWork,
) -> None:
    came = [
        Entry(number, row.sku_id, Act.ARRIVE, row.announced, "stock_transferred", row.unit_cost_minor)
        for number, row in enumerate(closed, 1)
    ]
    differs = [
        Entry(number, row.sku_id, Act.ADJUST, row.arrived - row.announced, "transfer_difference", row.unit_cost_minor)
        for number, row in enumerate(closed, 1)
        if row.arrived != row.announced
    ]
    paper = Paper(receipt_id, "transfer_in", reference, "transfer_in")
    less = {(row.sku_id, to.place_no): -sent[row.sku_id].left for row in closed}
    await book_entries(inventory, came, work, paper=paper, place=to, incoming=less, field="received")
    if differs:
        paper = Paper(receipt_id, "adjustment", reference, "adjusted", first_line=len(closed))
        await book_entries(inventory, differs, work, paper=paper, place=to, field="received")


def _check_all_named(body: TransferReceiptBody, sent: dict[str, ExpectedRow]) -> None:
    wrong = [
        FieldError(f"lines.{index}.sku_id", "not_sent") for index, line in enumerate(body.lines) if line.sku_id not in sent
    ]
    if len(sent) > len(body.lines) - len(wrong):
        wrong.append(FieldError("lines", "lines_missing"))
    if wrong:
        raise Problem("invalid_request", status=422, errors=wrong)


async def _move(inventory: Inventory, place: Place, units: dict[str, int], work: UnitOfWork) -> None:
    keys = {(sku_id, place.place_no): moved for sku_id, moved in units.items()}
    await stock.add_pool_rows(work, {(sku_id, place.pool_id) for sku_id in units})
    await lock_places(inventory, work, keys.keys())
    await documents.move_incoming(work, keys)
    inventory.mark_levels(work, places=keys)
