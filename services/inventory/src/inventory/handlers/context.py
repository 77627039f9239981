"""What every handler of one process shares, and the words in which they tell of an order."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from functools import partial
from uuid import UUID

from contracts import Order, OrderAudited, Part, Progress, StockAllocated, StockBackordered, StockReserved
from contracts.order import PartLine
from contracts.spine import ShortLine
from eventing import UnitOfWork
from inventory.domain.allocation import Plan
from inventory.domain.cancelling import LineKey
from inventory.domain.offers import Place, Places, Wish, offer
from inventory.domain.reservation import Missing
from inventory.levels import DirtyLevels
from inventory.settings import Settings
from inventory.store import orders, stock
from inventory.store.catalogue import PlaceDirectory
from inventory.store.levels import LevelKey
from inventory.store.orders import OrderRow
from inventory.store.stock import Supply

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


def local_time(now: datetime) -> datetime:
    return now.astimezone(LOCAL_ZONE)


def local_day(now: datetime) -> date:
    return local_time(now).date()


def document_of(body: bytes) -> OrderAudited:
    """The order and part blocks as audit sent them, the part less what has left it since."""
    return OrderAudited.model_validate_json(body)


def body_of(document: OrderAudited) -> bytes:
    return document.model_dump_json().encode()


def units_by_sku(lines: Iterable[PartLine]) -> dict[str, int]:
    units: dict[str, int] = {}
    for line in lines:
        units[line.sku_id] = units.get(line.sku_id, 0) + line.quantity
    return units


def units_by_line(lines: Iterable[PartLine]) -> dict[LineKey, int]:
    return {LineKey(*line.key): line.quantity for line in lines}


def divide(lines: Iterable[PartLine], first: Mapping[LineKey, int]) -> tuple[list[PartLine], list[PartLine]]:
    """The first so many units of each line, and the rest; the money follows the goods."""
    taken, rest = [], []
    for line in lines:
        units = first.get(LineKey(*line.key), 0)
        if units == line.quantity:
            taken.append(line)
        elif units == 0:
            rest.append(line)
        else:
            one, other = line.divide(units)
            taken.append(one)
            rest.append(other)
    return taken, rest


def with_part(document: OrderAudited, **changes: object) -> OrderAudited:
    return document.model_copy(update={"part": document.part.model_copy(update=changes)})


def child_of(
    parent: OrderRow, order_id: UUID, document: OrderAudited, lines: Sequence[PartLine], *, freight: bool
) -> OrderAudited:
    """The document of an order split off another one, with these lines of it."""
    part = Part(
        order_id=order_id,
        parent_id=parent.order_id,
        root_id=parent.root_id,
        lines=list(lines),
        freight=document.part.freight if freight else [],
    )
    return document.model_copy(update={"order_id": order_id, "part": part})


def child_row(parent: OrderRow, order_id: UUID, state: str, wanted: Mapping[str, int], **changes: object) -> OrderRow:
    """A new order beside or below its parent; step 0 until it is first told of."""
    row = OrderRow(
        order_id=order_id,
        root_id=parent.root_id,
        step=0,
        state=state,
        attempt=0,
        reoffers=0,
        pool_id=parent.pool_id,
        place_no=None,
        priority=parent.priority,
        received_at=parent.received_at,
        skus=[],
        quantities=[],
        units_left=0,
        kind=parent.kind,
        parent_id=parent.order_id,
        excluded=list(parent.excluded),
    )
    row.want(wanted)
    for name, value in changes.items():
        setattr(row, name, value)
    return row


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
        excluded=row.excluded,
        forced=row.forced_place_no,
    )


async def get_documents(work: UnitOfWork, order_ids: Collection[UUID]) -> dict[UUID, OrderAudited]:
    bodies = await orders.get_documents(work, order_ids)
    return {order_id: document_of(body) for order_id, body in bodies.items()}


async def offer_again(
    inventory: Inventory,
    rows: Sequence[OrderRow],
    work: UnitOfWork,
    *,
    documents: Mapping[UUID, OrderAudited] | None = None,
) -> list[StockReserved]:
    """Offer held orders to routing with a fresh snapshot, read after all writes. Their rows say the new attempt and step."""
    if not rows:
        return []
    if documents is None:
        documents = await get_documents(work, [row.order_id for row in rows])
    places, used = await inventory.places.read(work, local_day(work.now))
    supply = await stock.read_supply(work, {sku_id for row in rows for sku_id in row.skus})
    left = places.capacity_left(local_time(work.now), used)
    return [reserved(row, documents[row.order_id], places, supply, left) for row in rows]


def reserved(
    row: OrderRow,
    audited: OrderAudited,
    places: Places,
    supply: Supply,
    capacity_left: Mapping[int, int],
    *,
    code: str = "stock_reserved",
    replaces: Sequence[UUID] = (),
) -> StockReserved:
    wish = wish_of(row, audited.order)
    free = supply.free if wish.forced is None else supply.physical
    made = offer(wish, places, free=free, capacity_left=capacity_left)
    if not made.able and supply.physical is not free:
        # Safety stock yields to what is promised already: a held order is not stuck by a rule.
        made = offer(wish, places, free=supply.physical, capacity_left=capacity_left)
    return StockReserved(
        root_id=row.root_id,
        order_id=row.order_id,
        progress=Progress(
            step=row.step,
            stage="reserved",
            code=code,
            params={"pool": row.pool_id, "places": made.able},
            attempt=row.attempt,
        ),
        order=audited.order,
        part=audited.part,
        attempt=row.attempt,
        pool_id=row.pool_id,
        skus=made.skus,
        places=made.places,
        excluded=row.excluded,
        forced=row.forced_place_no,
        replaces=list(replaces),
    )


def backordered(row: OrderRow, part: Part, short: Sequence[Missing], *, replaces: Sequence[UUID] = ()) -> StockBackordered:
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
        replaces=list(replaces),
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
    row: OrderRow,
    document: OrderAudited,
    place: Place,
    costs: Mapping[str, int],
    *,
    plan: Plan,
    number: int,
    of: int,
    day: date,
    replaces: Sequence[UUID] = (),
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
        order=document.order,
        part=with_costs(document.part, costs),
        attempt=row.attempt,
        place_id=place.place_id,
        place_no=place.place_no,
        carrier=plan.carrier,
        landed_cost_minor=plan.landed_cost_minor,
        promised_on=day + timedelta(days=plan.promised_days),
        replaces=list(replaces),
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
