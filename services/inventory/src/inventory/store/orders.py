"""Order rows: the lock of everything about an order, and what it waits for."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from eventing import UnitOfWork
from inventory.domain.reservation import Missing
from inventory.store.rows import execute, rows

NORMAL_PRIORITY = 100


class NewOrder(NamedTuple):
    order_id: UUID
    root_id: UUID
    pool_id: str
    kind: str
    received_at: datetime
    wanted: Mapping[str, int]
    body: bytes
    place_no: int | None = None
    """Set where the goods have left that place already; the row gets it with its outcome."""


@dataclass(slots=True)
class OrderRow:
    """One order under its lock; `save_orders` writes back what changed."""

    order_id: UUID
    root_id: UUID
    step: int
    state: str
    attempt: int
    reoffers: int
    pool_id: str
    place_no: int | None
    priority: int
    received_at: datetime
    skus: list[str]
    quantities: list[int]
    units_left: int

    @property
    def wanted(self) -> dict[str, int]:
        return dict(zip(self.skus, self.quantities, strict=True))


# SKUs cannot hold control characters, so a unit separator joins an order's SKUs into one array element (arrays of arrays
# would have to be rectangular). The row is inserted as what most orders become; `save_orders` corrects the others within the
# same transaction.
_ADD_ORDERS = """
WITH given AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::int[], $9::bytea[]
    ) AS g(order_id, root_id, pool_id, kind, received_at, skus, quantities, units, body)
), added AS (
    INSERT INTO stock_order AS o (
        order_id, root_id, step, state, attempt, reoffers, pool_id, place_no, kind, priority, received_at, skus, quantities,
        units_left, changed_at
    )
    SELECT order_id, root_id, 1, 'reserved', 1, 0, pool_id, NULL, kind, $10::smallint, received_at,
           string_to_array(skus, E'\\x1f'), string_to_array(quantities, ',')::int[], units, $11::timestamptz
    FROM given
    ON CONFLICT (order_id) DO UPDATE SET
        root_id = excluded.root_id, step = o.step + 1, state = excluded.state, attempt = 1, pool_id = excluded.pool_id,
        kind = excluded.kind, received_at = excluded.received_at, skus = excluded.skus, quantities = excluded.quantities,
        units_left = excluded.units_left, changed_at = excluded.changed_at
    WHERE o.state = 'root'
    RETURNING order_id
), documents AS (
    INSERT INTO order_document (order_id, body) SELECT order_id, body FROM added JOIN given USING (order_id)
)
SELECT order_id FROM added
"""
_ADD_ROOTS = """
INSERT INTO stock_order (
    order_id, root_id, step, state, attempt, reoffers, pool_id, place_no, kind, priority, received_at, skus, quantities,
    units_left, changed_at
)
SELECT root_id, root_id, 0, 'root', 0, 0, '', NULL, '', $2::smallint, $3::timestamptz, '{}', '{}', 0, $3::timestamptz
FROM unnest($1::uuid[]) AS d(root_id)
ON CONFLICT (order_id) DO NOTHING
"""
_LOCK_ORDERS = """
SELECT order_id, root_id, step, state, attempt, reoffers, pool_id, place_no, priority, received_at, skus, quantities, units_left
FROM stock_order WHERE order_id = ANY($1::uuid[]) ORDER BY order_id FOR UPDATE
"""
_SAVE_ORDERS = """
UPDATE stock_order o SET
    step = d.step, state = d.state, attempt = d.attempt, reoffers = d.reoffers, place_no = d.place_no,
    units_left = d.units_left, changed_at = $8::timestamptz
FROM unnest($1::uuid[], $2::int[], $3::text[], $4::int[], $5::smallint[], $6::int[], $7::int[])
    AS d(order_id, step, state, attempt, reoffers, place_no, units_left)
WHERE o.order_id = d.order_id
"""
_FIND_ROOTS = "SELECT root_id FROM stock_order WHERE order_id = ANY($1::uuid[])"
_GET_DOCUMENTS = "SELECT order_id, body FROM order_document WHERE order_id = ANY($1::uuid[])"
_ADD_BACKORDERS = """
INSERT INTO backorder (sku_id, pool_id, priority, received_at, order_id, quantity, missing)
SELECT * FROM unnest($1::text[], $2::text[], $3::smallint[], $4::timestamptz[], $5::uuid[], $6::int[], $7::int[])
"""
_REMOVE_BACKORDERS = """
DELETE FROM backorder b
USING unnest($1::text[], $2::text[], $3::smallint[], $4::timestamptz[], $5::uuid[])
    AS d(sku_id, pool_id, priority, received_at, order_id)
WHERE (b.sku_id, b.pool_id, b.priority, b.received_at, b.order_id)
    = (d.sku_id, d.pool_id, d.priority, d.received_at, d.order_id)
"""
# Only orders whose every SKU is covered: those a pass can serve, so that each pass gets on however long the queue is.
_FIND_COVERED = """
SELECT w.sku_id, w.pool_id, b.order_id, b.root_id
FROM unnest($1::text[], $2::text[]) AS w(sku_id, pool_id)
JOIN pool_stock p ON p.sku_id = w.sku_id AND p.pool_id = w.pool_id AND p.free > p.safety
CROSS JOIN LATERAL (
    SELECT b.order_id, o.root_id FROM backorder b JOIN stock_order o USING (order_id)
    WHERE b.sku_id = w.sku_id AND b.pool_id = w.pool_id AND b.quantity <= p.free - p.safety AND NOT EXISTS (
        SELECT FROM unnest(o.skus, o.quantities) AS d(sku_id, quantity)
        LEFT JOIN pool_stock q ON q.sku_id = d.sku_id AND q.pool_id = o.pool_id
        WHERE d.quantity > coalesce(q.free - q.safety, 0)
    )
    ORDER BY b.priority, b.received_at, b.order_id LIMIT $3::int
) AS b
"""
_FIND_AWAITED = """
SELECT w.sku_id, w.pool_id FROM unnest($1::text[], $2::text[]) AS w(sku_id, pool_id)
WHERE EXISTS (SELECT FROM backorder b WHERE b.sku_id = w.sku_id AND b.pool_id = w.pool_id)
"""
_ADD_STUCK = """
INSERT INTO stuck_order (order_id, since, code)
SELECT order_id, $2::timestamptz, $3::text FROM unnest($1::uuid[]) AS d(order_id)
"""
_REMOVE_STUCK = "DELETE FROM stuck_order WHERE order_id = ANY($1::uuid[])"


async def add_orders(work: UnitOfWork, orders: Iterable[NewOrder]) -> set[UUID]:
    """Insert orders as reserved at attempt 1, with their documents, and lock them; return those that were new.

    Inserting a root's row is taking its lock. Children get a root row to lock, where there is none.
    """
    new = {order.order_id: order for order in orders}
    if not new:
        return set()
    if roots := sorted({order.root_id for order in new.values()} - new.keys()):
        await execute(work, _ADD_ROOTS, roots, NORMAL_PRIORITY, work.now)
        await lock_orders(work, roots)
    table = [
        (
            order.order_id,
            order.root_id,
            order.pool_id,
            order.kind,
            order.received_at,
            "\x1f".join(order.wanted),
            ",".join(map(str, order.wanted.values())),
            sum(order.wanted.values()),
            order.body,
        )
        for _, order in sorted(new.items())
    ]
    added = await rows(work, _ADD_ORDERS, *map(list, zip(*table, strict=True)), NORMAL_PRIORITY, work.now)
    return {row.order_id for row in added}


async def lock_orders(work: UnitOfWork, order_ids: Collection[UUID], *, skip_locked: bool = False) -> dict[UUID, OrderRow]:
    """Lock these orders' rows and their roots', sorted."""
    statement = _LOCK_ORDERS + (" SKIP LOCKED" if skip_locked else "")
    return {row.order_id: OrderRow(*row) for row in await rows(work, statement, list(order_ids))}


async def find_roots(work: UnitOfWork, order_ids: Collection[UUID]) -> set[UUID]:
    return {row.root_id for row in await rows(work, _FIND_ROOTS, list(order_ids))}


async def save_orders(work: UnitOfWork, orders: Sequence[OrderRow]) -> None:
    if orders:
        await execute(
            work,
            _SAVE_ORDERS,
            [order.order_id for order in orders],
            [order.step for order in orders],
            [order.state for order in orders],
            [order.attempt for order in orders],
            [order.reoffers for order in orders],
            [order.place_no for order in orders],
            [order.units_left for order in orders],
            work.now,
        )


async def get_documents(work: UnitOfWork, order_ids: Collection[UUID]) -> dict[UUID, bytes]:
    return {row.order_id: row.body for row in await rows(work, _GET_DOCUMENTS, list(order_ids))}


async def add_backorders(work: UnitOfWork, waiting: Iterable[tuple[OrderRow, Sequence[Missing]]]) -> None:
    """Queue orders under every SKU they want: whichever arrives last wakes them."""
    table = []
    for order, short in waiting:
        missing = {line.sku_id: line.missing for line in short}
        table += [
            (sku_id, order.pool_id, order.priority, order.received_at, order.order_id, quantity, missing.get(sku_id, 0))
            for sku_id, quantity in zip(order.skus, order.quantities, strict=True)
        ]
    if table:
        await execute(work, _ADD_BACKORDERS, *map(list, zip(*table, strict=True)))


async def remove_backorders(work: UnitOfWork, orders: Iterable[OrderRow]) -> None:
    table = [
        (sku_id, order.pool_id, order.priority, order.received_at, order.order_id) for order in orders for sku_id in order.skus
    ]
    if table:
        await execute(work, _REMOVE_BACKORDERS, *map(list, zip(*table, strict=True)))


async def find_covered_backorders(
    work: UnitOfWork, keys: Collection[tuple[str, str]], *, limit: int
) -> list[tuple[tuple[str, str], UUID, UUID]]:
    """Waiting orders (with their roots) of each (SKU, pool) that the free quantities cover wholly, oldest first, up to
    `limit` for each."""
    found = await rows(work, _FIND_COVERED, *_columns(keys), limit)
    return [((row.sku_id, row.pool_id), row.order_id, row.root_id) for row in found]


async def find_awaited(work: UnitOfWork, keys: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the given (SKU, pool) that orders wait for. Exact under the lock of the pool rows."""
    return {(row.sku_id, row.pool_id) for row in await rows(work, _FIND_AWAITED, *_columns(keys))}


async def add_stuck(work: UnitOfWork, order_ids: Collection[UUID], *, code: str) -> None:
    if order_ids:
        await execute(work, _ADD_STUCK, list(order_ids), work.now, code)


async def remove_stuck(work: UnitOfWork, order_ids: Collection[UUID]) -> None:
    if order_ids:
        await execute(work, _REMOVE_STUCK, list(order_ids))


def _columns(keys: Collection[tuple[str, str]]) -> tuple[list[str], list[str]]:
    ordered = sorted(keys)
    return [sku_id for sku_id, _ in ordered], [pool_id for _, pool_id in ordered]
