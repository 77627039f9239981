"""Texts of this service's problems, English and Chinese."""

from webapi.texts import register_texts

register_texts(
    {
        "fulfilment_order_not_found": (
            "No such fulfilment order. Search by order_id in GET /v1/fulfilment-orders.",
            "没有这个履约单。请用 GET /v1/fulfilment-orders?order_id=… 查询。",
        ),
        "not_waiting_for_buyer": (
            "The order does not wait for its buyer. Only an open pick-up order can be picked up; see its status.",
            "该订单不在待自提状态。只有未完成的自提单可以核销，请查看其状态。",
        ),
        "shipment_not_found": (
            "No such shipment. Search by waybill_no in GET /v1/shipments.",
            "没有这个包裹。请用 GET /v1/shipments?waybill_no=… 查询。",
        ),
        "reference_reused": (
            "This reference was used for another event. Use a reference of its own for each carrier event.",
            "该 reference 已用于其他物流事件。每个事件请使用各自的 reference。",
        ),
        "place_not_found": (
            "No such place. It appears here once inventory has announced it; list with GET /v1/places.",
            "没有这个地点。库存服务发布后才会出现，请用 GET /v1/places 查询。",
        ),
        "series_overlaps": (
            "The numbers overlap another block. A waybill number is given once, for ever; list with GET /v1/waybill-series.",
            "号段与其他号段重叠。运单号永不重复，请用 GET /v1/waybill-series 查询。",
        ),
        "series_in_use": (
            "The block has given later numbers. Let it end at the last number given, or after it.",
            "该号段已发出更大的号码。结束号不得小于已发出的最后一个号码。",
        ),
        "label_without_receiver": (
            "The order has no receiver. Nothing is shipped, so there is no label.",
            "该订单没有收件人。无需发货，因此没有面单。",
        ),
        "receiver_not_here": (
            "The receiver has not arrived yet. Wait a moment and ask again.",
            "收件人信息尚未到达。请稍后重试。",
        ),
        "receiver_erased": ("The receiver was erased. It cannot be shown again.", "收件人信息已删除。无法再次显示。"),
        "receiver_key_unknown": (
            "The receiver was sealed with a key unknown here. Add it to OMS_FULFILLMENT_RECEIVER_OLDER_KEKS.",
            "加密收件人所用的密钥在此未知。请加入 OMS_FULFILLMENT_RECEIVER_OLDER_KEKS。",
        ),
        "receiver_unreadable": (
            "The sealed receiver cannot be opened. The key differs from ingest's, or the bytes were changed.",
            "无法解密收件人。密钥与接单服务不一致，或数据被改动。",
        ),
        "block_reversed": ("Must not be below first_no - 1.", "不得小于 first_no - 1。"),
        "block_too_wide": ("Has more digits than digits allows.", "位数超过 digits 允许的长度。"),
        "in_the_future": ("Lies in the future.", "时间在将来。"),
        "period_reversed": ("Must be later than shipped_from.", "必须晚于 shipped_from。"),
    }
)
