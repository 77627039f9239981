"""What the demo sends, and what must become of each piece: mostly good orders, and one of each kind of trouble on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tools.sample.goods import GOODS, LATE, SCARCE, Good
from tools.sample.orders import CHANNELS, OVER_HTTP, OrderMaker
from tools.sample.places import PLACES

GOOD_ORDERS = 312
SEED = 1111
SCARCE_UNITS = 6
SCARCE_ORDERS = 10
LATE_ORDERS = 4
OUT_OF_STOCK = GOODS[20]
"""Never received anywhere at first; some units arrive while the demo runs."""
OUT_OF_STOCK_ORDERS = 3
AT_WMS = Good("TEA21-ZJ100", "紫笋茶 100 克", "food", 9900, 3900, 180)
"""In stock at the third party's warehouse alone."""
ONE_PLACE = Good("CUP22-350", "旅行茶具", "home", 12900, 4300, 620)
"""In stock at one place."""
NEVER_THERE = Good("WATCH23-BLK", "运动手表 黑", "digital", 89900, 41000, 120)
"""Announced, sold, and never received."""
BLACKLISTED_PHONE = "13900001111"
UNITS_AT_WAREHOUSES = 900
UNITS_AT_STORES = 60


@dataclass
class Script:
    """Orders by how they are sent, and the ones that something is expected of, by channel order number."""

    over_http: list[dict[str, Any]] = field(default_factory=list)
    over_kafka: list[dict[str, Any]] = field(default_factory=list)
    again: list[dict[str, Any]] = field(default_factory=list)
    """Sent a second time, over HTTP and Kafka."""
    late: list[dict[str, Any]] = field(default_factory=list)
    scarce: list[dict[str, Any]] = field(default_factory=list)
    out_of_stock: list[dict[str, Any]] = field(default_factory=list)
    held: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By kind of hold."""
    cancels: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Orders that are cancelled, changed or taken back, by what becomes of them."""
    refused: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By reason code."""

    def taken(self) -> int:
        """Different orders that must be in the order book."""
        return len(self.over_http) + len(self.over_kafka)

    def add(self, order: dict[str, Any]) -> dict[str, Any]:
        (self.over_http if order["channel"] in OVER_HTTP else self.over_kafka).append(order)
        return order


def write_script(now: datetime | None = None) -> Script:
    """Everything the demo sends. Equal times give equal orders."""
    maker = OrderMaker(SEED, now=now or datetime.now(UTC), run="D", goods=tuple(g for g in GOODS if g is not OUT_OF_STOCK))
    script = Script()
    for number in range(GOOD_ORDERS):
        script.add(maker.order(CHANNELS[number % len(CHANNELS)][0]))
    script.again = [*script.over_http[:5], *script.over_kafka[:5]]
    script.late = [script.add(_of(maker, "wechat_shop", LATE)) for _ in range(LATE_ORDERS)]
    script.scarce = [script.add(_of(maker, "douyin", SCARCE)) for _ in range(SCARCE_ORDERS)]
    script.out_of_stock = [script.add(_of(maker, "jd", OUT_OF_STOCK)) for _ in range(OUT_OF_STOCK_ORDERS)]
    script.held = {kind: [script.add(order) for order in orders] for kind, orders in _held(maker).items()}
    script.cancels = _cancels(maker)
    for name in ("held", "backordered", "moved"):
        script.add(script.cancels[name])
    script.refused = _refused(maker)
    return script


def stock_units(place_id: str) -> Sequence[tuple[Good, int]]:
    """What each place has at the start."""
    place = next(place for place in PLACES if place.place_id == place_id)
    units = UNITS_AT_WAREHOUSES if place.kind == "warehouse" else UNITS_AT_STORES
    goods = [(good, units) for good in GOODS if good is not OUT_OF_STOCK]
    return [*goods, (SCARCE, SCARCE_UNITS)] if place_id == PLACES[0].place_id else goods


def _held(maker: OrderMaker) -> dict[str, list[dict[str, Any]]]:
    nowhere = {**maker.receiver(), "province": "火星省", "city": "乌托邦市", "district": "", "street": "不知道"}
    unreachable = {**maker.receiver(), "phone": "12345"}
    blacklisted = {**maker.receiver(), "phone": BLACKLISTED_PHONE}
    coat = next(good for good in GOODS if good.sku_id == "COAT01-BLK-L")
    socks = next(good for good in GOODS if good.sku_id == "SOCK02-WHT")
    return {
        "address": [maker.order("wechat_shop", receiver=nowhere)],
        "phone": [maker.order("wechat_shop", receiver=unreachable)],
        "blacklist": [maker.order("wechat_shop", receiver=blacklisted)],
        "amount": [_of(maker, "taobao", coat, 8), _of(maker, "taobao", coat, 10)],
        "quantity": [_of(maker, "pdd", socks, 40)],
    }


def _cancels(maker: OrderMaker) -> dict[str, dict[str, Any]]:
    socks = next(good for good in GOODS if good.sku_id == "SOCK02-WHT")
    coat = next(good for good in GOODS if good.sku_id == "COAT01-BLK-L")
    return {
        "held": _of(maker, "wechat_shop", socks, 30),
        "backordered": _of(maker, "wechat_shop", NEVER_THERE),
        "moved": _of(maker, "wechat_shop", coat, 7),
        # These are sent when their turn has come, for their goods or places are made ready then.
        "at_wms": _of(maker, "wechat_shop", AT_WMS, 2),
        "part_at_wms": _of(maker, "wechat_shop", AT_WMS, 3),
        "reserved": _of(maker, "wechat_shop", ONE_PLACE),
        "opened": _of(maker, "wechat_shop", ONE_PLACE),
    }


def _refused(maker: OrderMaker) -> dict[str, dict[str, Any]]:
    first = maker.order("wechat_shop")
    too_many = maker.order("wechat_shop")
    line = too_many["lines"][0]
    free = maker.order("wechat_shop")
    free["lines"][0]["discounts"] = [{"payer": "shop", "amount_minor": 10 * free["lines"][0]["unit_list_price_minor"] * 3}]
    return {
        "too many lines": {**too_many, "lines": [{**line, "channel_line_id": str(number)} for number in range(1, 502)]},
        "discount above price": free,
        "negative quantity": {**first, "lines": [{**first["lines"][0], "quantity": -1}]},
        "misspelt field": {**first, "recieved_at": "2026-11-11T00:00:00Z"},
    }


def _of(maker: OrderMaker, channel: str, good: Good, quantity: int = 1) -> dict[str, Any]:
    line = maker.line(good, quantity)
    return maker.order(channel, lines=[line], freight_list_minor=0, paid_minor=line["paid_minor"], payments=[])
