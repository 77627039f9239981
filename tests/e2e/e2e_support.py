"""What end-to-end tests share: a shop of their own, and ways to wait for what becomes of its orders."""

from __future__ import annotations

import itertools
import json
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from aiokafka.structs import RecordMetadata

from tools.client import ApiError, Clients
from tools.sample.goods import Good
from tools.sample.orders import OrderMaker
from tools.sample.places import PLACES
from tools.sample.seed import drive_by_wms, seed_goods, seed_places, seed_stock, wait_for_places
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

    async def place(self, *, kind: str = "warehouse") -> str:
        """A place of the test's own, open to all of the country."""
        place_id = f"PL-{self.name}-{next(_SERIAL)}"
        place = PLACES[0]._replace(place_id=place_id, name="测试仓", kind=kind)
        await seed_places(self.oms, [place])

        async def is_known() -> bool:
            known = [each async for each in self.oms.pages("fulfillment", "/v1/places")]
            return place_id in {each["place_id"] for each in known}

        await wait_for_places(self.oms, [place])
        await until(is_known, seconds=SECONDS, what=f"fulfillment knows {place_id}")
        return place_id

    async def cancel(
        self, order: dict[str, Any], lines: list[dict[str, int]] | None = None, *, state: str = "closed"
    ) -> dict[str, Any]:
        """Ask for a cancel, and wait until every unit of it is settled."""
        detail = await self.detail(order)
        assert detail is not None
        body = {"reason": "buyer_asked"} | ({"lines": lines} if lines else {})
        answer = await self.oms.post("ingest", f"/v1/orders/{detail['order_id']}/cancellation", body)
        return await self.request(answer["request_id"], state)

    async def change(self, order: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """Ask for a change, and wait until it is applied or refused."""
        detail = await self.detail(order)
        assert detail is not None
        body = changes | {"reason": "the buyer asked"}
        answer = await self.oms.post("ingest", f"/v1/orders/{detail['order_id']}/changes", body)
        return await self.request(answer["request_id"], "closed", kind="changes")

    async def request(self, request_id: str, *states: str, kind: str = "cancellations") -> dict[str, Any]:
        last: dict[str, Any] = {}

        async def look() -> bool:
            nonlocal last
            last = await self.oms.get("ingest", f"/v1/{kind}/{request_id}")
            return last["state"] in states

        try:
            await until(look, seconds=SECONDS, what=f"request {request_id} is {' or '.join(states)}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; it is {last}") from None
        return last

    async def refund(self, order: dict[str, Any], amount_minor: int, *, refund_id: str | None = None) -> dict[str, Any]:
        detail = await self.detail(order)
        assert detail is not None
        body = {
            "refund_id": refund_id or f"RF-{secrets.token_hex(4)}",
            "amount_minor": amount_minor,
            "settled_at": datetime.now(UTC).isoformat(),
            "reason": "buyer_asked",
        }
        answer: dict[str, Any] = await self.oms.post("ingest", f"/v1/orders/{detail['order_id']}/refunds", body)
        return answer

    async def templates(self, order: dict[str, Any], *wanted: str) -> Counter[str]:
        """The vouchers of a channel order, by template, once all that are wanted are there."""
        detail = await self.detail(order)
        assert detail is not None
        last: Counter[str] = Counter()

        async def look() -> bool:
            nonlocal last
            last = Counter([row["template"] for row in await self.vouchers_of(order)])
            return last >= Counter(wanted)

        try:
            await until(look, seconds=SECONDS, what=f"vouchers {wanted}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; there are {last}") from None
        return last

    async def vouchers_of(self, order: dict[str, Any]) -> list[dict[str, Any]]:
        """The vouchers of a channel order and of the parts it was split into."""
        detail = await self.detail(order)
        assert detail is not None
        ids = {detail["order_id"], *(part["order_id"] for part in detail["parts"])}
        return [row for order_id in ids async for row in self.oms.pages("ledger", "/v1/vouchers", order_id=order_id)]

    async def stock(self, good: Good) -> dict[str, Any]:
        (stock,) = (await self.oms.get("inventory", "/v1/stock", sku_id=good.sku_id))["items"]
        found: dict[str, Any] = stock
        return found

    async def work(self, order: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
        """The fulfilment orders of a channel order, once there is one as wanted."""
        last: list[dict[str, Any]] = []

        async def look() -> bool:
            detail = await self.detail(order)
            assert detail is not None
            last.clear()
            for part in detail["parts"] or [detail]:
                path = "/v1/fulfilment-orders"
                last.extend([row async for row in self.oms.pages("fulfillment", path, order_id=part["order_id"])])
            return any(all(row[name] == value for name, value in wanted.items()) for row in last)

        try:
            await until(look, seconds=SECONDS, what=f"a fulfilment order with {wanted}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; there are {last}") from None
        return last

    async def deliver(self, order: dict[str, Any], *, parcels: int = 1) -> None:
        """What a carrier reports of parcels that no automatic place sent."""
        found: list[dict[str, Any]] = []

        async def look() -> bool:
            detail = await self.detail(order)
            assert detail is not None
            found.clear()
            for part in detail["parts"] or [detail]:
                path = "/v1/shipments"
                found.extend([row async for row in self.oms.pages("fulfillment", path, order_id=part["order_id"])])
            return len(found) >= parcels

        await until(look, seconds=SECONDS, what=f"{parcels} parcels have left")
        for parcel in found:
            shipment_id, now = parcel["shipment_id"], datetime.now(UTC).isoformat()
            progress = {"state": "delivered", "occurred_at": now, "reference": shipment_id, "reason": "the carrier rang"}
            await self.oms.post("fulfillment", f"/v1/shipments/{shipment_id}/progress", progress)


@dataclass(frozen=True)
class DemoWms:
    """The dials of the stack's demo WMS."""

    url: str

    async def turn(self, **dials: Any) -> None:
        """From here on: as quick as it can, but for these dials."""
        plain = {
            "accept_seconds": 0.0, "pick_seconds": 0.0, "ship_seconds": 0.0, "reject_rate": 0.0, "reject_skus": [],
            "short_rate": 0.0, "parcels": 1, "stops_after_pick": False, "stops_only_whole": False,
            "pending_stops": False, "duplicate_rate": 0.0,
        }  # fmt: skip
        async with httpx.AsyncClient(trust_env=False) as client:
            (await client.put(f"{self.url}/dials", json=plain | dials)).raise_for_status()

    async def drives(self, oms: Clients, place_id: str) -> None:
        await drive_by_wms(oms, place_id, self.url, reason="test")


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
