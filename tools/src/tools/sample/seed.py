"""Setting the made-up retailer up over HTTP: places, goods, stock, freight tables, rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tools.client import Clients
from tools.sample.goods import BUNDLES, GOODS, SCARCE, Good
from tools.sample.places import PLACES, Place, freight_tables
from tools.waiting import until

LINES_A_RECEIPT = 500
KNOWN_SECONDS = 30.0

RULES: list[dict[str, Any]] = [
    {"rule_id": "address", "kind": "address", "allowed_grades": ["complete", "street_short"]},
    {"rule_id": "phone", "kind": "phone", "reachable_kinds": ["mobile", "landline", "virtual", "masked"]},
    {"rule_id": "amount", "kind": "amount", "currency": "CNY", "max_paid_minor": 500_000},
    {"rule_id": "quantity", "kind": "quantity", "max_units_per_sku": 20, "max_units_per_order": 60},
    {"rule_id": "blacklist", "kind": "blacklist", "token_kinds": ["buyer", "phone", "receiver", "address"]},
]


async def seed_places(oms: Clients, places: Sequence[Place] = PLACES) -> None:
    await oms.put("inventory", "/v1/locations", {"locations": [place.location() for place in places]})
    await oms.put("router", "/v1/freight-tables", {"reason": "sample data", "carriers": freight_tables()})


async def seed_goods(oms: Clients, goods: Iterable[Good] = (*GOODS, SCARCE), *, bundles: bool = True) -> None:
    items = [good.item() for good in goods]
    for start in range(0, len(items), LINES_A_RECEIPT):
        await oms.put("inventory", "/v1/items", {"items": items[start : start + LINES_A_RECEIPT]})
    if bundles:
        await oms.put("inventory", "/v1/items", {"items": list(BUNDLES)})


async def seed_stock(oms: Clients, place_id: str, units: Sequence[tuple[Good, int]], *, reference: str) -> None:
    """One goods receipt per some hundred lines; the reference makes repeating it harmless."""
    for start in range(0, len(units), LINES_A_RECEIPT):
        lines = [
            {"sku_id": good.sku_id, "quantity": count, "unit_cost_minor": good.standard_cost_minor}
            for good, count in units[start : start + LINES_A_RECEIPT]
        ]
        await oms.post("inventory", "/v1/receipts", {"reference": f"{reference}-{start}", "place_id": place_id, "lines": lines})


async def seed_rules(oms: Clients, rules: Sequence[dict[str, Any]] = RULES) -> None:
    await oms.put("audit", "/v1/rule-set", {"reason": "sample data", "rules": list(rules)})


async def wait_for_places(oms: Clients, places: Sequence[Place] = PLACES) -> None:
    """Wait until router knows every place. Goods need no waiting: an order for one that ingest does not know yet is parked
    and goes on when the item arrives.

    Errors: TimeoutError.
    """
    wanted = {place.place_id for place in places}

    async def look() -> bool:
        return {place["place_id"] async for place in oms.pages("router", "/v1/locations")} >= wanted

    await until(look, seconds=KNOWN_SECONDS, what="router knows every place")


async def drive_by_wms(oms: Clients, place_id: str, wms_url: str, *, reason: str) -> None:
    """Let the WMS at this address drive a place, as soon as fulfillment knows the place.

    Errors: TimeoutError.
    """

    async def known() -> bool:
        return place_id in {place["place_id"] async for place in oms.pages("fulfillment", "/v1/places")}

    await until(known, seconds=KNOWN_SECONDS, what=f"fulfillment knows the place {place_id}")
    connector = {"connector": "http", "base_url": wms_url, "secret_name": "demo", "reason": reason}
    await oms.put("fulfillment", f"/v1/places/{place_id}/connector", connector)
