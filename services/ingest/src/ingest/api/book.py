"""The order book for people: where is it, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Path, Query, Request
from pydantic import BaseModel

from contracts import text_of
from eventing import UnitOfWork
from ingest import store
from ingest.api.common import runtime_of
from ingest.domain.arrival import State
from ingest.domain.book import FINISHED, SERVICES, STAGE_NAMES, STAGES, shown_stage
from ingest.domain.identity import order_id_of
from ingest.store.book import AnyRow, OrderFilter
from webapi.callers import Viewer
from webapi.models import UtcTime
from webapi.paging import Page, PageRequest, Paging
from webapi.problems import FieldError, Problem
from webapi.routing import Router

router = Router(prefix="/v1")


class OrderView(BaseModel):
    order_id: UUID
    channel: str
    shop_id: str
    channel_order_no: str
    source_version: int
    state: str
    """Ingest's own: sent | parked | closed."""
    stage: str
    """The furthest stage any service reports."""
    stage_at: UtcTime | None
    held: bool
    finished: bool
    posted: bool
    """At least one voucher stands in the books."""
    why: str
    why_zh: str
    flags: list[str]
    """What was odd: money_mismatch, version_conflict, newer_version."""
    currency: str
    paid_minor: int
    placed_at: UtcTime
    received_at: UtcTime
    progress_at: UtcTime | None


class TimelineEntry(BaseModel):
    at: UtcTime
    order_id: UUID
    """The order itself, or the part of it that this is about."""
    service: str
    step: int
    stage: str
    code: str
    text: str
    text_zh: str
    params: dict[str, Any]
    topic: str
    """Empty where ingest noted it without an event."""
    event_id: UUID


class PartView(BaseModel):
    order_id: UUID
    stage: str
    why: str
    why_zh: str
    posted: bool
    progress_at: UtcTime


class ActView(BaseModel):
    at: UtcTime
    who: str
    act: str
    why: str


class OrderDetail(OrderView):
    provisional: bool
    """Not sent yet: weights, taxes and the receiver's reference in `order` may still be missing."""
    order: dict[str, Any] | None
    """The order block as it travels: receiver as region, grades, tokens and masks."""
    parts: list[PartView]
    timeline: list[TimelineEntry]
    acts: list[ActView]


class StageView(BaseModel):
    stage: str
    count: int
    """Orders and parts of orders."""
    finished: bool
    oldest_progress_at: UtcTime


Sort = Literal["received_at", "placed_at", "-received_at", "-placed_at"]


@router.get("/orders", tags=["orders"], summary="List orders; find one; find what is stuck")
async def list_orders(
    paging: Paging,
    principal: Viewer,
    request: Request,
    channel: Annotated[str | None, Query(max_length=64)] = None,
    shop_id: Annotated[str | None, Query(max_length=64)] = None,
    channel_order_no: Annotated[str | None, Query(max_length=64)] = None,
    stage: Annotated[str | None, Query(max_length=40, description=f"One of: {', '.join(STAGES)}.")] = None,
    received_from: UtcTime | None = None,
    received_to: Annotated[UtcTime | None, Query(description="Exclusive.")] = None,
    q: Annotated[str | None, Query(max_length=64, description="An order id or a channel's order number, whole.")] = None,
    stuck_minutes: Annotated[
        int | None, Query(ge=1, le=525_600, description="Only orders without progress for so long that are not finished.")
    ] = None,
    sort: Annotated[Sort, Query(description="A leading minus turns it round.")] = "-received_at",
) -> Page[OrderView]:
    """Every filter narrows; the newest order received comes first unless `sort` says otherwise."""
    if stage is not None and stage not in STAGES:
        raise Problem(
            "invalid_request", status=422, errors=[FieldError("stage", "not_a_choice", {"expected": ", ".join(STAGES)})]
        )
    async with runtime_of(request).work() as work:
        wanted = OrderFilter(
            channel=channel,
            shop_id=shop_id,
            channel_order_no=channel_order_no,
            stage=stage,
            received_from=received_from,
            received_to=received_to,
            stuck_before=work.now - timedelta(minutes=stuck_minutes) if stuck_minutes is not None else None,
        )
        return await page_of(work, _searched(wanted, q), sort, paging)


@router.get(
    "/orders/by-channel/{channel}/{shop_id}/{channel_order_no}", tags=["orders"], summary="One order, by the channel's number"
)
async def get_order_by_channel(
    channel: Annotated[str, Path(max_length=64)],
    shop_id: Annotated[str, Path(max_length=64)],
    channel_order_no: Annotated[str, Path(max_length=64)],
    principal: Viewer,
    request: Request,
) -> OrderDetail:
    """Where is it, and why? Everything known of a channel order."""
    async with runtime_of(request).work() as work:
        return await detail_of(work, order_id_of(channel, shop_id, channel_order_no))


@router.get("/orders/{order_id}", tags=["orders"], summary="One order: where it is and why, with its timeline")
async def get_order(order_id: UUID, principal: Viewer, request: Request) -> OrderDetail:
    """Takes the id of a part, too, and shows the whole order that it belongs to."""
    async with runtime_of(request).work() as work:
        return await detail_of(work, order_id)


@router.get("/stages", tags=["orders"], summary="How many orders stand in each stage")
async def list_stages(principal: Viewer, request: Request) -> list[StageView]:
    """Parts of split orders count by themselves."""
    async with runtime_of(request).work() as work:
        rows = await store.book.count_stages(work.connection)
    return [
        StageView(stage=name, count=count, finished=name in FINISHED, oldest_progress_at=oldest)
        for rank, count, oldest in sorted(rows)
        for name in [STAGE_NAMES.get(rank, "unknown")]
    ]


# From rows to views


def _searched(wanted: OrderFilter, q: str | None) -> OrderFilter:
    if q is None:
        return wanted
    try:
        return replace(wanted, order_id=UUID(q))
    except ValueError:
        return replace(wanted, channel_order_no=q)


async def page_of(work: UnitOfWork, wanted: OrderFilter, sort: Sort, paging: PageRequest) -> Page[OrderView]:
    column: Literal["received_at", "placed_at"] = "placed_at" if sort.endswith("placed_at") else "received_at"
    keyset = store.book.order_list(column, descending=sort.startswith("-"))
    rows = await store.book.list_orders(
        work.connection, wanted, keyset=keyset, after=keyset.decode(paging.next), limit=paging.limit
    )
    said = {row.order_id: _said(row) for row in rows}
    entries = await store.book.find_entries(
        work.connection, [(order_id, service, step) for order_id, (_, service, step) in said.items() if step]
    )

    def key(row: AnyRow) -> Sequence[Any]:
        return (getattr(row, column), row.order_id)

    def item(row: AnyRow) -> OrderView:
        stage, service, step = said[row.order_id]
        return OrderView(**_shown(row, stage, entries.get((row.order_id, service, step))))

    return keyset.page(rows, paging, key=key, item=item)


def _said(row: AnyRow) -> tuple[str, str, int]:
    """(stage, service, step) of a row with marks; before the book has anything, what ingest itself knows."""
    marks = [getattr(row, service) or 0 for service in SERVICES]
    if not any(marks):
        return "received", "ingest", 0
    return shown_stage(marks)


def _shown(row: AnyRow, stage: str, entry: tuple[str, str, datetime] | None) -> dict[str, Any]:
    code, params, at = entry or ("", "{}", None)
    return {
        "order_id": row.order_id,
        "channel": row.channel,
        "shop_id": row.shop_id,
        "channel_order_no": row.channel_order_no,
        "source_version": row.source_version,
        "state": row.state,
        "stage": stage,
        "stage_at": at,
        "held": stage == "held",
        "finished": stage in FINISHED,
        "posted": bool(row.ledger),
        **_why(code, json.loads(params)),
        "flags": list(row.flags),
        "currency": row.currency,
        "paid_minor": row.paid_minor,
        "placed_at": row.placed_at,
        "received_at": row.received_at,
        "progress_at": row.progress_at,
    }


def _why(code: str, params: Mapping[str, Any]) -> dict[str, str]:
    """One sentence in either language; before any stage has reported, that."""
    if not code:
        return {"why": "taken in; no stage has reported yet", "why_zh": "已接单，尚无环节进展"}
    return {"why": text_of(code, params), "why_zh": text_of(code, params, chinese=True)}


async def detail_of(work: UnitOfWork, order_id: UUID) -> OrderDetail:
    connection = work.connection
    row = await store.book.find_order(connection, order_id)
    if row is None:
        raise Problem("order_not_found", status=404)
    parts = await store.book.list_parts(connection, row.order_id)
    timeline = await store.book.list_timeline(connection, [row.order_id, *(part.order_id for part in parts)])
    entries = {(entry.order_id, entry.service, entry.step): (entry.code, entry.params, entry.at) for entry in timeline}
    stage, service, step = _said(row)
    return OrderDetail(
        **_shown(row, stage, entries.get((row.order_id, service, step))),
        provisional=row.state != State.SENT,
        order=json.loads(row.block) if row.block else None,
        parts=[_part(part, entries) for part in parts if part.order_id != row.order_id],
        timeline=[_entry(entry) for entry in timeline],
        acts=[
            ActView(at=act.at, who=act.who, act=act.act, why=act.why)
            for act in await store.book.list_acts(connection, str(row.order_id))
        ],
    )


def _part(part: AnyRow, entries: Mapping[tuple[UUID, str, int], tuple[str, str, datetime]]) -> PartView:
    stage, service, step = _said(part)
    code, params, _ = entries.get((part.order_id, service, step), ("", "{}", part.progress_at))
    return PartView(
        order_id=part.order_id,
        stage=stage,
        **_why(code, json.loads(params)),
        posted=bool(part.ledger),
        progress_at=part.progress_at,
    )


def _entry(entry: AnyRow) -> TimelineEntry:
    params = json.loads(entry.params)
    return TimelineEntry(
        at=entry.at,
        order_id=entry.order_id,
        service=entry.service,
        step=entry.step,
        stage=entry.stage,
        code=entry.code,
        text=text_of(entry.code, params),
        text_zh=text_of(entry.code, params, chinese=True),
        params=params,
        topic=entry.topic,
        event_id=entry.event_id,
    )
