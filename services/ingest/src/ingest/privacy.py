"""The one place that sees receivers in clear: what may leave ingest of them, and how the rest is sealed.

Clear text comes in as a contract's `Receiver`; out go a `Destination` without a person in it, tokens, and sealed bytes.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files

import phonenumbers
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

from contracts import Buyer, Destination, NoteFlags, Notes, Receiver
from ingest.domain.address import (
    MASK,
    NOWHERE,
    Regions,
    grade,
    has_extension,
    is_mobile,
    keywords_in,
    mask_name,
    mask_phone,
    plain,
    plain_phone,
)

KEY_BYTES = 32
NONCE_BYTES = 12
TOKEN_BYTES = 16
HOME = "CN"

_KINDS = {
    phonenumbers.PhoneNumberType.MOBILE: "mobile",
    phonenumbers.PhoneNumberType.FIXED_LINE: "landline",
    phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE: "landline",
    phonenumbers.PhoneNumberType.TOLL_FREE: "landline",
    phonenumbers.PhoneNumberType.SHARED_COST: "landline",
    phonenumbers.PhoneNumberType.UAN: "landline",
    phonenumbers.PhoneNumberType.VOIP: "virtual",
    phonenumbers.PhoneNumberType.PERSONAL_NUMBER: "virtual",
}


@dataclass(frozen=True, slots=True)
class Sealed:
    """Bytes under a data key of their own. Destroying `wrapped_key` erases them."""

    key_id: str
    wrapped_key: bytes
    nonce: bytes
    ciphertext: bytes


class Envelope:
    """Envelope encryption: AES-256-GCM under a fresh data key, which travels wrapped (RFC 3394) by the key-encryption key."""

    def __init__(self, kek: bytes, key_id: str, older: Mapping[str, bytes] | None = None) -> None:
        """**Units**: keys of 32 bytes. `older` opens what was sealed before the last change of key."""
        self._keks = {**(older or {}), key_id: kek}
        for name, key in self._keks.items():
            if len(key) != KEY_BYTES:
                raise ValueError(f"key-encryption key {name!r} has {len(key)} bytes, not {KEY_BYTES}")
        self._key_id = key_id

    def seal(self, clear: bytes, bound_to: str) -> Sealed:
        """Seal bytes so that they open only together with the id they belong to."""
        key = os.urandom(KEY_BYTES)
        nonce = os.urandom(NONCE_BYTES)
        return Sealed(
            self._key_id,
            aes_key_wrap(self._keks[self._key_id], key),
            nonce,
            AESGCM(key).encrypt(nonce, clear, bound_to.encode()),
        )

    def open(self, sealed: Sealed, bound_to: str) -> bytes:
        key = aes_key_unwrap(self._keks[sealed.key_id], sealed.wrapped_key)
        return AESGCM(key).decrypt(sealed.nonce, sealed.ciphertext, bound_to.encode())


class Tokens:
    """Keyed hashes of normalised values: equal inputs give equal tokens, nobody without the key can try numbers out."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"the token key has {len(key)} bytes, not {KEY_BYTES}")
        self._key = key

    def content_hash(self, canonical: bytes) -> bytes:
        """Of a whole channel order: tells two versions apart without telling what is in them."""
        return blake2b(canonical, digest_size=TOKEN_BYTES, key=self._key, person=b"content").digest()

    def phone(self, phone: str) -> str:
        digits = plain_phone(phone)
        return "" if not digits or MASK in digits else self._token(b"phone", digits)

    def address(self, region_code: str, street: str) -> str:
        street = plain(street)
        return "" if not street or MASK in street else self._token(b"address", region_code, street)

    def receiver(self, receiver: Receiver, region_code: str) -> str:
        """Who and where together; the channel's own handle where the text is masked."""
        if receiver.handle:
            return self._token(b"handle", receiver.handle)
        parts = (plain(receiver.name), plain_phone(receiver.phone), region_code, plain(receiver.town + receiver.street))
        if not parts[0] or not parts[3] or any(MASK in part for part in parts):
            return ""
        return self._token(b"receiver", *parts)

    def buyer(self, channel: str, buyer: Buyer) -> str:
        who = buyer.buyer_id or buyer.nick
        return self._token(b"buyer", channel, who) if who and MASK not in who else ""

    def _token(self, kind: bytes, *parts: str) -> str:
        value = "\x1f".join(parts).encode()
        return blake2b(value, digest_size=TOKEN_BYTES, key=self._key, person=kind).hexdigest()


@cache
def regions() -> Regions:
    """China's regions, read once per process (30 ms)."""
    with files("ingest.regions").joinpath("regions.csv").open(encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return Regions((row["code"], row["name"], float(row["latitude"]), float(row["longitude"])) for row in rows)


def phone_kind(phone: str, country: str) -> str:
    """mobile | landline | virtual | foreign | masked | missing | invalid"""
    digits = plain_phone(phone)
    if not digits:
        return "missing" if not phone.strip() else "invalid"
    if MASK in digits:
        return "masked"
    if is_mobile(digits):  # Nineteen of twenty; the library below takes 40 µs.
        return "virtual" if has_extension(phone) else "mobile"
    return _other_kind(digits, country)


def _other_kind(digits: str, country: str) -> str:
    try:
        number = phonenumbers.parse(digits, country)
    except phonenumbers.NumberParseException:
        return "invalid"
    if not phonenumbers.is_valid_number(number):
        return "invalid"
    if phonenumbers.region_code_for_number(number) != HOME:
        return "foreign"
    return _KINDS.get(phonenumbers.number_type(number), "invalid")


def destination_of(receiver: Receiver | None, tokens: Tokens) -> Destination:
    """Where to, and how good the address and the phone are. Without a receiver: an unusable address, for people to mend."""
    if receiver is None:
        return Destination.model_construct(
            region_code=NOWHERE.code, province="", city="", district="", country=HOME, latitude=None, longitude=None,
            address_grade="unusable", phone_kind="missing", receiver_token="", phone_token="", address_token="",
            name_mask="", phone_mask="",
        )  # fmt: skip
    domestic = receiver.country == HOME
    region = regions().find(receiver.region_code, receiver.province, receiver.city, receiver.district) if domestic else NOWHERE
    street = receiver.town + receiver.street
    return Destination.model_construct(
        region_code=region.code,
        province=region.province,
        city=region.city,
        district=region.district,
        country=receiver.country,
        latitude=region.latitude,
        longitude=region.longitude,
        address_grade=grade(region, receiver.street, handle=bool(receiver.handle), domestic=domestic),
        phone_kind=phone_kind(receiver.phone, receiver.country),
        receiver_token=tokens.receiver(receiver, region.code),
        phone_token=tokens.phone(receiver.phone),
        address_token=tokens.address(region.code, street),
        name_mask=mask_name(receiver.name),
        phone_mask=mask_phone(receiver.phone),
    )


def note_flags_of(notes: Notes, keywords: Mapping[str, str]) -> NoteFlags:
    """That there are notes and what they ask for, never their words."""
    return NoteFlags.model_construct(
        has_buyer_note=bool(notes.buyer_note.strip()),
        has_seller_note=bool(notes.seller_note.strip()),
        seller_flag=notes.seller_flag,
        keywords=keywords_in((notes.buyer_note, notes.seller_note), keywords),
    )
