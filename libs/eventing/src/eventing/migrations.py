"""The DDL of the runtime's tables, numbered. A service's own Alembic revision takes a step in its own time:

    def upgrade() -> None:
        eventing.migrations.upgrade(op, to=1)

Inbox partitions are no part of it: they follow the calendar, and the runtime makes and drops them (`partitions.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Executes(Protocol):
    """Alembic's `op`, as far as it is needed here."""

    def execute(self, sqltext: str) -> Any: ...


VERSION_1: Sequence[str] = (
    # No index but the key, and it starts with the day: yesterday's partition is never touched again.
    """
    CREATE TABLE inbox (
        day date NOT NULL,
        topic text COLLATE "C" NOT NULL,
        source text COLLATE "C" NOT NULL,
        id uuid NOT NULL,
        content_hash bytea NOT NULL,
        PRIMARY KEY (day, topic, source, id)
    ) PARTITION BY RANGE (day)
    """,
    # The relay reads one shard in seq order and nobody reads anything else: the primary key serves that, alone.
    """
    CREATE TABLE outbox (
        seq bigint GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME outbox_seq CACHE 1),
        id uuid NOT NULL,
        aggregatetype text NOT NULL,
        aggregateid text NOT NULL,
        type text NOT NULL,
        payload bytea NOT NULL,
        headers bytea NOT NULL,
        ce_time timestamptz NOT NULL,
        shard smallint NOT NULL,
        PRIMARY KEY (shard, seq)
    )
    """,
    "ALTER TABLE outbox ALTER payload SET STORAGE EXTERNAL, ALTER headers SET STORAGE EXTERNAL",
    # Rows live for milliseconds: compressing them or moving them out of line is work for nothing. Dead ones slow the relay.
    """
    ALTER TABLE outbox SET (
        toast_tuple_target = 8160,
        autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_insert_threshold = -1,
        autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_threshold = 1000000000
    )
    """,
    """
    CREATE TABLE relay_lease (
        shard smallint PRIMARY KEY,
        owner uuid,
        until timestamptz NOT NULL DEFAULT '-infinity',
        floor bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 50)
    """,
    "INSERT INTO relay_lease (shard) SELECT generate_series(0, 15)",
    """
    CREATE TABLE relay_worker (
        owner uuid PRIMARY KEY,
        until timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE task (
        id uuid PRIMARY KEY,
        kind text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        due_at timestamptz NOT NULL,
        attempt integer NOT NULL DEFAULT 0,
        payload jsonb NOT NULL DEFAULT '{}',
        lease_owner uuid,
        lease_until timestamptz,
        again_at timestamptz,
        again_payload jsonb,
        last_error text,
        created_at timestamptz NOT NULL,
        UNIQUE (kind, key)
    )
    """,
    "CREATE INDEX task_due ON task (kind, due_at)",
    "CREATE INDEX task_leased ON task (key) WHERE lease_until IS NOT NULL",
    "ALTER TABLE task SET (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0.02)",
    """
    CREATE TABLE parked_key (
        consumer text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        cause text NOT NULL CHECK (cause IN ('parked', 'waiting')),
        reason_code text NOT NULL,
        reason text NOT NULL,
        field text NOT NULL DEFAULT '',
        topic text NOT NULL,
        parked_at timestamptz NOT NULL,
        wish text CHECK (wish IN ('retry', 'discard')),
        wished_at timestamptz,
        PRIMARY KEY (consumer, key)
    )
    """,
    "CREATE INDEX parked_key_wish ON parked_key (consumer, wished_at) WHERE wish IS NOT NULL",
    """
    CREATE TABLE parked_record (
        id uuid PRIMARY KEY,
        consumer text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        position bigint GENERATED ALWAYS AS IDENTITY,
        topic text NOT NULL,
        partition integer NOT NULL,
        record_offset bigint NOT NULL,
        record_time timestamptz NOT NULL,
        ce_id uuid,
        type text NOT NULL DEFAULT '',
        content_hash bytea NOT NULL,
        record_key bytea,
        headers bytea NOT NULL,
        body bytea NOT NULL,
        received_at timestamptz NOT NULL,
        edited_by text,
        UNIQUE (consumer, topic, partition, record_offset)
    )
    """,
    "CREATE INDEX parked_record_queue ON parked_record (consumer, key, position)",
    """
    CREATE TABLE waiting (
        kind text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        consumer text COLLATE "C" NOT NULL,
        stash_key text COLLATE "C" NOT NULL,
        since timestamptz NOT NULL,
        check_at timestamptz NOT NULL,
        PRIMARY KEY (kind, key, consumer, stash_key)
    )
    """,
    "CREATE INDEX waiting_stash ON waiting (consumer, stash_key)",
    "CREATE INDEX waiting_check ON waiting (check_at)",
    """
    CREATE TABLE quarantine (
        id uuid PRIMARY KEY,
        consumer text COLLATE "C" NOT NULL,
        topic text NOT NULL,
        partition integer NOT NULL,
        record_offset bigint NOT NULL,
        record_time timestamptz NOT NULL,
        reason_code text NOT NULL,
        reason text NOT NULL,
        field text NOT NULL DEFAULT '',
        content_hash bytea NOT NULL,
        record_key bytea,
        headers bytea NOT NULL,
        body bytea NOT NULL,
        at timestamptz NOT NULL,
        wish text CHECK (wish IN ('retry', 'discard')),
        wished_at timestamptz,
        edited_by text,
        UNIQUE (consumer, topic, partition, record_offset)
    )
    """,
    "CREATE INDEX quarantine_wish ON quarantine (consumer, wished_at) WHERE wish IS NOT NULL",
    """
    CREATE TABLE compacted_position (
        topic text COLLATE "C" NOT NULL,
        partition integer NOT NULL,
        next_offset bigint NOT NULL,
        PRIMARY KEY (topic, partition)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE breaker (
        consumer text NOT NULL,
        scope text NOT NULL DEFAULT '',
        opened_at timestamptz NOT NULL,
        half_open_at timestamptz NOT NULL,
        version text NOT NULL,
        reason text NOT NULL,
        PRIMARY KEY (consumer, scope, version)
    )
    """,
    # What a worker was about to handle, noted only where the one before it may have died of it.
    """
    CREATE TABLE suspect (
        consumer text NOT NULL,
        topic text NOT NULL,
        partition integer NOT NULL,
        record_offset bigint NOT NULL,
        deaths integer NOT NULL,
        key text,
        PRIMARY KEY (consumer, topic, partition)
    )
    """,
)
DOWN_TO_0: Sequence[str] = tuple(
    f"DROP TABLE {name}"
    for name in (
        "suspect",
        "breaker",
        "compacted_position",
        "quarantine",
        "waiting",
        "parked_record",
        "parked_key",
        "task",
        "relay_worker",
        "relay_lease",
        "outbox",
        "inbox",
    )
)
# Tasks that are due at one moment are taken in the order of their ids. A table of open tasks is small: no need to build beside.
VERSION_2: Sequence[str] = ("CREATE INDEX task_due_in_order ON task (kind, due_at, id)", "DROP INDEX task_due")
DOWN_TO_1: Sequence[str] = ("CREATE INDEX task_due ON task (kind, due_at)", "DROP INDEX task_due_in_order")
_UP = {1: VERSION_1, 2: VERSION_2}
_DOWN = {0: DOWN_TO_0, 1: DOWN_TO_1}
LATEST = 2


def upgrade(op: Executes, *, to: int) -> None:
    """Take the one step that leads to version `to`."""
    for statement in _UP[to]:
        op.execute(statement)


def downgrade(op: Executes, *, to: int) -> None:
    """Take the one step back that leads to version `to`."""
    for statement in _DOWN[to]:
        op.execute(statement)


def statements() -> list[str]:
    """Return all DDL up to the latest version, for databases that are made without Alembic."""
    return [statement for version in sorted(_UP) for statement in _UP[version]]
