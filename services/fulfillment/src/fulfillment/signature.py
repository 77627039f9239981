"""Signatures between this service and a WMS, both ways: HMAC-SHA256 over time, method, path and body."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime

TIMESTAMP_HEADER = "X-OMS-Timestamp"
SIGNATURE_HEADER = "X-OMS-Signature"
SKEW_SECONDS = 300
"""Clocks without NTP drift by seconds a day; five minutes is what payment services allow, too."""


def sign(secret: bytes, *, timestamp: str, method: str, path: str, body: bytes) -> str:
    """The signature in lower-case hex. `path` has no query."""
    text = f"{timestamp}\n{method}\n{path}\n{hashlib.sha256(body).hexdigest()}"
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def signed_headers(secret: bytes, *, now: datetime, method: str, path: str, body: bytes) -> dict[str, str]:
    timestamp = str(int(now.timestamp()))
    signature = sign(secret, timestamp=timestamp, method=method, path=path, body=body)
    return {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: signature}


def is_signed(secret: bytes, headers: Mapping[str, str], *, now: datetime, method: str, path: str, body: bytes) -> bool:
    """Whether the request was signed with the secret within the last minutes."""
    timestamp, signature = headers.get(TIMESTAMP_HEADER, ""), headers.get(SIGNATURE_HEADER, "")
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12 and signature.isascii()):
        return False
    if abs(now.timestamp() - int(timestamp)) > SKEW_SECONDS:
        return False
    return hmac.compare_digest(sign(secret, timestamp=timestamp, method=method, path=path, body=body), signature)
