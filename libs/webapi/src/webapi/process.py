"""The entry of every service: `python -m <service> --role all|api|worker`, `--migrate`, `--print-settings`."""

import argparse
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import uvicorn
from fastapi import FastAPI

from telemetry import configure_logging, configure_tracing, get_logger
from webapi.app import ProcessRole
from webapi.callers import CallersError
from webapi.migrations import MigrationError, migrate, migrations_folder
from webapi.settings import ServiceSettings, SettingsError

EXIT_USAGE = 2
EXIT_START = 3  # uvicorn's own code for a lifespan that failed
EXIT_OVERDUE = 70  # sysexits' EX_SOFTWARE: it had to be ended
Settings = TypeVar("Settings", bound=ServiceSettings)
_log = get_logger(__name__)
GC_YOUNG_OBJECTS = 50_000
"""Allocations between two young collections: the objects of about half a batch."""

KEEP_ALIVE_SECONDS = 75
"""Longer than load balancers and HTTP clients keep an idle connection (60 s): whoever hangs up first should be the one that
sends, or its next request crosses our goodbye and is never answered. uvicorn's own 5 s did that to callers under load."""


@dataclass(frozen=True)
class ServiceProcess(Generic[Settings]):
    """What a service hands over: its package's name, its settings, and how to build its application for a role."""

    name: str
    settings: type[Settings]
    build: Callable[[Settings, ProcessRole], FastAPI]


def run(service: ServiceProcess[Settings], argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit status.

    0 done or stopped in time, 2 wrong settings, 3 could not start or migrate, 70 did not stop within its deadline.
    """
    arguments = _parser(service.name).parse_args(argv)
    try:
        if arguments.migrate:
            return _migrate(service)
        settings = service.settings.load()
        if arguments.print_settings:
            sys.stdout.write(settings.shown() + "\n")
            return 0
        return _serve(service, settings, arguments.role)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    except (CallersError, MigrationError) as error:
        sys.stderr.write(f"{service.name}: {error}\n")
        return EXIT_START


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=f"The {name} service.")
    parser.add_argument(
        "--role",
        choices=("all", "api", "worker"),
        default="all",
        help="api: HTTP; worker: consumers, relay and tasks, with health and metrics over HTTP; all: both (default)",
    )
    parser.add_argument("--migrate", action="store_true", help="bring the database to the newest tables and end")
    parser.add_argument("--print-settings", action="store_true", help="show every setting (secrets masked) and end")
    return parser


def _migrate(service: ServiceProcess[Settings]) -> int:
    settings = service.settings.load_for_migration()
    configure_logging(service.name, settings.log_level)
    folder = settings.migrations_folder or migrations_folder(service.name)
    try:
        revision = migrate(settings.database_url.get_secret_value(), folder)
    except Exception as error:  # noqa: BLE001  the last line before the operator: whatever it was, masked
        _log.critical("migration_failed", exc_info=error)
        return EXIT_START
    _log.info("migrated", revision=revision)
    return 0


def _serve(service: ServiceProcess[Settings], settings: Settings, role: ProcessRole) -> int:
    configure_logging(service.name, settings.log_level)
    configure_tracing(service.name)
    try:
        app = service.build(settings, role)
    except CallersError:
        raise
    except Exception as error:  # noqa: BLE001  a bare stack trace could show what a log line masks
        _log.critical("start_failed", exc_info=error)
        return EXIT_START
    config = uvicorn.Config(
        app,
        host=settings.http_host,
        port=settings.http_port,
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        server_header=False,
        # A third of the deadline for open requests, the rest for the runtime: its batch in flight matters more.
        timeout_graceful_shutdown=max(1, int(settings.shutdown_seconds / 3)),
    )
    server = _Server(config, app, settings.shutdown_seconds)
    # uvicorn raises the signal again once it has shut down in order; without a handler that would look like a crash.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run()
    return 0 if server.started else EXIT_START


def _calm_collector() -> None:
    """Keep the cycle collector off what lives as long as the process, and off half-built batches.

    A batch of 300 decoded events is 100,000 objects without a cycle among them; with the default thresholds the collector
    walked them over and over: more than half of a worker's CPU (audit 230 -> 105 µs an order, ledger 305 -> 142 µs a voucher).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_OBJECTS, 20, 100)


class _Server(uvicorn.Server):
    """uvicorn's server, which is not ready any more from the first signal on and ends within a deadline."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, shutdown_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._shutdown_seconds = shutdown_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            _calm_collector()
            addresses = [listener.getsockname() for server in self.servers for listener in server.sockets]
            _log.info("started", role=self._app.state.role, http_host=addresses[0][0], http_port=addresses[0][1])

    def handle_exit(self, sig: int, frame: object) -> None:
        if not self._app.state.stopping:
            self._app.state.stopping = True
            # A thread, not a task: it must fire also when the event loop is what hangs.
            overdue = threading.Timer(self._shutdown_seconds, self._end)
            overdue.daemon = True
            overdue.start()
        super().handle_exit(sig, frame)  # type: ignore[arg-type]  # the frame goes through untouched

    def _end(self) -> None:
        _log.critical("shutdown_overdue", shutdown_seconds=self._shutdown_seconds)
        os._exit(EXIT_OVERDUE)
