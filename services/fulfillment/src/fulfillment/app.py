"""Composition: settings, engine, consumers, timers, routes, one lifespan that owns every task."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from contracts import AllocatedOrderChanged, CatalogLocation, ReceiverSealed, StockAllocated, StopRequested
from eventing import (
    Call,
    CompactedRoute,
    Consumer,
    KafkaBroker,
    NewTask,
    Observer,
    Route,
    Runtime,
    Task,
    Timer,
    UnitOfWork,
    create_engine,
)
from eventing.broker import Broker
from eventing.clock import Clock, IdSource
from fulfillment import __version__, api, handlers, tables
from fulfillment.clients import Wms
from fulfillment.settings import Settings
from telemetry import PrometheusObserver
from webapi.app import ProcessRole, create_app
from webapi.idempotency import SWEEP_ROWS, sweep_idempotency_keys
from webapi.operators import operator_routes
from webapi.process import ServiceProcess
from webapi.runtime import runtime_settings

DESCRIPTION = """
Drives the place until the parcel leaves, numbers it, and follows it to the buyer.

*Fulfilment order*: what one place has to do for one order; its `status` (the work) and its `request_status` (what the
place said) are apart. *Shipment*: a parcel that has left, or goods handed over. *Waybill series*: where a carrier's
numbers come from. *Stop*: units that shall not leave; answered by their places, always. *Case*: what people must look
at. Receivers are sealed; only a label shows one, to `pii.read`, and each look is noted.
"""
API_CONNECTIONS = 5
WORKER_CONNECTIONS = 4
WMS_CALLS = 8  # At most so many calls of a kind at once, and so many connections for their short transactions.
WMS_SECONDS = 30.0  # Above the longest time-out that a place may set (20 s), with room for two transactions.
SWEEP_IDEMPOTENCY = "sweep_idempotency"
SWEEP_PAUSE = timedelta(hours=1)  # Answers are kept for days: an hour more is nothing.


def consumers(settings: Settings) -> list[Consumer]:
    policy = settings.policy()
    days = timedelta(days=settings.pick_up_days)
    return [
        Consumer(
            "main",
            routes=[
                Route(StockAllocated, partial(handlers.on_stock_allocated, policy=policy, pick_up_days=days)),
                Route(StopRequested, partial(handlers.on_stop_requested, policy=policy)),
                Route(AllocatedOrderChanged, partial(handlers.on_allocated_order_changed, policy=policy)),
            ],
        ),
        # A group of its own, so that receivers never wait behind orders that wait for them.
        Consumer("receivers", routes=[Route(ReceiverSealed, handlers.on_receiver_sealed)], claim="natural"),
    ]


def timers(settings: Settings) -> list[Timer]:
    policy = settings.policy()
    return [
        Timer(handlers.SHIP, partial(handlers.on_ship_due, policy=policy), batch=300),
        Timer(handlers.DELIVER, handlers.on_deliver_due, batch=300),
        Timer(handlers.RETRY_WAYBILL, partial(handlers.on_retry_waybill, policy=policy), batch=20),
        Timer(handlers.counter.PICK_UP_EXPIRY, handlers.counter.on_pick_up_expiry),
        Timer(SWEEP_IDEMPOTENCY, on_sweep_idempotency),
    ]


def calls(settings: Settings, wms: Wms, work: Callable[[], AbstractAsyncContextManager[UnitOfWork]]) -> list[Call[Any]]:
    connector = handlers.WmsCalls(wms, work, keks=settings.keks(), policy=settings.policy())
    return [
        Call(
            handlers.INSTRUCT,
            call=connector.instruct,
            record=connector.record_instructed,
            concurrency=WMS_CALLS,
            timeout_seconds=WMS_SECONDS,
        ),
        Call(
            handlers.STOP,
            call=connector.stop,
            record=connector.record_stopped,
            concurrency=WMS_CALLS,
            timeout_seconds=WMS_SECONDS,
        ),
    ]


async def on_sweep_idempotency(tasks: Sequence[Task], work: UnitOfWork) -> None:
    """Drop old answers slice by slice; a full slice means that there are more."""
    gone = await sweep_idempotency_keys(work.connection, tables.idempotency_key, now=work.now)
    pause = timedelta(0) if gone >= SWEEP_ROWS else SWEEP_PAUSE
    work.add_tasks(NewTask(task.kind, task.key, work.now + pause) for task in tasks)


def build_runtime(
    settings: Settings,
    *,
    role: ProcessRole = "all",
    engine: AsyncEngine | None = None,
    broker: Broker | None = None,
    observer: Observer | None = None,
    clock: Clock | None = None,
    ids: IdSource | None = None,
    wms: Wms | None = None,
) -> Runtime:
    """The service without its HTTP; tests give their own engine, bus, clock, ids and WMS."""

    def work() -> AbstractAsyncContextManager[UnitOfWork]:
        return runtime.work()

    connections = {"api": API_CONNECTIONS, "worker": WORKER_CONNECTIONS, "all": API_CONNECTIONS + WORKER_CONNECTIONS}
    runtime = Runtime(
        service="fulfillment",
        engine=engine or create_engine(settings.database_url.get_secret_value(), pool_size=connections[role]),
        broker=broker or KafkaBroker(settings.kafka_bootstrap_servers, settings.topic_prefix),
        tables=tables.runtime,
        consumers=consumers(settings),
        compacted=[CompactedRoute(CatalogLocation, handlers.on_catalog_locations)],
        tasks=[*timers(settings), *calls(settings, wms or Wms(settings.wms_keys()), work)],
        settings=runtime_settings(settings, version=__version__),
        observer=observer,
        clock=clock,
        ids=ids,
        role=role,
    )
    return runtime


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    observer = PrometheusObserver(app.state.metrics)
    wms = Wms(app.state.settings.wms_keys())
    runtime = app.state.runtime = build_runtime(app.state.settings, role=app.state.role, observer=observer, wms=wms)
    async with aclosing(wms), runtime:
        if app.state.role != "api":
            async with runtime.work() as work:
                work.add_tasks([NewTask(SWEEP_IDEMPOTENCY, "all", work.now)])
        yield


def build(settings: Settings, role: ProcessRole) -> FastAPI:
    return create_app(
        service="fulfillment",
        title="Fulfilment",
        version=__version__,
        description=DESCRIPTION,
        settings=settings,
        role=role,
        lifespan=lifespan,
        routers=[*api.routers, operator_routes(api.runtime_of, tables.manual_act)],
        ready_checks=lambda app: app.state.runtime.readiness(),
    )


SERVICE = ServiceProcess(name="fulfillment", settings=Settings, build=build)
