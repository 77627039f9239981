"""Cancels, changes, refunds and receipts: what callers ask of an order that was taken in."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Depends, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from contracts import Notes, Receiver, text_of
from contracts.envelope import Code, Id, LongText, MinorAmount, RegionCode, Text
from contracts.intake import Phone
from eventing import UnitOfWork
from ingest import store, tables
from ingest.acts import Why
from ingest.api.common import gateway_of, runtime_of
from ingest.blocks import EARLIEST, LATEST
from ingest.desk import Desk, Named, Units, find_first
from ingest.domain.bundles import sets_of
from ingest.domain.identity import order_id_of
from ingest.dossier import Bundles
from ingest.store.book import MERGED_MOST
from ingest.store.requests import REQUESTS, Kind, RefundRow, RequestRow
from webapi.callers import Principal, Viewer, requires
from webapi.idempotency import Once, OnceKey, StoredResponse
from webapi.models import StrictModel, UtcTime
from webapi.operators import Reason, record_manual_act
from webapi.paging import Page, Paging
from webapi.problems import Problem
from webapi.routing import Router

router = Router(prefix="/v1", tags=["requests"])
BY_ID = "/orders/{order_id}"
BY_CHANNEL = "/orders/by-channel/{channel}/{shop_id}/{channel_order_no}"


def _in_calendar(moment: datetime) -> datetime:
    if not EARLIEST <= moment < LATEST:
        raise PydanticCustomError("time_out_of_range", "out of range")
    return moment


CalendarTime = Annotated[UtcTime, AfterValidator(_in_calendar)]
Caller = Annotated[Principal, Depends(requires("channel", "operator"))]
Amount = Annotated[int, Field(ge=1, le=10**15)]
LineNumber = Annotated[int, Field(ge=1, le=500)]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)]
State = Literal["open", "closed", "withdrawn"]


def by_id(order_id: UUID) -> Named:
    return Named(order_id)


def by_channel(
    channel: Annotated[str, Path(max_length=64)],
    shop_id: Annotated[str, Path(max_length=64)],
    channel_order_no: Annotated[str, Path(max_length=64)],
) -> Named:
    return Named(order_id_of(channel, shop_id, channel_order_no), by_channel=True)


# Bodies


class LineUnits(StrictModel):
    """Units of one line, in the channel's units: whole bundles of a bundle's line."""

    line: LineNumber | None = None
    channel_line_id: Id | None = None
    quantity: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """None: all that is left of it."""

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.line is None) == (self.channel_line_id is None):
            raise PydanticCustomError("name_one_line", "name the line once")
        return self

    @property
    def units(self) -> Units:
        return Units(self.line, self.channel_line_id, self.quantity)


Lines = Annotated[list[LineUnits], Field(min_length=1, max_length=500)]


class CancellationBody(StrictModel):
    lines: Lines | None = None
    """None: the whole rest of the order."""
    reason: Code
    """buyer_asked | out_of_stock | wrong_price | … : a stable word."""
    note: Note = ""
    reference: Id | None = None
    """The caller's own id of the request: the same one is carried out once per order."""


class ReceiverBody(StrictModel):
    name: Text = ""
    phone: Phone = ""
    region_code: RegionCode | None = None
    province: Text = ""
    city: Text = ""
    district: Text = ""
    town: Text = ""
    street: LongText = ""
    postal_code: Annotated[str, StringConstraints(max_length=16)] = ""
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] = "CN"
    handle: LongText | None = None


class NotesBody(StrictModel):
    buyer_note: LongText = ""
    seller_note: LongText = ""
    seller_flag: Code | None = None


class ChangeBody(StrictModel):
    """What shall be otherwise. A receiver and notes are given whole: what is left out is empty from then on."""

    receiver: ReceiverBody | None = None
    notes: NotesBody | None = None
    reason: Reason
    reference: Id | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.receiver is None and self.notes is None:
            raise PydanticCustomError("change_nothing", "nothing to change")
        return self


class LineAmount(StrictModel):
    line: Annotated[int, Field(ge=0, le=500)]
    """0 is the freight."""
    amount_minor: Amount


class RefundBody(StrictModel):
    refund_id: Id
    """The platform's or payment service's own id; one refund per shop and id, for ever."""
    lines: Annotated[list[LineAmount], Field(min_length=1, max_length=501)] | None = None
    amount_minor: Amount | None = None
    """Spread over lines and freight by what is left of what was paid for each."""
    settled_at: CalendarTime
    reason: Code

    @model_validator(mode="after")
    def _says_how_much(self) -> Self:
        if (self.lines is None) == (self.amount_minor is None):
            raise PydanticCustomError("lines_or_amount", "lines or amount_minor")
        return self


class ReceiptBody(StrictModel):
    reference: Id
    """The channel's own id of the confirmation; the same one is told once per order."""
    confirmed_at: CalendarTime
    lines: Lines | None = None
    """None: all that was not cancelled."""


# Answers


class RequestLineView(BaseModel):
    line: int
    sku_id: str
    """What moves: of a bundle's line, each SKU in it."""
    asked: int
    cancelled: int
    refused: int
    open: int
    code: str
    why: str
    why_zh: str


class BundleView(BaseModel):
    """A bundle's line in whole bundles: what its parts amount to."""

    line: int
    asked: int
    cancelled: int


class RequestView(BaseModel):
    request_id: UUID
    order_id: UUID
    kind: Kind
    state: State
    reason: str
    requested_by: str
    note: str
    reference: str | None
    asked_at: UtcTime
    settled_at: UtcTime | None
    revived_as: UUID | None
    """The order that took up again what a withdrawn request had cancelled."""
    lines: list[RequestLineView]
    bundles: list[BundleView]
    fields: list[str]
    """Of a change: what was asked to be otherwise, …"""
    applied: list[str]
    refused: list[str]
    code: str
    why: str
    why_zh: str


class RefundLineView(BaseModel):
    line: int
    sku_id: str | None
    paid_minor: MinorAmount
    receivable_minor: MinorAmount
    tax_minor: MinorAmount


class RefundView(BaseModel):
    refund_id: str
    order_id: UUID
    amount_minor: int
    settled_at: UtcTime
    lines: list[RefundLineView]


class ReceiptView(BaseModel):
    order_id: UUID
    reference: str
    outcome: Literal["accepted", "duplicate"]


def request_view(row: RequestRow, bundles: Bundles) -> RequestView:
    texts = {"fields": list(row.fields), "by": row.requested_by, "units": sum(line.asked for line in row.lines.values())}
    return RequestView(
        request_id=row.request_id,
        order_id=row.order_id,
        kind=row.kind,
        state=row.progress.value,
        reason=row.reason,
        requested_by=row.requested_by,
        note=row.note,
        reference=row.reference,
        asked_at=row.asked_at,
        settled_at=row.settled_at,
        revived_as=row.revived_as,
        lines=[
            RequestLineView(
                line=key[1],
                sku_id=key[2],
                asked=line.asked,
                cancelled=line.cancelled,
                refused=line.refused,
                open=line.open,
                **_texts(row.codes.get(key, ""), {}),
            )
            for key, line in sorted(row.lines.items())
        ],
        bundles=[
            BundleView(
                line=number,
                asked=sets_of({key[2]: line.asked for key, line in row.lines.items() if key[1] == number}, counts).whole,
                cancelled=sets_of(
                    {key[2]: line.cancelled for key, line in row.lines.items() if key[1] == number}, counts
                ).whole,
            )
            for number, counts in sorted(bundles.items())
            if any(key[1] == number for key in row.lines)
        ],
        fields=list(row.fields),
        applied=list(row.applied),
        refused=list(row.refused),
        **_texts(row.code, texts),
    )


def _texts(code: str, params: dict[str, Any]) -> dict[str, str]:
    if not code:
        return {"code": "", "why": "not answered yet", "why_zh": "尚无答复"}
    return {"code": code, "why": text_of(code, params), "why_zh": text_of(code, params, chinese=True)}


def refund_view(row: RefundRow) -> RefundView:
    return RefundView(
        refund_id=row.refund_id,
        order_id=row.order_id,
        amount_minor=row.amount_minor,
        settled_at=row.settled_at,
        lines=[
            RefundLineView(
                line=number,
                sku_id=sku_id,
                paid_minor=money.paid_minor,
                receivable_minor=money.receivable_minor,
                tax_minor=money.tax_minor,
            )
            for (number, sku_id), money in row.lines.items()
        ],
    )


# Routes


def _requested_by(principal: Principal) -> str:
    return f"user:{principal.name}" if principal.has("operator") else "channel"


Do = Callable[[Desk, UnitOfWork], Awaitable[tuple[BaseModel, UUID]]]


class Act:
    """One act of a caller: a transaction, done once per idempotency key, noted with who and why."""

    def __init__(self, request: Request, once: OnceKey, principal: Principal) -> None:
        self._request = request
        self._once = once
        self._principal = principal
        self.by = _requested_by(principal)

    async def run(self, name: str, why: str, status: int, do: Do) -> Response:
        """`do(desk, work)` gives the answer's body and the order that the act is about."""
        async with runtime_of(self._request).work() as work:

            async def call() -> StoredResponse:
                answer, order_id = await do(Desk(gateway_of(self._request), work), work)
                await record_manual_act(
                    work.connection,
                    tables.manual_act,
                    who=self._principal.name,
                    act=name,
                    subject=str(order_id),
                    why=why,
                    at=work.now,
                )
                return StoredResponse(status, answer.model_dump(mode="json"))

            stored = await self._once.run(work.connection, tables.idempotency_key, self._principal, call, now=work.now)
        return stored.response()


def _act(request: Request, once: Once, principal: Caller) -> Act:
    return Act(request, once, principal)


Acting = Annotated[Act, Depends(_act)]


async def _viewed(work: UnitOfWork, row: RequestRow) -> RequestView:
    bundles = await store.requests.find_bundles(work.connection, {row.order_id})
    return request_view(row, bundles.get(row.order_id, {}))


async def _cancel(act: Act, named: Named, body: CancellationBody) -> Response:
    async def do(desk: Desk, work: UnitOfWork) -> tuple[BaseModel, UUID]:
        why = Why(body.reason, act.by, body.note, body.reference)
        row = await desk.cancel(named, None if body.lines is None else [line.units for line in body.lines], why)
        return await _viewed(work, row), row.order_id

    return await act.run("cancel_order", body.note or body.reason, 202, do)


async def _change(act: Act, named: Named, body: ChangeBody) -> Response:
    async def do(desk: Desk, work: UnitOfWork) -> tuple[BaseModel, UUID]:
        receiver = None if body.receiver is None else Receiver(**body.receiver.model_dump())
        notes = None if body.notes is None else Notes(**body.notes.model_dump())
        row = await desk.change(named, receiver, notes, Why("manual_change", act.by, body.reason, body.reference))
        return await _viewed(work, row), row.order_id

    return await act.run("change_order", body.reason, 202, do)


async def _refund(act: Act, named: Named, body: RefundBody) -> Response:
    async def do(desk: Desk, work: UnitOfWork) -> tuple[BaseModel, UUID]:
        lines = None if body.lines is None else [(line.line, line.amount_minor) for line in body.lines]
        why = Why(body.reason, act.by)
        row = await desk.refund(named, body.refund_id, body.amount_minor, lines, body.settled_at, why)
        return refund_view(row), row.order_id

    return await act.run("refund_order", body.reason, 202, do)


async def _confirm(act: Act, named: Named, body: ReceiptBody) -> Response:
    async def do(desk: Desk, work: UnitOfWork) -> tuple[BaseModel, UUID]:
        lines = None if body.lines is None else [line.units for line in body.lines]
        order_id, is_news = await desk.confirm_receipt(named, body.reference, body.confirmed_at, lines)
        outcome: Literal["accepted", "duplicate"] = "accepted" if is_news else "duplicate"
        return ReceiptView(order_id=order_id, reference=body.reference, outcome=outcome), order_id

    return await act.run("confirm_receipt", "receipt_confirmed", 202, do)


def _add_routes(path: str, named: Any, suffix: str) -> None:
    """The same acts, by our id of an order and by the channel's number of it."""

    @router.post(f"{path}/cancellation", status_code=202, response_model=RequestView, name=f"cancel_order{suffix}")
    async def cancel_order(act: Acting, order: Annotated[Named, Depends(named)], body: CancellationBody) -> Response:
        """Cancel lines of an order, or the whole rest. The answer is a request: who holds the goods decides what still stops.

        What is not on its way to the stages yet is cancelled at once. 409 names the line of which more is asked than is left.
        """
        return await _cancel(act, order, body)

    @router.post(f"{path}/changes", status_code=202, response_model=RequestView, name=f"change_order{suffix}")
    async def change_order(act: Acting, order: Annotated[Named, Depends(named)], body: ChangeBody) -> Response:
        """Ask for another receiver or other notes; whoever holds the order applies or refuses it.

        A parked order takes it at once, until a newer version of the channel replaces it.
        """
        return await _change(act, order, body)

    @router.post(f"{path}/refunds", status_code=202, response_model=RefundView, name=f"refund_order{suffix}")
    async def refund_order(act: Acting, order: Annotated[Named, Depends(named)], body: RefundBody) -> Response:
        """Tell that money went back to the buyer. It moves no goods: cancel, or take them back, for that."""
        return await _refund(act, order, body)

    @router.post(f"{path}/receipt", status_code=202, response_model=ReceiptView, name=f"confirm_receipt{suffix}")
    async def confirm_order_receipt(act: Acting, order: Annotated[Named, Depends(named)], body: ReceiptBody) -> Response:
        """Tell that the buyer, or the channel's deadline, has confirmed receipt."""
        return await _confirm(act, order, body)


_add_routes(BY_ID, by_id, "")
_add_routes(BY_CHANNEL, by_channel, "_by_channel")


@router.delete("/cancellations/{request_id}", status_code=202, response_model=RequestView, summary="Take a cancel back")
async def withdraw_cancellation(
    request_id: UUID, act: Acting, reason: Annotated[Reason, Query(description="Why; noted with your name.")]
) -> Response:
    """What is not settled yet goes on; what was cancelled already starts again as an order of its own (`revived_as`).

    409 once its money has gone back. A second time changes nothing.
    """

    async def do(desk: Desk, work: UnitOfWork) -> tuple[BaseModel, UUID]:
        rows = await desk.withdraw(request_id, Why("withdrawn", act.by, reason))
        return await _viewed(work, rows[0]), rows[0].order_id

    return await act.run("withdraw_cancellation", reason, 202, do)


async def _page(request: Request, kind: Kind, order_id: UUID | None, state: State | None, paging: Paging) -> Page[RequestView]:
    async with runtime_of(request).work() as work:
        rows = await store.requests.list_requests(
            work.connection,
            kind=kind,
            order_id=order_id,
            state=state,
            after=REQUESTS.decode(paging.next),
            limit=paging.limit,
        )
        bundles = await store.requests.find_bundles(work.connection, {row.order_id for row in rows})
    return REQUESTS.page(
        rows,
        paging,
        key=lambda row: (row.asked_at, row.request_id, row.order_id),
        item=lambda row: request_view(row, bundles.get(row.order_id, {})),
    )


@router.get("/cancellations", summary="Cancels, newest first")
async def list_cancellations(
    request: Request, principal: Viewer, paging: Paging, order_id: UUID | None = None, state: State | None = None
) -> Page[RequestView]:
    """One that a stage made itself (audit rejected the order, …) is listed like any other."""
    return await _page(request, "cancel", order_id, state, paging)


async def _one(request: Request, kind: Kind, request_id: UUID) -> RequestView:
    async with runtime_of(request).work() as work:
        rows = await store.requests.list_requests(
            work.connection, kind=kind, order_id=None, state=None, request_id=request_id, limit=MERGED_MOST
        )
        bundles = await store.requests.find_bundles(work.connection, {row.order_id for row in rows})
    if not rows:
        raise Problem(f"{'cancellation' if kind == 'cancel' else kind}_not_found", status=404)
    views = [request_view(row, bundles.get(row.order_id, {})) for row in rows]
    return views[0].model_copy(
        update={
            "lines": [line for view in views for line in view.lines],
            "bundles": [bundle for view in views for bundle in view.bundles],
        }
    )


@router.get("/cancellations/{request_id}", summary="One cancel, and what became of each line")
async def get_cancellation(request: Request, principal: Viewer, request_id: UUID) -> RequestView:
    """Where a stage cancelled several merged orders at once, the lines are those of all of them."""
    return await _one(request, "cancel", request_id)


@router.get("/changes", summary="Changes asked for, newest first")
async def list_changes(
    request: Request, principal: Viewer, paging: Paging, order_id: UUID | None = None, state: State | None = None
) -> Page[RequestView]:
    """By newer versions of the channel, and by people."""
    return await _page(request, "change", order_id, state, paging)


@router.get("/changes/{request_id}", summary="One change, and which fields were applied or refused")
async def get_change(request: Request, principal: Viewer, request_id: UUID) -> RequestView:
    """By whoever held the order when it came."""
    return await _one(request, "change", request_id)


@router.get(f"{BY_ID}/refunds", summary="What was refunded of an order")
async def list_refunds(request: Request, principal: Viewer, order_id: UUID) -> list[RefundView]:
    """In the order in which the money went back."""
    async with runtime_of(request).work() as work:
        _, first = await find_first(work, order_id)
        return [refund_view(row) for row in await store.requests.list_refunds(work.connection, first)]
