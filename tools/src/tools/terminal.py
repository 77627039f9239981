"""What the tools show a person: numbered steps with seconds, one live line, columns by display width.

No terminal: plain lines, no live line. `NO_COLOR` is honoured. Chinese characters are two columns wide.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TextIO

import wcwidth
from rich.console import Console
from rich.text import Text

PLAIN_NOTE_SECONDS = 10.0
"""Without a terminal a live line becomes an ordinary one, this seldom."""

Style = Literal["", "bold", "dim", "green", "red", "yellow", "cyan", "bold green", "bold red"]


def display_width(text: str) -> int:
    # wcswidth answers -1 for text with control characters; those take no column here.
    return sum(max(0, wcwidth.wcwidth(character)) for character in text)


def clip(text: str, width: int) -> str:
    """Cut to a number of columns, never through the middle of a character."""
    if display_width(text) <= width:
        return text
    kept, used = [], 0
    for character in text:
        used += max(0, wcwidth.wcwidth(character))
        if used > width - 1:
            break
        kept.append(character)
    return "".join(kept) + "…"


def pad(text: str, width: int, *, align: Literal["left", "right"] = "left") -> str:
    """Fill up to a number of columns."""
    space = " " * max(0, width - display_width(text))
    return space + text if align == "right" else text + space


def columns(rows: Iterable[Sequence[object]], *, right: Iterable[int] = (), gap: str = "  ") -> list[str]:
    """Lay rows out in columns; numbers of columns in ``right`` are aligned to the right."""
    texts = [[str(cell) for cell in row] for row in rows]
    aligned_right = set(right)
    widths = [max(map(display_width, column)) for column in zip(*texts, strict=True)]
    return [
        gap.join(
            pad(cell, width, align="right" if number in aligned_right else "left")
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in texts
    ]


def megabytes(count: int) -> str:
    return f"{count / 1_000_000:.1f} MB"


class Step:
    """What a running step may say."""

    def __init__(self, terminal: Terminal, label: str) -> None:
        self.done: str | None = None
        """Shown instead of "<title> ready" when the step ends."""
        self._terminal = terminal
        self._label = label

    def note(self, text: str) -> None:
        """Say how far it is; from any thread."""
        self._terminal.live(f"{self._label} {text}")


class Terminal:
    """One output with numbered steps and one live line at its end."""

    def __init__(self, stream: TextIO | None = None, *, steps: int = 0) -> None:
        self._stream = stream or sys.stdout
        # Wrapping is the terminal's own business: a path or a command must stay in one piece for copying.
        self._console = Console(file=self._stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._steps = steps
        self._number = 0
        self._live = ""
        self._noted_at = time.monotonic()
        self._lock = threading.RLock()

    @property
    def is_interactive(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def add_steps(self, count: int) -> None:
        """Announce steps before the first one runs: several parts of a run share one numbering."""
        self._steps += count

    @contextlib.contextmanager
    def step(self, title: str, *, started_at: float | None = None) -> Iterator[Step]:
        """Show a step while it runs and, when it has ended, how long it took.

        ``started_at`` (of ``time.monotonic``) is for work that began before it got the line.
        """
        self._number += 1
        prefix = f"[{self._number}/{max(self._steps, self._number)}] "
        began = time.monotonic() if started_at is None else started_at
        step = Step(self, f"{prefix}{title}")
        step.note("…")
        try:
            yield step
        except BaseException:
            self._line(prefix, f"{title} failed", "red", began)
            raise
        self._line(prefix, step.done or f"{title} ready", "", began)

    def live(self, text: str) -> None:
        """Replace the live line."""
        with self._lock:
            if self.is_interactive:
                self._live = text
                self._draw()
            elif time.monotonic() - self._noted_at >= PLAIN_NOTE_SECONDS:
                self._noted_at = time.monotonic()
                self._console.print(text)

    def say(self, text: str = "", style: Style = "") -> None:
        """Print a line above the live one."""
        with self._lock:
            self._erase()
            self._console.print(Text(text), style=style or None)
            if self._live:
                self._draw()

    def end_live(self) -> None:
        with self._lock:
            self._erase()
            self._live = ""

    def _line(self, prefix: str, text: str, style: Style, began: float) -> None:
        with self._lock:
            self.end_live()
            self._noted_at = time.monotonic()
            seconds = f" {time.monotonic() - began:.1f} s"
            self._console.print(Text.assemble((prefix, "dim"), (text, style), (seconds, "dim")))

    def _draw(self) -> None:
        # The last column stays free: some terminals wrap when it is written.
        self._stream.write(f"\r\x1b[2K{clip(self._live, self._console.width - 1)}")
        self._stream.flush()

    def _erase(self) -> None:
        if self._live and self.is_interactive:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
