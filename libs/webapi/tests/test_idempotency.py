"""One key, one effect: repeated, changed, at the same time, and when the effect fails."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import Request, Response
from pydantic import SecretStr
from sqlalchemy import Column, MetaData, Table, Text, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from webapi import testing
from webapi.app import create_app
from webapi.callers import Operator
from webapi.idempotency import Once, StoredResponse, idempotency_table, run_once, sweep_idempotency_keys
from webapi.models import StrictModel
from webapi.problems import Problem
from webapi.routing import Router
from webapi.settings import ServiceSettings

pytestmark = pytest.mark.postgres
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
metadata = MetaData()
answers = idempotency_table(metadata)
effect = Table("effect", metadata, Column("what", Text))


@pytest.fixture
async def engine(empty_database: Any) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine((await empty_database()).sqlalchemy)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield engine
    await engine.dispose()


async def attempt(
    engine: AsyncEngine, *, key: str = "k", request_hash: bytes = b"h", principal: str = "p", fails: bool = False
) -> StoredResponse:
    async with engine.begin() as connection:

        async def call() -> StoredResponse:
            await connection.execute(insert(effect).values(what="done"))
            if fails:
                raise Problem("invalid_request", status=422)
            return StoredResponse(202, {"城市": "杭州"})

        return await run_once(
            connection,
            answers,
            principal=principal,
            route="POST /v1/x",
            key=key,
            request_hash=request_hash,
            call=call,
            now=NOW,
        )


async def effects(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int(await connection.scalar(select(func.count()).select_from(effect)) or 0)


async def test_a_repeated_request_gets_the_stored_answer_and_no_second_effect(engine: AsyncEngine) -> None:
    """Fails when a repeated request is carried out twice or answered otherwise."""
    first, second = await attempt(engine), await attempt(engine)
    assert (first.replayed, second.replayed) == (False, True)
    assert (second.status, second.body) == (202, {"城市": "杭州"})
    assert second.response().headers["idempotency-replayed"] == "true"
    assert await effects(engine) == 1


async def test_another_body_under_the_same_key_is_refused(engine: AsyncEngine) -> None:
    """Fails when a caller that re-uses keys gets another request's answer."""
    await attempt(engine)
    with pytest.raises(Problem) as caught:
        await attempt(engine, request_hash=b"other")
    assert (caught.value.status, caught.value.code) == (422, "idempotency_key_reused")


async def test_keys_belong_to_their_caller(engine: AsyncEngine) -> None:
    """Fails when one caller's key hides another's request."""
    await attempt(engine)
    assert not (await attempt(engine, principal="q")).replayed
    assert await effects(engine) == 2


async def test_a_failed_request_leaves_nothing_and_may_be_corrected(engine: AsyncEngine) -> None:
    """Fails when a refusal is stored, or the effect stays without its answer."""
    with pytest.raises(Problem):
        await attempt(engine, fails=True)
    assert await effects(engine) == 0
    assert not (await attempt(engine, request_hash=b"corrected")).replayed


async def test_a_second_request_while_the_first_runs_is_409(engine: AsyncEngine) -> None:
    """Fails when two at once both run, or the second one waits and ties up a connection."""
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> StoredResponse:
        started.set()
        await go_on.wait()
        return StoredResponse(202, None)

    async def first() -> StoredResponse:
        async with engine.begin() as connection:
            return await run_once(
                connection, answers, principal="p", route="POST /v1/x", key="k", request_hash=b"h", call=slow, now=NOW
            )

    running = asyncio.create_task(first())
    await started.wait()
    with pytest.raises(Problem) as caught:
        await attempt(engine)
    assert (caught.value.status, caught.value.code) == (409, "idempotency_in_progress")
    assert caught.value.headers["Retry-After"] == "1"
    go_on.set()
    await running
    assert (await attempt(engine)).replayed


async def test_many_at_once_have_one_effect(engine: AsyncEngine) -> None:
    """Fails when the look-up's snapshot is older than the lock: two requests would both find nothing."""
    done = await asyncio.gather(*(attempt(engine) for _ in range(12)), return_exceptions=True)
    assert all(isinstance(one, StoredResponse) or (isinstance(one, Problem) and one.status == 409) for one in done)
    assert await effects(engine) == 1


async def test_answers_go_after_a_week(engine: AsyncEngine) -> None:
    """Fails when the table grows for ever, or a young answer is swept."""
    await attempt(engine, key="old")
    await attempt(engine, key="young")
    async with engine.begin() as connection:
        eight_days_ago = NOW - timedelta(days=8)
        await connection.execute(update(answers).where(answers.c.key == "old").values(created_at=eight_days_ago))
        assert await sweep_idempotency_keys(connection, answers, now=NOW) == 1
        assert await sweep_idempotency_keys(connection, answers, now=NOW + timedelta(days=6)) == 0
    assert (await attempt(engine, key="young")).replayed


async def test_over_http_the_header_makes_a_request_repeatable(engine: AsyncEngine) -> None:
    """Fails when the body is not part of the key's meaning, or the header is not checked."""
    router = Router(prefix="/v1")

    class Body(StrictModel):
        what: str

    @router.post("/effects")
    async def add_effect(request: Request, body: Body, once: Once, principal: Operator) -> Response:
        async with engine.begin() as connection:

            async def call() -> StoredResponse:
                await connection.execute(insert(effect).values(what=body.what))
                return StoredResponse(201, {"what": body.what})

            stored = await once.run(connection, answers, principal, call, now=NOW)
        return stored.response()

    settings = ServiceSettings(database_url=SecretStr("postgresql://unused"))
    app = create_app(service="s", title="s", version="1", settings=settings, routers=[router])
    async with testing.client(app, roles=["operator"]) as http:

        async def post(what: str, key: str | None) -> httpx.Response:
            return await http.post("/v1/effects", json={"what": what}, headers={"Idempotency-Key": key} if key else {})

        assert [(await post("a", "1")).status_code for _ in range(2)] == [201, 201]
        assert (await post("a", "1")).json() == {"what": "a"}
        assert (await post("b", "1")).json()["code"] == "idempotency_key_reused"
        assert [(await post("a", None)).status_code for _ in range(2)] == [201, 201]
        assert (await post("a", "x" * 256)).json()["code"] == "bad_idempotency_key"
    assert await effects(engine) == 3
