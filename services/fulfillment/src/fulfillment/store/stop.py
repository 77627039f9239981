"""Stops, what they want of each fulfilment order, and what places gave back. Rare, and always under the root's lock."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from fulfillment.domain import Claim, Key, Return, StopRequest, Units
from fulfillment.tables import allocation_return, stop_claim, stop_request

_SAVE_ANSWERS = text("""
    UPDATE stop_request AS r SET stopped = CAST(n.stopped AS jsonb), answered_at = :now
    FROM unnest(CAST(:roots AS uuid[]), CAST(:requests AS uuid[]), CAST(:stopped AS text[])) AS n (root_id, request_id, stopped)
    WHERE r.root_id = n.root_id AND r.request_id = n.request_id
""")


def units_json(units: Units) -> list[list[str | int]]:
    """[origin order, origin line, SKU, units], in the order of the lines."""
    return [[str(order_id), line, sku_id, units[order_id, line, sku_id]] for order_id, line, sku_id in sorted(units)]


def units_of(stored: Iterable[Sequence[Any]]) -> dict[Key, int]:
    return {(UUID(order_id), line, sku_id): quantity for order_id, line, sku_id, quantity in stored}


async def find_stop_requests(connection: AsyncConnection, roots: Iterable[UUID]) -> list[StopRequest]:
    """Those that are not answered yet."""
    columns = stop_request.c
    rows = await connection.execute(
        select(stop_request)
        .where(columns.root_id.in_(sorted(roots)), columns.answered_at.is_(None))
        .order_by(columns.asked_at, columns.request_id)
    )
    return [StopRequest(request_id=row.request_id, root_id=row.root_id, asked=units_of(row.asked)) for row in rows]


async def known_stop_requests(connection: AsyncConnection, requests: Iterable[tuple[UUID, UUID]]) -> set[tuple[UUID, UUID]]:
    """**Shapes**: (root_id, request_id)."""
    wanted = set(requests)
    columns = stop_request.c
    rows = await connection.execute(
        select(columns.root_id, columns.request_id).where(columns.request_id.in_({one for _, one in wanted}))
    )
    return {(row.root_id, row.request_id) for row in rows} & wanted


async def find_claims(connection: AsyncConnection, requests: Sequence[StopRequest]) -> list[Claim]:
    """All claims of these requests, oldest first."""
    if not requests:
        return []
    columns = stop_claim.c
    rows = await connection.execute(
        select(stop_claim)
        .where(
            columns.root_id.in_({one.root_id for one in requests}), columns.request_id.in_({one.request_id for one in requests})
        )
        .order_by(columns.claim_no)
    )
    return [claim_of(row) for row in rows]


async def claims_of(connection: AsyncConnection, fulfilment_order_id: UUID) -> list[Claim]:
    columns = stop_claim.c
    rows = await connection.execute(
        select(stop_claim).where(columns.fulfilment_order_id == fulfilment_order_id).order_by(columns.claim_no)
    )
    return [claim_of(row) for row in rows]


async def add_stop_requests(connection: AsyncConnection, requests: Sequence[tuple[StopRequest, str]], *, now: datetime) -> None:
    """**Shapes**: each with its reason."""
    if requests:
        await connection.execute(
            insert(stop_request).values(
                [
                    {
                        "root_id": request.root_id,
                        "request_id": request.request_id,
                        "reason": reason,
                        "asked": units_json(request.asked),
                        "asked_at": now,
                    }
                    for request, reason in requests
                ]
            )
        )


async def save_claims(connection: AsyncConnection, claims: Sequence[Claim], roots: Mapping[UUID, UUID]) -> None:
    """**Shapes**: `roots` by fulfilment_order_id."""
    if not claims:
        return
    statement = insert(stop_claim).values(
        [
            {
                "fulfilment_order_id": one.fulfilment_order_id,
                "request_id": one.request_id,
                "root_id": roots[one.fulfilment_order_id],
                "asked": units_json(one.asked),
                "stopped": units_json(one.stopped),
                "told": one.told,
                "pending": one.pending,
                "open": one.open,
            }
            for one in claims
        ]
    )
    new = statement.excluded
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[stop_claim.c.fulfilment_order_id, stop_claim.c.request_id],
            set_={"stopped": new.stopped, "told": new.told, "pending": new.pending, "open": new.open},
        )
    )


async def save_answers(connection: AsyncConnection, answers: Sequence[tuple[StopRequest, Units]], *, now: datetime) -> None:
    """**Shapes**: each request with what was stopped."""
    if answers:
        await connection.execute(
            _SAVE_ANSWERS,
            {
                "roots": [request.root_id for request, _ in answers],
                "requests": [request.request_id for request, _ in answers],
                "stopped": [json.dumps(units_json(stopped)) for _, stopped in answers],
                "now": now,
            },
        )


async def add_allocation_returns(connection: AsyncConnection, returns: Sequence[Return], *, now: datetime) -> None:
    if returns:
        await connection.execute(
            insert(allocation_return),
            [
                {
                    "fulfilment_order_id": one.order.fulfilment_order_id,
                    "return_no": one.order.returns,
                    "reason": one.reason,
                    "stock_effect": one.stock_effect,
                    "units": units_json(one.units),
                    "returned_at": now,
                }
                for one in returns
            ],
        )


async def allocation_returns_of(connection: AsyncConnection, fulfilment_order_id: UUID) -> Sequence[Row[Any]]:
    statement = select(allocation_return).where(allocation_return.c.fulfilment_order_id == fulfilment_order_id)
    return (await connection.execute(statement.order_by("return_no").limit(1000))).all()


def claim_of(row: Row[Any]) -> Claim:
    return Claim(
        request_id=row.request_id,
        fulfilment_order_id=row.fulfilment_order_id,
        asked=units_of(row.asked),
        stopped=units_of(row.stopped),
        told=row.told,
        pending=row.pending,
        open=row.open,
    )
