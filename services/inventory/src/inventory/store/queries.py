"""What HTTP reads: pages over the tables, one statement each."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, Select, select
from sqlalchemy.dialects.postgresql import insert

from eventing import UnitOfWork
from inventory import tables
from inventory.store.rows import rows
from webapi.paging import Keyset, PageRequest

ITEMS = Keyset("items", (tables.item.c.sku_id, str))
LOCATIONS = Keyset("locations", (tables.location.c.place_id, str))
STOCK = Keyset("stock", (tables.pool_stock.c.sku_id, str), (tables.pool_stock.c.pool_id, str))
MOVEMENTS_NEWEST = Keyset("movements", (tables.movement.c.movement_id, int), descending=True)
MOVEMENTS_OLDEST = Keyset("movements", (tables.movement.c.movement_id, int))
_backorder = tables.backorder.c
BACKORDERS = Keyset(
    "backorders",
    (_backorder.sku_id, str),
    (_backorder.pool_id, str),
    (_backorder.priority, int),
    (_backorder.received_at, datetime),
    (_backorder.order_id, UUID),
)
STUCK = Keyset("stuck", (tables.stuck_order.c.since, datetime), (tables.stuck_order.c.order_id, UUID))


async def list_items(work: UnitOfWork, paging: PageRequest, *, query: str | None, category: str | None) -> Sequence[RowMapping]:
    statement = select(tables.item)
    if query is not None:
        statement = statement.where(
            tables.item.c.sku_id.contains(query, autoescape=True) | tables.item.c.name.contains(query, autoescape=True)
        )
    if category is not None:
        statement = statement.where(tables.item.c.category == category)
    return await _mappings(work, statement, ITEMS, paging)


async def list_locations(
    work: UnitOfWork, paging: PageRequest, *, pool_id: str | None, kind: str | None, paused: bool | None
) -> Sequence[RowMapping]:
    statement = select(tables.location)
    location = tables.location.c
    for column, value in ((location.pool_id, pool_id), (location.kind, kind), (location.paused, paused)):
        if value is not None:
            statement = statement.where(column == value)
    return await _mappings(work, statement, LOCATIONS, paging)


# The pool's terms, and the counts of its places as JSON text. `reserved` is what is promised and not yet pinned to a place.
_LIST_STOCK = """
SELECT p.sku_id, p.pool_id, p.free, p.overpromised, p.waking, s.on_hand, s.allocated, s.short,
       s.on_hand - s.allocated - s.short - p.free + p.overpromised AS reserved, coalesce(s.places, '[]') AS places
FROM pool_stock p
CROSS JOIN LATERAL (
    SELECT coalesce(sum(c.on_hand), 0)::bigint AS on_hand, coalesce(sum(c.allocated), 0)::bigint AS allocated,
           coalesce(sum(c.short), 0)::bigint AS short,
           json_agg(json_build_object(
               'place_id', l.place_id, 'on_hand', c.on_hand, 'allocated', c.allocated, 'short', c.short
           ) ORDER BY l.place_id) FILTER (WHERE $3::text IS NULL OR l.place_id = $3)::text AS places
    FROM place_stock c JOIN location l USING (place_no) WHERE c.sku_id = p.sku_id AND l.pool_id = p.pool_id
) s
WHERE ($1::text IS NULL OR p.sku_id = $1) AND ($2::text IS NULL OR p.pool_id = $2)
  AND ($3::text IS NULL OR s.places IS NOT NULL)
  AND ($4::text IS NULL OR (p.sku_id, p.pool_id) > ($4, $5::text))
ORDER BY p.sku_id, p.pool_id LIMIT $6::int
"""


async def list_stock(
    work: UnitOfWork, paging: PageRequest, *, sku_id: str | None, place_id: str | None, pool_id: str | None
) -> Sequence[Any]:
    """Per SKU and pool; with `place_id`, only what that place has a count of."""
    after_sku, after_pool = STOCK.decode(paging.next) or (None, None)
    return await rows(work, _LIST_STOCK, sku_id, pool_id, place_id, after_sku, after_pool, paging.limit + 1)


async def list_movements(
    work: UnitOfWork,
    paging: PageRequest,
    *,
    sku_id: str | None,
    place_id: str | None,
    order_id: UUID | None,
    kind: str | None,
    newest_first: bool,
) -> Sequence[Any]:
    movement = tables.movement.c
    statement = select(tables.movement, tables.location.c.place_id).join(
        tables.location, tables.location.c.place_no == movement.place_no
    )
    for column, value in (
        (movement.sku_id, sku_id),
        (tables.location.c.place_id, place_id),
        (movement.subject_id, order_id),
        (movement.kind, kind),
    ):
        if value is not None:
            statement = statement.where(column == value)
    return await _page(work, statement, movements_keyset(newest_first=newest_first), paging)


def movements_keyset(*, newest_first: bool) -> Keyset:
    return MOVEMENTS_NEWEST if newest_first else MOVEMENTS_OLDEST


async def list_backorders(work: UnitOfWork, paging: PageRequest, *, sku_id: str | None, pool_id: str | None) -> Sequence[Any]:
    """Waiting lines, per SKU in the order in which they will be served."""
    statement = select(tables.backorder)
    if sku_id is not None:
        statement = statement.where(_backorder.sku_id == sku_id)
    if pool_id is not None:
        statement = statement.where(_backorder.pool_id == pool_id)
    return await _page(work, statement, BACKORDERS, paging)


async def list_stuck(work: UnitOfWork, paging: PageRequest) -> Sequence[Any]:
    stuck, order = tables.stuck_order.c, tables.stock_order.c
    statement = select(tables.stuck_order, order.attempt, order.pool_id, order.skus, order.quantities).join(
        tables.stock_order, order.order_id == stuck.order_id
    )
    return await _page(work, statement, STUCK, paging)


async def find_order(work: UnitOfWork, order_id: UUID) -> Any | None:
    order = tables.stock_order.c
    statement = (
        select(tables.stock_order, tables.location.c.place_id, tables.stuck_order.c.code)
        .outerjoin(tables.location, tables.location.c.place_no == order.place_no)
        .outerjoin(tables.stuck_order, tables.stuck_order.c.order_id == order.order_id)
        .where(order.order_id == order_id, order.state != "root")
    )
    return (await work.connection.execute(statement)).one_or_none()


async def find_missing(work: UnitOfWork, order: Any) -> dict[str, int]:
    """What a waiting order lacked when it was last looked at, by SKU."""
    statement = select(_backorder.sku_id, _backorder.missing).where(
        _backorder.sku_id.in_(order.skus),
        _backorder.pool_id == order.pool_id,
        _backorder.priority == order.priority,
        _backorder.received_at == order.received_at,
        _backorder.order_id == order.order_id,
        _backorder.missing > 0,
    )
    return {row.sku_id: row.missing for row in await work.connection.execute(statement)}


async def get_document(work: UnitOfWork, *, kind: str, reference: str) -> Any:
    """A receipt or adjustment by its reference."""
    document = tables.stock_document.c
    statement = select(tables.stock_document).where(document.kind == kind, document.reference == reference)
    return (await work.connection.execute(statement)).one()


async def add_document(work: UnitOfWork, **values: Any) -> bool:
    """Note a receipt or adjustment; False where its reference was taken."""
    statement = (
        insert(tables.stock_document)
        .values(recorded_at=work.now, **values)
        .on_conflict_do_nothing(index_elements=["kind", "reference"])
        .returning(tables.stock_document.c.document_id)
    )
    return (await work.connection.execute(statement)).one_or_none() is not None


async def _page(work: UnitOfWork, statement: Select[Any], keyset: Keyset, paging: PageRequest) -> Sequence[Any]:
    page: Sequence[Any] = (await work.connection.execute(_paged(statement, keyset, paging))).all()
    return page


async def _mappings(work: UnitOfWork, statement: Select[Any], keyset: Keyset, paging: PageRequest) -> Sequence[RowMapping]:
    page: Sequence[RowMapping] = (await work.connection.execute(_paged(statement, keyset, paging))).mappings().all()
    return page


def _paged(statement: Select[Any], keyset: Keyset, paging: PageRequest) -> Select[Any]:
    """One row more than asked for, which tells whether there is a next page."""
    statement = statement.where(keyset.after(keyset.decode(paging.next)))
    return statement.order_by(*keyset.order_by).limit(paging.limit + 1)
