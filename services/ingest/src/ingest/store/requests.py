"""Requests, refunds, receipts and cases. The order's root row is locked before any of them is read to be changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic_core import from_json, to_json
from sqlalchemy import and_, func, select, text, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from eventing import UnitOfWork
from ingest.domain.book import STAGES
from ingest.domain.refunds import LineNo, Money
from ingest.domain.requests import Asked, Key, Progress, Request
from ingest.store.book import AnyRow
from ingest.tables import channel_order, order_case, order_document, refund, request, request_line
from webapi.paging import Keyset

Kind = Literal["cancel", "change"]


@dataclass(slots=True)
class RequestRow:
    """A request as it stands, or shall stand."""

    request_id: UUID
    order_id: UUID
    kind: Kind
    reason: str
    requested_by: str
    asked_at: datetime
    is_sent: bool = True
    """False: everything it asks for was cancelled here, before the order was sent."""
    is_ours: bool = True
    progress: Progress = Progress.OPEN
    lines: dict[Key, Asked] = field(default_factory=dict)
    codes: dict[Key, str] = field(default_factory=dict)
    """Why a line was refused, or who cancelled it."""
    quantities_then: dict[Key, int] = field(default_factory=dict)
    """Of lines cancelled before they were sent: what the channel ordered when they were."""
    money: dict[Key, tuple[int, Money]] = field(default_factory=dict)
    """Units, and the money they had, as those told who cancelled them: not all who do tell it."""
    note: str = ""
    reference: str | None = None
    fields: tuple[str, ...] = ()
    applied: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    part: str = ""
    """Of a change: the part as it will have been sent once the change applies."""
    code: str = ""
    settled_at: datetime | None = None
    revived_as: UUID | None = None
    former: str = ""
    """Of a change of receiver: how the order stood before."""

    @property
    def pure(self) -> Request:
        return Request(self.lines, self.progress, self.is_ours)


@dataclass(frozen=True, slots=True)
class RefundRow:
    channel: str
    shop_id: str
    refund_id: str
    order_id: UUID
    lines: Mapping[LineNo, Money]
    settled_at: datetime

    @property
    def amount_minor(self) -> int:
        return sum(money.paid_minor for money in self.lines.values())


@dataclass(frozen=True, slots=True)
class Case:
    """Something that a person must look at. `kind` is its reason code; one per order, kind and subject."""

    order_id: UUID
    kind: str
    subject: str
    params: Mapping[str, Any] = field(default_factory=dict)


class RefundKnownError(Exception):
    """Somebody has told the same refund at the same time, of another order."""


_PUT_REQUESTS = text(
    """
    INSERT INTO request (
        request_id, order_id, kind, state, is_sent, is_ours, reason, requested_by, note, reference, fields, applied, refused,
        part, code, asked_at, settled_at, revived_as, former
    )
    SELECT * FROM unnest(
        CAST(:ids AS uuid[]), CAST(:orders AS uuid[]), CAST(:kinds AS text[]), CAST(:states AS text[]),
        CAST(:sent AS boolean[]), CAST(:ours AS boolean[]), CAST(:reasons AS text[]), CAST(:by AS text[]),
        CAST(:notes AS text[]), CAST(:references AS text[]), CAST(:fields AS text[]), CAST(:applied AS text[]),
        CAST(:refused AS text[]), CAST(:parts AS text[]), CAST(:codes AS text[]), CAST(:asked AS timestamptz[]),
        CAST(:settled AS timestamptz[]), CAST(:revived AS uuid[]), CAST(:formers AS text[])
    )
    ON CONFLICT (request_id, order_id) DO UPDATE SET
        state = excluded.state, applied = excluded.applied, refused = excluded.refused, code = excluded.code,
        settled_at = excluded.settled_at, revived_as = excluded.revived_as, former = excluded.former
    """
)
_PUT_LINES = text(
    """
    INSERT INTO request_line (
        request_id, order_id, origin_order_id, origin_line, sku_id, asked, cancelled, refused, code, quantity_then, money
    )
    SELECT * FROM unnest(
        CAST(:ids AS uuid[]), CAST(:orders AS uuid[]), CAST(:origins AS uuid[]), CAST(:numbers AS smallint[]),
        CAST(:skus AS text[]), CAST(:asked AS integer[]), CAST(:cancelled AS integer[]), CAST(:refused AS integer[]),
        CAST(:codes AS text[]), CAST(:then AS integer[]), CAST(:moneys AS text[])
    )
    ON CONFLICT (request_id, order_id, origin_order_id, origin_line, sku_id) DO UPDATE SET
        asked = excluded.asked, cancelled = excluded.cancelled, refused = excluded.refused, code = excluded.code,
        money = excluded.money
    """
)
_FIND_LINES = text("SELECT * FROM request_line WHERE request_id = ANY(CAST(:ids AS uuid[]))")
_FIND_REQUESTS = text("SELECT * FROM request WHERE order_id = ANY(CAST(:ids AS uuid[])) ORDER BY asked_at, request_id")
_FIND_ORDERS = text("SELECT request_id, order_id FROM request WHERE request_id = ANY(CAST(:ids AS uuid[]))")
_ADD_REFUNDS = text(
    """
    INSERT INTO refund (channel, shop_id, refund_id, order_id, amount_minor, lines, settled_at)
    SELECT * FROM unnest(
        CAST(:channels AS text[]), CAST(:shops AS text[]), CAST(:ids AS text[]), CAST(:orders AS uuid[]),
        CAST(:amounts AS bigint[]), CAST(:lines AS text[]), CAST(:settled AS timestamptz[])
    )
    ON CONFLICT DO NOTHING
    """
)
_FIND_REFUNDS = text("SELECT * FROM refund WHERE order_id = ANY(CAST(:ids AS uuid[])) ORDER BY settled_at, refund_id")
_FIND_REFUNDS_BY_ID = text(
    """
    SELECT r.* FROM unnest(CAST(:channels AS text[]), CAST(:shops AS text[]), CAST(:ids AS text[]))
        AS k(channel, shop_id, refund_id) JOIN refund r USING (channel, shop_id, refund_id)
    """
)
_ADD_RECEIPTS = text(
    """
    INSERT INTO receipt (order_id, reference, confirmed_at)
    SELECT * FROM unnest(CAST(:orders AS uuid[]), CAST(:references AS text[]), CAST(:confirmed AS timestamptz[]))
    """
)
_FIND_RECEIPTS = text("SELECT order_id, reference FROM receipt WHERE order_id = ANY(CAST(:ids AS uuid[]))")
# The shown ranks of shipped … delivered (domain/book.py), of the order itself or of any part of it, merges followed.
_FIND_SHIPPED = text(
    """
    SELECT DISTINCT asked.order_id
    FROM unnest(CAST(:ids AS uuid[])) AS asked(order_id)
    LEFT JOIN order_link l ON l.order_id = asked.order_id AND l.by_order = l.by_root AND NOT l.revived
    CROSS JOIN LATERAL (
        SELECT s.fulfillment FROM order_stage s WHERE s.order_id IN (asked.order_id, l.by_root)
        UNION ALL
        SELECT s.fulfillment FROM order_stage s
        WHERE s.root_id IN (asked.order_id, l.by_root) AND s.order_id <> s.root_id
    ) AS seen
    WHERE seen.fulfillment % 1000 BETWEEN :shipped AND :delivered
    """
)
_ADD_CASES = text(
    """
    INSERT INTO order_case (case_id, order_id, kind, subject, params, opened_at)
    SELECT * FROM unnest(
        CAST(:ids AS uuid[]), CAST(:orders AS uuid[]), CAST(:kinds AS text[]), CAST(:subjects AS text[]),
        CAST(:params AS text[]), CAST(:opened AS timestamptz[])
    )
    ON CONFLICT (order_id, kind, subject) DO NOTHING
    """
)


async def find_requests(work: UnitOfWork, order_ids: Collection[UUID]) -> dict[UUID, dict[UUID, RequestRow]]:
    """All requests of these orders, by order and request, oldest first."""
    found = {order_id: dict[UUID, RequestRow]() for order_id in order_ids}
    rows = (await work.connection.execute(_FIND_REQUESTS, {"ids": sorted(order_ids)})).all()
    for row in rows:
        found[row.order_id][row.request_id] = _request(row)
    if rows:
        for line in await work.connection.execute(_FIND_LINES, {"ids": sorted({row.request_id for row in rows})}):
            if line.order_id in found and line.request_id in found[line.order_id]:
                _add_line(found[line.order_id][line.request_id], line)
    return found


async def find_orders_of(work: UnitOfWork, request_ids: Collection[UUID]) -> dict[UUID, set[UUID]]:
    """The orders that these requests speak of; unknown requests are missing."""
    orders: dict[UUID, set[UUID]] = {}
    for request_id, order_id in await work.connection.execute(_FIND_ORDERS, {"ids": sorted(request_ids)}):
        orders.setdefault(request_id, set()).add(order_id)
    return orders


async def put_requests(work: UnitOfWork, rows: Sequence[RequestRow]) -> None:
    """Write requests of orders that this transaction has locked."""
    if not rows:
        return
    rows = sorted(rows, key=lambda row: (row.request_id.int, row.order_id.int))
    await work.connection.execute(
        _PUT_REQUESTS,
        {
            "ids": [row.request_id for row in rows],
            "orders": [row.order_id for row in rows],
            "kinds": [row.kind for row in rows],
            "states": [row.progress.value for row in rows],
            "sent": [row.is_sent for row in rows],
            "ours": [row.is_ours for row in rows],
            "reasons": [row.reason for row in rows],
            "by": [row.requested_by for row in rows],
            "notes": [row.note for row in rows],
            "references": [row.reference for row in rows],
            "fields": [",".join(row.fields) for row in rows],
            "applied": [",".join(row.applied) for row in rows],
            "refused": [",".join(row.refused) for row in rows],
            "parts": [row.part for row in rows],
            "codes": [row.code for row in rows],
            "asked": [row.asked_at for row in rows],
            "settled": [row.settled_at for row in rows],
            "revived": [row.revived_as for row in rows],
            "formers": [row.former for row in rows],
        },
    )
    lines = sorted(
        ((row, key, line) for row in rows for key, line in row.lines.items()),
        key=lambda item: (item[0].request_id.int, item[0].order_id.int, item[1]),
    )
    if lines:
        await work.connection.execute(
            _PUT_LINES,
            {
                "ids": [row.request_id for row, _, _ in lines],
                "orders": [row.order_id for row, _, _ in lines],
                "origins": [key[0] for _, key, _ in lines],
                "numbers": [key[1] for _, key, _ in lines],
                "skus": [key[2] for _, key, _ in lines],
                "asked": [line.asked for _, _, line in lines],
                "cancelled": [line.cancelled for _, _, line in lines],
                "refused": [line.refused for _, _, line in lines],
                "codes": [row.codes.get(key, "") for row, key, _ in lines],
                "then": [row.quantities_then.get(key, 0) for row, key, _ in lines],
                "moneys": [to_json(row.money[key]).decode() if key in row.money else "" for row, key, _ in lines],
            },
        )


async def find_refunds(work: UnitOfWork, order_ids: Collection[UUID]) -> dict[UUID, list[RefundRow]]:
    """What was refunded of these orders."""
    found: dict[UUID, list[RefundRow]] = {order_id: [] for order_id in order_ids}
    for row in await work.connection.execute(_FIND_REFUNDS, {"ids": sorted(order_ids)}):
        found[row.order_id].append(_refund(row))
    return found


async def find_refunds_by_id(work: UnitOfWork, ids: Collection[tuple[str, str, str]]) -> dict[tuple[str, str, str], RefundRow]:
    """Refunds by (channel, shop, refund id), whichever order they were told of."""
    listed = sorted(ids)
    rows = await work.connection.execute(
        _FIND_REFUNDS_BY_ID,
        {
            "channels": [channel for channel, _, _ in listed],
            "shops": [shop for _, shop, _ in listed],
            "ids": [refund_id for _, _, refund_id in listed],
        },
    )
    return {(row.channel, row.shop_id, row.refund_id): _refund(row) for row in rows}


async def add_refunds(work: UnitOfWork, rows: Sequence[RefundRow]) -> None:
    """Write refunds that were not there a moment ago.

    **Errors**: RefundKnownError where one of them has been told of another order meanwhile; told again, it is found.
    """
    if rows:
        written = await work.connection.execute(
            _ADD_REFUNDS,
            {
                "channels": [row.channel for row in rows],
                "shops": [row.shop_id for row in rows],
                "ids": [row.refund_id for row in rows],
                "orders": [row.order_id for row in rows],
                "amounts": [row.amount_minor for row in rows],
                "lines": [to_json([(line, sku, *money) for (line, sku), money in row.lines.items()]).decode() for row in rows],
                "settled": [row.settled_at for row in rows],
            },
        )
        if written.rowcount < len(rows):
            raise RefundKnownError


async def find_receipts(work: UnitOfWork, order_ids: Collection[UUID]) -> dict[UUID, set[str]]:
    """References of the receipts that were told of these orders."""
    found: dict[UUID, set[str]] = {order_id: set() for order_id in order_ids}
    for order_id, reference in await work.connection.execute(_FIND_RECEIPTS, {"ids": sorted(order_ids)}):
        found[order_id].add(reference)
    return found


async def add_receipts(work: UnitOfWork, rows: Sequence[tuple[UUID, str, datetime]]) -> None:
    if rows:
        await work.connection.execute(
            _ADD_RECEIPTS,
            {
                "orders": [order_id for order_id, _, _ in rows],
                "references": [reference for _, reference, _ in rows],
                "confirmed": [confirmed_at for _, _, confirmed_at in rows],
            },
        )


async def find_shipped(work: UnitOfWork, order_ids: Collection[UUID]) -> set[UUID]:
    """Those of these orders of which goods have left, as far as the book knows."""
    rows = await work.connection.execute(
        _FIND_SHIPPED, {"ids": sorted(order_ids), "shipped": STAGES["shipped"], "delivered": STAGES["delivered"]}
    )
    return set(rows.scalars())


async def add_cases(work: UnitOfWork, cases: Sequence[Case]) -> None:
    """Open cases; what was opened before, also if it was closed since, is not opened again."""
    if cases:
        await work.connection.execute(
            _ADD_CASES,
            {
                "ids": [work.new_id() for _ in cases],
                "orders": [case.order_id for case in cases],
                "kinds": [case.kind for case in cases],
                "subjects": [case.subject for case in cases],
                "params": [to_json(case.params).decode() for case in cases],
                "opened": [work.now for _ in cases],
            },
        )


def _request(row: AnyRow) -> RequestRow:
    return RequestRow(
        request_id=row.request_id,
        order_id=row.order_id,
        kind=row.kind,
        reason=row.reason,
        requested_by=row.requested_by,
        asked_at=row.asked_at,
        is_sent=row.is_sent,
        is_ours=row.is_ours,
        progress=Progress(row.state),
        note=row.note,
        reference=row.reference,
        fields=_words(row.fields),
        applied=_words(row.applied),
        refused=_words(row.refused),
        part=row.part,
        code=row.code,
        settled_at=row.settled_at,
        revived_as=row.revived_as,
        former=row.former,
    )


def _add_line(owner: RequestRow, line: AnyRow) -> None:
    key = (line.origin_order_id, line.origin_line, line.sku_id)
    owner.lines[key] = Asked(line.asked, line.cancelled, line.refused)
    owner.codes[key] = line.code
    owner.quantities_then[key] = line.quantity_then
    if line.money:
        units, money = from_json(line.money)
        owner.money[key] = units, Money(*money)


def _refund(row: AnyRow) -> RefundRow:
    lines = {(line, sku): Money(*money) for line, sku, *money in from_json(row.lines)}
    return RefundRow(row.channel, row.shop_id, row.refund_id, row.order_id, lines, row.settled_at)


def _words(joined: str) -> tuple[str, ...]:
    return tuple(joined.split(",")) if joined else ()


# Reading, for people

REQUESTS = Keyset(
    "requests", (request.c.asked_at, datetime), (request.c.request_id, UUID), (request.c.order_id, UUID), descending=True
)
CASES = Keyset("cases", (order_case.c.opened_at, datetime), (order_case.c.case_id, UUID))


async def list_requests(
    connection: AsyncConnection,
    *,
    kind: Kind,
    order_id: UUID | None,
    state: str | None,
    request_id: UUID | None = None,
    after: Any = None,
    limit: int,
) -> list[RequestRow]:
    """Requests, newest first; one more than `limit` where there are more."""
    conditions = [request.c.kind == kind, REQUESTS.after(after)]
    if order_id is not None:
        conditions.append(request.c.order_id == order_id)
    if state is not None:
        conditions.append(request.c.state == state)
    if request_id is not None:
        conditions.append(request.c.request_id == request_id)
    statement = select(request).where(and_(true(), *conditions)).order_by(*REQUESTS.order_by).limit(limit + 1)
    rows = [_request(row) for row in await connection.execute(statement)]
    by_key = {(row.request_id, row.order_id): row for row in rows}
    lines = await connection.execute(
        select(request_line)
        .where(request_line.c.request_id.in_({row.request_id for row in rows}))
        .order_by(request_line.c.origin_line, request_line.c.sku_id)
    )
    for line in lines:
        if owner := by_key.get((line.request_id, line.order_id)):
            _add_line(owner, line)
    return rows


async def find_bundles(connection: AsyncConnection, order_ids: Collection[UUID]) -> dict[UUID, Mapping[int, Mapping[str, int]]]:
    """By order and line: units of each SKU in one bundle; orders without bundles are missing."""
    rows = await connection.execute(
        select(order_document.c.order_id, order_document.c.part).where(
            order_document.c.order_id.in_(order_ids), order_document.c.part != ""
        )
    )
    return {order_id: {int(line): counts for line, counts in from_json(part)["bundles"].items()} for order_id, part in rows}


async def list_cases(
    connection: AsyncConnection, *, order_id: UUID | None, kind: str | None, is_open: bool | None, after: Any, limit: int
) -> Sequence[AnyRow]:
    """Cases with the channel order they are about, oldest first; one more than `limit` where there are more."""
    conditions = [CASES.after(after)]
    if order_id is not None:
        conditions.append(order_case.c.order_id == order_id)
    if kind is not None:
        conditions.append(order_case.c.kind == kind)
    if is_open is not None:
        conditions.append(order_case.c.closed_at.is_(None) if is_open else order_case.c.closed_at.is_not(None))
    statement = (
        select(order_case, channel_order.c.channel, channel_order.c.shop_id, channel_order.c.channel_order_no)
        .join(channel_order, channel_order.c.order_id == order_case.c.order_id)
        .where(and_(true(), *conditions))
        .order_by(*CASES.order_by)
        .limit(limit + 1)
    )
    return (await connection.execute(statement)).all()


async def close_case(work: UnitOfWork, case_id: UUID, *, by: str, why: str) -> bool | None:
    """Close a case; False if it was closed already, None if there is none."""
    closed = await work.connection.execute(
        update(order_case)
        .where(order_case.c.case_id == case_id, order_case.c.closed_at.is_(None))
        .values(closed_at=work.now, closed_by=by, close_reason=why)
    )
    if closed.rowcount:
        return True
    known = await work.connection.scalar(select(func.count()).where(order_case.c.case_id == case_id))
    return False if known else None


async def list_refunds(connection: AsyncConnection, order_id: UUID) -> list[RefundRow]:
    """What was refunded of an order, in order."""
    rows = await connection.execute(select(refund).where(refund.c.order_id == order_id).order_by(refund.c.settled_at))
    return [_refund(row) for row in rows]
