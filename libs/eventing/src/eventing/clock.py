"""Where time and identifiers come from. Both are handed in, so that tests and simulations can own them."""

from __future__ import annotations

from datetime import UTC, datetime
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
    def now(self) -> datetime:
        return datetime.now(UTC)


class TimeOrderedIds:
    """UUIDv7: sorted by time, so that index pages fill one after the other."""

    def new_id(self) -> UUID:
        return UUID(int=uuid_utils.uuid7().int)
