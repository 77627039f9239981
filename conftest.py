"""Fixtures for every test in the repository: a real Postgres, databases cloned from migrated templates, a real Kafka.

    url = await migrated_database("inventory")   # a fresh database with the service's tables, dropped after the test
    url = await empty_database()                 # a fresh database without tables
    kafka_bootstrap, topic_prefix                # a broker (started when first asked for), a name space of one's own
    await eventually(check, seconds=10)          # an assertion retried with a deadline

URLs are strings ``postgresql://user:password@host:port/database``, as asyncpg and the services' settings take them;
``url.sqlalchemy`` is the same with ``postgresql+asyncpg://``, ``url.read_only`` logs in as the read-only role.

Servers come from, in this order: ``DATABASE_URL_ADMIN`` and ``KAFKA_BOOTSTRAP_SERVERS`` where set (an administrator's
URL); for Postgres a container where a Docker engine answers; else both are started here, on loopback.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
import time
import urllib.parse
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tools.local_kafka import LocalKafka
from tools.local_postgres import (
    SERVICES,
    LocalPostgres,
    create_database,
    create_roles,
    drop_database,
    with_database,
)
from tools.processes import Watchdog

PASSWORD = "only-for-tests"  # noqa: S105  servers for tests listen on loopback and last one session
POSTGRES_IMAGE = "postgres:18-alpine"
MIGRATE_SECONDS = 60


class DatabaseUrl(str):
    """A database's URL that also knows its other spellings."""

    __slots__ = ()

    @property
    def sqlalchemy(self) -> str:
        return self.replace("postgresql://", "postgresql+asyncpg://", 1)

    @property
    def read_only(self) -> DatabaseUrl:
        user, _, rest = self.removeprefix("postgresql://").partition(":")
        return DatabaseUrl(f"postgresql://{user}_read:{rest}")


@pytest.fixture(scope="session")
def watchdog() -> Iterator[Watchdog]:
    """Stops the servers with the session, also where the session is killed."""
    dog = Watchdog()
    yield dog
    dog.close()


@pytest.fixture(scope="session")
def server_folder(watchdog: Watchdog) -> Iterator[Path]:
    """Where the session's servers keep data and logs."""
    folder = Path(tempfile.mkdtemp(prefix="oms-test-"))
    folder.chmod(0o711)  # As root, Postgres runs under another account and must get through.
    yield folder
    watchdog.close()  # Nothing may still write there.
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def postgres_server(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The administrator's URL of a Postgres that has every service's roles."""
    container = server = None
    if url := os.environ.get("DATABASE_URL_ADMIN"):
        pass
    elif _docker_answers():
        from testcontainers.community.postgres import PostgresContainer

        container = PostgresContainer(POSTGRES_IMAGE, username="postgres", password=PASSWORD, dbname="postgres")
        container.with_command("-c fsync=off -c synchronous_commit=off -c max_connections=200")
        await asyncio.to_thread(container.start)
        url = container.get_connection_url(driver=None)
    else:
        server = LocalPostgres(
            request.getfixturevalue("server_folder"), durable=False, watchdog=request.getfixturevalue("watchdog")
        )
        await server.start()
        url = server.admin_url
    await create_roles(url, (*SERVICES, "test"), PASSWORD)
    yield url
    if container is not None:
        await asyncio.to_thread(container.stop)
    if server is not None:
        await asyncio.to_thread(server.stop)


@pytest.fixture(scope="session")
async def _templates(postgres_server: str) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Each service's migrated template database, made when first asked for."""
    made: dict[str, str] = {}
    making = asyncio.Lock()

    async def template(service: str) -> str:
        async with making:
            if service not in made:
                database = f"oms_{service}_template_{uuid.uuid4().hex[:8]}"
                await create_database(postgres_server, database, service=service)
                made[service] = database
                await _migrate(service, _login(postgres_server, database, service))
            return made[service]

    yield template
    for database in made.values():
        await drop_database(postgres_server, database)


@pytest.fixture
async def migrated_database(
    postgres_server: str, _templates: Callable[[str], Awaitable[str]]
) -> AsyncIterator[Callable[[str], Awaitable[DatabaseUrl]]]:
    """Make fresh databases that hold a service's tables: ``url = await migrated_database("inventory")``."""
    made: list[str] = []

    async def make(service: str) -> DatabaseUrl:
        template = await _templates(service)
        made.append(f"oms_{service}_{uuid.uuid4().hex[:12]}")
        await create_database(postgres_server, made[-1], service=service, template=template)
        return _login(postgres_server, made[-1], service)

    yield make
    for database in made:
        await drop_database(postgres_server, database)


@pytest.fixture
async def empty_database(postgres_server: str) -> AsyncIterator[Callable[[], Awaitable[DatabaseUrl]]]:
    """Make fresh databases without tables, owned by the role that the URL logs in as."""
    made: list[str] = []

    async def make() -> DatabaseUrl:
        made.append(f"oms_test_{uuid.uuid4().hex[:12]}")
        await create_database(postgres_server, made[-1], service="test")
        return _login(postgres_server, made[-1], "test")

    yield make
    for database in made:
        await drop_database(postgres_server, database)


@pytest.fixture(scope="session")
async def kafka_bootstrap(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The address of a real Kafka without automatic topics; sessions of groups may last as little as 1 s."""
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield servers
        return
    broker = LocalKafka(request.getfixturevalue("server_folder"), watchdog=request.getfixturevalue("watchdog"))
    await broker.start()
    yield broker.bootstrap_servers
    await asyncio.to_thread(broker.stop)


@pytest.fixture
def topic_prefix() -> str:
    """A name space of topics and consumer groups for one test."""
    return f"t{uuid.uuid4().hex[:10]}."


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Awaitable[None]]:
    """Retry an assertion until it holds: ``await eventually(check, seconds=10)``; the last failure is the one shown."""

    async def wait(check: Callable[[], Awaitable[None]], *, seconds: float = 10.0, pause_seconds: float = 0.05) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return await check()
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(pause_seconds)

    return wait


def _login(admin_url: str, database: str, service: str) -> DatabaseUrl:
    return DatabaseUrl(with_database(admin_url, database, user=f"oms_{service}", password=PASSWORD))


async def _migrate(service: str, url: str) -> None:
    """Run the service's own migrations the way an operator does."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        service,
        "--migrate",
        env=os.environ | {f"OMS_{service.upper()}_DATABASE_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), MIGRATE_SECONDS)
    if process.returncode != 0:
        raise RuntimeError(f"`python -m {service} --migrate` ended with {process.returncode}:\n{output.decode()}")


def _docker_answers() -> bool:
    """Whether a Docker engine is there; a client without an engine is not."""
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    parts = urllib.parse.urlsplit(address)
    at, family = (parts.path, socket.AF_UNIX) if parts.scheme == "unix" else ((parts.hostname, parts.port), socket.AF_INET)
    # By hand, since the Docker and HTTP clients leave the socket of a failed attempt open, and warnings are errors here.
    with socket.socket(family) as connection:
        connection.settimeout(3)
        try:
            connection.connect(at)
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in connection.recv(100)
        except OSError:
            return False
