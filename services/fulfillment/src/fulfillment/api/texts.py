"""Texts of this service's problems, English and Chinese."""

from webapi.texts import register_texts

register_texts(
    {
        "fulfilment_order_not_found": (
            "No such fulfilment order. Search by order_id in GET /v1/fulfilment-orders.",
            "没有这个履约单。请用 GET /v1/fulfilment-orders?order_id=… 查询。",
        ),
        "state_forbids": (
            "The state of the order does not allow this. Look at its status, request_status and what is left.",
            "订单当前状态不允许此操作。请查看其 status、request_status 与剩余数量。",
        ),
        "order_not_open": (
            "Nothing of the order is left at the place. It was shipped, stopped or given back; see GET /v1/fulfilment-orders.",
            "该履约单已无剩余商品。已发货、拦截或退回，请查看 GET /v1/fulfilment-orders。",
        ),
        "order_not_submitted": (
            "The place was not told of this order. Wait for the instruction before reporting on it.",
            "尚未向该地点下发此订单。请在收到指令后再回传。",
        ),
        "lines_refused": (
            "A line names more than is left, or is not of this order. See errors for the line and what is left.",
            "明细数量超过剩余，或不属于该订单。请查看 errors 中的行与剩余数量。",
        ),
        "line_unknown": ("No line of the order has this SKU and origin.", "订单中没有该商品或来源行。"),
        "more_than_left": ("Only {left} units are left.", "仅剩 {left} 件。"),
        "more_than_shipped": ("Only {left} units are out and have not come back.", "已发出且未退回的仅 {left} 件。"),
        "waybill_taken": (
            "The waybill number belongs to another parcel. Check the number, or leave it out to get one.",
            "该运单号已属于其他包裹。请核对，或留空由系统分配。",
        ),
        "waybill_of_series": (
            "The number belongs to a block that is given out here. Leave it out to get one of the block.",
            "该号码属于本系统号段。请留空，由系统从号段分配。",
        ),
        "waybill_exhausted": (
            "The carrier's numbers are used up. Set up a block with PUT /v1/waybill-series, or give the number yourself.",
            "承运商运单号已用完。请用 PUT /v1/waybill-series 新增号段，或自行提供运单号。",
        ),
        "stop_not_found": (
            "No such stop of this order. The stops of an order are shown with it in GET /v1/fulfilment-orders.",
            "该履约单没有这个拦截请求。请查看 GET /v1/fulfilment-orders。",
        ),
        "signature_wrong": (
            "The signature is missing, wrong or over five minutes old. Sign with the place's secret, as docs/wms-http.md says.",
            "签名缺失、错误或已超过五分钟。请按 docs/wms-http.md 使用该地点的密钥签名。",
        ),
        "event_id_reused": (
            "This event_id was used for another event. Use an id of its own for each event.",
            "该 event_id 已用于其他事件。每个事件请使用各自的 event_id。",
        ),
        "shipped_after_stop": (
            "These units were stopped or given back before. A case is open; keep the parcel if you can.",
            "这些商品此前已拦截或退回。已生成异常单，请尽量截留包裹。",
        ),
        "shipped_too_much": (
            "More units left than were to be shipped. A case is open; check what was packed.",
            "发出数量超过应发。已生成异常单，请核对装箱。",
        ),
        "not_a_base_url": (
            "Must be an http or https URL without user, query and fragment.",
            "须为 http 或 https 地址，不含用户名、查询与片段。",
        ),
        "connector_incomplete": (
            "base_url and secret_name are needed for http, and for nothing else.",
            "http 方式须提供 base_url 与 secret_name，其他方式不得提供。",
        ),
        "secret_unknown": (
            "No such secret. Add it to OMS_FULFILLMENT_WMS_SECRETS first.",
            "没有这个密钥。请先加入 OMS_FULFILLMENT_WMS_SECRETS。",
        ),
        "code_or_reason": ("Give the code, or a reason, not both.", "请提供取货码或原因，二者之一。"),
        "not_a_pick_up": (
            "The order is not picked up. Only pick-up orders have a code.",
            "该订单不是自提单。只有自提单有取货码。",
        ),
        "pick_up_code_wrong": (
            "The code is wrong. Ask the buyer for the eight digits of this order.",
            "取货码错误。请向买家核对该订单的八位取货码。",
        ),
        "pick_up_locked": (
            "Too many wrong codes. Try again in {retry_after_seconds} seconds.",
            "取货码错误次数过多。请在 {retry_after_seconds} 秒后重试。",
        ),
        "no_units": ("Has no units: give good, bad or missing.", "没有数量：请填写 good、bad 或 missing。"),
        "name_one_parcel": (
            "Name the goods by shipment_id, by carrier and waybill_no, or by order_id; by one of them.",
            "请用 shipment_id、carrier 与 waybill_no、或 order_id 之一指明商品。",
        ),
        "return_too_much": (
            "More came back than is out. See errors for the line and how many units are out.",
            "退回数量超过已发未退数量。请查看 errors 中的行与数量。",
        ),
        "return_not_found": (
            "No such return. Search by order_id in GET /v1/returns.",
            "没有这个退货。请用 GET /v1/returns?order_id=… 查询。",
        ),
        "case_not_found": ("No such case. List with GET /v1/cases.", "没有这个异常单。请用 GET /v1/cases 查询。"),
        "case_closed": (
            "The case is closed already. See it in GET /v1/cases?open=false.",
            "异常单已关闭。可用 GET /v1/cases?open=false 查看。",
        ),
        "carrier_rule_not_found": (
            "No such rule. List with GET /v1/carrier-rules.",
            "没有这条规则。请用 GET /v1/carrier-rules 查询。",
        ),
        "band_reversed": ("max_weight_grams must be above min_weight_grams.", "max_weight_grams 须大于 min_weight_grams。"),
        "shipment_not_found": (
            "No such shipment. Search by waybill_no in GET /v1/shipments.",
            "没有这个包裹。请用 GET /v1/shipments?waybill_no=… 查询。",
        ),
        "reference_reused": (
            "This reference was used for something else. Use a reference of its own for each event or return.",
            "该 reference 已用于其他内容。每个事件或退货请使用各自的 reference。",
        ),
        "place_not_found": (
            "No such place. It appears here once inventory has announced it; list with GET /v1/places.",
            "没有这个地点。库存服务发布后才会出现，请用 GET /v1/places 查询。",
        ),
        "series_overlaps": (
            "The numbers overlap another block, or parcels have them. A number is given once: see GET /v1/waybill-series.",
            "号段与其他号段重叠，或其中号码已用于包裹。运单号永不重复，请用 GET /v1/waybill-series 查询。",
        ),
        "series_in_use": (
            "The block has given later numbers. Let it end at the last number given, or after it.",
            "该号段已发出更大的号码。结束号不得小于已发出的最后一个号码。",
        ),
        "label_of_which_parcel": (
            "The order left in several parcels, each with a label of its own. Name one with shipment_id.",
            "该履约单有多个包裹，各有面单。请用 shipment_id 指定。",
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
