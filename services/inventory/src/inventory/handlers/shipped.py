"""shipment.created: the goods have left; on_hand and allocated fall, exactly once per shipment and origin line."""

from collections.abc import Sequence

from contracts import ShipmentCreated
from eventing import Received, UnitOfWork
from inventory.domain.counts import Change, StockError
from inventory.handlers.context import HANDED_OVER, Inventory
from inventory.store import orders, stock
from inventory.store.stock import Movement


async def on_shipment_created(inventory: Inventory, received: Sequence[Received[ShipmentCreated]], work: UnitOfWork) -> None:
    """Take shipped units out of the counts of the place that held them; the order is closed with its last unit.

    What was handed over was booked when it was audited. **Errors**: StockError for goods that were never allocated (parked).
    """
    events = [record.event for record in received if record.event.fulfilment_kind != HANDED_OVER]
    if not events:
        return
    locked = await orders.lock_orders(work, {event.order_id for event in events} | {event.root_id for event in events})
    movements, owner = [], {}
    for event in events:
        row = locked.get(event.order_id)
        if row is None or row.place_no is None:
            raise StockError(f"shipment {event.shipment_id} of an order that is not allocated")
        for line in event.part.lines:
            if line.sku_id not in row.skus:
                raise StockError(f"shipment {event.shipment_id} has a SKU that its order has not")
            change = Change(on_hand=-line.quantity, allocated=-line.quantity)
            movement = Movement(
                line.origin_order_id,
                event.shipment_id,
                line.origin_line,
                "shipped",
                line.sku_id,
                row.place_no,
                change,
                line.unit_cost_minor,
            )
            movements.append(movement)
            owner[movement.effect] = row
    new = await stock.add_movements(work, movements)
    moved = [movement for movement in movements if movement.effect in new]
    counts = await stock.lock_place_stock(work, {(movement.sku_id, movement.place_no) for movement in moved})
    for movement in moved:
        quantity = -movement.change.on_hand
        counts[movement.sku_id, movement.place_no].ship(quantity)
        row = owner[movement.effect]
        if quantity > row.units_left:
            raise StockError(f"{quantity} shipped of order {row.order_id}, {row.units_left} left")
        row.units_left -= quantity
    changed = {owner[movement.effect].order_id: owner[movement.effect] for movement in moved}
    for row in changed.values():
        # No new step: steps count what is reported, and that the goods have left is fulfillment's to say.
        if row.units_left == 0:
            row.state = "closed"
    await stock.save_place_stock(work, counts)
    await orders.save_orders(work, list(changed.values()))
    inventory.mark_levels(work, places=counts)
