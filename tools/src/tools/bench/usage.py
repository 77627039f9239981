"""CPU seconds and memory of process trees, ended children included."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import psutil

SAMPLE_SECONDS = 0.25
MEBIBYTE = 1_048_576

Roots = Callable[[], Mapping[str, Sequence[int]]]
"""The process ids at the top of each named tree, as they are now: what was killed comes again under another one."""
_Key = tuple[int, float]


@dataclass
class Tree:
    """One named tree of processes, looked at again and again.

    A process that ended between two looks has left what it had used with the parent that waited for it. Where the system
    does not tell that (macOS), what was last seen of it counts.
    """

    rss_mb: list[float] = field(default_factory=list)
    """A sample per look."""
    _own: dict[_Key, float] = field(default_factory=dict)
    _waited_for: dict[_Key, float] = field(default_factory=dict)
    _roots: set[_Key] = field(default_factory=set)
    _alive: set[_Key] = field(default_factory=set)

    def look(self, root_pids: Sequence[int]) -> None:
        self._alive.clear()
        rss = 0
        for process, is_root in _trees(root_pids):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                key = (process.pid, process.create_time())
                times, memory = process.cpu_times(), process.memory_info()
                self._own[key] = times.user + times.system
                self._waited_for[key] = times.children_user + times.children_system
                self._alive.add(key)
                if is_root:
                    self._roots.add(key)
                # Private memory, so that Postgres' shared buffers count once at most. macOS does not tell what is shared.
                rss += memory.rss - getattr(memory, "shared", 0)
        self.rss_mb.append(rss / MEBIBYTE)

    def cpu_seconds(self) -> float:
        """Everything the tree has used since its processes started."""
        ended = self._own.keys() - self._alive - self._roots
        own = sum(used for key, used in self._own.items() if key not in ended)
        return own + max(sum(self._own[key] for key in ended), sum(self._waited_for.values()))

    def peak_rss_mb(self) -> float:
        return max(self.rss_mb, default=0.0)


def _trees(root_pids: Sequence[int]) -> list[tuple[psutil.Process, bool]]:
    found = []
    for pid in root_pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            found.append((root, True))
            found.extend((child, False) for child in root.children(recursive=True))
    return found


class UsageWatch:
    """`async with UsageWatch(roots) as watch:`, then what the trees used in the time inside."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._trees: dict[str, Tree] = {}
        self._before: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> UsageWatch:
        self._look()
        self._before = {name: tree.cpu_seconds() for name, tree in self._trees.items()}
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._look()

    def cpu_seconds(self) -> dict[str, float]:
        return {name: tree.cpu_seconds() - self._before.get(name, 0.0) for name, tree in self._trees.items()}

    def peak_rss_mb(self) -> dict[str, float]:
        return {name: tree.peak_rss_mb() for name, tree in self._trees.items()}

    def rss_samples_mb(self) -> dict[str, list[float]]:
        return {name: tree.rss_mb for name, tree in self._trees.items()}

    def _look(self) -> None:
        for name, pids in self._roots().items():
            self._trees.setdefault(name, Tree()).look(pids)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            self._look()
