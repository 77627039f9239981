"""Composition of the sample service."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import create_async_engine

from sample import tables
from sample.settings import Settings
from telemetry import Check
from webapi.app import ProcessRole, create_app
from webapi.callers import Viewer
from webapi.process import ServiceProcess
from webapi.routing import Router

router = Router(prefix="/v1")


@router.get("/things/count")
async def count_things(request: Request, principal: Viewer) -> int:
    async with request.app.state.engine.connect() as connection:
        count: int = await connection.scalar(select(func.count()).select_from(tables.thing))
        return count


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    url = settings.database_url.get_secret_value().replace("postgresql://", "postgresql+asyncpg://", 1)
    app.state.engine = create_async_engine(url, pool_size=1)
    yield
    await asyncio.sleep(settings.stop_seconds)
    await app.state.engine.dispose()


async def ready(app: FastAPI) -> Sequence[Check]:
    async with app.state.engine.connect() as connection:
        await connection.execute(select(tables.thing.c.thing_id).limit(1))
    return [Check("database", ok=True)]


def build(settings: Settings, role: ProcessRole) -> FastAPI:
    return create_app(
        service="sample",
        title="Sample",
        version="1",
        settings=settings,
        role=role,
        lifespan=lifespan,
        routers=[router],
        ready_checks=ready,
    )


SERVICE = ServiceProcess(name="sample", settings=Settings, build=build)
