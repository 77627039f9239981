"""Cancels at every stage, a change, refunds and a return: each made on purpose, and caught where it must be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx

from tools.client import Clients
from tools.demo.script import AT_WMS, NEVER_THERE, ONE_PLACE, Script
from tools.sample.places import PLACES, THIRD_PARTY
from tools.sample.seed import drive_by_wms, seed_goods, seed_places, seed_stock, wait_for_places
from tools.waiting import until

SECONDS = 60.0
PICK_SECONDS = 8.0
"""How long the demo WMS looks for the goods: long enough to stop them, short enough to wait for."""
Look = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class AfterSales:
    """What buyers and shops want once an order was placed. `detail` looks an order up; `intended` hears what went well."""

    def __init__(self, oms: Clients, script: Script, *, wms_url: str, detail: Look, intended: Callable[[str], None]) -> None:
        self._oms = oms
        self._script = script
        self._wms_url = wms_url
        self._detail = detail
        self._intended = intended

    async def seed(self) -> None:
        """A warehouse of somebody else's, driven by its WMS, and goods that only one place has."""
        await seed_places(self._oms, [THIRD_PARTY])
        await seed_goods(self._oms, [AT_WMS, NEVER_THERE, ONE_PLACE], bundles=False)
        await seed_stock(self._oms, THIRD_PARTY.place_id, [(AT_WMS, 50)], reference="opening-third-party")
        await seed_stock(self._oms, PLACES[2].place_id, [(ONE_PLACE, 50)], reference="opening-one-place")
        await wait_for_places(self._oms, [THIRD_PARTY])
        await drive_by_wms(self._oms, THIRD_PARTY.place_id, self._wms_url, reason="third-party warehouse")
        await self._turn({"pick_seconds": PICK_SECONDS, "ship_seconds": 0.0, "parcels": 2})

    async def run(self) -> None:
        await self._cancel_held()
        await self._cancel_backordered()
        await self._cancel_at_wms()
        await self._cancel_reserved()
        await self._cancel_shipped()
        await self._change_address()
        await self._take_back()

    async def _cancel_held(self) -> None:
        order = self._script.cancels["held"]
        await self._reaches(order, "held")
        await self._cancelled(order, by="audit", code="cancelled_held", units=order["lines"][0]["quantity"])
        await self._reaches(order, "cancelled")
        await self._refund(order)
        self._intended("cancel of a held order: settled by audit, money refunded")

    async def _cancel_backordered(self) -> None:
        order = self._script.cancels["backordered"]
        await self._reaches(order, "backordered")
        await self._cancelled(order, by="inventory", code="cancelled_backordered", units=1)
        await self._reaches(order, "cancelled")
        self._intended("cancel of a back-order: settled by inventory")

    async def _cancel_at_wms(self) -> None:
        whole, part = self._script.cancels["at_wms"], self._script.cancels["part_at_wms"]
        await self._oms.post("ingest", "/v1/orders", {"orders": [whole, part]})
        for order in (whole, part):
            await self._reaches(order, "allocated")
            await until(lambda order=order: self._is_accepted(order), seconds=SECONDS, what="the WMS has the order")  # type: ignore[misc]
        await self._cancelled(whole, by="inventory", code="cancelled_stopped", units=2)
        await self._reaches(whole, "cancelled")
        await self._cancelled(part, by="inventory", code="cancelled_stopped", units=1, lines=[{"line": 1, "quantity": 1}])
        await self._deliver(part, parcels=2)
        self._intended("cancel at a slow WMS: one order stopped whole; of another one unit stopped, two units shipped")

    async def _deliver(self, order: dict[str, Any], *, parcels: int) -> None:
        """What the carrier of a third party's warehouse reports; nobody else would."""
        order_id = (await self._detail(order))["order_id"]

        async def left() -> list[dict[str, Any]]:
            found = [parcel async for parcel in self._oms.pages("fulfillment", "/v1/shipments", order_id=order_id)]
            return found if len(found) == parcels else []

        for parcel in await until(left, seconds=SECONDS, what=f"{parcels} parcels have left the third party's warehouse"):
            progress = {"state": "delivered", "occurred_at": datetime.now(UTC).isoformat(), "reference": parcel["shipment_id"]}
            await self._oms.post(
                "fulfillment", f"/v1/shipments/{parcel['shipment_id']}/progress", progress | {"reason": "demo"}
            )
        await self._reaches(order, "delivered")

    async def _cancel_reserved(self) -> None:
        oms, cancelled, waits = self._oms, self._script.cancels["reserved"], self._script.cancels["opened"]
        places = [place.place_id for place in (*PLACES, THIRD_PARTY)]
        for place_id in places:
            await oms.post("inventory", f"/v1/locations/{place_id}/pause", {"reason": "stock-taking"})
        await oms.post("ingest", "/v1/orders", {"orders": [cancelled, waits]})
        for order in (cancelled, waits):
            await self._reaches(order, "reserved", "unroutable", "stuck")
        await self._cancelled(cancelled, by="inventory", code="cancelled_reserved", units=1)
        await self._reaches(cancelled, "cancelled")
        for place_id in places:
            await oms.post("inventory", f"/v1/locations/{place_id}/resume", {"reason": "stock-taking is over"})
        await self._reaches(waits, "shipped", "delivered")
        self._intended("all places paused: a reserved order cancelled; another shipped by itself once they opened")

    async def _cancel_shipped(self) -> None:
        order = self._script.cancels["opened"]
        await self._reaches(order, "delivered")
        request = await self._settled(order, None)
        line = request["lines"][0]
        if (line["cancelled"], line["refused"], line["code"]) != (0, 1, "too_late"):
            raise AssertionError(f"a cancel after shipping should be refused as too late, was {line}")
        self._intended("cancel after shipping: refused, too late")

    async def _change_address(self) -> None:
        order = self._script.cancels["moved"]
        await self._reaches(order, "held")
        order_id = (await self._detail(order))["order_id"]
        receiver = {
            **order["receiver"],
            "province": "四川省",
            "city": "成都市",
            "district": "武侯区",
            "street": "科华北路 12 号",
        }
        change = {"receiver": receiver, "reason": "the buyer moved"}
        answer = await self._oms.post("ingest", f"/v1/orders/{order_id}/changes", change)
        await self._request_is("changes", answer["request_id"])
        await self._oms.post("audit", f"/v1/orders/{order_id}/release", {"reason": "a company order"})
        detail = await self._reaches(order, "shipped", "delivered")
        if detail["order"]["destination"]["city"] != "成都市":
            raise AssertionError(f"the order should go to the new city, goes to {detail['order']['destination']['city']}")
        self._intended("address changed while held: shipped to the new city")

    async def _take_back(self) -> None:
        order = self._script.cancels["opened"]
        order_id = (await self._detail(order))["order_id"]
        lines = [{"sku_id": ONE_PLACE.sku_id, "good": 1, "bad": 0, "missing": 0}]
        back = {"order_id": order_id, "reference": "RMA-1", "why": "buyer_return", "lines": lines, "reason": "did not fit"}
        await self._oms.post("fulfillment", "/v1/returns", back)
        await self._refund(order)
        templates = await until(lambda: self._templates(order_id), seconds=SECONDS, what="return and refund are in the books")
        self._intended(f"return and refund after delivery: posted ({', '.join(sorted(templates))})")

    async def _templates(self, order_id: str) -> set[str]:
        found = {row["template"] async for row in self._oms.pages("ledger", "/v1/vouchers", order_id=order_id)}
        return found if {"refunded", "return_good"} <= found else set()

    async def _refund(self, order: dict[str, Any]) -> None:
        detail = await self._detail(order)
        refund = {
            "refund_id": f"RF-{order['channel_order_no']}",
            "amount_minor": detail["paid_minor"],
            "settled_at": datetime.now(UTC).isoformat(),
            "reason": "buyer_asked",
        }
        await self._oms.post("ingest", f"/v1/orders/{detail['order_id']}/refunds", refund)

    async def _cancelled(
        self, order: dict[str, Any], *, by: str, code: str, units: int, lines: list[dict[str, int]] | None = None
    ) -> None:
        """Cancel, and see that every unit asked for was cancelled by the stage that held it."""
        request = await self._settled(order, lines)
        codes = {line["code"] for line in request["lines"]}
        got = (sum(line["cancelled"] for line in request["lines"]), sum(line["refused"] for line in request["lines"]))
        if codes != {code} or got != (units, 0):
            raise AssertionError(f"a cancel caught by {by} should say {code} for {units} units, said {codes}: {got}")

    async def _settled(self, order: dict[str, Any], lines: list[dict[str, int]] | None) -> dict[str, Any]:
        order_id = (await self._detail(order))["order_id"]
        body = {"reason": "buyer_asked"} | ({"lines": lines} if lines else {})
        answer = await self._oms.post("ingest", f"/v1/orders/{order_id}/cancellation", body)
        return await self._request_is("cancellations", answer["request_id"])

    async def _request_is(self, kind: str, request_id: str) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            request: dict[str, Any] = await self._oms.get("ingest", f"/v1/{kind}/{request_id}")
            return request if request["state"] == "closed" else None

        found = await until(look, seconds=SECONDS, what=f"every unit of {kind} {request_id} is answered")
        assert found is not None  # noqa: S101  `until` returns nothing else
        return found

    async def _reaches(self, order: dict[str, Any], *stages: str) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            detail = await self._detail(order)
            return detail if detail["stage"] in stages else None

        found = await until(look, seconds=SECONDS, what=f"{order['channel_order_no']} is {' or '.join(stages)}")
        assert found is not None  # noqa: S101  `until` returns nothing else
        return found

    async def _is_accepted(self, order: dict[str, Any]) -> bool:
        order_id = (await self._detail(order))["order_id"]
        page = await self._oms.get("fulfillment", "/v1/fulfilment-orders", order_id=order_id)
        return any(item["request_status"] == "accepted" for item in page["items"])

    async def _turn(self, dials: dict[str, Any]) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            (await client.put(f"{self._wms_url}/dials", json=dials)).raise_for_status()
