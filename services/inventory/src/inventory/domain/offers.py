"""Which places could ship a held order: what `stock.reserved` tells routing, so that routing asks nobody."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

NEAREST = 100
DRAWN = 100
"""Beyond the nearest, as many again drawn by the order's hash: equal orders spread over places instead of meeting at one."""
PARTIAL = 20
"""Places per SKU that could ship a part only, told where fewer places than this could ship the whole."""
MOST_NUMBERS = 20_000
"""Units told in one offer at most: an order of 500 SKUs names fewer places, so that its event stays small."""
_EARTH_KM = 6371.0


@dataclass(frozen=True, slots=True)
class Place:
    place_no: int
    place_id: str
    name: str
    pool_id: str
    coverage: frozenset[str]
    """Prefixes of region codes; "" is everywhere."""
    latitude: float
    longitude: float
    daily_capacity: int
    paused: bool = False
    ships: bool = True
    pick_up: bool = False
    cut_off: time = time(18)
    working_weekdays: frozenset[int] = frozenset(range(1, 8))
    """1 is Monday."""

    def ships_on(self, now: datetime) -> date | None:
        """The day whose capacity an order takes that comes at this local time: today before the cut-off, else the next
        working day; None where there is none."""
        day = now.date() if now.time() < self.cut_off else now.date() + timedelta(days=1)
        for later in range(7):
            if (day + timedelta(days=later)).isoweekday() in self.working_weekdays:
                return day + timedelta(days=later)
        return None

    def covers(self, region_code: str) -> bool:
        return not self.coverage.isdisjoint(region_code[:length] for length in range(len(region_code) + 1))


@dataclass(slots=True)
class Places:
    """A snapshot of all places; replaced as a whole when one of them changes."""

    all: Sequence[Place]
    by_no: dict[int, Place] = field(init=False)
    by_id: dict[str, Place] = field(init=False)
    _shipping_to: dict[tuple[str, str], list[int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.by_no = {place.place_no: place for place in self.all}
        self.by_id = {place.place_id: place for place in self.all}

    def capacity_left(self, now: datetime, used: Mapping[tuple[int, date], int]) -> dict[int, int]:
        """Orders that each place can still take on the day it would ship them."""
        left = {}
        for place in self.all:
            day = place.ships_on(now)
            left[place.place_no] = 0 if day is None else max(0, place.daily_capacity - used.get((place.place_no, day), 0))
        return left

    def shipping_to(self, pool_id: str, region_code: str) -> list[int]:
        """Numbers of the pool's open places that ship to the region. Remembered: there are a few thousand regions."""
        key = (pool_id, region_code)
        if key not in self._shipping_to:
            self._shipping_to[key] = [
                place.place_no
                for place in self.all
                if place.pool_id == pool_id and place.ships and not place.paused and place.covers(region_code)
            ]
        return self._shipping_to[key]


class Wish(NamedTuple):
    """What the offer for one order depends on."""

    order_id: UUID
    pool_id: str
    wanted: Mapping[str, int]
    region_code: str
    latitude: float | None = None
    longitude: float | None = None
    pick_up_at: str | None = None
    """Place where the buyer collects it; the only one that is offered then."""
    excluded: Sequence[int] = ()
    forced: int | None = None
    """Place that a person chose; the only one that is offered then, whatever speaks against it."""


class Offer(NamedTuple):
    skus: list[str]
    places: list[tuple[int, int, list[int]]]
    """(place_no, capacity left on the day it would ship, free units per SKU in the order of `skus`), by place_no."""
    able: int
    """How many of them could ship the whole order."""


def offer(
    wish: Wish,
    places: Places,
    *,
    free: Mapping[str, Mapping[int, int]],
    capacity_left: Mapping[int, int],
    limit: int = NEAREST + DRAWN,
) -> Offer:
    """Every place that could ship the whole order, up to `limit`; where those are few, also places that could ship a part.

    `free` (by SKU and place) names places with stock only.
    """
    skus = list(wish.wanted)
    limit = min(limit, max(PARTIAL, MOST_NUMBERS // len(skus)))
    stock = [(free.get(sku_id, {}), wish.wanted[sku_id]) for sku_id in skus]
    candidates = _candidates(wish, places)
    able = [
        place_no
        for place_no in candidates
        if place_no not in wish.excluded and all(of_sku.get(place_no, 0) >= wanted for of_sku, wanted in stock)
    ]
    offered = able
    if len(able) > limit:
        offered = able = _nearest_and_drawn(wish, able, places, limit)
    elif len(able) < min(PARTIAL, len(candidates)) and wish.pick_up_at is None and wish.forced is None:
        partial = _partial(wish, candidates, stock, places, skip={*able, *wish.excluded})
        offered = sorted([*able, *partial[: limit - len(able)]])
    return Offer(
        skus,
        [(place_no, capacity_left.get(place_no, 0), [of_sku.get(place_no, 0) for of_sku, _ in stock]) for place_no in offered],
        len(able),
    )


def _candidates(wish: Wish, places: Places) -> Sequence[int]:
    if wish.forced is not None:
        return [wish.forced]
    if wish.pick_up_at is None:
        return places.shipping_to(wish.pool_id, wish.region_code)
    place = places.by_id[wish.pick_up_at]
    return [place.place_no] if place.pick_up and not place.paused else []


def _partial(
    wish: Wish, candidates: Iterable[int], stock: Sequence[tuple[Mapping[int, int], int]], places: Places, *, skip: set[int]
) -> list[int]:
    """The nearest places that have some of each SKU, nearest of all first."""
    chosen: set[int] = set()
    some = [place_no for place_no in candidates if place_no not in skip and any(place_no in of_sku for of_sku, _ in stock)]
    some.sort(key=lambda place_no: (_distance_km(wish, places.by_no[place_no]), place_no))
    for of_sku, _ in stock:
        chosen.update([place_no for place_no in some if of_sku.get(place_no, 0)][:PARTIAL])
    return [place_no for place_no in some if place_no in chosen]


def _nearest_and_drawn(wish: Wish, able: list[int], places: Places, limit: int) -> list[int]:
    nearest = limit // 2
    by_distance = sorted(able, key=lambda place_no: (_distance_km(wish, places.by_no[place_no]), place_no))
    by_draw = sorted(by_distance[nearest:], key=lambda place_no: _draw(wish.order_id, place_no))
    return sorted(by_distance[:nearest] + by_draw[: limit - nearest])


def _draw(order_id: UUID, place_no: int) -> bytes:
    # No CRC here: it is linear, so the places drawn for two orders would be the same or each other's complement.
    return blake2b(order_id.bytes + place_no.to_bytes(4, "big"), digest_size=8).digest()


def _distance_km(wish: Wish, place: Place) -> float:
    """Great circle; 0 where the destination's position is unknown, so that place_no decides."""
    if wish.latitude is None or wish.longitude is None:
        return 0.0
    here, there = math.radians(wish.latitude), math.radians(place.latitude)
    across = math.radians(place.longitude - wish.longitude)
    chord = math.sin((there - here) / 2) ** 2 + math.cos(here) * math.cos(there) * math.sin(across / 2) ** 2
    return 2 * _EARTH_KM * math.asin(math.sqrt(chord))
