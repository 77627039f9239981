"""What a bench is."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tools.bench.figures import Figure
from tools.terminal import Terminal


@dataclass(frozen=True, slots=True)
class Setting:
    """How a run is to be."""

    terminal: Terminal
    orders: int | None = None
    """None: the bench's own count."""
    short: bool = False
    """A tenth or so, to see that it works: its figures are kept apart and mean little."""

    def count(self, full: int, short: int) -> int:
        """How many orders, or times, or seconds."""
        return self.orders or self.seconds(full, short)

    def seconds(self, full: int, short: int) -> int:
        return short if self.short else full


@dataclass(frozen=True, slots=True)
class Bench:
    name: str
    title: str
    run: Callable[[Setting], Coroutine[Any, Any, dict[str, Any]]]
    figures: tuple[Figure, ...]
    """The first is the headline."""
    steps: int
    """Numbered steps of a run, the stack's own left out."""
