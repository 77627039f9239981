"""Lives in processes of their own: who asks for them, and who lives them. One line of JSON each way, in turn."""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from .simulation import FailedError, Simulation, open_simulation, read_steps

MOST_BYTES = 1 << 24
"""Of a line: a life of a hundred thousand steps."""
STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Result:
    """How a life ended."""

    seed: int
    path: str
    ending: str = ""
    """In words, where all added up."""
    error: str = ""
    trace: str = ""


class Worker:
    """A process that lives one life after the other, for whoever started it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, env: Mapping[str, str]) -> Worker:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.world", "--worker"),
            env=env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=MOST_BYTES,
            start_new_session=True,  # Ctrl-C is for the one who started it.
        )
        return cls(process)

    async def live(self, seed: int, path: str) -> Result:
        """Live these steps."""
        return Result(**await self._ask("live", seed, path))

    async def shrink(self, seed: int, path: str) -> str:
        """The steps that a failure needs."""
        return str((await self._ask("shrink", seed, path))["path"])

    async def stop(self) -> None:
        """End it, whatever it is doing; its databases go with it."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _ask(self, what: str, seed: int, path: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, "seed": seed, "path": path}).encode() + b"\n")
        if not (line := await self._process.stdout.readline()):
            raise RuntimeError(f"a process that lives ended with {await self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


async def serve(migrated: Callable[[str], Awaitable[str]], admin_url: str) -> None:
    """Live what is asked for on standard input, until it ends, as it does with the one who asks."""
    asking = asyncio.StreamReader(limit=MOST_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asking), sys.stdin)
    async with open_simulation(migrated, admin_url) as simulation:
        while line := await asking.readline():
            answer = await _answer(simulation, **json.loads(line))
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


async def _answer(simulation: Simulation, what: str, seed: int, path: str) -> dict[str, object]:
    steps = read_steps(path)
    if what == "shrink":
        return {"path": " ".join(map(str, await simulation.shrink(seed, steps)))}
    try:
        ending = await simulation.live(seed, steps)
    except FailedError as error:
        trace = "".join(traceback.format_exception(error.__cause__)) if error.__cause__ is not None else ""
        return asdict(Result(seed, path, error=str(error), trace=trace))
    return asdict(Result(seed, path, ending=f"{ending.orders} orders, {ending.vouchers} vouchers, {ending.said}"))
