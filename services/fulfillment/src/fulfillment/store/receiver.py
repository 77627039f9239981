"""Sealed receivers, as they arrive. Nothing here can open one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from fulfillment.tables import receiver

_FIND_RECEIVERS = text("SELECT receiver_ref FROM receiver WHERE receiver_ref = ANY(CAST(:refs AS uuid[]))")
_PUT_RECEIVERS = text("""
    INSERT INTO receiver (receiver_ref, version, key_id, wrapped_key, nonce, ciphertext, deleted)
    SELECT * FROM unnest(CAST(:refs AS uuid[]), CAST(:versions AS bigint[]), CAST(:key_ids AS text[]),
        CAST(:wrapped_keys AS bytea[]), CAST(:nonces AS bytea[]), CAST(:ciphertexts AS bytea[]), CAST(:deleted AS bool[]))
    ON CONFLICT (receiver_ref) DO UPDATE SET version = excluded.version, key_id = excluded.key_id,
        wrapped_key = excluded.wrapped_key, nonce = excluded.nonce, ciphertext = excluded.ciphertext,
        deleted = excluded.deleted
    WHERE receiver.version < excluded.version
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedReceiver:
    receiver_ref: UUID
    version: int
    key_id: str | None
    wrapped_key: bytes | None
    nonce: bytes | None
    ciphertext: bytes | None
    deleted: bool


async def find_receivers(connection: AsyncConnection, refs: Iterable[UUID]) -> set[UUID]:
    """Those that are here, erased ones among them: nothing more will come for them."""
    return set(await connection.scalars(_FIND_RECEIVERS, {"refs": list(refs)}))


async def find_receiver(connection: AsyncConnection, receiver_ref: UUID) -> SealedReceiver | None:
    found = await connection.execute(select(receiver).where(receiver.c.receiver_ref == receiver_ref))
    row = found.one_or_none()
    return None if row is None else SealedReceiver(**row._asdict())


async def put_receivers(connection: AsyncConnection, receivers: Sequence[SealedReceiver]) -> None:
    """Keep the highest version of each. **Shapes**: one entry per receiver_ref."""
    rows = sorted(receivers, key=lambda one: one.receiver_ref)
    await connection.execute(
        _PUT_RECEIVERS,
        {
            "refs": [one.receiver_ref for one in rows],
            "versions": [one.version for one in rows],
            "key_ids": [one.key_id for one in rows],
            "wrapped_keys": [one.wrapped_key for one in rows],
            "nonces": [one.nonce for one in rows],
            "ciphertexts": [one.ciphertext for one in rows],
            "deleted": [one.deleted for one in rows],
        },
    )
