"""Time, ids and sealing that a test owns."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID


class FakeClock:
    """Stands still until it is moved."""

    def __init__(self, now: datetime | None = None) -> None:
        self._now = now or datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def advance(self, *, seconds: float = 0, minutes: float = 0, hours: float = 0, days: float = 0) -> None:
        self._now += timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days)

    def set(self, now: datetime) -> None:
        self._now = now


class SeededIds:
    """UUIDv7-shaped, ascending, the same for every run with the same seed."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)  # noqa: S311  repeatable is what it must be
        self._count = 0

    def new_id(self) -> UUID:
        self._count += 1
        moment = 1_772_000_000_000 + self._count  # The first 48 bits of a UUIDv7: milliseconds.
        value = moment << 80 | 0x7 << 76 | self._random.getrandbits(12) << 64 | 0b10 << 62 | self._random.getrandbits(62)
        return UUID(int=value)


class PlainSealer:
    """Seals nothing: for tests that look at what was parked."""

    def seal(self, clear: bytes) -> bytes:
        return b"sealed:" + clear

    def open(self, sealed: bytes) -> bytes:
        return sealed.removeprefix(b"sealed:")
