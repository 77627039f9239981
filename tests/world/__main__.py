"""`python -m tests.world`: live many lives of the whole system, each from a number; print the one that fails, and shrink it.

python -m tests.world --seed 1 --seeds 100 --steps 150      SEED=… STEPS=… SEEDS=… do the same
python -m tests.world --seed 7 --path "order:123 relay:5"   live these steps only
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from tools.local_postgres import SERVICES, LocalPostgres, create_database, create_roles, drop_database, with_database
from tools.processes import Watchdog

from .simulation import FailedError, Simulation, Step, open_simulation, plan, read_steps

PASSWORD = "only-for-tests"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.world", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or 1), help="the first")
    parser.add_argument("--seeds", type=int, default=int(os.environ.get("SEEDS") or 20), help="how many")
    parser.add_argument("--steps", type=int, default=int(os.environ.get("STEPS") or 150), help="of each life")
    parser.add_argument("--path", default="", help="these steps, as a failure prints them")
    parser.add_argument("--go-on", action="store_true", help="shrink nothing, and go on after a failure")
    return asyncio.run(_run(parser.parse_args(arguments)))


async def _run(given: argparse.Namespace) -> int:
    failed = 0
    async with _server() as (admin_url, migrated), open_simulation(migrated, admin_url) as simulation:
        started = time.monotonic()
        for lived in range(1 if given.path else given.seeds):
            seed = given.seed + lived
            steps = read_steps(given.path) if given.path else plan(seed, given.steps)
            try:
                ending = await simulation.live(seed, steps)
            except FailedError as error:
                failed += 1
                _say(f"seed {seed} FAILED {error}")
                if not given.go_on:
                    await _show(simulation, seed, steps, error)
                    break
            else:
                rate = (lived + 1) / (time.monotonic() - started) * 3600
                _say(f"seed {seed}: {ending.orders} orders, {ending.vouchers} vouchers, {ending.said} ({rate:.0f} an hour)")
    return 1 if failed else 0


async def _show(simulation: Simulation, seed: int, steps: Sequence[Step], error: FailedError) -> None:
    if error.__cause__ is not None:
        _say("".join(traceback.format_exception(error.__cause__)))
    _say(f"its {len(steps)} steps: {' '.join(map(str, steps))}")
    fewer = await simulation.shrink(seed, steps)
    _say(f"shrunk to {len(fewer)}:\npython -m tests.world --seed {seed} --path '{' '.join(map(str, fewer))}'")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextlib.asynccontextmanager
async def _server() -> AsyncIterator[tuple[str, Callable[[str], Awaitable[str]]]]:
    """A Postgres (DATABASE_URL_ADMIN, or one of our own), and what makes a service's migrated database on it."""
    async with contextlib.AsyncExitStack() as stack:
        admin_url = os.environ.get("DATABASE_URL_ADMIN", "")
        if not admin_url:
            watchdog = Watchdog()
            stack.callback(watchdog.close)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oms-world-")))
            folder.chmod(0o711)  # noqa: ASYNC240  As root, Postgres runs under another account and must get through.
            server = LocalPostgres(folder, durable=False, watchdog=watchdog)
            await server.start()
            stack.callback(server.remove)
            admin_url = server.admin_url
        await create_roles(admin_url, SERVICES, PASSWORD)

        async def migrated(service: str) -> str:
            name = f"oms_{service}_world_{uuid.uuid4().hex[:8]}"
            await create_database(admin_url, name, service=service)
            stack.push_async_callback(drop_database, admin_url, name)
            url = with_database(admin_url, name, user=f"oms_{service}", password=PASSWORD)
            env = os.environ | {f"OMS_{service.upper()}_DATABASE_URL": url}
            process = await asyncio.create_subprocess_exec(sys.executable, "-m", service, "--migrate", env=env)
            if await process.wait() != 0:
                raise RuntimeError(f"`python -m {service} --migrate` ended with {process.returncode}")
            return url

        yield admin_url, migrated


if __name__ == "__main__":
    raise SystemExit(main())
