"""Intake from channels, and parked orders for operators."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SkipValidation, ValidationError
from pydantic_core import to_json

from contracts import ChannelOrder, text_of
from eventing import Runtime
from ingest import store, tables
from ingest.api.book import OrderDetail, OrderView, detail_of, page_of
from ingest.api.common import gateway_of, runtime_of
from ingest.api.gathering import Gathering
from ingest.domain.identity import order_id_of
from ingest.intake import Arrival, Outcome
from ingest.settings import Settings
from ingest.store.book import OrderFilter
from webapi.callers import Operator, Principal, Viewer, requires
from webapi.idempotency import Once, StoredResponse
from webapi.operators import ManualReason, record_manual_act
from webapi.paging import Page, Paging
from webapi.problems import FieldError, Problem, invalid_request, language_of
from webapi.routing import MEBIBYTE, Router, body_limit
from webapi.texts import Language, render

ORDERS_MOST = 500
ERRORS_SHOWN = 20
BODY_BYTES = 16 * MEBIBYTE
"""500 orders of 30 kB, which is ten times what a usual one has."""

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
    await _refuse_when_full(request, request.app.state.settings)  # Before any order is looked at: a refusal shall cost little.
    language = language_of(request)
    # The models only document the body. It is read from the bytes: strictly, once, and order by order.
    given = await request.json()
    if not isinstance(given, dict):
        raise Problem("invalid_request", status=422, errors=[FieldError("body", "not_an_object")])
    if "orders" not in given and len(await request.body()) > MEBIBYTE:
        raise Problem("body_too_large", status=413, params={"limit_bytes": MEBIBYTE})
    drafts = await _drafts(request, given, language)

    def answer(outcomes: Iterable[Outcome]) -> StoredResponse:
        told = iter(outcomes)
        results = [_taken(draft.order, next(told), language) if isinstance(draft, Arrival) else draft for draft in drafts]
        return StoredResponse(202, {"results": [result.model_dump(mode="json") for result in results]})

    async def take() -> StoredResponse:
        arrivals = [draft for draft in drafts if isinstance(draft, Arrival)]
        return answer(await gateway_of(request).take(arrivals, work))

    if not any(isinstance(draft, Arrival) for draft in drafts):
        raise _none_taken([draft for draft in drafts if isinstance(draft, RefusedDraft)], single="orders" not in given)
    try:
        if once.key is None and len(drafts) == 1 and isinstance(drafts[0], Arrival):
            gathering: Gathering = request.app.state.gathering
            return answer([await gathering.take(drafts[0], runtime_of(request), gateway_of(request))]).response()
        async with runtime_of(request).work() as work:
            stored = await once.run(work.connection, tables.idempotency_key, principal, take, now=work.now)
    except store.requests.RefundKnownError:  # A moment ago, by another caller: sent again, it is found.
        raise Problem("unavailable", status=503, retry_after_seconds=1) from None
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
                self._count = await store.orders.count_backlog(work.connection, most=settings.intake_backlog_limit + 1)
        return self._count


async def _refuse_when_full(request: Request, settings: Settings) -> None:
    backlog: Backlog = request.app.state.backlog
    if await backlog.look(runtime_of(request), settings) > settings.intake_backlog_limit:
        raise Problem("intake_full", status=503, retry_after_seconds=settings.retry_after_seconds)


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
        return await page_of(work, wanted, "received_at", paging)


@router.post("/parked-orders/{order_id}/retry", tags=["operators"], summary="Decide again about a parked order")
async def retry_parked_order(order_id: UUID, body: ManualReason, principal: Operator, request: Request) -> OrderDetail:
    """Uses its latest version and today's catalogue. It may stay parked; the answer says why."""
    async with runtime_of(request).work() as work:
        outcomes = await gateway_of(request).reconsider([order_id], work)
        if order_id not in outcomes:
            if await store.book.find_order(work.connection, order_id) is None:
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
        return await detail_of(work, order_id)
