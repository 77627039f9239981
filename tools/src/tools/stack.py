"""The one supervisor: Postgres, Kafka, topics, migrations and the six services on this machine, loopback only.

    async with Stack("demo", terminal=Terminal()) as stack:
        stack.urls["ingest"], stack.bootstrap_servers, stack.read_only_database_urls["ledger"], stack.keys["operator"]

    python -m tools.stack up|down|status [--name demo]

State lies in `.local/<name>/`: `stack.json` (processes, ports, URLs), `log/`, `data/`, `keys.json` (clear API keys, for the
person), `api_keys.json` (their hashes, for the services), `secrets.json` (the services' own keys). Stacks of several names
and several checkouts run side by side.
Nothing stays behind: a crash, SIGINT, SIGTERM, SIGHUP or the supervisor's own death stops every process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import fcntl
import io
import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import asyncpg
import httpx

from tools.broker_jars import JarError
from tools.local_kafka import LocalKafka
from tools.local_postgres import SERVICES, LocalPostgres, create_database, create_roles, drop_database, with_database
from tools.paths import cache_folder, stack_folder
from tools.processes import (
    LOOPBACK,
    Child,
    ProcessError,
    Record,
    Watchdog,
    free_ports,
    log_tail,
    port_is_free,
    spawn,
    stop_all,
)
from tools.stack_state import (
    STOP_SECONDS,
    ensure_keys,
    ensure_secrets,
    read_state,
    remove_state,
    stop_from_outside,
    write_state,
)
from tools.terminal import Terminal, columns, megabytes
from tools.topics import TopicError, create_topics

FIRST_PORT = 8001
PORT_STEP = 10
PORT_BLOCKS = 90
READY_SECONDS = 90.0  # Six interpreters start at once on two cores.
MIGRATE_SECONDS = 120.0
WMS = "wms"
WMS_SECRET = "OMS_WMS_SECRET"  # noqa: S105  a name
ORDER_PARTITIONS = 4  # One small machine: fewer partitions mean bigger batches and half the broker's cost.
STEPS = 5
"""How many numbered steps a start shows; a caller's own come after them."""

Role = Literal["all", "api", "worker"]


class StackError(Exception):
    """The stack cannot start; the text says why and what to do."""


@dataclasses.dataclass
class Member:
    """One service process: how it is started, and the running child."""

    name: str
    service: str
    role: Role
    port: int
    child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


class Stack:
    """Everything on one machine, for the time of an ``async with``.

    ``env`` gives settings per service: ``{"ledger": {"OMS_LEDGER_X": "1"}, "*": {…}}``; ``roles`` the role of a service's
    first process (``all``); ``replicas`` how many processes it has: those after the first are workers (`inventory-2`, …).
    ``interpreters`` names the Python of members that run another release than this one.
    ``broker_proxy_port``: a proxy there may stand before the broker's second listener (`LocalKafka.behind_proxy`).
    ``demo_wms`` brings a WMS of its own (`tools.wms`, at ``wms_url``; fulfillment knows its secret as ``demo``).
    ``clean=False`` keeps data and logs of the last run; ``durable=False`` spares Postgres its fsync, for tests.
    A crash cancels the task that entered, and leaving then raises it; a task that is done (a test fixture's) is told by
    `check`.

    Errors: StackError; JarError; TopicError; ProcessError (with the end of the log) when something ends by itself.
    """

    def __init__(
        self,
        name: str,
        *,
        clean: bool = True,
        terminal: Terminal | None = None,
        durable: bool = True,
        order_partitions: int = ORDER_PARTITIONS,
        services: Sequence[str] = SERVICES,
        env: Mapping[str, Mapping[str, str]] | None = None,
        roles: Mapping[str, Role] | None = None,
        replicas: Mapping[str, int] | None = None,
        interpreters: Mapping[str, str] | None = None,
        demo_wms: bool = False,
        broker_proxy_port: int = 0,
        folder: Path | None = None,
        handle_signals: bool = True,
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        self.name = name
        self.folder = folder or stack_folder(name)
        self.bootstrap_servers = ""
        self.topic_prefix = ""
        self.order_partitions = order_partitions
        self.urls: dict[str, str] = {}
        self.database_urls: dict[str, str] = {}
        self.read_only_database_urls: dict[str, str] = {}
        self.admin_database_url = ""
        self.keys: dict[str, str] = {}
        self.wms_url = ""
        self.members: dict[str, Member] = {}
        self.postgres: LocalPostgres | None = None
        self.kafka: LocalKafka | None = None
        self._clean = clean
        self._durable = durable
        self._terminal = terminal or Terminal(io.StringIO())
        self._services = tuple(services)
        self._env = env or {}
        self._roles = roles or {}
        self._replicas = replicas or {}
        self.interpreters: dict[str, str] = dict(interpreters or {})
        """By member; another release's Python runs another release's code. Read at each start of a process."""
        self._demo_wms = demo_wms
        self._broker_proxy_port = broker_proxy_port
        self._wms: Child | None = None
        self._wms_port = 0
        self._signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if handle_signals else ()
        self._ready_seconds = ready_seconds
        self._locks = contextlib.ExitStack()
        self._watchdog: Watchdog | None = None
        self._monitor: asyncio.Task[None] | None = None
        self._owner: asyncio.Task[Any] | None = None
        self._secrets: dict[str, dict[str, str]] = {}
        self._migrations: list[Child] = []
        self._expected_to_end: set[str] = set()
        self._download_note: Callable[[str], None] = lambda _: None
        self._crash: ProcessError | None = None
        self._signal: int | None = None
        self._detached = False
        self._stopping = False

    @property
    def log_folder(self) -> Path:
        return self.folder / "log"

    @property
    def keys_file(self) -> Path:
        """The clear API keys, for the person at this machine."""
        return self.folder / "keys.json"

    async def __aenter__(self) -> Self:
        self._owner = asyncio.current_task()
        for number in self._signals:
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        try:
            await self._start()
        except BaseException as error:
            await self._stop_for_good()
            self._raise_cause_of(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._detached:
            await self._stop_for_good()
        self._raise_cause_of(error)

    def check(self) -> None:
        """Raise ProcessError if something has ended by itself, for waits that would otherwise only run out of time."""
        if self._crash is not None:
            raise self._crash

    def detach(self) -> None:
        """Leave everything running after the ``async with``; `python -m tools.stack down` stops it."""
        self._detached = True
        if self._monitor is not None:
            self._monitor.cancel()
        if self._watchdog is not None:
            self._watchdog.release()
        self._write_state(supervisor=None)
        self._locks.close()
        self._remove_signals()

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Signal a process group: a member's name, `postgres` or `kafka`. Its end is then no crash."""
        self._expected_to_end.add(name)
        self._children()[name].send_signal(number)

    def expect_end(self, name: str) -> None:
        """Take the next end of this process for no crash, whoever ends it."""
        self._expected_to_end.add(name)

    async def ended(self, name: str) -> None:
        """Wait until what was killed is gone."""
        async with asyncio.timeout(STOP_SECONDS):
            await self._children()[name].wait()

    async def start(self, name: str) -> None:
        """Start again what was killed, with its ports and data, and wait until it is ready."""
        await self.ended(name)
        if name == "postgres" and self.postgres is not None:
            await self.postgres.start()
        elif name == "kafka" and self.kafka is not None:
            await self.kafka.start()
        elif name == WMS:
            await self._start_wms()
        else:
            member = self.members[name]
            await asyncio.to_thread(self._spawn, member)
            await self._wait_ready([member])
        self._expected_to_end.discard(name)
        await asyncio.to_thread(self._write_state)

    async def migrate(self, service: str, *, interpreter: str | None = None) -> None:
        """Run a service's migrations on its database, whatever of it runs meanwhile."""
        await self._migrate([service], interpreter)

    async def add_worker(self, service: str, *, interpreter: str | None = None) -> str:
        """Start one more worker and wait until it is ready; returns its name."""
        number = 2
        while f"{service}-{number}" in self.members:
            number += 1
        name = f"{service}-{number}"
        if interpreter is not None:
            self.interpreters[name] = interpreter
        member = self.members[name] = Member(name, service, "worker", free_ports(1)[0])
        await asyncio.to_thread(self._spawn, member)
        await asyncio.to_thread(self._write_state)
        await self._wait_ready([member])
        return name

    async def remove_worker(self, name: str) -> None:
        """Stop a worker that `add_worker` started, as an orchestrator would."""
        self.kill(name, signal.SIGTERM)
        async with asyncio.timeout(STOP_SECONDS):
            await self._children()[name].wait()
        del self.members[name]
        self.interpreters.pop(name, None)
        await asyncio.to_thread(self._write_state)

    # Starting

    async def _start(self) -> None:
        terminal = self._terminal
        terminal.add_steps(STEPS)
        await asyncio.to_thread(self._take_folder)
        began = time.monotonic()
        # The broker takes longest and shares nothing with the database: both come up at once.
        broker = asyncio.create_task(self._start_kafka())
        try:
            with terminal.step("PostgreSQL"):
                await self._start_postgres()
            with terminal.step("Databases") as step:
                await self._migrate(self._services)
                step.done = f"{len(self._services)} databases migrated"
            with terminal.step("Kafka", started_at=began) as step:
                self._download_note = step.note
                await broker
            with terminal.step("Topics") as step:
                outcome = await create_topics(
                    self.bootstrap_servers, prefix=self.topic_prefix, order_partitions=self.order_partitions
                )
                step.done = f"{len(outcome.created) + len(outcome.kept)} topics ready"
            self._monitor = asyncio.create_task(self._watch_for_crashes())
            with terminal.step("Services") as step:
                await self._start_services()
                if self._demo_wms:
                    await self._start_wms()
                step.done = f"{len(self.members)} service processes ready"
        except BaseException:
            self._stopping = True  # Ends a download, which is no asyncio matter.
            broker.cancel()
            await asyncio.gather(broker, return_exceptions=True)
            raise

    def _take_folder(self) -> None:
        """Make sure that no other supervisor runs this stack; clear away what a dead one left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._lock(self.folder / "lock"):
            raise StackError(f"the stack '{self.name}' is running already: stop it with `make down NAME={self.name}`.")
        left = read_state(self.folder)
        if left is not None:
            stop_all(left.records, grace_seconds=STOP_SECONDS)
            remove_state(self.folder)
        if self._clean:
            LocalPostgres(self.folder, durable=False).remove()
            for name in ("data", "log"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
        self.keys = ensure_keys(self.folder)
        self._secrets = ensure_secrets(self.folder)
        self._watchdog = Watchdog(grace_seconds=STOP_SECONDS)
        self._write_state()

    def _lock(self, path: Path) -> bool:
        """Hold a lock file until the stack ends; the system lets go of it when the process dies."""
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._locks.enter_context(contextlib.closing(file))
        return True

    async def _start_postgres(self) -> None:
        suffix = ""
        if url := os.environ.get("DATABASE_URL_ADMIN"):
            self.admin_database_url, suffix = url, f"_{self.name}"
        else:
            self.postgres = LocalPostgres(self.folder, durable=self._durable, watchdog=self._watchdog)
            await self.postgres.start()
            self.admin_database_url = self.postgres.admin_url
        admin, password = self.admin_database_url, secrets.token_urlsafe(18)
        await create_roles(admin, self._services, password)
        for service in self._services:
            database, owner = f"oms_{service}{suffix}", f"oms_{service}"
            if self._clean:
                await drop_database(admin, database)
            with contextlib.suppress(asyncpg.DuplicateDatabaseError):
                await create_database(admin, database, service=service)
            self.database_urls[service] = with_database(admin, database, user=owner, password=password)
            self.read_only_database_urls[service] = with_database(admin, database, user=f"{owner}_read", password=password)

    async def _start_kafka(self) -> None:
        if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
            # Somebody else's broker: a name space of our own, a new one for each clean start.
            self.bootstrap_servers = servers
            self.topic_prefix = f"{self.name}-{secrets.token_hex(4)}." if self._clean else f"{self.name}."
            return
        self.kafka = LocalKafka(self.folder, watchdog=self._watchdog, proxy_port=self._broker_proxy_port)
        await self.kafka.start(self._on_download)
        self.bootstrap_servers = self.kafka.bootstrap_servers

    def _on_download(self, count: int) -> None:
        if self._stopping:
            raise JarError("stopped while downloading")
        self._download_note(f"downloading, {megabytes(count)}")

    async def _migrate(self, services: Sequence[str], interpreter: str | None = None) -> None:
        started = []
        for service in services:
            child = await asyncio.to_thread(
                spawn,
                f"{service} --migrate",
                [interpreter or self.interpreters.get(service, sys.executable), "-m", service, "--migrate"],
                log_path=self.log_folder / f"{service}-migrate.log",
                watchdog=self._watchdog,
                env=self._environment(service, {"DATABASE_URL": self.database_urls[service]}),
            )
            self._migrations.append(child)
            started.append(child)
        try:
            async with asyncio.timeout(MIGRATE_SECONDS):
                for child in started:
                    if await child.wait() != 0:
                        tail = await asyncio.to_thread(log_tail, child.log_path)
                        raise ProcessError(child.name, child.exit_code, tail)
        except TimeoutError:
            raise StackError(f"migrations took more than {MIGRATE_SECONDS:g} s; see {self.log_folder}.") from None

    async def _start_services(self) -> None:
        ports = await asyncio.to_thread(self._take_ports)
        for service, port in zip(self._services, ports, strict=True):
            self.members[service] = Member(service, service, self._roles.get(service, "all"), port)
            self.urls[service] = self.members[service].url
            for number in range(2, self._replicas.get(service, 1) + 1):
                name = f"{service}-{number}"
                self.members[name] = Member(name, service, "worker", free_ports(1)[0])
        for member in self.members.values():
            await asyncio.to_thread(self._spawn, member)
        await asyncio.to_thread(self._write_state)
        await self._wait_ready(list(self.members.values()))

    async def _start_wms(self) -> None:
        self._wms_port = self._wms_port or free_ports(1)[0]
        self.wms_url = f"http://{LOOPBACK}:{self._wms_port}"
        arguments = ["--port", str(self._wms_port), "--oms-url", self.urls["fulfillment"], "--secret-env", WMS_SECRET]
        self._wms = await asyncio.to_thread(
            spawn,
            WMS,
            [sys.executable, "-m", "tools.wms", *arguments],
            log_path=self.log_folder / "wms.log",
            watchdog=self._watchdog,
            tier=3,
            env=dict(os.environ) | self._secrets[WMS],
        )
        await asyncio.to_thread(self._write_state)
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            await self._wait_answer(client, WMS, self._wms, f"{self.wms_url}/dials")

    def _take_ports(self) -> list[int]:
        """Take 8001-8006, or the next block that is free; the lock keeps two starting stacks apart."""
        for block in range(PORT_BLOCKS):
            ports = [FIRST_PORT + block * PORT_STEP + number for number in range(len(self._services))]
            if all(map(port_is_free, ports)) and self._lock(cache_folder() / "ports" / f"{ports[0]}.lock"):
                return ports
        raise StackError(f"no free ports from {FIRST_PORT} on: stop what is listening there.")

    def _spawn(self, member: Member) -> None:
        settings = {
            "DATABASE_URL": self.database_urls[member.service],
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "TOPIC_PREFIX": self.topic_prefix,
            "ORDER_PARTITIONS": str(self.order_partitions),
            "HTTP_HOST": LOOPBACK,
            "HTTP_PORT": str(member.port),
            "API_KEYS_FILE": str(self.folder / "api_keys.json"),
        }
        member.child = spawn(
            member.name,
            [self.interpreters.get(member.name, sys.executable), "-m", member.service, "--role", member.role],
            log_path=self.log_folder / f"{member.name}.log",
            watchdog=self._watchdog,
            tier=2,
            env=self._environment(member.service, settings),
        )

    def _environment(self, service: str, settings: Mapping[str, str]) -> dict[str, str]:
        others = tuple(_prefix(each) for each in self._services if each != service)
        # Another service's settings are none of its business, secrets least of all.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        environment = self._secrets.get(service, {}) | environment
        if service == "fulfillment" and self._demo_wms:
            environment["OMS_FULFILLMENT_WMS_SECRETS"] = json.dumps({"demo": self._secrets[WMS][WMS_SECRET]})
        # Unbuffered, so that the last lines of a process that was killed are in its log.
        environment |= {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
        environment |= {_prefix(service) + name: value for name, value in settings.items()}
        return environment | dict(self._env.get("*", {})) | dict(self._env.get(service, {}))

    async def _wait_ready(self, members: Sequence[Member]) -> None:
        # Proxy settings of the environment are not for loopback.
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            await asyncio.gather(*(self._wait_member(client, member) for member in members))

    async def _wait_member(self, client: httpx.AsyncClient, member: Member) -> None:
        await self._wait_answer(client, member.name, member.child, f"{member.url}/readyz")

    async def _wait_answer(self, client: httpx.AsyncClient, name: str, child: Child | None, url: str) -> None:
        deadline = time.monotonic() + self._ready_seconds
        answer = "no answer"
        while True:
            if child is not None:
                child.raise_if_ended()
            try:
                response = await client.get(url)
                if response.is_success:
                    return
                answer = f"{response.status_code} {response.text[:2000]}"
            except httpx.HTTPError as error:
                answer = repr(error)
            if time.monotonic() > deadline:
                tail = await asyncio.to_thread(log_tail, self.log_folder / f"{name}.log")
                raise StackError(
                    f"{name} was not ready within {self._ready_seconds:g} s; {url} says: {answer}\nthe end of its log:\n{tail}"
                )
            await asyncio.sleep(0.1)

    # Watching and stopping

    async def _watch_for_crashes(self) -> None:
        while self._crash is None:
            await asyncio.sleep(0.2)
            for name, child in self._children().items():
                if name not in self._expected_to_end and child.exit_code is not None:
                    tail = await asyncio.to_thread(log_tail, child.log_path)
                    self._crash = ProcessError(name, child.exit_code, tail)
                    break
        if self._owner is None or self._owner.done():
            await asyncio.to_thread(self._stop)
        else:
            self._owner.cancel()

    def _on_signal(self, number: int) -> None:
        self._signal = number
        if self._owner is not None:
            self._owner.cancel()

    def _raise_cause_of(self, error: BaseException | None) -> None:
        """Say what a cancellation of our own making was about: a crash, or a signal."""
        if not (error is None or isinstance(error, asyncio.CancelledError)):
            return
        if self._crash is not None:
            task = asyncio.current_task()
            if error is not None and task is not None:
                task.uncancel()
            raise self._crash from None
        if self._signal is not None:
            raise SystemExit(128 + self._signal) from None

    async def _stop_for_good(self) -> None:
        # Cancelled once more (a second Ctrl-C), it still finishes: half a stack must not stay.
        stopping = asyncio.ensure_future(asyncio.to_thread(self._stop))
        while not stopping.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(stopping)
        if self._monitor is not None:
            self._monitor.cancel()
        self._remove_signals()
        if killed := stopping.result():
            self._terminal.say(f"had to be killed: {', '.join(killed)}", "yellow")

    def _stop(self) -> list[str]:
        """Stop every process; doing it again does nothing."""
        self._stopping = True
        self._expected_to_end |= self._children().keys()
        children = [*self._migrations, *self._children().values()]
        killed = stop_all([child.record for child in children], grace_seconds=STOP_SECONDS)
        if self._watchdog is not None:
            self._watchdog.close()
            remove_state(self.folder)
        for child in children:
            child.collect()
        self._locks.close()
        return killed

    def _remove_signals(self) -> None:
        for number in self._signals:
            asyncio.get_running_loop().remove_signal_handler(number)
        self._signals = ()

    def _children(self) -> dict[str, Child]:
        children = {name: member.child for name, member in self.members.items()}
        children["postgres"] = self.postgres.child if self.postgres else None
        children["kafka"] = self.kafka.child if self.kafka else None
        children[WMS] = self._wms
        return {name: child for name, child in children.items() if child is not None}

    def _write_state(self, **replaced: Record | None) -> None:
        ports = {name: member.port for name, member in self.members.items()}
        if self.postgres is not None:
            ports["postgres"] = self.postgres.port
        if self.kafka is not None:
            ports["kafka"] = self.kafka.port
        if self._wms is not None:
            ports[WMS] = self._wms_port
        services = {
            service: {
                "url": self.urls.get(service),
                "database_url": self.database_urls.get(service),
                "read_only_database_url": self.read_only_database_urls.get(service),
            }
            for service in self._services
        }
        write_state(
            self.folder,
            name=self.name,
            supervisor=replaced.get("supervisor", Record.of_pid("supervisor", os.getpid())),
            processes=[(child.record, child.log_path, ports[name]) for name, child in self._children().items()],
            content={
                "kafka": {
                    "bootstrap_servers": self.bootstrap_servers,
                    "topic_prefix": self.topic_prefix,
                    "order_partitions": self.order_partitions,
                },
                "postgres": {"admin_url": self.admin_database_url},
                "services": services,
                "keys_file": str(self.keys_file),
            },
        )


def _prefix(service: str) -> str:
    return f"OMS_{service.upper()}_"


# The command line


async def _up(name: str, *, keep_data: bool, detach: bool, terminal: Terminal) -> None:
    async with Stack(name, clean=not keep_data, terminal=terminal) as stack:
        for line in columns([(service, url, f"{url}/docs") for service, url in stack.urls.items()]):
            terminal.say(line)
        terminal.say(f"Kafka {stack.bootstrap_servers} · API keys {stack.keys_file} · logs {stack.log_folder}")
        if detach:
            stack.detach()
            terminal.say(f"left running; stop it with: python -m tools.stack down --name {name}")
        else:
            terminal.say("Ctrl-C stops it.")
            await asyncio.Event().wait()


def _down(name: str, terminal: Terminal) -> None:
    stopped = stop_from_outside(stack_folder(name))
    terminal.say(f"stopped: {', '.join(stopped)}" if stopped else f"nothing of '{name}' was running")


def _status(name: str, terminal: Terminal) -> int:
    state = read_state(stack_folder(name))
    if state is None:
        terminal.say(f"'{name}' is not running")
        return 1
    watched = state.supervisor is not None and state.supervisor.find() is not None
    rows: list[Sequence[object]] = [("process", "pid", "port", "state", "log")]
    rows += [
        (record.name, record.pid, port, "running" if record.find() else "ended", log) for record, log, port in state.processes
    ]
    for line in columns(rows, right=(1, 2)):
        terminal.say(line)
    terminal.say("watched by its supervisor" if watched else "nobody watches it")
    return 0 if len(state.alive()) == len(state.records) else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.stack", description="The whole OMS on this machine.")
    parser.add_argument("command", choices=("up", "down", "status"))
    parser.add_argument("--name", default="demo", help="which stack; each has its own folder below .local/")
    parser.add_argument("--keep-data", action="store_true", help="up: go on with the last run's data")
    parser.add_argument("--detach", action="store_true", help="up: return when it is ready and leave it running")
    options = parser.parse_args()
    terminal = Terminal()
    if options.command == "down":
        _down(options.name, terminal)
        return 0
    if options.command == "status":
        return _status(options.name, terminal)
    try:
        asyncio.run(_up(options.name, keep_data=options.keep_data, detach=options.detach, terminal=terminal))
    except (StackError, ProcessError, JarError, TopicError, TimeoutError, LookupError) as error:
        terminal.end_live()
        terminal.say(str(error), "red")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
