"""Where time and identifiers come from. Both are handed in, so that tests and simulations can own them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

import uuid_utils


class Clock(Protocol):
    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        ...


class IdSource(Protocol):
    def new_id(self) -> UUID:
        """Return a fresh UUIDv7."""
        ...


class SystemClock:
    """The machine's clock; set wrong by `offset_seconds` where a test of faults wants to know what a wrong one does."""

    def __init__(self, offset_seconds: float = 0.0) -> None:
        self._offset = timedelta(seconds=offset_seconds)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset


class TimeOrderedIds:
    """UUIDv7: sorted by time, so that index pages fill one after the other."""

    def new_id(self) -> UUID:
        return UUID(int=uuid_utils.uuid7().int)
