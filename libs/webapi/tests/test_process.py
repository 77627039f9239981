"""A whole small service as a process: migrate, start, answer, stop."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData
from sqlalchemy.ext.asyncio import create_async_engine

from webapi.callers import new_key
from webapi.idempotency import idempotency_table
from webapi.migrations import LOCK_NUMBER
from webapi.operators import manual_act_table

pytestmark = pytest.mark.postgres
SAMPLE = Path(__file__).parent / "sample" / "src"
DEADLINE_SECONDS = 20.0


async def spawn(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sample",
        *arguments,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(SAMPLE), os.environ.get("PYTHONPATH", "")])}
        | {f"OMS_SAMPLE_{name}": value for name, value in environment.items()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finished(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    output, errors = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    return process.returncode, output.decode(), errors.decode()


async def ran(*arguments: str, **environment: str) -> tuple[int | None, str, str]:
    return await finished(await spawn(*arguments, **environment))


def a_free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@asynccontextmanager
async def served(*arguments: str, **environment: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    port = a_free_port()
    process = await spawn(*arguments, HTTP_PORT=str(port), **environment)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            await until(lambda: answers(http), process)
            yield process, http
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def answers(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/livez")).is_success
    except httpx.TransportError:
        return False


async def until(holds: Callable[[], Any], process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await holds():
            assert process.returncode is None, (await process.communicate())[1].decode()
            await asyncio.sleep(0.05)


async def test_a_service_migrates_answers_and_stops_on_sigterm(empty_database: Any, tmp_path: Path) -> None:
    """Fails when the skeleton that all six services copy does not start, is not ready, or does not end in order."""
    url = await empty_database()
    key, key_sha256 = new_key()
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps([{"principal": "a", "key_sha256": key_sha256, "roles": ["viewer"]}]), encoding="utf-8")
    async with served(DATABASE_URL=url, API_KEYS_FILE=str(keys)) as (_, http):
        not_migrated = await http.get("/readyz")
        assert not_migrated.status_code == 503
        assert not_migrated.json()["checks"][0]["detail"] == "ProgrammingError"
    code, _, log = await ran("--migrate", DATABASE_URL=url)
    assert code == 0, log
    assert json.loads(log.splitlines()[-1])["event"] == "migrated"
    async with served(DATABASE_URL=url, API_KEYS_FILE=str(keys)) as (process, http):
        assert (await http.get("/readyz")).json() == {
            "ready": True,
            "checks": [{"name": "database", "ok": True, "detail": ""}],
        }
        assert (await http.get("/v1/things/count")).status_code == 401
        answer = await http.get("/v1/things/count", headers={"X-API-Key": key})
        assert (answer.status_code, answer.json()) == (200, 0)
        assert "oms_http_requests_total" in (await http.get("/metrics")).text
        process.send_signal(signal.SIGTERM)
        code, _, log = await finished(process)
    assert code == 0, log
    lines = [json.loads(line) for line in log.splitlines()]
    assert all(line["service"] == "sample" for line in lines)
    assert [line["http_port"] for line in lines if line["event"] == "started"] == [http.base_url.port]


async def test_a_worker_serves_health_and_metrics_only(empty_database: Any) -> None:
    """Fails when a worker takes requests, or cannot be probed."""
    url = await empty_database()
    assert (await ran("--migrate", DATABASE_URL=url))[0] == 0
    async with served("--role", "worker", DATABASE_URL=url) as (_, http):
        assert (await http.get("/readyz")).status_code == 200
        assert (await http.get("/metrics")).status_code == 200
        assert (await http.get("/v1/things/count")).status_code == 404


async def test_a_connection_that_rests_stays_open(empty_database: Any) -> None:
    """Fails when an idle connection is closed after uvicorn's own 5 s: the caller's next request crosses the goodbye."""
    async with served(DATABASE_URL=await empty_database()) as (_, http):
        reader, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
        request = f"GET /livez HTTP/1.1\r\nHost: {http.base_url.netloc.decode()}\r\n\r\n".encode()
        for seconds in (5.5, 0.0):
            writer.write(request)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            await reader.read(1000)
            await asyncio.sleep(seconds)
        assert not reader.at_eof()
        writer.close()


async def test_a_service_that_hangs_while_stopping_is_ended_at_its_deadline(empty_database: Any) -> None:
    """Fails when a lost connection in the lifespan's end keeps the process for ever."""
    async with served(DATABASE_URL=await empty_database(), STOP_SECONDS="600", SHUTDOWN_SECONDS="1") as (process, _):
        process.send_signal(signal.SIGTERM)
        code, _, log = await finished(process)
    assert code == 70
    assert "shutdown_overdue" in log


async def test_two_migrators_do_not_race(empty_database: Any) -> None:
    """Fails when replicas that start together both run the DDL."""
    url = await empty_database()
    results = await asyncio.gather(*(ran("--migrate", DATABASE_URL=url) for _ in range(3)))
    assert [code for code, _, _ in results] == [0, 0, 0], results


async def test_a_migrator_waits_for_the_one_that_runs(empty_database: Any) -> None:
    """Fails when the lock is not asked for: the migration would be done before the lock is free."""
    url = await empty_database()
    other = await asyncpg.connect(url)
    await other.execute("SELECT pg_advisory_lock($1)", LOCK_NUMBER)
    process = await spawn("--migrate", DATABASE_URL=url)

    async def is_waiting() -> bool:
        return bool(await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'oms-migrate'"))

    await until(is_waiting, process)
    with pytest.raises(TimeoutError):  # Without the lock it would be done in a fraction of this.
        await asyncio.wait_for(process.wait(), 1.5)
    assert await other.fetchval("SELECT to_regclass('thing')") is None
    await other.execute("SELECT pg_advisory_unlock($1)", LOCK_NUMBER)
    code, _, log = await finished(process)
    assert code == 0, log
    assert await other.fetchval("SELECT to_regclass('thing')") == "thing"
    await other.close()


async def test_the_ddl_makes_what_the_tables_say(empty_database: Any) -> None:
    """Fails when a table's factory and its DDL drift apart."""
    url = await empty_database()
    assert (await ran("--migrate", DATABASE_URL=url))[0] == 0
    metadata = MetaData()
    idempotency_table(metadata)
    manual_act_table(metadata)

    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_name": lambda name, kind, _: name != "thing" or kind != "table"}
        )
        return list(compare_metadata(context, metadata))

    engine = create_async_engine(url.sqlalchemy)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_a_database_that_is_away_fails_the_migration_without_telling_its_password() -> None:
    """Fails when a stack trace carries the URL."""
    code, output, log = await ran("--migrate", DATABASE_URL=f"postgresql://oms:p4ss@127.0.0.1:{a_free_port()}/x")
    assert code == 3
    assert "migration_failed" in log
    assert "p4ss" not in output + log


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "said"),
    [
        (["--help"], {}, 0, "--role"),
        (["--print-settings"], {"DATABASE_URL": "postgresql://oms:p4ss@db/x"}, 0, "postgresql://oms:***@db/x"),
        ([], {"DATABASE_URL": "postgresql://oms:p4ss@db/x", "HTTP_PROT": "1"}, 2, "did you mean OMS_SAMPLE_HTTP_PORT?"),
        ([], {}, 2, "OMS_SAMPLE_DATABASE_URL: is required"),
        ([], {"DATABASE_URL": "postgresql://oms:p4ss@db/x", "API_KEYS_FILE": "/nowhere/keys.json"}, 3, "/nowhere/keys.json"),
        (["--role", "boss"], {}, 2, "invalid choice"),
    ],
)
async def test_the_command_line_says_what_it_needs(
    arguments: list[str], environment: dict[str, str], code: int, said: str
) -> None:
    """Fails when a wrong start ends in a stack trace, or shows a secret."""
    status, output, errors = await ran(*arguments, **environment)
    assert status == code, errors
    assert said in output + errors
    assert "p4ss" not in output + errors
    assert "Traceback" not in errors
