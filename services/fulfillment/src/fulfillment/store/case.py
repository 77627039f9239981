"""What people have to look at, call-backs of WMS, rules of carriers, wrong codes at the counter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, delete, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from fulfillment.domain import CarrierRule, FulfilmentOrder
from fulfillment.tables import carrier_rule, exception_case, pick_up_try, wms_event

_ALL_RULES = text("""
    SELECT rule_id, priority, carrier, forbid, place_id, shop_id, area_prefix, min_weight_grams, max_weight_grams
    FROM carrier_rule
""")


async def add_case(
    connection: AsyncConnection,
    case_id: UUID,
    order: FulfilmentOrder,
    *,
    kind: str,
    detail: Mapping[str, Any],
    now: datetime,
) -> None:
    await connection.execute(
        insert(exception_case).values(
            case_id=case_id,
            kind=kind,
            fulfilment_order_id=order.fulfilment_order_id,
            order_id=order.order_id,
            place_id=order.place_id,
            detail=detail,
            opened_at=now,
        )
    )


async def close_case(connection: AsyncConnection, case_id: UUID, *, who: str, now: datetime) -> bool:
    """False where it is closed already."""
    statement = update(exception_case).where(exception_case.c.case_id == case_id, exception_case.c.closed_at.is_(None))
    return (await connection.execute(statement.values(closed_at=now, closed_by=who))).rowcount == 1


async def find_case(connection: AsyncConnection, case_id: UUID) -> Row[Any] | None:
    row: Row[Any] | None = (
        await connection.execute(select(exception_case).where(exception_case.c.case_id == case_id))
    ).one_or_none()
    return row


def cases_query(*, kind: str | None, place_id: str | None, fulfilment_order_id: UUID | None, open_only: bool) -> Select[Any]:
    columns = exception_case.c
    statement = select(exception_case)
    for column, value in (
        (columns.kind, kind),
        (columns.place_id, place_id),
        (columns.fulfilment_order_id, fulfilment_order_id),
    ):
        if value is not None:
            statement = statement.where(column == value)
    return statement.where(columns.closed_at.is_(None)) if open_only else statement


async def find_wms_event(connection: AsyncConnection, place_id: str, event_id: str) -> Row[Any] | None:
    statement = select(wms_event).where(wms_event.c.place_id == place_id, wms_event.c.event_id == event_id)
    row: Row[Any] | None = (await connection.execute(statement)).one_or_none()
    return row


async def add_wms_event(connection: AsyncConnection, **values: Any) -> bool:
    """False where the id is taken."""
    return (await connection.execute(insert(wms_event).values(values).on_conflict_do_nothing())).rowcount == 1


async def find_carrier_rules(connection: AsyncConnection) -> list[CarrierRule]:
    return [CarrierRule(**row._asdict()) for row in await connection.execute(_ALL_RULES)]


async def put_carrier_rule(connection: AsyncConnection, rule: CarrierRule, *, now: datetime) -> None:
    values = {**asdict(rule), "updated_at": now}
    statement = insert(carrier_rule).values(values)
    await connection.execute(statement.on_conflict_do_update(index_elements=[carrier_rule.c.rule_id], set_=values))


async def remove_carrier_rule(connection: AsyncConnection, rule_id: str) -> bool:
    """False where there is none."""
    return (await connection.execute(delete(carrier_rule).where(carrier_rule.c.rule_id == rule_id))).rowcount == 1


def carrier_rules_query() -> Select[Any]:
    return select(carrier_rule)


async def find_pick_up_try(connection: AsyncConnection, fulfilment_order_id: UUID) -> tuple[int, datetime | None]:
    """(wrong codes in a row, locked until). The caller holds the root's lock."""
    statement = select(pick_up_try).where(pick_up_try.c.fulfilment_order_id == fulfilment_order_id)
    row = (await connection.execute(statement)).one_or_none()
    return (0, None) if row is None else (row.wrong, row.locked_until)


async def put_pick_up_try(
    connection: AsyncConnection, fulfilment_order_id: UUID, *, wrong: int, locked_until: datetime | None
) -> None:
    values = {"fulfilment_order_id": fulfilment_order_id, "wrong": wrong, "locked_until": locked_until}
    statement = insert(pick_up_try).values(values)
    await connection.execute(statement.on_conflict_do_update(index_elements=[pick_up_try.c.fulfilment_order_id], set_=values))


async def wms_events_of(connection: AsyncConnection, fulfilment_order_id: UUID) -> Sequence[Row[Any]]:
    """What a WMS said of an order, the latest first."""
    columns = wms_event.c
    statement = select(wms_event).where(columns.fulfilment_order_id == fulfilment_order_id)
    return (await connection.execute(statement.order_by(columns.received_at.desc(), columns.event_id).limit(100))).all()
