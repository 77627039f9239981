"""What a service declares: which records go to which handler, which tasks to which code. Values only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar
from uuid import UUID

from contracts import Event
from contracts.envelope import Compacted
from eventing.envelope import Received

if TYPE_CHECKING:
    from eventing.work import UnitOfWork

E = TypeVar("E", bound=Event)
C = TypeVar("C", bound=Compacted)
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A handler's answer for a record that lacks a fact: nothing was written for it, it is to be handled again."""

    received: Received[Any]
    kind: str
    key: str


Handler = Callable[[Sequence[Received[E]], "UnitOfWork"], Awaitable[Sequence[Waiting] | None]]


@dataclass(frozen=True, slots=True)
class Route(Generic[E]):
    """Events of one type, decoded and validated."""

    event: type[E]
    handler: Handler[E]
    supersedes: Callable[[Received[E], Received[None]], bool] | None = None
    """Asked when such a record comes for a key that has a stash, with the envelope of the first record there: whether it
    makes all that waits there pointless. Then the stash is discarded and the record handled, by a handler that never saw it.
    """

    @property
    def topic(self) -> str:
        return self.event.TOPIC


@dataclass(frozen=True, slots=True)
class RawRoute:
    """Every record of a topic by its envelope alone; `received.event` is None."""

    topic: str
    handler: Callable[[Sequence[Received[None]], UnitOfWork], Awaitable[Sequence[Waiting] | None]]


@dataclass(frozen=True, slots=True)
class ForeignRoute(Generic[E]):
    """A topic that others write, without our envelope: identity comes from the body.

    `scope` names whose record it is (a shop, say): the breaker stops that one alone.
    """

    event: type[E]
    handler: Handler[E]
    identify: Callable[[E, bytes], tuple[str, UUID]]
    scope: Callable[[E], str] | None = None

    @property
    def topic(self) -> str:
        return self.event.TOPIC


AnyRoute = Route[Any] | RawRoute | ForeignRoute[Any]


@dataclass(frozen=True, slots=True)
class Consumer:
    """One consumer group: its routes share order per key and one position per topic.

    `claim`: "inbox" writes an inbox row per record; "natural" leaves telling duplicates to the handler's own keys.
    """

    name: str
    routes: Sequence[AnyRoute]
    claim: Literal["inbox", "natural"] = "inbox"

    @property
    def topics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(route.topic for route in self.routes))


@dataclass(frozen=True, slots=True)
class CompactedRoute(Generic[C]):
    """Facts of a compacted topic; `apply` keeps the highest version whatever the order."""

    event: type[C]
    apply: Callable[[Sequence[C], UnitOfWork], Awaitable[None]]

    @property
    def topic(self) -> str:
        return self.event.TOPIC


@dataclass(frozen=True, slots=True)
class NewTask:
    """Work to be done later; one open per (kind, key)."""

    kind: str
    key: str
    due_at: datetime
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """Work that is due."""

    id: UUID
    kind: str
    key: str
    due_at: datetime
    attempt: int
    payload: Mapping[str, Any]

    @property
    def idempotency_key(self) -> str:
        """The same over all retries: what the other side needs to do it once."""
        return str(self.id)


@dataclass(frozen=True, slots=True)
class Timer:
    """Due tasks handled in one transaction with their effects; the rows are gone when it commits."""

    kind: str
    handler: Callable[[Sequence[Task], UnitOfWork], Awaitable[None]]
    batch: int = 200


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """Tasks that call outside: `call` without a transaction, `record` with what came back, several at once."""

    kind: str
    call: Callable[[Task], Awaitable[Answer]]
    record: Callable[[Sequence[tuple[Task, Answer]], UnitOfWork], Awaitable[None]]
    concurrency: int = 8
    timeout_seconds: float = 10


AnyTask = Timer | Call[Any]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `/readyz`."""

    name: str
    ok: bool
    detail: str = ""
