"""Parked, quarantined and overdue work over HTTP, on the real operations and a real database."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import MetaData, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

import eventing.migrations
import eventing.tables
from contracts.envelope import Event
from eventing.clock import SystemClock, TimeOrderedIds
from eventing.database import create_engine
from eventing.observe import NullObserver
from eventing.operations import Operations
from eventing.parking import seal_headers
from eventing.reading import Reader
from eventing.routes import Route
from eventing.sealing import AesGcmSealer
from eventing.work import UnitOfWork
from webapi import testing
from webapi.app import create_app
from webapi.operators import manual_act_table, operator_routes
from webapi.settings import ServiceSettings

pytestmark = pytest.mark.postgres
metadata = MetaData()
tables = eventing.tables.define(metadata)
manual_act = manual_act_table(metadata)
SEALER = AesGcmSealer(b"k" * 32)
WHY = {"reason": "checked with the shop 已核对"}
BODY = '{"quantity": "x", "receiver": "张三丰"}'.encode()


class Counted(Event):
    TOPIC: ClassVar[str] = "things.counted"
    TYPE: ClassVar[str] = "things.counted"
    quantity: int


class Runtime:
    """As much of `eventing.Runtime` as the routes use, on the real operations."""

    def __init__(self, engine: AsyncEngine) -> None:
        async def handle(received: Any, work: UnitOfWork) -> None: ...

        readers: Mapping[str, Reader] = {"main": Reader([Route(Counted, handle)], NullObserver())}
        self.engine = engine
        self.operations = Operations(engine, tables, clock=SystemClock(), readers=lambda: readers, sealer=SEALER)

    @asynccontextmanager
    async def work(self) -> AsyncIterator[UnitOfWork]:
        async with self.engine.begin() as connection:
            work = UnitOfWork(connection, now=datetime.now(UTC), ids=TimeOrderedIds(), source="/sample")
            yield work
            await work.flush()


@pytest.fixture
async def engine(empty_database: Any) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(await empty_database())
    async with engine.begin() as connection:
        for statement in eventing.migrations.statements():
            await connection.execute(text(statement))
        await connection.run_sync(manual_act.create)
    yield engine
    await engine.dispose()


@pytest.fixture
def app(engine: AsyncEngine) -> FastAPI:
    runtime = Runtime(engine)
    settings = ServiceSettings(database_url=SecretStr("postgresql://unused"))
    routes = operator_routes(lambda _: runtime, manual_act)
    return create_app(service="s", title="s", version="1", settings=settings, routers=[routes])


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with testing.client(app, roles=["operator"], principal="李四") as client:
        yield client


async def park(engine: AsyncEngine, key: str, offset: int = 1) -> UUID:
    record_id = uuid4()
    headers = seal_headers([("ce_type", b"things.counted"), ("ce_id", str(record_id).encode())], SEALER)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO parked_key (consumer, key, cause, reason_code, reason, topic, parked_at)"
                " VALUES ('main', :key, 'parked', 'schema', 'not a number', 'things.counted', now())"
            ),
            {"key": key},
        )
        await connection.execute(
            text(
                "INSERT INTO parked_record (id, consumer, key, topic, partition, record_offset, record_time, ce_id, type,"
                " content_hash, headers, body, received_at)"
                " VALUES (:id, 'main', :key, 'things.counted', 0, :offset, now(), :id, 'things.counted', :hash, :headers,"
                " :body, now())"
            ),
            {
                "id": record_id,
                "key": key,
                "offset": offset,
                "hash": b"\x01\x02",
                "headers": headers,
                "body": SEALER.seal(BODY),
            },
        )
    return record_id


async def quarantine(engine: AsyncEngine, offset: int) -> UUID:
    record_id = TimeOrderedIds().new_id()
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO quarantine (id, consumer, topic, partition, record_offset, record_time, reason_code, reason,"
                " field, content_hash, headers, body, at) VALUES (:id, 'main', 'things.counted', 0, :offset, now(),"
                " 'schema', 'not a number', 'quantity', :hash, :headers, :body, now())"
            ),
            {
                "id": record_id,
                "offset": offset,
                "hash": b"\x01\x02",
                "headers": seal_headers([], SEALER),
                "body": SEALER.seal(BODY),
            },
        )
    return record_id


async def value(engine: AsyncEngine, sql: str) -> Any:
    async with engine.connect() as connection:
        return await connection.scalar(text(sql))


async def acts_of(http: httpx.AsyncClient) -> list[tuple[str, str, str, str]]:
    page = (await http.get("/v1/operations/acts")).json()
    return [(act["who"], act["act"], act["subject"], act["why"]) for act in page["items"]]


async def test_parked_keys_are_listed_page_by_page(http: httpx.AsyncClient, engine: AsyncEngine) -> None:
    """Fails when a page repeats or skips keys, or a filter is ignored."""
    for number in range(5):
        await park(engine, f"key-{number}", number)
    seen, cursor = [], None
    for _ in range(3):
        page = (await http.get("/v1/operations/parked", params={"limit": 2} | ({"next": cursor} if cursor else {}))).json()
        seen += [item["key"] for item in page["items"]]
        cursor = page["next"]
    assert seen == [f"key-{number}" for number in range(5)]
    assert cursor is None
    (item,) = (await http.get("/v1/operations/parked", params={"key": "key-3"})).json()["items"]
    assert (item["reason_code"], item["records"], item["wish"]) == ("schema", 1, None)
    assert item["parked_at"].endswith("Z")
    assert (await http.get("/v1/operations/parked", params={"code": "other"})).json()["items"] == []


async def test_bodies_are_shown_to_pii_readers_only_and_each_look_is_noted(
    http: httpx.AsyncClient, app: FastAPI, engine: AsyncEngine
) -> None:
    """Fails when a list carries a body, another role opens one, or a look leaves no trace."""
    parked, quarantined = await park(engine, "key"), await quarantine(engine, 1)
    lists = [await http.get(f"/v1/operations/{path}") for path in ("parked/key", "parked", "quarantined")]
    assert all(answer.status_code == 200 and "张三丰" not in answer.text for answer in lists)
    assert lists[0].json()[0]["content_hash"] == "0102"
    paths = [f"/v1/operations/parked/key/records/{parked}/raw", f"/v1/operations/quarantined/{quarantined}/raw"]
    async with testing.as_caller(app, roles=["admin"]) as admin:
        assert [(await admin.get(path, params=WHY)).status_code for path in paths] == [403, 403]
    async with testing.as_caller(app, roles=["pii.read"], principal="王五") as reader:
        assert [(await reader.get(path)).status_code for path in paths] == [422, 422]
        assert [(await reader.get(path, params=WHY)).content for path in paths] == [BODY, BODY]
        missing = await reader.get(f"/v1/operations/quarantined/{uuid4()}/raw", params=WHY)
        assert missing.status_code == 404
    assert await acts_of(http) == [
        ("王五", "read_quarantined", str(quarantined), WHY["reason"]),
        ("王五", "read_parked", "key", WHY["reason"]),
    ]


async def test_retry_and_discard_set_a_wish_and_say_who_and_why(http: httpx.AsyncClient, engine: AsyncEngine) -> None:
    """Fails when an act does nothing, or is done without its note."""
    await park(engine, "key")
    record_id = await quarantine(engine, 1)
    for path, sql in (
        ("parked/key/{}", "SELECT wish FROM parked_key"),
        (f"quarantined/{record_id}/{{}}", "SELECT wish FROM quarantine"),
    ):
        for wish in ("retry", "discard"):
            assert (await http.post(f"/v1/operations/{path.format(wish)}", json=WHY)).status_code == 202
            assert await value(engine, sql) == wish
    assert await acts_of(http) == [
        ("李四", "discard_quarantined", str(record_id), WHY["reason"]),
        ("李四", "retry_quarantined", str(record_id), WHY["reason"]),
        ("李四", "discard_parked", "key", WHY["reason"]),
        ("李四", "retry_parked", "key", WHY["reason"]),
    ]


async def test_an_act_needs_a_reason_and_a_role(http: httpx.AsyncClient, app: FastAPI, engine: AsyncEngine) -> None:
    """Fails when somebody may act in silence, or look with the right to look only."""
    await park(engine, "key")
    for body in ({}, {"reason": ""}, {"reason": "   "}, {"reason": "x" * 501}):
        assert (await http.post("/v1/operations/parked/key/retry", json=body)).status_code == 422
    async with testing.as_caller(app, roles=["viewer"]) as viewer:
        assert (await viewer.post("/v1/operations/parked/key/retry", json=WHY)).status_code == 403
    assert await value(engine, "SELECT wish FROM parked_key") is None
    assert await acts_of(http) == []


async def test_an_edit_is_validated_and_names_the_field(http: httpx.AsyncClient, engine: AsyncEngine) -> None:
    """Fails when a wrong body is stored, or the refusal does not say where."""
    record_id, other_id = await park(engine, "key"), await quarantine(engine, 1)
    for path in (f"parked/key/records/{record_id}", f"quarantined/{other_id}"):
        bad = await http.put(f"/v1/operations/{path}", json=WHY | {"body": {"quantity": "张三丰"}})
        assert (bad.status_code, bad.json()["code"]) == (422, "edit_refused")
        assert bad.json()["errors"][0]["field"] == "body.quantity"
        assert "张三丰" not in bad.text
        assert (await http.put(f"/v1/operations/{path}", json=WHY | {"body": {"quantity": 3}})).status_code == 200
    for table in ("parked_record", "quarantine"):
        assert SEALER.open(await value(engine, f"SELECT body FROM {table}")) == b'{"quantity":3}'  # noqa: S608
        assert await value(engine, f"SELECT edited_by FROM {table}") == "李四"  # noqa: S608
    assert [act for _, act, _, _ in await acts_of(http)] == ["edit_quarantined", "edit_parked"]


async def test_what_is_not_there_is_a_404_without_a_note(http: httpx.AsyncClient) -> None:
    """Fails when an act on nothing is noted as done, or answered with a 500."""
    unknown = uuid4()
    for method, path in (
        ("POST", "parked/none/retry"),
        ("POST", f"quarantined/{unknown}/discard"),
        ("POST", f"tasks/{unknown}/retry"),
        ("POST", f"tasks/{unknown}/discard"),
        ("PUT", f"quarantined/{unknown}"),
        ("PUT", f"parked/none/records/{unknown}"),
    ):
        body = WHY | ({"body": {"quantity": 1}} if method == "PUT" else {})
        answer = await http.request(method, f"/v1/operations/{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "record_not_found"), path
    assert (await http.get("/v1/operations/parked/none")).status_code == 404
    assert await acts_of(http) == []


async def test_overdue_tasks_and_breakers_are_seen_and_moved(http: httpx.AsyncClient, engine: AsyncEngine) -> None:
    """Fails when a late task or an open breaker is invisible, or cannot be moved by hand."""
    task_id, late = uuid4(), datetime.now(UTC) - timedelta(minutes=6)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO task (id, kind, key, due_at, attempt, created_at, last_error)"
                " VALUES (:id, 'instruct', 'k', :late, 12, :late, 'TimeoutError')"
            ),
            {"id": task_id, "late": late},
        )
        await connection.execute(
            text(
                "INSERT INTO breaker (consumer, opened_at, half_open_at, version, reason)"
                " VALUES ('main', :late, :late, '1', 'x')"
            ),
            {"late": late},
        )
    (item,) = (await http.get("/v1/operations/overdue")).json()["items"]
    assert (item["source"], item["kind"], item["attempts"], item["last_error"]) == ("task", "instruct", 12, "TimeoutError")
    assert (await http.post(f"/v1/operations/tasks/{item['task_id']}/retry", json=WHY)).status_code == 202
    assert (await http.get("/v1/operations/overdue")).json()["items"] == []
    assert (await http.post(f"/v1/operations/tasks/{task_id}/discard", json=WHY)).status_code == 202
    assert await value(engine, "SELECT count(*) FROM task") == 0
    assert [breaker["consumer"] for breaker in (await http.get("/v1/operations/breaker")).json()] == ["main"]
    assert (await http.post("/v1/operations/breaker/close", json=WHY | {"consumer": "main"})).status_code == 202
    assert (await http.get("/v1/operations/breaker")).json() == []
    page = (await http.get("/v1/operations/acts", params={"limit": 1})).json()
    assert [act["act"] for act in page["items"]] == ["close_breaker"]
    rest = (await http.get("/v1/operations/acts", params={"next": page["next"], "subject": str(task_id)})).json()
    assert [act["act"] for act in rest["items"]] == ["discard_task", "retry_task"]
    async with engine.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(manual_act)) == 3
