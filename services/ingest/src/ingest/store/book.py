"""The order book: the timeline, each order's stage, and what people read of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, Row, and_, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from eventing import UnitOfWork
from ingest.domain.arrival import State
from ingest.domain.book import SERVICES, STAGES, UNFINISHED_RANKS, Seen
from ingest.tables import channel_order, manual_act, order_document, order_stage, timeline
from webapi.paging import Keyset

AnyRow: TypeAlias = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an order's timeline. Its order's ids are texts: a delivery brings them so, and the driver takes them so."""

    order_id: str
    root_id: str
    service: str
    step: int
    event_id: UUID
    stage: str
    code: str
    params: str
    topic: str
    at: datetime


_ADD_TIMELINE = text(
    """
    INSERT INTO timeline (order_id, service, step, event_id, root_id, stage, code, params, topic, at)
    SELECT * FROM unnest(
        CAST(:ids AS uuid[]), CAST(:services AS text[]), CAST(:steps AS integer[]), CAST(:events AS uuid[]),
        CAST(:roots AS uuid[]), CAST(:stages AS text[]), CAST(:codes AS text[]), CAST(:params AS text[]),
        CAST(:topics AS text[]), CAST(:at AS timestamptz[])
    )
    ON CONFLICT DO NOTHING
    """
)
_SEE_STAGES = text(
    f"""
    INSERT INTO order_stage AS seen (order_id, root_id, progress_at, {", ".join(SERVICES)})
    SELECT * FROM unnest(
        CAST(:ids AS uuid[]), CAST(:roots AS uuid[]), CAST(:at AS timestamptz[]),
        {", ".join(f"CAST(:{service} AS bigint[])" for service in SERVICES)}
    )
    ON CONFLICT (order_id) DO UPDATE SET
        {", ".join(f"{service} = greatest(seen.{service}, excluded.{service})" for service in SERVICES)},
        progress_at = greatest(seen.progress_at, excluded.progress_at)
    """  # noqa: S608  constant text
)
_COUNT_STAGES = text("SELECT stage, count(*), min(progress_at) FROM order_stage GROUP BY stage")


async def add_progress(work: UnitOfWork, entries: Sequence[Entry]) -> None:
    """Write timeline entries, once each, and what they say of each order's stage, commutatively."""
    if not entries:
        return
    entries = sorted(entries, key=lambda entry: (entry.order_id, entry.service, entry.step))
    await work.connection.execute(
        _ADD_TIMELINE,
        {
            "ids": [entry.order_id for entry in entries],
            "services": [entry.service for entry in entries],
            "steps": [entry.step for entry in entries],
            "events": [entry.event_id for entry in entries],
            "roots": [entry.root_id for entry in entries],
            "stages": [entry.stage for entry in entries],
            "codes": [entry.code for entry in entries],
            "params": [entry.params for entry in entries],
            "topics": [entry.topic for entry in entries],
            "at": [entry.at for entry in entries],
        },
    )
    seen = fold(entries)
    ids = sorted(seen)
    values: dict[str, list[Any]] = {
        "ids": ids,
        "roots": [seen[order_id].root_id for order_id in ids],
        "at": [seen[order_id].at for order_id in ids],
    }
    for index, service in enumerate(SERVICES):
        values[service] = [seen[order_id].marks[index] for order_id in ids]
    await work.connection.execute(_SEE_STAGES, values)


def fold(entries: Iterable[Entry]) -> dict[str, Seen]:
    """What a batch says of each order, one row per order: a row can be updated only once per statement."""
    seen: dict[str, Seen] = {}
    for entry in entries:
        known = seen.get(entry.order_id)
        if known is None:
            known = seen[entry.order_id] = Seen(entry.root_id, [0] * len(SERVICES), entry.at)
        known.see(entry.service, entry.step, entry.stage, entry.at)
    return seen


# Reading, for people


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """What `GET /v1/orders` can ask for; None asks nothing."""

    channel: str | None = None
    shop_id: str | None = None
    channel_order_no: str | None = None
    stage: str | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None
    order_id: UUID | None = None
    stuck_before: datetime | None = None
    """No progress since, and not finished."""
    parked: bool = False


def order_list(column: Literal["received_at", "placed_at"], *, descending: bool) -> Keyset:
    """The order of a list of orders: by one time, then by id."""
    return Keyset(
        f"orders.{column}",
        (channel_order.c[column], datetime),
        (channel_order.c.order_id, UUID),
        descending=descending,
    )


_LISTED = (
    channel_order.c.order_id,
    channel_order.c.channel,
    channel_order.c.shop_id,
    channel_order.c.channel_order_no,
    channel_order.c.source_version,
    channel_order.c.state,
    channel_order.c.code,
    channel_order.c.flags,
    channel_order.c.currency,
    channel_order.c.paid_minor,
    channel_order.c.placed_at,
    channel_order.c.received_at,
    order_stage.c.progress_at,
    *(order_stage.c[service] for service in SERVICES),
)


async def list_orders(
    connection: AsyncConnection, wanted: OrderFilter, *, keyset: Keyset, after: Any, limit: int
) -> Sequence[AnyRow]:
    """Root rows with their marks, one more than `limit` where there are more."""
    orders = channel_order.outerjoin(order_stage, order_stage.c.order_id == channel_order.c.order_id)
    statement = (
        select(*_LISTED)
        .select_from(orders)
        .where(and_(True, *_conditions(wanted)), keyset.after(after))
        .order_by(*keyset.order_by)
        .limit(limit + 1)
    )
    return (await connection.execute(statement)).all()


def _conditions(wanted: OrderFilter) -> Iterable[ColumnElement[bool]]:
    columns = channel_order.c
    if wanted.channel is not None:
        yield columns.channel == wanted.channel
    if wanted.shop_id is not None:
        yield columns.shop_id == wanted.shop_id
    if wanted.channel_order_no is not None:
        yield columns.channel_order_no == wanted.channel_order_no
    if wanted.order_id is not None:
        yield columns.order_id == wanted.order_id
    if wanted.received_from is not None:
        yield columns.received_at >= wanted.received_from
    if wanted.received_to is not None:
        yield columns.received_at < wanted.received_to
    if wanted.parked:
        yield columns.state == State.PARKED.value
    if wanted.stage is not None:
        yield order_stage.c.stage == STAGES.get(wanted.stage, -1)
    if wanted.stuck_before is not None:
        # Nothing in the book yet counts too: sent, but not even our own event has come back.
        yield or_(
            and_(order_stage.c.stage.in_(UNFINISHED_RANKS), order_stage.c.progress_at < wanted.stuck_before),
            and_(order_stage.c.order_id.is_(None), columns.received_at < wanted.stuck_before),
        )


async def find_order(connection: AsyncConnection, order_id: UUID) -> AnyRow | None:
    """The root row of an order or of one of its parts, with marks and block."""
    root = (
        select(order_stage.c.root_id).where(order_stage.c.order_id == order_id).scalar_subquery()
    )  # A part is known by the book alone.
    orders = channel_order.outerjoin(order_stage, order_stage.c.order_id == channel_order.c.order_id).outerjoin(
        order_document, order_document.c.order_id == channel_order.c.order_id
    )
    statement = (
        select(*_LISTED, channel_order.c.sent_version, order_document.c.block)
        .select_from(orders)
        .where(channel_order.c.order_id == func.coalesce(root, order_id))
    )
    return (await connection.execute(statement)).one_or_none()


async def list_parts(connection: AsyncConnection, root_id: UUID) -> Sequence[AnyRow]:
    """The marks of the order itself and of the orders it was split into."""
    columns = order_stage.c
    statement = (
        select(order_stage)
        .where(or_(columns.order_id == root_id, and_(columns.root_id == root_id, columns.order_id != columns.root_id)))
        .order_by(columns.order_id != root_id, columns.order_id)
    )
    return (await connection.execute(statement)).all()


async def list_timeline(connection: AsyncConnection, order_ids: Collection[UUID]) -> Sequence[AnyRow]:
    """Everything reported of these orders, in the order it happened."""
    statement = (
        select(timeline).where(timeline.c.order_id.in_(order_ids)).order_by(timeline.c.at, timeline.c.event_id, timeline.c.step)
    )
    return (await connection.execute(statement)).all()


async def find_entries(
    connection: AsyncConnection, keys: Collection[tuple[UUID, str, int]]
) -> Mapping[tuple[UUID, str, int], tuple[str, str, datetime]]:
    """(code, params, at) of timeline entries by (order, service, step): why a list of orders stands where it does."""
    statement = text(
        """
        SELECT DISTINCT ON (t.order_id, t.service, t.step) t.order_id, t.service, t.step, t.code, t.params, t.at
        FROM unnest(CAST(:ids AS uuid[]), CAST(:services AS text[]), CAST(:steps AS integer[])) AS k(order_id, service, step)
        JOIN timeline t USING (order_id, service, step)
        ORDER BY t.order_id, t.service, t.step, t.event_id
        """
    )
    listed = list(keys)
    rows = await connection.execute(
        statement,
        {
            "ids": [order_id for order_id, _, _ in listed],
            "services": [service for _, service, _ in listed],
            "steps": [step for _, _, step in listed],
        },
    )
    return {(row.order_id, row.service, row.step): (row.code, row.params, row.at) for row in rows}


async def count_stages(connection: AsyncConnection) -> Sequence[tuple[int, int, datetime]]:
    """(rank, orders and parts, oldest progress) of each shown stage."""
    return [(row[0], row[1], row[2]) for row in await connection.execute(_COUNT_STAGES)]


async def list_acts(connection: AsyncConnection, subject: str) -> Sequence[AnyRow]:
    """What was done to an order by hand."""
    statement = select(manual_act).where(manual_act.c.subject == subject).order_by(manual_act.c.at)
    return (await connection.execute(statement)).all()
