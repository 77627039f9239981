"""What both halves of the API need: texts, the runtime behind a request, paging of one statement."""

from collections.abc import Sequence
from typing import Any

from fastapi import Request
from sqlalchemy import Row

from eventing import Runtime, UnitOfWork
from router import store, tables
from router.handlers import Routing
from webapi.operators import record_manual_act
from webapi.paging import Keyset, PageRequest
from webapi.problems import Problem
from webapi.texts import register_texts

register_texts(
    {
        "decision_not_found": (
            "No such decision. The order has not been routed (yet), or its decision was dropped with age;"
            " GET /v1/orders of ingest tells where it is.",
            "没有该路由记录。订单尚未分仓或记录已过期清理，可在接单服务 GET /v1/orders 查询其位置。",
        ),
        "version_not_found": (
            "No such version. Leave version out for the active one.",
            "没有该版本。省略 version 可查询当前版本。",
        ),
        "already_active": (
            "This version is active already. Make another one with POST /v1/policies, or activate one of GET /v1/policies.",
            "该版本已在使用。可用 POST /v1/policies 新建，或从 GET /v1/policies 中选择其他版本启用。",
        ),
        "unknown_place": ("Is not a known place; see GET /v1/locations.", "不是已知地点，请用 GET /v1/locations 查询。"),
        "named_twice": ("Names the same thing twice.", "内容重复。"),
        "one_policy_only": ("Give policy or policy_version, not both.", "policy 与 policy_version 只能提供一个。"),
        "centre_incomplete": ("Give latitude and longitude both, or none.", "经度和纬度须同时提供。"),
    }
)

NO_LIMIT = 2_000_000_000
"""Capacity and stock of a dry run: router knows neither, inventory tells them with each reserved order."""


def runtime_of(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def routing_of(request: Request) -> Routing:
    routing: Routing = request.app.state.routing
    return routing


async def page(request: Request, statement: Any, keyset: Keyset, paging: PageRequest) -> Sequence[Row[Any]]:
    limited = statement.where(keyset.after(keyset.decode(paging.next))).order_by(*keyset.order_by).limit(paging.limit + 1)
    async with runtime_of(request).work() as work:
        return list(await work.connection.execute(limited))


async def get_version(work: UnitOfWork, kind: store.Kind, version: int | None) -> Row[Any]:
    row = await store.find_version(work.connection, kind, version)
    if row is None:
        raise Problem("version_not_found", status=404)
    return row


async def note_act(work: UnitOfWork, who: str, act: str, subject: object, why: str) -> None:
    await record_manual_act(
        work.connection, tables.manual_act, who=who, act=act, subject=str(subject), why=why, at=work.now, detail={}
    )
