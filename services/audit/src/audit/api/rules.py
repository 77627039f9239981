"""The rule set as it goes over the wire: each kind of rule, conditions, versions, trying one out."""

import json
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Request
from pydantic import BaseModel, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import Row

from audit import tables
from audit.api.blacklist import TokenKind
from audit.api.shared import YEAR_SECONDS, Units, note, page_of, runtime_of
from audit.domain.conditions import MAX_DEPTH, MAX_NODES, fault_of
from audit.domain.holds import Held, decide
from audit.domain.rules import rule_set_of
from audit.domain.splitting import apart
from audit.handlers.judging import facts_of, look_up
from audit.store import rules as store
from audit.store.orders import held_orders
from contracts import Order, Part
from contracts.envelope import Code, Currency, Id, Minor, MinorAmount
from webapi.callers import Admin, Viewer
from webapi.models import StrictModel, UtcTime
from webapi.operators import ManualReason
from webapi.paging import Keyset, Page, Paging
from webapi.problems import Problem
from webapi.routing import Router

router = Router()
Grade = Literal["complete", "street_short", "district_unknown", "city_unknown", "unusable"]
PhoneKind = Literal["mobile", "landline", "virtual", "foreign", "masked", "missing", "invalid"]
Word = Annotated[str, StringConstraints(max_length=100)]
Number = Annotated[int, Field(strict=True, ge=-(10**15), le=10**15)]


class Condition(StrictModel):
    """A comparison `{field, op, value}`, or a group: `{all: […]}`, `{any: […]}`, `{at_least: n, of: […]}`."""

    field: Word | None = None
    op: Annotated[str, StringConstraints(max_length=20)] | None = None
    value: bool | Number | Word | Annotated[list[Number | Word], Field(min_length=1, max_length=1000)] | None = None
    all: Annotated[list["Condition"], Field(min_length=1, max_length=50)] | None = None
    any: Annotated[list["Condition"], Field(min_length=1, max_length=50)] | None = None
    at_least: Annotated[int, Field(ge=1, le=50)] | None = None
    of: Annotated[list["Condition"], Field(min_length=1, max_length=50)] | None = None

    @model_validator(mode="after")
    def makes_sense(self) -> "Condition":
        given = {name for name in type(self).model_fields if getattr(self, name) is not None}
        if given not in ({"field", "op", "value"}, {"all"}, {"any"}, {"at_least", "of"}):
            raise PydanticCustomError("condition_shape", "shape")
        if self.of is not None and (self.at_least or 0) > len(self.of):
            raise PydanticCustomError("condition_shape", "shape")
        if self.field is not None and (fault := fault_of(self.field, self.op or "", self.value)):
            raise PydanticCustomError(fault, "unfit")
        depth, nodes = self.size()
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            raise PydanticCustomError("condition_too_large", "too large")
        return self

    def size(self) -> tuple[int, int]:
        """How deep and how many."""
        sizes = [part.size() for part in self.all or self.any or self.of or ()]
        return 1 + max((depth for depth, _ in sizes), default=0), 1 + sum(nodes for _, nodes in sizes)


class RuleBody(StrictModel):
    rule_id: Annotated[Code, Field(description="Names the rule in holds and events; unique within the set.")]
    enabled: bool = True
    channels: list[Code] = Field(default_factory=list, max_length=100, description="Empty: every channel.")
    shop_ids: list[Id] = Field(default_factory=list, max_length=10_000, description="Empty: every shop.")
    priority: int = Field(default=100, ge=0, le=1000, description="Lower is asked, and shown, first.")
    when: Condition | None = Field(default=None, description="Only orders of which this holds.")
    release_after_seconds: int | None = Field(
        default=None, ge=1, le=YEAR_SECONDS, description="A timer releases the hold after this time; none: only a person."
    )
    release_before_deadline_hours: int | None = Field(
        default=None, ge=0, le=720, description="The hold ends so long before the platform's dispatch deadline."
    )
    release_when: Condition | None = Field(default=None, description="The hold ends once this holds of the order.")


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


class DuplicateRuleBody(RuleBody):
    """Holds orders of a buyer or receiver who ordered the same SKUs within so many minutes."""

    kind: Literal["duplicate"]
    within_minutes: int = Field(ge=1, le=7 * 24 * 60)
    token_kinds: list[Literal["buyer", "receiver"]] = Field(min_length=1, max_length=2)


class BuyerNoteRuleBody(RuleBody):
    """Holds orders with a buyer's note."""

    kind: Literal["buyer_note"]


class SellerNoteRuleBody(RuleBody):
    """Holds orders with a seller's note or flag; with `flags`, with one of these flags."""

    kind: Literal["seller_note"]
    flags: list[Code] = Field(default_factory=list, max_length=20)


class KeywordRuleBody(RuleBody):
    """Holds orders whose notes say one of these keywords; none given: any that ingest's table knows."""

    kind: Literal["keyword"]
    keywords: list[Code] = Field(default_factory=list, max_length=200)


class PaymentRuleBody(RuleBody):
    """Holds orders in another payment state than these."""

    kind: Literal["payment"]
    settled_states: list[Code] = Field(default=["cash_on_delivery", "paid"], min_length=1, max_length=20)


class RefundRuleBody(RuleBody):
    """Holds orders with a refund under way, in all or on a line."""

    kind: Literal["refund"]


class RiskRuleBody(RuleBody):
    """Holds orders that the platform has locked."""

    kind: Literal["risk"]


class MarginRuleBody(RuleBody):
    """Holds orders whose margin over standard cost, without tax and freight, is below an amount or a share of revenue."""

    kind: Literal["margin"]
    min_margin_minor: Minor | None = None
    min_margin_bp: int | None = Field(default=None, ge=-10_000, le=10_000)

    @model_validator(mode="after")
    def limits_make_sense(self) -> "MarginRuleBody":
        if self.min_margin_minor is None and self.min_margin_bp is None:
            raise PydanticCustomError("limits_missing", "no limit")
        return self


class PresaleRuleBody(RuleBody):
    """Holds orders until the latest date of their presale lines; a timer lets them go then."""

    kind: Literal["presale"]


class AreaRuleBody(RuleBody):
    """Holds orders to regions whose code begins so: "65" Xinjiang."""

    kind: Literal["area"]
    prefixes: list[Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}$")]] = Field(min_length=1, max_length=1000)


class ConditionRuleBody(RuleBody):
    """Holds orders of which `when` holds."""

    kind: Literal["condition"]

    @model_validator(mode="after")
    def says_when(self) -> "ConditionRuleBody":
        if self.when is None:
            raise PydanticCustomError("when_missing", "no condition")
        return self


class MergeRuleBody(RuleBody):
    """Lets paid orders of one receiver wait for each other, and go on as one."""

    kind: Literal["merge"]
    wait_minutes: int = Field(ge=1, le=24 * 60)
    max_orders: int = Field(ge=2, le=20)
    across_shops: bool = Field(default=False, description="Shops that the rule concerns count as one; else each for itself.")


class SplitPresaleRuleBody(RuleBody):
    """Lets lines that are not due yet wait alone, one part per date."""

    kind: Literal["split_presale"]


class SplitGoodsRuleBody(RuleBody):
    """Lets these goods travel alone."""

    kind: Literal["split_goods"]
    skus: list[Id] = Field(default_factory=list, max_length=5000)
    categories: list[Code] = Field(default_factory=list, max_length=200)

    @model_validator(mode="after")
    def names_goods(self) -> "SplitGoodsRuleBody":
        if not self.skus and not self.categories:
            raise PydanticCustomError("goods_missing", "no goods")
        return self


AnyRule = Annotated[
    AddressRuleBody
    | PhoneRuleBody
    | AmountRuleBody
    | QuantityRuleBody
    | BlacklistRuleBody
    | DuplicateRuleBody
    | BuyerNoteRuleBody
    | SellerNoteRuleBody
    | KeywordRuleBody
    | PaymentRuleBody
    | RefundRuleBody
    | RiskRuleBody
    | MarginRuleBody
    | PresaleRuleBody
    | AreaRuleBody
    | ConditionRuleBody
    | MergeRuleBody
    | SplitPresaleRuleBody
    | SplitGoodsRuleBody,
    Field(discriminator="kind"),
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
    async with runtime_of(request).work() as work:
        version = await store.add_rule_set(work, document, made_by=principal.name, reason=body.reason)
        await note(work, principal.name, "put_rule_set", version, body.reason)
    return await _rule_set_view(request, version)


RULE_SETS = Keyset("rule_sets.version", (tables.rule_set.c.version, int), descending=True)


@router.get("/rule-set/versions", tags=["rules"], summary="All versions, newest first")
async def list_rule_sets(request: Request, paging: Paging, principal: Viewer) -> Page[RuleSetView]:
    rows = await page_of(request, store.rule_sets(), RULE_SETS, paging)
    return RULE_SETS.page(rows, paging, key=lambda row: (row.version,), item=rule_set_view)


@router.get("/rule-set/versions/{version}", tags=["rules"], summary="One version")
async def get_rule_set_version(version: Units, request: Request, principal: Viewer) -> RuleSetView:
    return await _rule_set_view(request, version)


class CheckBody(StrictModel):
    rules: list[AnyRule] = Field(max_length=200)
    order_ids: list[UUID] | None = Field(default=None, min_length=1, max_length=200, description="None: the newest held.")
    limit: int = Field(default=50, ge=1, le=200)


class CheckedOrder(BaseModel):
    order_id: UUID
    held_by: list[str]
    """Rules of the tried set that would hold it."""
    splits_into: int
    """1: it stays whole."""


class CheckView(BaseModel):
    orders: list[CheckedOrder]
    would_clear: int


@router.post("/rule-set/check", tags=["rules"], summary="Try a rule set on orders that are held, without activating it")
async def check_rule_set(body: CheckBody, request: Request, principal: Viewer) -> CheckView:
    """Judges each held order as if it arrived now. Nothing changes. Like orders are known only while a rule looks for them."""
    rules = rule_set_of(0, {"rules": [rule.model_dump(mode="json", exclude_none=True) for rule in body.rules]})
    async with runtime_of(request).work() as work:
        rows = (await work.connection.execute(held_orders(body.order_ids, body.limit))).all()
        facts = [facts_of(Order.model_validate_json(row.order_json), Part.model_validate_json(row.part_json)) for row in rows]
        known = await look_up(work, facts, rules, remember=False)
    checked = []
    for own, more in zip(facts, known, strict=True):
        outcome = decide(own, rules, more)
        held_by = [hold.rule_id for hold in outcome.holds] if isinstance(outcome, Held) else []
        checked.append(CheckedOrder(order_id=own.order_id, held_by=held_by, splits_into=max(1, len(apart(own, rules, more)))))
    return CheckView(orders=checked, would_clear=sum(not order.held_by for order in checked))


def rule_set_view(row: Row[Any]) -> RuleSetView:
    return RuleSetView(
        version=row.version,
        active=row.active,
        made_by=row.made_by,
        made_at=row.made_at,
        reason=row.reason,
        rules=json.loads(row.document)["rules"],
    )


async def _rule_set_view(request: Request, version: int | None) -> RuleSetView:
    async with runtime_of(request).work() as work:
        row = await store.get_rule_set(work.connection, version)
    if row is None:
        raise Problem("rule_set_not_found", status=404)
    return rule_set_view(row)
