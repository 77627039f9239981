"""What goes on in the background for as long as an `async with` lasts, or until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any


class Background:
    """For loads and feeds: `_begin` their loops on entering; each loop looks at `_stopped`.

    Leaving ends them, and raises what one of them raised; leaving by an exception cancels them.
    """

    def __init__(self) -> None:
        self._stopped = False
        self._tasks: list[asyncio.Task[None]] = []

    def _begin(self, *loops: Coroutine[Any, Any, None]) -> None:
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        if kind is not None:
            for task in self._tasks:
                task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if failures and kind is None:
            raise failures[0]

    async def stop(self) -> None:
        """Begin nothing more; returns when all that was begun has ended."""
        self._stopped = True
        await asyncio.gather(*self._tasks)
