"""Shipments, their lines, and what carriers reported of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from fulfillment.domain import Kind, Shipment, State
from fulfillment.store.order import Content
from fulfillment.tables import shipment, shipment_line


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedLine:
    shipment_id: UUID
    origin_order_id: UUID
    origin_line: int
    sku_id: str
    quantity: int


_ADD_SHIPMENTS = text("""
    INSERT INTO shipment (shipment_id, fulfilment_order_id, order_id, root_id, place_id, kind, carrier, waybill_no,
        weight_grams, freight_cost_minor, shipped_at, state, state_at, part_json)
    SELECT * FROM unnest(CAST(:shipment_id AS uuid[]), CAST(:fulfilment_order_id AS uuid[]), CAST(:order_id AS uuid[]),
        CAST(:root_id AS uuid[]), CAST(:place_id AS text[]), CAST(:kind AS text[]), CAST(:carrier AS text[]),
        CAST(:waybill_no AS text[]), CAST(:weight_grams AS bigint[]), CAST(:freight_cost_minor AS bigint[]),
        CAST(:shipped_at AS timestamptz[]), CAST(:state AS text[]), CAST(:state_at AS timestamptz[]),
        CAST(:part_json AS text[]))
""")
_SHIPMENT_FIELDS = tuple(Shipment.__dataclass_fields__)
_ADD_LINES = text("""
    INSERT INTO shipment_line (shipment_id, origin_order_id, origin_line, sku_id, quantity)
    SELECT * FROM unnest(CAST(:shipment_id AS uuid[]), CAST(:origin_order_id AS uuid[]), CAST(:origin_line AS int[]),
        CAST(:sku_id AS text[]), CAST(:quantity AS int[]))
""")
_LINE_FIELDS = tuple(ShippedLine.__dataclass_fields__)
_SAVE_STATES = text("""
    UPDATE shipment AS s SET state = n.state, state_at = n.state_at
    FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:moments AS timestamptz[])) AS n (id, state, state_at)
    WHERE s.shipment_id = n.id
""")
_ROOTS_OF_SHIPMENTS = text("""
    SELECT order_id, root_id FROM shipment WHERE shipment_id = ANY(CAST(:ids AS uuid[]))
""")
_FIND_SHIPMENTS = text("""
    SELECT s.*, c.order_json, c.part_json AS whole_json
    FROM shipment AS s JOIN fulfilment_content AS c USING (fulfilment_order_id)
    WHERE s.shipment_id = ANY(CAST(:ids AS uuid[])) ORDER BY s.shipment_id
""")
_ORDERS_UNDER_WAY = text("""
    SELECT order_id FROM shipment
    WHERE order_id = ANY(CAST(:orders AS uuid[])) AND state NOT IN ('delivered', 'refused', 'lost')
    UNION
    SELECT order_id FROM fulfilment_order
    WHERE order_id = ANY(CAST(:orders AS uuid[])) AND status <> 'cancelled' AND status <> 'closed'
""")
_LOCK_WAYBILL = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_TAKEN_WAYBILLS = text("""
    SELECT s.carrier, s.waybill_no FROM shipment AS s
    JOIN unnest(CAST(:carriers AS text[]), CAST(:numbers AS text[])) AS n (carrier, waybill_no) USING (carrier, waybill_no)
""")
_ADD_CARRIER_EVENT = text("""
    INSERT INTO carrier_event (shipment_id, reference, state, occurred_at, applied, recorded_at, recorded_by)
    VALUES (:shipment_id, :reference, :state, :occurred_at, :applied, :recorded_at, :recorded_by)
""")
_FIND_CARRIER_EVENT = text("""
    SELECT state, occurred_at, applied FROM carrier_event WHERE shipment_id = :shipment_id AND reference = :reference
""")
_CARRIER_EVENTS_OF = text("""
    SELECT reference, state, occurred_at, applied, recorded_at FROM carrier_event
    WHERE shipment_id = :shipment_id ORDER BY occurred_at, reference LIMIT 500
""")


async def add_shipments(
    connection: AsyncConnection, shipments: Sequence[Shipment], lines: Sequence[ShippedLine], parts: Sequence[str | None]
) -> None:
    """**Shapes**: `parts` goes with `shipments`: the part's text, None for the whole part of the fulfilment order."""
    if shipments:
        values = {name: [getattr(one, name) for one in shipments] for name in _SHIPMENT_FIELDS}
        await connection.execute(_ADD_SHIPMENTS, {**values, "part_json": parts})
        await connection.execute(_ADD_LINES, {name: [getattr(line, name) for line in lines] for name in _LINE_FIELDS})


async def find_shipments(connection: AsyncConnection, ids: Sequence[UUID]) -> list[tuple[Shipment, Content]]:
    """Shipments with what their events carry: of one parcel among others, its part is the `left_json`. The caller holds the
    roots' locks."""
    rows = await connection.execute(_FIND_SHIPMENTS, {"ids": ids})
    return [
        (shipment_of(row), Content(order_json=row.order_json, part_json=row.whole_json, left_json=row.part_json))
        for row in rows
    ]


async def orders_under_way(connection: AsyncConnection, orders: Iterable[UUID]) -> set[UUID]:
    """Those of which a parcel is still under way, or something at its place."""
    return set(await connection.scalars(_ORDERS_UNDER_WAY, {"orders": list(orders)}))


async def ids_of_shipments(
    connection: AsyncConnection, *, order_id: UUID | None = None, carrier: str | None = None, waybill_no: str | None = None
) -> list[UUID]:
    """The shipments that these name, the first that left first."""
    statement = shipments_query(order_id=order_id, carrier=carrier, waybill_no=waybill_no)
    rows = await connection.execute(statement.order_by("shipped_at", "shipment_id").limit(1000))
    return [row.shipment_id for row in rows]


async def lock_waybills(connection: AsyncConnection, waybills: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Keep (carrier, number) pairs given by others from being taken meanwhile; return those that are taken already."""
    wanted = sorted(set(waybills))
    for carrier, number in wanted:  # A parcel's few, in one order.
        await connection.execute(_LOCK_WAYBILL, {"name": f"waybill:{carrier}:{number}"})
    rows = await connection.execute(
        _TAKEN_WAYBILLS, {"carriers": [one for one, _ in wanted], "numbers": [number for _, number in wanted]}
    )
    return {(row.carrier, row.waybill_no) for row in rows}


async def roots_of_shipments(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """Each order's root, by order_id. Neither ever changes, so no lock is needed."""
    rows = await connection.execute(_ROOTS_OF_SHIPMENTS, {"ids": ids})
    return {row.order_id: row.root_id for row in rows}


async def save_states(connection: AsyncConnection, shipments: Sequence[Shipment]) -> None:
    if shipments:
        await connection.execute(
            _SAVE_STATES,
            {
                "ids": [one.shipment_id for one in shipments],
                "states": [one.state for one in shipments],
                "moments": [one.state_at for one in shipments],
            },
        )


async def find_carrier_event(connection: AsyncConnection, shipment_id: UUID, reference: str) -> Row[Any] | None:
    found = await connection.execute(_FIND_CARRIER_EVENT, {"shipment_id": shipment_id, "reference": reference})
    return found.one_or_none()


async def add_carrier_event(connection: AsyncConnection, **values: Any) -> None:
    await connection.execute(_ADD_CARRIER_EVENT, values)


async def carrier_events_of(connection: AsyncConnection, shipment_id: UUID) -> Sequence[Row[Any]]:
    return (await connection.execute(_CARRIER_EVENTS_OF, {"shipment_id": shipment_id})).all()


async def find_shipment(connection: AsyncConnection, shipment_id: UUID) -> Row[Any] | None:
    found = await connection.execute(select(shipment).where(shipment.c.shipment_id == shipment_id))
    row: Row[Any] | None = found.one_or_none()
    return row


async def lines_of(connection: AsyncConnection, shipment_id: UUID) -> Sequence[Row[Any]]:
    """A shipment's lines, in the order of their origins."""
    statement = select(shipment_line).where(shipment_line.c.shipment_id == shipment_id)
    return (await connection.execute(statement.order_by("origin_order_id", "origin_line", "sku_id"))).all()


def shipment_of(row: Row[Any]) -> Shipment:
    values = {name: getattr(row, name) for name in _SHIPMENT_FIELDS}
    values["kind"], values["state"] = Kind(row.kind), State(row.state)
    return Shipment(**values)


def shipments_query(
    *,
    order_id: UUID | None = None,
    place_id: str | None = None,
    carrier: str | None = None,
    waybill_no: str | None = None,
    state: str | None = None,
    shipped_from: datetime | None = None,
    shipped_to: datetime | None = None,
) -> Select[Any]:
    columns = shipment.c
    statement = select(shipment)
    for column, value in (
        (columns.order_id, order_id),
        (columns.place_id, place_id),
        (columns.carrier, carrier),
        (columns.waybill_no, waybill_no),
        (columns.state, state),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if shipped_from is not None:
        statement = statement.where(columns.shipped_at >= shipped_from)
    if shipped_to is not None:
        statement = statement.where(columns.shipped_at < shipped_to)
    return statement
