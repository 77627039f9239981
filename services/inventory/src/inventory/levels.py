"""Which stock levels have changed and are still to be sent; kept in the process, flushed in the background.

Marks live in memory, for a row per change would cost more than the change. What a killed process forgets is found again by the
sweep: every row carries a version, and the versions sent are stored.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager

from eventing import UnitOfWork
from eventing.errors import is_unavailable
from inventory.settings import Settings
from inventory.store.levels import LevelKey, find_unsent_levels, read_levels
from telemetry import get_logger

OpenWork = Callable[[], AbstractAsyncContextManager[UnitOfWork]]
_log = get_logger(__name__)


class DirtyLevels:
    """Changed keys in the order in which they first changed; a key that changes again keeps its place."""

    def __init__(self) -> None:
        self._keys: dict[LevelKey, None] = {}

    def mark(self, keys: Iterable[LevelKey]) -> None:
        self._keys.update(dict.fromkeys(keys))

    def take(self, limit: int) -> list[LevelKey]:
        taken = [key for key, _ in zip(self._keys, range(limit), strict=False)]
        for key in taken:
            del self._keys[key]
        return taken

    def __len__(self) -> int:
        return len(self._keys)


async def flush_levels(levels: DirtyLevels, work: UnitOfWork, *, limit: int) -> int:
    """Send up to `limit` levels as they stand; what failed to commit is marked again by the caller."""
    keys = levels.take(limit)
    if keys:
        try:
            work.emit(await read_levels(work, keys))
        except BaseException:
            levels.mark(keys)
            raise
    return len(keys)


@contextlib.asynccontextmanager
async def sending_levels(levels: DirtyLevels, open_work: OpenWork, settings: Settings) -> AsyncIterator[None]:
    """Send levels in the background while this is open."""
    task = asyncio.create_task(_send_for_ever(levels, open_work, settings), name="stock levels")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _send_for_ever(levels: DirtyLevels, open_work: OpenWork, settings: Settings) -> None:
    interval_seconds = settings.stock_level_interval_ms / 1000
    swept_at = float("-inf")
    clock = asyncio.get_running_loop().time
    while True:
        try:
            if clock() - swept_at >= settings.stock_level_sweep_seconds:
                async with open_work() as work:
                    unsent = await find_unsent_levels(work)
                levels.mark(unsent)
                swept_at = clock()
            if len(levels):
                async with open_work() as work:
                    await flush_levels(levels, work, limit=settings.stock_level_batch)
        except Exception as error:  # noqa: BLE001  a loop of the process's own: it tells, and goes on
            # The commit may have failed after the keys were taken: the next sweep finds them by their versions.
            swept_at = float("-inf")
            if not is_unavailable(error):
                _log.exception("stock_levels_failed")
                interval_seconds = max(interval_seconds, 1.0)
        await asyncio.sleep(interval_seconds)
