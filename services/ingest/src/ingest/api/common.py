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
        "order_of_several": (
            "Several orders travel under this id. Act on each of them: {orders}.",
            "该编号下有多个订单合并。请分别操作：{orders}。",
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
        "nothing_left": (
            "Nothing of the order is left for this. See its cancellations and its timeline.",
            "订单已无可操作的数量。请查看其取消申请与时间线。",
        ),
        "too_much_asked": (
            "More is asked for than is left. Lower the quantities listed in errors and send it again.",
            "申请数量超过剩余数量。请按 errors 中列出的数量修改后重新发送。",
        ),
        "only_units_left": ("Line {line} has {left} left.", "第 {line} 行剩余 {left}。"),
        "only_money_left": ("At most {left_minor} (minor units) can go back.", "最多可退 {left_minor}（分）。"),
        "line_unknown": ("The order has no such line.", "订单没有这一行。"),
        "line_ambiguous": ("Several lines have this id; name the line's number.", "多行使用同一编号，请改用行号。"),
        "name_one_line": (
            "Name the line either by line or by channel_line_id.",
            "请只用 line 或 channel_line_id 之一指定明细。",
        ),
        "change_nothing": ("Give a receiver or notes.", "请提供收件人或备注。"),
        "lines_or_amount": ("Give either lines or amount_minor.", "请只提供 lines 或 amount_minor 之一。"),
        "cancellation_not_found": (
            "No such cancellation. Check the id, or list with GET /v1/cancellations.",
            "没有这个取消申请。请核对编号，或用 GET /v1/cancellations 查询。",
        ),
        "change_not_found": (
            "No such change. Check the id, or list with GET /v1/changes.",
            "没有这个变更申请。请核对编号，或用 GET /v1/changes 查询。",
        ),
        "cancellation_refunded": (
            "The money of this cancellation has gone back. Ask the buyer to place a new order.",
            "该取消申请已退款。请买家重新下单。",
        ),
        "order_not_sent": (
            "The order has not been sent on yet. A parked or closed order takes neither refunds nor receipts; see its `why`.",
            "订单尚未下发。挂起或关闭的订单不能登记退款或签收，请查看其原因。",
        ),
        "refund_known": (
            "This refund was told before, for another order or amount. One refund id is one refund, for ever.",
            "该退款单号已登记过其他订单或金额。同一退款单号只登记一次。",
        ),
        "refund_too_much": (
            "More would go back than is left of what was paid. At most {left_minor} (minor units) can.",
            "退款超过剩余实付金额。最多可退 {left_minor}（分）。",
        ),
        "case_not_found": (
            "No such case. List them with GET /v1/cases.",
            "没有这个待办。请用 GET /v1/cases 查询。",
        ),
        "case_closed": (
            "The case is closed already. List closed ones with GET /v1/cases?open=false.",
            "该待办已关闭。可用 GET /v1/cases?open=false 查看。",
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
