"""Composition of the router service, and nothing else."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from contracts import CatalogLocation, StockReserved
from eventing import (
    Check,
    CompactedRoute,
    Consumer,
    KafkaBroker,
    NewTask,
    NullObserver,
    Observer,
    Route,
    Runtime,
    RuntimeSettings,
    Timer,
    create_engine,
)
from eventing.broker import Broker
from eventing.clock import Clock, IdSource
from router import api, tables
from router.handlers import PURGE, Routing, on_purge_due
from router.settings import Settings
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
    routing: Routing,
    *,
    decision_days: int,
    role: ProcessRole = "all",
    observer: Observer | None = None,
    clock: Clock | None = None,
    ids: IdSource | None = None,
) -> Runtime:
    return Runtime(
        service="router",
        engine=engine,
        broker=broker,
        tables=tables.runtime,
        consumers=[Consumer("main", routes=[Route(StockReserved, routing.on_stock_reserved)])],
        compacted=[CompactedRoute(CatalogLocation, routing.on_locations)],
        tasks=[Timer(PURGE, partial(on_purge_due, keep_days=decision_days))],
        settings=settings,
        observer=observer or NullObserver(),
        clock=clock,
        ids=ids,
        role=role,
    )


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    role: ProcessRole = app.state.role
    connections = {"api": API_CONNECTIONS, "worker": WORKER_CONNECTIONS, "all": API_CONNECTIONS + WORKER_CONNECTIONS}
    engine = create_engine(settings.database_url.get_secret_value(), pool_size=connections[role], application_name="router")
    app.state.routing = Routing()
    app.state.runtime = make_runtime(
        engine,
        KafkaBroker(settings.kafka_bootstrap_servers, settings.topic_prefix),
        runtime_settings(settings, version=VERSION),
        app.state.routing,
        decision_days=settings.decision_days,
        role=role,
        observer=PrometheusObserver(app.state.metrics),
    )
    try:
        async with app.state.runtime:
            if role != "api":
                async with app.state.runtime.work() as work:
                    work.add_tasks([NewTask(PURGE, "all", work.now)])
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
        service="router",
        title="Router",
        version=VERSION,
        description="Ranks the places that could ship an order.",
        settings=settings,
        role=role,
        lifespan=lifespan,
        routers=[*api.routers, operator_routes(runtime_of, tables.manual_act)],
        ready_checks=ready_checks,
    )


SERVICE = ServiceProcess(name="router", settings=Settings, build=build)
