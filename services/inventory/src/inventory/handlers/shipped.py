"""shipment.created: the goods have left; on_hand and allocated fall, exactly once per shipment and origin line."""

from collections.abc import Sequence

from contracts import PartLine, ShipmentCreated
from eventing import Received, UnitOfWork
from inventory.domain.cancelling import Held, LineKey, Root, shipped
from inventory.domain.counts import Change, StockError
from inventory.handlers.booking import disprove_task
from inventory.handlers.context import (
    HANDED_OVER,
    Inventory,
    body_of,
    get_documents,
    units_by_line,
    units_by_sku,
    with_part,
)
from inventory.store import orders, stock
from inventory.store.orders import OrderRow
from inventory.store.stock import Movement


async def on_shipment_created(inventory: Inventory, received: Sequence[Received[ShipmentCreated]], work: UnitOfWork) -> None:
    """Take shipped units out of the counts of the place that held them; the order is closed with its last unit.

    What was handed over was booked when it was audited. **Errors**: StockError for goods that were never allocated (parked).
    """
    events = [record.event for record in received if record.event.fulfilment_kind != HANDED_OVER]
    if not events:
        return
    locked = await orders.lock_orders(work, {event.order_id for event in events} | {event.root_id for event in events})
    movements, owner, left_with = [], {}, {}
    for event in events:
        row = locked.get(event.order_id)
        if row is None or row.place_no is None:
            raise StockError(f"shipment {event.shipment_id} of an order that is not allocated")
        for line in event.part.lines:
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
            left_with[movement.effect] = line
    new = await stock.add_movements(work, movements)
    moved = [movement for movement in movements if movement.effect in new]
    counts = await stock.lock_place_stock(work, {(movement.sku_id, movement.place_no) for movement in moved})
    wanted = {row.order_id: row.wanted if row.units_left else {} for row in owner.values()}
    for movement in moved:
        quantity = -movement.change.on_hand
        row = owner[movement.effect]
        there = wanted[row.order_id].get(movement.sku_id, 0)
        if quantity > there:
            raise StockError(f"{quantity} units of {movement.sku_id} shipped of order {row.order_id}, {there} left")
        wanted[row.order_id][movement.sku_id] = there - quantity
        counts[movement.sku_id, movement.place_no].ship(quantity)
        row.units_left -= quantity
    changed = {owner[movement.effect].order_id: owner[movement.effect] for movement in moved}
    closed = [row.order_id for row in changed.values() if row.units_left == 0]
    for order_id in closed:
        # No new step: steps count what is reported, and that the goods have left is fulfillment's to say.
        changed[order_id].state = "closed"
    left = [row for row in changed.values() if row.units_left]
    await keep_the_rest(left, [(owner[movement.effect], left_with[movement.effect]) for movement in moved], work)
    await stock.save_place_stock(work, counts)
    await orders.save_orders(work, list(changed.values()))
    await orders.rewrite_orders(work, left)
    await orders.remove_documents(work, closed)
    inventory.mark_levels(work, places=counts)
    # More has left than was counted there: what was booked as short was there after all.
    work.add_tasks(disprove_task(key, work) for key, count in counts.items() if count.counted < 0)


async def keep_the_rest(left: Sequence[OrderRow], moved: Sequence[tuple[OrderRow, PartLine]], work: UnitOfWork) -> None:
    """Take parcels out of the documents of orders of which something is left; the freight went with the first parcel."""
    if not left:
        return
    documents = await get_documents(work, [row.order_id for row in left])
    for row in left:
        document = documents[row.order_id]
        parcels = [line for owner, line in moved if owner is row]
        gone: dict[LineKey, int] = {}
        for line in parcels:
            gone[LineKey(*line.key)] = gone.get(LineKey(*line.key), 0) + line.quantity
        here = Held(row.order_id, 1, row.state, row.attempt, units_by_line(document.part.lines))
        shipped(Root((here,)), row.order_id, gone)
        rest = without(document.part.lines, parcels)
        row.want(units_by_sku(rest))
        documents[row.order_id] = with_part(document, lines=rest, freight=[])
    await orders.save_documents(work, {order_id: body_of(document) for order_id, document in documents.items()})


def without(lines: Sequence[PartLine], gone: Sequence[PartLine]) -> list[PartLine]:
    """What is left of the lines, with the money that the parcels did not take: how a line is divided depends on its steps, and
    whoever packed knows them."""
    left = {line.key: line for line in lines}
    for parcel in gone:
        line = left[parcel.key]
        if line.quantity == parcel.quantity:
            del left[parcel.key]
            continue
        left[parcel.key] = line.model_copy(
            update={
                "quantity": line.quantity - parcel.quantity,
                "paid_minor": max(0, line.paid_minor - parcel.paid_minor),
                "receivable_minor": max(0, line.receivable_minor - parcel.receivable_minor),
                "tax_minor": max(0, line.tax_minor - parcel.tax_minor),
            }
        )
    return list(left.values())
