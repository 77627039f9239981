"""What a bench sends: orders of two lines, nine in ten good, the others held, invalid or sent twice. Same seed, same load."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from tools.sample.goods import Good
from tools.sample.orders import OrderMaker

SEED = 2026
LINES = 2
HELD_UNITS = 25
"""More than the sample's rule lets pass."""

Kind = Literal["good", "held", "invalid", "duplicate"]
CYCLE = 100
# Spread over the cycle. Invalid ones stay far below the 5 % of a shop's records at which its breaker trips.
_ODD: dict[int, Kind] = dict.fromkeys((7, 27, 47, 67, 87), "held")
_ODD |= dict.fromkeys((18, 68), "invalid")
_ODD |= dict.fromkeys((33, 58, 93), "duplicate")
GOOD_SHARE = 1 - len(_ODD) / CYCLE


def kind_of(number: int) -> Kind:
    """What the record `number` (from 0) of a load is."""
    return _ODD.get(number % CYCLE, "good")


class Record(NamedTuple):
    kind: Kind
    order_no: str
    key: bytes
    body: bytes
    units: dict[str, int]
    """By SKU; of a good one they must ship."""


def records(maker: OrderMaker, *, odd: bool = True) -> Iterator[Record]:
    """Records without end."""
    number, last = 0, record_of("good", maker.order())
    yield last
    while True:
        number += 1
        kind = kind_of(number) if odd else "good"
        if kind == "duplicate":
            yield last._replace(kind="duplicate")
            continue
        order = maker.order()
        if kind == "held":
            order = grown(order, HELD_UNITS)
        elif kind == "invalid":
            order["lines"][0]["quantity"] = -1
        made = record_of(kind, order)
        if kind == "good":
            last = made
        yield made


def record_of(kind: Kind, order: dict[str, Any]) -> Record:
    units: dict[str, int] = {}
    for line in order["lines"]:
        units[line["sku_id"]] = units.get(line["sku_id"], 0) + line["quantity"]
    number = order["channel_order_no"]
    return Record(kind, number, number.encode(), json.dumps(order, ensure_ascii=False).encode(), units)


def grown(order: dict[str, Any], quantity: int) -> dict[str, Any]:
    """The same order with so many units on one line alone, at list price."""
    line = {name: value for name, value in order["lines"][0].items() if name != "discounts"}
    line |= {"quantity": quantity, "paid_minor": quantity * line["unit_list_price_minor"]}
    return order | {"lines": [line], "freight_list_minor": 0, "paid_minor": line["paid_minor"], "payments": []}


def of_one_good(maker: OrderMaker, good: Good, quantity: int = 1, **changes: Any) -> dict[str, Any]:
    """An order of one line, no discounts."""
    line = maker.line(good, quantity)
    return maker.order(lines=[line], freight_list_minor=0, paid_minor=line["paid_minor"], payments=[], **changes)


@dataclass
class Load:
    """Records to send in this order, and what must come of them."""

    records: list[Record] = field(default_factory=list)
    ships: dict[str, dict[str, int]] = field(default_factory=dict)
    """Units by SKU of each order that must ship, by its channel order number."""
    held: int = 0

    def add(self, record: Record) -> None:
        self.records.append(record)
        if record.kind == "good":
            self.ships[record.order_no] = record.units
        elif record.kind == "held":
            self.held += 1

    def first(self, count: int) -> Load:
        """As if only so many records had been prepared."""
        load = Load()
        for record in self.records[:count]:
            load.add(record)
        return load

    @property
    def taken(self) -> int:
        """Different orders that are valid."""
        return len(self.ships) + self.held


def make_load(count: int, goods: list[Good], *, run: str, odd: bool = True) -> Load:
    """`count` orders that must ship, and what comes between them. `run` begins the order numbers."""
    load = Load()
    for record in records(maker_of(goods, run=run), odd=odd):
        load.add(record)
        if len(load.ships) == count:
            return load
    raise AssertionError("records never end")


def maker_of(goods: list[Good], *, run: str) -> OrderMaker:
    return OrderMaker(SEED, now=datetime.now(UTC), run=run, goods=tuple(goods), lines=(LINES,))
