"""Composition of the inventory service, and nothing else."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from contracts import (
    AllocationReturned,
    CancelForwarded,
    ChangeForwarded,
    OrderAudited,
    OrderRouted,
    ReturnReceived,
    ShipmentCreated,
    StopAnswered,
    WithdrawalForwarded,
)
from eventing import (
    Check,
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
from inventory import api, tables
from inventory.handlers.audited import on_order_audited
from inventory.handlers.booking import DISPROVE, SHRINK, on_disprove
from inventory.handlers.context import Inventory
from inventory.handlers.keeping_back import APPLY_SAFETY, on_apply_safety
from inventory.handlers.redriving import REDRIVE, RETRY_STUCK, on_redrive, on_retry_stuck
from inventory.handlers.requests import on_in_band
from inventory.handlers.resending import RESEND, on_resend
from inventory.handlers.returned_goods import on_return_received
from inventory.handlers.routed import on_order_routed
from inventory.handlers.shipped import on_shipment_created
from inventory.handlers.shrinking import ONE, RECALL, on_recall, on_shrink
from inventory.handlers.waking import WAKE, on_wake
from inventory.levels import sending_levels
from inventory.settings import Settings
from telemetry import PrometheusObserver
from webapi.app import ProcessRole, create_app
from webapi.operators import operator_routes
from webapi.process import ServiceProcess
from webapi.runtime import runtime_settings

VERSION = "0.1.0"
API_CONNECTIONS = 5
WORKER_CONNECTIONS = 4
WAKE_BATCH = 20
"""SKUs woken in one transaction: each may wake hundreds of orders."""


def make_runtime(
    engine: AsyncEngine,
    broker: Broker,
    settings: RuntimeSettings,
    inventory: Inventory,
    *,
    role: ProcessRole = "all",
    observer: Observer | None = None,
    clock: Clock | None = None,
    ids: IdSource | None = None,
) -> Runtime:
    in_band = partial(on_in_band, inventory)  # One handler for all of it keeps a root's requests in their order.
    return Runtime(
        service="inventory",
        engine=engine,
        broker=broker,
        tables=tables.runtime,
        consumers=[
            Consumer(
                "main",
                # Handlers of one batch share its transaction and run in this order: those that lock pool rows come first.
                routes=[
                    Route(OrderAudited, partial(on_order_audited, inventory)),
                    Route(CancelForwarded, in_band, supersedes=supersedes_stash),
                    Route(WithdrawalForwarded, in_band),
                    Route(ChangeForwarded, in_band),
                    Route(AllocationReturned, in_band),
                    Route(StopAnswered, in_band),
                    Route(ReturnReceived, partial(on_return_received, inventory)),
                    Route(OrderRouted, partial(on_order_routed, inventory)),
                    Route(ShipmentCreated, partial(on_shipment_created, inventory)),
                ],
            )
        ],
        tasks=[
            Timer(WAKE, partial(on_wake, inventory), batch=WAKE_BATCH),
            Timer(RETRY_STUCK, partial(on_retry_stuck, inventory)),
            Timer(REDRIVE, partial(on_redrive, inventory), batch=1),
            Timer(SHRINK, partial(on_shrink, inventory), batch=ONE),
            Timer(RECALL, partial(on_recall, inventory), batch=ONE),
            Timer(DISPROVE, partial(on_disprove, inventory)),
            Timer(APPLY_SAFETY, partial(on_apply_safety, inventory)),
            Timer(RESEND, on_resend),
        ],
        settings=settings,
        observer=observer or NullObserver(),
        clock=clock,
        ids=ids,
        role=role,
    )


def supersedes_stash(cancel: Received[CancelForwarded], head: Received[None]) -> bool:
    """Whether a cancel of a whole order makes the order pointless that waits parked for its first time here."""
    return cancel.event.whole and head.type == OrderAudited.TYPE and head.subject == cancel.key


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    role: ProcessRole = app.state.role
    connections = {"api": API_CONNECTIONS, "worker": WORKER_CONNECTIONS, "all": API_CONNECTIONS + WORKER_CONNECTIONS}
    engine = create_engine(settings.database_url.get_secret_value(), pool_size=connections[role], application_name="inventory")
    app.state.inventory = inventory = Inventory(settings)
    app.state.runtime = runtime = make_runtime(
        engine,
        KafkaBroker(settings.kafka_bootstrap_servers, settings.topic_prefix),
        runtime_settings(settings, version=VERSION),
        inventory,
        role=role,
        observer=PrometheusObserver(app.state.metrics),
    )
    try:
        async with runtime, sending_levels(inventory.levels, runtime.work, settings):
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
        service="inventory",
        title="Inventory",
        version=VERSION,
        description="Owns SKUs, places and stock: holds orders against a pool, pins them to a place, counts what leaves.",
        settings=settings,
        role=role,
        lifespan=lifespan,
        routers=[api.router, operator_routes(runtime_of, tables.manual_act)],
        ready_checks=ready_checks,
    )


SERVICE = ServiceProcess(name="inventory", settings=Settings, build=build)
