"""Metrics of one process in one registry, and the observer that the eventing runtime reports to."""

import time
from typing import cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry import catalogue
from telemetry.catalogue import Metric
from telemetry.tracing import route_template

BREAKER_STATES = {"closed": 0, "half_open": 1, "open": 2}


class Metrics:
    """The registry of one process: the whole catalogue from the start, so that a metric that never moved reads 0."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._made: dict[str, Counter | Gauge | Histogram] = {}
        for metric in catalogue.METRICS:
            self.add(metric)

    def add(self, metric: Metric) -> Counter | Gauge | Histogram:
        """Make a metric; asked again for the same name, give the one that is there."""
        if metric.name not in self._made:
            text = f"{metric.help} Unit: {metric.unit}. {metric.when_it_moves}"
            if metric.kind == "histogram":
                self._made[metric.name] = Histogram(
                    metric.name, text, metric.labels, buckets=metric.buckets, registry=self.registry
                )
            else:
                make = Counter if metric.kind == "counter" else Gauge
                self._made[metric.name] = make(metric.name, text, metric.labels, registry=self.registry)
        return self._made[metric.name]

    def counter(self, metric: Metric) -> Counter:
        return cast("Counter", self.add(metric))

    def gauge(self, metric: Metric) -> Gauge:
        return cast("Gauge", self.add(metric))

    def histogram(self, metric: Metric) -> Histogram:
        return cast("Histogram", self.add(metric))

    def exposition(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)


class PrometheusObserver:
    """What the eventing runtime reports, as metrics. Fits `eventing.observe.Observer` by shape; imports nothing of it."""

    def __init__(self, metrics: Metrics) -> None:
        self._consumed = metrics.counter(catalogue.RECORDS_CONSUMED)
        self._duplicate = metrics.counter(catalogue.RECORDS_DUPLICATE)
        self._parked = metrics.counter(catalogue.RECORDS_PARKED)
        self._quarantined = metrics.counter(catalogue.RECORDS_QUARANTINED)
        self._skipped = metrics.counter(catalogue.RECORDS_SKIPPED)
        self._skipped_types: set[str] = set()
        self._batch_records = metrics.histogram(catalogue.BATCH_RECORDS)
        self._batch_seconds = metrics.histogram(catalogue.BATCH_SECONDS)
        self._lag = metrics.gauge(catalogue.CONSUMER_LAG)
        self._paused = metrics.counter(catalogue.CONSUMER_PAUSED)
        self._breaker = metrics.gauge(catalogue.BREAKER_STATE)
        self._outbox_rows = metrics.gauge(catalogue.OUTBOX_ROWS)
        self._outbox_oldest = metrics.gauge(catalogue.OUTBOX_OLDEST)
        self._relayed = metrics.counter(catalogue.RELAY_RECORDS)
        self._relay_seconds = metrics.histogram(catalogue.RELAY_SECONDS)
        self._tasks_due = metrics.gauge(catalogue.TASKS_DUE)
        self._tasks_run = metrics.counter(catalogue.TASKS_RUN)
        self._task_seconds = metrics.histogram(catalogue.TASK_SECONDS)
        self._waiting_rows = metrics.gauge(catalogue.WAITING_ROWS)
        self._waiting_oldest = metrics.gauge(catalogue.WAITING_OLDEST)

    def batch(self, consumer: str, topic: str, records: int, duplicates: int, seconds: float) -> None:
        self._consumed.labels(consumer, topic).inc(records)
        self._duplicate.labels(consumer, topic).inc(duplicates)
        self._batch_records.labels(consumer).observe(records)
        self._batch_seconds.labels(consumer).observe(seconds)

    def parked(self, topic: str, code: str) -> None:
        self._parked.labels(topic, code).inc()

    def quarantined(self, topic: str, code: str) -> None:
        self._quarantined.labels(topic, code).inc()

    def skipped_type(self, topic: str, type: str) -> None:  # noqa: A002  the protocol's name
        # The type is the sender's word: bounded, or a foreign producer could fill our memory with label values.
        label = type if len(self._skipped_types) < 100 or type in self._skipped_types else "other"
        self._skipped_types.add(label)
        self._skipped.labels(topic, label).inc()

    def relayed(self, topic: str, records: int, seconds: float) -> None:
        self._relayed.labels(topic).inc(records)
        self._relay_seconds.labels(topic).observe(seconds)

    def outbox(self, depth: int, oldest_seconds: float) -> None:
        self._outbox_rows.set(depth)
        self._outbox_oldest.set(oldest_seconds)

    def task(self, kind: str, outcome: str, seconds: float) -> None:
        self._tasks_run.labels(kind, outcome).inc()
        self._task_seconds.labels(kind).observe(seconds)

    def tasks_due(self, kind: str, count: int) -> None:
        self._tasks_due.labels(kind).set(count)

    def waiting(self, kind: str, count: int, oldest_seconds: float) -> None:
        self._waiting_rows.labels(kind).set(count)
        self._waiting_oldest.labels(kind).set(oldest_seconds)

    def breaker(self, consumer: str, state: str) -> None:
        self._breaker.labels(consumer).set(BREAKER_STATES.get(state, 2))

    def lag(self, consumer: str, topic: str, records: int) -> None:
        self._lag.labels(consumer, topic).set(records)

    def paused(self, consumer: str, reason: str) -> None:
        self._paused.labels(consumer, reason).inc()


class HttpMetrics:
    """Counts and times requests by route template; health probes are left out, they would drown the rest."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._requests = metrics.counter(catalogue.HTTP_REQUESTS)
        self._seconds = metrics.histogram(catalogue.HTTP_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in {"/livez", "/readyz", "/metrics"}:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status_code = 500  # What the server answers when the application raises before it has answered.

        async def send_noting_status(message: Message) -> None:
            nonlocal status_code
            if message["type"] == "http.response.start":
                status_code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noting_status)
        finally:
            route = route_template(scope)
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._requests.labels(method, route, status_code).inc()
            self._seconds.labels(method, route).observe(time.perf_counter() - started)


_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
