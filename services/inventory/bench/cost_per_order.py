"""What one order costs inventory: reserve, allocate, ship, through the real loop's code, without Kafka.

    python services/inventory/bench/cost_per_order.py postgresql://oms_inventory:…@127.0.0.1:5432/oms_inventory

The database must be migrated and empty. CPU of this process is exact; CPU of Postgres is that of the session's own backends,
where /proc tells it. Figures are microseconds per order.
"""

import argparse
import asyncio
import gc
import os
import pathlib
import random
import sys
import time
import uuid
from collections.abc import Sequence
from functools import partial

from contracts import Event, OrderRouted, ShipmentCreated
from eventing import RuntimeSettings, create_engine
from eventing.testing import FakeClock, Harness, SeededIds
from inventory.app import make_runtime
from inventory.handlers.context import Inventory
from inventory.settings import Settings
from inventory.store import catalogue
from webapi.process import GC_YOUNG_OBJECTS

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "integration"))
from builders import NOW, PROGRESS, a_place, an_audited, an_item

TICKS = os.sysconf("SC_CLK_TCK")


async def main(url: str, *, orders: int, batch: int, skus: int, places: int, lines: int) -> None:
    settings = Settings(database_url=url, seal_key="A" * 43 + "=")  # type: ignore[arg-type]
    engine = create_engine(url, pool_size=1)
    inventory = Inventory(settings)
    harness = Harness(
        partial(make_runtime, engine, settings=RuntimeSettings(), inventory=inventory), clock=FakeClock(NOW), ids=SeededIds(7)
    )
    await seed(harness, skus=skus, places=places, units=orders)
    async with engine.connect() as connection:
        backend = (await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()
    choice = random.Random(1)  # noqa: S311  repeatable
    spent = dict.fromkeys(("reserve", "allocate", "ship"), (0.0, 0.0))
    for _ in range(orders // batch):
        audited = [an_audited({f"SKU{number}": 1 for number in choice.sample(range(skus), lines)}) for _ in range(batch)]
        reserved = await timed(spent, "reserve", harness, audited, backend)
        routed = [
            OrderRouted(
                root_id=event.root_id,
                order_id=event.order_id,
                progress=PROGRESS,
                attempt=event.attempt,
                policy_version=1,
                plans=[(place[0], "sf", 800, 2) for place in choice.sample(event.places, len(event.places))],
            )
            for event in reserved
        ]
        allocated = await timed(spent, "allocate", harness, routed, backend)
        shipped = [
            ShipmentCreated(
                root_id=event.root_id,
                order_id=event.order_id,
                progress=PROGRESS,
                order=event.order,
                part=event.part,
                shipment_id=uuid.uuid4(),
                place_id=event.place_id,
                fulfilment_kind="to_ship",
                weight_grams=600,
                shipped_at=NOW,
            )
            for event in allocated
        ]
        await timed(spent, "ship", harness, shipped, backend)
    await engine.dispose()
    done = orders // batch * batch
    for name, (python, postgres) in spent.items():
        print(f"{name:9} python {python / done * 1e6:6.0f} µs   postgres {postgres / done * 1e6:6.0f} µs")  # noqa: T201
    total = sum(python + postgres for python, postgres in spent.values())
    print(f"total     {total / done * 1e6:6.0f} µs CPU per order of {lines} lines, batches of {batch}")  # noqa: T201


async def timed(
    spent: dict[str, tuple[float, float]], name: str, harness: Harness, events: Sequence[Event], backend: int
) -> list[Event]:
    """Deliver one batch; encoding it and reading the outbox back are the harness's, and stand outside."""
    records = [harness._publish(_outgoing(harness, event)) for event in events]  # noqa: SLF001  as `receive` does
    processor = harness.runtime.processors["main"]
    await harness._ready()  # noqa: SLF001
    # As webapi sets a process up; the fake bus keeps every record, and walking them is the harness's cost, not the service's.
    gc.freeze()
    gc.set_threshold(GC_YOUNG_OBJECTS, 20, 100)
    before = time.process_time(), backend_seconds(backend)
    await processor.process(records)
    python, postgres = spent[name]
    spent[name] = (python + time.process_time() - before[0], postgres + backend_seconds(backend) - before[1])
    return await harness.emitted()


def _outgoing(harness: Harness, event: Event) -> object:
    from eventing import envelope
    from eventing.broker import Outgoing

    row = envelope.encode(event, id=harness.ids.new_id(), time=NOW, source="/bench", traceparent=None)
    return Outgoing(row.topic, row.key.encode(), row.payload, envelope.headers_of(row.headers))


async def seed(harness: Harness, *, skus: int, places: int, units: int) -> None:
    names = [f"SKU{number}" for number in range(skus)]
    async with harness.runtime.work() as work:
        await catalogue.save_items(
            work, [an_item(name) | {"category": "g", "barcode": None, "currency": "CNY", "bundle_parts": []} for name in names]
        )
        defaults = {"pool_id": "main", "coverage": [""], "cut_off": NOW.time(), "working_weekdays": [1], "priority": 1}
        flags = {"handling_cost_minor": 0, "paused": False, "ships": True, "pick_up": False}
        await catalogue.save_locations(work, [a_place(f"P{number}") | defaults | flags for number in range(places)])
        await work.connection.exec_driver_sql(
            "INSERT INTO place_stock SELECT sku_id, place_no, $1, 0, 0, 0, 0, 0, 1 FROM item, location", (units,)
        )
        await work.connection.exec_driver_sql(
            "INSERT INTO pool_stock SELECT sku_id, 'main', $1, 0, false, 0, 1 FROM item", (units * places,)
        )


def backend_seconds(pid: int) -> float:
    """User and system time of one Postgres backend; 0 where /proc is not there."""
    path = pathlib.Path(f"/proc/{pid}/stat")
    if not path.exists():
        return 0.0
    fields = path.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    for option, default in (("orders", 6000), ("batch", 300), ("skus", 500), ("places", 10), ("lines", 2)):
        parser.add_argument(f"--{option}", type=int, default=default)
    asyncio.run(main(**vars(parser.parse_args())))
