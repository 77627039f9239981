"""One log format for everything in the process: a JSON object per line, personal data masked, trace ids attached.

Libraries that log through the standard library (uvicorn, SQLAlchemy, aiokafka) come out in the same form.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from opentelemetry import trace

from telemetry.masking import mask_fields

_FIRST = ("timestamp", "level", "service", "logger", "event", "trace_id", "span_id")
_LAST = ("exception",)
# These say at INFO what our own metrics and logs already say.
_CHATTY = {
    "uvicorn.access": logging.WARNING,
    "uvicorn.error": logging.WARNING,
    "aiokafka": logging.WARNING,
    "httpx": logging.WARNING,
    "alembic": logging.INFO,
}

EventDict = MutableMapping[str, Any]


def configure_logging(service: str, level: str = "INFO", *, stream: TextIO | None = None) -> None:
    """Send every log record of this process to `stream` (stderr) as one JSON line.

    May be called again: the last call counts.
    """

    def add_service(_: Any, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_service,
        _add_trace,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # A module's logger may be made before this runs.
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared[:3], structlog.stdlib.ExtraAdder(), *shared[3:]],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _mask_and_order,
                structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, floor in _CHATTY.items():
        logging.getLogger(name).setLevel(max(floor, root.level))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.captureWarnings(capture=True)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose first argument is an event of the catalogue and whose keywords are its fields."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _add_trace(_: Any, __: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event


def _mask_and_order(_: Any, __: str, event: EventDict) -> EventDict:
    """Mask last, when exceptions are text already; then fixed keys first, the others by name, so that lines compare."""
    event.pop("color_message", None)  # uvicorn's text for terminals
    masked = mask_fields(event)
    head = {key: masked.pop(key) for key in _FIRST if key in masked}
    tail = {key: masked.pop(key) for key in _LAST if key in masked}
    return head | dict(sorted(masked.items())) | tail


# Until `configure_logging` is called (tests, tools): structlog's own default prints the local variables of every frame of an
# exception, personal data among them, and takes seconds for it.
structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_log_level,
        structlog.processors.format_exc_info,
        _mask_and_order,
        structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=False,
)
