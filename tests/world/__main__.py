"""`python -m tests.world`: live many lives of the whole system, each from a number; print the one that fails, and shrink it.

python -m tests.world --seed 1 --seeds 1000 --steps 150     SEED=… STEPS=… SEEDS=… JOBS=… do the same
python -m tests.world --seed 7 --path "order:123 relay:5"   live these steps only

Each of the JOBS processes has six databases of its own, all on one Postgres (DATABASE_URL_ADMIN, or one made for it).
Ends with 0 where all lives added up, with 1 where one did not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from pathlib import Path

import structlog
import uvloop

from tools.local_postgres import SERVICES, LocalPostgres, create_database, create_roles, drop_database, with_database
from tools.processes import Watchdog

from .lives import Result, Worker, serve
from .simulation import plan

PASSWORD = "only-for-tests"
TEMPLATES = "OMS_WORLD_TEMPLATES"
FEW_LIVES = 40
"""Up to so many, each gets a line."""
PROGRESS_SECONDS = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    text, _, more = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m tests.world", description=text, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or 1), help="the first")
    parser.add_argument("--seeds", type=int, default=int(os.environ.get("SEEDS") or 20), help="how many")
    parser.add_argument("--steps", type=int, default=int(os.environ.get("STEPS") or 150), help="of each life")
    parser.add_argument("--jobs", type=int, default=int(os.environ.get("JOBS") or os.cpu_count() or 1), help="lives at once")
    parser.add_argument("--path", default="", help="these steps, as a failure prints them")
    parser.add_argument("--go-on", action="store_true", help="shrink nothing, and go on after a failure")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    try:
        return uvloop.run(_stoppable(_work() if given.worker else _run(given)))
    except asyncio.CancelledError:
        return 130


async def _stoppable(work: Coroutine[None, None, int]) -> int:
    """Puts everything away before it goes."""
    task = asyncio.create_task(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


class Report:
    """What is said of lives, while they are lived and afterwards."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._began = self._said_at = time.monotonic()
        self._lived = 0
        self.failed: list[Result] = []

    def add(self, result: Result) -> None:
        self._lived += 1
        if result.error:
            self.failed.append(result)
            _say(f"seed {result.seed} FAILED {result.error}")
        elif self._count <= FEW_LIVES:
            _say(f"seed {result.seed}: {result.ending}")
        if time.monotonic() - self._said_at > PROGRESS_SECONDS:
            self._said_at = time.monotonic()
            self.sum_up()

    def sum_up(self) -> None:
        rate = self._lived / max(time.monotonic() - self._began, 0.001) * 3600
        _say(f"{self._lived} of {self._count} lives, {len(self.failed)} failed, {rate:.0f} an hour")


async def _run(given: argparse.Namespace) -> int:
    count = 1 if given.path else given.seeds
    lives = ((seed, given.path or _path(seed, given.steps)) for seed in range(given.seed, given.seed + count))
    async with _templates() as (admin_url, suffix), contextlib.AsyncExitStack() as stack:
        workers: list[Worker] = []
        for _ in range(max(1, min(given.jobs, count))):
            workers.append(await Worker.start(os.environ | {"DATABASE_URL_ADMIN": admin_url, TEMPLATES: suffix}))
            stack.push_async_callback(workers[-1].stop)
        report = Report(count)
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(_live(worker, lives, report, go_on=given.go_on))
        report.sum_up()
        if report.failed and not given.go_on:
            await _show(workers[0], report.failed[0])
        if len(report.failed) > 1:
            _say(f"failed: {' '.join(str(result.seed) for result in report.failed)}")
    return 1 if report.failed else 0


async def _live(worker: Worker, lives: Iterator[tuple[int, str]], report: Report, *, go_on: bool) -> None:
    """One worker's share of the lives: whatever nobody else has begun."""
    for seed, path in lives:
        report.add(await worker.live(seed, path))
        if report.failed and not go_on:
            return


async def _show(worker: Worker, result: Result) -> None:
    _say(f"{result.trace}\nits steps:\npython -m tests.world --seed {result.seed} --path '{result.path}'\nshrinking …")
    path = await worker.shrink(result.seed, result.path)
    _say(f"shrunk to {len(path.split())}:\npython -m tests.world --seed {result.seed} --path '{path}'")


def _path(seed: int, steps: int) -> str:
    return " ".join(map(str, plan(seed, steps)))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextlib.asynccontextmanager
async def _templates() -> AsyncIterator[tuple[str, str]]:
    """A Postgres (DATABASE_URL_ADMIN, or one of our own) with a migrated database of each service: its URL, their suffix."""
    async with contextlib.AsyncExitStack() as stack:
        admin_url = os.environ.get("DATABASE_URL_ADMIN", "")
        if not admin_url:
            watchdog = Watchdog()
            stack.callback(watchdog.close)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oms-world-")))
            folder.chmod(0o711)  # noqa: ASYNC240  As root, Postgres runs under another account and must get through.
            server = LocalPostgres(folder, durable=False, watchdog=watchdog)
            stack.callback(server.remove)
            await server.start()
            admin_url = server.admin_url
        await create_roles(admin_url, SERVICES, PASSWORD)
        suffix = uuid.uuid4().hex[:8]
        for service in SERVICES:
            stack.push_async_callback(drop_database, admin_url, _name(service, suffix))
            await create_database(admin_url, _name(service, suffix), service=service)
        await asyncio.gather(*(_migrate(service, _url(admin_url, service, suffix)) for service in SERVICES))
        yield admin_url, suffix


async def _migrate(service: str, url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", service, "--migrate"),
        env=os.environ | {f"OMS_{service.upper()}_DATABASE_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"`python -m {service} --migrate` ended with {process.returncode}:\n{output.decode()}")


async def _work() -> int:
    """Live what another process asks for, in copies of its databases."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # Lives warn all along.
    admin_url, suffix = os.environ["DATABASE_URL_ADMIN"], os.environ[TEMPLATES]
    async with contextlib.AsyncExitStack() as stack:

        async def cloned(service: str) -> str:
            own = f"{suffix}_{os.getpid()}"
            stack.push_async_callback(drop_database, admin_url, _name(service, own))
            await create_database(admin_url, _name(service, own), service=service, template=_name(service, suffix))
            return _url(admin_url, service, own)

        await serve(cloned, admin_url)
    return 0


def _name(service: str, suffix: str) -> str:
    return f"oms_{service}_world_{suffix}"


def _url(admin_url: str, service: str, suffix: str) -> str:
    return with_database(admin_url, _name(service, suffix), user=f"oms_{service}", password=PASSWORD)


if __name__ == "__main__":
    raise SystemExit(main())
