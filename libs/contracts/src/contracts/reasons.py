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
    "externally_fulfilled": Reason("already shipped by the channel or another system", "渠道或其他系统已发货"),
    "unknown_value": Reason("the word is not one of those known here", "取值不在已知范围内"),
    "place_missing": Reason("the place of pick-up or hand-over is missing", "缺少自提或交付地点"),
    "time_out_of_range": Reason("the time is before 2000 or after 2100", "时间早于 2000 年或晚于 2100 年"),
    # audit: holds
    "address_incomplete": Reason("the address cannot be delivered to ({grade})", "地址无法配送（{grade}）"),
    "phone_unreachable": Reason("no phone a courier could call ({phone_kind})", "没有可联系的电话（{phone_kind}）"),
    "amount_out_of_range": Reason("paid {paid_minor}, limit {limit_minor}", "实付 {paid_minor}，限额 {limit_minor}"),
    "quantity_out_of_range": Reason("{quantity} units of {sku_id}, limit {limit}", "{sku_id} 共 {quantity} 件，限 {limit} 件"),
    "order_quantity_out_of_range": Reason("{quantity} units in all, limit {limit}", "整单共 {quantity} 件，限 {limit} 件"),
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
    "eligible": Reason(
        "eligible: {carrier}, cost {cost_minor}, {promised_days} days",
        "可选：{carrier}，成本 {cost_minor}，{promised_days} 天送达",
    ),
    "place_unknown": Reason("the place is not in the catalogue", "地点档案中没有该地点"),
    "place_gone": Reason("the place has been closed down", "地点已撤销"),
    "place_paused": Reason("the place is paused", "地点已暂停接单"),
    "place_never_open": Reason("the place has no working day", "地点没有工作日"),
    "place_does_not_ship": Reason("the place does not ship parcels", "地点不发快递"),
    "place_has_no_pick_up": Reason("the place does not hand out parcels", "地点不支持自提"),
    "other_place_wanted": Reason("the buyer chose another place for pick-up", "买家选择了其他自提点"),
    "place_refused_before": Reason("the place refused this order before", "该地点已拒绝过此订单"),
    "region_not_covered": Reason("the place does not ship to region {region_code}", "地点不覆盖地区 {region_code}"),
    "no_carrier_reaches": Reason(
        "none of the place's carriers goes to region {region_code}", "地点的承运商均不到达地区 {region_code}"
    ),
    "capacity_full": Reason("no capacity left today", "今日产能已满"),
    "stock_too_low_after_pick": Reason(
        "{stock_after_pick} units would remain, at least {min_stock} must",
        "拣货后剩 {stock_after_pick} 件，至少须留 {min_stock} 件",
    ),
    "won_by_landed_cost": Reason("cheaper than the second by {gap_minor}", "成本比次选低 {gap_minor}"),
    "won_by_promised_days": Reason("{gap} days faster than the second", "比次选快 {gap} 天"),
    "won_by_distance": Reason("{gap_km} km nearer than the second", "比次选近 {gap_km} 公里"),
    "won_by_priority": Reason("priority ahead of the second by {gap}", "优先级比次选高 {gap}"),
    "won_by_place_no": Reason("nothing told it from the second; the lower number goes first", "与次选无差别，编号小者优先"),
    "won_alone": Reason("the only eligible place", "唯一可选地点"),
    # fulfillment
    "parcel_shipped": Reason(
        "left {place} with {carrier}, waybill {waybill_no}", "已从 {place} 发出，{carrier} 运单 {waybill_no}"
    ),
    "goods_handed_over": Reason("handed over at {place}", "已在 {place} 交付"),
    "instructed": Reason("{place} was asked to ship", "已通知 {place} 发货"),
    "awaiting_pick_up": Reason("ready for pick-up at {place}", "可在 {place} 自提"),
    "parcel_picked_up": Reason("collected by the carrier", "承运商已揽收"),
    "parcel_in_transit": Reason("on its way", "运输中"),
    "parcel_out_for_delivery": Reason("out for delivery", "派送中"),
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
    # cancels, changes, returns
    "cancelled": Reason("cancelled by {by}", "{by} 取消"),
    "cancel_requested": Reason("{by} asked to cancel {units} units", "{by} 申请取消 {units} 件"),
    "cancel_forwarded": Reason("{units} units of the cancel passed on", "取消申请中的 {units} 件已下传"),
    "cancel_withdrawn": Reason("{by} withdrew the cancel", "{by} 撤回取消申请"),
    "cancelled_unsent": Reason("cancelled before it was sent on", "下发前已取消"),
    "cancelled_held": Reason("cancelled while held by audit", "审核拦截期间已取消"),
    "cancelled_backordered": Reason("cancelled while waiting for stock", "缺货等待期间已取消"),
    "cancelled_reserved": Reason("cancelled while reserved", "锁库期间已取消"),
    "cancelled_stopped": Reason("stopped at {place} and cancelled", "已在 {place} 拦截并取消"),
    "cancelled_discarded": Reason("cancelled before this stage took it", "处理前已取消"),
    "too_late": Reason("too late: already shipped", "已发货，无法取消"),
    "withdrawn": Reason("the request was withdrawn", "申请已撤回"),
    "nothing_to_cancel": Reason("nothing of it is left to cancel", "已无可取消的数量"),
    "stop_requested": Reason("asked to stop {units} units", "已请求拦截 {units} 件"),
    "stop_answered": Reason("{stopped} of {asked} units stopped", "{asked} 件中拦截成功 {stopped} 件"),
    "recall_requested": Reason("recalled: {units} units are not there", "库存不足，召回 {units} 件"),
    "stopped": Reason("stopped at {place}", "已在 {place} 拦截"),
    "place_rejected": Reason("{place} rejected the order", "{place} 拒单"),
    "short_pick": Reason("{place} picked {units} units short", "{place} 拣货短缺 {units} 件"),
    "wms_refused": Reason("the WMS of {place} refused the order", "{place} 的仓储系统拒单"),
    "allocation_returned": Reason("{units} units came back from {place}", "{place} 退回 {units} 件"),
    "change_requested": Reason("change asked for: {fields}", "申请变更：{fields}"),
    "change_forwarded": Reason("change passed on: {fields}", "变更已下传：{fields}"),
    "change_applied": Reason("changed: {fields}", "已变更：{fields}"),
    "change_refused": Reason("too late to change: {fields}", "无法变更：{fields}"),
    "order_replaced": Reason("replaced by version {source_version} while held", "拦截期间更新为版本 {source_version}"),
    "receipt_confirmed": Reason("the buyer confirmed receipt", "买家已确认收货"),
    "refund_settled": Reason("{amount_minor} refunded ({refund})", "已退款 {amount_minor}（{refund}）"),
    "refund_after_shipping": Reason("refunded although shipped; goods are out", "已发货仍退款，货物在途"),
    "order_revived": Reason("taken up again after a cancel ({again})", "取消后重新下单（第 {again} 次）"),
    "return_received": Reason(
        "{good} good, {bad} bad, {missing} missing came back to {place}",
        "{place} 收到退货：良品 {good}、残次 {bad}、缺失 {missing}",
    ),
    # splits and merges
    "order_split": Reason("part {n} of {of}: {why}", "拆单 {n}/{of}：{why}"),
    "split_by_shortage": Reason("what is there is held, the rest waits", "有货先锁，缺货等待"),
    "split_by_place": Reason("ships from {places} places", "由 {places} 个地点发货"),
    "orders_merged": Reason("merged from {orders} orders", "由 {orders} 个订单合并"),
    "order_forced": Reason("{by} chose {place}", "{by} 指定 {place}"),
    "order_redriven": Reason("offered to routing again by {by}", "{by} 重新发起寻源"),
    "backorder_woken": Reason("stock has come", "库存已到"),
    # more holds
    "duplicate_buyer": Reason(
        "the buyer placed {orders} like orders within {minutes} minutes", "同一买家 {minutes} 分钟内重复下单 {orders} 笔"
    ),
    "buyer_note": Reason("the buyer left a note", "有买家留言"),
    "seller_note": Reason("the seller left a note or flag ({flag})", "有卖家备注或旗标（{flag}）"),
    "note_keyword": Reason("a note says: {keywords}", "备注包含：{keywords}"),
    "refund_applied": Reason("the buyer has applied for a refund", "买家已申请退款"),
    "order_unpaid": Reason("not fully paid", "未付清"),
    "risk_locked": Reason("locked by the platform's risk control", "平台风控锁定"),
    "margin_below_floor": Reason("margin {margin_minor} is below {floor_minor}", "毛利 {margin_minor} 低于下限 {floor_minor}"),
    "presale_not_due": Reason("presale: not before {ship_not_before}", "预售未到期：{ship_not_before} 起发货"),
    "special_area": Reason("region {region_code} needs a look", "特殊地区 {region_code}，需人工确认"),
    "waiting_to_merge": Reason("waiting for orders of the same receiver", "等待合并同收件人订单"),
    "hold_placed": Reason("held by {by}", "{by} 手动拦截"),
    "hold_undone": Reason("{by} took a decision back", "{by} 撤销了处理"),
    "condition_met": Reason("released: its condition holds", "条件满足，自动放行"),
    # more of inventory and routing
    "place_forced": Reason("a person chose this place", "人工指定地点"),
    "other_place_forced": Reason("a person chose another place", "人工指定了其他地点"),
    "too_many_parcels": Reason("{parcels} parcels, at most {limit}", "需 {parcels} 个包裹，上限 {limit}"),
    "place_closed_that_day": Reason("the place is closed on {day}", "地点 {day} 不营业"),
    "promise_too_late": Reason("would arrive after {ship_before}", "无法在 {ship_before} 前送达"),
    "won_by_parcels": Reason("{gap} parcels fewer than the second", "比次选少 {gap} 个包裹"),
    "count_difference": Reason("counted {counted}, booked {booked}", "盘点 {counted}，账面 {booked}"),
    "stock_only_in_part": Reason("only {available} of {wanted} units are there", "仅有 {available}/{wanted} 件"),
    "leaves_too_late": Reason("would leave after {ship_before}", "无法在 {ship_before} 前发出"),
    "alone_enough": Reason("one place has it all; no split needed", "单个地点可整单发货，无需拆单"),
    "split_forbidden": Reason("the policy does not split this order", "路由策略不允许拆单"),
    "goods_not_there": Reason("the eligible places together do not have it all", "可选地点合计库存仍不足"),
    "parcel_value_too_low": Reason("a parcel would be worth less than {limit_minor}", "包裹货值低于 {limit_minor}"),
    "would_win_if_cheaper": Reason("would win if it cost {change_minor} less", "成本再低 {change_minor} 即可胜出"),
    "condition_rule": Reason("a condition holds (rule {rule_id})", "符合条件规则 {rule_id}"),
    "bundle_uneven": Reason(
        "parts of the bundle on line {line} were cancelled unevenly", "第 {line} 行组合商品的组件取消数量不一致"
    ),
    "bundle_too_large": Reason(
        "a bundle's parts exceed 1,000 lines or 1,000,000 units", "组合商品展开后超过 1,000 行或 1,000,000 件"
    ),
    "revival_refused": Reason(
        "the cancel was withdrawn, but money has gone back; not taken up again", "取消已撤回，但已退款，不再重新下单"
    ),
    "shipped_elsewhere": Reason(
        "the channel says shipped, but no parcel has left from here", "渠道显示已发货，但系统内无发货记录"
    ),
    "line_money_mismatch": Reason(
        "a line's price, adjustment and discounts differ from what was paid for it", "明细行价格、调价与优惠和实付不一致"
    ),
    "total_money_mismatch": Reason("the order's total differs from its lines and freight", "订单总额与明细、运费之和不一致"),
    "payments_mismatch": Reason("the payments differ from what was paid", "支付流水与实付金额不一致"),
    "discount_exceeds_price": Reason("discounts exceed the list price", "优惠超过标价"),
    "cancel_restored": Reason("{by} withdrew the cancel before it was sent on", "{by} 在下发前撤回取消"),
    "part_shipped": Reason("{shipped} of {parts} parts have left", "{parts} 个包裹中已发出 {shipped} 个"),
    "goods_received": Reason("goods received", "到货入库"),
    "goods_damaged": Reason("damaged, not for sale", "商品残损，不可销售"),
    "goods_repaired": Reason("for sale again", "商品恢复可售"),
    "goods_scrapped": Reason("thrown away", "商品报废"),
    "stock_transferred": Reason("moved between places", "库存调拨"),
    "transfer_difference": Reason("received other than sent", "调拨收发差异"),
    "wms_snapshot": Reason("set to the WMS's own count", "按仓储系统快照更正"),
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
