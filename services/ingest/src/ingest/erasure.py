"""Erasure: what names a person goes, for good; what the trade needs stays.

The data key of the sealed original is destroyed and a version without the person sealed in its place, under a key of its own:
a later version of the order can still be told from it. Every receiver that was sent gets a tombstone, on which fulfillment
destroys its copy. Bytes of parked and quarantined records are sealed whole and go with their retention.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from contracts import Buyer, ChannelOrder, Invoice, Notes, ReceiverSealed
from contracts.envelope import Contract
from eventing import UnitOfWork
from ingest import store
from ingest.privacy import Envelope
from ingest.store.erasure import Erased
from ingest.store.orders import OrderRow

C = TypeVar("C", bound=Contract)
PERSONAL = ("receiver_token", "phone_token", "address_token", "name_mask", "phone_mask")
"""Of a block's destination. Region, grade and kind of phone name nobody."""
SENT_VERSION = 1
"""Of a sealed receiver: it never changes, so its tombstone is the second."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was erased of an order, now and before."""

    erased_at: datetime
    receiver_refs: frozenset[UUID]
    is_new: bool
    """Something was left to destroy."""


async def erase(order_id: UUID, rows: Sequence[OrderRow], envelope: Envelope, work: UnitOfWork) -> Erasure:
    """Destroy what these rows, a channel order and what took it up again, hold of a person. Their roots are locked.

    Doing it again finds nothing, unless a newer version of the order has brought the person back.
    """
    before = await store.erasure.find_erasure(work, order_id)
    sent = await store.erasure.find_receiver_refs(work, [row.order_id for row in rows])
    await store.orders.read_documents(work, rows)
    documents = [erased for row in rows if (erased := _without_person(row, envelope)) is not None]
    known = before.receiver_refs if before is not None else frozenset()
    refs = known | sent
    if before is not None and not documents and refs == known:
        return Erasure(before.erased_at, known, is_new=False)
    await store.erasure.put_documents(work, documents)
    await store.erasure.blank_notes(work, [row.order_id for row in rows])
    await store.erasure.put_erasure(work, order_id, refs)
    work.emit(_tombstone(ref, rows) for ref in sorted(sent - known))
    return Erasure(work.now, refs, is_new=True)


def _tombstone(receiver_ref: UUID, rows: Sequence[OrderRow]) -> ReceiverSealed:
    (key_id, *_) = [row.sealed.key_id for row in rows if row.sealed is not None]
    # Constructed: validation would take the bytes for base64 and decode them.
    return ReceiverSealed.model_construct(
        version=SENT_VERSION + 1,
        deleted=True,
        receiver_ref=receiver_ref,
        key_id=key_id,
        wrapped_key=b"",
        nonce=b"",
        ciphertext=b"",
    )


def _without_person(row: OrderRow, envelope: Envelope) -> Erased | None:
    """The documents of a row without the person; None where nobody is in them."""
    if row.sealed is None:
        return None
    block = block_without_person(row.block)
    if row.again:  # The channel's version is kept with the first order.
        return None if block == row.block else Erased(row.order_id, row.sealed, block)
    clear = envelope.open(row.sealed, str(row.order_id))
    order = without_person(ChannelOrder.model_validate_json(clear)).model_dump_json().encode()
    if order == clear and block == row.block:
        return None
    return Erased(row.order_id, envelope.seal(order, str(row.order_id)), block)


def without_person(order: ChannelOrder) -> ChannelOrder:
    """The order without receiver, buyer, notes, invoice address, payment references, and fields that no model declares."""
    kept = _declared(order)
    return kept.model_copy(
        update={
            "receiver": None,
            "buyer": Buyer(),
            "notes": Notes(seller_flag=order.notes.seller_flag),
            "invoice": Invoice(kind=order.invoice.kind),
            "payments": [payment.model_copy(update={"reference": None}) for payment in kept.payments],
        }
    )


def block_without_person(block: str) -> str:
    """The order block with its masks and tokens empty: who has the token key cannot find the person, either."""
    if not block:
        return block
    told: dict[str, Any] = json.loads(block)
    blanked = [told, told["destination"]] if told.get("destination") else [told]
    changed = False
    for part in blanked:
        for name in (*PERSONAL, "buyer_token"):
            if part.get(name):
                part[name] = ""
                changed = True
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")) if changed else block


def _declared(model: C) -> C:
    """A copy without the fields that no model declares."""
    values = {name: _declared_value(getattr(model, name)) for name in model.model_fields_set & type(model).model_fields.keys()}
    return type(model).model_validate(values)


def _declared_value(value: Any) -> Any:
    if isinstance(value, Contract):
        return _declared(value)
    if isinstance(value, list):
        return [_declared_value(item) for item in value]
    return value
