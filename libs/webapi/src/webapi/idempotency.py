"""Idempotency keys, kept in the database: the answer is stored in the transaction of the effect, so both are there or none."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import Depends, Header
from sqlalchemy import Column, DateTime, Index, LargeBinary, MetaData, SmallInteger, Table, Text, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from webapi.callers import Principal
from webapi.problems import FieldError, Problem

KEEP = timedelta(days=7)  # Channels retry for three days at most; a week covers a long weekend's outage.
SWEEP_ROWS = 5_000  # One slice takes some 50 ms, and its locks disturb nobody.


def idempotency_table(metadata: MetaData) -> Table:
    """The service's table of answers; its DDL is `webapi.migrations.upgrade`."""
    return Table(
        "idempotency_key",
        metadata,
        Column("principal", Text, primary_key=True),
        Column("route", Text, primary_key=True),
        Column("key", Text, primary_key=True),
        Column("request_hash", LargeBinary, nullable=False),
        Column("status_code", SmallInteger, nullable=False),
        Column("body", Text, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False),
        Index("idempotency_key_created_at", "created_at"),
    )


@dataclass(frozen=True)
class StoredResponse:
    """An answer that can be given again: a status and a JSON-ready body."""

    status: int
    body: Any
    replayed: bool = False

    def response(self) -> Response:
        headers = {"Idempotency-Replayed": "true"} if self.replayed else None
        return JSONResponse(self.body, status_code=self.status, headers=headers)


@dataclass(frozen=True)
class OnceKey:
    """The request's idempotency key, if it has one; a dependency of routes (`once: Once`)."""

    key: str | None
    route: str
    request_hash: bytes

    async def run(
        self,
        connection: AsyncConnection,
        table: Table,
        principal: Principal,
        call: Callable[[], Awaitable[StoredResponse]],
        *,
        now: datetime,
    ) -> StoredResponse:
        """Run `call` once per key; without a key, run it."""
        if self.key is None:
            return await call()
        return await run_once(
            connection,
            table,
            principal=principal.name,
            route=self.route,
            key=self.key,
            request_hash=self.request_hash,
            call=call,
            now=now,
        )


async def once_key(
    request: Request,
    idempotency_key: Annotated[
        str | None, Header(description="Send the same key with a repeated request: it is carried out once.")
    ] = None,
) -> OnceKey:
    if idempotency_key is not None and not (
        1 <= len(idempotency_key) <= 255 and idempotency_key.isascii() and idempotency_key.isprintable()
    ):
        raise Problem("bad_idempotency_key", status=422, errors=[FieldError("Idempotency-Key", "bad_idempotency_key")])
    digest = hashlib.sha256(request.scope["query_string"] + b"\n")
    if idempotency_key is not None:
        digest.update(await request.body())
    return OnceKey(idempotency_key, f"{request.method} {request.url.path}", digest.digest())


Once = Annotated[OnceKey, Depends(once_key)]


async def run_once(
    connection: AsyncConnection,
    table: Table,
    *,
    principal: str,
    route: str,
    key: str,
    request_hash: bytes,
    call: Callable[[], Awaitable[StoredResponse]],
    now: datetime,
) -> StoredResponse:
    """Run `call` inside the connection's transaction unless this key was answered before.

    Same key and same request: the stored answer. Same key, another request: 422. Running elsewhere right now: 409. A
    `Problem` raised by `call` rolls everything back, so the caller may correct and repeat it with the same key. An advisory
    lock, not a row, says "running": it ends with the transaction, also when the process dies.
    """
    name = json.dumps(["idempotency", principal, route, key], ensure_ascii=False)
    locked = await connection.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(name, 0))))
    if not locked:
        raise Problem("idempotency_in_progress", status=409, retry_after_seconds=1)
    # A statement of its own, after the lock: its snapshot sees what the lock's last holder committed.
    row = (
        await connection.execute(
            select(table.c.request_hash, table.c.status_code, table.c.body).where(
                table.c.principal == principal, table.c.route == route, table.c.key == key
            )
        )
    ).one_or_none()
    if row is not None:
        if row.request_hash != request_hash:
            raise Problem("idempotency_key_reused", status=422)
        return StoredResponse(row.status_code, json.loads(row.body), replayed=True)
    answer = await call()
    await connection.execute(
        insert(table).values(
            principal=principal,
            route=route,
            key=key,
            request_hash=request_hash,
            status_code=answer.status,
            body=json.dumps(answer.body, ensure_ascii=False, separators=(",", ":")),
            created_at=now,
        )
    )
    return answer


async def sweep_idempotency_keys(connection: AsyncConnection, table: Table, *, now: datetime) -> int:
    """Delete one slice of answers older than a week; how many. Call again while it is a full slice (`SWEEP_ROWS`)."""
    old = (
        select(table.c.principal, table.c.route, table.c.key)
        .where(table.c.created_at < now - KEEP)
        .order_by(table.c.created_at)
        .limit(SWEEP_ROWS)
        .with_for_update(skip_locked=True)
        .cte("old")
    )
    gone = await connection.execute(
        delete(table).where(table.c.principal == old.c.principal, table.c.route == old.c.route, table.c.key == old.c.key)
    )
    return gone.rowcount
