"""Ingest over HTTP: intake from channels, the order book for people, parked orders for operators."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SkipValidation, ValidationError
from pydantic_core import to_json

from contracts import REASONS, Buyer, ChannelOrder, Receiver, text_of
from eventing import Runtime, UnitOfWork
from ingest import store, tables
from ingest.domain.arrival import State
from ingest.domain.book import FINISHED, SERVICES, STAGE_NAMES, STAGES, shown_stage
from ingest.domain.identity import order_id_of
from ingest.intake import Arrival, Gateway, Outcome
from ingest.privacy import Tokens, destination_of
from ingest.settings import Settings
from ingest.store import AnyRow, OrderFilter
from webapi.callers import Operator, Principal, Viewer, requires
from webapi.idempotency import Once, StoredResponse
from webapi.models import StrictModel, UtcTime
from webapi.operators import ManualReason, record_manual_act
from webapi.paging import Page, PageRequest, Paging
from webapi.problems import FieldError, Problem, invalid_request, language_of
from webapi.routing import MEBIBYTE, Router, body_limit
from webapi.texts import Language, register_texts, render

ORDERS_MOST = 500
ERRORS_SHOWN = 20
BODY_BYTES = 16 * MEBIBYTE
"""500 orders of 30 kB, which is ten times what a usual one has."""

register_texts(
    {
        "order_not_found": (
            "No such order. Check the id, or search with GET /v1/orders.",
            "没有这个订单。请核对编号，或用 GET /v1/orders 查询。",
        ),
        "order_not_parked": (
            "The order is not parked. Only an order that waits in ingest can be retried; see its timeline.",
            "订单未挂起。只有停留在接单环节的订单才能重试，请查看其时间线。",
        ),
        "intake_full": (
            "Too many orders are waiting to be passed on. Nothing was taken; wait {retry_after_seconds} s and send it again.",
            "待下发订单过多。本次未接收任何订单，请在 {retry_after_seconds} 秒后重试。",
        ),
        "orders_refused": (
            "No order was taken. Correct the fields listed in errors and send it again.",
            "没有接收任何订单。请按 errors 中列出的字段修改后重新发送。",
        ),
        **{
            code: (f"{REASONS[code].english}.", f"{REASONS[code].chinese}。")
            for code in ("impossible_money", "too_large", "unknown_value", "place_missing", "time_out_of_range")
        },
    }
)


def runtime_of(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def gateway_of(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


router = Router(prefix="/v1")

# Intake


class OrderBatch(BaseModel):
    """Up to 500 orders at once; each is taken or refused alone."""

    model_config = ConfigDict(extra="forbid")

    orders: Annotated[list[ChannelOrder], Field(min_length=1, max_length=ORDERS_MOST)]


class FieldProblem(BaseModel):
    field: str
    code: str
    reason: str


class IntakeResult(BaseModel):
    """What became of one order of the request, in the request's order."""

    channel: str | None
    shop_id: str | None
    channel_order_no: str | None
    order_id: UUID | None
    """The same for the same channel order, always; None where it could not be read."""
    outcome: Literal["accepted", "parked", "duplicate", "refused"]
    """accepted: on its way, or recorded where nothing is to be done. parked: taken, waits until the cause in `code` is gone."""
    code: str
    reason: str
    errors: list[FieldProblem] = []


class RefusedDraft(IntakeResult):
    """With what the texts of its errors need, for an answer that is one problem as a whole."""

    field_errors: list[FieldError] = Field(exclude=True)


class IntakeAnswer(BaseModel):
    results: list[IntakeResult]


IntakeCaller = Annotated[Principal, Depends(requires("channel", "operator"))]


@router.post(
    "/orders",
    status_code=202,
    tags=["intake"],
    summary="Take in one channel order, or up to 500",
    response_model=IntakeAnswer,
    dependencies=[Depends(body_limit(BODY_BYTES))],
)
async def add_orders(
    body: SkipValidation[ChannelOrder | OrderBatch], once: Once, principal: IntakeCaller, request: Request
) -> Response:
    """Send one `ChannelOrder` or `{"orders": […]}`. The answer is durable: an accepted order survives any crash.

    Repeating a request is safe with or without `Idempotency-Key`: the same version of the same order is a `duplicate`.
    Unknown fields are refused. 202 when at least one order was taken or known; 422 when none was; 503 with `Retry-After`
    while too many orders wait to be passed on.
    """
    settings: Settings = request.app.state.settings
    language = language_of(request)
    # The models only document the body. It is read from the bytes: strictly, once, and order by order.
    given = await request.json()
    if not isinstance(given, dict):
        raise Problem("invalid_request", status=422, errors=[FieldError("body", "not_an_object")])
    drafts = await _drafts(request, given, language)
    await _refuse_when_full(request, settings)

    async def take() -> StoredResponse:
        arrivals = [draft for draft in drafts if isinstance(draft, Arrival)]
        outcomes = iter(await gateway_of(request).take(arrivals, work))
        results = [_taken(draft.order, next(outcomes), language) if isinstance(draft, Arrival) else draft for draft in drafts]
        return StoredResponse(202, {"results": [result.model_dump(mode="json") for result in results]})

    if not any(isinstance(draft, Arrival) for draft in drafts):
        raise _none_taken([draft for draft in drafts if isinstance(draft, RefusedDraft)], single="orders" not in given)
    async with runtime_of(request).work() as work:
        stored = await once.run(work.connection, tables.idempotency_key, principal, take, now=work.now)
    return stored.response()


async def _drafts(request: Request, body: Mapping[str, Any], language: Language) -> list[Arrival | RefusedDraft]:
    """Each order of the request, ready to be taken in or refused with its reasons."""
    gateway = gateway_of(request)
    if "orders" not in body:
        items: list[Any] = [body]
        parsed = [_parse(await request.body())]
    else:
        items, parsed = _batch(body, await request.body())
    drafts: list[Arrival | RefusedDraft] = []
    for item, order in zip(items, parsed, strict=True):
        if isinstance(order, ChannelOrder):
            examined = gateway.examine(order)
            if isinstance(examined, Arrival):
                drafts.append(examined)
                continue
            drafts.append(_refused(item, [FieldError(refusal.field, refusal.code) for refusal in examined], language))
        else:
            drafts.append(_refused(item, order, language))
    return drafts


def _batch(body: Mapping[str, Any], raw: bytes) -> tuple[list[Any], list[ChannelOrder | Sequence[FieldError]]]:
    items = body["orders"]
    errors = [FieldError(name, "field_unknown") for name in body if name != "orders"]
    if not isinstance(items, list):
        errors.append(FieldError("orders", "not_a_list"))
    elif not 1 <= len(items) <= ORDERS_MOST:
        errors.append(FieldError("orders", "wrong_length", {"limits": f"1 … {ORDERS_MOST}"}))
    if errors:
        raise Problem("invalid_request", status=422, errors=errors)
    try:
        orders = OrderBatch.model_validate_json(raw, strict=True).orders
    except ValidationError:
        return items, [_parse(to_json(item)) for item in items]  # One by one, to refuse those only that are wrong.
    return items, [_strict(order) for order in orders]


def _parse(raw: bytes) -> ChannelOrder | Sequence[FieldError]:
    try:
        order = ChannelOrder.model_validate_json(raw, strict=True)
    except ValidationError as error:
        return invalid_request(error.errors(include_input=False, include_url=False)).errors
    return _strict(order)


def _strict(order: ChannelOrder) -> ChannelOrder | Sequence[FieldError]:
    unknown = [FieldError(path, "field_unknown") for path in unknown_fields(order)]
    return unknown or order


def unknown_fields(model: BaseModel, path: str = "") -> Iterable[str]:
    """Paths of fields that no model declares. On topics they are kept; here a typing slip would be lost money."""
    if model.model_extra:
        yield from (f"{path}{name}" for name in model.model_extra)
    for name in model.model_fields_set:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from unknown_fields(value, f"{path}{name}.")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from unknown_fields(item, f"{path}{name}.{index}.")


def _refused(item: Any, errors: Sequence[FieldError], language: Language) -> RefusedDraft:
    given = item if isinstance(item, dict) else {}
    named = {
        name: value
        for name in ("channel", "shop_id", "channel_order_no")
        if isinstance(value := given.get(name), str) and len(value) <= 64
    }
    order_id = order_id_of(**named) if len(named) == 3 else None
    problems = [
        FieldProblem(field=error.field, code=error.code, reason=render(error.code, language, error.params))
        for error in errors[:ERRORS_SHOWN]
    ]
    return RefusedDraft(
        channel=named.get("channel"),
        shop_id=named.get("shop_id"),
        channel_order_no=named.get("channel_order_no"),
        order_id=order_id,
        outcome="refused",
        code=problems[0].code,
        reason=problems[0].reason,
        errors=problems,
        field_errors=list(errors[:ERRORS_SHOWN]),
    )


def _taken(order: ChannelOrder, outcome: Outcome, language: Language) -> IntakeResult:
    params: Mapping[str, Any] = outcome.params
    if outcome.code in ("order_received", "order_unparked"):
        params = {"channel": order.channel, "lines": len(order.lines), "paid_minor": order.paid_minor or 0}
    return IntakeResult(
        channel=order.channel,
        shop_id=order.shop_id,
        channel_order_no=order.channel_order_no,
        order_id=outcome.order_id,
        outcome=outcome.outcome,
        code=outcome.code,
        reason=text_of(outcome.code, params, chinese=language == "zh"),
    )


def _none_taken(results: Sequence[RefusedDraft], *, single: bool) -> Problem:
    errors = [
        FieldError(error.field if single else f"orders.{index}.{error.field}".rstrip("."), error.code, error.params)
        for index, result in enumerate(results)
        for error in result.field_errors
    ]
    only = results[0].code if single else "orders_refused"
    known = only if only in ("impossible_money", "too_large") else "orders_refused"
    return Problem(known, status=422, errors=errors)


class Backlog:
    """How many outbox rows wait, looked up at most once per interval, whoever asks."""

    def __init__(self) -> None:
        self._count = 0
        self._looked_at = float("-inf")

    async def look(self, runtime: Runtime, settings: Settings) -> int:
        if time.monotonic() - self._looked_at >= settings.intake_backlog_check_seconds:
            self._looked_at = time.monotonic()
            async with runtime.work() as work:
                self._count = await store.count_backlog(work.connection, most=settings.intake_backlog_limit + 1)
        return self._count


async def _refuse_when_full(request: Request, settings: Settings) -> None:
    backlog: Backlog = request.app.state.backlog
    if await backlog.look(runtime_of(request), settings) > settings.intake_backlog_limit:
        raise Problem("intake_full", status=503, retry_after_seconds=settings.retry_after_seconds)


# The order book


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
        return await _page(work, _searched(wanted, q), sort, paging)


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
        return await _detail(work, order_id_of(channel, shop_id, channel_order_no))


@router.get("/orders/{order_id}", tags=["orders"], summary="One order: where it is and why, with its timeline")
async def get_order(order_id: UUID, principal: Viewer, request: Request) -> OrderDetail:
    """Takes the id of a part, too, and shows the whole order that it belongs to."""
    async with runtime_of(request).work() as work:
        return await _detail(work, order_id)


@router.get("/stages", tags=["orders"], summary="How many orders stand in each stage")
async def list_stages(principal: Viewer, request: Request) -> list[StageView]:
    """Parts of split orders count by themselves."""
    async with runtime_of(request).work() as work:
        rows = await store.count_stages(work.connection)
    return [
        StageView(stage=name, count=count, finished=name in FINISHED, oldest_progress_at=oldest)
        for rank, count, oldest in sorted(rows)
        for name in [STAGE_NAMES.get(rank, "unknown")]
    ]


# Parked orders


@router.get("/parked-orders", tags=["operators"], summary="Orders that wait in ingest, oldest first")
async def list_parked_orders(
    paging: Paging,
    principal: Viewer,
    request: Request,
    channel: Annotated[str | None, Query(max_length=64)] = None,
    shop_id: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[OrderView]:
    """`why` names the cause: unpaid, platform_locked, refund_open, unknown_sku. A newer version of the order replaces it."""
    async with runtime_of(request).work() as work:
        wanted = OrderFilter(channel=channel, shop_id=shop_id, parked=True)
        return await _page(work, wanted, "received_at", paging)


@router.post("/parked-orders/{order_id}/retry", tags=["operators"], summary="Decide again about a parked order")
async def retry_parked_order(order_id: UUID, body: ManualReason, principal: Operator, request: Request) -> OrderDetail:
    """Uses its latest version and today's catalogue. It may stay parked; the answer says why."""
    async with runtime_of(request).work() as work:
        outcomes = await gateway_of(request).reconsider([order_id], work)
        if order_id not in outcomes:
            if await store.find_order(work.connection, order_id) is None:
                raise Problem("order_not_found", status=404)
            raise Problem("order_not_parked", status=409)
        await record_manual_act(
            work.connection,
            tables.manual_act,
            who=principal.name,
            act="retry_parked_order",
            subject=str(order_id),
            why=body.reason,
            at=work.now,
            detail={"outcome": outcomes[order_id].outcome, "code": outcomes[order_id].code},
        )
        return await _detail(work, order_id)


# Tokens


class AddressQuery(StrictModel):
    region_code: str | None = None
    province: str = ""
    city: str = ""
    district: str = ""
    town: str = ""
    street: str


class BuyerQuery(StrictModel):
    channel: str
    buyer_id: str


class TokenQuery(ManualReason):
    """What to turn into tokens. Nothing of it is stored."""

    phone: str | None = None
    name: str | None = None
    """Counts together with phone and address only: that is a receiver."""
    address: AddressQuery | None = None
    handle: str | None = None
    """A platform's handle of a masked receiver: oaid, open_address_id."""
    buyer: BuyerQuery | None = None


class TokenView(BaseModel):
    """As they stand in `destination` and `buyer_token` of orders; None for what was not asked or cannot be told."""

    phone_token: str | None = None
    address_token: str | None = None
    receiver_token: str | None = None
    buyer_token: str | None = None


@router.post("/tokens", tags=["operators"], summary="The tokens of a phone, an address, a receiver or a buyer")
async def make_tokens(body: TokenQuery, principal: Operator, request: Request) -> TokenView:
    """For blacklists: rules compare tokens, so that no clear phone stands in one. Noted with who and why, never with what."""
    tokens: Tokens = request.app.state.tokens
    address = body.address or AddressQuery(street="")
    try:
        receiver = Receiver(
            name=body.name or "",
            phone=body.phone or "",
            region_code=address.region_code,
            province=address.province,
            city=address.city,
            district=address.district,
            town=address.town,
            street=address.street,
            handle=body.handle,
        )
    except ValidationError as error:
        raise invalid_request(error.errors(include_input=False, include_url=False)) from None
    destination = destination_of(receiver, tokens)
    async with runtime_of(request).work() as work:
        await record_manual_act(
            work.connection,
            tables.manual_act,
            who=principal.name,
            act="make_tokens",
            subject="tokens",
            why=body.reason,
            at=work.now,
            detail={"asked": sorted(body.model_fields_set - {"reason"})},
        )
    return TokenView(
        phone_token=destination.phone_token or None,
        address_token=destination.address_token or None,
        receiver_token=destination.receiver_token or None,
        buyer_token=tokens.buyer(body.buyer.channel, Buyer(buyer_id=body.buyer.buyer_id)) if body.buyer else None,
    )


# From rows to views


def _searched(wanted: OrderFilter, q: str | None) -> OrderFilter:
    if q is None:
        return wanted
    try:
        return replace(wanted, order_id=UUID(q))
    except ValueError:
        return replace(wanted, channel_order_no=q)


async def _page(work: UnitOfWork, wanted: OrderFilter, sort: Sort, paging: PageRequest) -> Page[OrderView]:
    column: Literal["received_at", "placed_at"] = "placed_at" if sort.endswith("placed_at") else "received_at"
    keyset = store.order_list(column, descending=sort.startswith("-"))
    rows = await store.list_orders(work.connection, wanted, keyset=keyset, after=keyset.decode(paging.next), limit=paging.limit)
    said = {row.order_id: _said(row) for row in rows}
    entries = await store.find_entries(
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


async def _detail(work: UnitOfWork, order_id: UUID) -> OrderDetail:
    connection = work.connection
    row = await store.find_order(connection, order_id)
    if row is None:
        raise Problem("order_not_found", status=404)
    parts = await store.list_parts(connection, row.order_id)
    timeline = await store.list_timeline(connection, [row.order_id, *(part.order_id for part in parts)])
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
            for act in await store.list_acts(connection, str(row.order_id))
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
