"""Facts that others own and this service keeps a copy of: sealed receivers, places."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from contracts import CatalogLocation, ReceiverSealed
from eventing import Received, UnitOfWork
from fulfillment import store

_PLACE_FIELDS = {"place_id", "place_no", "name", "kind", "region_code", "version", "deleted"}


async def on_receiver_sealed(received: Sequence[Received[ReceiverSealed]], work: UnitOfWork) -> None:
    """Keep the highest version of each sealed receiver, and wake the orders that wait for it."""
    newest: dict[UUID, ReceiverSealed] = {}
    for event in (item.event for item in received):
        known = newest.get(event.receiver_ref)
        if known is None or known.version < event.version:
            newest[event.receiver_ref] = event
    await store.put_receivers(work.connection, [_sealed_of(event) for event in newest.values()])
    await work.arrived("receiver", [str(ref) for ref in newest])


async def on_catalog_locations(items: Sequence[CatalogLocation], work: UnitOfWork) -> None:
    """Keep the highest version of each place."""
    newest: dict[str, CatalogLocation] = {}
    for item in items:
        known = newest.get(item.place_id)
        if known is None or known.version < item.version:
            newest[item.place_id] = item
    await store.put_places(work.connection, [item.model_dump(include=_PLACE_FIELDS) for item in newest.values()])


def _sealed_of(event: ReceiverSealed) -> store.SealedReceiver:
    kept = not event.deleted  # An erased receiver loses its bytes; the row says that it was there.
    return store.SealedReceiver(
        receiver_ref=event.receiver_ref,
        version=event.version,
        key_id=event.key_id if kept else None,
        wrapped_key=event.wrapped_key if kept else None,
        nonce=event.nonce if kept else None,
        ciphertext=event.ciphertext if kept else None,
        deleted=event.deleted,
    )
