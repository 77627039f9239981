"""CloudEvents 1.0 in Kafka's binary mode: attributes as headers, the body as the value.

Encoding fixes id, time and bytes: what is in the outbox is what is sent, again and again if need be. Decoding trusts nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from contracts import Event
from eventing.broker import Record, partition_of
from eventing.errors import EventTooLargeError, InvalidRecordError

E = TypeVar("E")
MAX_BODY_BYTES = 512 * 1024
SHARDS = 16
HASH_BYTES = 16
_NUL = b"\\u0000"
_REQUIRED = ("ce_id", "ce_source", "ce_type", "ce_time")
_PLAIN = frozenset(
    ("ce_id", "ce_source", "ce_type", "ce_time", "ce_dataschema", "ce_subject", "ce_specversion", "content-type", "traceparent")
)


@dataclass(frozen=True, slots=True, eq=False)
class Received(Generic[E]):
    """One record, decoded. Equal only to itself: two deliveries of one event are two of these."""

    event: E
    id: UUID
    source: str
    time: datetime
    type: str
    topic: str
    partition: int
    offset: int
    key: str
    subject: str
    """`ce_subject`: what the event speaks of; "" where the writer did not say."""
    content_hash: bytes
    traceparent: str | None
    raw: bytes
    extensions: Mapping[str, str]

    @property
    def day(self) -> date:
        return self.time.date()

    @property
    def identity(self) -> tuple[date, str, str, UUID]:
        """What makes two deliveries one event; sorts in the order in which inbox rows are claimed."""
        return (self.time.date(), self.topic, self.source, self.id)


class OutboxRow(NamedTuple):
    """One event as it will be sent, byte for byte."""

    id: UUID
    topic: str
    key: str
    type: str
    payload: bytes
    headers: bytes
    shard: int


class Attributes(NamedTuple):
    """The envelope of one record."""

    id: UUID
    source: str
    type: str
    version: str
    time: datetime
    subject: str
    traceparent: str | None
    extensions: dict[str, str]


def encode(event: Event, *, id: UUID, time: datetime, source: str, traceparent: str | None) -> OutboxRow:  # noqa: A002
    """Fix an event's bytes.

    **Errors**: EventTooLargeError over 512 KiB, an error of the emitter.
    """
    kind = type(event)
    return encode_body(
        kind.__pydantic_serializer__.to_json(event),  # What model_dump_json does, without the way over str.
        topic=kind.TOPIC,
        key=event.key,
        type=kind.TYPE,
        version=kind.VERSION,
        subject=event.subject,
        extensions=event.extensions(),
        id=id,
        time=time,
        source=source,
        traceparent=traceparent,
    )


def encode_body(
    payload: bytes,
    *,
    topic: str,
    key: str,
    type: str,  # noqa: A002
    version: int,
    subject: str,
    extensions: Mapping[str, str],
    id: UUID,  # noqa: A002
    time: datetime,
    source: str,
    traceparent: str | None,
) -> OutboxRow:
    """Fix a body's bytes under an envelope of its own."""
    if len(payload) > MAX_BODY_BYTES:
        raise EventTooLargeError(f"{type} for {topic} has {len(payload)} bytes, {MAX_BODY_BYTES} are allowed")
    headers = {
        "ce_specversion": "1.0",
        "ce_id": str(id),
        "ce_source": source,
        "ce_type": type,
        "ce_time": moment_text(time),
        "ce_dataschema": f"urn:oms:{type}:{version}",
        "ce_subject": subject,
        "content-type": "application/json",
    }
    if traceparent is not None:
        headers["traceparent"] = traceparent
    for name, value in extensions.items():
        headers[f"ce_{name}"] = value
    return OutboxRow(
        id,
        topic,
        key,
        type,
        payload,
        to_json(headers),
        partition_of(key.encode(), SHARDS),
    )


def headers_of(stored: bytes) -> list[tuple[str, bytes]]:
    """Turn an outbox row's headers into Kafka's."""
    return [(name, value.encode()) for name, value in from_json(stored).items()]


def attributes_of(headers: Sequence[tuple[str, bytes]]) -> Attributes:
    """Read and check the envelope.

    **Errors**: InvalidRecordError that names the header.
    """
    try:
        texts = {name: value.decode() for name, value in headers}
    except (UnicodeDecodeError, AttributeError) as error:
        raise InvalidRecordError("envelope", "a header is not UTF-8 text", "headers") from error
    for name in _REQUIRED:
        if not texts.get(name):
            raise InvalidRecordError("envelope", "the header is missing", name)
    everything = "".join(texts.values())
    if "\x00" in everything or "\\u0000" in everything:
        raise InvalidRecordError("envelope", "a header holds a NUL character", "headers")
    try:
        event_id = UUID(texts["ce_id"])
    except ValueError as error:
        raise InvalidRecordError("envelope", "not a UUID", "ce_id") from error
    try:
        time = datetime.fromisoformat(texts["ce_time"])
    except ValueError as error:
        raise InvalidRecordError("envelope", "not an RFC 3339 time", "ce_time") from error
    if time.tzinfo is None:
        raise InvalidRecordError("envelope", "a time without offset", "ce_time")
    try:
        time = time.astimezone(UTC)
    except OverflowError as error:
        raise InvalidRecordError("envelope", "a time outside the calendar", "ce_time") from error
    return Attributes(
        event_id,
        texts["ce_source"],
        texts["ce_type"],
        texts.get("ce_dataschema", "").rpartition(":")[2],
        time,
        texts.get("ce_subject", ""),
        texts.get("traceparent"),
        {name[3:]: value for name, value in texts.items() if name not in _PLAIN and name.startswith("ce_")},
    )


def key_of(record: Record) -> str:
    """The record's key as text; whatever the bytes are, equal bytes give equal text."""
    try:
        key = (record.key or b"").decode()
    except UnicodeDecodeError:
        return "0x" + (record.key or b"").hex()
    return key.replace("\x00", "\\0")


def decode(record: Record, attributes: Attributes, model: type[Event]) -> Received[Any]:
    """Validate a body against its model.

    **Errors**: InvalidRecordError that names field and reason, never the value.
    """
    if attributes.version not in ("", str(model.VERSION)):
        raise InvalidRecordError("unknown_version", f"this service reads version {model.VERSION}", "ce_dataschema")
    return received(record, attributes, key=key_of(record), event=validate(record.value, model))


def validate(value: bytes | None, model: type[BaseModel]) -> Any:
    """Validate a body's bytes.

    **Errors**: InvalidRecordError.
    """
    if value is None:
        raise InvalidRecordError("schema", "the body is missing")
    if _NUL in value:
        raise InvalidRecordError("schema", "the body holds a NUL character")
    try:
        return model.model_validate_json(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(step) for step in first["loc"])
        raise InvalidRecordError("schema", first["msg"], field) from error


def received(record: Record, attributes: Attributes, *, key: str, event: Any) -> Received[Any]:
    """Put record, envelope and event together."""
    raw = record.value or b""
    return Received(
        event,
        attributes.id,
        attributes.source,
        attributes.time,
        attributes.type,
        record.topic,
        record.partition,
        record.offset,
        key,
        attributes.subject,
        content_hash(attributes.type, raw),
        attributes.traceparent,
        raw,
        attributes.extensions,
    )


def content_hash(type: str, body: bytes) -> bytes:  # noqa: A002
    """Two records with the same identity are the same event if and only if this is equal."""
    digest = blake2b(type.encode() + b"\x00", digest_size=HASH_BYTES)
    digest.update(body)
    return digest.digest()


def refuse_duplicate_keys(body: bytes) -> None:
    """Refuse JSON objects that name a key twice: readers would disagree about what they say.

    **Errors**: InvalidRecordError.
    """
    try:
        json.loads(body, object_pairs_hook=_unique)
    except ValueError as error:
        raise InvalidRecordError("schema", "not JSON in UTF-8") from error
    except RecursionError as error:
        raise InvalidRecordError("schema", "nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise InvalidRecordError("duplicate_key", "a JSON object names a key twice")


@lru_cache(maxsize=16)  # All events of a unit of work have one time.
def moment_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
