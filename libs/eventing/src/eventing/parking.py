"""The stash: what one key of one consumer must wait with, in order, and the quarantine of foreign topics. Statements only.

A key is stashed because a record of it was refused (cause `parked`) or lacks a fact (cause `waiting`); later records of the
key, of every topic, queue behind it. The row of `parked_key` is the key's lock: whoever appends or drains holds it.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from eventing.broker import Record
from eventing.clock import IdSource
from eventing.reading import Fault, Item
from eventing.sealing import Sealer

RECHECK = timedelta(seconds=5)
RECORDS_PER_KEY = 200
"""How much of one key is drained in one transaction."""

_LOCK_KEYS = text(
    """
    SELECT key FROM parked_key
    WHERE consumer = CAST(:consumer AS text) AND key = ANY(CAST(:keys AS text[])) ORDER BY key FOR UPDATE
    """
)
_LOCK_WISHED = text(
    """
    SELECT key, wish FROM parked_key
    WHERE consumer = CAST(:consumer AS text) AND wish IS NOT NULL ORDER BY wished_at, key LIMIT :keys FOR UPDATE SKIP LOCKED
    """
)
_LOCK_WISHED_KEYS = text(
    """
    SELECT key, wish FROM parked_key
    WHERE consumer = CAST(:consumer AS text) AND wish IS NOT NULL AND key = ANY(CAST(:keys AS text[])) ORDER BY key FOR UPDATE
    """
)
_OPEN_KEYS = text(
    """
    INSERT INTO parked_key (consumer, key, cause, reason_code, reason, field, topic, parked_at, wish, wished_at)
    SELECT CAST(:consumer AS text), key, cause, code, reason, field, topic, CAST(:now AS timestamptz), wish,
        CASE WHEN wish IS NOT NULL THEN CAST(:now AS timestamptz) END
    FROM unnest(
        CAST(:keys AS text[]), CAST(:causes AS text[]), CAST(:codes AS text[]), CAST(:reasons AS text[]),
        CAST(:fields AS text[]), CAST(:topics AS text[]), CAST(:wishes AS text[])
    ) AS r(key, cause, code, reason, field, topic, wish)
    ON CONFLICT (consumer, key) DO UPDATE SET
        cause = excluded.cause, reason_code = excluded.reason_code, reason = excluded.reason, field = excluded.field,
        topic = excluded.topic, wish = excluded.wish, wished_at = excluded.wished_at
    """
)
_APPEND = text(
    """
    INSERT INTO parked_record (
        id, consumer, key, topic, partition, record_offset, record_time, ce_id, type, content_hash, record_key, headers, body,
        received_at
    )
    SELECT id, CAST(:consumer AS text), key, topic, partition, record_offset, record_time, ce_id, type, content_hash,
        record_key, headers, body, CAST(:now AS timestamptz)
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:keys AS text[]), CAST(:topics AS text[]), CAST(:partitions AS integer[]),
        CAST(:offsets AS bigint[]), CAST(:times AS timestamptz[]), CAST(:ce_ids AS uuid[]), CAST(:types AS text[]),
        CAST(:hashes AS bytea[]), CAST(:record_keys AS bytea[]), CAST(:headers AS bytea[]), CAST(:bodies AS bytea[])
    ) AS r(id, key, topic, partition, record_offset, record_time, ce_id, type, content_hash, record_key, headers, body)
    ON CONFLICT (consumer, topic, partition, record_offset) DO NOTHING
    """
)
_EXPECTING = text(
    """
    INSERT INTO waiting (kind, key, consumer, stash_key, since, check_at)
    SELECT kind, key, CAST(:consumer AS text), stash_key, CAST(:now AS timestamptz), CAST(:check_at AS timestamptz)
    FROM unnest(CAST(:kinds AS text[]), CAST(:keys AS text[]), CAST(:stash_keys AS text[])) AS r(kind, key, stash_key)
    ON CONFLICT (kind, key, consumer, stash_key) DO NOTHING
    """
)
_LOAD = text(
    """
    SELECT r.id, r.key, r.topic, r.partition, r.record_offset, r.record_time, r.record_key, r.headers, r.body
    FROM unnest(CAST(:keys AS text[])) AS wanted(key)
    CROSS JOIN LATERAL (
        SELECT * FROM parked_record p
        WHERE p.consumer = CAST(:consumer AS text) AND p.key = wanted.key ORDER BY p.position LIMIT :per_key
    ) AS r
    ORDER BY r.position
    """
)
_REMOVE_RECORDS = text("DELETE FROM parked_record WHERE id = ANY(CAST(:ids AS uuid[]))")
_DISCARD_RECORDS = text(
    "DELETE FROM parked_record WHERE consumer = CAST(:consumer AS text) AND key = ANY(CAST(:keys AS text[]))"
)
_FORGET_WAITING = text(
    """
    DELETE FROM waiting w WHERE consumer = CAST(:consumer AS text) AND stash_key = ANY(CAST(:keys AS text[]))
        AND NOT EXISTS (
            SELECT FROM unnest(CAST(:still_kinds AS text[]), CAST(:still_keys AS text[]), CAST(:still_stashes AS text[]))
                AS still(kind, key, stash_key)
            WHERE still.kind = w.kind AND still.key = w.key AND still.stash_key = w.stash_key
        )
    """
)
_CLOSE_EMPTY = text(
    """
    DELETE FROM parked_key k WHERE consumer = CAST(:consumer AS text) AND key = ANY(CAST(:keys AS text[]))
        AND NOT EXISTS (SELECT FROM parked_record r WHERE r.consumer = k.consumer AND r.key = k.key)
    """
)
_ADD_QUARANTINE = text(
    """
    INSERT INTO quarantine (
        id, consumer, topic, partition, record_offset, record_time, reason_code, reason, field, content_hash, record_key,
        headers, body, at
    )
    SELECT id, CAST(:consumer AS text), topic, partition, record_offset, record_time, code, reason, field, content_hash,
        record_key, headers, body, CAST(:now AS timestamptz)
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:topics AS text[]), CAST(:partitions AS integer[]), CAST(:offsets AS bigint[]),
        CAST(:times AS timestamptz[]), CAST(:codes AS text[]), CAST(:reasons AS text[]), CAST(:fields AS text[]),
        CAST(:hashes AS bytea[]), CAST(:record_keys AS bytea[]), CAST(:headers AS bytea[]), CAST(:bodies AS bytea[])
    ) AS r(id, topic, partition, record_offset, record_time, code, reason, field, content_hash, record_key, headers, body)
    ON CONFLICT (consumer, topic, partition, record_offset) DO NOTHING
    RETURNING id
    """
)
_LOCK_QUARANTINE = text(
    """
    SELECT id, topic, partition, record_offset, record_time, record_key, headers, body, wish FROM quarantine
    WHERE consumer = CAST(:consumer AS text) AND wish IS NOT NULL ORDER BY wished_at, id LIMIT :records FOR UPDATE SKIP LOCKED
    """
)
_REMOVE_QUARANTINE = text("DELETE FROM quarantine WHERE id = ANY(CAST(:ids AS uuid[]))")
_BLAME_QUARANTINE = text(
    """
    UPDATE quarantine q SET wish = NULL, wished_at = NULL, reason_code = r.code, reason = r.reason, field = r.field
    FROM unnest(CAST(:ids AS uuid[]), CAST(:codes AS text[]), CAST(:reasons AS text[]), CAST(:fields AS text[]))
        AS r(id, code, reason, field)
    WHERE q.id = r.id
    """
)
_WISHES = text(
    """
    SELECT EXISTS (SELECT FROM parked_key WHERE consumer = CAST(:consumer AS text) AND wish IS NOT NULL)
        OR EXISTS (SELECT FROM quarantine WHERE consumer = CAST(:consumer AS text) AND wish IS NOT NULL)
    """
)


class OpenKey(NamedTuple):
    """A key that from now on has a stash, and why."""

    key: str
    cause: str
    fault: Fault
    topic: str
    wish: str | None = None


class StashedRecord(NamedTuple):
    id: UUID
    key: str
    record: Record


class Expectation(NamedTuple):
    kind: str
    key: str
    stash_key: str


async def lock_stashed(connection: AsyncConnection, consumer: str, keys: Sequence[str]) -> set[str]:
    """Lock the stashes among these keys; a key whose stash was emptied while we waited is not among them."""
    rows = await connection.execute(_LOCK_KEYS, {"consumer": consumer, "keys": keys})
    return set(rows.scalars())


async def lock_wished(connection: AsyncConnection, consumer: str, *, limit: int, keys: Sequence[str] | None) -> dict[str, str]:
    """Lock stashes that somebody wants retried or discarded: key → wish."""
    if keys is None:
        rows = await connection.execute(_LOCK_WISHED, {"consumer": consumer, "keys": limit})
    else:
        rows = await connection.execute(_LOCK_WISHED_KEYS, {"consumer": consumer, "keys": list(keys)})
    return {row.key: row.wish for row in rows}


async def open_keys(connection: AsyncConnection, consumer: str, opened: Sequence[OpenKey], *, now: datetime) -> None:
    """Open or relabel stashes."""
    if not opened:
        return
    ordered = sorted(opened)
    await connection.execute(
        _OPEN_KEYS,
        {
            "consumer": consumer,
            "keys": [one.key for one in ordered],
            "causes": [one.cause for one in ordered],
            "codes": [one.fault.code for one in ordered],
            "reasons": [one.fault.reason for one in ordered],
            "fields": [one.fault.field for one in ordered],
            "topics": [one.topic for one in ordered],
            "wishes": [one.wish for one in ordered],
            "now": now,
        },
    )


async def append(
    connection: AsyncConnection, consumer: str, items: Sequence[Item], *, now: datetime, ids: IdSource, sealer: Sealer
) -> None:
    """Put records at the end of their keys' stashes, sealed."""
    if not items:
        return
    await connection.execute(
        _APPEND,
        _sealed_columns(items, sealer)
        | {
            "consumer": consumer,
            "ids": [ids.new_id() for _ in items],
            "keys": [item.key for item in items],
            "ce_ids": [item.received.id if item.received is not None else None for item in items],
            "types": [item.received.type if item.received is not None else "" for item in items],
            "now": now,
        },
    )


async def expect(connection: AsyncConnection, consumer: str, expectations: Iterable[Expectation], *, now: datetime) -> None:
    """Note what stashes wait for."""
    rows = sorted(set(expectations))
    if not rows:
        return
    await connection.execute(
        _EXPECTING,
        {
            "consumer": consumer,
            "kinds": [row.kind for row in rows],
            "keys": [row.key for row in rows],
            "stash_keys": [row.stash_key for row in rows],
            "now": now,
            "check_at": now + RECHECK,
        },
    )


async def load(
    connection: AsyncConnection, consumer: str, keys: Sequence[str], *, per_key: int, sealer: Sealer
) -> list[StashedRecord]:
    """Read the first records of these stashes, in order."""
    rows = await connection.execute(_LOAD, {"consumer": consumer, "keys": list(keys), "per_key": per_key})
    return [StashedRecord(row.id, row.key, _record_of(row, sealer)) for row in rows]


async def settle(
    connection: AsyncConnection,
    consumer: str,
    keys: Sequence[str],
    *,
    handled: Sequence[UUID],
    still: Sequence[Expectation] = (),
) -> None:
    """Remove handled records, forget what these keys wait for no more, close the stashes that are empty."""
    if handled:
        await connection.execute(_REMOVE_RECORDS, {"ids": sorted(handled)})
    await connection.execute(
        _FORGET_WAITING,
        {
            "consumer": consumer,
            "keys": sorted(keys),
            "still_kinds": [one.kind for one in still],
            "still_keys": [one.key for one in still],
            "still_stashes": [one.stash_key for one in still],
        },
    )
    await connection.execute(_CLOSE_EMPTY, {"consumer": consumer, "keys": sorted(keys)})


async def discard(connection: AsyncConnection, consumer: str, keys: Sequence[str]) -> None:
    """Empty these stashes unhandled."""
    await connection.execute(_DISCARD_RECORDS, {"consumer": consumer, "keys": sorted(keys)})
    await settle(connection, consumer, keys, handled=[])


async def quarantine(
    connection: AsyncConnection, consumer: str, items: Sequence[Item], *, now: datetime, ids: IdSource, sealer: Sealer
) -> list[Item]:
    """Set records aside, sealed; return those that were not there yet."""
    if not items:
        return []
    new_ids = [ids.new_id() for _ in items]
    faults = [item.fault or Fault("unknown", "no reason was noted") for item in items]
    rows = await connection.execute(
        _ADD_QUARANTINE,
        _sealed_columns(items, sealer)
        | {
            "consumer": consumer,
            "ids": new_ids,
            "codes": [fault.code for fault in faults],
            "reasons": [fault.reason for fault in faults],
            "fields": [fault.field for fault in faults],
            "now": now,
        },
    )
    added = set(rows.scalars())
    return [item for item, new_id in zip(items, new_ids, strict=True) if new_id in added]


async def lock_quarantine(
    connection: AsyncConnection, consumer: str, *, limit: int, sealer: Sealer
) -> tuple[list[StashedRecord], list[UUID]]:
    """Lock what somebody wants retried, and the ids of what is to be discarded."""
    rows = (await connection.execute(_LOCK_QUARANTINE, {"consumer": consumer, "records": limit})).all()
    retried = [StashedRecord(row.id, "", _record_of(row, sealer)) for row in rows if row.wish == "retry"]
    return retried, [row.id for row in rows if row.wish == "discard"]


async def leave_quarantine(connection: AsyncConnection, ids: Sequence[UUID]) -> None:
    if ids:
        await connection.execute(_REMOVE_QUARANTINE, {"ids": sorted(ids)})


async def stay_in_quarantine(connection: AsyncConnection, faults: Mapping[UUID, Fault]) -> None:
    """Note why a retry failed, and take the wish back."""
    if faults:
        ids = sorted(faults)
        await connection.execute(
            _BLAME_QUARANTINE,
            {
                "ids": ids,
                "codes": [faults[one].code for one in ids],
                "reasons": [faults[one].reason for one in ids],
                "fields": [faults[one].field for one in ids],
            },
        )


async def any_wishes(connection: AsyncConnection, consumer: str) -> bool:
    return bool((await connection.execute(_WISHES, {"consumer": consumer})).scalar_one())


def seal_headers(headers: Iterable[tuple[str, bytes]], sealer: Sealer) -> bytes:
    """Headers may be any bytes, and a name may repeat."""
    return sealer.seal(json.dumps([[name, b64encode(value or b"").decode()] for name, value in headers]).encode())


def open_headers(sealed: bytes, sealer: Sealer) -> list[tuple[str, bytes]]:
    return [(name, b64decode(value)) for name, value in json.loads(sealer.open(sealed))]


def _record_of(row: Any, sealer: Sealer) -> Record:
    return Record(
        row.topic,
        row.partition,
        row.record_offset,
        int(row.record_time.timestamp() * 1000),
        row.record_key,
        sealer.open(row.body),
        open_headers(row.headers, sealer),
    )


def _sealed_columns(items: Sequence[Item], sealer: Sealer) -> dict[str, list[Any]]:
    records = [item.record for item in items]
    return {
        "topics": [record.topic for record in records],
        "partitions": [record.partition for record in records],
        "offsets": [record.offset for record in records],
        "times": [datetime.fromtimestamp(record.timestamp_ms / 1000, UTC) for record in records],
        "hashes": [item.content_hash for item in items],
        "record_keys": [record.key for record in records],
        "headers": [seal_headers(record.headers, sealer) for record in records],
        "bodies": [sealer.seal(record.value or b"") for record in records],
    }
