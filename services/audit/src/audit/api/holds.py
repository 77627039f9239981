"""Orders and their holds: the work list, releasing, rejecting, holding by hand, taking back."""

import json
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import Row

from audit import tables
from audit.api.shared import YEAR_SECONDS, Undo, note, page_of, runtime_of
from audit.domain.holds import CANCELLED, CLEARED, HELD, MERGED, SPLIT
from audit.handlers.holds import MANUAL, carry_out, defer_act, place_hold, undo_act
from audit.store import cases as case_store
from audit.store import orders as store
from contracts import text_of
from contracts.envelope import Code, Id
from eventing import UnitOfWork
from webapi.callers import Operator, Viewer
from webapi.models import UtcTime
from webapi.operators import ManualReason
from webapi.paging import Keyset, Page, Paging
from webapi.problems import Problem, language_of
from webapi.routing import Router
from webapi.texts import Language

router = Router()
CONFLICTS = {
    CANCELLED: "order_already_cancelled",
    CLEARED: "order_already_cleared",
    SPLIT: "order_was_split",
    MERGED: "order_was_merged",
}


class HoldView(BaseModel):
    hold_id: UUID
    order_id: UUID
    channel: str
    shop_id: str
    kind: str
    scope: str
    code: str
    text: str
    """The reason in the caller's language."""
    evidence: dict[str, Any]
    rule_id: str
    rule_set_version: int
    placed_by: str
    note: str
    """Why a person placed it."""
    placed_at: UtcTime
    release_at: UtcTime | None
    status: str
    """open | released | rejected | cancelled"""
    closed_at: UtcTime | None
    closed_by: str | None
    reason: str | None
    """Why it was released or rejected, in the words of who did it."""


class DecisionView(BaseModel):
    rule_set_version: int
    rules_checked: int
    """0: not audited: the goods had been handed over, or the order was split before."""
    decided_at: UtcTime


class RelatedView(BaseModel):
    order_id: UUID
    state: str


class OrderView(BaseModel):
    order_id: UUID
    root_id: UUID
    state: str
    """held | cleared | cancelled | split | merged"""
    step: int
    channel: str
    shop_id: str
    changed_at: UtcTime
    decision: DecisionView
    holds: list[HoldView]
    parent_id: UUID | None
    """The order that it was split from."""
    merged_into: UUID | None
    children: list[RelatedView]
    """What it was split into."""
    merged_from: list[RelatedView]


class HoldFilter(BaseModel):
    status: Literal["open", "released", "rejected", "cancelled"] | None = None
    kind: Code | None = None
    code: Code | None = None
    rule_id: Id | None = None
    channel: Code | None = None
    shop_id: Id | None = None
    order_id: UUID | None = None
    placed_after: UtcTime | None = None
    placed_before: UtcTime | None = None

    def wanted(self) -> dict[str, Any]:
        given = self.model_dump(exclude={"status", "sort", "by"})
        return {**given, "state": self.status}


class SortedHoldFilter(HoldFilter):
    sort: Literal["placed_at", "-placed_at"] = "placed_at"


class FacetFilter(HoldFilter):
    by: Literal["kind", "code", "rule_id", "channel", "shop_id", "state"] = "kind"


class Facet(BaseModel):
    value: str
    holds: int


class ActBody(ManualReason):
    undo_seconds: Undo = None


class OrdersBody(ActBody):
    order_ids: list[UUID] = Field(min_length=1, max_length=500)


class HoldBody(ManualReason):
    reference: Id | None = Field(default=None, description="Your own name of this hold: sent again, it is placed once.")
    release_after_seconds: int | None = Field(default=None, ge=1, le=YEAR_SECONDS)


class ActView(BaseModel):
    act_id: UUID
    act: str
    """release_holds | release_orders | reject_orders"""
    state: str
    """waiting | done | undone"""
    subjects: list[UUID]
    reason: str
    asked_by: str
    asked_at: UtcTime
    due_at: UtcTime
    ended_at: UtcTime | None
    outcomes: dict[UUID, str] | None
    """By subject: done, not_found, or the order's state that forbids it."""


class OrderActView(OrderView):
    pending_act: ActView | None = None
    """The act, where it waits and can still be taken back."""


class BulkView(BaseModel):
    outcomes: dict[UUID, str]
    """By order: done, waiting, not_found, or the order's state that forbids it."""
    pending_act: ActView | None = None


class ActFilter(BaseModel):
    state: Literal["waiting", "done", "undone"] | None = None
    act: Literal["release_holds", "release_orders", "reject_orders"] | None = None
    asked_by: Id | None = None


HOLDS = (tables.hold.c.placed_at, datetime), (tables.hold.c.hold_id, UUID)
HOLD_ORDERS = {
    "placed_at": Keyset("holds.placed_at", *HOLDS),
    "-placed_at": Keyset("holds.placed_at", *HOLDS, descending=True),
}
ACTS = Keyset(
    "acts.asked_at", (tables.deferred_act.c.asked_at, datetime), (tables.deferred_act.c.act_id, UUID), descending=True
)


@router.get("/holds", tags=["holds"], summary="What was stopped, oldest first")
async def list_holds(
    request: Request, paging: Paging, wanted: Annotated[SortedHoldFilter, Query()], principal: Viewer
) -> Page[HoldView]:
    """With `status=open` this is the operators' work list. `sort=-placed_at` shows the newest first."""
    language = language_of(request)
    keyset = HOLD_ORDERS[wanted.sort]
    rows = await page_of(request, store.holds_where(wanted.wanted()), keyset, paging)
    return keyset.page(rows, paging, key=lambda row: (row.placed_at, row.hold_id), item=lambda row: hold_view(row, language))


@router.get("/holds/facets", tags=["holds"], summary="How many holds there are, by kind or another column")
async def count_holds(request: Request, wanted: Annotated[FacetFilter, Query()], principal: Viewer) -> list[Facet]:
    async with runtime_of(request).work() as work:
        rows = await work.connection.execute(store.count_holds(wanted.wanted(), wanted.by))
        facets = [Facet(value=row.value, holds=row.holds) for row in rows]
    return sorted(facets, key=lambda facet: (-facet.holds, facet.value))[:1000]


@router.get("/orders/{order_id}", tags=["holds"], summary="One order: decision, holds, what it came from and became")
async def get_order(order_id: UUID, request: Request, principal: Viewer) -> OrderView:
    async with runtime_of(request).work() as work:
        return OrderView(**await _order_view(work, order_id, language_of(request)))


@router.post("/orders/{order_id}/holds", tags=["holds"], status_code=201, summary="Hold a held order by hand as well")
async def add_hold(order_id: UUID, body: HoldBody, request: Request, principal: Operator) -> OrderView:
    """Only while audit has it. What has gone on is cancelled through ingest, not held."""
    async with runtime_of(request).work() as work:
        seconds = body.release_after_seconds
        due = None if seconds is None else work.now + timedelta(seconds=seconds)
        placed = await place_hold(
            work, order_id, by=principal.name, reason=body.reason, reference=body.reference, release_at=due
        )
        if placed is None:
            raise Problem("order_not_found", status=404)
        state, hold_id = placed
        if state != HELD:
            raise Problem(CONFLICTS[state], status=409, params={"order_id": str(order_id)})
        await note(work, principal.name, "place_hold", order_id, body.reason, hold_id=str(hold_id), kind=MANUAL)
        return OrderView(**await _order_view(work, order_id, language_of(request)))


@router.post("/holds/{hold_id}/release", tags=["holds"], summary="Release one hold")
async def release_hold(hold_id: UUID, body: ActBody, request: Request, principal: Operator) -> OrderActView:
    """If it is the order's last open hold, the order goes on at once. Releasing again changes nothing and answers the same."""
    async with runtime_of(request).work() as work:
        orders = await store.find_orders_of_holds(work.connection, [hold_id])
        if not orders:
            raise Problem("hold_not_found", status=404)
        return await _act(request, work, "release_holds", hold_id, orders[hold_id], body, principal.name)


@router.post("/orders/{order_id}/release", tags=["holds"], summary="Release all open holds of an order")
async def release_order(order_id: UUID, body: ActBody, request: Request, principal: Operator) -> OrderActView:
    """The order goes on at once. Releasing again changes nothing and answers the same."""
    async with runtime_of(request).work() as work:
        return await _act(request, work, "release_orders", order_id, order_id, body, principal.name)


@router.post("/orders/{order_id}/reject", tags=["holds"], summary="Reject a held order: cancel all of it")
async def reject(order_id: UUID, body: ActBody, request: Request, principal: Operator) -> OrderActView:
    """Settled as a cancel of every unit. Rejecting again changes nothing and answers the same."""
    async with runtime_of(request).work() as work:
        return await _act(request, work, "reject_orders", order_id, order_id, body, principal.name)


@router.post("/orders/release", tags=["holds"], summary="Release all open holds of many orders")
async def release_orders(body: OrdersBody, request: Request, principal: Operator) -> BulkView:
    """Each order for itself: the answer says what became of it."""
    return await _bulk(request, "release_orders", body, principal.name)


@router.post("/orders/reject", tags=["holds"], summary="Reject many held orders")
async def reject_many(body: OrdersBody, request: Request, principal: Operator) -> BulkView:
    """Each order for itself: the answer says what became of it."""
    return await _bulk(request, "reject_orders", body, principal.name)


@router.get("/acts", tags=["holds"], summary="Releases and rejects that waited or wait, newest first")
async def list_acts(
    request: Request, paging: Paging, wanted: Annotated[ActFilter, Query()], principal: Viewer
) -> Page[ActView]:
    """Only those asked for with `undo_seconds`; everything done by hand is in /v1/operations/acts."""
    rows = await page_of(request, case_store.acts_where(wanted.model_dump()), ACTS, paging)
    return ACTS.page(rows, paging, key=lambda row: (row.asked_at, row.act_id), item=act_view)


@router.post("/acts/{act_id}/undo", tags=["holds"], summary="Take a waiting release or reject back")
async def undo(act_id: UUID, body: ManualReason, request: Request, principal: Operator) -> ActView:
    """Taking it back again changes nothing and answers the same."""
    async with runtime_of(request).work() as work:
        state = await undo_act(work, act_id)
        if state is None:
            raise Problem("act_not_found", status=404)
        if state == "done":
            raise Problem("act_already_done", status=409)
        await note(work, principal.name, "undo", act_id, body.reason)
        return await _act_view(work, act_id)


async def _act(
    request: Request, work: UnitOfWork, act: str, subject: UUID, order_id: UUID, body: ActBody, by: str
) -> OrderActView:
    """Do it to one order, now or later; a state that forbids it is a 409."""
    order = await store.find_order(work.connection, order_id)
    if order is None:
        raise Problem("order_not_found", status=404)
    undo_seconds = _undo_seconds(request, body)
    pending = None
    if undo_seconds and order.state == HELD:
        act_id = await defer_act(work, act, [subject], by=by, reason=body.reason, undo_seconds=undo_seconds)
        pending = await _act_view(work, act_id)
    else:
        outcome = (await carry_out(work, act, [subject], by=by, reason=body.reason))[subject]
        if outcome != "done":
            raise Problem(CONFLICTS[outcome], status=409, params={"order_id": str(order_id)})
    await note(work, by, _NAMES[act], subject, body.reason, undo_seconds=undo_seconds)
    return OrderActView(**await _order_view(work, order_id, language_of(request)), pending_act=pending)


async def _bulk(request: Request, act: str, body: OrdersBody, by: str) -> BulkView:
    subjects = list(dict.fromkeys(body.order_ids))
    undo_seconds = _undo_seconds(request, body)
    async with runtime_of(request).work() as work:
        pending = None
        if undo_seconds:
            known = await store.find_roots(work.connection, subjects)
            outcomes = {subject: "waiting" if subject in known else "not_found" for subject in subjects}
            if known:
                waiting = [subject for subject in subjects if subject in known]
                act_id = await defer_act(work, act, waiting, by=by, reason=body.reason, undo_seconds=undo_seconds)
                pending = await _act_view(work, act_id)
        else:
            outcomes = await carry_out(work, act, subjects, by=by, reason=body.reason)
        await note(work, by, act, f"{len(subjects)} orders", body.reason, orders=[str(subject) for subject in subjects])
    return BulkView(outcomes=outcomes, pending_act=pending)


_NAMES = {"release_holds": "release_hold", "release_orders": "release_order", "reject_orders": "reject_order"}


def _undo_seconds(request: Request, body: ActBody) -> int:
    if body.undo_seconds is not None:
        return body.undo_seconds
    setting: int = request.app.state.settings.undo_seconds
    return setting


# --- shaping


def hold_view(row: Row[Any], language: Language) -> HoldView:
    evidence = json.loads(row.evidence)
    return HoldView(
        hold_id=row.hold_id,
        order_id=row.order_id,
        channel=row.channel,
        shop_id=row.shop_id,
        kind=row.kind,
        scope=row.scope,
        code=row.code,
        text=text_of(row.code, evidence, chinese=language == "zh"),
        evidence=evidence,
        rule_id=row.rule_id,
        rule_set_version=row.rule_set_version,
        placed_by=row.placed_by,
        note=row.note,
        placed_at=row.placed_at,
        release_at=row.release_at,
        status=row.state,
        closed_at=row.closed_at,
        closed_by=row.closed_by,
        reason=row.close_reason,
    )


def act_view(row: Row[Any]) -> ActView:
    return ActView(
        act_id=row.act_id,
        act=row.act,
        state=row.state,
        subjects=case_store.subjects_of(row),
        reason=row.reason,
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        due_at=row.due_at,
        ended_at=row.ended_at,
        outcomes=None if row.outcomes is None else json.loads(row.outcomes),
    )


async def _act_view(work: UnitOfWork, act_id: UUID) -> ActView:
    return act_view(await case_store.get_act(work.connection, act_id))


async def _order_view(work: UnitOfWork, order_id: UUID, language: Language) -> dict[str, Any]:
    order = await store.find_order(work.connection, order_id)
    if order is None:
        raise Problem("order_not_found", status=404)
    holds = (await work.connection.execute(store.holds_where({"order_id": order_id}))).all()
    related = await store.find_lineage(work.connection, order_id)
    return {
        "order_id": order.order_id,
        "root_id": order.root_id,
        "state": order.state,
        "step": order.step,
        "channel": order.channel,
        "shop_id": order.shop_id,
        "changed_at": order.changed_at,
        "decision": DecisionView(
            rule_set_version=order.rule_set_version, rules_checked=order.rules_checked, decided_at=order.decided_at
        ),
        "holds": sorted((hold_view(row, language) for row in holds), key=lambda hold: (hold.placed_at, hold.rule_id)),
        "parent_id": order.parent_id,
        "merged_into": order.merged_into,
        "children": [_related(row) for row in related if row.parent_id == order_id],
        "merged_from": [_related(row) for row in related if row.merged_into == order_id],
    }


def _related(row: Row[Any]) -> RelatedView:
    return RelatedView(order_id=row.order_id, state=row.state)
