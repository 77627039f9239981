"""Routes that check before they read: first the caller, then the size, then the JSON, then the model."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from telemetry import mask_text
from webapi.callers import Requires, roles_of
from webapi.problems import FieldError, Problem
from webapi.strictjson import parse_json

MEBIBYTE = 1024 * 1024
DEFAULT_BODY_BYTES = MEBIBYTE
# 8 MiB over a slow line take a few seconds; whoever needs longer holds a connection for nothing.
BODY_SECONDS = 30.0


@dataclass(frozen=True)
class BodyLimit:
    """A route's own limit of its body; use it through `body_limit`."""

    limit_bytes: int

    async def __call__(self) -> None:
        return None


def body_limit(limit_bytes: int) -> BodyLimit:
    """The dependency of a route that takes more (or less) than 1 MiB: `dependencies=[Depends(body_limit(8 * MEBIBYTE))]`."""
    return BodyLimit(limit_bytes)


class StrictRequest(Request):
    """A request whose body is bounded while it arrives and whose JSON has one meaning."""

    limit_bytes: int = DEFAULT_BODY_BYTES
    _value: object
    _bytes: bytes

    async def stream(self) -> AsyncIterator[bytes]:  # type: ignore[override]  # an async generator, as in Starlette
        announced = self.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self.limit_bytes:
            raise self._too_large()
        arrived = 0
        async for chunk in super().stream():
            arrived += len(chunk)
            if arrived > self.limit_bytes:
                raise self._too_large()
            yield chunk

    async def body(self) -> bytes:
        if not hasattr(self, "_bytes"):
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    self._bytes = b"".join([chunk async for chunk in self.stream()])
            except TimeoutError:
                raise Problem("body_too_slow", status=408, headers={"Connection": "close"}) from None
        return self._bytes

    async def json(self) -> object:
        if not hasattr(self, "_value"):
            self._value = parse_json(await self.body())
        return self._value

    def _too_large(self) -> Problem:
        # What is still to come is not read: the connection cannot be used again.
        params = {"limit_bytes": self.limit_bytes}
        return Problem("body_too_large", status=413, params=params, headers={"Connection": "close"})


class StrictRoute(APIRoute):
    """A route of ours. FastAPI alone would read and parse a stranger's megabyte before it asks for the key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        calls = list(_calls(self.dependant))
        guards = [call for call in calls if isinstance(call, Requires)]
        limits = [call.limit_bytes for call in calls if isinstance(call, BodyLimit)]
        takes_body = self.body_field is not None
        known = frozenset(_query_names(self.dependant))

        async def strict(request: Request) -> Response:
            for guard in guards:
                await guard(request)
            if "\x00" in request.scope["path"] or b"%00" in request.scope["query_string"]:
                raise Problem("nul_character", status=400)
            if not known.issuperset(request.query_params):
                raise _unknown_parameters(request, known)
            own = StrictRequest(request.scope, request.receive)
            own.limit_bytes = limits[0] if limits else DEFAULT_BODY_BYTES
            # Read here, not in FastAPI, which would turn our problems into its own error.
            if takes_body and await own.body():
                if not _is_json(request.headers.get("content-type", "")):
                    raise Problem("unsupported_media_type", status=415)
                await own.json()
            return await handle(own)

        return strict


class Router(APIRouter):
    """FastAPI's router, whose routes are strict."""

    def __init__(self, **options: Any) -> None:
        super().__init__(route_class=StrictRoute, redirect_slashes=False, **options)


def check_routes(router: APIRouter) -> None:
    """Refuse a router with a route that is not strict, or that does not say who may call it."""
    for context in iter_route_contexts(router.routes):
        if not isinstance(context.original_route, StrictRoute):
            raise TypeError(f"{context.path}: routes are made with webapi.routing.Router")
        if declared_roles(context) is None:
            raise TypeError(f"{context.path}: no role is declared; see webapi.callers.requires and public")


def declared_roles(context: RouteContext) -> tuple[str, ...] | None:
    """The roles that open a route; () if it is public, None if it says nothing."""
    dependant: Dependant | None = getattr(context, "dependant", None)
    return None if dependant is None else roles_of(list(_calls(dependant)))


def routes_without_role(app: FastAPI) -> list[str]:
    """Paths that anybody can call and that do not say why; health and documentation are meant to be open."""
    return sorted(
        {
            str(context.path)
            for context in iter_route_contexts(app.routes)
            if isinstance(context.original_route, APIRoute)
            and context.path not in OPEN_PATHS
            and declared_roles(context) is None
        }
    )


OPEN_PATHS = {"/livez", "/readyz", "/metrics", "/docs", "/docs/oauth2-redirect", "/openapi.json"}


def documented_routes(routes: list[BaseRoute]) -> Iterator[tuple[RouteContext, tuple[str, ...]]]:
    """Each route that OpenAPI shows, with the roles that open it."""
    for context in iter_route_contexts(routes):
        if isinstance(context.original_route, StrictRoute) and context.original_route.include_in_schema:
            yield context, declared_roles(context) or ()


def _query_names(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        model = field.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from (info.alias or name for name, info in model.model_fields.items())
        else:
            yield field.alias
    for dependency in dependant.dependencies:
        yield from _query_names(dependency)


def _unknown_parameters(request: Request, known: Collection[str]) -> Problem:
    """A misspelt filter would otherwise answer with everything."""
    params = {"known": ", ".join(sorted(known)) or "-"}
    unknown = dict.fromkeys(name for name in request.query_params if name not in known)
    errors = [FieldError(mask_text(name[:64]), "parameter_unknown", params) for name in unknown]
    return Problem("invalid_request", status=422, errors=errors)


def _calls(dependant: Dependant) -> Iterator[object]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _calls(dependency)


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))
