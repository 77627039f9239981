"""What people set for stock: which shop sells from which pool, what is kept back, what becomes of shortage."""

from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from contracts.envelope import Code, Id, PlaceId, SkuId
from eventing import UnitOfWork
from inventory import tables
from inventory.api.documents import Units, refuse_twice
from inventory.api.shared import InventoryOf, RuntimeOf
from inventory.handlers.context import local_day
from inventory.handlers.keeping_back import apply_rules_task
from inventory.store import catalogue, policies
from webapi.callers import Admin, Principal, Viewer
from webapi.models import StrictModel, UtcTime
from webapi.operators import ManualReason, record_manual_act
from webapi.problems import FieldError, Problem
from webapi.routing import Router

router = Router(prefix="/v1", tags=["policies"])
MOST_RULES = 1_000


class SafetyRuleBody(StrictModel):
    """Names a SKU, or a category, or neither; a place or none. What it does not name, it holds for."""

    place_id: PlaceId | None = None
    sku_id: SkuId | None = None
    category: Code | None = None
    units: Units

    @model_validator(mode="after")
    def _names_one_kind_of_goods(self) -> "SafetyRuleBody":
        if self.sku_id is not None and self.category is not None:
            raise PydanticCustomError("one_kind_of_goods", "SKU and category")
        return self


class SafetyRulesBody(ManualReason):
    rules: list[SafetyRuleBody] = Field(max_length=MOST_RULES)


class SafetyRulesView(BaseModel):
    version: int
    """0: none were ever set."""
    changed_at: UtcTime | None
    rules: list[SafetyRuleBody]


class ShopPoolBody(StrictModel):
    channel: Code
    shop_id: Id
    pool_id: Id


class ShopPoolsBody(ManualReason):
    shops: list[ShopPoolBody] = Field(max_length=MOST_RULES)


class ShopPoolsView(BaseModel):
    version: int
    changed_at: UtcTime | None
    default_pool: str
    """What all other shops sell from."""
    shops: list[ShopPoolBody]


class ShortageShopBody(StrictModel):
    channel: Code
    shop_id: Id
    shortage: Literal["wait", "split"] = Field(description="wait: until all of it is there; split: what is there goes first.")


class ShortagePolicyBody(ManualReason):
    shops: list[ShortageShopBody] = Field(max_length=MOST_RULES)


class ShortagePolicyView(BaseModel):
    version: int
    """0: none was ever set."""
    changed_at: UtcTime | None
    shops: list[ShortageShopBody]
    """All other shops wait."""


@router.put("/safety-rules", summary="Set what is kept back")
async def put_safety_rules(
    body: SafetyRulesBody, principal: Admin, runtime: RuntimeOf, inventory: InventoryOf
) -> SafetyRulesView:
    """Replaces all rules. The most special one counts: of a SKU before of its category before of all goods, and in each of them
    of a place before of all places; of two alike the later. Applied within seconds, page by page. Orders held already keep
    their units."""
    rules = [rule.model_dump() for rule in body.rules]
    async with runtime.work() as work:
        places, _ = await inventory.places.read(work, local_day(work.now))
        known = {item.sku_id for item in await catalogue.get_items(work, {rule.sku_id for rule in body.rules if rule.sku_id})}
        wrong = [
            FieldError(f"rules.{index}.sku_id", "unknown_sku")
            for index, rule in enumerate(body.rules)
            if rule.sku_id is not None and rule.sku_id not in known
        ]
        wrong += [
            FieldError(f"rules.{index}.place_id", "unknown_place")
            for index, rule in enumerate(body.rules)
            if rule.place_id is not None and rule.place_id not in places.by_id
        ]
        if wrong:
            raise Problem("invalid_request", status=422, errors=wrong)
        if await policies.save_policy(work, policies.SAFETY, rules):
            work.cancel_tasks(apply_rules_task(work).kind, ["all"])
            work.add_tasks([apply_rules_task(work)])
            await _note("put_safety_rules", body.reason, len(rules), principal, work)
        return await _safety_rules(work)


@router.get("/safety-rules", summary="Show what is kept back")
async def get_safety_rules(principal: Viewer, runtime: RuntimeOf) -> SafetyRulesView:
    async with runtime.work() as work:
        return await _safety_rules(work)


@router.put("/policies/pools", summary="Set which shop sells from which pool")
async def put_shop_pools(body: ShopPoolsBody, principal: Admin, runtime: RuntimeOf, inventory: InventoryOf) -> ShopPoolsView:
    """Replaces the table; shops that it does not name sell from the default pool. For orders that come from now on."""
    async with runtime.work() as work:
        places, _ = await inventory.places.read(work, local_day(work.now))
        known = {place.pool_id for place in places.all}
        shops: dict[str, str] = {}
        wrong = []
        for index, shop in enumerate(body.shops):
            key = policies.shop_key(shop.channel, shop.shop_id)
            if shop.pool_id not in known:
                wrong.append(FieldError(f"shops.{index}.pool_id", "unknown_pool"))
            if key in shops:
                wrong.append(FieldError(f"shops.{index}.shop_id", "named_twice"))
            shops[key] = shop.pool_id
        if wrong:
            raise Problem("invalid_request", status=422, errors=wrong)
        if await policies.save_policy(work, policies.POOLS, shops):
            await _note("put_shop_pools", body.reason, len(shops), principal, work)
        return await _shop_pools(inventory.settings.default_pool, work)


@router.get("/policies/pools", summary="Show which shop sells from which pool")
async def get_shop_pools(principal: Viewer, runtime: RuntimeOf, inventory: InventoryOf) -> ShopPoolsView:
    async with runtime.work() as work:
        return await _shop_pools(inventory.settings.default_pool, work)


@router.put("/policies/shortage", summary="Set what becomes of orders that are there in part")
async def put_shortage_policy(body: ShortagePolicyBody, principal: Admin, runtime: RuntimeOf) -> ShortagePolicyView:
    """Replaces the whole policy; holds for orders that come from then on."""
    keys = [policies.shop_key(shop.channel, shop.shop_id) for shop in body.shops]
    refuse_twice(keys, field="shops", key="shop_id")
    content = {key: shop.shortage for key, shop in zip(keys, body.shops, strict=True)}
    async with runtime.work() as work:
        if await policies.save_policy(work, policies.SHORTAGE, content):
            await _note("put_shortage_policy", body.reason, len(content), principal, work)
        return await _shortage_policy(work)


@router.get("/policies/shortage", summary="Show what becomes of orders that are there in part")
async def get_shortage_policy(principal: Viewer, runtime: RuntimeOf) -> ShortagePolicyView:
    async with runtime.work() as work:
        return await _shortage_policy(work)


async def _safety_rules(work: UnitOfWork) -> SafetyRulesView:
    policy = await policies.find_policy(work, policies.SAFETY)
    if policy is None:
        return SafetyRulesView(version=0, changed_at=None, rules=[])
    return SafetyRulesView(version=policy.version, changed_at=policy.changed_at, rules=policy.content)


async def _shop_pools(default_pool: str, work: UnitOfWork) -> ShopPoolsView:
    policy = await policies.find_policy(work, policies.POOLS)
    if policy is None:
        return ShopPoolsView(version=0, changed_at=None, default_pool=default_pool, shops=[])
    shops = []
    for key, pool_id in sorted(policy.content.items()):
        channel, _, shop_id = key.partition("/")
        shops.append(ShopPoolBody(channel=channel, shop_id=shop_id, pool_id=pool_id))
    return ShopPoolsView(version=policy.version, changed_at=policy.changed_at, default_pool=default_pool, shops=shops)


async def _shortage_policy(work: UnitOfWork) -> ShortagePolicyView:
    policy = await policies.find_policy(work, policies.SHORTAGE)
    if policy is None:
        return ShortagePolicyView(version=0, changed_at=None, shops=[])
    shops = []
    for key, shortage in policy.content.items():
        channel, _, shop_id = key.partition("/")
        shops.append(ShortageShopBody(channel=channel, shop_id=shop_id, shortage=shortage))
    return ShortagePolicyView(version=policy.version, changed_at=policy.changed_at, shops=shops)


async def _note(act: str, why: str, entries: int, principal: Principal, work: UnitOfWork) -> None:
    detail: dict[str, Any] = {"entries": entries}
    await record_manual_act(
        work.connection, tables.manual_act, who=principal.name, act=act, subject=act, why=why, at=work.now, detail=detail
    )
