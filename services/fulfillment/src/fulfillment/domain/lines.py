"""Lines as places and people name them, resolved to what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from fulfillment.domain.errors import FulfilmentError
from fulfillment.domain.stopping import Key, Units


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRef:
    """So many units of a SKU; the origin may be left out, for a WMS often knows SKUs only."""

    sku_id: str
    quantity: int
    origin_order_id: UUID | None = None
    origin_line: int | None = None

    def matches(self, key: Key) -> bool:
        order_id, line, sku_id = key
        return sku_id == self.sku_id and self.origin_order_id in (None, order_id) and self.origin_line in (None, line)


class LineError(FulfilmentError):
    """A line cannot be resolved. **Shapes**: `index` in what was given; `code`: line_unknown | more_than_left."""

    def __init__(self, index: int, code: str, left: int) -> None:
        super().__init__(f"line {index}: {code}")
        self.index, self.code, self.left = index, code, left


def resolve(lines: Sequence[LineRef], left: Units, *, known: Units | None = None) -> dict[Key, int]:
    """Spread named units over what is left, in the order of the lines. **Errors**: LineError.

    `known`: every line there ever was, so that one that is used up is not called unknown.
    """
    rest = dict(left)
    units: dict[Key, int] = {}
    for index, line in enumerate(lines):
        matching = [key for key in sorted(rest) if line.matches(key)]
        there = sum(rest[key] for key in matching)
        if there < line.quantity:
            is_known = bool(matching) or any(line.matches(key) for key in known or {})
            raise LineError(index, "more_than_left" if is_known else "line_unknown", there)
        wanted = line.quantity
        for key in matching:
            taken = min(wanted, rest[key])
            if taken:
                rest[key] -= taken
                wanted -= taken
                units[key] = units.get(key, 0) + taken
    return units
