"""How long a loop waits before it tries again."""

from __future__ import annotations

import asyncio


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
        try:
            async with asyncio.timeout(self.next()):
                await stopping.wait()
        except TimeoutError:
            return
