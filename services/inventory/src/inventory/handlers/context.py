"""What every handler of one process shares, and the words in which they tell of an order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from functools import partial

from contracts import Order, OrderAudited, Part, Progress, StockAllocated, StockBackordered, StockReserved
from contracts.spine import ShortLine
from eventing import UnitOfWork
from inventory.domain.allocation import Plan
from inventory.domain.offers import Place, Places, Wish, offer
from inventory.domain.reservation import Missing
from inventory.levels import DirtyLevels
from inventory.settings import Settings
from inventory.store import orders, stock
from inventory.store.catalogue import PlaceDirectory
from inventory.store.levels import LevelKey
from inventory.store.orders import OrderRow

PICK_UP = "pick_up"
HANDED_OVER = "already_handed_over"
LOCAL_ZONE = timezone(timedelta(hours=8))
"""Places keep Chinese time; there is one, without daylight saving."""


@dataclass(slots=True)
class Inventory:
    settings: Settings
    places: PlaceDirectory = field(default_factory=PlaceDirectory)
    levels: DirtyLevels = field(default_factory=DirtyLevels)

    def mark_levels(self, work: UnitOfWork, *, skus: Iterable[str] = (), places: Iterable[tuple[str, int]] = ()) -> None:
        """Have these levels sent once the transaction has committed; a place's change is a change of its SKU's pool."""
        keys = [LevelKey(sku_id, place_no) for sku_id, place_no in places]
        keys += [LevelKey(sku_id) for sku_id in dict.fromkeys([*skus, *(key.sku_id for key in keys)])]
        if keys:
            work.after_commit(partial(self.levels.mark, keys))


def local_day(now: datetime) -> date:
    return now.astimezone(LOCAL_ZONE).date()


def document_of(body: bytes) -> OrderAudited:
    """The order and part blocks as audit sent them."""
    return OrderAudited.model_validate_json(body)


def units_by_sku(part: Part) -> dict[str, int]:
    units: dict[str, int] = {}
    for line in part.lines:
        units[line.sku_id] = units.get(line.sku_id, 0) + line.quantity
    return units


def wish_of(row: OrderRow, order: Order) -> Wish:
    to = order.destination
    return Wish(
        order_id=row.order_id,
        pool_id=row.pool_id,
        wanted=row.wanted,
        region_code="" if to is None else to.region_code,
        latitude=None if to is None else to.latitude,
        longitude=None if to is None else to.longitude,
        pick_up_at=order.fulfilment.place_id if order.fulfilment.kind == PICK_UP else None,
    )


async def offer_again(inventory: Inventory, rows: Sequence[OrderRow], work: UnitOfWork) -> list[StockReserved]:
    """Offer held orders to routing with a fresh snapshot, read after all writes. Their rows say the new attempt and step."""
    if not rows:
        return []
    bodies = await orders.get_documents(work, [row.order_id for row in rows])
    places, used = await inventory.places.read(work, local_day(work.now))
    supply = await stock.read_supply(work, {sku_id for row in rows for sku_id in row.skus})
    documents = {order_id: document_of(body) for order_id, body in bodies.items()}
    return [reserved(row, documents[row.order_id], places, free=supply.free, used=used) for row in rows]


def reserved(
    row: OrderRow,
    audited: OrderAudited,
    places: Places,
    *,
    free: Mapping[str, Mapping[int, int]],
    used: Mapping[int, int],
) -> StockReserved:
    made = offer(wish_of(row, audited.order), places, free=free, capacity_used=used)
    return StockReserved(
        root_id=row.root_id,
        order_id=row.order_id,
        progress=Progress(
            step=row.step,
            stage="reserved",
            code="stock_reserved",
            params={"pool": row.pool_id, "places": len(made.places)},
            attempt=row.attempt,
        ),
        order=audited.order,
        part=audited.part,
        attempt=row.attempt,
        pool_id=row.pool_id,
        skus=made.skus,
        places=made.places,
    )


def backordered(row: OrderRow, part: Part, short: Sequence[Missing]) -> StockBackordered:
    return StockBackordered(
        root_id=row.root_id,
        order_id=row.order_id,
        progress=Progress(
            step=row.step,
            stage="backordered",
            code="stock_short",
            # The first few name the trouble; all of them are in `short`.
            params={"short": [f"{line.sku_id} -{line.missing}" for line in short[:5]]},
            attempt=row.attempt,
        ),
        part=part,
        attempt=row.attempt,
        pool_id=row.pool_id,
        short=[ShortLine(sku_id=line.sku_id, wanted=line.wanted, missing=line.missing) for line in short],
    )


def stuck(row: OrderRow, part: Part, code: str) -> StockBackordered:
    """Held, nothing short, and nobody can ship it: told on the topic of what waits, which only the order book reads."""
    return StockBackordered(
        root_id=row.root_id,
        order_id=row.order_id,
        progress=Progress(step=row.step, stage="stuck", code=code, attempt=row.attempt),
        part=part,
        attempt=row.attempt,
        pool_id=row.pool_id,
        short=[],
    )


def allocated(
    row: OrderRow, audited: OrderAudited, place: Place, costs: Mapping[str, int], *, plan: Plan, number: int, of: int, day: date
) -> StockAllocated:
    """`number` of `of` plans was taken."""
    return StockAllocated(
        root_id=row.root_id,
        order_id=row.order_id,
        progress=Progress(
            step=row.step,
            stage="allocated",
            code="stock_allocated",
            params={"place": place.name, "plan": number, "plans": of},
            attempt=row.attempt,
        ),
        order=audited.order,
        part=with_costs(audited.part, costs),
        attempt=row.attempt,
        place_id=place.place_id,
        place_no=place.place_no,
        carrier=plan.carrier,
        landed_cost_minor=plan.landed_cost_minor,
        promised_on=day + timedelta(days=plan.promised_days),
    )


def booked(row: OrderRow, audited: OrderAudited, place: Place, costs: Mapping[str, int]) -> StockAllocated:
    """Goods that the buyer has already: attempt 0, for nothing was reserved."""
    return StockAllocated(
        root_id=row.root_id,
        order_id=row.order_id,
        progress=Progress(step=row.step, stage="allocated", code="stock_booked", params={"place": place.name}),
        order=audited.order,
        part=with_costs(audited.part, costs),
        attempt=0,
        place_id=place.place_id,
        place_no=place.place_no,
    )


def with_costs(part: Part, costs: Mapping[str, int]) -> Part:
    """Stamp the catalogue's standard cost on every line: from here on each voucher has its cost at hand."""
    lines = [line.model_copy(update={"unit_cost_minor": costs[line.sku_id]}) for line in part.lines]
    return part.model_copy(update={"lines": lines})
