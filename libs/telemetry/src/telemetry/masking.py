"""Keeps personal data and secrets out of logs, check details and error texts.

Two nets: fields whose name says what they hold are masked whole; in any other text whatever looks like a phone number, an
identity card, an e-mail address or a secret is masked. Names and streets have no shape to look for, so the texts by which
libraries quote their input (SQL parameters, rows, pydantic inputs) are cut out too.
"""

import re
from collections.abc import Mapping

MASK = "***"

_PERSONAL = {
    "name", "full_name", "nick", "nickname", "phone", "phones", "mobile", "telephone", "tel", "receiver", "consignee",
    "address", "street", "town", "house", "note", "notes", "remark", "memo", "email", "id_card", "id_number",
    "姓名", "收货人", "收件人", "电话", "手机", "手机号", "地址", "街道", "备注", "留言", "身份证",
}  # fmt: skip
_PERSONAL_SUFFIXES = (
    "_phone", "_mobile", "_telephone", "_tel", "_address", "_street", "_note", "_remark", "_memo", "_email",
    "_nick", "_nickname",
)  # fmt: skip
_PEOPLE = ("receiver", "buyer", "seller", "consignee", "contact", "customer", "sender", "recipient", "payer", "person")
_SECRET = {
    "password", "passwd", "secret", "api_key", "apikey", "x_api_key", "authorization", "cookie", "set_cookie", "dsn",
    "seal_key", "private_key", "token", "access_token", "refresh_token",
}  # fmt: skip
_SECRET_SUFFIXES = ("_password", "_secret", "_token", "_api_key", "_seal_key", "_private_key")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

# One pass, first alternative wins: identifiers come first, so that digits inside a UUID or a hash are not taken for a phone.
_SHAPES = re.compile(
    r"""
      (?P<keep>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}
              |(?<![0-9a-zA-Z])(?=[0-9a-f]*[a-f])[0-9a-f]{16,128}(?![0-9a-zA-Z])
              |\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?)
    | (?P<login>://[^\s/:@'"]*:)[^\s'"@]*(?=@)
    | (?P<bearer>\b[Bb]earer\s+)[^\s'",;]+
    | (?P<secret>\b(?:x-api-key|api[_-]?key|password|passwd|secret|token|authorization)["']?\s*[:=]\s*
        ["']?(?:bearer\s+|basic\s+)?)[^\s"',;&)}]+
    | (?P<quoted>\[parameters:|input_value=|\b(?-i:DETAIL:)|Failing\ row\ contains)[^\n]*
    | (?<![\d.])[1-9]\d{5}(?:18|19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?!\d)
    | (?<![\d.])(?:(?:\+|00)?86[\s-]?)?1[3-9]\d[\s-]?\d{4}[\s-]?\d{4}(?!\d)
    | (?<![\d.])(?:(?:\+|00)86[\s-]?)?\(?0\d{2,3}\)?[\s-]?\d{7,8}(?!\d)
    | (?<![\d.])\+86[\s-]?\(?\d{2,3}\)?[\s-]?\d{7,8}(?!\d)
    | [A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}
    """,
    re.VERBOSE | re.IGNORECASE,
)


def mask_text(text: str) -> str:
    """The same text without what looks like personal data or a secret."""
    return _SHAPES.sub(_replace, text)


def mask_fields(fields: Mapping[str, object]) -> dict[str, object]:
    """The same fields, all the way down, with known names masked whole and every text masked by shape."""
    return {_key(key): MASK if _is_masked(key) and value is not None else _masked(value) for key, value in fields.items()}


def _key(key: object) -> str:
    return mask_text(str(key))  # A mapping keyed by input may carry a phone number as its key.


def _masked(value: object) -> object:
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, Mapping):
        return mask_fields(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return mask_text(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))


def _is_masked(key: object) -> bool:
    name = _CAMEL.sub("_", str(key)).replace("-", "_").lower()
    if name in _PERSONAL or name in _SECRET or name.endswith(_PERSONAL_SUFFIXES) or name.endswith(_SECRET_SUFFIXES):
        return True
    return name.endswith("_name") and name.startswith(_PEOPLE)


def _replace(match: re.Match[str]) -> str:
    if match["keep"]:
        return match["keep"]
    return (match["login"] or match["bearer"] or match["secret"] or match["quoted"] or "") + MASK
