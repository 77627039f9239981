"""Events and catalogue entries with defaults, for every test of the service."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from contracts import (
    AllocationReturned,
    Destination,
    Fulfilment,
    Order,
    OrderAudited,
    OrderLine,
    OrderRouted,
    Part,
    PartLine,
    Progress,
    ShipmentCreated,
    StockAllocated,
    StockReserved,
    StopAnswered,
    StopRequested,
)
from contracts.spine import OriginQuantity, StoppedLine

NOW = datetime(2026, 11, 11, 2, 0, tzinfo=UTC)
PROGRESS = Progress(step=1, stage="cleared", code="order_cleared", params={"rules": 5, "version": 1})


def an_item(sku_id: str = "茶", **changes: Any) -> dict[str, Any]:
    return {
        "sku_id": sku_id,
        "name": f"商品 {sku_id}",
        "weight_grams": 500,
        "tax_rate_bp": 1300,
        "standard_cost_minor": 1234,
    } | changes


def a_place(place_id: str = "杭州仓", **changes: Any) -> dict[str, Any]:
    return {
        "place_id": place_id,
        "name": place_id,
        "kind": "warehouse",
        "region_code": "330106",
        "latitude": 30.3,
        "longitude": 120.2,
        "carriers": ["sf"],
        "daily_capacity": 1_000_000,
    } | changes


def an_audited(
    wanted: Mapping[str, int] | None = None, *, order_id: UUID | None = None, root_id: UUID | None = None, **changes: Any
) -> OrderAudited:
    """A cleared order; one line per SKU."""
    order_id = order_id or uuid4()
    lines = list((wanted or {"茶": 1}).items())
    order = Order(
        order_id=order_id,
        channel="taobao",
        shop_id="旗舰店",
        channel_order_no=str(order_id),
        source_version=1,
        received_at=changes.pop("received_at", NOW),
        placed_at=NOW,
        trade_state="to_ship",
        payment_state="paid",
        refund_state="none",
        collection="platform_escrow",
        currency="CNY",
        lines=[
            OrderLine(
                line=number,
                channel_line_id=str(number),
                sku_id=sku_id,
                quantity=quantity,
                unit_list_price_minor=5000,
                paid_minor=5000 * quantity,
                receivable_minor=5000 * quantity,
                tax_rate_bp=1300,
                tax_minor=575 * quantity,
                unit_weight_grams=500,
            )
            for number, (sku_id, quantity) in enumerate(lines, 1)
        ],
        paid_minor=5000,
        receivable_minor=5000,
        fulfilment=changes.pop("fulfilment", Fulfilment()),
        destination=Destination(
            region_code="310115",
            province="上海市",
            city="上海市",
            district="浦东新区",
            latitude=31.2,
            longitude=121.5,
            address_grade="complete",
            phone_kind="mobile",
            receiver_token="r",
            phone_token="p",
            address_token="a",
        ),
        **changes,
    )
    part = Part(
        order_id=order_id,
        root_id=root_id or order_id,
        lines=[
            PartLine(
                origin_order_id=order_id,
                origin_line=number,
                sku_id=sku_id,
                quantity=quantity,
                paid_minor=5000 * quantity,
                receivable_minor=5000 * quantity,
                tax_minor=575 * quantity,
                unit_weight_grams=500,
            )
            for number, (sku_id, quantity) in enumerate(lines, 1)
        ],
    )
    return OrderAudited(
        root_id=root_id or order_id, order_id=order_id, progress=PROGRESS, order=order, part=part, rule_set_version=1
    )


def a_routed(reserved: StockReserved, *place_nos: int, attempt: int | None = None) -> OrderRouted:
    """Plans for a held order; all places it offers, unless some are named."""
    numbers = place_nos or tuple(place[0] for place in reserved.places)
    return OrderRouted(
        root_id=reserved.root_id,
        order_id=reserved.order_id,
        progress=PROGRESS,
        attempt=reserved.attempt if attempt is None else attempt,
        policy_version=1,
        plans=[(number, "sf", 800 + number, 2) for number in numbers],
    )


def no_plan(reserved: StockReserved) -> OrderRouted:
    return OrderRouted(
        root_id=reserved.root_id,
        order_id=reserved.order_id,
        progress=PROGRESS,
        attempt=reserved.attempt,
        policy_version=1,
        plans=[],
    )


def a_shipment(allocated: StockAllocated, *, shipment_id: UUID | None = None, **changes: Any) -> ShipmentCreated:
    return ShipmentCreated(
        **{
            "root_id": allocated.root_id,
            "order_id": allocated.order_id,
            "progress": PROGRESS,
            "order": allocated.order,
            "part": allocated.part,
            "shipment_id": shipment_id or uuid4(),
            "place_id": allocated.place_id,
            "fulfilment_kind": "to_ship",
            "carrier": "sf",
            "waybill_no": "SF1",
            "weight_grams": 600,
            "shipped_at": NOW,
        }
        | changes
    )


def lines_of(order: OrderAudited, units: Mapping[str, int]) -> list[OriginQuantity]:
    return [
        OriginQuantity(
            origin_order_id=line.origin_order_id,
            origin_line=line.origin_line,
            sku_id=line.sku_id,
            quantity=units[line.sku_id],
        )
        for line in order.part.lines
        if line.sku_id in units
    ]


def a_return(allocated: StockAllocated, units: Mapping[str, int], **changes: Any) -> AllocationReturned:
    return AllocationReturned(
        **{
            "root_id": allocated.root_id,
            "order_id": allocated.order_id,
            "progress": PROGRESS,
            "attempt": allocated.attempt,
            "return_no": 1,
            "place_id": allocated.place_id,
            "place_no": allocated.place_no,
            "lines": lines_of(allocated, units),  # type: ignore[arg-type]
            "reason": "stopped",
            "whole": units == {line.sku_id: line.quantity for line in allocated.part.lines},
        }
        | changes
    )


def an_answer(asked: StopRequested, stopped: int) -> StopAnswered:
    return StopAnswered(
        root_id=asked.root_id,
        order_id=asked.root_id,
        progress=PROGRESS,
        request_id=asked.request_id,
        lines=[StoppedLine(**line.key._asdict(), stopped=stopped) for line in asked.lines],
    )


async def allocate(shop: Any, audited: OrderAudited, *places: int) -> StockAllocated:
    (reserved,) = (await shop.harness.receive([audited])).emitted
    (allocated,) = (await shop.harness.receive([a_routed(reserved, *places)])).emitted
    assert isinstance(allocated, StockAllocated)
    return allocated
