"""Named places at which a test may let the process die, as a power cut would: SIGKILL, no clean-up."""

from __future__ import annotations

import os
import signal

POINTS = frozenset(
    (
        "after_claim",
        "before_commit",
        "after_commit",
        "before_offset_commit",
        "after_offset_commit",
        "before_send",
        "after_send",
        "after_delete",
        "after_lease",
        "after_call",
        "before_record",
        "after_apply",
    )
)


class CrashPoints:
    """Counts passings; inert unless a point was named."""

    def __init__(self, crash_at: str) -> None:
        self._point, _, count = crash_at.partition(":")
        self._left = int(count or 1)
        if self._point and self._point not in POINTS:
            raise ValueError(f"unknown crash point {self._point!r}; known: {', '.join(sorted(POINTS))}")

    def reach(self, point: str) -> None:
        if point != self._point:
            return
        self._left -= 1
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
