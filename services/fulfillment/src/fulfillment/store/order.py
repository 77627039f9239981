"""Orders under their roots' locks, fulfilment orders and what their events carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, and_, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from fulfillment.domain import FulfilmentOrder, Kind, RequestStatus, Status, TrackedOrder, WaitingFor
from fulfillment.tables import fulfilment_order


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The texts of the blocks that an event carries on."""

    order_json: str
    part_json: str
    left_json: str | None = None
    """What is left of the part, where units have gone already; of a parcel, its share of the part."""


_ADD_TRACKED = text("""
    INSERT INTO tracked_order (order_id, root_id)
    SELECT * FROM unnest(CAST(:orders AS uuid[]), CAST(:roots AS uuid[]))
    ON CONFLICT DO NOTHING
""")
_LOCK_TRACKED = text("""
    SELECT order_id, root_id, step, attempt, live FROM tracked_order
    WHERE order_id = ANY(CAST(:orders AS uuid[])) ORDER BY order_id FOR UPDATE
""")
_SAVE_TRACKED = text("""
    UPDATE tracked_order AS t SET step = n.step, attempt = n.attempt, live = n.live
    FROM unnest(CAST(:orders AS uuid[]), CAST(:steps AS int[]), CAST(:attempts AS int[]), CAST(:live AS bool[]))
        AS n (order_id, step, attempt, live)
    WHERE t.order_id = n.order_id
""")


async def lock_orders(connection: AsyncConnection, roots: Mapping[UUID, UUID]) -> dict[UUID, TrackedOrder]:
    """Lock these orders and their roots, adding what is not there yet.

    **Shapes**: `roots` and the answer are keyed by order_id; the answer holds the roots too.
    """
    wanted = {root_id: root_id for root_id in roots.values()} | dict(roots)
    orders = sorted(wanted)
    await connection.execute(_ADD_TRACKED, {"orders": orders, "roots": [wanted[order_id] for order_id in orders]})
    rows = await connection.execute(_LOCK_TRACKED, {"orders": orders})
    return {
        row.order_id: TrackedOrder(
            order_id=row.order_id, root_id=row.root_id, step=row.step, attempt=row.attempt, live=row.live
        )
        for row in rows
    }


async def save_orders(connection: AsyncConnection, tracked: Iterable[TrackedOrder]) -> None:
    """Write back what was counted under the lock."""
    changed = sorted(tracked, key=lambda one: one.order_id)
    if changed:
        await connection.execute(
            _SAVE_TRACKED,
            {
                "orders": [one.order_id for one in changed],
                "steps": [one.step for one in changed],
                "attempts": [one.attempt for one in changed],
                "live": [one.live for one in changed],
            },
        )


_ADD_FULFILMENT_ORDERS = text("""
    INSERT INTO fulfilment_order (fulfilment_order_id, order_id, root_id, attempt, kind, place_id, place_no, connector,
        carrier, receiver_ref, weight_grams, freight_cost_minor, promised_on, status, request_status, waiting_for, ship_at,
        created_at, parcels, returns, updated_at)
    SELECT n.*, n.created_at FROM unnest(CAST(:fulfilment_order_id AS uuid[]), CAST(:order_id AS uuid[]),
        CAST(:root_id AS uuid[]), CAST(:attempt AS int[]), CAST(:kind AS text[]), CAST(:place_id AS text[]),
        CAST(:place_no AS int[]), CAST(:connector AS text[]), CAST(:carrier AS text[]), CAST(:receiver_ref AS uuid[]),
        CAST(:weight_grams AS bigint[]), CAST(:freight_cost_minor AS bigint[]), CAST(:promised_on AS date[]),
        CAST(:status AS text[]), CAST(:request_status AS text[]), CAST(:waiting_for AS text[]),
        CAST(:ship_at AS timestamptz[]), CAST(:created_at AS timestamptz[]), CAST(:parcels AS int[]), CAST(:returns AS int[]))
        AS n (fulfilment_order_id, order_id, root_id, attempt, kind, place_id, place_no, connector, carrier, receiver_ref,
              weight_grams, freight_cost_minor, promised_on, status, request_status, waiting_for, ship_at, created_at,
              parcels, returns)
""")
_FULFILMENT_ORDER_FIELDS = tuple(FulfilmentOrder.__dataclass_fields__)
_SAVE_FULFILMENT_ORDERS = text("""
    UPDATE fulfilment_order AS f SET status = n.status, request_status = n.request_status, waiting_for = n.waiting_for,
        receiver_ref = n.receiver_ref, weight_grams = n.weight_grams, parcels = n.parcels, returns = n.returns,
        updated_at = :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:statuses AS text[]), CAST(:requests AS text[]), CAST(:waiting AS text[]),
        CAST(:receivers AS uuid[]), CAST(:weights AS bigint[]), CAST(:parcels AS int[]), CAST(:returns AS int[]))
        AS n (id, status, request_status, waiting_for, receiver_ref, weight_grams, parcels, returns)
    WHERE f.fulfilment_order_id = n.id
""")
_ADD_CONTENTS = text("""
    INSERT INTO fulfilment_content (fulfilment_order_id, order_json, part_json)
    SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:orders AS text[]), CAST(:parts AS text[]))
""")
_FIND_CONTENTS = text("""
    SELECT fulfilment_order_id, order_json, part_json, left_json FROM fulfilment_content
    WHERE fulfilment_order_id = ANY(CAST(:ids AS uuid[]))
""")
_SAVE_CONTENTS = text("""
    UPDATE fulfilment_content AS c SET order_json = n.order_json, left_json = n.left_json
    FROM unnest(CAST(:ids AS uuid[]), CAST(:orders AS text[]), CAST(:left AS text[])) AS n (id, order_json, left_json)
    WHERE c.fulfilment_order_id = n.id
""")
_ROOTS_OF_FULFILMENT_ORDERS = text("""
    SELECT order_id, root_id FROM fulfilment_order WHERE fulfilment_order_id = ANY(CAST(:ids AS uuid[]))
""")
_WAITING_FOR_WAYBILL = text("""
    SELECT c.carrier, f.fulfilment_order_id FROM unnest(CAST(:carriers AS text[])) AS c (carrier)
    CROSS JOIN LATERAL (
        SELECT fulfilment_order_id FROM fulfilment_order
        WHERE waiting_for = 'waybill' AND carrier = c.carrier ORDER BY updated_at LIMIT :most
    ) AS f
""")


async def add_fulfilment_orders(connection: AsyncConnection, orders: Sequence[FulfilmentOrder]) -> None:
    if orders:
        await connection.execute(
            _ADD_FULFILMENT_ORDERS,
            {name: [getattr(order, name) for order in orders] for name in _FULFILMENT_ORDER_FIELDS},
        )


async def save_fulfilment_orders(connection: AsyncConnection, orders: Sequence[FulfilmentOrder], *, now: datetime) -> None:
    """Write what may change of an order."""
    if orders:
        await connection.execute(
            _SAVE_FULFILMENT_ORDERS,
            {
                "ids": [order.fulfilment_order_id for order in orders],
                "statuses": [order.status for order in orders],
                "requests": [order.request_status for order in orders],
                "waiting": [order.waiting_for for order in orders],
                "receivers": [order.receiver_ref for order in orders],
                "weights": [order.weight_grams for order in orders],
                "parcels": [order.parcels for order in orders],
                "returns": [order.returns for order in orders],
                "now": now,
            },
        )


async def find_fulfilment_orders(connection: AsyncConnection, ids: Sequence[UUID]) -> list[FulfilmentOrder]:
    """Those that exist, in the order of their ids. The caller holds the roots' locks."""
    rows = await connection.execute(
        select(fulfilment_order).where(fulfilment_order.c.fulfilment_order_id.in_(ids)).order_by("fulfilment_order_id")
    )
    return [fulfilment_order_of(row) for row in rows]


async def find_fulfilment_order(connection: AsyncConnection, fulfilment_order_id: UUID) -> Row[Any] | None:
    """One row for showing, without a lock."""
    statement = select(fulfilment_order).where(fulfilment_order.c.fulfilment_order_id == fulfilment_order_id)
    row: Row[Any] | None = (await connection.execute(statement)).one_or_none()
    return row


async def roots_of_fulfilment_orders(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """Each order's root, by order_id. Neither ever changes, so no lock is needed."""
    rows = await connection.execute(_ROOTS_OF_FULFILMENT_ORDERS, {"ids": ids})
    return {row.order_id: row.root_id for row in rows}


async def find_waiting_for_waybill(connection: AsyncConnection, carriers: Sequence[str], *, most: int) -> dict[str, list[UUID]]:
    """Per carrier, the fulfilment orders that wait for its numbers, those tried longest ago first."""
    found: dict[str, list[UUID]] = {}
    for row in await connection.execute(_WAITING_FOR_WAYBILL, {"carriers": carriers, "most": most}):
        found.setdefault(row.carrier, []).append(row.fulfilment_order_id)
    return found


async def add_contents(connection: AsyncConnection, contents: Mapping[UUID, Content]) -> None:
    """**Shapes**: by fulfilment_order_id."""
    if contents:
        await connection.execute(
            _ADD_CONTENTS,
            {
                "ids": list(contents),
                "orders": [content.order_json for content in contents.values()],
                "parts": [content.part_json for content in contents.values()],
            },
        )


async def find_contents(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, Content]:
    """**Shapes**: by fulfilment_order_id."""
    rows = await connection.execute(_FIND_CONTENTS, {"ids": ids})
    return {
        row.fulfilment_order_id: Content(order_json=row.order_json, part_json=row.part_json, left_json=row.left_json)
        for row in rows
    }


async def save_contents(connection: AsyncConnection, contents: Mapping[UUID, Content]) -> None:
    """Write what is left, and an order block whose receiver or note changed. **Shapes**: by fulfilment_order_id."""
    if contents:
        await connection.execute(
            _SAVE_CONTENTS,
            {
                "ids": list(contents),
                "orders": [content.order_json for content in contents.values()],
                "left": [content.left_json for content in contents.values()],
            },
        )


async def find_open_of_roots(connection: AsyncConnection, roots: Iterable[UUID]) -> list[FulfilmentOrder]:
    """What is open at places under these roots, in the order of their ids."""
    statement = select(fulfilment_order).where(
        fulfilment_order.c.root_id.in_(sorted(roots)), text("fulfilment_order.status NOT IN ('closed', 'cancelled')")
    )
    rows = await connection.execute(statement.order_by("fulfilment_order_id"))
    return [fulfilment_order_of(row) for row in rows]


def fulfilment_order_of(row: Row[Any]) -> FulfilmentOrder:
    values = {name: getattr(row, name) for name in _FULFILMENT_ORDER_FIELDS}
    values["kind"] = Kind(row.kind)
    values["status"] = Status(row.status)
    values["request_status"] = RequestStatus(row.request_status)
    values["waiting_for"] = row.waiting_for and WaitingFor(row.waiting_for)
    return FulfilmentOrder(**values)


def fulfilment_orders_query(
    *,
    order_id: UUID | None = None,
    place_id: str | None = None,
    status: str | None = None,
    request_status: str | None = None,
    waiting_for: str | None = None,
) -> Select[Any]:
    columns = fulfilment_order.c
    statement = select(fulfilment_order)
    if order_id is not None:
        # Both partial indexes of order_id together hold every row.
        statement = statement.where(
            or_(
                and_(columns.order_id == order_id, columns.status != "cancelled"),
                and_(columns.order_id == order_id, columns.status == "cancelled"),
            )
        )
    if place_id is not None:
        statement = statement.where(columns.place_id == place_id)
    if status is not None:
        statement = statement.where(columns.status == status)
        if status not in {"closed", "cancelled"}:  # Said literally, or the planner does not see that the index covers it.
            statement = statement.where(text("fulfilment_order.status NOT IN ('closed', 'cancelled')"))
    if request_status is not None:
        statement = statement.where(columns.request_status == request_status)
    if waiting_for is not None:
        statement = statement.where(columns.waiting_for == waiting_for)
    return statement
