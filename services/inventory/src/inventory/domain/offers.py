"""Which places could ship a held order: what `stock.reserved` tells routing, so that routing asks nobody."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

NEAREST = 100
DRAWN = 100
"""Beyond the nearest, as many again drawn by the order's hash: equal orders spread over places instead of meeting at one."""
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


class Offer(NamedTuple):
    skus: list[str]
    places: list[tuple[int, int, list[int]]]
    """(place_no, capacity left today, free units per SKU in the order of `skus`), by place_no."""


def offer(
    wish: Wish,
    places: Places,
    *,
    free: Mapping[str, Mapping[int, int]],
    capacity_used: Mapping[int, int],
    limit: int = NEAREST + DRAWN,
) -> Offer:
    """Every place that could ship the whole order, up to `limit`; `free` (by SKU and place) names places with stock only."""
    skus = list(wish.wanted)
    stock = [(free.get(sku_id, {}), wish.wanted[sku_id]) for sku_id in skus]
    able = [
        place_no
        for place_no in _candidates(wish, places)
        if place_no not in wish.excluded and all(of_sku.get(place_no, 0) >= wanted for of_sku, wanted in stock)
    ]
    if len(able) > limit:
        able = _nearest_and_drawn(wish, able, places, limit)
    return Offer(
        skus,
        [
            (
                place_no,
                max(0, places.by_no[place_no].daily_capacity - capacity_used.get(place_no, 0)),
                [of_sku[place_no] for of_sku, _ in stock],
            )
            for place_no in able
        ],
    )


def _candidates(wish: Wish, places: Places) -> Iterable[int]:
    if wish.pick_up_at is None:
        return places.shipping_to(wish.pool_id, wish.region_code)
    place = places.by_id[wish.pick_up_at]
    return [place.place_no] if place.pick_up and not place.paused else []


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
