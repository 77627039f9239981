"""The one table of reasons: stable code → English and Chinese text, filled from `Progress.params` or evidence.

A code never changes its meaning; a new meaning gets a new code. Money placeholders end in `_minor` and are shown in major units.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Reason(NamedTuple):
    english: str
    chinese: str


REASONS: dict[str, Reason] = {
    # ingest
    "order_received": Reason(
        "received from {channel}: {lines} lines, {paid_minor} paid", "收到 {channel} 订单：{lines} 行，实付 {paid_minor}"
    ),
    "unknown_sku": Reason("parked: SKU not in the catalogue: {skus}", "挂起：商品档案中没有 {skus}"),
    "unpaid": Reason("waiting for payment", "等待付款"),
    "platform_locked": Reason("the platform forbids shipping for now", "平台暂不允许发货"),
    "refund_open": Reason("the buyer has asked for a refund", "买家申请退款中"),
    "order_unparked": Reason("the missing fact has arrived; going on", "缺失资料已到，继续处理"),
    "newer_version": Reason("replaced by version {source_version} of the channel", "已更新为渠道版本 {source_version}"),
    "version_conflict": Reason("same version with other content; the later one counts", "同版本内容不同，以后到者为准"),
    "money_mismatch": Reason("lines, freight and payment do not add up", "明细、运费与实付金额不一致"),
    "closed_by_channel": Reason("closed by the channel", "渠道已关闭"),
    "impossible_money": Reason("discounts exceed the price", "优惠超过价格"),
    "too_large": Reason("more than 96 KiB or 500 lines", "超过 96 KiB 或 500 行"),
    # audit: holds
    "address_incomplete": Reason("the address cannot be delivered to ({grade})", "地址无法配送（{grade}）"),
    "phone_unreachable": Reason("no phone a courier could call ({phone_kind})", "没有可联系的电话（{phone_kind}）"),
    "amount_out_of_range": Reason("paid {paid_minor}, limit {limit_minor}", "实付 {paid_minor}，限额 {limit_minor}"),
    "quantity_out_of_range": Reason("{quantity} units of {sku_id}, limit {limit}", "{sku_id} 共 {quantity} 件，限 {limit} 件"),
    "buyer_blacklisted": Reason("the buyer is on the blacklist", "买家在黑名单中"),
    "order_held": Reason("held: {kinds}", "已拦截：{kinds}"),
    "hold_released": Reason("a hold was released by {by}", "{by} 解除了拦截"),
    "order_cleared": Reason("cleared by {rules} rules (rule set {version})", "通过 {rules} 条审核规则（规则版本 {version}）"),
    "handed_over_passed": Reason("already handed over; no audit", "商品已交付，免审核"),
    "order_rejected": Reason("rejected by {by}", "{by} 驳回了订单"),
    # inventory
    "stock_reserved": Reason(
        "all lines held against pool {pool}; {places} places could ship", "全部明细已锁定库存池 {pool}，{places} 个地点可发"
    ),
    "stock_short": Reason("not enough stock: {short}", "库存不足：{short}"),
    "stock_allocated": Reason("allocated to {place} (plan {plan} of {plans})", "已分配到 {place}（第 {plan}/{plans} 方案）"),
    "stock_booked": Reason("booked at {place} as handed over", "已按 {place} 交付入账"),
    "routing_stuck": Reason("no place could take the order", "没有地点可以承接"),
    # router
    "order_routed": Reason(
        "{eligible} of {candidates} places eligible; best {place}: cost {cost_minor}, {promised_days} days",
        "{candidates} 个地点中 {eligible} 个可选，首选 {place}：成本 {cost_minor}，{promised_days} 天送达",
    ),
    "no_place_eligible": Reason("none of {candidates} places is eligible", "{candidates} 个地点均不可选"),
    # fulfillment
    "parcel_shipped": Reason(
        "left {place} with {carrier}, waybill {waybill_no}", "已从 {place} 发出，{carrier} 运单 {waybill_no}"
    ),
    "goods_handed_over": Reason("handed over at {place}", "已在 {place} 交付"),
    "instructed": Reason("{place} was asked to ship", "已通知 {place} 发货"),
    "awaiting_pick_up": Reason("ready for pick-up at {place}", "可在 {place} 自提"),
    "parcel_picked_up": Reason("collected by the carrier", "承运商已揽收"),
    "parcel_in_transit": Reason("on its way", "运输中"),
    "parcel_delivered": Reason("delivered", "已签收"),
    "parcel_refused": Reason("refused by the receiver", "收件人拒收"),
    "parcel_lost": Reason("lost by the carrier", "包裹丢失"),
    # ledger
    "voucher_posted": Reason(
        "voucher {word}-{number} ({template}): {total_minor}", "凭证 {word}-{number}（{template}）：{total_minor}"
    ),
    "content_changed": Reason(
        "the same event came again with other content; posted once, as it came first ({template})",
        "同一事件内容发生变化，仅按首次内容入账一次（{template}）",
    ),
    "cost_unknown": Reason("shipped without a stamped unit cost: {skus}", "发货明细缺少成本单价：{skus}"),
    # cancels
    "cancelled": Reason("cancelled by {by}", "{by} 取消"),
    "too_late": Reason("too late: already shipped", "已发货，无法取消"),
}


def text_of(code: str, params: Mapping[str, Any] | None = None, *, chinese: bool = False) -> str:
    """The reason as a person reads it; an unknown code is shown as it is, a missing placeholder as "?"."""
    reason = REASONS.get(code)
    if reason is None:
        return code
    template = reason.chinese if chinese else reason.english
    return template.format_map(_Shown(params or {}))


class _Shown(dict[str, Any]):
    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__({name: _shown(name, value) for name, value in params.items()})

    def __missing__(self, key: str) -> str:
        return "?"


def _shown(name: str, value: Any) -> str:
    if name.endswith("_minor") and isinstance(value, int):
        sign = "-" if value < 0 else ""
        return f"{sign}{abs(value) // 100:,}.{abs(value) % 100:02d}"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value)
