"""Errors as problems (RFC 9457): a stable code, a text in the caller's language, the way out, a trace id.

Nothing of the input is ever in a problem: field names are masked, values are left out.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventing.errors import DEADLOCK, is_unavailable, sqlstate_of
from telemetry import current_trace_id, get_logger, mask_text
from webapi import texts
from webapi.texts import Language

MEDIA_TYPE = "application/problem+json"
ERRORS_SHOWN = 100  # A bulk body can be wrong in thousands of places; the first hundred tell the story.
PATH_CHARACTERS = 200
_log = get_logger(__name__)


@dataclass(frozen=True)
class FieldError:
    """One field and why it is refused: `field` is a path such as `lines.0.quantity`."""

    field: str
    code: str
    params: Mapping[str, object] = dataclass_field(default_factory=dict)


class Problem(Exception):  # noqa: N818  RFC 9457's word for it
    """An answer that is an error and meant to be. `params` fill the detail's text; they must not hold personal data."""

    def __init__(
        self,
        code: str,
        *,
        status: int,
        params: Mapping[str, object] | None = None,
        errors: Sequence[FieldError] = (),
        retry_after_seconds: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.params = dict(params or {})
        self.errors = errors
        self.headers = dict(headers or {})
        if retry_after_seconds is not None:
            self.params.setdefault("retry_after_seconds", retry_after_seconds)
            self.headers["Retry-After"] = str(retry_after_seconds)


class FieldErrorView(BaseModel):
    field: str
    reason: str
    code: str


class ProblemView(BaseModel):
    """The body of every error answer, for OpenAPI."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str
    trace_id: str | None = None
    errors: list[FieldErrorView] = []


def language_of(connection: HTTPConnection) -> Language:
    return texts.preferred_language(connection.headers.get("accept-language", ""))


def problem_response(problem: Problem, request: HTTPConnection) -> Response:
    """The answer to a caller, in the caller's language."""
    language = language_of(request)
    package = getattr(request.app.state, "service", None)
    title, detail = texts.title_and_detail(problem.code, language, problem.params, package=package)
    body: dict[str, Any] = {
        "type": f"urn:oms:problem:{problem.code}",
        "title": title,
        "status": problem.status,
        "detail": detail,
        "code": problem.code,
        "instance": mask_text(request.url.path)[:PATH_CHARACTERS],
        "trace_id": current_trace_id(),
    }
    if problem.errors:
        body["errors"] = [_shown_error(error, language, package) for error in problem.errors[:ERRORS_SHOWN]]
    headers = {"Content-Language": language, "Vary": "Accept-Language", **problem.headers}
    return JSONResponse(body, status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def _shown_error(error: FieldError, language: Language, package: str | None) -> dict[str, str]:
    reason = texts.render(error.code, language, error.params, package=package)
    return {"field": error.field, "reason": reason, "code": error.code}


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every expected error of this application as a problem. `ErrorBoundary` takes the unexpected ones."""

    async def on_problem(request: Request, error: Exception) -> Response:
        if not isinstance(error, Problem):
            raise error
        return problem_response(error, request)

    async def on_invalid(request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise error
        return problem_response(invalid_request(error.errors()), request)

    async def on_http(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        return problem_response(_of_http(error), request)

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)


class ErrorBoundary:
    """Turns what nobody planned into a 500 without internals, and a database that is away into a 503.

    It stands inside the trace, so that the problem's trace id is the log's.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_noting_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_noting_start)
        except ClientDisconnect:
            return  # Nobody is left to answer.
        except Exception as error:  # the last line before the server
            away = is_unavailable(error) or sqlstate_of(error) == DEADLOCK
            _log.log(logging.WARNING if away else logging.ERROR, "request_failed", exc_info=error, infrastructure=away)
            if started:
                raise
            problem = Problem("unavailable", status=503, retry_after_seconds=2) if away else Problem("unexpected", status=500)
            await problem_response(problem, HTTPConnection(scope))(scope, receive, send)


def _of_http(error: HTTPException) -> Problem:
    code = {
        HTTPStatus.NOT_FOUND: "not_found",
        HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
        HTTPStatus.BAD_REQUEST: "bad_request",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
        HTTPStatus.TOO_MANY_REQUESTS: "too_many_requests",
        HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
    }.get(HTTPStatus(error.status_code), "request_refused" if error.status_code < 500 else "unexpected")
    return Problem(code, status=error.status_code, headers=error.headers)


def invalid_request(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """pydantic's errors as one problem; its own messages are not used, for some quote the input."""
    return Problem("invalid_request", status=422, errors=[_field_error(error) for error in errors[:ERRORS_SHOWN]])


def _field_error(error: Mapping[str, Any]) -> FieldError:
    kind: str = error["type"]
    params: Mapping[str, object] = error.get("ctx") or {}
    field_path = _path(error["loc"])
    if code := _CODES.get(kind):
        return FieldError(field_path, code, _shown(params))
    if texts.is_registered(kind):
        return FieldError(field_path, kind, params)
    return FieldError(field_path, "invalid_value")


def _path(location: Sequence[object]) -> str:
    parts = [str(part) for part in location]
    if len(parts) > 1 and parts[0] in ("body", "query", "path", "header", "cookie"):
        parts = parts[1:]
    # A key of the caller's own making may be anything, a phone number included.
    return ".".join(mask_text(part[:64]) for part in parts)[:PATH_CHARACTERS]


def _shown(params: Mapping[str, object]) -> dict[str, object]:
    """pydantic's limits in one readable form."""
    low = params.get("ge", params.get("gt", params.get("min_length")))
    high = params.get("le", params.get("lt", params.get("max_length")))
    # Signs read the same in both languages; a half-open "1 …" reads as if something were missing.
    limits = f"{low} … {high}" if None not in (low, high) else f"≥ {low}" if high is None else f"≤ {high}"
    if "lt" in params or "gt" in params:
        limits = " ".join(f"{sign} {params[name]}" for name, sign in (("gt", ">"), ("lt", "<")) if name in params)
    expected = params.get("expected", params.get("expected_tags", ""))
    return {"limits": limits, "pattern": params.get("pattern", ""), "expected": expected}


_CODES = {
    "missing": "field_missing",
    "extra_forbidden": "field_unknown",
    "unexpected_keyword_argument": "field_unknown",
    "int_type": "not_an_integer",
    "int_parsing": "not_an_integer",
    "int_parsing_size": "not_an_integer",
    "int_from_float": "not_an_integer",
    "float_type": "not_a_number",
    "float_parsing": "not_a_number",
    "finite_number": "not_a_number",
    "decimal_type": "not_a_number",
    "decimal_parsing": "not_a_number",
    "string_type": "not_a_text",
    "string_sub_type": "not_a_text",
    "string_unicode": "lone_surrogate",
    "bool_type": "not_a_boolean",
    "bool_parsing": "not_a_boolean",
    "list_type": "not_a_list",
    "tuple_type": "not_a_list",
    "set_type": "not_a_list",
    "dict_type": "not_an_object",
    "model_type": "not_an_object",
    "model_attributes_type": "not_an_object",
    "mapping_type": "not_an_object",
    "uuid_type": "not_an_id",
    "uuid_parsing": "not_an_id",
    "uuid_version": "not_an_id",
    "datetime_type": "not_a_time",
    "datetime_parsing": "not_a_time",
    "datetime_from_date_parsing": "not_a_time",
    "datetime_object_invalid": "not_a_time",
    "timezone_naive": "not_a_time",
    "timezone_aware": "not_a_time",
    "date_type": "not_a_date",
    "date_parsing": "not_a_date",
    "date_from_datetime_parsing": "not_a_date",
    "date_from_datetime_inexact": "not_a_date",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "string_too_short": "wrong_length",
    "string_too_long": "wrong_length",
    "too_short": "wrong_length",
    "too_long": "wrong_length",
    "string_pattern_mismatch": "wrong_pattern",
    "literal_error": "not_a_choice",
    "enum": "not_a_choice",
    "union_tag_invalid": "not_a_choice",
    "union_tag_not_found": "field_missing",
}
