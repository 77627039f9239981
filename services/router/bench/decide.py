"""What deciding one order costs: CPU time of `handlers.route` and `to_event`, no database, no broker.

    python services/router/bench/decide.py [orders] [places]

Plain: every place has everything. Combined: no place has it all, so parcels are searched; the worst order is told, too.
Figures are for comparing two commits on one machine.
"""

import random
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from contracts import CatalogLocation, StockReserved
from eventing import UnitOfWork
from router.domain import FreightRow, FreightTables, Network, Policy
from router.handlers import route, to_event
from router.store import place_of

EXAMPLES = Path(__file__).parents[3] / "libs/contracts/examples"
ROW = FreightRow(first_weight_grams=1000, first_price_minor=800, step_weight_grams=500, step_price_minor=150, days=2)


def a_network(chance: random.Random, places: int) -> Network:
    example = CatalogLocation.model_validate_json((EXAMPLES / "catalog.location.CatalogLocation.v1.json").read_text())
    made = []
    for place_no in range(1, places + 1):
        own = {
            "place_no": place_no,
            "place_id": f"W{place_no}",
            "coverage": [""],
            "carriers": ["sf", "yto"],
            "latitude": 22 + chance.random() * 20,
            "longitude": 105 + chance.random() * 15,
            "handling_cost_minor": chance.randrange(300),
        }
        made.append(place_of(example.model_copy(update=own)))
    return Network.of(made, FreightTables(1, {}, ROW), Policy(version=1))


def an_order(chance: random.Random, example: StockReserved, places: int, skus: int, most: int) -> StockReserved:
    line = example.part.lines[0]
    lines = [line.model_copy(update={"origin_line": n + 1, "sku_id": f"S{n}", "quantity": 2}) for n in range(skus)]
    offers = [(place_no, 50, [chance.randint(0, most) for _ in lines]) for place_no in range(1, places + 1)]
    part = example.part.model_copy(update={"lines": lines})
    order_id = UUID(int=chance.getrandbits(128), version=4)
    own: dict[str, Any] = {"order_id": order_id, "part": part, "skus": [line.sku_id for line in lines], "places": offers}
    return example.model_copy(update=own)


def measure(name: str, orders: list[StockReserved], network: Network, work: UnitOfWork) -> None:
    spent = []
    for event in orders:
        began = time.thread_time()
        to_event(route(event, network, work), 1, network)
        spent.append((time.thread_time() - began) * 1e6)
    sys.stdout.write(
        f"{name}: {len(orders)} orders, mean {statistics.mean(spent):.1f} µs, median {statistics.median(spent):.1f} µs,"
        f" p99 {statistics.quantiles(spent, n=100)[98]:.0f} µs\n"
    )


def main(count: int, places: int) -> None:
    chance = random.Random(7)  # noqa: S311  synthetic orders
    example = StockReserved.model_validate_json((EXAMPLES / "stock.reserved.StockReserved.v1.json").read_text())
    work = cast("UnitOfWork", SimpleNamespace(now=datetime(2026, 11, 24, 4, tzinfo=UTC)))
    network = a_network(chance, 200)
    plain = [an_order(chance, example, places, 2, 0) for _ in range(count)]
    for event in plain:
        for _, _, free in event.places:
            free[:] = [10 + chance.randrange(50) for _ in free]
    measure(f"plain, {places} places × 2 SKUs", plain, network, work)
    measure("nothing alone, 20 places × 3 SKUs", [an_order(chance, example, 20, 3, 1) for _ in range(500)], network, work)
    measure("nothing alone, 200 places × 10 SKUs", [an_order(chance, example, 200, 10, 1) for _ in range(200)], network, work)
    measure(
        "rarely anything, 200 places × 10 SKUs",
        [
            event.model_copy(
                update={
                    "places": [(no, left, [n if chance.random() < 0.4 else 0 for n in free]) for no, left, free in event.places]
                }
            )
            for event in (an_order(chance, example, 200, 10, 2) for _ in range(200))
        ],
        network,
        work,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, int(sys.argv[2]) if len(sys.argv) > 2 else 20)
