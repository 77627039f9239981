"""Logs, metrics, traces and health routes. Knows neither `eventing` nor any service."""

from telemetry.catalogue import Metric
from telemetry.health import Check, health_routes
from telemetry.logs import configure_logging, get_logger
from telemetry.masking import mask_fields, mask_text
from telemetry.metrics import HttpMetrics, Metrics, PrometheusObserver
from telemetry.tracing import TraceMiddleware, configure_tracing, current_trace_id

__all__ = [
    "Check",
    "HttpMetrics",
    "Metric",
    "Metrics",
    "PrometheusObserver",
    "TraceMiddleware",
    "configure_logging",
    "configure_tracing",
    "current_trace_id",
    "get_logger",
    "health_routes",
    "mask_fields",
    "mask_text",
]
