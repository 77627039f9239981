"""The exception tree of this package, and which fate each failure belongs to.

EventingError
├── InvalidRecordError    a record that cannot be understood: parked or quarantined
├── EventTooLargeError    an emitter's mistake: poison for the record that caused it
├── UnavailableError      database or broker away: wait and try again, for ever
├── BreakerOpenError      too many keys fail: stop, it is the deployment
├── UnknownOutcomeError   a send that may or may not have arrived: start again with a new producer
├── LeaseLostError        another worker has taken the work over: undo ours
└── Retry                 raised by a task's call: again, later
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

DEADLOCK = "40P01"
CANCELLED = frozenset({"57014", "55P03"})
"""Statement and lock time-outs: the database is there, but the same work hits the same wall again and again."""
# Connection, resources, operator intervention, system error, wrong login or database: none is the record's fault.
_UNAVAILABLE_CLASSES = frozenset({"08", "28", "3D", "53", "58"})
_UNAVAILABLE_STATES = frozenset({"40001", "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "25006", "25P03", "25P04"})


class EventingError(Exception):
    """Root of what this package raises."""


class InvalidRecordError(EventingError):
    """A record that cannot be decoded or breaks its schema.

    The text never holds values of the record: they may be personal data.
    """

    def __init__(self, code: str, reason: str, field: str = "") -> None:
        super().__init__(f"{code}: {reason}" + (f" ({field})" if field else ""))
        self.code = code
        self.reason = reason
        self.field = field


class EventTooLargeError(EventingError):
    """An event over the size that every broker and reader is set up for."""


class UnavailableError(EventingError):
    """Something that this process needs is away; the work itself is not at fault."""


class BreakerOpenError(EventingError):
    """Processing has stopped because too large a share of the keys fails."""


class UnknownOutcomeError(EventingError):
    """A wave whose records may or may not have arrived."""


class LeaseLostError(EventingError):
    """Tasks that another worker has taken over while we worked on them."""

    def __init__(self, task_ids: set[object]) -> None:
        super().__init__(f"{len(task_ids)} task leases lost")
        self.task_ids = task_ids


class Retry(EventingError):  # noqa: N818  reads as what it asks for: `raise Retry(after_seconds=5, …)`
    """Raised by a task's call: not now."""

    def __init__(self, after_seconds: float, reason: str) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds
        self.reason = reason


def sqlstate_of(error: BaseException) -> str | None:
    """The SQLSTATE behind a database error, wherever in the chain of causes it is."""
    for link in _chain(error):
        for candidate in (link, getattr(link, "orig", None)):
            state = getattr(candidate, "sqlstate", None)
            if isinstance(state, str):
                return state
    return None


def is_unavailable(error: BaseException) -> bool:
    """Whether waiting may cure it: nothing the record or the code could do about it."""
    if isinstance(error, UnavailableError | UnknownOutcomeError | PoolTimeoutError | ConnectionError | TimeoutError):
        return True
    state = sqlstate_of(error)
    if state is not None:
        return state in _UNAVAILABLE_STATES or state[:2] in _UNAVAILABLE_CLASSES
    if isinstance(error, InterfaceError):  # asyncpg: "connection is closed", "another operation is in progress"
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


def describe(error: BaseException) -> str:
    """A failure in one line fit for a table that operators read: the kind and the place, no values."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f" at {frame.tb_frame.f_code.co_qualname}:{frame.tb_lineno}" if frame is not None else ""
    state = sqlstate_of(error)
    return f"{type(error).__name__}{f' [{state}]' if state else ''}{place}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    for _ in range(10):  # Chains may be rings.
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__
