"""Sealing of bytes that may hold personal data: whatever is parked or quarantined."""

from __future__ import annotations

import os
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
KEY_BYTES = 32


class Sealer(Protocol):
    def seal(self, clear: bytes) -> bytes: ...

    def open(self, sealed: bytes) -> bytes: ...


class AesGcmSealer:
    """AES-256-GCM under one key; the key's id stands before the nonce, so that keys can be changed.

    **Units**: keys of 32 bytes. `older` opens what was sealed before the last change of key.
    """

    def __init__(self, key: bytes, *, key_id: str = "1", older: dict[str, bytes] | None = None) -> None:
        keys = {key_id: key} | (older or {})
        for name, value in keys.items():
            if len(value) != KEY_BYTES:
                raise ValueError(f"sealing key {name!r} has {len(value)} bytes, not {KEY_BYTES}")
        self._ciphers = {name: AESGCM(value) for name, value in keys.items()}
        self._key_id = key_id

    def seal(self, clear: bytes) -> bytes:
        name = self._key_id.encode()
        nonce = os.urandom(NONCE_BYTES)
        return bytes([len(name)]) + name + nonce + self._ciphers[self._key_id].encrypt(nonce, clear, name)

    def open(self, sealed: bytes) -> bytes:
        length = sealed[0]
        name = sealed[1 : 1 + length]
        start = 1 + length
        cipher = self._ciphers[name.decode()]
        return cipher.decrypt(sealed[start : start + NONCE_BYTES], sealed[start + NONCE_BYTES :], name)
