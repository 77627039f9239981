"""The order book for people: where is it, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Path, Query, Request
from pydantic import BaseModel, Field

from contracts import text_of
from contracts.envelope import Id
from eventing import UnitOfWork
from ingest import store
from ingest.api.common import runtime_of
from ingest.domain.book import FINISHED, SERVICES, STAGE_NAMES, STAGES, Together, shown_stage, together
from ingest.domain.identity import order_id_of
from ingest.store.book import AnyRow, OrderFilter, live_parts, part_state
from webapi.callers import Principal, Viewer, requires
from webapi.models import StrictModel, UtcTime
from webapi.paging import Page, PageRequest, Paging
from webapi.problems import FieldError, Problem
from webapi.routing import Router

router = Router(prefix="/v1")
STATUSES_MOST = 500
PART_SHIPPED = "part_shipped"


class OrderView(BaseModel):
    order_id: UUID
    channel: str
    shop_id: str
    channel_order_no: str
    source_version: int
    state: str
    """Ingest's own: sent | parked | closed | cancelled."""
    stage: str
    """The furthest stage of the latest attempt; of an order in parts: the least advanced of them, `part_shipped` where some
    have left and some have not; cancelled parts count only when all are."""
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
    conflict: bool
    """Another event claims the same step of the same service."""


class PartView(BaseModel):
    """One of the orders that the channel order now consists of: itself, or what it was split or merged into."""

    order_id: UUID
    root_id: UUID | None
    """Under which it moves: the channel order, or the one it was merged into or taken up again as."""
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


class RequestView(BaseModel):
    """A cancel or change that is not settled yet."""

    request_id: UUID
    kind: str
    reason: str
    requested_by: str
    asked_at: UtcTime
    asked: int
    """Units, in units of the SKUs that move; 0 for a change."""
    cancelled: int
    refused: int


class OrderDetail(OrderView):
    provisional: bool
    """Not sent yet: weights, taxes and the receiver's reference in `order` may still be missing."""
    order: dict[str, Any] | None
    """The order block as it travels: receiver as region, grades, tokens and masks."""
    erased_at: UtcTime | None
    """When its personal data was destroyed: the receiver's masks and tokens are empty since."""
    parts: list[PartView]
    """The orders that count; one, itself, for an order that nobody split or merged. None before any stage has reported."""
    open_requests: list[RequestView]
    timeline: list[TimelineEntry]
    """Of the order, of its parts, and of the orders that these replaced."""
    acts: list[ActView]


class StageView(BaseModel):
    stage: str
    count: int
    """Channel orders, by the stage that the list of orders shows."""
    finished: bool
    oldest_progress_at: UtcTime


class OrderName(StrictModel):
    channel: Id
    shop_id: Id
    channel_order_no: Id


class StatusQuery(StrictModel):
    orders: Annotated[list[OrderName], Field(min_length=1, max_length=STATUSES_MOST)]


class StatusView(BaseModel):
    channel: str
    shop_id: str
    channel_order_no: str
    order_id: UUID | None
    """None where there is no such order; all that follows is then empty."""
    stage: str | None = None
    state: str | None = None
    finished: bool | None = None
    why: str | None = None
    why_zh: str | None = None
    progress_at: UtcTime | None = None


class StatusAnswer(BaseModel):
    statuses: list[StatusView]
    """In the order asked."""


StatusCaller = Annotated[Principal, Depends(requires("viewer", "channel"))]
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


@router.post("/orders/status", tags=["orders"], summary="Where up to 500 orders are, by the channels' numbers")
async def get_statuses(body: StatusQuery, principal: StatusCaller, request: Request) -> StatusAnswer:
    """One status for each order asked, in that order; unknown ones are answered, too."""
    named = [(name, order_id_of(name.channel, name.shop_id, name.channel_order_no)) for name in body.orders]
    async with runtime_of(request).work() as work:
        rows = await store.book.find_standing(work.connection, {order_id for _, order_id in named})
        views = await _views(work, list(rows.values()))
    return StatusAnswer(statuses=[_status(name, views.get(order_id)) for name, order_id in named])


@router.get("/orders/{order_id}", tags=["orders"], summary="One order: where it is and why, with its timeline")
async def get_order(order_id: UUID, principal: Viewer, request: Request) -> OrderDetail:
    """Takes the id of a part, too, and shows the whole order that it belongs to."""
    async with runtime_of(request).work() as work:
        return await detail_of(work, order_id)


@router.get("/stages", tags=["orders"], summary="How many orders stand in each stage")
async def list_stages(
    principal: Viewer,
    request: Request,
    stuck_minutes: Annotated[
        int | None,
        Query(ge=1, le=525_600, description="Only unfinished orders of which some part has made no progress for so long."),
    ] = None,
) -> list[StageView]:
    """The same stages, and the same orders, as `GET /v1/orders?stage=`."""
    async with runtime_of(request).work() as work:
        before = work.now - timedelta(minutes=stuck_minutes) if stuck_minutes is not None else None
        rows = await store.book.count_stages(work.connection, before=before)
    return [
        StageView(stage=name, count=count, finished=name in FINISHED, oldest_progress_at=oldest)
        for rank, count, oldest in sorted(rows)
        for name in [STAGE_NAMES.get(rank, "unknown")]
        if before is None or name not in FINISHED
    ]


def _searched(wanted: OrderFilter, q: str | None) -> OrderFilter:
    if q is None:
        return wanted
    try:
        return replace(wanted, order_id=UUID(q))
    except ValueError:
        return replace(wanted, channel_order_no=q)


async def page_of(work: UnitOfWork, wanted: OrderFilter, sort: Sort, paging: PageRequest) -> Page[OrderView]:
    """A page of the list of orders."""
    column: Literal["received_at", "placed_at"] = "placed_at" if sort.endswith("placed_at") else "received_at"
    keyset = store.book.order_list(column, descending=sort.startswith("-"))
    rows = await store.book.list_orders(
        work.connection, wanted, keyset=keyset, after=keyset.decode(paging.next), limit=paging.limit
    )
    views = await _views(work, rows)

    def key(row: AnyRow) -> Sequence[Any]:
        return (getattr(row, column), row.order_id)

    def item(row: AnyRow) -> OrderView:
        return OrderView(**views[row.order_id])

    return keyset.page(rows, paging, key=key, item=item)


Told = tuple[str, str, datetime]
"""Code, params and time of a timeline entry."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where an order stands, and the entry of the timeline that says why."""

    stage: str
    entry: tuple[UUID, str, int] | None
    """Order, service and step; None while no stage has reported."""
    posted: bool
    progress_at: datetime | None
    parts: Together | None = None


def _standing(row: AnyRow, family: Sequence[AnyRow] = ()) -> _Standing:
    """Of a channel order with its marks, from its live parts where it has some; before the book has anything, what we know."""
    if live := live_parts(family):
        parts = together(live)
        shown = parts.telling.shown
        return _Standing(
            parts.stage,
            (parts.telling.order_id, shown.service, shown.step) if shown.step else None,
            any(member.ledger for member in family),
            max(part.progress_at for part in live),
            parts,
        )
    marks = [getattr(row, service) or 0 for service in SERVICES]
    if not any(marks):
        return _Standing("received", None, posted=False, progress_at=row.progress_at)
    shown = shown_stage(marks)
    return _Standing(shown.stage, (row.order_id, shown.service, shown.step), bool(row.ledger), row.progress_at)


async def _views(work: UnitOfWork, rows: Sequence[AnyRow]) -> dict[UUID, dict[str, Any]]:
    """The fields of `OrderView` of each row; orders in parts are looked up together."""
    in_parts = [row.order_id for row in rows if row.family_stage is not None]
    families = await store.book.list_families(work.connection, in_parts) if in_parts else {}
    standings = {row.order_id: _standing(row, families.get(row.order_id, ())) for row in rows}
    entries = await store.book.find_entries(
        work.connection, [standing.entry for standing in standings.values() if standing.entry is not None]
    )
    return {row.order_id: _shown(row, standings[row.order_id], entries) for row in rows}


def _shown(row: AnyRow, standing: _Standing, entries: Mapping[tuple[UUID, str, int], Told]) -> dict[str, Any]:
    code, params, at = entries.get(standing.entry, ("", "{}", None)) if standing.entry else ("", "{}", None)
    return {
        "order_id": row.order_id,
        "channel": row.channel,
        "shop_id": row.shop_id,
        "channel_order_no": row.channel_order_no,
        "source_version": row.source_version,
        "state": row.state,
        "stage": standing.stage,
        "stage_at": at,
        "held": standing.stage == "held",
        "finished": standing.stage in FINISHED,
        "posted": standing.posted,
        **_why(code, json.loads(params), standing.parts),
        "flags": list(row.flags),
        "currency": row.currency,
        "paid_minor": row.paid_minor,
        "placed_at": row.placed_at,
        "received_at": row.received_at,
        "progress_at": standing.progress_at,
    }


def _why(code: str, params: Mapping[str, Any], parts: Together | None = None) -> dict[str, str]:
    """One sentence in either language; before any stage has reported, that. Of parts: what the least advanced says."""
    if not code:
        return {"why": "taken in; no stage has reported yet", "why_zh": "已接单，尚无环节进展"}
    english, chinese = text_of(code, params), text_of(code, params, chinese=True)
    if parts is not None and parts.stage == PART_SHIPPED:
        counts = {"shipped": parts.shipped, "parts": parts.live}
        english = f"{text_of(PART_SHIPPED, counts)}; {english}"
        chinese = f"{text_of(PART_SHIPPED, counts, chinese=True)}；{chinese}"
    return {"why": english, "why_zh": chinese}


def _status(name: OrderName, view: Mapping[str, Any] | None) -> StatusView:
    asked = name.model_dump()
    if view is None:
        return StatusView(**asked, order_id=None)
    shown = {field: view[field] for field in ("order_id", "stage", "state", "finished", "why", "why_zh", "progress_at")}
    return StatusView(**asked, **shown)


async def detail_of(work: UnitOfWork, order_id: UUID) -> OrderDetail:
    """Everything known of an order; of a part's id, the whole order that it belongs to.

    **Errors**: 404 order_not_found.
    """
    connection = work.connection
    head = await store.book.find_head(connection, order_id)
    row = await store.book.find_order(connection, head) if head is not None else None
    if row is None:
        raise Problem("order_not_found", status=404)
    family = (await store.book.list_families(connection, [row.order_id])).get(row.order_id, [])
    order_ids = {row.order_id, *(member.order_id for member in family)}
    timeline = await store.book.list_timeline(connection, order_ids)
    entries: dict[tuple[UUID, str, int], Told] = {}
    for entry in timeline:
        entries.setdefault((entry.order_id, entry.service, entry.step), (entry.code, entry.params, entry.at))
    claims = Counter((entry.order_id, entry.service, entry.step) for entry in timeline)
    return OrderDetail(
        **_shown(row, _standing(row, family), entries),
        provisional=row.sent_version is None,
        order=json.loads(row.block) if row.block else None,
        erased_at=row.erased_at,
        parts=[_part(member, entries) for member in family if not member.replaced and any(part_state(member).marks)],
        open_requests=_requests(await store.book.list_open_requests(connection, order_ids)),
        timeline=[_entry(entry, conflict=claims[entry.order_id, entry.service, entry.step] > 1) for entry in timeline],
        acts=[
            ActView(at=act.at, who=act.who, act=act.act, why=act.why)
            for act in await store.book.list_acts(connection, str(row.order_id))
        ],
    )


def _part(part: AnyRow, entries: Mapping[tuple[UUID, str, int], Told]) -> PartView:
    shown = part_state(part).shown
    code, params, _ = entries.get((part.order_id, shown.service, shown.step), ("", "{}", part.progress_at))
    return PartView(
        order_id=part.order_id,
        root_id=part.root_id,
        stage=shown.stage,
        **_why(code, json.loads(params)),
        posted=bool(part.ledger),
        progress_at=part.progress_at,
    )


def _requests(rows: Iterable[AnyRow]) -> list[RequestView]:
    return [RequestView(**row._asdict()) for row in rows]


def _entry(entry: AnyRow, *, conflict: bool) -> TimelineEntry:
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
        conflict=conflict,
    )
