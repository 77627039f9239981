"""Builds a service's FastAPI application: state, middleware, problems, health, documentation, its routes."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from starlette.requests import Request

from telemetry import Check, HttpMetrics, Metrics, TraceMiddleware, health_routes
from telemetry.health import CheckLike
from webapi.callers import Callers
from webapi.problems import MEDIA_TYPE, ErrorBoundary, ProblemView, install_problem_handlers
from webapi.routing import check_routes, documented_routes
from webapi.settings import ServiceSettings

ProcessRole = Literal["all", "api", "worker"]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
ReadyChecks = Callable[[FastAPI], Awaitable[Sequence[CheckLike]]]


def create_app(
    *,
    service: str,
    title: str,
    version: str,
    settings: ServiceSettings,
    role: ProcessRole = "all",
    lifespan: Lifespan | None = None,
    routers: Iterable[APIRouter] = (),
    ready_checks: ReadyChecks | None = None,
    description: str = "",
    callers: Callers | None = None,
    metrics: Metrics | None = None,
) -> FastAPI:
    """Make the application. Role `worker` leaves the service's routes out: health and metrics only.

    `app.state` holds `service, settings, role, callers, metrics, stopping`; the lifespan adds what the service needs.
    """
    app: FastAPI = FastAPIOffline(
        title=title,
        version=version,
        description=description,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        # FastAPI's own spans and log records carry queries and exception texts: personal data. Ours do not.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        swagger_ui_parameters={"persistAuthorization": True, "displayRequestDuration": True},
    )
    app.state.service = service
    app.state.settings = settings
    app.state.role = role
    app.state.callers = callers or Callers(settings.api_keys_file)
    app.state.metrics = metrics or Metrics()
    app.state.stopping = False

    async def ready(request: Request) -> Sequence[CheckLike]:
        if request.app.state.stopping:
            return [Check("process", ok=False, detail="stopping")]
        return [] if ready_checks is None else await ready_checks(app)

    app.include_router(health_routes(ready, app.state.metrics))
    if role != "worker":
        for router in routers:
            check_routes(router)
            app.include_router(router)
    install_problem_handlers(app)
    # The last one added is the outermost: trace → metrics → errors → routes.
    app.add_middleware(ErrorBoundary)
    app.add_middleware(HttpMetrics, metrics=app.state.metrics)
    app.add_middleware(TraceMiddleware)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document with our problems as the error answers and the roles beside each route."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for replaced in ("HTTPValidationError", "ValidationError"):
        schemas.pop(replaced, None)
    problem = ProblemView.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {})
    schemas["Problem"] = problem
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer <key>"},
        "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    answer = {
        "description": "A problem (RFC 9457): code, title, detail, errors per field.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for context, roles in documented_routes(app.routes):
        for method in context.methods or ():
            operation = document["paths"][context.path_format][method.lower()]
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = answer
            if roles:
                operation["security"] = [{"bearer": list(roles)}, {"api_key": list(roles)}]
                operation["x-roles"] = list(roles)
                needed = f"Role: {' or '.join(roles)}."
            else:
                operation["security"] = []
                needed = "Needs no API key."
            operation["description"] = f"{operation.get('description', '')}\n\n{needed}".strip()
    app.openapi_schema = document
    return document
