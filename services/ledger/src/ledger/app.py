"""Composition of the ledger service, and nothing else."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from contracts import (
    ChangeRequested,
    OrderReceived,
    ReceiptConfirmed,
    RefundSettled,
    ReturnReceived,
    ShipmentCreated,
    ShipmentProgressed,
    StockAdjusted,
)
from eventing import (
    Check,
    Consumer,
    KafkaBroker,
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
from ledger import tables
from ledger.api import ROUTERS
from ledger.api.setup import runtime_of
from ledger.handlers import FOLD, Bookkeeper, Folder
from ledger.settings import Settings
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
    bookkeeper: Bookkeeper,
    folder: Folder,
    role: ProcessRole = "all",
    observer: Observer | None = None,
    clock: Clock | None = None,
    ids: IdSource | None = None,
) -> Runtime:
    return Runtime(
        service="ledger",
        engine=engine,
        broker=broker,
        tables=tables.runtime,
        # The voucher's (claim, template) is unique: no inbox rows, and a duplicate is found however old it is.
        consumers=[
            Consumer(
                "main",
                routes=[
                    Route(OrderReceived, bookkeeper.on_facts),
                    Route(ChangeRequested, bookkeeper.on_facts),
                    Route(ReceiptConfirmed, bookkeeper.on_facts),
                    Route(ShipmentCreated, bookkeeper.on_facts),
                    Route(ShipmentProgressed, bookkeeper.on_facts),
                    Route(ReturnReceived, bookkeeper.on_facts),
                    Route(RefundSettled, bookkeeper.on_facts),
                    Route(StockAdjusted, bookkeeper.on_facts),
                ],
                claim="natural",
            )
        ],
        tasks=[Timer(FOLD, folder.on_fold_due)],
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
    engine = create_engine(settings.database_url.get_secret_value(), pool_size=connections[role], application_name="ledger")
    folder = Folder(settings.book, every_seconds=settings.fold_seconds, rows=settings.fold_rows)
    app.state.runtime = runtime = make_runtime(
        engine,
        KafkaBroker(settings.kafka_bootstrap_servers, settings.topic_prefix),
        runtime_settings(settings, version=VERSION),
        bookkeeper=Bookkeeper(settings.book),
        folder=folder,
        role=role,
        observer=PrometheusObserver(app.state.metrics),
    )
    try:
        async with runtime:
            if role != "api":
                async with runtime.work() as work:
                    folder.schedule(work)
            yield
    finally:
        await engine.dispose()


async def ready_checks(app: FastAPI) -> Sequence[Check]:
    runtime: Runtime = app.state.runtime
    return await runtime.readiness()


def build(settings: Settings, role: ProcessRole) -> FastAPI:
    return create_app(
        service="ledger",
        title="Ledger",
        version=VERSION,
        description="Books every fact as a balanced, numbered, chained voucher; trial balance and profit.",
        settings=settings,
        role=role,
        lifespan=lifespan,
        routers=[*ROUTERS, operator_routes(runtime_of, tables.manual_act)],
        ready_checks=ready_checks,
    )


SERVICE = ServiceProcess(name="ledger", settings=Settings, build=build)
