"""What the routes share: texts, the runtime, paging, the log of manual acts."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Request
from pydantic import Field
from sqlalchemy import Row, insert

from audit import tables
from eventing import Runtime, UnitOfWork
from webapi.operators import record_manual_act
from webapi.paging import Keyset, PageRequest
from webapi.texts import register_texts

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
        "order_already_cancelled": (
            "The order is cancelled. It cannot be released or held; the channel must send a new one.",
            "订单已取消。已取消的订单不能放行或拦截，须由渠道重新下单。",
        ),
        "order_already_cleared": (
            "The order has been cleared. It has left audit; cancel it by POST /v1/orders/{order_id}/cancellation of ingest.",
            "订单已放行。订单已离开审核，请通过接单服务取消（POST /v1/orders/{order_id}/cancellation）。",
        ),
        "order_was_split": (
            "The order was split. Act on its parts; GET /v1/orders/{order_id} lists them.",
            "订单已拆分。请对子订单操作，可用 GET /v1/orders/{order_id} 查询。",
        ),
        "order_was_merged": (
            "The order was merged into another and has left audit. Cancel it through ingest.",
            "订单已合并并离开审核。请通过接单服务取消。",
        ),
        "rule_set_not_found": (
            "No such version of the rule set. List them with GET /v1/rule-set/versions.",
            "没有该规则版本。请用 GET /v1/rule-set/versions 查询。",
        ),
        "token_not_listed": (
            "This token is not on the blacklist. List the entries with GET /v1/blacklist.",
            "该标识不在黑名单中。请用 GET /v1/blacklist 查询。",
        ),
        "case_not_found": ("No such case. List them with GET /v1/cases.", "没有这个工单。请用 GET /v1/cases 查询。"),
        "act_not_found": (
            "No such act. Acts that can be taken back are listed with GET /v1/acts.",
            "没有这个操作。可撤销的操作请用 GET /v1/acts 查询。",
        ),
        "act_already_done": (
            "The act has been carried out. The time to take it back is over; cancel the order through ingest.",
            "操作已执行。撤销时限已过，请通过接单服务取消订单。",
        ),
        "rule_id_twice": ("Names a rule_id that another rule has; each must be its own.", "rule_id 与其他规则重复，须唯一。"),
        "limits_missing": ("Needs at least one limit; without any it never objects.", "至少需要一个限值，否则规则不起作用。"),
        "limits_crossed": ("The lower limit is above the upper one.", "下限高于上限。"),
        "when_missing": ("Needs `when`; without it every order would be held.", "需要 when 条件，否则会拦截所有订单。"),
        "goods_missing": ("Needs at least one SKU or category.", "至少需要一个 SKU 或类目。"),
        "condition_shape": (
            "A condition is {field, op, value}, {all: […]}, {any: […]} or {at_least: n, of: […]}.",
            "条件须为 {field, op, value}、{all: […]}、{any: […]} 或 {at_least: n, of: […]}。",
        ),
        "condition_too_large": (
            "Too large: at most 100 comparisons, nested 5 deep.",
            "条件过大：最多 100 个比较、5 层嵌套。",
        ),
        "condition_field_unknown": ("Names a field that orders do not have here.", "条件字段不存在。"),
        "condition_operator_unfit": ("This operator does not fit the field.", "该运算符不适用于此字段。"),
        "condition_value_unfit": ("This value does not fit field and operator.", "取值与字段和运算符不匹配。"),
    }
)

Units = Annotated[int, Field(ge=1, le=500_000_000)]
YEAR_SECONDS = 366 * 24 * 3600
Undo = Annotated[
    int | None,
    Field(ge=0, le=600, description="So long the act waits and can be taken back; none: the service's setting."),
]


def runtime_of(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


async def page_of(request: Request, statement: Any, keyset: Keyset, paging: PageRequest) -> Sequence[Row[Any]]:
    limited = statement.where(keyset.after(keyset.decode(paging.next))).order_by(*keyset.order_by).limit(paging.limit + 1)
    async with runtime_of(request).work() as work:
        return list(await work.connection.execute(limited))


async def note_each(work: UnitOfWork, who: str, act: str, subjects: Sequence[str], why: str) -> None:
    """One act on many things, each found by its own name."""
    rows = [
        {"id": work.new_id(), "who": who, "act": act, "subject": subject, "why": why, "at": work.now, "detail": {}}
        for subject in subjects
    ]
    if rows:
        await work.connection.execute(insert(tables.manual_act), rows)


async def note(work: UnitOfWork, who: str, act: str, subject: object, why: str, **detail: Any) -> None:
    await record_manual_act(
        work.connection, tables.manual_act, who=who, act=act, subject=str(subject), why=why, at=work.now, detail=detail
    )
