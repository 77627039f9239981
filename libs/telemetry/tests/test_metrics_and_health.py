"""Metrics with advice, the observer, and the three routes."""

import asyncio
from collections.abc import Sequence

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request

from telemetry import catalogue
from telemetry.catalogue import Metric
from telemetry.health import Check, health_routes
from telemetry.metrics import HttpMetrics, Metrics, PrometheusObserver


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://test")


def test_every_metric_of_the_catalogue_is_there_before_it_moves() -> None:
    """Fails when a metric is declared and left out of METRICS."""
    declared = {value.name for value in vars(catalogue).values() if isinstance(value, Metric)}
    assert declared == {metric.name for metric in catalogue.METRICS}
    text = Metrics().exposition().decode()
    assert all(metric.name.removesuffix("_total") in text for metric in catalogue.METRICS)


def test_a_metric_without_advice_is_refused() -> None:
    """Fails when nobody need say what to do about a metric."""
    with pytest.raises(ValueError, match="what to do"):
        Metric("oms_x_total", "counter", "things", "Things.", "")


def test_the_observer_moves_every_metric_of_the_runtime() -> None:
    """Fails when a method of the observer writes to the wrong metric or to none."""
    metrics = Metrics()
    observer = PrometheusObserver(metrics)
    observer.batch("main", "order.audited", 10, 2, 0.05)
    observer.parked("order.audited", "invalid")
    observer.quarantined("channel.orders", "bad_json")
    observer.skipped_type("order.audited", "order.audited.v9")
    observer.relayed("stock.reserved", 8, 0.01)
    observer.outbox(7, 1.5)
    observer.task("instruct", "done", 0.2)
    observer.tasks_due("instruct", 3)
    observer.waiting("receiver", 4, 130.0)
    observer.breaker("main", "open")
    observer.lag("main", "order.audited", 99)
    observer.paused("main", "database")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
    }
    expected = {
        ("oms_records_consumed_total", "main", "order.audited"): 10,
        ("oms_records_duplicate_total", "main", "order.audited"): 2,
        ("oms_records_parked_total", "invalid", "order.audited"): 1,
        ("oms_records_quarantined_total", "bad_json", "channel.orders"): 1,
        ("oms_records_unknown_type_total", "order.audited", "order.audited.v9"): 1,
        ("oms_relay_records_total", "stock.reserved"): 8,
        ("oms_outbox_rows",): 7,
        ("oms_outbox_oldest_seconds",): 1.5,
        ("oms_tasks_run_total", "done", "instruct"): 1,
        ("oms_tasks_due", "instruct"): 3,
        ("oms_waiting_rows", "receiver"): 4,
        ("oms_waiting_oldest_seconds", "receiver"): 130.0,
        ("oms_breaker_state", "main"): 2,
        ("oms_consumer_lag_records", "main", "order.audited"): 99,
        ("oms_consumer_paused_total", "database", "main"): 1,
    }
    assert {key: samples.get(key) for key in expected} == expected


def test_senders_cannot_fill_memory_with_type_names() -> None:
    """Fails when each unknown type makes a time series of its own."""
    metrics = Metrics()
    observer = PrometheusObserver(metrics)
    for number in range(500):
        observer.skipped_type("channel.orders", f"type-{number}")
    assert metrics.exposition().decode().count("oms_records_unknown_type_total{event_type=") <= 101


async def test_ready_only_while_every_check_holds() -> None:
    """Fails when one failed check still answers 200, or when its reason is lost or unmasked."""
    checks: list[Check] = [Check("database", ok=True)]

    async def ready(_: Request) -> Sequence[Check]:
        return checks

    app = FastAPI()
    app.include_router(health_routes(ready, Metrics()))
    async with client_of(app) as client:
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        checks.append(Check("broker", ok=False, detail="login oms:p4ss at kafka://oms:p4ss@host"))
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["checks"][1] == {"name": "broker", "ok": False, "detail": "login oms:p4ss at kafka://oms:***@host"}
        assert "oms_outbox_rows" in (await client.get("/metrics")).text


async def test_a_check_that_raises_or_hangs_is_a_failed_check() -> None:
    """Fails when a probe gets a 500 or no answer at all."""

    async def raises(_: Request) -> Sequence[Check]:
        raise ConnectionError("postgresql://oms:p4ss@db")

    async def hangs(_: Request) -> Sequence[Check]:
        await asyncio.Event().wait()
        return []

    for ready, detail in ((raises, "ConnectionError"), (hangs, "no answer within 0.05 s")):
        app = FastAPI()
        app.include_router(health_routes(ready, Metrics(), ready_seconds=0.05))
        async with client_of(app) as client:
            answer = await client.get("/readyz")
            assert answer.status_code == 503
            assert answer.json() == {"ready": False, "checks": [{"name": "readiness", "ok": False, "detail": detail}]}


async def test_requests_are_counted_by_route_template_and_probes_are_not() -> None:
    """Fails when ids become labels or an exception is counted as a success."""
    metrics = Metrics()
    app = FastAPI()
    app.add_middleware(HttpMetrics, metrics=metrics)

    @app.get("/v1/stock/{sku_id}")
    async def stock(sku_id: str) -> str:
        if sku_id == "bad":
            raise RuntimeError
        return sku_id

    async with client_of(app) as client:
        for path in ("/v1/stock/a", "/v1/stock/b", "/v1/stock/bad", "/nowhere/a", "/livez"):
            await client.get(path)
    text = metrics.exposition().decode()
    assert 'oms_http_requests_total{method="GET",route="/v1/stock/{sku_id}",status_code="200"} 2.0' in text
    assert 'oms_http_requests_total{method="GET",route="/v1/stock/{sku_id}",status_code="500"} 1.0' in text
    assert 'route="unmatched",status_code="404"} 1.0' in text
    assert "livez" not in text
