"""A shop in a world: its orders and goods, and what people and channels ask of them. Every act settles before it returns."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tools.sample.goods import Good
from tools.sample.orders import OrderMaker
from tools.sample.places import PLACES
from tools.sample.seed import seed_goods, seed_places, seed_rules, seed_stock

from .world import World


async def seed(world: World) -> None:
    """Places, freight tables and rules of the made-up retailer, known everywhere."""
    await seed_places(world.oms)
    await seed_rules(world.oms)
    await world.settle()


@dataclass
class Shop:
    """One shop of one channel."""

    world: World
    name: str = "shop"
    maker: OrderMaker = field(init=False)
    _serial: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.maker = OrderMaker(1, now=self.world.clock.now(), run=self.name.upper())

    # Goods

    async def good(self, units: int = 0, *, place_id: str = "WH-HANGZHOU", price_minor: int = 5000, name: str = "") -> Good:
        good = Good(name or f"{self.name}-{next(self._serial)}", "测试商品", "home", price_minor, 2000, 300)
        await seed_goods(self.world.oms, [good], bundles=False)
        if units:
            await self.receive(good, units, place_id=place_id)
        await self.world.settle()
        return good

    async def receive(self, good: Good, units: int, *, place_id: str = "WH-HANGZHOU") -> None:
        await seed_stock(self.world.oms, place_id, [(good, units)], reference=self.reference())
        await self.world.settle()

    async def count(self, good: Good, counted: int, *, place_id: str = "WH-HANGZHOU") -> None:
        body = {"reference": self.reference(), "place_id": place_id, "reason": "stock-taking"}
        await self.post("inventory", "/v1/counts", body | {"lines": [{"sku_id": good.sku_id, "counted": counted}]})

    async def place(self, connector: str = "automatic", *, kind: str = "warehouse", **how: Any) -> str:
        """A place of the shop's own, open to all of the country, and driven so."""
        place_id = f"PL-{self.reference()}"
        place = PLACES[0]._replace(place_id=place_id, name="测试仓", kind=kind, priority=200)
        await seed_places(self.world.oms, [place])
        await self.world.settle()
        body = {"connector": connector, "reason": "test", **how}
        await self.world.oms.put("fulfillment", f"/v1/places/{place_id}/connector", body)
        return place_id

    async def stock(self, good: Good) -> dict[str, int]:
        """What there is of a good, over all places."""
        (row,) = (await self.world.oms.get("inventory", "/v1/stock", sku_id=good.sku_id))["items"]
        return {name: row[name] for name in ("on_hand", "allocated", "reserved", "atp")}

    # Orders

    def order(self, good: Good, quantity: int = 1, *, channel: str = "wechat_shop", **changes: Any) -> dict[str, Any]:
        return self.order_of([(good, quantity)], channel=channel, **changes)

    def order_of(
        self, wanted: list[tuple[Good, int]], *, channel: str = "wechat_shop", freight_minor: int = 0, **changes: Any
    ) -> dict[str, Any]:
        """An order of several lines, paid in full."""
        lines = [self.maker.line(good, units, number=number) for number, (good, units) in enumerate(wanted, 1)]
        paid_minor = sum(line["paid_minor"] for line in lines) + freight_minor
        plain = {
            "lines": lines,
            "freight_list_minor": freight_minor,
            "paid_minor": paid_minor,
            "payments": [],
            "notes": {},
            "shop_id": self.name,
        }
        return self.maker.order(channel, **{**plain, **changes})

    async def send(self, *orders: dict[str, Any]) -> list[dict[str, Any]]:
        await self.post("ingest", "/v1/orders", {"orders": list(orders)})
        return [await self.detail(order) for order in orders]

    async def newer(self, order: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """The channel's next version of an order."""
        following = order | {"source_version": order["source_version"] + 1000} | changes
        return (await self.send(following))[0]

    async def detail(self, order: dict[str, Any]) -> dict[str, Any]:
        path = f"/v1/orders/by-channel/{order['channel']}/{order['shop_id']}/{order['channel_order_no']}"
        found: dict[str, Any] = await self.world.oms.get("ingest", path)
        return found

    async def stage(self, order: dict[str, Any]) -> str:
        return str((await self.detail(order))["stage"])

    async def parts(self, order: dict[str, Any]) -> Counter[str]:
        """The stages of an order's parts; of the order itself where it was never divided."""
        detail = await self.detail(order)
        return Counter(part["stage"] for part in detail["parts"] or [detail])

    async def ids(self, order: dict[str, Any]) -> list[str]:
        """The order and its parts."""
        detail = await self.detail(order)
        return list(dict.fromkeys([detail["order_id"], *(part["order_id"] for part in detail["parts"])]))

    # Acts

    async def cancel(self, order: dict[str, Any], *lines: tuple[int, int]) -> dict[str, Any]:
        """Ask for a cancel of all that is left, or of units by line; returns the request as it ends."""
        detail = await self.detail(order)
        body: dict[str, Any] = {"reason": "buyer_asked"}
        if lines:
            body["lines"] = [{"line": line, "quantity": units} for line, units in lines]
        asked = await self.post("ingest", f"/v1/orders/{detail['order_id']}/cancellation", body)
        return await self.request(asked["request_id"])

    async def request(self, request_id: str, kind: str = "cancellations") -> dict[str, Any]:
        found: dict[str, Any] = await self.world.oms.get("ingest", f"/v1/{kind}/{request_id}")
        return found

    async def withdraw(self, request: dict[str, Any]) -> dict[str, Any]:
        path = f"/v1/cancellations/{request['request_id']}"
        await self.world.oms.call("ingest", "DELETE", path, params={"reason": "kept after all"})
        await self.world.settle()
        return await self.request(request["request_id"])

    async def change_receiver(self, order: dict[str, Any], **receiver: str) -> dict[str, Any]:
        """Ask for another receiver; returns the request as it ends."""
        detail = await self.detail(order)
        body = {"receiver": order["receiver"] | receiver, "reason": "the buyer asked"}
        asked = await self.post("ingest", f"/v1/orders/{detail['order_id']}/changes", body)
        return await self.request(asked["request_id"], "changes")

    async def refund(self, order: dict[str, Any], amount_minor: int) -> None:
        detail = await self.detail(order)
        body = {
            "refund_id": self.reference(),
            "amount_minor": amount_minor,
            "settled_at": self.world.clock.now().isoformat(),
            "reason": "buyer_asked",
        }
        await self.post("ingest", f"/v1/orders/{detail['order_id']}/refunds", body)

    async def release(self, order: dict[str, Any]) -> None:
        detail = await self.detail(order)
        await self.post("audit", f"/v1/orders/{detail['order_id']}/release", {"reason": "fine"})

    async def reject(self, order: dict[str, Any]) -> None:
        detail = await self.detail(order)
        await self.post("audit", f"/v1/orders/{detail['order_id']}/reject", {"reason": "fraud"})

    async def work(self, order: dict[str, Any]) -> list[dict[str, Any]]:
        """The fulfilment orders of an order and its parts."""
        return [
            row
            for order_id in await self.ids(order)
            async for row in self.world.oms.pages("fulfillment", "/v1/fulfilment-orders", order_id=order_id)
        ]

    async def at_place(self, order: dict[str, Any], act: str, **body: Any) -> None:
        """An act of the place that works on the order."""
        (work,) = [row for row in await self.work(order) if row["status"] not in ("closed", "cancelled")]
        path = f"/v1/fulfilment-orders/{work['fulfilment_order_id']}/{act}"
        await self.post("fulfillment", path, {"reason": "test", **body})

    async def labels(self, order: dict[str, Any]) -> list[str]:
        """What is printed on the parcels."""
        path = "/v1/fulfilment-orders/{}/label"
        return [
            str(await self.world.oms.get("fulfillment", path.format(row["fulfilment_order_id"])))
            for row in await self.work(order)
            if row["status"] == "closed"
        ]

    async def shipments(self, order: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            row
            for order_id in await self.ids(order)
            async for row in self.world.oms.pages("fulfillment", "/v1/shipments", order_id=order_id, sort="shipped_at")
        ]

    async def take_back(self, shipment: dict[str, Any], *lines: dict[str, Any]) -> None:
        """Goods of a parcel came back; each line by condition."""
        body = {
            "reference": self.reference(),
            "shipment_id": shipment["shipment_id"],
            "why": "buyer_return",
            "reason": "不合适",
        }
        await self.post("fulfillment", "/v1/returns", body | {"lines": list(lines)})

    async def templates(self, order: dict[str, Any]) -> Counter[str]:
        """The vouchers of an order and its parts, by template."""
        return Counter(
            [
                row["template"]
                for order_id in await self.ids(order)
                async for row in self.world.oms.pages("ledger", "/v1/vouchers", order_id=order_id)
            ]
        )

    async def post(self, service: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = await self.world.oms.post(service, path, body)
        await self.world.settle()
        return answer

    def reference(self) -> str:
        return f"{self.name}-{next(self._serial)}"


def settled(request: dict[str, Any]) -> list[tuple[int, int, str]]:
    """(cancelled, refused, code) per line of a cancel."""
    return [(line["cancelled"], line["refused"], line["code"]) for line in request["lines"]]
