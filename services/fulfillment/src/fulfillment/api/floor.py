"""What people at a place, or an operator for them, say of a fulfilment order; and its code for the counter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request, Response
from pydantic import BaseModel, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from eventing import UnitOfWork
from fulfillment import tables
from fulfillment.api.lines import Cause, Lines, MaybeLines, Parcels, StockEffect, problems
from fulfillment.api.orders import FulfilmentOrderDetail, order_detail, order_row
from fulfillment.api.runtime import runtime_of
from fulfillment.api.shipments import ShipmentView
from fulfillment.domain import Kind
from fulfillment.handlers import Desk, counter, floor
from fulfillment.settings import Settings
from webapi.callers import Operator, Principal, requires
from webapi.idempotency import Once, StoredResponse
from webapi.models import StrictModel
from webapi.operators import ManualReason, Reason, record_manual_act
from webapi.problems import Problem
from webapi.routing import Router

router = Router(prefix="/v1/fulfilment-orders/{fulfilment_order_id}", tags=["at the place"])
Act = Callable[[Desk, Settings], Awaitable[None]]


class RejectionBody(ManualReason):
    cause: Cause = "other"
    stock_effect: StockEffect | None = Field(
        default=None,
        description="Unset: by cause. not_in_stock: nothing_left; mismatch: missing; damaged: damaged; others: none.",
    )


class ShortPickBody(ManualReason):
    lines: Lines
    stock_effect: StockEffect = "missing"


class ShipmentBody(ManualReason):
    parcels: Parcels
    final: bool = Field(default=False, description="Nothing more will come: what is left counts as picked short.")


class StopAnswerBody(ManualReason):
    stop_id: UUID | None = Field(default=None, description="Unset: the oldest stop without an answer.")
    lines: MaybeLines = Field(description="What was stopped; empty: nothing, it was too late.")


class HandoverBody(StrictModel):
    """The buyer's code; or a reason, where a person vouches for a buyer who has lost it."""

    code: Annotated[str, StringConstraints(pattern=r"^[0-9]{8}$")] | None = None
    reason: Reason | None = None

    @model_validator(mode="after")
    def _one(self) -> HandoverBody:
        if (self.code is None) == (self.reason is None):
            raise PydanticCustomError("code_or_reason", "give the code or a reason")
        return self


class PickUpCodeView(BaseModel):
    fulfilment_order_id: UUID
    code: str


@router.post("/acceptance", response_model=FulfilmentOrderDetail)
async def accept(request: Request, fulfilment_order_id: UUID, body: ManualReason, once: Once, principal: Operator) -> Response:
    """The place takes the order on."""

    async def act(desk: Desk, _: Settings) -> None:
        floor.accept_order(desk, fulfilment_order_id)

    return await _act(request, fulfilment_order_id, once, principal, "accept_order", body.reason, act)


@router.post("/rejection", response_model=FulfilmentOrderDetail)
async def reject(request: Request, fulfilment_order_id: UUID, body: RejectionBody, once: Once, principal: Operator) -> Response:
    """The place will not ship what is left: it goes back to be shipped from elsewhere."""

    async def act(desk: Desk, _: Settings) -> None:
        floor.reject(desk, fulfilment_order_id, cause=body.cause, stock_effect=body.stock_effect, reason="place_rejected")

    detail = {"cause": body.cause, "stock_effect": body.stock_effect}
    return await _act(request, fulfilment_order_id, once, principal, "reject_order", body.reason, act, detail)


@router.post("/short-pick", response_model=FulfilmentOrderDetail)
async def short_pick(
    request: Request, fulfilment_order_id: UUID, body: ShortPickBody, once: Once, principal: Operator
) -> Response:
    """The place did not find these units: they go back, the rest stays."""

    async def act(desk: Desk, _: Settings) -> None:
        lines = [line.ref() for line in body.lines]
        floor.short_pick(desk, fulfilment_order_id, lines, stock_effect=body.stock_effect)

    detail = {"lines": [line.model_dump(mode="json") for line in body.lines], "stock_effect": body.stock_effect}
    return await _act(request, fulfilment_order_id, once, principal, "short_pick", body.reason, act, detail)


@router.post("/shipment", response_model=FulfilmentOrderDetail)
async def ship(request: Request, fulfilment_order_id: UUID, body: ShipmentBody, once: Once, principal: Operator) -> Response:
    """Parcels have left the place. Send an Idempotency-Key: two equal parcels are two parcels."""

    async def act(desk: Desk, settings: Settings) -> None:
        parcels = [parcel.report() for parcel in body.parcels]
        await floor.ship_parcels(desk, fulfilment_order_id, parcels, final=body.final, policy=settings.policy())

    detail = {"parcels": len(body.parcels), "final": body.final}
    return await _act(request, fulfilment_order_id, once, principal, "ship_order", body.reason, act, detail)


@router.post("/stop-answer", response_model=FulfilmentOrderDetail)
async def answer_stop(
    request: Request, fulfilment_order_id: UUID, body: StopAnswerBody, once: Once, principal: Operator
) -> Response:
    """Answer a stop for a WMS that does not."""

    async def act(desk: Desk, _: Settings) -> None:
        lines = [line.ref() for line in body.lines]
        if not await floor.answer_stop(desk, fulfilment_order_id, lines, stop_id=body.stop_id):
            raise Problem("stop_not_found", status=404)

    detail = {"lines": [line.model_dump(mode="json") for line in body.lines]}
    return await _act(request, fulfilment_order_id, once, principal, "answer_stop", body.reason, act, detail)


@router.post("/hold", response_model=FulfilmentOrderDetail)
async def hold(request: Request, fulfilment_order_id: UUID, body: ManualReason, once: Once, principal: Operator) -> Response:
    """Let nothing of it leave for now. Not where a WMS has it: ask there."""

    async def act(desk: Desk, _: Settings) -> None:
        floor.hold(desk, fulfilment_order_id)

    return await _act(request, fulfilment_order_id, once, principal, "hold_order", body.reason, act)


@router.post("/release", response_model=FulfilmentOrderDetail)
async def release(request: Request, fulfilment_order_id: UUID, body: ManualReason, once: Once, principal: Operator) -> Response:
    """Let a held order go on."""

    async def act(desk: Desk, _: Settings) -> None:
        floor.release(desk, fulfilment_order_id)

    return await _act(request, fulfilment_order_id, once, principal, "release_order", body.reason, act)


@router.post("/resend", response_model=FulfilmentOrderDetail)
async def resend(request: Request, fulfilment_order_id: UUID, body: ManualReason, once: Once, principal: Operator) -> Response:
    """Tell the WMS once more, under the same idempotency key; stops without an answer are asked for again, too."""

    async def act(desk: Desk, _: Settings) -> None:
        floor.resend(desk, fulfilment_order_id)

    return await _act(request, fulfilment_order_id, once, principal, "resend_order", body.reason, act)


@router.get("/pick-up-code")
async def get_pick_up_code(
    request: Request,
    response: Response,
    fulfilment_order_id: UUID,
    principal: Annotated[Principal, Depends(requires("operator", "channel"))],
) -> PickUpCodeView:
    """The code that the buyer shows at the counter. Each look is noted."""
    settings: Settings = request.app.state.settings
    async with runtime_of(request).work() as work:
        row = await order_row(work, fulfilment_order_id)
        if row.kind != Kind.PICK_UP:
            raise Problem("not_a_pick_up", status=409)
        await _note(work, principal, "read_pick_up_code", fulfilment_order_id, "pick-up code", {})
    response.headers["Cache-Control"] = "no-store"
    code = counter.pick_up_code(settings.pick_up_key(), fulfilment_order_id)
    return PickUpCodeView(fulfilment_order_id=fulfilment_order_id, code=code)


@router.post("/handover", response_model=ShipmentView)
async def hand_over(
    request: Request, fulfilment_order_id: UUID, body: HandoverBody, once: Once, principal: Operator
) -> Response:
    """The buyer takes the goods: they have left the place, and are delivered.

    Five wrong codes lock the order's code for ten minutes.
    """
    settings: Settings = request.app.state.settings
    refused: list[counter.WrongCodeError | counter.LockedError] = []

    async def effect() -> StoredResponse:
        await order_row(work, fulfilment_order_id)
        with problems():
            result = await counter.pick_up(
                fulfilment_order_id, work, code=body.code, key=settings.pick_up_key(), policy=settings.policy()
            )
        if isinstance(result, counter.WrongCodeError | counter.LockedError):
            refused.append(result)
            return StoredResponse(409, {})
        detail = {"shipment_id": str(result.shipment_id), "by": "reason" if body.code is None else "code"}
        await _note(work, principal, "hand_over", fulfilment_order_id, body.reason or "pick-up code", detail)
        return StoredResponse(200, ShipmentView.model_validate(result, from_attributes=True).model_dump(mode="json"))

    async with runtime_of(request).work() as work:
        # A wrong code is a try of its own, whatever key it came under: only a hand-over is stored as an answer.
        stored = (
            await effect()
            if body.code is not None
            else await once.run(work.connection, tables.idempotency_key, principal, effect, now=work.now)
        )
    if refused and isinstance(refused[0], counter.LockedError):
        raise Problem("pick_up_locked", status=409, retry_after_seconds=refused[0].seconds)
    if refused:
        raise Problem("pick_up_code_wrong", status=409)
    return stored.response()


async def _act(
    request: Request,
    fulfilment_order_id: UUID,
    once: Once,
    principal: Principal,
    name: str,
    why: str,
    act: Act,
    detail: dict[str, Any] | None = None,
) -> Response:
    """Carry out a manual act on an order under its root's lock, note it, and show the order as it is then."""
    settings: Settings = request.app.state.settings

    async def effect() -> StoredResponse:
        await order_row(work, fulfilment_order_id)
        desk = await floor.desk_of(fulfilment_order_id, work)
        with problems():
            await act(desk, settings)
        await desk.save(policy=settings.policy())
        await _note(work, principal, name, fulfilment_order_id, why, detail or {})
        return StoredResponse(200, (await order_detail(work, fulfilment_order_id)).model_dump(mode="json"))

    async with runtime_of(request).work() as work:
        stored = await once.run(work.connection, tables.idempotency_key, principal, effect, now=work.now)
    return stored.response()


async def _note(
    work: UnitOfWork, principal: Principal, act: str, fulfilment_order_id: UUID, why: str, detail: dict[str, Any]
) -> None:
    await record_manual_act(
        work.connection,
        tables.manual_act,
        who=principal.name,
        act=act,
        subject=str(fulfilment_order_id),
        why=why,
        at=work.now,
        detail=detail,
    )
