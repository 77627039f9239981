"""Channel orders: root rows (the locks), their sealed documents, and the items that parked ones wait for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from eventing import UnitOfWork
from ingest.domain.arrival import State
from ingest.privacy import Sealed


@dataclass(slots=True)
class OrderRow:
    """A root row and its documents as they stand, or shall stand."""

    order_id: UUID
    first_order_id: UUID
    """Itself, or the order that this one takes up again after a cancel."""
    again: int
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
    part: str = ""
    """The part as it was sent; empty where the block says the same."""
    former_ref: UUID | None = None
    """The receiver_ref that a change replaces now: its sealed receiver must be found again when the order is erased."""
    missing_skus: tuple[str, ...] = ()


_COLUMNS = """
    CAST(:ids AS uuid[]), CAST(:firsts AS uuid[]), CAST(:agains AS smallint[]),
    CAST(:steps AS integer[]), CAST(:channels AS text[]), CAST(:shops AS text[]),
    CAST(:numbers AS text[]), CAST(:versions AS bigint[]), CAST(:hashes AS bytea[]), CAST(:states AS text[]),
    CAST(:codes AS text[]), CAST(:flags AS text[]), CAST(:sent AS bigint[]), CAST(:currencies AS text[]),
    CAST(:paid AS bigint[]), CAST(:placed AS timestamptz[]), CAST(:received AS timestamptz[]), CAST(:changed AS timestamptz[])
"""
_ADD_ORDERS = text(
    f"""
    INSERT INTO channel_order (
        order_id, first_order_id, again, step, channel, shop_id, channel_order_no, source_version, content_hash, state, code,
        flags, sent_version, currency, paid_minor, placed_at, received_at, changed_at
    )
    SELECT id, first, again, step, channel, shop, number, version, hash, state, code, string_to_array(flags, ','), sent,
        currency, paid, placed, received, changed
    FROM unnest({_COLUMNS}) AS row(
        id, first, again, step, channel, shop, number, version, hash, state, code, flags, sent, currency, paid, placed,
        received, changed
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
        id, first, again, step, channel, shop, number, version, hash, state, code, flags, sent, currency, paid, placed,
        received, changed
    )
    WHERE o.order_id = row.id
    """  # noqa: S608  constant text
)
_LOCK_ORDERS = text(
    """
    SELECT order_id, first_order_id, again, step, channel, shop_id, channel_order_no, source_version, content_hash, state, code,
        flags, sent_version, currency, paid_minor, placed_at, received_at, changed_at
    FROM channel_order WHERE order_id = ANY(CAST(:ids AS uuid[])) ORDER BY order_id FOR UPDATE
    """
)
# Whoever makes one more of a family holds its first order's lock, so the ids found are all there are.
_FIND_FAMILIES = text(
    """
    SELECT order_id FROM channel_order
    WHERE first_order_id = ANY(CAST(:ids AS uuid[])) AND order_id <> first_order_id ORDER BY order_id
    """
)
_FIND_FIRSTS = text("SELECT order_id, first_order_id FROM channel_order WHERE order_id = ANY(CAST(:ids AS uuid[]))")
_PUT_DOCUMENTS = text(
    """
    INSERT INTO order_document (order_id, source_version, key_id, wrapped_key, nonce, ciphertext, block, part, former_refs)
    SELECT id, version, key_id, key, nonce, ciphertext, block, part, array_remove(ARRAY[former], NULL)
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:versions AS bigint[]), CAST(:key_ids AS text[]), CAST(:keys AS bytea[]),
        CAST(:nonces AS bytea[]), CAST(:texts AS bytea[]), CAST(:blocks AS text[]), CAST(:parts AS text[]),
        CAST(:formers AS uuid[])
    ) AS row(id, version, key_id, key, nonce, ciphertext, block, part, former)
    ON CONFLICT (order_id) DO UPDATE SET
        source_version = excluded.source_version, key_id = excluded.key_id, wrapped_key = excluded.wrapped_key,
        nonce = excluded.nonce, ciphertext = excluded.ciphertext,
        block = excluded.block, part = excluded.part, former_refs = order_document.former_refs || excluded.former_refs
    """
)
_FIND_DOCUMENTS = text(
    """
    SELECT order_id, key_id, wrapped_key, nonce, ciphertext, block, part FROM order_document
    WHERE order_id = ANY(CAST(:ids AS uuid[]))
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
_COUNT_BACKLOG = text("SELECT count(*) FROM (SELECT 1 FROM outbox LIMIT :most) AS unsent")


async def add_orders(work: UnitOfWork, rows: Sequence[OrderRow]) -> set[UUID]:
    """Insert root rows, sorted; return the ids of those that were not there yet. The others are untouched and not locked."""
    added = await work.connection.execute(_ADD_ORDERS, _order_arrays(sorted(rows, key=_by_id)))
    return set(added.scalars())


async def lock_orders(work: UnitOfWork, order_ids: Collection[UUID]) -> dict[UUID, OrderRow]:
    """Lock root rows, sorted; ids that have none are missing from the answer."""
    rows = await work.connection.execute(_LOCK_ORDERS, {"ids": sorted(order_ids)})
    return {
        row.order_id: OrderRow(
            row.order_id, row.first_order_id, row.again,
            row.step, row.channel, row.shop_id, row.channel_order_no, row.source_version, row.content_hash,
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
    """Write the documents of each row that has them. Roots are locked."""
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
                "parts": [row.part for row, _ in written],
                "formers": [row.former_ref for row, _ in written],
            },
        )


async def read_documents(work: UnitOfWork, rows: Iterable[OrderRow]) -> None:
    """Fill in the documents of these rows."""
    by_id = {row.order_id: row for row in rows}
    for found in await work.connection.execute(_FIND_DOCUMENTS, {"ids": sorted(by_id)}):
        row = by_id[found.order_id]
        row.sealed = Sealed(found.key_id, found.wrapped_key, found.nonce, found.ciphertext)
        row.block, row.part = found.block, found.part


async def find_firsts(work: UnitOfWork, order_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """The first order of each of these orders; ids that are none are missing from the answer."""
    rows = await work.connection.execute(_FIND_FIRSTS, {"ids": sorted(order_ids)})
    return {row.order_id: row.first_order_id for row in rows}


async def lock_families(work: UnitOfWork, first_order_ids: Collection[UUID]) -> dict[UUID, list[OrderRow]]:
    """Lock first orders, then the orders that took them up again, each kind sorted; in the order in which they came about."""
    firsts = await lock_orders(work, first_order_ids)
    families = {order_id: [row] for order_id, row in firsts.items()}
    found = await work.connection.execute(_FIND_FAMILIES, {"ids": sorted(firsts)})
    if later := list(found.scalars()):
        for row in (await lock_orders(work, later)).values():
            families[row.first_order_id].append(row)
    for family in families.values():
        family.sort(key=lambda row: row.again)
    return families


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


async def count_backlog(connection: AsyncConnection, *, most: int) -> int:
    """Unsent outbox rows, counted no further than `most`."""
    count: int = (await connection.execute(_COUNT_BACKLOG, {"most": most})).scalar_one()
    return count


def _by_id(row: OrderRow) -> int:
    return row.order_id.int  # Compares ten times faster than UUID does.


def _order_arrays(rows: Sequence[OrderRow]) -> dict[str, list[Any]]:
    return {
        "ids": [row.order_id for row in rows],
        "firsts": [row.first_order_id for row in rows],
        "agains": [row.again for row in rows],
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
