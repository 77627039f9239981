"""What the demo says at the end: counts, money, and the story of one order."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tools.client import Clients
from tools.terminal import Terminal, columns

SHANGHAI = ZoneInfo("Asia/Shanghai")


def yuan(minor: int) -> str:
    return f"{'-' if minor < 0 else ''}¥{abs(minor) // 100:,}.{abs(minor) % 100:02d}"


def counted(counts: Counter[str]) -> str:
    return " · ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


async def summary(oms: Clients, terminal: Terminal) -> None:
    """Received, held, waiting, routed where, shipped, vouchers, profit per channel, trial balance."""
    stages = {row["stage"]: row["count"] for row in await oms.get("ingest", "/v1/stages")}
    names = {place["place_id"]: place["name"] async for place in oms.pages("inventory", "/v1/locations")}
    holds = Counter([hold["kind"] async for hold in oms.pages("audit", "/v1/holds", status="open")])
    waiting = {row["order_id"] async for row in oms.pages("inventory", "/v1/backorders")}
    shipments = [shipment async for shipment in oms.pages("fulfillment", "/v1/shipments")]
    places = Counter([names[shipment["place_id"]] for shipment in shipments])
    vouchers = Counter([voucher["template"] async for voucher in oms.pages("ledger", "/v1/vouchers")])
    balance = await oms.get("ledger", "/v1/trial-balance")
    delivered = sum(shipment["state"] == "delivered" for shipment in shipments)
    terminal.say("Summary", "bold")
    rows = [
        ("received", f"{sum(stages.values())} orders: {counted(Counter(stages))}"),
        ("held", f"{sum(holds.values())} open holds: {counted(holds)}"),
        ("back-ordered", f"{len(waiting)} orders wait for stock"),
        ("shipped from", counted(places)),
        ("parcels", f"{len(shipments)}, of which {delivered} delivered or handed over"),
        ("vouchers", f"{sum(vouchers.values())}: {counted(vouchers)}"),
    ]
    for line in columns(rows):
        terminal.say(f"  {line}")
    terminal.say()
    await _profit(oms, terminal)
    for total in balance["totals"]:
        terminal.say(
            f"  trial balance {total['currency']}: debits {yuan(total['debit_minor'])} − credits {yuan(total['credit_minor'])}"
            f" = {yuan(total['difference_minor'])}"
        )
    terminal.say()


async def _profit(oms: Clients, terminal: Terminal) -> None:
    rows: list[tuple[str, ...]] = [("channel", "revenue", "cost", "freight", "profit", "estimated, not yet delivered")]
    async for row in oms.pages("ledger", "/v1/profit", by="channel"):
        done, open_ = row["recognised"], row["estimated"]
        rows.append(
            (
                row["key"],
                yuan(done["revenue_minor"]),
                yuan(done["cost_minor"]),
                yuan(done["freight_minor"]),
                yuan(done["profit_minor"]),
                yuan(open_["profit_minor"]),
            )
        )
    for line in columns(rows, right=(1, 2, 3, 4, 5)):
        terminal.say(f"  {line}")


async def story(oms: Clients, terminal: Terminal, order: dict[str, Any]) -> None:
    """One order's way in dated lines: what happened, why this place, what it cost, its vouchers."""
    path = f"/v1/orders/by-channel/{order['channel']}/{order['shop_id']}/{order['channel_order_no']}"
    detail = await oms.get("ingest", path)
    decision = await oms.get("router", f"/v1/decisions/{detail['order_id']}")
    vouchers = [row async for row in oms.pages("ledger", "/v1/vouchers", order_id=detail["order_id"], sort="number")]
    where = detail["order"]["destination"]
    terminal.say(f"The story of {order['channel']} {order['channel_order_no']}", "bold")
    terminal.say(
        f"  {_local(detail['placed_at'])}  placed, to {where['province']}{where['city']}{where['district']},"
        f" paid {yuan(detail['paid_minor'])}"
    )
    for entry in detail["timeline"]:
        if entry["service"] == "ledger":
            continue
        terminal.say(f"  {_local(entry['at'])}  {entry['service']}: {entry['text']}")
        if entry["stage"] == "routed":
            for line in _why(decision):
                terminal.say(f"                     {line}", "dim")
    for voucher in vouchers:
        terminal.say(
            f"  {_local(voucher['recorded_at'])}  ledger: voucher {voucher['word']}-{voucher['number']} {voucher['template']}"
        )
        entries = [
            (
                "Dr" if entry["debit_minor"] else "   Cr",
                f"{entry['account']} {entry['account_name']}",
                yuan(entry["debit_minor"] or entry["credit_minor"]),
            )
            for entry in voucher["entries"]
        ]
        for line in columns(entries, right=(2,)):
            terminal.say(f"                     {line}", "dim")
    terminal.say()


def _why(decision: dict[str, Any]) -> list[str]:
    lines = [f"{finding['name']}: {finding['text']}" for finding in decision["findings"][:2]]
    refused = Counter([finding["text"] for finding in decision["findings"] if finding["rank"] is None])
    if decision["runner_up"]:
        lines.insert(0, f"why: {decision['runner_up']['text']}")
    return lines + [f"not eligible ({count}): {text}" for text, count in refused.most_common(2)]


def _local(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(SHANGHAI).strftime("%m-%d %H:%M:%S.%f")[:-5]
