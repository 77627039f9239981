"""Order rows: the lock of everything about an order, and what it waits for."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, NamedTuple
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
    """One order under its lock; `save_orders` writes back what each of its steps changes, `rewrite_orders` all of it."""

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
    kind: str = ""
    parent_id: UUID | None = None
    capacity_on: date | None = None
    forced_place_no: int | None = None
    excluded: list[int] = field(default_factory=list)
    children: int = 0
    return_no: int = 0
    added_at: datetime | None = None

    @property
    def stage(self) -> str:
        """Its state in the words of the order book; a row that is only the lock of a root stands for orders split off it."""
        return "split" if self.state == "root" else self.state

    def want(self, wanted: Mapping[str, int]) -> None:
        """Have these units and no others left; a finished order keeps telling what it last had."""
        if wanted:
            self.skus, self.quantities = list(wanted), list(wanted.values())
        self.units_left = sum(wanted.values())

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
        units_left, added_at, changed_at
    )
    SELECT order_id, root_id, 1, 'reserved', 1, 0, pool_id, NULL, kind, $10::smallint, received_at,
           string_to_array(skus, E'\\x1f'), string_to_array(quantities, ',')::int[], units, $11::timestamptz, $11::timestamptz
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
    units_left, added_at, changed_at
)
SELECT root_id, root_id, 0, 'root', 0, 0, '', NULL, '', $2::smallint, $3::timestamptz, '{}', '{}', 0, $3::timestamptz,
       $3::timestamptz
FROM unnest($1::uuid[]) AS d(root_id)
ON CONFLICT (order_id) DO NOTHING
"""
_COLUMNS = """
order_id, root_id, step, state, attempt, reoffers, pool_id, place_no, priority, received_at, skus, quantities, units_left, kind,
parent_id, capacity_on, forced_place_no, excluded, children, return_no, added_at
"""
# Roots first: whoever has a root may then reach for any of its orders, and never waits for one who waits for that root.
_LOCK_ORDERS = f"""
SELECT {_COLUMNS} FROM stock_order WHERE order_id = ANY($1::uuid[]) ORDER BY order_id <> root_id, order_id FOR UPDATE
"""  # noqa: S608  names of columns
_LOCK_CHILDREN = f"""
SELECT {_COLUMNS} FROM stock_order WHERE root_id = ANY($1::uuid[]) AND root_id <> order_id ORDER BY order_id FOR UPDATE
"""  # noqa: S608
_SAVE_ORDERS = """
UPDATE stock_order o SET
    step = d.step, state = d.state, attempt = d.attempt, reoffers = d.reoffers, place_no = d.place_no,
    units_left = d.units_left, capacity_on = d.capacity_on, changed_at = $9::timestamptz
FROM unnest($1::uuid[], $2::int[], $3::text[], $4::int[], $5::smallint[], $6::int[], $7::int[], $8::date[])
    AS d(order_id, step, state, attempt, reoffers, place_no, units_left, capacity_on)
WHERE o.order_id = d.order_id
"""
_REWRITE_ORDERS = """
UPDATE stock_order o SET
    step = d.step, state = d.state, attempt = d.attempt, reoffers = d.reoffers, place_no = d.place_no,
    units_left = d.units_left, capacity_on = d.capacity_on, priority = d.priority,
    skus = string_to_array(d.skus, E'\\x1f'), quantities = string_to_array(d.quantities, ',')::int[],
    forced_place_no = d.forced_place_no, excluded = string_to_array(d.excluded, ',')::int[], children = d.children,
    return_no = d.return_no, changed_at = $16::timestamptz
FROM unnest(
    $1::uuid[], $2::int[], $3::text[], $4::int[], $5::smallint[], $6::int[], $7::int[], $8::date[], $9::smallint[],
    $10::text[], $11::text[], $12::int[], $13::text[], $14::int[], $15::int[]
) AS d(
    order_id, step, state, attempt, reoffers, place_no, units_left, capacity_on, priority, skus, quantities, forced_place_no,
    excluded, children, return_no
)
WHERE o.order_id = d.order_id
"""
# Of orders split off together the later ones are younger: requests begin with the youngest.
_ADD_CHILDREN = """
WITH given AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::text[], $6::int[], $7::text[], $8::int[], $9::text[],
        $10::smallint[], $11::timestamptz[], $12::text[], $13::text[], $14::int[], $15::date[], $16::text[], $17::bytea[]
    ) WITH ORDINALITY AS g(
        order_id, root_id, parent_id, step, state, attempt, pool_id, place_no, kind, priority, received_at, skus, quantities,
        units_left, capacity_on, excluded, body, number
    )
), documents AS (
    INSERT INTO order_document (order_id, body) SELECT order_id, body FROM given
)
INSERT INTO stock_order (
    order_id, root_id, parent_id, step, state, attempt, reoffers, pool_id, place_no, kind, priority, received_at, skus,
    quantities, units_left, capacity_on, excluded, added_at, changed_at
)
SELECT order_id, root_id, parent_id, step, state, attempt, 0, pool_id, place_no, kind, priority, received_at,
       string_to_array(skus, E'\\x1f'), string_to_array(quantities, ',')::int[], units_left, capacity_on,
       string_to_array(excluded, ',')::int[], $18::timestamptz + number * interval '1 microsecond', $18::timestamptz
FROM given ORDER BY order_id
"""
_SAVE_DOCUMENTS = """
UPDATE order_document o SET body = d.body FROM unnest($1::uuid[], $2::bytea[]) AS d(order_id, body)
WHERE o.order_id = d.order_id
"""
_REMOVE_DOCUMENTS = "DELETE FROM order_document WHERE order_id = ANY($1::uuid[])"
_FIND_CHILDREN = """
SELECT o.order_id, o.state, o.attempt, l.place_id, o.units_left FROM stock_order o LEFT JOIN location l USING (place_no)
WHERE o.root_id = (SELECT root_id FROM stock_order WHERE order_id = $1::uuid) AND o.root_id <> o.order_id
    AND o.parent_id = $1::uuid
ORDER BY o.added_at, o.order_id
"""
_FIND_PLACE_IDS = "SELECT place_no, place_id FROM location WHERE place_no = ANY($1::int[])"
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
_FIND_STUCK = """
SELECT s.order_id FROM stuck_order s JOIN stock_order o USING (order_id)
WHERE o.pool_id = $1::text AND ($2::text IS NULL OR $2 = ANY(o.skus)) AND ($3::uuid IS NULL OR s.order_id > $3)
ORDER BY s.order_id LIMIT $4::int
"""
_FIND_STUCK_SKUS = """
SELECT w.sku_id, w.pool_id FROM unnest($1::text[], $2::text[]) AS w(sku_id, pool_id)
WHERE EXISTS (
    SELECT FROM stuck_order s JOIN stock_order o USING (order_id) WHERE o.pool_id = w.pool_id AND w.sku_id = ANY(o.skus)
)
"""
# Unfinished orders are those with a document: found by its key, however many orders were ever stored.
_FIND_YOUNGEST_HOLDS = """
SELECT o.order_id, o.root_id FROM order_document d JOIN stock_order o USING (order_id)
WHERE o.state IN ('reserved', 'stuck') AND o.pool_id = $2::text AND $1::text = ANY(o.skus) AND EXISTS (
    SELECT FROM pool_stock p WHERE p.sku_id = $1 AND p.pool_id = $2 AND p.overpromised > 0
)
ORDER BY o.priority DESC, o.received_at DESC, o.order_id DESC LIMIT $3::int
"""
_FIND_SHORT = """
SELECT s.short, coalesce((
    SELECT sum(p.quantity) FROM pending_stop p WHERE p.sku_id = s.sku_id AND p.kind = 'recall' AND EXISTS (
        SELECT FROM stock_order o WHERE (o.order_id = p.root_id OR o.root_id = p.root_id) AND o.place_no = s.place_no
    )
), 0)::int AS recalled
FROM place_stock s WHERE s.sku_id = $1::text AND s.place_no = $2::int AND s.short > 0
"""
_FIND_YOUNGEST_ALLOCATED = """
SELECT o.order_id, o.root_id FROM order_document d JOIN stock_order o USING (order_id)
WHERE o.state = 'allocated' AND o.place_no = $2::int AND $1::text = ANY(o.skus)
ORDER BY o.priority DESC, o.received_at DESC, o.order_id DESC LIMIT $3::int
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
    """Lock these orders' rows and their roots', roots first, each sorted."""
    statement = _LOCK_ORDERS + (" SKIP LOCKED" if skip_locked else "")
    return {row.order_id: OrderRow(*row) for row in await rows(work, statement, list(order_ids))}


async def lock_families(work: UnitOfWork, root_ids: Collection[UUID]) -> dict[UUID, list[OrderRow]]:
    """Lock roots, making the rows that are not there, then all orders under them; oldest first for each root.

    In two statements: an order that another transaction added under a root's lock is seen by a statement that begins after it.
    """
    if not root_ids:
        return {}
    ordered = sorted(root_ids)
    locked = await lock_orders(work, ordered)
    if len(locked) < len(ordered):
        await execute(work, _ADD_ROOTS, [root_id for root_id in ordered if root_id not in locked], NORMAL_PRIORITY, work.now)
        locked = await lock_orders(work, ordered)
    families = {root_id: [row] for root_id, row in locked.items()}
    for row in await rows(work, _LOCK_CHILDREN, ordered):
        families[row.root_id].append(OrderRow(*row))
    for family in families.values():
        family.sort(key=lambda row: (row.order_id != row.root_id, row.added_at, row.order_id))
    return families


async def find_children(work: UnitOfWork, parent_id: UUID) -> list[Any]:
    """Orders that were split off from this one, oldest first; not locked."""
    return list(await rows(work, _FIND_CHILDREN, parent_id))


async def find_place_ids(work: UnitOfWork, place_nos: Collection[int]) -> dict[int | None, str]:
    if not place_nos:
        return {}
    return {row.place_no: row.place_id for row in await rows(work, _FIND_PLACE_IDS, list(place_nos))}


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
            [order.capacity_on for order in orders],
            work.now,
        )


async def rewrite_orders(work: UnitOfWork, orders: Sequence[OrderRow]) -> None:
    """Write everything of these orders that may change: after a request, a split, or by hand."""
    if orders:
        table = [
            (
                order.order_id,
                order.step,
                order.state,
                order.attempt,
                order.reoffers,
                order.place_no,
                order.units_left,
                order.capacity_on,
                order.priority,
                "\x1f".join(order.skus),
                ",".join(map(str, order.quantities)),
                order.forced_place_no,
                ",".join(map(str, order.excluded)),
                order.children,
                order.return_no,
            )
            for order in orders
        ]
        await execute(work, _REWRITE_ORDERS, *map(list, zip(*table, strict=True)), work.now)


async def add_children(work: UnitOfWork, children: Sequence[tuple[OrderRow, bytes]]) -> None:
    """Add orders that others were split into, with their documents; their root is locked."""
    if children:
        table = [
            (
                row.order_id,
                row.root_id,
                row.parent_id,
                row.step,
                row.state,
                row.attempt,
                row.pool_id,
                row.place_no,
                row.kind,
                row.priority,
                row.received_at,
                "\x1f".join(row.skus),
                ",".join(map(str, row.quantities)),
                row.units_left,
                row.capacity_on,
                ",".join(map(str, row.excluded)),
                body,
            )
            for row, body in children
        ]
        await execute(work, _ADD_CHILDREN, *map(list, zip(*table, strict=True)), work.now)


async def save_documents(work: UnitOfWork, bodies: Mapping[UUID, bytes]) -> None:
    if bodies:
        await execute(work, _SAVE_DOCUMENTS, list(bodies), list(bodies.values()))


async def remove_documents(work: UnitOfWork, order_ids: Collection[UUID]) -> None:
    """Forget the blocks of orders that are finished: nobody reads them any more."""
    if order_ids:
        await execute(work, _REMOVE_DOCUMENTS, list(order_ids))


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


async def find_stuck(work: UnitOfWork, pool_id: str, *, sku_id: str | None, after: UUID | None, limit: int) -> list[UUID]:
    """Stuck orders of a pool, of one SKU if it is given, by id."""
    return [row.order_id for row in await rows(work, _FIND_STUCK, pool_id, sku_id, after, limit)]


async def find_stuck_skus(work: UnitOfWork, keys: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the given (SKU, pool) that stuck orders want."""
    return {(row.sku_id, row.pool_id) for row in await rows(work, _FIND_STUCK_SKUS, *_columns(keys))}


async def find_youngest_holds(work: UnitOfWork, sku_id: str, pool_id: str, *, limit: int) -> dict[UUID, UUID]:
    """Orders (with their roots) held for a SKU and not pinned, youngest first; none where the pool promises what it has."""
    return {row.order_id: row.root_id for row in await rows(work, _FIND_YOUNGEST_HOLDS, sku_id, pool_id, limit)}


async def find_short(work: UnitOfWork, sku_id: str, place_no: int) -> tuple[int, int]:
    """Units promised at a place and not there, and those of them that are being recalled."""
    for row in await rows(work, _FIND_SHORT, sku_id, place_no):
        return row.short, row.recalled
    return 0, 0


async def find_youngest_allocated(work: UnitOfWork, sku_id: str, place_no: int, *, limit: int) -> dict[UUID, UUID]:
    """Orders (with their roots) that a place has for a SKU, youngest first."""
    return {row.order_id: row.root_id for row in await rows(work, _FIND_YOUNGEST_ALLOCATED, sku_id, place_no, limit)}


async def add_stuck(work: UnitOfWork, order_ids: Collection[UUID], *, code: str) -> None:
    if order_ids:
        await execute(work, _ADD_STUCK, list(order_ids), work.now, code)


async def remove_stuck(work: UnitOfWork, order_ids: Collection[UUID]) -> None:
    if order_ids:
        await execute(work, _REMOVE_STUCK, list(order_ids))


def _columns(keys: Collection[tuple[str, str]]) -> tuple[list[str], list[str]]:
    ordered = sorted(keys)
    return [sku_id for sku_id, _ in ordered], [pool_id for _, pool_id in ordered]
