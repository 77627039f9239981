"""What services' tests need of this library: a client with a key, and a lifespan that runs."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

from webapi.callers import Callers, new_key


@asynccontextmanager
async def client(
    app: FastAPI, *, roles: Iterable[str] = ("admin",), principal: str = "tester"
) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the application, in process, as a caller with these roles; the lifespan runs meanwhile."""
    async with app.router.lifespan_context(app), as_caller(app, roles=roles, principal=principal) as http:
        yield http


@asynccontextmanager
async def as_caller(app: FastAPI, *, roles: Iterable[str], principal: str = "tester") -> AsyncIterator[httpx.AsyncClient]:
    """Another caller of an application that runs already."""
    key, _ = new_key()
    callers: Callers = app.state.callers
    callers.add(principal, key, roles)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test", headers={"X-API-Key": key}
    ) as http:
        yield http
