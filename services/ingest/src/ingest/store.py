"""Every SQL statement of ingest. Whole batches: arrays in, rows out. Locks: waited-for SKUs < root rows < order stages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, Row, and_, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts import CatalogItem
from eventing import UnitOfWork
from ingest.domain.arrival import State
from ingest.domain.book import SERVICES, STAGES, UNFINISHED_RANKS, Seen
from ingest.privacy import Sealed
from ingest.tables import channel_order, manual_act, order_document, order_stage, timeline
from webapi.paging import Keyset

AnyRow: TypeAlias = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Item:
    """What ingest needs to know of a SKU."""

    weight_grams: int
    tax_rate_bp: int


@dataclass(slots=True)
class OrderRow:
    """A root row and its documents as they stand, or shall stand."""

    order_id: UUID
    step: int
    channel: str
    shop_id: str
    channel_order_no: str
    source_version: int
    content_hash: bytes
    state: State
    code: str
    flags: list[str]
    sent_version: int | None
    currency: str
    paid_minor: int
    placed_at: datetime
    received_at: datetime
    changed_at: datetime
    sealed: Sealed | None = None
    """The raw version; None where only the root row was read."""
    block: str = ""
    missing_skus: tuple[str, ...] = ()


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


_FIND_ITEMS = text(
    "SELECT sku_id, weight_grams, tax_rate_bp FROM catalog_item WHERE sku_id = ANY(CAST(:skus AS text[])) AND NOT deleted"
)
_PUT_ITEMS = text(
    """
    INSERT INTO catalog_item (sku_id, version, deleted, weight_grams, tax_rate_bp)
    SELECT * FROM unnest(
        CAST(:skus AS text[]), CAST(:versions AS bigint[]), CAST(:deleted AS boolean[]),
        CAST(:weights AS integer[]), CAST(:rates AS integer[])
    )
    ON CONFLICT (sku_id) DO UPDATE SET
        version = excluded.version, deleted = excluded.deleted,
        weight_grams = excluded.weight_grams, tax_rate_bp = excluded.tax_rate_bp
    WHERE catalog_item.version < excluded.version
    """
)
_COLUMNS = """
    CAST(:ids AS uuid[]), CAST(:steps AS integer[]), CAST(:channels AS text[]), CAST(:shops AS text[]),
    CAST(:numbers AS text[]), CAST(:versions AS bigint[]), CAST(:hashes AS bytea[]), CAST(:states AS text[]),
    CAST(:codes AS text[]), CAST(:flags AS text[]), CAST(:sent AS bigint[]), CAST(:currencies AS text[]),
    CAST(:paid AS bigint[]), CAST(:placed AS timestamptz[]), CAST(:received AS timestamptz[]), CAST(:changed AS timestamptz[])
"""
_ADD_ORDERS = text(
    f"""
    INSERT INTO channel_order (
        order_id, root_id, step, channel, shop_id, channel_order_no, source_version, content_hash, state, code, flags,
        sent_version, currency, paid_minor, placed_at, received_at, changed_at
    )
    SELECT id, id, step, channel, shop, number, version, hash, state, code, string_to_array(flags, ','), sent, currency, paid,
        placed, received, changed
    FROM unnest({_COLUMNS}) AS row(
        id, step, channel, shop, number, version, hash, state, code, flags, sent, currency, paid, placed, received, changed
    )
    ON CONFLICT DO NOTHING
    RETURNING order_id
    """  # noqa: S608  constant text
)
_UPDATE_ORDERS = text(
    f"""
    UPDATE channel_order o SET
        step = row.step, source_version = row.version, content_hash = row.hash, state = row.state, code = row.code,
        flags = string_to_array(row.flags, ','), sent_version = row.sent, currency = row.currency, paid_minor = row.paid,
        placed_at = row.placed, changed_at = row.changed
    FROM unnest({_COLUMNS}) AS row(
        id, step, channel, shop, number, version, hash, state, code, flags, sent, currency, paid, placed, received, changed
    )
    WHERE o.order_id = row.id
    """  # noqa: S608  constant text
)
_LOCK_ORDERS = text(
    """
    SELECT order_id, step, channel, shop_id, channel_order_no, source_version, content_hash, state, code, flags, sent_version,
        currency, paid_minor, placed_at, received_at, changed_at
    FROM channel_order WHERE order_id = ANY(CAST(:ids AS uuid[])) ORDER BY order_id FOR UPDATE
    """
)
_PUT_DOCUMENTS = text(
    """
    INSERT INTO order_document (order_id, source_version, key_id, wrapped_key, nonce, ciphertext, block)
    SELECT * FROM unnest(
        CAST(:ids AS uuid[]), CAST(:versions AS bigint[]), CAST(:key_ids AS text[]), CAST(:keys AS bytea[]),
        CAST(:nonces AS bytea[]), CAST(:texts AS bytea[]), CAST(:blocks AS text[])
    )
    ON CONFLICT (order_id) DO UPDATE SET
        source_version = excluded.source_version, key_id = excluded.key_id, wrapped_key = excluded.wrapped_key,
        nonce = excluded.nonce, ciphertext = excluded.ciphertext,
        block = CASE WHEN excluded.block = '' THEN order_document.block ELSE excluded.block END
    """
)
_FIND_SEALED = text(
    """
    SELECT order_id, key_id, wrapped_key, nonce, ciphertext FROM order_document WHERE order_id = ANY(CAST(:ids AS uuid[]))
    """
)
_ADD_PARKED_SKUS = text(
    """
    INSERT INTO parked_sku (sku_id, order_id) SELECT * FROM unnest(CAST(:skus AS text[]), CAST(:ids AS uuid[]))
    ON CONFLICT DO NOTHING
    """
)
_DROP_PARKED_SKUS = text("DELETE FROM parked_sku WHERE order_id = ANY(CAST(:ids AS uuid[]))")
_FIND_WAITED_FOR = text("SELECT DISTINCT sku_id FROM parked_sku WHERE sku_id = ANY(CAST(:skus AS text[]))")
_FIND_PARKED_BY_SKU = text(
    "SELECT DISTINCT order_id FROM parked_sku WHERE sku_id = ANY(CAST(:skus AS text[])) ORDER BY order_id LIMIT :most"
)
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
_COUNT_BACKLOG = text("SELECT count(*) FROM (SELECT 1 FROM outbox LIMIT :most) AS unsent")
_COUNT_STAGES = text("SELECT stage, count(*), min(progress_at) FROM order_stage GROUP BY stage")


async def find_items(work: UnitOfWork, skus: Collection[str]) -> dict[str, Item]:
    """The items the catalogue has; SKUs it lacks are missing from the answer."""
    if not skus:
        return {}
    rows = await work.connection.execute(_FIND_ITEMS, {"skus": list(skus)})
    return {sku_id: Item(weight, rate) for sku_id, weight, rate in rows}


async def put_items(work: UnitOfWork, items: Sequence[CatalogItem]) -> None:
    """Keep the highest version of each SKU, whatever order they come in."""
    highest: dict[str, CatalogItem] = {}
    for item in items:
        known = highest.get(item.sku_id)
        if known is None or known.version < item.version:
            highest[item.sku_id] = item
    newest = [highest[sku_id] for sku_id in sorted(highest)]
    await work.connection.execute(
        _PUT_ITEMS,
        {
            "skus": [item.sku_id for item in newest],
            "versions": [item.version for item in newest],
            "deleted": [item.deleted for item in newest],
            "weights": [item.weight_grams for item in newest],
            "rates": [item.tax_rate_bp for item in newest],
        },
    )


async def add_orders(work: UnitOfWork, rows: Sequence[OrderRow]) -> set[UUID]:
    """Insert root rows, sorted; return the ids of those that were not there yet. The others are untouched and not locked."""
    added = await work.connection.execute(_ADD_ORDERS, _order_arrays(sorted(rows, key=_by_id)))
    return set(added.scalars())


async def lock_orders(work: UnitOfWork, order_ids: Collection[UUID]) -> dict[UUID, OrderRow]:
    """Lock root rows, sorted; ids that have none are missing from the answer."""
    rows = await work.connection.execute(_LOCK_ORDERS, {"ids": sorted(order_ids)})
    return {
        row.order_id: OrderRow(
            row.order_id, row.step, row.channel, row.shop_id, row.channel_order_no, row.source_version, row.content_hash,
            State(row.state), row.code, list(row.flags), row.sent_version, row.currency, row.paid_minor, row.placed_at,
            row.received_at, row.changed_at,
        )
        for row in rows
    }  # fmt: skip


async def update_orders(work: UnitOfWork, rows: Sequence[OrderRow]) -> None:
    """Write root rows that this transaction has locked."""
    if rows:
        await work.connection.execute(_UPDATE_ORDERS, _order_arrays(sorted(rows, key=_by_id)))


async def put_documents(work: UnitOfWork, rows: Sequence[OrderRow]) -> None:
    """Write the sealed version of each row that has one; an empty block leaves the block that is there. Roots are locked."""
    written = [(row, row.sealed) for row in sorted(rows, key=_by_id) if row.sealed is not None]
    if written:
        await work.connection.execute(
            _PUT_DOCUMENTS,
            {
                "ids": [row.order_id for row, _ in written],
                "versions": [row.source_version for row, _ in written],
                "key_ids": [sealed.key_id for _, sealed in written],
                "keys": [sealed.wrapped_key for _, sealed in written],
                "nonces": [sealed.nonce for _, sealed in written],
                "texts": [sealed.ciphertext for _, sealed in written],
                "blocks": [row.block for row, _ in written],
            },
        )


async def find_sealed(work: UnitOfWork, order_ids: Collection[UUID]) -> dict[UUID, Sealed]:
    """The sealed latest versions."""
    rows = await work.connection.execute(_FIND_SEALED, {"ids": sorted(order_ids)})
    return {row.order_id: Sealed(row.key_id, row.wrapped_key, row.nonce, row.ciphertext) for row in rows}


async def set_missing_skus(work: UnitOfWork, rows: Sequence[OrderRow], *, were_there: bool) -> None:
    """Note which items these orders wait for, replacing what was noted before."""
    if were_there and rows:
        await work.connection.execute(_DROP_PARKED_SKUS, {"ids": [row.order_id for row in rows]})
    pairs = sorted((sku, row.order_id) for row in rows for sku in row.missing_skus)
    if pairs:
        await work.connection.execute(
            _ADD_PARKED_SKUS, {"skus": [sku for sku, _ in pairs], "ids": [order_id for _, order_id in pairs]}
        )


async def find_waited_for(work: UnitOfWork, skus: Collection[str]) -> list[str]:
    """Those of these SKUs that some parked order waits for."""
    rows = await work.connection.execute(_FIND_WAITED_FOR, {"skus": list(skus)})
    return sorted(rows.scalars())


async def find_parked_by_sku(work: UnitOfWork, skus: Collection[str], *, most: int) -> list[UUID]:
    """Parked orders that wait for any of these SKUs."""
    rows = await work.connection.execute(_FIND_PARKED_BY_SKU, {"skus": list(skus), "most": most})
    return list(rows.scalars())


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


async def count_backlog(connection: AsyncConnection, *, most: int) -> int:
    """Unsent outbox rows, counted no further than `most`."""
    count: int = (await connection.execute(_COUNT_BACKLOG, {"most": most})).scalar_one()
    return count


def _by_id(row: OrderRow) -> int:
    return row.order_id.int  # Compares ten times faster than UUID does.


def _order_arrays(rows: Sequence[OrderRow]) -> dict[str, list[Any]]:
    return {
        "ids": [row.order_id for row in rows],
        "steps": [row.step for row in rows],
        "channels": [row.channel for row in rows],
        "shops": [row.shop_id for row in rows],
        "numbers": [row.channel_order_no for row in rows],
        "versions": [row.source_version for row in rows],
        "hashes": [row.content_hash for row in rows],
        "states": [row.state.value for row in rows],
        "codes": [row.code for row in rows],
        "flags": [",".join(row.flags) for row in rows],  # Ragged arrays do not travel; codes hold no comma.
        "sent": [row.sent_version for row in rows],
        "currencies": [row.currency for row in rows],
        "paid": [row.paid_minor for row in rows],
        "placed": [row.placed_at for row in rows],
        "received": [row.received_at for row in rows],
        "changed": [row.changed_at for row in rows],
    }


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
