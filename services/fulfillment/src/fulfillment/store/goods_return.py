"""Goods that came back: what, in which condition, with which money."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from fulfillment.tables import goods_return, goods_return_line


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnedUnits:
    """Units of a line that came back in one condition."""

    return_id: UUID
    origin_order_id: UUID
    origin_line: int
    sku_id: str
    grade: str
    quantity: int
    paid_minor: int
    receivable_minor: int
    tax_minor: int


_LOCK_REFERENCE = text("SELECT pg_advisory_xact_lock(hashtextextended('goods_return:' || :reference, 0))")
_LINE_FIELDS = tuple(ReturnedUnits.__dataclass_fields__)


async def lock_reference(connection: AsyncConnection, reference: str) -> None:
    """Two reports under one reference, of different orders even, come one after the other."""
    await connection.execute(_LOCK_REFERENCE, {"reference": reference})


async def find_returns(connection: AsyncConnection, reference: str) -> Sequence[Row[Any]]:
    """All returns that were reported under a reference: one per parcel."""
    statement = select(goods_return).where(goods_return.c.reference == reference)
    return (await connection.execute(statement.order_by("return_id"))).all()


async def find_return(connection: AsyncConnection, return_id: UUID) -> Row[Any] | None:
    row: Row[Any] | None = (
        await connection.execute(select(goods_return).where(goods_return.c.return_id == return_id))
    ).one_or_none()
    return row


async def returned_units(connection: AsyncConnection, shipments: Sequence[UUID]) -> list[tuple[UUID, ReturnedUnits]]:
    """Everything that came back of these shipments. **Shapes**: (shipment_id, units)."""
    statement = select(goods_return.c.shipment_id, goods_return_line).join_from(
        goods_return, goods_return_line, goods_return.c.return_id == goods_return_line.c.return_id
    )
    rows = await connection.execute(statement.where(goods_return.c.shipment_id.in_(shipments)))
    return [(row.shipment_id, _units_of(row)) for row in rows]


async def lines_of_returns(connection: AsyncConnection, returns: Sequence[UUID]) -> list[ReturnedUnits]:
    statement = select(goods_return_line).where(goods_return_line.c.return_id.in_(returns))
    rows = await connection.execute(statement.order_by("origin_order_id", "origin_line", "sku_id", "grade"))
    return [_units_of(row) for row in rows]


async def add_return(connection: AsyncConnection, lines: Sequence[ReturnedUnits], **values: Any) -> None:
    await connection.execute(insert(goods_return).values(values))
    await connection.execute(insert(goods_return_line), [{name: getattr(one, name) for name in _LINE_FIELDS} for one in lines])


def returns_query(
    *,
    order_id: UUID | None = None,
    shipment_id: UUID | None = None,
    place_id: str | None = None,
    reason: str | None = None,
    received_from: datetime | None = None,
    received_to: datetime | None = None,
) -> Select[Any]:
    columns = goods_return.c
    statement = select(goods_return)
    for column, value in (
        (columns.order_id, order_id),
        (columns.shipment_id, shipment_id),
        (columns.place_id, place_id),
        (columns.reason, reason),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if received_from is not None:
        statement = statement.where(columns.received_at >= received_from)
    if received_to is not None:
        statement = statement.where(columns.received_at < received_to)
    return statement


def _units_of(row: Row[Any]) -> ReturnedUnits:
    return ReturnedUnits(**{name: getattr(row, name) for name in _LINE_FIELDS})
