"""Opening a sealed receiver and setting its label, without I/O."""

from __future__ import annotations

import os
from dataclasses import replace
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from contracts import Receiver
from fulfillment.label import LabelError, Parcel, address_of, open_receiver, render
from fulfillment.store import SealedReceiver

REF = UUID(int=5)
KEKS = {"1": bytes(32), "2": bytes(range(32))}
RECEIVER = Receiver(
    name="王小明", phone="13900139000", province="上海市", city="上海市", district="静安区", street="南京西路1号"
)


def sealed(*, key_id: str = "2", ref: UUID = REF) -> SealedReceiver:
    data_key, nonce = os.urandom(32), os.urandom(12)
    return SealedReceiver(
        receiver_ref=ref,
        version=1,
        key_id=key_id,
        wrapped_key=aes_key_wrap(KEKS[key_id], data_key),
        nonce=nonce,
        ciphertext=AESGCM(data_key).encrypt(nonce, RECEIVER.model_dump_json().encode(), str(ref).encode()),
        deleted=False,
    )


def test_a_sealed_receiver_opens_with_the_key_it_names() -> None:
    """Fails if an older key were not tried by its name."""
    assert open_receiver(sealed(key_id="1"), KEKS) == open_receiver(sealed(key_id="2"), KEKS) == RECEIVER


def test_bytes_of_another_receiver_do_not_open() -> None:
    """Fails if the sealed bytes were not bound to their reference: labels could be swapped in the database."""
    with pytest.raises(LabelError) as refused:
        open_receiver(replace(sealed(), receiver_ref=UUID(int=6)), KEKS)
    assert refused.value.code == "receiver_unreadable"
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("field", ["wrapped_key", "ciphertext"])
def test_changed_bytes_do_not_open(field: str) -> None:
    """Fails if damaged bytes gave a label or an unplanned error."""
    one = sealed()
    changed = bytes([getattr(one, field)[0] ^ 1]) + getattr(one, field)[1:]
    with pytest.raises(LabelError, match="receiver_unreadable"):
        open_receiver(replace(one, **{field: changed}), KEKS)


def test_an_erased_receiver_is_said_to_be_erased() -> None:
    """Fails if erasing looked like a fault."""
    one = replace(sealed(), key_id=None, wrapped_key=None, nonce=None, ciphertext=None, deleted=True)
    with pytest.raises(LabelError, match="receiver_erased"):
        open_receiver(one, KEKS)


def test_a_municipality_is_named_once() -> None:
    """Fails if 上海市 上海市 were printed."""
    assert address_of(RECEIVER) == "上海市 静安区 南京西路1号"


def test_the_label_says_who_where_and_what() -> None:
    """Fails if a part of the label went missing."""
    parcel = Parcel(carrier="sf", waybill_no="SF000000000001", sender="杭州一号仓", goods=(("连衣裙", 2),))
    text = render(RECEIVER, parcel)
    assert all(part in text for part in ("SF000000000001", "王小明", "13900139000", "南京西路1号", "杭州一号仓", "连衣裙 × 2"))
