"""The only place that sees receivers in clear: opens a sealed one and sets a parcel's label. Keeps and logs nothing of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from contracts import Receiver
from fulfillment.store import SealedReceiver


class LabelError(Exception):
    """A receiver cannot be shown; `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What the label says besides the receiver."""

    carrier: str | None
    waybill_no: str | None
    sender: str
    goods: tuple[tuple[str, int], ...]
    """(title or SKU, quantity)"""


def open_receiver(sealed: SealedReceiver, keks: Mapping[str, bytes]) -> Receiver:
    """Open a sealed receiver. **Errors**: LabelError: receiver_erased, receiver_key_unknown, receiver_unreadable."""
    if sealed.deleted or sealed.key_id is None or not (sealed.wrapped_key and sealed.nonce and sealed.ciphertext):
        raise LabelError("receiver_erased")
    kek = keks.get(sealed.key_id)
    if kek is None:
        raise LabelError("receiver_key_unknown")
    try:
        data_key = aes_key_unwrap(kek, sealed.wrapped_key)
        clear = AESGCM(data_key).decrypt(sealed.nonce, sealed.ciphertext, str(sealed.receiver_ref).encode())
        return Receiver.model_validate_json(clear)
    except (InvalidUnwrap, InvalidTag, ValueError):
        raise LabelError("receiver_unreadable") from None  # The cause may hold clear text.


def address_of(receiver: Receiver) -> str:
    """The address in one line, largest unit first; a municipality is not said twice."""
    units = (receiver.province, receiver.city, receiver.district, receiver.town, receiver.street)
    return " ".join(dict.fromkeys(unit for unit in units if unit))


def render(receiver: Receiver, parcel: Parcel) -> str:
    """The label as lines of text, ready for a printer's template."""
    lines = [
        f"运单号 {parcel.waybill_no or '—'}  承运商 {parcel.carrier or '—'}",
        f"收件 {receiver.name}  {receiver.phone}",
        f"     {address_of(receiver)}" + (f"  {receiver.postal_code}" if receiver.postal_code else ""),
        f"寄件 {parcel.sender}",
        *(f"  {title} × {quantity}" for title, quantity in parcel.goods),
    ]
    return "\n".join(lines)
