"""Parcels of one order through inventory: in any number, told again, told wrongly."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from contracts import OrderAudited, Part, PartLine, ShipmentCreated, StockAllocated, StockReserved

from .builders import a_return, a_shipment, allocate, an_audited


def a_parcel(allocated: StockAllocated, lines: Sequence[PartLine], shipment_id: UUID | None = None) -> ShipmentCreated:
    part = allocated.part.model_copy(update={"lines": list(lines)})
    return a_shipment(allocated, shipment_id=shipment_id or uuid4(), part=part)


def worth(order: OrderAudited, **money: int) -> OrderAudited:
    """The order with this money on its only line."""
    part: Part = order.part.model_copy(update={"lines": [order.part.lines[0].model_copy(update=money)]})
    return order.model_copy(update={"part": part})


async def test_every_fen_of_an_order_in_parcels_is_with_one_of_them(shop: Any) -> None:
    """Fails if inventory divides the money of what has left anew, where it only sees the sum of two parcels."""
    await shop.stock_up({"杭州仓": {"茶": 20}})
    allocated = await allocate(shop, worth(an_audited({"茶": 10}), paid_minor=1008, receivable_minor=1008, tax_minor=18))
    one, rest = allocated.part.lines[0].divide(1)
    two, rest = rest.divide(1)
    await shop.harness.receive([a_parcel(allocated, [one]), a_parcel(allocated, [two])])
    back = a_return(allocated, {"茶": 8}, whole=False)
    (again,) = [event for event in (await shop.harness.receive([back])).emitted if isinstance(event, StockReserved)]
    (left,) = again.part.lines
    assert [one.paid_minor + two.paid_minor + left.paid_minor, one.tax_minor + two.tax_minor + left.tax_minor] == [1008, 18]


async def test_a_parcel_that_is_told_again_when_its_goods_are_off_the_order_changes_nothing(shop: Any) -> None:
    """Fails if a parcel is compared with what is left before it is known to be new: its redelivery would be parked."""
    await shop.stock_up({"杭州仓": {"茶": 2, "杯": 1}})
    allocated = await allocate(shop, an_audited({"茶": 2, "杯": 1}))
    first = a_parcel(allocated, allocated.part.lines[1:])
    assert (await shop.harness.receive([first])).parked == []
    assert (await shop.harness.receive([first])).parked == []
    assert (await shop.stock("杯"))["on_hand"] == 0
    await shop.harness.receive([a_parcel(allocated, allocated.part.lines[:1])])
    assert (await shop.harness.receive([first])).parked == []
    assert (await shop.ok("GET", "/v1/prove"))["proven"]


async def test_more_than_an_order_has_of_a_sku_never_leaves_for_it(shop: Any) -> None:
    """Fails if only the sum of an order's units is looked at: the parcel would take what another order was promised."""
    await shop.stock_up({"杭州仓": {"茶": 5, "杯": 5}})
    allocated = await allocate(shop, an_audited({"茶": 1, "杯": 1}))
    await allocate(shop, an_audited({"茶": 3}))
    wrong = allocated.part.lines[0].model_copy(update={"quantity": 2})
    assert len((await shop.harness.receive([a_parcel(allocated, [wrong])])).parked) == 1
    assert (await shop.stock("茶"))["on_hand"] == 5
