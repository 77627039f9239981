"""What erasure destroys, and what it notes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from eventing import UnitOfWork
from ingest.privacy import Sealed

_FIND = text("SELECT erased_at, receiver_refs FROM erasure WHERE order_id = :id")
_FIND_REFS = text(
    """
    SELECT DISTINCT ref FROM (
        SELECT unnest(former_refs) AS ref FROM order_document WHERE order_id = ANY(CAST(:ids AS uuid[]))
        UNION ALL
        SELECT (CAST(block AS json) ->> 'receiver_ref')::uuid FROM order_document
        WHERE order_id = ANY(CAST(:ids AS uuid[])) AND block <> ''
    ) AS found
    WHERE ref IS NOT NULL
    """
)
_PUT_DOCUMENTS = text(
    """
    UPDATE order_document d SET key_id = told.key_id, wrapped_key = told.key, nonce = told.nonce,
        ciphertext = told.ciphertext, block = told.block
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:key_ids AS text[]), CAST(:keys AS bytea[]), CAST(:nonces AS bytea[]),
        CAST(:texts AS bytea[]), CAST(:blocks AS text[])
    ) AS told(id, key_id, key, nonce, ciphertext, block)
    WHERE d.order_id = told.id
    """
)
_BLANK_NOTES = text(
    "UPDATE request SET note = '', former = '' WHERE order_id = ANY(CAST(:ids AS uuid[])) AND (note <> '' OR former <> '')"
)
# Acts on an order are noted under its id; their own reasons are free text, as the notes are.
_BLANK_REASONS = text(
    """
    UPDATE manual_act SET why = ''
    WHERE subject = ANY(CAST(:subjects AS text[])) AND act IN ('cancel_order', 'change_order', 'withdraw_cancellation')
    """
)
_PUT = text(
    """
    INSERT INTO erasure (order_id, erased_at, receiver_refs) VALUES (:id, :at, CAST(:refs AS uuid[]))
    ON CONFLICT (order_id) DO UPDATE SET erased_at = excluded.erased_at, receiver_refs = excluded.receiver_refs
    """
)


@dataclass(frozen=True, slots=True)
class Noted:
    """An erasure that was done."""

    erased_at: datetime
    receiver_refs: frozenset[UUID]


@dataclass(frozen=True, slots=True)
class Erased:
    """The documents of an order without the person in them."""

    order_id: UUID
    sealed: Sealed
    block: str


async def find_erasure(work: UnitOfWork, order_id: UUID) -> Noted | None:
    row = (await work.connection.execute(_FIND, {"id": order_id})).one_or_none()
    return None if row is None else Noted(row.erased_at, frozenset(row.receiver_refs))


async def find_receiver_refs(work: UnitOfWork, order_ids: Collection[UUID]) -> set[UUID]:
    """Every receiver that these orders ever named."""
    return set((await work.connection.execute(_FIND_REFS, {"ids": list(order_ids)})).scalars())


async def put_documents(work: UnitOfWork, documents: Sequence[Erased]) -> None:
    """Overwrite documents. Roots are locked."""
    if documents:
        await work.connection.execute(
            _PUT_DOCUMENTS,
            {
                "ids": [document.order_id for document in documents],
                "key_ids": [document.sealed.key_id for document in documents],
                "keys": [document.sealed.wrapped_key for document in documents],
                "nonces": [document.sealed.nonce for document in documents],
                "texts": [document.sealed.ciphertext for document in documents],
                "blocks": [document.block for document in documents],
            },
        )


async def blank_notes(work: UnitOfWork, order_ids: Collection[UUID]) -> None:
    """Empty what people wrote beside the requests of these orders, and when they made them, and where their goods were to go.
    Who and when stays."""
    await work.connection.execute(_BLANK_NOTES, {"ids": list(order_ids)})
    await work.connection.execute(_BLANK_REASONS, {"subjects": [str(order_id) for order_id in order_ids]})


async def put_erasure(work: UnitOfWork, order_id: UUID, receiver_refs: Collection[UUID]) -> None:
    """Note that an order was erased, and the receivers that got a tombstone."""
    await work.connection.execute(_PUT, {"id": order_id, "at": work.now, "refs": sorted(receiver_refs)})
