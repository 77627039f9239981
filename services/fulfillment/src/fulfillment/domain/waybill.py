"""Waybill numbers: blocks of them per carrier, each number given once, for ever."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fulfillment.domain.errors import SeriesInUseError, SeriesOverlapError


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRange:
    """The numbers `prefix` + `digits` digits, from first_no to until_no."""

    prefix: str
    digits: int
    first_no: int
    until_no: int

    def overlaps(self, other: SeriesRange) -> bool:
        """Whether one text could come from both. Equal length is needed, and one prefix must begin the other with digits."""
        short, long = sorted((self, other), key=lambda series: len(series.prefix))
        if len(short.prefix) + short.digits != len(long.prefix) + long.digits or not long.prefix.startswith(short.prefix):
            return False
        rest = long.prefix[len(short.prefix) :]
        if not all("0" <= digit <= "9" for digit in rest):
            return False
        shift: int = int(rest or "0") * 10**long.digits
        return shift + long.first_no <= short.until_no and short.first_no <= shift + long.until_no


@dataclass(slots=True, kw_only=True)
class Series:
    """A carrier's block of numbers, for one place or for every place."""

    series_id: int
    place_id: str | None
    carrier: str
    prefix: str
    digits: int
    next_no: int
    until_no: int


class WaybillPool:
    """The locked series of one batch: a place's own first, then those for every place, oldest first."""

    def __init__(self, series: Iterable[Series]) -> None:
        self._by_owner: dict[tuple[str | None, str], list[Series]] = {}
        for one in sorted(series, key=lambda one: one.series_id, reverse=True):
            self._by_owner.setdefault((one.place_id, one.carrier), []).append(one)
        self._carriers = frozenset(carrier for _, carrier in self._by_owner)
        self._touched: dict[int, Series] = {}

    def without_series(self, carriers: Iterable[str]) -> set[str]:
        """The carriers of which no series was ever set up; one used up is not among them."""
        return set(carriers) - self._carriers

    def take(self, place_id: str, carrier: str) -> str | None:
        """The next number, never given again; None where all are used up."""
        for owner in (place_id, None):
            stack = self._by_owner.get((owner, carrier))
            while stack:
                series = stack[-1]
                if series.next_no <= series.until_no:
                    number = series.next_no
                    series.next_no = number + 1
                    self._touched[series.series_id] = series
                    return f"{series.prefix}{number:0{series.digits}d}"
                stack.pop()
        return None

    def touched(self) -> Mapping[int, int]:
        """The next number of each series that gave one, by series_id."""
        return {series_id: series.next_no for series_id, series in self._touched.items()}


def series_on_demand(carrier: str) -> SeriesRange:
    """The series a carrier gets at its first parcel where nobody set one up: SF000000000001 …"""
    return SeriesRange(prefix=carrier.replace("_", "").upper(), digits=12, first_no=1, until_no=10**12 - 1)


def check_block(block: SeriesRange, others: Iterable[SeriesRange], *, next_no: int | None) -> None:
    """Whether a block may be set up, or changed where `next_no` says what it will give next.

    **Errors**: SeriesOverlapError, SeriesInUseError.
    """
    if any(block.overlaps(other) for other in others):
        raise SeriesOverlapError("another block could give the same numbers")
    if next_no is not None and block.until_no < next_no - 1:
        raise SeriesInUseError("the block has given later numbers")
