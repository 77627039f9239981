"""One table of texts: each stable code in English and Chinese. Services add their own codes at import.

A text is one or more sentences: the first is the title and never changes from case to case; the rest, which may name
`{params}`, says what is wrong here and the way out.
"""

import inspect
import re
import warnings
from collections.abc import Mapping
from typing import Literal

Language = Literal["en", "zh"]
_PARAM = re.compile(r"\{(\w+)\}")
_FIRST_SENTENCE = {"en": re.compile(r"(.+?)\.(?:\s+|$)(.*)", re.DOTALL), "zh": re.compile(r"(.+?)。(.*)", re.DOTALL)}
_COMMON = "webapi"
# Code → package → text. A process is one service, but a test run may import all six, and each may say "no such order" its way.
_TEXTS: dict[str, dict[str, tuple[str, str]]] = {}


class MissingTextWarning(UserWarning):
    """A code has no text. An error in tests; in production the code itself is shown."""


def register_texts(texts: Mapping[str, tuple[str, str]]) -> None:
    """Add texts of the calling package, English first.

    **Errors**: ValueError for a code that has another text already, in this package or in webapi itself.
    """
    caller = inspect.currentframe()
    caller = caller.f_back if caller is not None else None
    package = str(caller.f_globals.get("__name__", "")).partition(".")[0] if caller is not None else ""
    for code, text in texts.items():
        known = _TEXTS.setdefault(code, {})
        if any(known.get(owner, text) != text for owner in (package, _COMMON)):
            raise ValueError(f"the code {code!r} has another text already")
        known[package] = text


def is_registered(code: str) -> bool:
    return code in _TEXTS


def render(
    code: str, language: Language = "en", params: Mapping[str, object] | None = None, *, package: str | None = None
) -> str:
    """The text of a code, with its parameters filled in; `package` says whose text, where several have one."""
    if code not in _TEXTS:
        warnings.warn(f"no text for the code {code!r}", MissingTextWarning, stacklevel=2)
        return code
    known = _TEXTS[code]
    text = (known.get(package or "") or known.get(_COMMON) or next(iter(known.values())))[0 if language == "en" else 1]
    return _PARAM.sub(lambda match: str((params or {}).get(match[1], "…")), text)


def title_and_detail(
    code: str, language: Language, params: Mapping[str, object] | None = None, *, package: str | None = None
) -> tuple[str, str]:
    text = render(code, language, params, package=package)
    match = _FIRST_SENTENCE[language].match(text)
    return (match[1], match[2].strip()) if match else (text, "")


def preferred_language(accept_language: str) -> Language:
    """Chinese if the caller ranks it above English (RFC 9110 §12.5.4), else English."""
    best: Language = "en"
    best_weight = 0.0
    for item in accept_language.split(","):
        tag, _, weight_text = item.strip().lower().partition(";")
        primary = tag.strip().partition("-")[0]
        if primary not in ("en", "zh"):
            continue
        try:
            weight = float(weight_text.strip().removeprefix("q=")) if weight_text else 1.0
        except ValueError:
            continue
        if weight > best_weight:
            best, best_weight = ("zh" if primary == "zh" else "en"), weight
    return best


register_texts(
    {
        # Requests
        "malformed_json": (
            "The body is not valid JSON. Send one JSON value in UTF-8, without NaN or Infinity{position}.",
            "请求体不是有效的 JSON。请以 UTF-8 发送一个 JSON 值，不得含 NaN 或 Infinity{position}。",
        ),
        "duplicate_json_key": (
            "The body names a JSON key twice. Send each key once: readers disagree on which one counts{position}.",
            "请求体中有重复的 JSON 键。每个键只能出现一次，否则各方理解不一{position}。",
        ),
        "nul_character": (
            "The request contains a NUL character. Remove U+0000 from texts, paths and queries.",
            "请求中含有空字符。请从文本、路径和查询参数中去掉 U+0000。",
        ),
        "body_too_large": (
            "The body is too large. At most {limit_bytes} bytes are taken here: send fewer items at once.",
            "请求体过大。此接口最多接收 {limit_bytes} 字节，请减少单次条数。",
        ),
        "body_too_slow": (
            "The body did not arrive in time. Send it again over a better connection or in smaller pieces.",
            "请求体未能按时到达。请改善网络或分批重新发送。",
        ),
        "unsupported_media_type": (
            "The body's media type is not supported. Send Content-Type: application/json.",
            "不支持该请求体类型。请使用 Content-Type: application/json。",
        ),
        "invalid_request": (
            "The request is not valid. Correct the fields listed in errors and send it again.",
            "请求未通过校验。请按 errors 中列出的字段修改后重新发送。",
        ),
        "not_found": ("There is nothing at this address. See /docs for what there is.", "该地址不存在。可用接口请见 /docs。"),
        "method_not_allowed": (
            "This method is not allowed here. The Allow header lists those that are; see /docs.",
            "此地址不支持该方法。可用方法见 Allow 响应头及 /docs。",
        ),
        "bad_request": ("The request could not be understood. See /docs.", "无法理解该请求。请参阅 /docs。"),
        "too_many_requests": (
            "Too many requests. Wait {retry_after_seconds} s and send it again.",
            "请求过于频繁。请在 {retry_after_seconds} 秒后重试。",
        ),
        "unavailable": (
            "The service cannot take this now. Nothing was changed; wait {retry_after_seconds} s and send it again.",
            "服务暂时不可用。未做任何更改，请在 {retry_after_seconds} 秒后重试。",
        ),
        "unexpected": (
            "Something went wrong on our side. Send it again; if it stays, report the trace_id.",
            "服务内部出错。请重试；若仍失败，请提供 trace_id。",
        ),
        "request_refused": ("The request was refused. See /docs.", "请求被拒绝。请参阅 /docs。"),
        # Callers
        "key_missing": (
            "An API key is needed. Send it as Authorization: Bearer <key> or X-API-Key.",
            "需要 API 密钥。请通过 Authorization: Bearer <key> 或 X-API-Key 发送。",
        ),
        "key_unknown": (
            "The API key is not known. Check it, or ask an administrator for a new one.",
            "API 密钥无效。请核对，或向管理员申请新的密钥。",
        ),
        "role_missing": (
            "The API key's role does not allow this. One of these roles is needed: {roles}.",
            "该 API 密钥的角色无此权限。需要以下角色之一：{roles}。",
        ),
        # Idempotency and paging
        "bad_idempotency_key": (
            "The Idempotency-Key is not valid. Send 1 to 255 printable ASCII characters.",
            "Idempotency-Key 无效。请使用 1 至 255 个可打印的 ASCII 字符。",
        ),
        "idempotency_key_reused": (
            "This Idempotency-Key was used for another body. Use a new key for a new request.",
            "该 Idempotency-Key 已用于其他请求体。新请求请使用新的键。",
        ),
        "idempotency_in_progress": (
            "A request with this Idempotency-Key is running. Wait {retry_after_seconds} s and send it again.",
            "使用该 Idempotency-Key 的请求正在处理。请在 {retry_after_seconds} 秒后重试。",
        ),
        "bad_cursor": (
            "The cursor is not valid here. Start again without next, and keep sort and filter while paging.",
            "游标无效。请去掉 next 重新开始，翻页期间保持排序与筛选不变。",
        ),
        # Operators
        "record_not_found": (
            "There is no such record. It may have been handled meanwhile; list again.",
            "没有这条记录。可能已被处理，请重新查询列表。",
        ),
        "edit_refused": (
            "The edited record is not valid. Correct the body and send it again{cause}.",
            "修改后的记录无效。请更正内容后重新提交{cause}。",
        ),
        # Fields
        "field_missing": ("Is required.", "必填。"),
        "field_unknown": ("Is not known here; remove it.", "未知字段，请删除。"),
        "parameter_unknown": ("Is no parameter of this route; known are: {known}.", "此接口没有该参数，可用参数：{known}。"),
        "not_an_integer": ("Must be a whole number, without quotes.", "必须是整数，不加引号。"),
        "not_a_number": ("Must be a finite number, without quotes.", "必须是有限数值，不加引号。"),
        "not_a_text": ("Must be a text.", "必须是文本。"),
        "not_a_boolean": ("Must be true or false.", "必须为 true 或 false。"),
        "not_a_list": ("Must be a list.", "必须是列表。"),
        "not_an_object": ("Must be a JSON object.", "必须是 JSON 对象。"),
        "not_an_id": ("Must be a UUID.", "必须是 UUID。"),
        "not_a_time": (
            "Must be a date-time of RFC 3339 with an offset, such as 2026-01-31T08:00:00+08:00.",
            "必须是带时区的 RFC 3339 时间，例如 2026-01-31T08:00:00+08:00。",
        ),
        "not_a_date": ("Must be a date such as 2026-01-31.", "必须是日期，例如 2026-01-31。"),
        "out_of_range": ("Allowed: {limits}.", "允许范围：{limits}。"),
        "wrong_length": ("Allowed length: {limits}.", "允许长度：{limits}。"),
        "wrong_pattern": ("Must match {pattern}.", "必须符合格式 {pattern}。"),
        "not_a_choice": ("Must be {expected}.", "必须为 {expected}。"),
        "lone_surrogate": ("Contains half a character; send valid Unicode.", "含有不完整的字符，请发送有效的 Unicode。"),
        "nul_in_text": ("Contains a NUL character; remove it.", "含有空字符，请删除。"),
        "invalid_value": ("Is not valid.", "无效。"),
    }
)
