"""How long a loop waits before it tries again."""

from __future__ import annotations

import asyncio
import contextlib


async def rest(seconds: float, *, until: asyncio.Event) -> None:
    """Wait so long at the most, or until this happens."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until.wait()


class Pause:
    """Pauses that double up to a limit."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self.reset()

    def reset(self) -> None:
        self._seconds = min(0.1, self._longest)

    def next(self) -> float:
        seconds, self._seconds = self._seconds, min(self._longest, self._seconds * 2)
        return seconds

    async def sleep(self, stopping: asyncio.Event) -> None:
        await rest(self.next(), until=stopping)
