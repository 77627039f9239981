"""One JSON line per record, whoever logs."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from telemetry.logs import configure_logging, get_logger


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("inventory", "INFO", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def parsed(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_keys_come_in_a_fixed_order_and_chinese_stays_readable(lines: io.StringIO) -> None:
    """Fails when keys follow the caller's order or text is escaped."""
    get_logger("t").info("started", zone="华东", a=1)
    (line,) = parsed(lines)
    assert list(line) == ["timestamp", "level", "service", "logger", "event", "a", "zone"]
    assert line["service"] == "inventory"
    assert "华东" in lines.getvalue()


def test_standard_library_records_come_out_in_the_same_form(lines: io.StringIO) -> None:
    """Fails when foreign loggers bypass the formatter (and with it the masking)."""
    logging.getLogger("aiokafka.consumer").error("cannot reach %s", "13812345678", extra={"phone": "13812345678"})
    (line,) = parsed(lines)
    assert line["event"] == "cannot reach ***"
    assert line["phone"] == "***"


def test_exception_text_is_masked(lines: io.StringIO) -> None:
    """Fails when masking runs before the exception is rendered."""
    try:
        int("打给13812345678")
    except ValueError:
        get_logger("t").exception("request_failed")
    (line,) = parsed(lines)
    assert "13812345678" not in lines.getvalue()
    assert "ValueError" in str(line["exception"])
    assert list(line)[-1] == "exception"


def test_lines_inside_a_span_carry_its_trace_id(lines: io.StringIO) -> None:
    """Fails when a problem's trace_id could not be found in the log."""
    context = SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=False, trace_flags=TraceFlags(0))
    with trace.use_span(NonRecordingSpan(context)):
        get_logger("t").info("started")
    (line,) = parsed(lines)
    assert line["trace_id"] == f"{0xABC:032x}"


def test_records_below_the_level_are_dropped(lines: io.StringIO) -> None:
    """Fails when LOG_LEVEL is ignored."""
    get_logger("t").debug("started")
    assert parsed(lines) == []


def test_without_configuration_local_variables_are_not_printed() -> None:
    """Fails when structlog's default comes back: it prints every frame's variables."""
    program = (
        "from telemetry.logs import get_logger\n"
        "def f(receiver):\n"
        "    try:\n"
        "        1 / 0\n"
        "    except ZeroDivisionError:\n"
        "        get_logger('t').exception('request_failed')\n"
        "f(chr(24352) + chr(19977))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  our own text
    assert "ZeroDivisionError" in done.stderr
    assert "张三" not in done.stdout + done.stderr
