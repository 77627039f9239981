"""What HTTP reads: pages over the tables, one statement each."""

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, Select, any_, select

from eventing import UnitOfWork
from inventory import tables
from inventory.store.rows import rows
from webapi.paging import Keyset, PageRequest

ITEMS = Keyset("items", (tables.item.c.sku_id, str))
LOCATIONS = Keyset("locations", (tables.location.c.place_id, str))
STOCK = Keyset("stock", (tables.pool_stock.c.sku_id, str), (tables.pool_stock.c.pool_id, str))
MOVEMENTS_NEWEST = Keyset("movements", (tables.movement.c.movement_id, int), descending=True)
MOVEMENTS_OLDEST = Keyset("movements", (tables.movement.c.movement_id, int))
# Document ids are made in order of time.
DOCUMENTS_NEWEST = Keyset("documents", (tables.stock_document.c.document_id, UUID), descending=True)
DOCUMENTS_OLDEST = Keyset("documents", (tables.stock_document.c.document_id, UUID))
INCOMING = Keyset("incoming", (tables.incoming.c.document_id, UUID), (tables.incoming.c.sku_id, str), descending=True)
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
SELECT p.sku_id, p.pool_id, p.free, p.overpromised, p.waking, p.safety, s.on_hand, s.allocated, s.short, s.damaged, s.incoming,
       s.on_hand - s.allocated - s.short - p.free + p.overpromised AS reserved, coalesce(s.places, '[]') AS places
FROM pool_stock p
CROSS JOIN LATERAL (
    SELECT coalesce(sum(c.on_hand), 0)::bigint AS on_hand, coalesce(sum(c.allocated), 0)::bigint AS allocated,
           coalesce(sum(c.short), 0)::bigint AS short, coalesce(sum(c.damaged), 0)::bigint AS damaged,
           coalesce(sum(c.incoming), 0)::bigint AS incoming,
           json_agg(json_build_object(
               'place_id', l.place_id, 'on_hand', c.on_hand, 'allocated', c.allocated, 'short', c.short, 'safety', c.safety,
               'damaged', c.damaged, 'incoming', c.incoming
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


_READ_ATP = """
SELECT sku_id, pool_id, on_hand, allocated, short, on_hand - allocated - short - free + overpromised AS reserved, safety,
       incoming,
       greatest(0, free - overpromised - safety + incoming) AS atp
FROM (
    SELECT p.sku_id, p.pool_id, p.free, p.overpromised, p.safety, coalesce(s.on_hand, 0) AS on_hand,
           coalesce(s.allocated, 0) AS allocated, coalesce(s.short, 0) AS short, coalesce(e.units, 0) AS incoming
    FROM pool_stock p
    LEFT JOIN LATERAL (
        SELECT sum(c.on_hand)::bigint AS on_hand, sum(c.allocated)::bigint AS allocated, sum(c.short)::bigint AS short
        FROM place_stock c JOIN location l USING (place_no) WHERE c.sku_id = p.sku_id AND l.pool_id = p.pool_id
    ) s ON true
    LEFT JOIN LATERAL (
        SELECT sum(greatest(0, i.announced - i.arrived))::bigint AS units FROM incoming i JOIN location l USING (place_no)
        WHERE i.sku_id = p.sku_id AND l.pool_id = p.pool_id AND i.open AND i.due_on <= $2::date
    ) e ON true
    WHERE p.sku_id = ANY($1::text[])
) t
"""
_FIND_BUNDLE_PARTS = "SELECT bundle_id, sku_id, quantity FROM bundle_part WHERE bundle_id = ANY($1::text[]) ORDER BY 1, 2"


async def read_atp(work: UnitOfWork, skus: Collection[str], *, due_by: date) -> Sequence[Any]:
    """Per SKU and pool, with what is due by a day."""
    return await rows(work, _READ_ATP, list(skus), due_by)


async def find_bundle_parts(work: UnitOfWork, bundle_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """Units by part; SKUs that are no bundles are left out."""
    parts: dict[str, dict[str, int]] = {}
    for row in await rows(work, _FIND_BUNDLE_PARTS, list(bundle_ids)):
        parts.setdefault(row.bundle_id, {})[row.sku_id] = row.quantity
    return parts


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


async def list_backorders(
    work: UnitOfWork,
    paging: PageRequest,
    *,
    sku_id: str | None,
    pool_id: str | None,
    order_id: UUID | None,
    most_priority: int | None,
) -> Sequence[Any]:
    """Waiting lines, per SKU in the order in which they will be served."""
    statement = select(tables.backorder)
    if sku_id is not None:
        statement = statement.where(_backorder.sku_id == sku_id)
    if pool_id is not None:
        statement = statement.where(_backorder.pool_id == pool_id)
    if order_id is not None:
        statement = statement.where(_backorder.order_id == order_id)
    if most_priority is not None:
        statement = statement.where(_backorder.priority <= most_priority)
    return await _page(work, statement, BACKORDERS, paging)


async def list_stuck(
    work: UnitOfWork, paging: PageRequest, *, sku_id: str | None, pool_id: str | None, code: str | None
) -> Sequence[Any]:
    stuck, order = tables.stuck_order.c, tables.stock_order.c
    statement = select(tables.stuck_order, order.attempt, order.pool_id, order.skus, order.quantities).join(
        tables.stock_order, order.order_id == stuck.order_id
    )
    if sku_id is not None:
        statement = statement.where(any_(order.skus) == sku_id)
    if pool_id is not None:
        statement = statement.where(order.pool_id == pool_id)
    if code is not None:
        statement = statement.where(stuck.code == code)
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


async def list_documents(
    work: UnitOfWork,
    paging: PageRequest,
    *,
    kind: str | None,
    place_id: str | None,
    reference: str | None,
    recorded_by: str | None,
    newest_first: bool,
) -> Sequence[Any]:
    document = tables.stock_document.c
    statement = _documents()
    for column, value in (
        (document.kind, kind),
        (tables.location.c.place_id, place_id),
        (document.reference, reference),
        (document.recorded_by, recorded_by),
    ):
        if value is not None:
            statement = statement.where(column == value)
    return await _page(work, statement, documents_keyset(newest_first=newest_first), paging)


def documents_keyset(*, newest_first: bool) -> Keyset:
    return DOCUMENTS_NEWEST if newest_first else DOCUMENTS_OLDEST


async def find_document(work: UnitOfWork, document_id: UUID) -> Any | None:
    statement = _documents().where(tables.stock_document.c.document_id == document_id)
    return (await work.connection.execute(statement)).one_or_none()


def _documents() -> Select[Any]:
    place_no = tables.stock_document.c.place_no
    return select(tables.stock_document, tables.location.c.place_id).join(
        tables.location, tables.location.c.place_no == place_no
    )


async def list_incoming(
    work: UnitOfWork,
    paging: PageRequest,
    *,
    sku_id: str | None,
    place_id: str | None,
    kind: str | None,
    is_open: bool | None,
) -> Sequence[Any]:
    incoming, document = tables.incoming.c, tables.stock_document.c
    statement = (
        select(tables.incoming, document.kind, document.reference, document.recorded_at, tables.location.c.place_id)
        .join(tables.stock_document, document.document_id == incoming.document_id)
        .join(tables.location, tables.location.c.place_no == incoming.place_no)
    )
    for column, value in (
        (incoming.sku_id, sku_id),
        (tables.location.c.place_id, place_id),
        (document.kind, kind),
        (incoming.open, is_open),
    ):
        if value is not None:
            statement = statement.where(column == value)
    return await _page(work, statement, INCOMING, paging)


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
