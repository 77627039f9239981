"""What the routes share: the process's runtime, and the texts of their problems."""

from typing import Annotated

from fastapi import Depends, Request
from pydantic import StringConstraints

from eventing import Runtime
from inventory.handlers.context import Inventory
from webapi.texts import register_texts

register_texts(
    {
        "item_not_found": ("No such SKU. Search with GET /v1/items?query=….", "没有该商品。请用 GET /v1/items?query=… 查询。"),
        "order_not_found": (
            "Inventory does not know this order. It may not have been cleared yet; GET /v1/orders of ingest tells where it is.",
            "库存服务没有该订单。订单可能尚未通过审核，可在接单服务 GET /v1/orders 查询其位置。",
        ),
        "order_not_held": (
            "Only an order that is held and not yet at a place can be offered. GET /v1/orders/{order_id} tells where it is.",
            "仅已锁库且尚未分配到地点的订单可以重新寻源。请用 GET /v1/orders/{order_id} 查询其状态。",
        ),
        "order_not_open": (
            "The order is finished or lies at a place; its priority matters no more.",
            "订单已结束或已分配到地点，优先级不再起作用。",
        ),
        "place_of_other_pool": (
            "Belongs to another pool than the order is held against.",
            "该地点不属于订单锁定的库存池。",
        ),
        "place_of_buyer": (
            "The buyer collects this order at the place it names; no other can be chosen for it.",
            "该订单由买家到指定地点自提，不能改由其他地点发货。",
        ),
        "unknown_sku": ("Is not in the catalogue; see GET /v1/items.", "商品档案中没有该商品，请用 GET /v1/items 查询。"),
        "unknown_place": ("Is not a known place; see GET /v1/locations.", "不是已知地点，请用 GET /v1/locations 查询。"),
        "bundle_has_no_stock": ("Is a bundle, which has no stock of its own.", "是组合商品，自身没有库存。"),
        "bundle_in_bundle": ("A bundle cannot be part of a bundle.", "组合商品不能包含组合商品。"),
        "named_twice": ("Names the same thing twice.", "内容重复。"),
        "quantity_zero": ("Must not be 0.", "不能为 0。"),
        "count_below_zero": ("Only {counted} are counted here.", "此处账面仅有 {counted} 件。"),
        "count_too_high": ("More than 2,000,000,000 units cannot be counted.", "数量超过上限 2,000,000,000。"),
        "damaged_below_zero": ("Only {counted} damaged units are counted here.", "此处残次品仅有 {counted} 件。"),
        "units_promised": (
            "Only {counted} units here are not promised to orders.",
            "此处未被订单占用的仅有 {counted} 件。",
        ),
        "unknown_incoming": (
            "Is not an announcement for this place; see GET /v1/incoming.",
            "不是该地点的到货预告，请用 GET /v1/incoming 查询。",
        ),
        "incoming_closed": (
            "Nothing of it is expected any more. GET /v1/incoming?open=true lists what is.",
            "该预告已关闭。请用 GET /v1/incoming?open=true 查询未到货内容。",
        ),
        "document_not_found": (
            "There is no such document of this kind. List them with GET /v1/documents.",
            "没有该类单据。请用 GET /v1/documents 查询。",
        ),
        "same_place": ("Must be another place than the one they leave.", "调入地点不能与调出地点相同。"),
        "not_sent": ("Was not sent with this transfer.", "本次调拨未发出该商品。"),
        "lines_missing": ("Name every SKU that was sent, with 0 where none came.", "请列出所有已发商品，未收到的填 0。"),
        "in_the_future": ("Lies in the future: check the clock.", "时间晚于当前时间，请核对时钟。"),
        "unknown_movement": (
            "Is higher than any movement_id; see GET /v1/movements. Leave it out where your system does not follow them.",
            "大于现有的最大 movement_id，请用 GET /v1/movements 查询；若系统不跟踪流水，请勿填写。",
        ),
        "snapshot_outdated": (
            "A younger snapshot of this place was booked before. Send one that was taken later.",
            "该地点已有更新的快照。请发送更晚的快照。",
        ),
        "item_deleted": (
            "Was deleted, and its id is never used again. Choose another SKU id.",
            "该商品已删除，编码不再使用。请使用新的编码。",
        ),
        "location_deleted": (
            "Was deleted, and its id is never used again. Choose another place id.",
            "该地点已删除，编码不再使用。请使用新的编码。",
        ),
        "bundle_fixed": (
            "A bundle stays a bundle, and a plain SKU a plain one. Add another SKU instead.",
            "组合商品与普通商品不可互换。请新建商品。",
        ),
        "still_in_use": (
            "There are still units, orders or announced goods of it. Bring them to 0 first; see GET /v1/stock.",
            "仍有库存、订单或在途货物。请先清零，可用 GET /v1/stock 查询。",
        ),
        "part_of_bundle": (
            "Is part of the bundle {bundle}. Change or delete the bundle first.",
            "是组合商品 {bundle} 的组成部分。请先修改或删除该组合商品。",
        ),
        "location_not_found": (
            "No such place. List them with GET /v1/locations.",
            "没有该地点。请用 GET /v1/locations 查询。",
        ),
        "unknown_pool": ("Has no place; see GET /v1/locations.", "该库存池下没有地点，请用 GET /v1/locations 查询。"),
        "one_kind_of_goods": ("Name a SKU or a category, not both.", "商品与类目只能填写一项。"),
        "local_time": ("Is a local time: leave the offset out.", "应为当地时间，请勿包含时区。"),
        "pool_fixed": (
            "A place stays in its pool. Close this place and add another one for the other pool.",
            "地点的库存池不可更改。请停用该地点，并为另一库存池新建地点。",
        ),
        "stock_refused": (
            "Nothing was booked. Correct the lines listed in errors and send it again.",
            "未记账。请按 errors 中列出的明细修改后重新发送。",
        ),
        "reference_reused": (
            "This reference was used for something else. Use a new reference for a new document.",
            "该单号已用于其他内容。新单据请使用新的单号。",
        ),
    }
)
Reference = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]


def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def _inventory(request: Request) -> Inventory:
    inventory: Inventory = request.app.state.inventory
    return inventory


RuntimeOf = Annotated[Runtime, Depends(_runtime)]
InventoryOf = Annotated[Inventory, Depends(_inventory)]
