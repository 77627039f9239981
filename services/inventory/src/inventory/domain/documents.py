"""What a stock document does to the counts: goods that came, went, were counted or graded, at one place and not by an order."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from inventory.domain.counts import Change, PlaceCount, PoolCount

MOST_UNITS = 2_000_000_000
"""What `stock.level` can tell, and a little less than the columns can hold."""


class Act(StrEnum):
    ADD = "add"
    ARRIVE = "arrive"
    """As `add`, of units that had their cost before."""
    ADJUST = "adjust"
    """By so many units, up or down."""
    COUNT = "count"
    """To so many units."""
    COUNT_DAMAGED = "count_damaged"
    DAMAGE = "damage"
    REPAIR = "repair"
    SCRAP = "scrap"
    PUT_ASIDE = "put_aside"
    """Came in, and not for sale."""
    SEND = "send"
    """To another place, by a plan: only what nobody was promised."""


class Entry(NamedTuple):
    """One line of a document; several lines may name one SKU."""

    line: int
    sku_id: str
    act: Act
    quantity: int
    reason_code: str
    unit_cost_minor: int | None = None
    """What one unit cost, where the document tells."""


class Booked(NamedTuple):
    entry: Entry
    change: Change

    @property
    def units(self) -> int:
        """Good units that came (+) or went (-): what it means to the books."""
        return self.change.counted


class ImpossibleCountError(Exception):
    """A count that cannot be: more would go than there is, or come than can be counted."""

    def __init__(self, code: str, line: int, counted: int) -> None:
        super().__init__(f"line {line}: {code}, counted {counted}")
        self.code = code
        self.line = line
        self.counted = counted


def book_in_turn(entries: Iterable[Entry], counts: Mapping[str, PlaceCount], pool: Mapping[str, PoolCount]) -> list[Booked]:
    """Apply entries to the counts of one place and its pool, by SKU; each sees what the ones before it left.

    **Errors**: ImpossibleCountError; the counts are then spoilt.
    """
    return [_book(entry, counts[entry.sku_id], pool[entry.sku_id]) for entry in entries]


def with_later(entries: Iterable[Entry], later: Mapping[str, tuple[int, int]]) -> list[Entry]:
    """Counts of some time ago as they would be now: `later` is what moved since, good and damaged units by SKU."""
    nothing = (0, 0)
    moved = {Act.COUNT: 0, Act.COUNT_DAMAGED: 1}
    return [
        entry._replace(quantity=max(0, entry.quantity + later.get(entry.sku_id, nothing)[moved[entry.act]]))
        if entry.act in moved
        else entry
        for entry in entries
    ]


def _book(entry: Entry, count: PlaceCount, level: PoolCount) -> Booked:
    _check(entry, count, level)
    change = _apply(entry, count)
    level.move(change.counted)
    if max(count.on_hand, count.damaged, level.free) > MOST_UNITS:
        raise ImpossibleCountError("count_too_high", entry.line, count.counted)
    return Booked(entry, change)


def _check(entry: Entry, count: PlaceCount, level: PoolCount) -> None:
    quantity = entry.quantity
    match entry.act:
        case Act.ADJUST if -quantity > max(0, count.counted):
            raise ImpossibleCountError("count_below_zero", entry.line, count.counted)
        case Act.DAMAGE if quantity > count.counted:
            raise ImpossibleCountError("count_below_zero", entry.line, count.counted)
        case Act.REPAIR | Act.SCRAP if quantity > count.damaged:
            raise ImpossibleCountError("damaged_below_zero", entry.line, count.damaged)
        case Act.SEND if quantity > (left := max(0, min(count.available, level.free))):
            raise ImpossibleCountError("units_promised", entry.line, left)


def _apply(entry: Entry, count: PlaceCount) -> Change:
    quantity = entry.quantity
    match entry.act:
        case Act.ADD | Act.ARRIVE:
            return count.add(quantity)
        case Act.ADJUST:
            return count.move(quantity)
        case Act.COUNT:
            return count.move(quantity - count.counted)
        case Act.COUNT_DAMAGED:
            return count.put_aside(quantity - count.damaged)
        case Act.DAMAGE:
            return count.damage(quantity)
        case Act.REPAIR:
            return count.repair(quantity)
        case Act.SCRAP:
            return count.scrap(quantity)
        case Act.PUT_ASIDE:
            return count.put_aside(quantity)
        case Act.SEND:
            return count.remove(quantity)
