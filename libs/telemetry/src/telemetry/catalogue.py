"""Every metric and log event of the shared libraries: its unit, what it says, and what to do when it moves.

Services add their own metrics with `Metrics.add(Metric(...))`; a metric without advice is refused.
"""

from dataclasses import dataclass
from typing import Literal

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 1000)


@dataclass(frozen=True)
class Metric:
    """One metric. Names end in the unit (Prometheus' base units), counters in `_total`; labels never carry ids."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    help: str
    when_it_moves: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = SECONDS

    def __post_init__(self) -> None:
        if not (self.unit and self.help and self.when_it_moves):
            raise ValueError(f"metric {self.name}: unit, help and what to do when it moves are required")
        if (self.kind == "counter") != self.name.endswith("_total"):
            raise ValueError(f"metric {self.name}: counters, and only they, end in _total")


RECORDS_CONSUMED = Metric(
    "oms_records_consumed_total",
    "counter",
    "records",
    "Records whose effects are committed, duplicates included.",
    "Falls to 0 while lag grows: see oms_consumer_paused_total, oms_breaker_state and /readyz of the worker.",
    ("consumer", "topic"),
)
RECORDS_DUPLICATE = Metric(
    "oms_records_duplicate_total",
    "counter",
    "records",
    "Records that had been handled before and changed nothing.",
    "Bursts after a restart or rebalance are normal. A steady share: offsets are not committed, or a producer sends twice.",
    ("consumer", "topic"),
)
RECORDS_PARKED = Metric(
    "oms_records_parked_total",
    "counter",
    "records",
    "Records set aside under their key because handling them failed.",
    "See GET /v1/operations/parked: fix the cause, then retry. Many keys at once with one code: a bad deployment, roll back.",
    ("topic", "code"),
)
RECORDS_QUARANTINED = Metric(
    "oms_records_quarantined_total",
    "counter",
    "records",
    "Foreign records that could not be understood and were set aside.",
    "Look at GET /v1/operations/quarantined and tell the sender which field is wrong.",
    ("topic", "code"),
)
RECORDS_SKIPPED = Metric(
    "oms_records_unknown_type_total",
    "counter",
    "records",
    "Records of a type that this version does not know.",
    "A producer was deployed before its readers: deploy this service.",
    ("topic", "event_type"),
)
BATCH_RECORDS = Metric(
    "oms_batch_records",
    "histogram",
    "records",
    "Records per committed batch.",
    "Small batches under load: fewer partitions per worker or a higher fetch_min_bytes save processor time.",
    ("consumer",),
    RECORDS,
)
BATCH_SECONDS = Metric(
    "oms_batch_seconds",
    "histogram",
    "seconds",
    "Time from the start of a batch to its commit.",
    "p99 above 1 s: look for lock waits and slow statements in the database, then at the batch size.",
    ("consumer",),
)
CONSUMER_LAG = Metric(
    "oms_consumer_lag_records",
    "gauge",
    "records",
    "Records on the topic that this worker has not handled yet.",
    "Grows for minutes: add workers up to the partition count, or find what pauses this one.",
    ("consumer", "topic"),
)
CONSUMER_PAUSED = Metric(
    "oms_consumer_paused_total",
    "counter",
    "pauses",
    "How often a consumer paused because the database or the broker was not usable.",
    "Moves steadily: the reason label says which one; nothing is lost, work waits.",
    ("consumer", "reason"),
)
BREAKER_STATE = Metric(
    "oms_breaker_state",
    "gauge",
    "state",
    "0 closed, 1 half open, 2 open (stopped because too many keys failed at once).",
    "2: most likely a bad deployment. Roll back, or fix and POST /v1/operations/breaker/close.",
    ("consumer",),
)
OUTBOX_ROWS = Metric(
    "oms_outbox_rows",
    "gauge",
    "rows",
    "Events written and not yet acknowledged by the broker.",
    "Grows: the broker is away or slow, or no relay holds the shards' leases. Intake answers 503 before the disk fills.",
)
OUTBOX_OLDEST = Metric(
    "oms_outbox_oldest_seconds",
    "gauge",
    "seconds",
    "Age of the oldest event not yet acknowledged.",
    "Above 10 s: one shard is stuck; see the relay's log and who holds its lease.",
)
RELAY_RECORDS = Metric(
    "oms_relay_records_total",
    "counter",
    "records",
    "Events sent and acknowledged.",
    "Falls to 0 while oms_outbox_rows grows: the broker does not acknowledge.",
    ("topic",),
)
RELAY_SECONDS = Metric(
    "oms_relay_seconds",
    "histogram",
    "seconds",
    "Time of one wave from send to acknowledgement.",
    "p99 above 0.5 s: the broker's disk or replication is slow.",
    ("topic",),
)
TASKS_DUE = Metric(
    "oms_tasks_due",
    "gauge",
    "tasks",
    "Tasks that are due and not running.",
    "Grows: too few task workers, or the outside system that they call is slow.",
    ("kind",),
)
TASKS_RUN = Metric(
    "oms_tasks_run_total",
    "counter",
    "tasks",
    "Tasks run, by outcome.",
    "A rising share of `failed` or `retry`: look at GET /v1/operations/overdue for the last error.",
    ("kind", "outcome"),
)
TASK_SECONDS = Metric(
    "oms_task_seconds",
    "histogram",
    "seconds",
    "Time of one task, the outside call included.",
    "Close to the time-out: the outside system is slow; orders wait, nothing is lost.",
    ("kind",),
)
WAITING_ROWS = Metric(
    "oms_waiting_rows",
    "gauge",
    "rows",
    "Records that wait for a fact from another topic (an item, a place, a receiver).",
    "Grows: the owner of that fact has not sent it; the kind says which.",
    ("kind",),
)
WAITING_OLDEST = Metric(
    "oms_waiting_oldest_seconds",
    "gauge",
    "seconds",
    "Age of the longest wait.",
    "Above 120 s: see GET /v1/operations/overdue and send the missing fact.",
    ("kind",),
)
HTTP_REQUESTS = Metric(
    "oms_http_requests_total",
    "counter",
    "requests",
    "Requests answered.",
    "5xx: look up the trace_id of the problem in the log. 429 and 503: intake protects itself, callers must slow down.",
    ("method", "route", "status_code"),
)
HTTP_SECONDS = Metric(
    "oms_http_seconds",
    "histogram",
    "seconds",
    "Time from the request's head to the end of the answer.",
    "p99 above 1 s: compare with oms_batch_seconds; both up means that the database is the bottleneck.",
    ("method", "route"),
)

METRICS: tuple[Metric, ...] = (
    RECORDS_CONSUMED, RECORDS_DUPLICATE, RECORDS_PARKED, RECORDS_QUARANTINED, RECORDS_SKIPPED, BATCH_RECORDS, BATCH_SECONDS,
    CONSUMER_LAG, CONSUMER_PAUSED, BREAKER_STATE, OUTBOX_ROWS, OUTBOX_OLDEST, RELAY_RECORDS, RELAY_SECONDS, TASKS_DUE,
    TASKS_RUN, TASK_SECONDS, WAITING_ROWS, WAITING_OLDEST, HTTP_REQUESTS, HTTP_SECONDS,
)  # fmt: skip

LOG_EVENTS: dict[str, str] = {
    "api_keys_read": "Callers were read from the key file; `callers` counts them.",
    "api_keys_unreadable": "The key file could not be read; the last good keys stay in force. Fix the file.",
    "health_check_failed": "A readiness check raised. See the exception.",
    "migrated": "The database's tables are at `revision`.",
    "migration_failed": "The database could not be brought to the newest tables. See the exception; nothing is half done.",
    "personal_data_read": "`principal` read a parked record in clear. Expected only where a case needs it.",
    "request_failed": "A request ended in an unexpected error (500). See the exception; the caller was given this trace_id.",
    "shutdown_overdue": "The process did not stop within its deadline and was ended. Nothing is lost; find what hung.",
    "start_failed": "The application could not be built. See the exception.",
    "started": "The process serves on `http_host`:`http_port` in `role`.",
    "trace_exporter_missing": "An OTLP end point is set but no exporter is installed: install the package in `needed`.",
}
"""Log events of telemetry and webapi, and what to do about them."""
