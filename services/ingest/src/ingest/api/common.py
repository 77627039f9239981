"""What the routes share: the process's parts, and the texts of its problems."""

from __future__ import annotations

from starlette.requests import Request

from contracts import REASONS
from eventing import Runtime
from ingest.intake import Gateway
from webapi.texts import register_texts

register_texts(
    {
        "order_not_found": (
            "No such order. Check the id, or search with GET /v1/orders.",
            "没有这个订单。请核对编号，或用 GET /v1/orders 查询。",
        ),
        "order_not_parked": (
            "The order is not parked. Only an order that waits in ingest can be retried; see its timeline.",
            "订单未挂起。只有停留在接单环节的订单才能重试，请查看其时间线。",
        ),
        "intake_full": (
            "Too many orders are waiting to be passed on. Nothing was taken; wait {retry_after_seconds} s and send it again.",
            "待下发订单过多。本次未接收任何订单，请在 {retry_after_seconds} 秒后重试。",
        ),
        "orders_refused": (
            "No order was taken. Correct the fields listed in errors and send it again.",
            "没有接收任何订单。请按 errors 中列出的字段修改后重新发送。",
        ),
        **{
            code: (f"{REASONS[code].english}.", f"{REASONS[code].chinese}。")
            for code in ("impossible_money", "too_large", "unknown_value", "place_missing", "time_out_of_range")
        },
    }
)


def runtime_of(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def gateway_of(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway
