"""Set a stopped service's consumer groups back in time, so that its restored database meets again what it has forgotten.

    python -m tools.drill.rewind --bootstrap kafka:9092 --service router --to 2026-01-31T14:00:00Z

What the database still knows is dropped by its inbox, so too far back costs only time; not far enough loses records for good.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

GROUP_EMPTY_SECONDS = 30.0
"""A killed worker stays a member until its session of 10 s is over; nobody may move the offsets of a group with members."""
NO_MEMBERS = ("Empty", "Dead")


class RewindError(Exception):
    """Nothing was moved, or not all of it; to repeat it is harmless."""


def targets(committed: Mapping[TopicPartition, int], found: Mapping[TopicPartition, int | None]) -> dict[TopicPartition, int]:
    """Where each partition goes: to the first record since then, never forward. `found` is None where there is none since."""
    moved = {}
    for partition, offset in committed.items():
        since = found.get(partition)
        if since is not None and since < offset:
            moved[partition] = since
    return moved


async def groups_of(service: str, bootstrap_servers: str, prefix: str = "") -> dict[str, dict[TopicPartition, int]]:
    """Committed offsets by group: a service has one for each of its consumers."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        names = sorted(name for name, _ in await admin.list_consumer_groups())
        own = [name for name in names if name.startswith(prefix) and name.removeprefix(prefix).split(".")[0] == service]
        groups = {}
        for name in own:
            offsets = await admin.list_consumer_group_offsets(name)
            groups[name] = {partition: offset.offset for partition, offset in offsets.items() if offset.offset >= 0}
        return groups
    finally:
        await admin.close()


async def rewind(service: str, bootstrap_servers: str, to: datetime, *, prefix: str = "") -> dict[str, int]:
    """Move every group of a stopped service back to a moment; returns records to be read again, by group.

    Errors: RewindError where a worker still runs.
    """
    again = {}
    for group, committed in (await groups_of(service, bootstrap_servers, prefix)).items():
        if not committed:
            continue
        await _until_empty(bootstrap_servers, group)
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign(list(committed))
            milliseconds = int(to.timestamp() * 1000)
            found = await consumer.offsets_for_times(dict.fromkeys(committed, milliseconds))
            moved = targets(committed, {partition: hit.offset if hit else None for partition, hit in found.items()})
            if moved:
                await consumer.commit(moved)
            again[group] = sum(committed[partition] - offset for partition, offset in moved.items())
        finally:
            await consumer.stop()
    if not again:
        raise RewindError(f"{service} has no consumer group on {bootstrap_servers}: is the topic prefix right?")
    return again


async def _until_empty(bootstrap_servers: str, group: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        deadline = time.monotonic() + GROUP_EMPTY_SECONDS
        while True:
            [response] = await admin.describe_consumer_groups([group])
            state = response.groups[0][2]
            if state in NO_MEMBERS:
                return
            if time.monotonic() > deadline:
                raise RewindError(f"the group {group} still has members ({state}): stop every worker first.")
            await asyncio.sleep(0.5)
    finally:
        await admin.close()


def moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise argparse.ArgumentTypeError("say the time zone too: 2026-01-31T14:00:00Z")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.drill.rewind", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--bootstrap", required=True, help="the brokers, host:port")
    parser.add_argument("--prefix", default="", help="TOPIC_PREFIX of the system")
    parser.add_argument("--service", required=True)
    parser.add_argument("--to", required=True, type=moment, help="the moment of the backup, less the largest lag around it")
    options = parser.parse_args()
    try:
        again = asyncio.run(rewind(options.service, options.bootstrap, options.to, prefix=options.prefix))
    except (RewindError, KafkaError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    for group, records in again.items():
        print(f"{group}: {records} records to be read again")
    return 0


if __name__ == "__main__":
    sys.exit(main())
