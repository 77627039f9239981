"""One hop on real Kafka and Postgres: consume, claim, write a document, emit, relay. Records a second, CPU per record.

    python libs/eventing/bench/hop.py [--records 50000] [--bytes 2500] [--profile FILE]

The input is published before the clock starts; what is measured is the worker's process, Postgres and the broker.
"""

# ruff: noqa: T201, ASYNC110, ASYNC240  a script: it prints, polls and writes a file or two

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import psutil
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pydantic import BaseModel
from sqlalchemy import MetaData, text

from contracts import Event
from eventing import (
    AesGcmSealer,
    Consumer,
    KafkaBroker,
    Received,
    Route,
    Runtime,
    RuntimeSettings,
    UnitOfWork,
    create_engine,
    database,
    envelope,
    tables,
)
from eventing.broker import partition_of
from eventing.clock import SystemClock, TimeOrderedIds
from eventing.testing import install
from tools.local_kafka import LocalKafka
from tools.local_postgres import LocalPostgres, create_database, create_roles, with_database
from tools.processes import Watchdog

PARTITIONS = 4
PASSWORD = "only-for-benches"  # noqa: S105  loopback, thrown away
ADD = text("INSERT INTO document SELECT id, body FROM unnest(CAST(:ids AS uuid[]), CAST(:bodies AS text[])) AS r(id, body)")


class Line(BaseModel):
    sku_id: str
    quantity: int
    price_minor: int
    title: str


class Ordered(Event):
    TOPIC: ClassVar[str] = "hop.in"
    TYPE: ClassVar[str] = "Ordered"

    order_id: UUID
    lines: list[Line]
    note: str

    @property
    def key(self) -> str:
        return str(self.order_id)


class Hopped(Ordered):
    TOPIC: ClassVar[str] = "hop.out"
    TYPE: ClassVar[str] = "Hopped"


async def on_ordered(received: Sequence[Received[Ordered]], work: UnitOfWork) -> None:
    await work.connection.execute(
        ADD, {"ids": [one.id for one in received], "bodies": [f'{{"order": "{one.key}"}}' for one in received]}
    )
    work.emit(Hopped(order_id=one.event.order_id, lines=one.event.lines, note=one.event.note) for one in received)


async def worker(url: str, bootstrap: str, wanted: int, profile: str) -> None:
    """The process that is measured."""
    engine = create_engine(url)
    runtime = Runtime(
        service="hop",
        engine=engine,
        broker=KafkaBroker(bootstrap),
        tables=tables.define(MetaData()),
        consumers=[Consumer("main", routes=[Route(Ordered, on_ordered)])],
        settings=RuntimeSettings(seal=AesGcmSealer(secrets.token_bytes(32))),
    )
    profiler = _profiler(profile)
    cpu = time.process_time()
    async with runtime:
        await _until_sent(bootstrap, wanted)
        cpu = time.process_time() - cpu
    if profiler is not None:
        profiler.stop()
        Path(profile).write_text(profiler.output_text(unicode=True, show_all=True), encoding="utf-8")
    print(json.dumps({"cpu": cpu, "rss": psutil.Process().memory_info().rss}), flush=True)
    await engine.dispose()


def _profiler(path: str) -> Any:
    if not path:
        return None
    from pyinstrument import Profiler  # Installed by hand, where a profile is wanted.

    profiler = Profiler(async_mode="disabled", interval=0.001)
    profiler.start()
    return profiler


async def _until_sent(bootstrap: str, wanted: int) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    places = [KafkaPartition("hop.out", number) for number in range(PARTITIONS)]
    while sum((await consumer.end_offsets(places)).values()) < wanted:
        await asyncio.sleep(0.1)
    await consumer.stop()


async def publish(bootstrap: str, count: int, size: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics(
        [NewTopic("hop.in", PARTITIONS, 1), NewTopic("hop.out", PARTITIONS, 1), NewTopic("hop.dlq", 1, 1)]
    )
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=500_000)
    await producer.start()
    ids, now = TimeOrderedIds(), SystemClock().now()
    line = Line(sku_id="SKU-0001", quantity=2, price_minor=19900, title="夏季连衣裙 蓝色 M")
    for _ in range(count):
        event = Ordered(order_id=ids.new_id(), lines=[line, line], note="x" * (size - 300))
        row = envelope.encode(event, id=ids.new_id(), time=now, source="/feeder", traceparent=None)
        key = row.key.encode()
        await producer.send(
            "hop.in", row.payload, key, partition=partition_of(key, PARTITIONS), headers=envelope.headers_of(row.headers)
        )
    await producer.stop()


def _pid_of(server: LocalPostgres | LocalKafka) -> int:
    if server.child is None:
        raise RuntimeError("the server is not running")
    return server.child.record.pid


def _cpu_of(pid: int) -> float:
    processes = [psutil.Process(pid)]
    processes += processes[0].children(recursive=True)
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


async def measure(count: int, size: int, profile: str) -> None:
    watchdog = Watchdog()
    with tempfile.TemporaryDirectory(prefix="oms-hop-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        postgres = LocalPostgres(folder, durable=True, watchdog=watchdog)
        kafka = LocalKafka(folder, watchdog=watchdog)
        try:
            await asyncio.gather(postgres.start(), kafka.start())
            await create_roles(postgres.admin_url, ["test"], PASSWORD)
            await create_database(postgres.admin_url, "oms_hop", service="test")
            url = with_database(postgres.admin_url, "oms_hop", user="oms_test", password=PASSWORD)
            engine = create_engine(url)
            await install(engine)
            async with database.begin(engine) as connection:
                await connection.exec_driver_sql("CREATE TABLE document (id uuid PRIMARY KEY, body text NOT NULL)")
            await engine.dispose()
            await publish(kafka.bootstrap_servers, count, size)
            servers = {"Postgres": _pid_of(postgres), "Kafka": _pid_of(kafka)}
            before = {name: _cpu_of(pid) for name, pid in servers.items()}
            started = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                __file__,
                "--worker",
                json.dumps([url, kafka.bootstrap_servers, count, profile]),
                stdout=asyncio.subprocess.PIPE,
                env=dict(os.environ),
            )
            output, _ = await asyncio.wait_for(process.communicate(), 600)
            seconds = time.monotonic() - started
            told = json.loads(output)
            after = {name: _cpu_of(pid) for name, pid in servers.items()}
            micros = {name: 1e6 * (after[name] - before[name]) / count for name in after}
            print(f"{count} records of {size} bytes in {seconds:.1f} s, start included: {count / seconds:.0f} records/s")
            print(
                f"CPU per record: Python {1e6 * told['cpu'] / count:.0f} µs, "
                + ", ".join(f"{n} {v:.0f} µs" for n, v in micros.items())
            )
            print(f"worker's memory at the end: {told['rss'] / 1e6:.0f} MB")
        finally:
            await asyncio.gather(asyncio.to_thread(kafka.stop), asyncio.to_thread(postgres.remove))
            watchdog.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--bytes", type=int, default=2_500)
    parser.add_argument("--profile", default="")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if arguments.worker:
            runner.run(worker(*json.loads(arguments.worker)))
        else:
            runner.run(measure(arguments.records, arguments.bytes, arguments.profile))
