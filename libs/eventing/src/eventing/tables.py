"""The runtime's tables as SQLAlchemy sees them, for a service's metadata: one look at `tables.py` shows the whole database.

The DDL that makes them is in `migrations.py`; a test holds the two together. Hot paths use literal SQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    DateTime,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB


@dataclass(frozen=True, slots=True)
class RuntimeTables:
    inbox: Table
    outbox: Table
    relay_lease: Table
    relay_worker: Table
    task: Table
    parked_key: Table
    parked_record: Table
    waiting: Table
    quarantine: Table
    compacted_position: Table
    breaker: Table
    suspect: Table


def define(metadata: MetaData) -> RuntimeTables:
    """Add the runtime's tables to a service's metadata."""
    moment = DateTime(timezone=True)

    def need(name: str, kind: Any, *, key: bool = False) -> Column[Any]:
        return Column(name, kind, primary_key=key, nullable=False)

    def may(name: str, kind: Any) -> Column[Any]:
        return Column(name, kind, nullable=True)

    return RuntimeTables(
        inbox=Table(
            "inbox",
            metadata,
            need("day", Date, key=True),
            need("topic", Text, key=True),
            need("source", Text, key=True),
            need("id", Uuid, key=True),
            need("content_hash", LargeBinary),
            postgresql_partition_by="RANGE (day)",
        ),
        outbox=Table(
            "outbox",
            metadata,
            Column("seq", BigInteger, Identity(always=True), primary_key=True),
            need("id", Uuid),
            need("aggregatetype", Text),
            need("aggregateid", Text),
            need("type", Text),
            need("payload", LargeBinary),
            need("headers", LargeBinary),
            need("ce_time", moment),
            need("shard", SmallInteger, key=True),
        ),
        relay_lease=Table(
            "relay_lease",
            metadata,
            need("shard", SmallInteger, key=True),
            may("owner", Uuid),
            need("until", moment),
            need("floor", BigInteger),
        ),
        relay_worker=Table("relay_worker", metadata, need("owner", Uuid, key=True), need("until", moment)),
        task=Table(
            "task",
            metadata,
            need("id", Uuid, key=True),
            need("kind", Text),
            need("key", Text),
            need("due_at", moment),
            need("attempt", Integer),
            need("payload", JSONB),
            may("lease_owner", Uuid),
            may("lease_until", moment),
            may("again_at", moment),
            may("again_payload", JSONB),
            may("last_error", Text),
            need("created_at", moment),
        ),
        parked_key=Table(
            "parked_key",
            metadata,
            need("consumer", Text, key=True),
            need("key", Text, key=True),
            need("cause", Text),
            need("reason_code", Text),
            need("reason", Text),
            need("field", Text),
            need("topic", Text),
            need("parked_at", moment),
            may("wish", Text),
            may("wished_at", moment),
        ),
        parked_record=Table(
            "parked_record",
            metadata,
            need("id", Uuid, key=True),
            need("consumer", Text),
            need("key", Text),
            Column("position", BigInteger, Identity(always=True), nullable=False),
            need("topic", Text),
            need("partition", Integer),
            need("record_offset", BigInteger),
            need("record_time", moment),
            may("ce_id", Uuid),
            need("type", Text),
            need("content_hash", LargeBinary),
            may("record_key", LargeBinary),
            need("headers", LargeBinary),
            need("body", LargeBinary),
            need("received_at", moment),
            may("edited_by", Text),
        ),
        waiting=Table(
            "waiting",
            metadata,
            need("kind", Text, key=True),
            need("key", Text, key=True),
            need("consumer", Text, key=True),
            need("stash_key", Text, key=True),
            need("since", moment),
            need("check_at", moment),
        ),
        quarantine=Table(
            "quarantine",
            metadata,
            need("id", Uuid, key=True),
            need("consumer", Text),
            need("topic", Text),
            need("partition", Integer),
            need("record_offset", BigInteger),
            need("record_time", moment),
            need("reason_code", Text),
            need("reason", Text),
            need("field", Text),
            need("content_hash", LargeBinary),
            may("record_key", LargeBinary),
            need("headers", LargeBinary),
            need("body", LargeBinary),
            need("at", moment),
            may("wish", Text),
            may("wished_at", moment),
            may("edited_by", Text),
        ),
        compacted_position=Table(
            "compacted_position",
            metadata,
            need("topic", Text, key=True),
            need("partition", Integer, key=True),
            need("next_offset", BigInteger),
        ),
        breaker=Table(
            "breaker",
            metadata,
            need("consumer", Text, key=True),
            need("scope", Text, key=True),
            need("opened_at", moment),
            need("half_open_at", moment),
            need("version", Text, key=True),
            need("reason", Text),
        ),
        suspect=Table(
            "suspect",
            metadata,
            need("consumer", Text, key=True),
            need("topic", Text, key=True),
            need("partition", Integer, key=True),
            need("record_offset", BigInteger),
            need("deaths", Integer),
            may("key", Text),
        ),
    )
