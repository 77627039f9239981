"""CPU seconds and peak memory of process trees, ended children included."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil

SAMPLE_SECONDS = 0.25


@dataclass
class Tree:
    """One named tree of processes, looked at again and again: a child that ends between two looks leaves what it had used."""

    root_pids: list[int]
    cpu_seconds: dict[tuple[int, float], float] = field(default_factory=dict)
    peak_rss_mb: float = 0.0

    def look(self) -> None:
        rss = 0
        for process in self._alive():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                times = process.cpu_times()
                self.cpu_seconds[process.pid, process.create_time()] = times.user + times.system
                rss += process.memory_info().rss - process.memory_info().shared
        self.peak_rss_mb = max(self.peak_rss_mb, rss / 1_048_576)

    def total_cpu_seconds(self) -> float:
        """Everything the tree has used since its processes started."""
        return sum(self.cpu_seconds.values())

    def _alive(self) -> list[psutil.Process]:
        found = []
        for pid in self.root_pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                root = psutil.Process(pid)
                found.extend([root, *root.children(recursive=True)])
        return found


class UsageWatch:
    """`async with UsageWatch({"kafka": [pid], …}) as watch:`, then what the trees used in the time inside."""

    def __init__(self, pids: Mapping[str, list[int]]) -> None:
        self._trees = {name: Tree(list(roots)) for name, roots in pids.items()}
        self._before: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> UsageWatch:
        self._look()
        self._before = {name: tree.total_cpu_seconds() for name, tree in self._trees.items()}
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._look()

    def cpu_seconds(self) -> dict[str, float]:
        return {name: tree.total_cpu_seconds() - self._before[name] for name, tree in self._trees.items()}

    def peak_rss_mb(self) -> dict[str, float]:
        """Private memory (resident less shared, so that Postgres' shared buffers count once at most)."""
        return {name: round(tree.peak_rss_mb, 1) for name, tree in self._trees.items()}

    def _look(self) -> None:
        for tree in self._trees.values():
            tree.look()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            self._look()
