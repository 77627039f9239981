"""Signatures of the protocol, written anew from its document, as any WMS would."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping

SKEW_SECONDS = 300


def sign(secret: bytes, *, timestamp: str, path: str, body: bytes) -> str:
    text = f"{timestamp}\nPOST\n{path}\n{hashlib.sha256(body).hexdigest()}"
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def signed_headers(secret: bytes, *, path: str, body: bytes) -> dict[str, str]:
    timestamp = str(int(time.time()))
    signature = sign(secret, timestamp=timestamp, path=path, body=body)
    return {"Content-Type": "application/json", "X-OMS-Timestamp": timestamp, "X-OMS-Signature": signature}


def is_signed(secret: bytes, headers: Mapping[str, str], *, path: str, body: bytes) -> bool:
    timestamp, given = headers.get("X-OMS-Timestamp", ""), headers.get("X-OMS-Signature", "")
    if not (timestamp.isascii() and timestamp.isdecimal() and given.isascii()):
        return False
    fresh = abs(time.time() - int(timestamp[:12])) <= SKEW_SECONDS
    return fresh and hmac.compare_digest(sign(secret, timestamp=timestamp, path=path, body=body), given)
