"""Audit over HTTP: what is held and why, releasing and rejecting, the rule set, the blacklist."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Request
from pydantic import BaseModel, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import Row

from audit import store, tables
from audit.domain import CLEARED, REJECTED
from audit.handlers import reject_order, release_holds
from contracts import text_of
from contracts.envelope import Code, Currency, Id, MinorAmount
from eventing import Runtime, UnitOfWork
from webapi.callers import Admin, Operator, Viewer
from webapi.models import StrictModel, UtcTime
from webapi.operators import ManualReason, record_manual_act
from webapi.paging import Keyset, Page, PageRequest, Paging
from webapi.problems import Problem, language_of
from webapi.routing import Router
from webapi.texts import Language, register_texts

register_texts(
    {
        "order_not_found": (
            "No such order. Audit has not seen it; GET /v1/orders of ingest tells where it is.",
            "没有这个订单。审核尚未收到，可在接单服务 GET /v1/orders 查询其位置。",
        ),
        "hold_not_found": (
            "No such hold. List them with GET /v1/holds.",
            "没有这个拦截。请用 GET /v1/holds 查询。",
        ),
        "order_already_rejected": (
            "The order was rejected. A rejected order cannot be released; the channel must send a new one.",
            "订单已驳回。已驳回的订单不能放行，须由渠道重新下单。",
        ),
        "order_already_cleared": (
            "The order has been cleared. It has left audit; cancel it through ingest instead.",
            "订单已放行。订单已离开审核，请通过接单服务取消。",
        ),
        "rule_set_not_found": (
            "No such version of the rule set. List them with GET /v1/rule-set/versions.",
            "没有该规则版本。请用 GET /v1/rule-set/versions 查询。",
        ),
        "token_not_listed": (
            "This token is not on the blacklist. List the entries with GET /v1/blacklist.",
            "该标识不在黑名单中。请用 GET /v1/blacklist 查询。",
        ),
        "rule_id_twice": ("Names a rule_id that another rule has; each must be its own.", "rule_id 与其他规则重复，须唯一。"),
        "limits_missing": ("Needs at least one limit; without any it never objects.", "至少需要一个限值，否则规则不起作用。"),
        "limits_crossed": ("The lower limit is above the upper one.", "下限高于上限。"),
    }
)

router = Router(prefix="/v1")

Grade = Literal["complete", "street_short", "district_unknown", "city_unknown", "unusable"]
PhoneKind = Literal["mobile", "landline", "virtual", "foreign", "masked", "missing", "invalid"]
TokenKind = Literal["buyer", "receiver", "phone", "address"]
Units = Annotated[int, Field(ge=1, le=500_000_000)]
YEAR_SECONDS = 366 * 24 * 3600


# --- rules as they go over the wire


class RuleBody(StrictModel):
    rule_id: Annotated[Code, Field(description="Names the rule in holds and events; unique within the set.")]
    enabled: bool = True
    channels: list[Code] = Field(default_factory=list, max_length=100, description="Empty: every channel.")
    shop_ids: list[Id] = Field(default_factory=list, max_length=10_000, description="Empty: every shop.")
    release_after_seconds: int | None = Field(
        default=None, ge=1, le=YEAR_SECONDS, description="A timer releases the hold after this time; none: only a person."
    )


class AddressRuleBody(RuleBody):
    """Holds orders to be shipped whose address has another grade than these."""

    kind: Literal["address"]
    allowed_grades: list[Grade] = Field(min_length=1)


class PhoneRuleBody(RuleBody):
    """Holds orders whose receiver has a phone of another kind than these."""

    kind: Literal["phone"]
    reachable_kinds: list[PhoneKind] = Field(min_length=1)


class AmountRuleBody(RuleBody):
    """Holds orders of this currency that cost the buyer less or more than this, in minor units; limits are allowed values."""

    kind: Literal["amount"]
    currency: Currency
    min_paid_minor: MinorAmount | None = None
    max_paid_minor: MinorAmount | None = None

    @model_validator(mode="after")
    def limits_make_sense(self) -> "AmountRuleBody":
        if self.min_paid_minor is None and self.max_paid_minor is None:
            raise PydanticCustomError("limits_missing", "no limit")
        if self.min_paid_minor is not None and self.max_paid_minor is not None and self.min_paid_minor > self.max_paid_minor:
            raise PydanticCustomError("limits_crossed", "limits crossed")
        return self


class QuantityRuleBody(RuleBody):
    """Holds orders with more units of one SKU, or in all, than this."""

    kind: Literal["quantity"]
    max_units_per_sku: Units | None = None
    max_units_per_order: Units | None = None

    @model_validator(mode="after")
    def limits_make_sense(self) -> "QuantityRuleBody":
        if self.max_units_per_sku is None and self.max_units_per_order is None:
            raise PydanticCustomError("limits_missing", "no limit")
        return self


class BlacklistRuleBody(RuleBody):
    """Holds orders of which a token of one of these kinds is on the blacklist."""

    kind: Literal["blacklist"]
    token_kinds: list[TokenKind] = Field(min_length=1)


AnyRule = Annotated[
    AddressRuleBody | PhoneRuleBody | AmountRuleBody | QuantityRuleBody | BlacklistRuleBody, Field(discriminator="kind")
]


class RuleSetBody(ManualReason):
    """The whole set; what is not in it no longer applies."""

    rules: list[AnyRule] = Field(max_length=200)

    @model_validator(mode="after")
    def names_are_unique(self) -> "RuleSetBody":
        names = [rule.rule_id for rule in self.rules]
        if len(set(names)) < len(names):
            raise PydanticCustomError("rule_id_twice", "rule_id twice")
        return self


class RuleSetView(BaseModel):
    version: int
    active: bool
    made_by: str
    made_at: UtcTime
    reason: str
    rules: list[dict[str, Any]]


# --- orders and holds as they go over the wire


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
    placed_at: UtcTime
    release_at: UtcTime | None
    status: str
    """open | released | rejected"""
    closed_at: UtcTime | None
    closed_by: str | None
    reason: str | None
    """Why it was released or rejected, in the words of who did it."""


class DecisionView(BaseModel):
    rule_set_version: int
    rules_checked: int
    """0: not audited, the goods had been handed over."""
    decided_at: UtcTime


class OrderView(BaseModel):
    order_id: UUID
    root_id: UUID
    state: str
    """held | cleared | rejected"""
    step: int
    channel: str
    shop_id: str
    changed_at: UtcTime
    decision: DecisionView
    holds: list[HoldView]


class HoldFilter(BaseModel):
    status: Literal["open", "released", "rejected"] | None = None
    kind: Code | None = None
    code: Code | None = None
    channel: Code | None = None
    shop_id: Id | None = None
    order_id: UUID | None = None
    sort: Literal["placed_at", "-placed_at"] = "placed_at"


HOLD_ORDERS = {
    "placed_at": Keyset("holds.placed_at", (tables.hold.c.placed_at, datetime), (tables.hold.c.hold_id, UUID)),
    "-placed_at": Keyset(
        "holds.placed_at", (tables.hold.c.placed_at, datetime), (tables.hold.c.hold_id, UUID), descending=True
    ),
}


@router.get("/holds", tags=["holds"], summary="What was stopped, oldest first")
async def list_holds(
    request: Request, paging: Paging, wanted: Annotated[HoldFilter, Query()], principal: Viewer
) -> Page[HoldView]:
    """With `status=open` this is the operators' work list. `sort=-placed_at` shows the newest first."""
    language = language_of(request)
    keyset = HOLD_ORDERS[wanted.sort]
    statement = store.holds_where(
        state=wanted.status,
        kind=wanted.kind,
        code=wanted.code,
        channel=wanted.channel,
        shop_id=wanted.shop_id,
        order_id=wanted.order_id,
    )
    rows = await _page(request, statement, keyset, paging)
    return keyset.page(rows, paging, key=lambda row: (row.placed_at, row.hold_id), item=lambda row: hold_view(row, language))


@router.get("/orders/{order_id}", tags=["holds"], summary="One order: decision, holds, how they ended")
async def get_order(order_id: UUID, request: Request, principal: Viewer) -> OrderView:
    async with _runtime(request).work() as work:
        return await _order_view(work, order_id, language_of(request))


@router.post("/holds/{hold_id}/release", tags=["holds"], summary="Release one hold")
async def release_hold(hold_id: UUID, body: ManualReason, request: Request, principal: Operator) -> OrderView:
    """If it is the order's last open hold, the order goes on at once. Releasing again changes nothing and answers the same."""
    async with _runtime(request).work() as work:
        try:
            order_id = await store.get_order_of_hold(work.connection, hold_id)
        except store.HoldNotFoundError:
            raise Problem("hold_not_found", status=404) from None
        orders = await release_holds(work, {order_id: {hold_id}}, by=principal.name, reason=body.reason)
        if orders[order_id].state == REJECTED:
            raise Problem("order_already_rejected", status=409)
        await _note(work, principal.name, "release_hold", hold_id, body.reason)
        return await _order_view(work, order_id, language_of(request))


@router.post("/orders/{order_id}/release", tags=["holds"], summary="Release all open holds of an order")
async def release_order(order_id: UUID, body: ManualReason, request: Request, principal: Operator) -> OrderView:
    """The order goes on at once. Releasing again changes nothing and answers the same."""
    async with _runtime(request).work() as work:
        orders = await release_holds(work, {order_id: None}, by=principal.name, reason=body.reason)
        if order_id not in orders:
            raise Problem("order_not_found", status=404)
        if orders[order_id].state == REJECTED:
            raise Problem("order_already_rejected", status=409)
        await _note(work, principal.name, "release_order", order_id, body.reason)
        return await _order_view(work, order_id, language_of(request))


@router.post("/orders/{order_id}/reject", tags=["holds"], summary="Reject a held order: cancel all of it")
async def reject(order_id: UUID, body: ManualReason, request: Request, principal: Operator) -> OrderView:
    """Settled as a cancel of every unit. Rejecting again changes nothing and answers the same."""
    async with _runtime(request).work() as work:
        order = await reject_order(work, order_id, by=principal.name, reason=body.reason)
        if order is None:
            raise Problem("order_not_found", status=404)
        if order.state == CLEARED:
            raise Problem("order_already_cleared", status=409)
        await _note(work, principal.name, "reject_order", order_id, body.reason)
        return await _order_view(work, order_id, language_of(request))


@router.get("/rule-set", tags=["rules"], summary="The rule set that applies now")
async def get_active_rule_set(request: Request, principal: Viewer) -> RuleSetView:
    return await _rule_set_view(request, None)


@router.put("/rule-set", tags=["rules"], summary="Replace the rule set")
async def put_rule_set(body: RuleSetBody, request: Request, principal: Admin) -> RuleSetView:
    """Makes a new version and activates it: orders that arrive from now on are judged by it, in every replica.

    Orders that are held already stay held for the reasons they have.
    """
    document = json.dumps(
        {"rules": [rule.model_dump(mode="json", exclude_none=True) for rule in body.rules]}, ensure_ascii=False
    )
    async with _runtime(request).work() as work:
        version = await store.add_rule_set(work, document, made_by=principal.name, reason=body.reason)
        await _note(work, principal.name, "put_rule_set", version, body.reason)
    return await _rule_set_view(request, version)


RULE_SETS = Keyset("rule_sets.version", (tables.rule_set.c.version, int), descending=True)


@router.get("/rule-set/versions", tags=["rules"], summary="All versions, newest first")
async def list_rule_sets(request: Request, paging: Paging, principal: Viewer) -> Page[RuleSetView]:
    rows = await _page(request, store.rule_sets(), RULE_SETS, paging)
    return RULE_SETS.page(rows, paging, key=lambda row: (row.version,), item=rule_set_view)


@router.get("/rule-set/versions/{version}", tags=["rules"], summary="One version")
async def get_rule_set_version(version: Units, request: Request, principal: Viewer) -> RuleSetView:
    return await _rule_set_view(request, version)


# --- blacklist

Token = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


class BlacklistEntry(StrictModel):
    kind: TokenKind
    token: Token = Field(description="As ingest makes it: POST /v1/tokens there.")


class BlacklistBody(ManualReason):
    entries: list[BlacklistEntry] = Field(min_length=1, max_length=1000)


class BlacklistView(BaseModel):
    kind: str
    token: str
    reason: str
    added_by: str
    added_at: UtcTime


class BlacklistAdded(BaseModel):
    added: int
    already_listed: int


class BlacklistRemoval(BaseModel):
    kind: TokenKind
    token: Token
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]


BLACKLIST = Keyset("blacklist.token", (tables.blacklist.c.kind, str), (tables.blacklist.c.token, str))


@router.get("/blacklist", tags=["blacklist"], summary="Who is not served without a person looking")
async def list_blacklist(
    request: Request, paging: Paging, principal: Viewer, kind: TokenKind | None = None
) -> Page[BlacklistView]:
    rows = await _page(request, store.blacklisted(kind), BLACKLIST, paging)
    return BLACKLIST.page(rows, paging, key=lambda row: (row.kind, row.token), item=blacklist_view)


@router.post("/blacklist", tags=["blacklist"], summary="Put tokens on the blacklist")
async def add_to_blacklist(body: BlacklistBody, request: Request, principal: Operator) -> BlacklistAdded:
    """Counts for orders that arrive from now on. What is listed already keeps its first reason."""
    entries = [(entry.kind, entry.token) for entry in body.entries]
    async with _runtime(request).work() as work:
        added = await store.add_blacklisted(work, entries, reason=body.reason, added_by=principal.name)
        for kind, token in added:
            await _note(work, principal.name, "blacklist_add", f"{kind}:{token}", body.reason)
    return BlacklistAdded(added=len(added), already_listed=len(set(entries)) - len(added))


@router.delete("/blacklist", tags=["blacklist"], status_code=204, summary="Take a token off the blacklist")
async def remove_from_blacklist(removal: Annotated[BlacklistRemoval, Query()], request: Request, principal: Operator) -> None:
    async with _runtime(request).work() as work:
        if not await store.remove_blacklisted(work, removal.kind, removal.token):
            raise Problem("token_not_listed", status=404)
        await _note(work, principal.name, "blacklist_remove", f"{removal.kind}:{removal.token}", removal.reason)


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
        placed_at=row.placed_at,
        release_at=row.release_at,
        status=row.state,
        closed_at=row.closed_at,
        closed_by=row.closed_by,
        reason=row.close_reason,
    )


def rule_set_view(row: Row[Any]) -> RuleSetView:
    return RuleSetView(
        version=row.version,
        active=row.active,
        made_by=row.made_by,
        made_at=row.made_at,
        reason=row.reason,
        rules=json.loads(row.document)["rules"],
    )


def blacklist_view(row: Row[Any]) -> BlacklistView:
    return BlacklistView(kind=row.kind, token=row.token, reason=row.reason, added_by=row.added_by, added_at=row.added_at)


async def _order_view(work: UnitOfWork, order_id: UUID, language: Language) -> OrderView:
    order = await store.find_order(work.connection, order_id)
    if order is None:
        raise Problem("order_not_found", status=404)
    holds = (await work.connection.execute(store.holds_where(order_id=order_id))).all()
    return OrderView(
        order_id=order.order_id,
        root_id=order.root_id,
        state=order.state,
        step=order.step,
        channel=order.channel,
        shop_id=order.shop_id,
        changed_at=order.changed_at,
        decision=DecisionView(
            rule_set_version=order.rule_set_version, rules_checked=order.rules_checked, decided_at=order.decided_at
        ),
        holds=sorted((hold_view(row, language) for row in holds), key=lambda hold: (hold.placed_at, hold.rule_id)),
    )


async def _rule_set_view(request: Request, version: int | None) -> RuleSetView:
    async with _runtime(request).work() as work:
        row = await store.get_rule_set(work.connection, version)
    if row is None:
        raise Problem("rule_set_not_found", status=404)
    return rule_set_view(row)


async def _page(request: Request, statement: Any, keyset: Keyset, paging: PageRequest) -> Sequence[Row[Any]]:
    limited = statement.where(keyset.after(keyset.decode(paging.next))).order_by(*keyset.order_by).limit(paging.limit + 1)
    async with _runtime(request).work() as work:
        return list(await work.connection.execute(limited))


async def _note(work: UnitOfWork, who: str, act: str, subject: object, why: str) -> None:
    await record_manual_act(
        work.connection, tables.manual_act, who=who, act=act, subject=str(subject), why=why, at=work.now, detail={}
    )


def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime
