"""What one order costs fulfilment: Python and Postgres time per order, receiver to delivery, batches of 300, no Kafka.

    DATABASE_URL_ADMIN=postgresql://… python services/fulfillment/bench/cost.py [batches]

Needs a Postgres administrator's URL; makes a database of its own and drops it. Figures are for comparing two commits on one
machine; the runtime's claims and outbox are in them, the broker is not.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import os
import sys
import time
import uuid
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from contracts import ReceiverSealed, StockAllocated
from eventing import create_engine
from eventing.testing import FakeClock, Harness
from fulfillment.app import build_runtime
from fulfillment.settings import Settings
from webapi.migrations import migrate, migrations_folder

EXAMPLE = Path(__file__).parents[3] / "libs/contracts/examples/stock.allocated.StockAllocated.v1.json"
ORDERS = 300


def batch() -> tuple[list[ReceiverSealed], list[StockAllocated]]:
    text = EXAMPLE.read_text()
    example = StockAllocated.model_validate_json(text)
    receivers, orders = [], []
    for _ in range(ORDERS):
        order_id, ref = str(uuid.uuid4()), uuid.uuid4()
        own = text.replace(str(example.order_id), order_id).replace(str(example.order.receiver_ref), str(ref))
        orders.append(StockAllocated.model_validate_json(own))
        receivers.append(
            ReceiverSealed.model_construct(
                version=1, receiver_ref=ref, key_id="1", wrapped_key=bytes(40), nonce=bytes(12), ciphertext=bytes(300)
            )
        )
    return receivers, orders


async def measure(url: str, batches: int) -> None:
    key = base64.b64encode(bytes(32)).decode()
    settings = Settings(database_url=url, receiver_kek=key, seal_key=key, delivery_seconds=0)
    engine = create_engine(url)
    harness = Harness(partial(build_runtime, settings, engine=engine), clock=FakeClock())
    prepared = [batch() for _ in range(batches + 1)]
    spent = {"receivers": [0.0, 0.0], "ship": [0.0, 0.0], "deliver": [0.0, 0.0]}
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    for number, (receivers, orders) in enumerate(prepared):
        steps = (
            ("receivers", partial(harness.receive, receivers)),
            ("ship", partial(harness.receive, orders)),
            ("deliver", partial(harness.run_due_tasks, "deliver")),
        )
        for name, step in steps:
            wall, cpu = time.perf_counter(), time.process_time()
            await step()
            if number:  # The first batch fills caches.
                spent[name][0] += time.perf_counter() - wall
                spent[name][1] += time.process_time() - cpu
    await engine.dispose()
    count = batches * ORDERS
    for name, (wall, cpu) in spent.items():
        sys.stdout.write(f"{name:10} {wall / count * 1e6:6.0f} µs wall  {cpu / count * 1e6:6.0f} µs Python per order\n")


def main() -> None:
    admin = os.environ["DATABASE_URL_ADMIN"]
    name = f"fulfillment_bench_{uuid.uuid4().hex[:8]}"
    url = urlunsplit(urlsplit(admin)._replace(path=f"/{name}"))
    asyncio.run(_execute(admin, f"CREATE DATABASE {name}"))
    try:
        migrate(url, migrations_folder("fulfillment"))
        asyncio.run(measure(url, int(sys.argv[1]) if len(sys.argv) > 1 else 10))
    finally:
        asyncio.run(_execute(admin, f"DROP DATABASE {name} WITH (FORCE)"))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


if __name__ == "__main__":
    main()
