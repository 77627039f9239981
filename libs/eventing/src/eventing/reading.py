"""From a record to an item of work: whose it is, what it says, or why it cannot be understood."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from contracts import Event
from eventing import envelope
from eventing.broker import Record
from eventing.envelope import Attributes, Received
from eventing.errors import InvalidRecordError
from eventing.observe import Observer
from eventing.routes import AnyRoute, ForeignRoute, RawRoute, Route

FOREIGN_SOURCE = "external"
_AHEAD = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a record was not handled. Never holds values of the record."""

    code: str
    reason: str
    field: str = ""


@dataclass(slots=True, eq=False)
class Item:
    """One record on its way through a batch."""

    record: Record
    key: str
    route: AnyRoute
    received: Received[Any] | None = None
    fault: Fault | None = None
    scope: str = ""
    """Whose record it is, for the breaker of foreign topics."""
    claimable: bool = True
    """Whether an inbox row can stand for it."""
    position: int = 0
    stash_id: Any = None

    @property
    def foreign(self) -> bool:
        return isinstance(self.route, ForeignRoute)

    @property
    def content_hash(self) -> bytes:
        if self.received is not None:
            return self.received.content_hash
        return envelope.content_hash("", self.record.value or b"")


class Reader:
    """Reads the records of one consumer's topics."""

    def __init__(self, routes: Iterable[AnyRoute], observer: Observer) -> None:
        self._raw: dict[str, RawRoute] = {}
        self._foreign: dict[str, ForeignRoute[Any]] = {}
        self._typed: dict[str, dict[str, Route[Any]]] = {}
        self._observer = observer
        for route in routes:
            taken = route.topic in self._raw or route.topic in self._foreign
            if isinstance(route, Route):
                types = self._typed.setdefault(route.topic, {})
                if taken or route.event.TYPE in types:
                    raise ValueError(f"two routes for {route.event.TYPE} on {route.topic}")
                types[route.event.TYPE] = route
            elif taken or route.topic in self._typed:
                raise ValueError(f"two routes for {route.topic}")
            elif isinstance(route, RawRoute):
                self._raw[route.topic] = route
            else:
                self._foreign[route.topic] = route

    def read(self, record: Record, *, now: datetime | None, oldest: date | None) -> Item | None:
        """Read one record; None for a type that this consumer does not know.

        `now` and `oldest` None: no limits on age, for what waits in the stash.
        """
        topic = record.topic
        if (foreign := self._foreign.get(topic)) is not None:
            return _read_foreign(record, foreign, oldest)
        raw_route = self._raw.get(topic)
        types = self._typed.get(topic, {})
        fallback = raw_route if raw_route is not None else next(iter(types.values()), None)
        if fallback is None:  # A record in the stash whose topic is read no more.
            raise LookupError(f"no route reads {topic}")
        key = envelope.key_of(record)
        try:
            attributes = envelope.attributes_of(record.headers)
        except InvalidRecordError as error:
            return Item(record, key, fallback, fault=_fault(error), claimable=False)
        route = raw_route or types.get(attributes.type)
        if route is None:
            self._observer.skipped_type(topic, attributes.type)
            return None
        if (out_of_reach := _outside(attributes.time, now, oldest)) is not None:
            blank = envelope.received(record, attributes, key=key, event=None)
            return Item(record, key, route, blank, out_of_reach, claimable=False)
        if isinstance(route, RawRoute):
            return Item(record, key, route, envelope.received(record, attributes, key=key, event=None))
        try:
            return Item(record, key, route, envelope.decode(record, attributes, route.event))
        except InvalidRecordError as error:
            blank = envelope.received(record, attributes, key=key, event=None)
            return Item(record, key, route, blank, _fault(error))

    def models(self, topic: str) -> list[type[Event]]:
        """The models that a body of this topic may be validated against; none for raw topics."""
        if topic in self._foreign:
            return [self._foreign[topic].event]
        return [route.event for route in self._typed.get(topic, {}).values()]


def _read_foreign(record: Record, route: ForeignRoute[Any], oldest: date | None) -> Item:
    raw = record.value or b""
    try:
        event = envelope.validate(record.value, route.event)
        envelope.refuse_duplicate_keys(raw)
        key, identity = route.identify(event, raw)
        scope = route.scope(event) if route.scope is not None else ""
    except InvalidRecordError as error:
        return Item(record, envelope.key_of(record), route, fault=_fault(error), claimable=False)
    time = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    traceparent = next((value.decode(errors="replace") for name, value in record.headers if name == "traceparent"), None)
    attributes = Attributes(identity, FOREIGN_SOURCE, route.event.TYPE, "", time, key, traceparent, {})
    item = Item(record, key, route, envelope.received(record, attributes, key=key, event=event), scope=scope)
    # The broker stamps the time: an old one is a backlog, not a lie. What is too old for the inbox has the handler's own dedup.
    item.claimable = oldest is None or time.date() >= oldest
    return item


def _outside(time: datetime, now: datetime | None, oldest: date | None) -> Fault | None:
    if now is not None and time > now + _AHEAD:
        return Fault("too_far_ahead", "more than 24 hours ahead", "ce_time")
    if oldest is not None and time.date() < oldest:
        return Fault("too_old", "older than what the inbox remembers", "ce_time")
    return None


def _fault(error: InvalidRecordError) -> Fault:
    return Fault(error.code, error.reason, error.field)
