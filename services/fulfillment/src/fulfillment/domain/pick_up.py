"""Codes at the counter: how many may be wrong."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

WRONG_CODES = 5
LOCKED_FOR = timedelta(minutes=10)
"""Five tries in ten minutes: to guess one of 10^8 takes centuries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PickUpLock:
    """Wrong codes in a row, and until when no code is looked at."""

    wrong: int = 0
    locked_until: datetime | None = None

    def is_locked(self, now: datetime) -> bool:
        return self.locked_until is not None and now < self.locked_until


def wrong_code(lock: PickUpLock, *, now: datetime) -> PickUpLock:
    """After one more wrong code; after the fifth nobody may try for a while."""
    wrong = lock.wrong + 1
    return PickUpLock(locked_until=now + LOCKED_FOR) if wrong >= WRONG_CODES else PickUpLock(wrong=wrong)
