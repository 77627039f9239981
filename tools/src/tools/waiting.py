"""Waiting for something to become true, with a deadline and a name for what did not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T]], *, seconds: float, what: str, every_seconds: float = 0.1) -> T:
    """Look until the answer is truthy and return it.

    Errors: TimeoutError that names `what` and the last answer.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = await look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s (last seen: {answer!r})")
        await asyncio.sleep(every_seconds)
