"""return.received: goods that buyers sent back, by the condition in which they came."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID, uuid5

from contracts import ReturnReceived
from contracts.spine import ReturnedLine
from eventing import Received, UnitOfWork
from inventory.domain.counts import PlaceCount, PoolCount, StockError
from inventory.domain.offers import Place
from inventory.handlers.booking import finish_pool, lock_places, lock_pool, redrive_tasks
from inventory.handlers.context import Inventory, local_day
from inventory.store import documents, stock
from inventory.store.stock import Effect, Movement

GOOD, MISSING = "good", "missing"


class Arrived(NamedTuple):
    line: ReturnedLine
    place: Place
    cause_id: UUID

    @property
    def effect(self) -> Effect:
        return self.line.origin_order_id, self.cause_id, self.line.origin_line, self.line.sku_id


async def on_return_received(inventory: Inventory, received: Sequence[Received[ReturnReceived]], work: UnitOfWork) -> None:
    """Good units are for sale again and wake who waits; all others but missing ones are damaged. Once per return, line, grade.

    A grade that is not known here is not for sale. **Errors**: StockError for a place or SKU that inventory never had (parked).
    """
    places, _ = await inventory.places.read(work, local_day(work.now))
    arrived = {piece.effect: piece for record in received for piece in _pieces(record.event, places.by_id)}
    if not arrived:
        return
    skus = {piece.line.sku_id for piece in arrived.values()}
    if unknown := skus - (await stock.read_costs(work, skus)).keys():
        raise StockError(f"{len(unknown)} SKUs came back that are not in the catalogue")
    pool = await lock_pool(work, {(piece.line.sku_id, piece.place.pool_id) for piece in arrived.values()})
    counts = await lock_places(inventory, work, {(piece.line.sku_id, piece.place.place_no) for piece in arrived.values()})
    known = await documents.find_effects(work, arrived.keys())
    movements = [
        _book(piece, counts[piece.line.sku_id, piece.place.place_no], pool[piece.line.sku_id, piece.place.pool_id])
        for effect, piece in arrived.items()
        if effect not in known
    ]
    await stock.save_place_stock(work, counts)
    await finish_pool(inventory, pool, work)
    await stock.add_movements(work, movements)
    inventory.mark_levels(work, places=counts)
    came = {(piece.line.sku_id, piece.place.pool_id) for piece in arrived.values() if piece.line.grade == GOOD}
    work.add_tasks(await redrive_tasks(came, work))


def _pieces(event: ReturnReceived, by_id: dict[str, Place]) -> list[Arrived]:
    place = by_id.get(event.place_id)
    if place is None:
        raise StockError(f"return {event.return_id} came to a place that is not in the catalogue")
    # One cause per grade: units of one line may come back in several conditions.
    return [
        Arrived(line, place, event.return_id if line.grade == GOOD else uuid5(event.return_id, line.grade))
        for line in event.lines
        if line.grade != MISSING
    ]


def _book(piece: Arrived, count: PlaceCount, level: PoolCount) -> Movement:
    line = piece.line
    if line.grade == GOOD:
        change = count.add(line.quantity)
        level.move(change.counted)
    else:
        change = count.put_aside(line.quantity)
    return Movement(
        line.origin_order_id,
        piece.cause_id,
        line.origin_line,
        "sent_back",
        line.sku_id,
        piece.place.place_no,
        change,
        line.unit_cost_minor,
        line.grade,
    )
