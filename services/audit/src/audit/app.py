"""Composition of the audit service, and nothing else."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from audit import api, tables
from audit.handlers.desk import AUTO_RELEASE, RECHECK
from audit.handlers.holds import DEFERRED_ACT, Rechecker, on_acts_due, on_release_due
from audit.handlers.judging import ActiveRules
from audit.handlers.received import Auditor, on_catalog_items
from audit.settings import Settings
from contracts import CancelRequested, CancelWithdrawn, CatalogItem, ChangeRequested, OrderReceived
from eventing import (
    Check,
    CompactedRoute,
    Consumer,
    KafkaBroker,
    NullObserver,
    Observer,
    Received,
    Route,
    Runtime,
    RuntimeSettings,
    Timer,
    create_engine,
)
from eventing.broker import Broker
from eventing.clock import Clock, IdSource
from telemetry import PrometheusObserver
from webapi.app import ProcessRole, create_app
from webapi.operators import operator_routes
from webapi.process import ServiceProcess
from webapi.runtime import runtime_settings

VERSION = "0.1.0"
API_CONNECTIONS = 5
WORKER_CONNECTIONS = 4


def make_runtime(
    engine: AsyncEngine,
    broker: Broker,
    settings: RuntimeSettings,
    *,
    role: ProcessRole = "all",
    observer: Observer | None = None,
    clock: Clock | None = None,
    ids: IdSource | None = None,
) -> Runtime:
    rules = ActiveRules()
    auditor = Auditor(rules)
    return Runtime(
        service="audit",
        engine=engine,
        broker=broker,
        tables=tables.runtime,
        consumers=[
            Consumer(
                "main",
                routes=[
                    Route(OrderReceived, auditor.on_order_received),
                    # One handler: they are done in the order they came.
                    Route(CancelRequested, auditor.on_requests, supersedes=supersedes_stash),
                    Route(CancelWithdrawn, auditor.on_requests),
                    Route(ChangeRequested, auditor.on_requests),
                ],
            )
        ],
        compacted=[CompactedRoute(CatalogItem, apply=on_catalog_items)],
        tasks=[
            Timer(AUTO_RELEASE, on_release_due),
            Timer(RECHECK, Rechecker(rules).on_recheck_due),
            # Each may be about 500 orders, locked sorted until it commits: two acts in one transaction would not be.
            Timer(DEFERRED_ACT, on_acts_due, batch=1),
        ],
        settings=settings,
        observer=observer or NullObserver(),
        clock=clock,
        ids=ids,
        role=role,
    )


def supersedes_stash(cancel: Received[CancelRequested], head: Received[None]) -> bool:
    """Whether a cancel of a whole order makes the order pointless that waits parked for its first time here."""
    return cancel.event.whole and head.type == OrderReceived.TYPE and head.subject == cancel.key


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    role: ProcessRole = app.state.role
    connections = {"api": API_CONNECTIONS, "worker": WORKER_CONNECTIONS, "all": API_CONNECTIONS + WORKER_CONNECTIONS}
    engine = create_engine(settings.database_url.get_secret_value(), pool_size=connections[role], application_name="audit")
    app.state.runtime = make_runtime(
        engine,
        KafkaBroker(settings.kafka_bootstrap_servers, settings.topic_prefix),
        runtime_settings(settings, version=VERSION),
        role=role,
        observer=PrometheusObserver(app.state.metrics),
    )
    try:
        async with app.state.runtime:
            yield
    finally:
        await engine.dispose()


async def ready_checks(app: FastAPI) -> Sequence[Check]:
    runtime: Runtime = app.state.runtime
    return await runtime.readiness()


def runtime_of(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def build(settings: Settings, role: ProcessRole) -> FastAPI:
    return create_app(
        service="audit",
        title="Audit",
        version=VERSION,
        description="Holds doubtful orders, clears the others.",
        settings=settings,
        role=role,
        lifespan=lifespan,
        routers=[api.router, operator_routes(runtime_of, tables.manual_act)],
        ready_checks=ready_checks,
    )


SERVICE = ServiceProcess(name="audit", settings=Settings, build=build)
