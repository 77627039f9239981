"""What a place's own system says it has."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Depends, Response
from pydantic import Field

from contracts.envelope import SkuId
from inventory.api.documents import (
    MOST_LINES,
    DocumentView,
    Units,
    answered,
    book_entries,
    note,
    places_of,
    refuse_twice,
)
from inventory.api.shared import InventoryOf, Reference, RuntimeOf
from inventory.domain.documents import Act, Entry
from inventory.handlers.booking import Paper
from inventory.store import documents
from webapi.callers import Principal, requires
from webapi.models import Int64, StrictModel, UtcTime
from webapi.problems import FieldError, Problem
from webapi.routing import Router

router = Router(prefix="/v1", tags=["stock"])
CLOCKS_DIFFER = timedelta(minutes=5)


class SnapshotLineBody(StrictModel):
    sku_id: SkuId
    counted: Units = Field(description="Good units on the shelf, those promised to orders included.")
    damaged: Units | None = Field(default=None, description="Units not for sale, where it tells them apart.")


class SnapshotBody(StrictModel):
    """Absolute numbers as of a moment. What moved after it is applied on top; the difference to the counts is booked."""

    reference: Reference = Field(description="Its number: the same reference is booked once.")
    taken_at: UtcTime = Field(ge=datetime(2000, 1, 1, tzinfo=UTC))
    watermark: Int64 | None = Field(
        default=None,
        ge=0,
        description="The highest movement_id (GET /v1/movements) that the numbers include. Without one, those are applied "
        "on top that were booked later than taken_at.",
    )
    whole: bool = Field(default=False, description="The place has nothing of any SKU that is not named.")
    lines: list[SnapshotLineBody] = Field(min_length=1, max_length=MOST_LINES)


@router.put("/places/{place_id:path}/snapshot", summary="Take over a place's own numbers")
async def put_snapshot(
    place_id: str,
    body: SnapshotBody,
    principal: Annotated[Principal, Depends(requires("operator", "wms"))],
    runtime: RuntimeOf,
    inventory: InventoryOf,
    response: Response,
) -> DocumentView:
    """One that was taken before the last one answers 409; several of one moment may follow each other as pages."""
    refuse_twice([line.sku_id for line in body.lines])
    async with runtime.work() as work:
        if body.taken_at > work.now + CLOCKS_DIFFER:
            raise Problem("invalid_request", status=422, errors=[FieldError("taken_at", "in_the_future")])
        if body.watermark is not None and body.watermark > await documents.find_last_movement(work):
            raise Problem("invalid_request", status=422, errors=[FieldError("watermark", "unknown_movement")])
        (place,) = await places_of({"place_id": place_id}, [line.sku_id for line in body.lines], inventory, work)
        view, document_id = await note("snapshot", body, place, principal, work, reference=f"{place.place_no}:{body.reference}")
        if document_id is None:
            return answered(view, response)
        if not await documents.take_snapshot(work, place.place_no, body.taken_at, document_id):
            last = await documents.find_snapshot_time(work, place.place_no)
            outdated = FieldError("taken_at", "snapshot_outdated", {"last": last.isoformat() if last else ""})
            raise Problem("snapshot_outdated", status=409, errors=[outdated])
        counted = {line.sku_id: (line.counted, line.damaged) for line in body.lines}
        if body.whole:
            for sku_id in await documents.find_counted_skus(work, place.place_no):
                counted.setdefault(sku_id, (0, 0))
        entries = [
            Entry(number, sku_id, Act.COUNT, good, "wms_snapshot")
            for number, (sku_id, (good, _)) in enumerate(counted.items(), 1)
        ]
        entries += [
            Entry(len(counted) + number, sku_id, Act.COUNT_DAMAGED, damaged, "wms_snapshot")
            for number, (sku_id, (_, damaged)) in enumerate(counted.items(), 1)
            if damaged is not None
        ]
        paper = Paper(document_id, "count", body.reference, "counted")
        since = documents.Since(body.taken_at, body.watermark)
        await book_entries(inventory, entries, work, paper=paper, place=place, field="counted", since=since)
    return answered(view, response)
