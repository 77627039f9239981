"""Signatures between fulfillment and a WMS."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fulfillment.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, is_signed, sign, signed_headers

SECRET = b"demo-secret-0123"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_signature_is_the_documents_own() -> None:
    """Fails if what is signed differs from docs/wms-http.md."""
    expected = "a397880a5c1fd82baa74f1ebe30e0deb540bc3e42a0073364adb39761ecb47b9"
    assert sign(SECRET, timestamp="1767225600", method="POST", path="/api/orders", body=b"{}") == expected


def test_only_the_same_request_within_five_minutes_is_signed() -> None:
    """Fails if a header of another form crashed, or another body, path, method or time were let in."""
    request = {"method": "POST", "path": "/p", "body": b"{}"}
    headers = signed_headers(SECRET, now=NOW, method="POST", path="/p", body=b"{}")
    assert is_signed(SECRET, headers, now=NOW + timedelta(seconds=300), **request)
    assert not is_signed(SECRET, headers, now=NOW + timedelta(seconds=301), **request)
    assert not is_signed(SECRET, headers, now=NOW - timedelta(seconds=301), **request)
    for change in ({"method": "PUT"}, {"path": "/q"}, {"body": b"[]"}):
        assert not is_signed(SECRET, headers, now=NOW, **request | change)
    for broken in (
        {},
        {TIMESTAMP_HEADER: "早"},
        {TIMESTAMP_HEADER: "9" * 400},
        {SIGNATURE_HEADER: "签"},
        {TIMESTAMP_HEADER: "²"},
    ):
        assert not is_signed(SECRET, (headers if broken else {}) | broken, now=NOW, **request)
