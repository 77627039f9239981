"""How many vouchers a second one worker posts: real Postgres (durable), the real batch code, no Kafka.

    .venv/bin/python services/ledger/bench/post_vouchers.py --orders 10000 --workers 1

Every order has two lines and freight and brings three vouchers: paid, shipped, delivered. The three topics of a batch are
interleaved, as a poll gives them. Python, Postgres and the waiting for disk share the wall time that is shown; CPU stands
beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4, uuid5

import psutil

from contracts import OrderReceived, ShipmentCreated, ShipmentProgressed
from eventing import RuntimeSettings, create_engine
from eventing.broker import Record
from eventing.clock import SystemClock, TimeOrderedIds
from eventing.envelope import encode, headers_of
from eventing.testing import FakeBus
from eventing.testing.values import PlainSealer
from ledger.app import make_runtime
from ledger.handlers import Bookkeeper, Folder
from tools.local_postgres import LocalPostgres, create_database, create_roles, with_database
from webapi.process import GC_YOUNG_OBJECTS

EXAMPLES = Path(__file__).parents[3] / "libs/contracts/examples"
MODELS = (OrderReceived, ShipmentCreated, ShipmentProgressed)


def records_of(orders: int) -> list[Record]:
    texts = {model: (EXAMPLES / f"{model.TOPIC}.{model.TYPE}.v1.json").read_text() for model in MODELS}
    known = {model: json.loads(text) for model, text in texts.items()}
    ids, now = TimeOrderedIds(), SystemClock().now()
    records = []
    for number in range(orders):
        order_id = uuid4()
        for model in MODELS:
            text = texts[model].replace(known[model]["order_id"], str(order_id))
            if "shipment_id" in known[model]:
                text = text.replace(known[model]["shipment_id"], str(uuid5(order_id, "parcel")))
            event = model.model_validate_json(text)
            row = encode(event, id=ids.new_id(), time=now, source="/bench", traceparent=None)
            timestamp_ms = int(now.timestamp() * 1000)
            records.append(Record(row.topic, 0, number, timestamp_ms, row.key.encode(), row.payload, headers_of(row.headers)))
    return records


async def run(folder: Path, orders: int, workers: int, batch: int) -> dict[str, float]:
    records = records_of(orders)
    server = LocalPostgres(folder, durable=True)
    await server.start()
    try:
        await create_roles(server.admin_url, ["ledger"], "bench")
        await create_database(server.admin_url, "oms_ledger", service="ledger")
        url = with_database(server.admin_url, "oms_ledger", user="oms_ledger", password="bench")  # noqa: S106
        migration = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ledger", "--migrate", env={"OMS_LEDGER_DATABASE_URL": url}
        )
        if await migration.wait() != 0:
            raise RuntimeError("the migration failed")
        return await measure(url, records, workers, batch, server)
    finally:
        server.remove()


async def measure(url: str, records: list[Record], workers: int, batch: int, server: LocalPostgres) -> dict[str, float]:
    engine = create_engine(url, pool_size=workers)
    runtimes = [
        make_runtime(
            engine,
            FakeBus(),
            RuntimeSettings(seal=PlainSealer()),
            bookkeeper=Bookkeeper("main"),
            folder=Folder("main", every_seconds=5, rows=20_000),
        )
        for _ in range(workers)
    ]
    batches = [records[start : start + batch] for start in range(0, len(records), batch)]

    async def work(number: int) -> None:
        processor = runtimes[number].processors["main"]
        for some in batches[number::workers]:
            outcome = await processor.process(some)
            if len(outcome.handled) != len(some):
                raise RuntimeError(f"{[item.fault for item in outcome.parked][:1]}")

    gc.collect()
    gc.freeze()  # The prepared records are the bench's: a worker would not have them in its heap.
    gc.set_threshold(GC_YOUNG_OBJECTS, 20, 100)  # As a service's process does.
    if server.child is None:
        raise RuntimeError("the server is not running")
    postgres = psutil.Process(server.child.record.pid)
    before, python_before, started = cpu_of(postgres), time.process_time(), time.monotonic()
    await asyncio.gather(*(work(number) for number in range(workers)))
    seconds, python, database = time.monotonic() - started, time.process_time() - python_before, cpu_of(postgres) - before
    await engine.dispose()
    vouchers = len(records)
    return {
        "vouchers": vouchers,
        "workers": workers,
        "batch": batch,
        "vouchers_per_second": round(vouchers / seconds),
        "python_us_per_voucher": round(python / vouchers * 1e6, 1),
        "postgres_us_per_voucher": round(database / vouchers * 1e6, 1),
    }


def cpu_of(process: psutil.Process) -> float:
    """Of the server and all its children; the workers' connections stay open, so none is missed."""
    return sum(sum(one.cpu_times()[:2]) for one in [process, *process.children(recursive=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="oms-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # As root, Postgres runs under another account and must get through.
        result = asyncio.run(run(folder, arguments.orders, arguments.workers, arguments.batch))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
