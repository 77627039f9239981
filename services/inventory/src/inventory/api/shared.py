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
        "order_not_stuck": (
            "The order is not stuck. GET /v1/stuck lists those that are.",
            "该订单并未受阻。请用 GET /v1/stuck 查询受阻订单。",
        ),
        "unknown_sku": ("Is not in the catalogue; see GET /v1/items.", "商品档案中没有该商品，请用 GET /v1/items 查询。"),
        "unknown_place": ("Is not a known place; see GET /v1/locations.", "不是已知地点，请用 GET /v1/locations 查询。"),
        "bundle_has_no_stock": ("Is a bundle, which has no stock of its own.", "是组合商品，自身没有库存。"),
        "bundle_in_bundle": ("A bundle cannot be part of a bundle.", "组合商品不能包含组合商品。"),
        "named_twice": ("Names the same thing twice.", "内容重复。"),
        "quantity_zero": ("Must not be 0.", "不能为 0。"),
        "count_below_zero": ("Only {counted} are counted here.", "此处账面仅有 {counted} 件。"),
        "count_too_high": ("More than 2,000,000,000 units cannot be counted.", "数量超过上限 2,000,000,000。"),
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
