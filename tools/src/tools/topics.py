"""Makes the topics of the registry in `contracts.topics`: what is missing is created, settings are brought into line.

A partition count is frozen for life (more partitions would break the order per key): another count is an error.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
import time
from collections.abc import Iterable

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, LeaderNotAvailableError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from contracts.topics import DEFAULT_ORDER_PARTITIONS, TOPICS, Topic

HOUR_MS = 3_600_000
# Outbox rows go up to 512 KiB; the rest is room for keys, headers and a batch of more than one.
MAX_MESSAGE_BYTES = 1_048_588
# A cleaner that waits a week would let each restart read a week of superseded values.
COMPACTION_LAG_MS = 24 * HOUR_MS
VISIBLE_SECONDS = 15.0
NOT_YET = {UnknownTopicOrPartitionError.errno, LeaderNotAvailableError.errno}


class TopicError(Exception):
    """A topic could not be made, or exists with another partition count."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    created: tuple[str, ...]
    kept: tuple[str, ...]


async def create_topics(
    bootstrap_servers: str,
    *,
    prefix: str = "",
    order_partitions: int = DEFAULT_ORDER_PARTITIONS,
    replication_factor: int = 1,
    topics: Iterable[Topic] = TOPICS.values(),
) -> Outcome:
    """Make every topic of the registry; doing it again changes nothing.

    Errors: TopicError; KafkaError when the broker is away.
    """
    wanted = {f"{prefix}{topic.name}": topic for topic in topics}
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        existing = set(await admin.list_topics()) & wanted.keys()
        missing = [name for name in wanted if name not in existing]
        await _create(admin, {name: wanted[name] for name in missing}, order_partitions, replication_factor)
        await _check_partitions(admin, wanted, order_partitions)
        if existing:
            resources = [
                ConfigResource(ConfigResourceType.TOPIC, name, configs=configs(wanted[name])) for name in sorted(existing)
            ]
            _raise_for(await admin.alter_configs(resources))
        return Outcome(created=tuple(missing), kept=tuple(sorted(existing)))
    finally:
        await admin.close()


def configs(topic: Topic) -> dict[str, str]:
    """A topic's settings at the broker."""
    settings = {
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "message.timestamp.type": "LogAppendTime" if topic.append_time else "CreateTime",
    }
    if topic.compacted:
        return settings | {"cleanup.policy": "compact", "max.compaction.lag.ms": str(COMPACTION_LAG_MS)}
    return settings | {"cleanup.policy": "delete", "retention.ms": str(topic.retention_hours * HOUR_MS)}


async def _create(admin: AIOKafkaAdminClient, topics: dict[str, Topic], order_partitions: int, replication_factor: int) -> None:
    if not topics:
        return
    new = [
        NewTopic(name, topic.partitions(order_partitions), replication_factor, topic_configs=configs(topic))
        for name, topic in topics.items()
    ]
    response = await admin.create_topics(new)
    for name, code, *rest in response.topic_errors:
        # Somebody else was quicker; the partition counts are looked at in any case.
        if code not in (0, TopicAlreadyExistsError.errno):
            raise TopicError(f"cannot create {name}: {for_code(code).__name__} {rest[0] if rest else ''}")


async def _check_partitions(admin: AIOKafkaAdminClient, wanted: dict[str, Topic], order_partitions: int) -> None:
    """Wait until every topic can be seen, and compare its count."""
    deadline = time.monotonic() + VISIBLE_SECONDS
    while True:
        found = await admin.describe_topics(list(wanted))
        errors = {each["topic"]: each["error_code"] for each in found if each["error_code"]}
        if not errors:
            break
        # A broker answers "created" a moment before it knows the topic itself, or who leads it.
        if time.monotonic() > deadline or set(errors.values()) - NOT_YET:
            name, code = min(errors.items())
            raise TopicError(f"cannot read {name}: {for_code(code).__name__}")
        await asyncio.sleep(0.05)
    for each in found:
        have, want = len(each["partitions"]), wanted[each["topic"]].partitions(order_partitions)
        if have != want:
            raise TopicError(f"{each['topic']} has {have} partitions instead of {want}; the count is frozen for life.")


def _raise_for(responses: Iterable[object]) -> None:
    for response in responses:
        for code, message, _, name in response.resources:  # type: ignore[attr-defined]
            if code:
                raise TopicError(f"cannot set up {name}: {for_code(code).__name__} {message}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.topics", description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", required=True, help="host:port of a broker")
    parser.add_argument("--prefix", default="", help="put before every topic's name")
    parser.add_argument("--partitions", type=int, default=DEFAULT_ORDER_PARTITIONS, help="of order-keyed topics")
    parser.add_argument("--replication-factor", type=int, default=1, help="3 in production")
    options = parser.parse_args()
    try:
        outcome = asyncio.run(
            create_topics(
                options.bootstrap,
                prefix=options.prefix,
                order_partitions=options.partitions,
                replication_factor=options.replication_factor,
            )
        )
    except (TopicError, KafkaError) as error:
        sys.exit(f"topics: {error}")
    print(f"{len(outcome.created)} topics created, {len(outcome.kept)} were there")


if __name__ == "__main__":
    main()
