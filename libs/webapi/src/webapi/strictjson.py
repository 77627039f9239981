"""Parses JSON the way only one reader can understand it: no key twice, no NaN, no NUL, valid UTF-8, bounded depth."""

import math
import re

import jiter

from webapi.problems import Problem

_POSITION = re.compile(r"line \d+ column \d+")
# A number that may be too large for a float; inside a text (a UUID, say) a quote or a letter follows, never one of these.
_HUGE_EXPONENT = re.compile(rb"[eE]\+?[0-9]{3,}(?:[\s,\]}]|\Z)")
_ALL_DIGITS = bytes.maketrans(b"123456789", b"000000000")


def parse_json(body: bytes) -> object:
    """The value of a JSON text; a `Problem` (400) says what is wrong and where, never what stood there."""
    try:
        value: object = jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys")
    except ValueError as error:  # Nesting beyond 200 levels is one, too.
        message = str(error)
        where = _POSITION.search(message)
        code = "duplicate_json_key" if message.startswith("Detected duplicate key") else "malformed_json"
        raise Problem(code, status=400, params={"position": f" ({where[0]})" if where else ""}) from None
    # The parser lets two things through: an escaped NUL, and 1e999, which becomes infinity. Looking at the bytes first
    # costs a tenth of the parsing; the value is walked only where the bytes say that there is something to find.
    if b"\\u0000" in body and _contains(value, "\x00"):
        raise Problem("nul_character", status=400)
    if (_HUGE_EXPONENT.search(body) or b"0" * 300 in body.translate(_ALL_DIGITS)) and _contains(value, math.inf):
        raise Problem("malformed_json", status=400, params={"position": ""})
    return value


def _contains(value: object, wanted: str | float) -> bool:
    if isinstance(value, dict):
        return any(_contains(key, wanted) or _contains(item, wanted) for key, item in value.items())
    if isinstance(value, list):
        return any(_contains(item, wanted) for item in value)
    if isinstance(wanted, str):
        return isinstance(value, str) and wanted in value
    return isinstance(value, float) and abs(value) == wanted
