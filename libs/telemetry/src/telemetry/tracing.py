"""Traces: every request and record has a trace id; spans leave the process only where an OTLP end point is configured."""

import importlib
import os
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry.logs import get_logger

_EXPORTERS = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
_QUIET_PATHS = {"/livez", "/readyz", "/metrics"}
_TRACE_HEADERS = {b"traceparent", b"tracestate"}
_PROPAGATOR = TraceContextTextMapPropagator()


def configure_tracing(service: str) -> bool:
    """Set up tracing for the process; whether spans are exported.

    Without `OTEL_EXPORTER_OTLP_ENDPOINT`, or without an exporter package, spans get ids (for logs, problems and
    `traceparent`) but are never recorded. OpenTelemetry's other variables (sampler, headers) work as documented there.
    """
    exporter = _exporter() if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") else None
    resource = Resource.create({SERVICE_NAME: service})
    if exporter is None:
        # Not ParentBased's default: a caller that samples would make us record spans that go nowhere.
        off = ParentBased(ALWAYS_OFF, remote_parent_sampled=ALWAYS_OFF, local_parent_sampled=ALWAYS_OFF)
        provider = TracerProvider(resource=resource, sampler=off)
    else:
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter is not None


def current_trace_id() -> str | None:
    """The trace that the running code belongs to, as 32 hex digits."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


class TraceMiddleware:
    """One server span per request, continuing the caller's `traceparent`.

    It names the route, never the path, query or exception text: those may hold personal data.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._tracer = trace.get_tracer("telemetry.http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _QUIET_PATHS:
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"] if name in _TRACE_HEADERS
        }
        parent = _PROPAGATOR.extract(headers) if headers else None
        # The name is the method alone until the route is known: paths carry ids.
        with self._tracer.start_as_current_span(
            scope["method"], context=parent, kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:

            async def send_noting_status(message: Message) -> None:
                if message["type"] == "http.response.start" and span.is_recording():
                    status: int = message["status"]
                    span.set_attribute("http.response.status_code", status)
                    if status >= 500:
                        span.set_status(Status(StatusCode.ERROR))
                await send(message)

            await self._app(scope, receive, send_noting_status)
            if span.is_recording():
                route = route_template(scope)
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.route", route)


def route_template(scope: Scope) -> str:
    """The path with names for its parameters (`/v1/stock/{sku_id}`), so that labels stay few."""
    route: Any = scope.get("route")
    return getattr(route, "path_format", None) or getattr(route, "path", None) or "unmatched"


def _exporter() -> SpanExporter | None:
    for module in _EXPORTERS:
        try:
            exporter: SpanExporter = importlib.import_module(module).OTLPSpanExporter()
        except ModuleNotFoundError:
            continue
        return exporter
    get_logger(__name__).warning("trace_exporter_missing", needed="opentelemetry-exporter-otlp-proto-http")
    return None
