"""What became of the orders of a load, as the databases say it: shipped as ordered, wrongly, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import asyncpg

from tools.bench.load import Load
from tools.stack import Stack

Units = Mapping[str, int]
_TAKEN = "SELECT channel_order_no, order_id::text FROM channel_order WHERE channel_order_no LIKE $1"
_SHIPPED = """
    SELECT subject_id::text, sku_id, -sum(on_hand) FROM movement WHERE kind = 'shipped' GROUP BY subject_id, sku_id
"""


async def order_ids(stack: Stack, run: str) -> dict[str, str]:
    """By channel order number, of the orders whose number begins with `run`."""
    return dict(map(tuple, await _rows(stack, "ingest", _TAKEN, f"{run}%")))


async def judge(stack: Stack, load: Load, ids: Mapping[str, str]) -> dict[str, Any]:
    """`misshipped`, `unshipped` and `auto_percent` of a load whose orders have these ids."""
    shipped: dict[str, dict[str, int]] = {}
    for order_id, sku_id, units in await _rows(stack, "inventory", _SHIPPED):
        shipped.setdefault(order_id, {})[sku_id] = int(units)
    return verdict(load.ships, {ids[number]: number for number in ids}, shipped, taken=load.taken)


def verdict(
    ordered: Mapping[str, Units], numbers: Mapping[str, str], shipped: Mapping[str, Units], *, taken: int
) -> dict[str, Any]:
    """Compare what was ordered (by channel order number) with what left (by order id).

    Misshipped: other units than ordered left, or an order left that must not. Unshipped: nothing left. Nobody touches an
    order of a bench, so each that left as it should did so by itself; of all that were `taken`, held ones included.
    """
    left = {numbers[order_id]: dict(units) for order_id, units in shipped.items() if order_id in numbers}
    misshipped = sum(number not in ordered or units != dict(ordered[number]) for number, units in left.items())
    right = sum(number in ordered and units == dict(ordered[number]) for number, units in left.items())
    return {
        "misshipped": misshipped,
        "unshipped": sum(number not in left for number in ordered),
        "auto_percent": round(100 * right / taken, 2),
    }


async def _rows(stack: Stack, service: str, sql: str, *values: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(stack.read_only_database_urls[service])
    try:
        return list(await connection.fetch(sql, *values))
    finally:
        await connection.close()


async def number_of(stack: Stack, service: str, sql: str, *values: object) -> int:
    """The one number that a statement gives."""
    return int((await _rows(stack, service, sql, *values))[0][0])
