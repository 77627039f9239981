"""Rules of carriers: who carries what, and who must not."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Request
from pydantic import BaseModel, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import Row

from contracts.envelope import Code, Id, PlaceId
from fulfillment import store, tables
from fulfillment.api.runtime import runtime_of
from fulfillment.domain import CarrierRule
from webapi.callers import Admin, Viewer
from webapi.models import UtcTime
from webapi.operators import ManualReason, record_manual_act
from webapi.paging import Keyset, Page, Paging
from webapi.problems import Problem
from webapi.routing import Router

router = Router(prefix="/v1", tags=["carrier rules"])

RULES = Keyset("carrier_rules", (tables.carrier_rule.c.priority, int), (tables.carrier_rule.c.rule_id, str))
Grams = Annotated[int, Field(ge=0, le=2_000_000_000)]


class RuleView(BaseModel):
    rule_id: str
    priority: int
    carrier: str
    forbid: bool
    place_id: str | None
    shop_id: str | None
    area_prefix: str
    min_weight_grams: int
    max_weight_grams: int | None
    updated_at: UtcTime


class RuleBody(ManualReason):
    """What is not set always holds. A rule chooses the carrier, or with `forbid` excludes it."""

    priority: Annotated[int, Field(ge=0, le=1_000_000, description="Lower goes first.")] = 100
    carrier: Code
    forbid: bool = False
    place_id: PlaceId | None = None
    shop_id: Id | None = None
    area_prefix: Annotated[
        str, StringConstraints(pattern=r"^[0-9]{0,6}$"), Field(description="Beginning of the region code.")
    ] = ""
    min_weight_grams: Grams = 0
    max_weight_grams: Grams | None = Field(default=None, description="Below this weight.")

    @model_validator(mode="after")
    def _band(self) -> RuleBody:
        if self.max_weight_grams is not None and self.max_weight_grams <= self.min_weight_grams:
            raise PydanticCustomError("band_reversed", "max_weight_grams is not above min_weight_grams")
        return self


@router.get("/carrier-rules")
async def list_rules(request: Request, paging: Paging, principal: Viewer) -> Page[RuleView]:
    """The rules, in the order in which they are tried."""
    statement = store.carrier_rules_query().where(RULES.after(RULES.decode(paging.next))).order_by(*RULES.order_by)
    async with runtime_of(request).work() as work:
        rows = (await work.connection.execute(statement.limit(paging.limit + 1))).all()
    return RULES.page(rows, paging, key=lambda row: (row.priority, row.rule_id), item=_view)


@router.put("/carrier-rules/{rule_id:path}")
async def put_rule(request: Request, rule_id: Annotated[Id, Path()], body: RuleBody, principal: Admin) -> RuleView:
    """Set or replace a rule. It holds for orders that come from now on.

    Order of choice: the carrier that the buyer named, the rules, the plan's carrier, the default; what is forbidden is
    passed over.
    """
    values = body.model_dump(exclude={"reason"})
    async with runtime_of(request).work() as work:
        await store.put_carrier_rule(work.connection, CarrierRule(rule_id=rule_id, **values), now=work.now)
        await record_manual_act(
            work.connection,
            tables.manual_act,
            who=principal.name,
            act="put_carrier_rule",
            subject=rule_id,
            why=body.reason,
            at=work.now,
            detail=values,
        )
        return RuleView(rule_id=rule_id, updated_at=work.now, **values)


@router.post("/carrier-rules/{rule_id:path}/removal", status_code=204)
async def remove_rule(request: Request, rule_id: Annotated[Id, Path()], body: ManualReason, principal: Admin) -> None:
    """Remove a rule."""
    async with runtime_of(request).work() as work:
        if not await store.remove_carrier_rule(work.connection, rule_id):
            raise Problem("carrier_rule_not_found", status=404)
        await record_manual_act(
            work.connection,
            tables.manual_act,
            who=principal.name,
            act="remove_carrier_rule",
            subject=rule_id,
            why=body.reason,
            at=work.now,
        )


def _view(row: Row[Any]) -> RuleView:
    return RuleView.model_validate(row, from_attributes=True)
