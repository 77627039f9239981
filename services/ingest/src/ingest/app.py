"""Composition of the ingest service, and nothing else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from contracts import ORDER_KEYED, TOPICS, CancellationSettled, CatalogItem, ChangeSettled, ChannelOrder
from eventing import (
    Check,
    CompactedRoute,
    Consumer,
    ForeignRoute,
    KafkaBroker,
    NewTask,
    NullObserver,
    Observer,
    RawRoute,
    Route,
    Runtime,
    RuntimeSettings,
    Timer,
    create_engine,
)
from eventing.broker import Broker
from eventing.clock import Clock, IdSource
from ingest import api, tables
from ingest.handlers import SWEEP, WAKE, Handlers, on_sweep_due
from ingest.intake import Gateway
from ingest.privacy import Envelope, Tokens
from ingest.settings import Settings
from telemetry import PrometheusObserver
from webapi.app import ProcessRole, create_app
from webapi.operators import operator_routes
from webapi.process import ServiceProcess
from webapi.runtime import runtime_settings
from webapi.settings import key_bytes

VERSION = "0.1.0"
API_CONNECTIONS = 5
BOOK_TOPICS = tuple(topic for topic in ORDER_KEYED if "ingest" in TOPICS[topic].readers)
"""Everything that is keyed by an order; stock documents are keyed like orders, but are none."""
WORKER_CONNECTIONS = 6  # Three consumers, the catalogue, relay and tasks.


def make_tokens(settings: Settings) -> Tokens:
    return Tokens(key_bytes(settings.token_key))


def older_keys(settings: Settings) -> dict[str, bytes]:
    """Key-encryption keys that were in force before, by name."""
    if settings.receiver_older_keks_file is None:
        return {}
    keys = json.loads(settings.receiver_older_keks_file.read_bytes())
    return {name: key_bytes(SecretStr(key)) for name, key in keys.items()}


def make_gateway(settings: Settings, tokens: Tokens) -> Gateway:
    envelope = Envelope(key_bytes(settings.receiver_kek), settings.receiver_kek_id, older_keys(settings))
    return Gateway(
        envelope=envelope,
        tokens=tokens,
        note_keywords=settings.note_keywords,
        refunds_from_versions=settings.refunds_from_versions,
    )


def make_runtime(
    engine: AsyncEngine,
    broker: Broker,
    runtime_settings: RuntimeSettings,
    *,
    settings: Settings,
    gateway: Gateway,
    role: ProcessRole = "all",
    observer: Observer | None = None,
    clock: Clock | None = None,
    ids: IdSource | None = None,
) -> Runtime:
    handlers = Handlers(gateway, wake_batch=settings.wake_batch)
    return Runtime(
        service="ingest",
        engine=engine,
        broker=broker,
        tables=tables.runtime,
        consumers=[
            Consumer(
                "main",
                routes=[
                    ForeignRoute(
                        ChannelOrder,
                        handlers.on_channel_orders,
                        identify=handlers.identify,
                        scope=lambda order: f"{order.channel}:{order.shop_id}",
                    )
                ],
            ),
            Consumer("book", routes=[RawRoute(topic, handlers.on_progress) for topic in BOOK_TOPICS], claim="natural"),
            # A group of its own: what closes requests must not slow the book, nor the book's lag delay it.
            Consumer(
                "requests",
                routes=[Route(CancellationSettled, handlers.on_settled), Route(ChangeSettled, handlers.on_settled)],
            ),
        ],
        compacted=[CompactedRoute(CatalogItem, apply=handlers.on_catalog_items)],
        tasks=[Timer(WAKE, handlers.on_wake_due, batch=20), Timer(SWEEP, on_sweep_due)],
        settings=runtime_settings,
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
    engine = create_engine(settings.database_url.get_secret_value(), pool_size=connections[role], application_name="ingest")
    app.state.tokens = make_tokens(settings)
    app.state.gateway = make_gateway(settings, app.state.tokens)
    app.state.backlog = api.Backlog()
    app.state.gathering = api.Gathering()
    app.state.runtime = make_runtime(
        engine,
        KafkaBroker(settings.kafka_bootstrap_servers, settings.topic_prefix),
        runtime_settings(settings, version=VERSION),
        settings=settings,
        gateway=app.state.gateway,
        role=role,
        observer=PrometheusObserver(app.state.metrics),
    )
    try:
        async with app.state.runtime as runtime:
            async with runtime.work() as work:
                work.add_tasks([NewTask(SWEEP, "idempotency_key", work.now)])
            yield
    finally:
        await engine.dispose()


async def ready_checks(app: FastAPI) -> Sequence[Check]:
    runtime: Runtime = app.state.runtime
    return await runtime.readiness()


def build(settings: Settings, role: ProcessRole) -> FastAPI:
    return create_app(
        service="ingest",
        title="Ingest",
        version=VERSION,
        description="Takes channel orders in, keeps receivers sealed, and knows where every order is and why.",
        settings=settings,
        role=role,
        lifespan=lifespan,
        routers=[*api.ROUTERS, operator_routes(api.runtime_of, tables.manual_act)],
        ready_checks=ready_checks,
    )


SERVICE = ServiceProcess(name="ingest", settings=Settings, build=build)
