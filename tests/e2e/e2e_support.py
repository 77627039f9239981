"""What end-to-end tests share: a shop of their own, and ways to wait for what becomes of its orders."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka.structs import RecordMetadata

from tools.client import ApiError, Clients
from tools.sample.goods import Good
from tools.sample.orders import OrderMaker
from tools.sample.seed import seed_goods, seed_stock
from tools.waiting import until

SECONDS = 60.0
Publish = Callable[..., Awaitable[RecordMetadata]]
_SERIAL = itertools.count(1)


@dataclass
class Shop:
    """A test's own shop: its orders, its goods, and where they are."""

    oms: Clients
    name: str
    maker: OrderMaker

    def good(self, *, price_minor: int = 5000) -> Good:
        return Good(f"{self.name}-{next(_SERIAL)}", "测试商品", "home", price_minor, 2000, 300)

    async def stocked(self, units: int, *, place_id: str = "WH-HANGZHOU", price_minor: int = 5000) -> Good:
        good = self.good(price_minor=price_minor)
        await seed_goods(self.oms, [good], bundles=False)
        if units:
            await self.receive(good, units, place_id=place_id)
        return good

    async def receive(self, good: Good, units: int, *, place_id: str = "WH-HANGZHOU") -> None:
        await seed_stock(self.oms, place_id, [(good, units)], reference=f"{good.sku_id}-{secrets.token_hex(4)}")

    def order(self, good: Good, quantity: int = 1, *, channel: str = "wechat_shop", **changes: Any) -> dict[str, Any]:
        line = self.maker.line(good, quantity)
        plain = {"lines": [line], "freight_list_minor": 0, "paid_minor": line["paid_minor"], "payments": [], "notes": {}}
        return self.maker.order(channel, **{**plain, "shop_id": self.name, **changes})

    async def send(self, *orders: dict[str, Any]) -> list[dict[str, Any]]:
        answer = await self.oms.post("ingest", "/v1/orders", {"orders": list(orders)})
        results: list[dict[str, Any]] = answer["results"]
        return results

    async def detail(self, order: dict[str, Any]) -> dict[str, Any] | None:
        path = f"/v1/orders/by-channel/{order['channel']}/{order['shop_id']}/{order['channel_order_no']}"
        try:
            found: dict[str, Any] = await self.oms.get("ingest", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return found

    async def reaches(self, order: dict[str, Any], *stages: str) -> dict[str, Any]:
        """Wait until the order book shows one of the stages."""
        last: dict[str, Any] | None = None

        async def look() -> dict[str, Any] | None:
            nonlocal last
            last = await self.detail(order)
            return last if last and last["stage"] in stages else None

        try:
            found = await until(look, seconds=SECONDS, what=f"order {order['channel_order_no']} is {' or '.join(stages)}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; it is {last and last['stage']}: {last and last['why']}") from None
        assert found is not None
        return found

    async def vouchers(self, order_id: str, count: int) -> list[dict[str, Any]]:
        async def look() -> list[dict[str, Any]]:
            found = [row async for row in self.oms.pages("ledger", "/v1/vouchers", order_id=order_id, sort="number")]
            return found if len(found) >= count else []

        return await until(look, seconds=SECONDS, what=f"{count} vouchers of {order_id}")


@dataclass(frozen=True)
class Waiting:
    """Orders that no test touches any more."""

    shop: Shop
    back_ordered: dict[str, Any]
    delivered: dict[str, Any]


def body_of(order: dict[str, Any]) -> bytes:
    return json.dumps(order, ensure_ascii=False).encode()


def new_shop(oms: Clients) -> Shop:
    name = f"shop-{secrets.token_hex(4)}"
    return Shop(oms, name, OrderMaker(secrets.randbelow(10**6), now=datetime.now(UTC), run=name[-4:].upper()))
