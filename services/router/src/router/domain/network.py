"""Places, freight tables and policy at one moment, with what follows from them kept at hand.

A lane's coverage, distance and freight rows change only with the facts themselves, so they are worked out once; what an order
brings (weight, capacity, stock, the clock) is then a few integer operations per place.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from router.domain.freight import FreightTables, Service
from router.domain.place import Place
from router.domain.policy import Policy

MAX_LANES = 200_000
"""About 60 MB. 3,000 districts and 60 places fit; beyond that the table is begun anew."""


class Lane(NamedTuple):
    """From one place to one region."""

    place: Place
    covered: bool
    distance_metres: int
    """0 where the destination's centre is unknown: then distance decides nothing."""
    services: tuple[Service, ...]
    """The place's carriers that go there, by weight band."""


@dataclass(slots=True)
class Network:
    places: Mapping[int, Place]
    """By place_no; those that are gone included, so that it can be said."""
    freight: FreightTables
    policy: Policy
    _lanes: dict[tuple[str, float | None, float | None], dict[int, Lane]] = field(default_factory=dict)
    _lane_count: int = 0
    _dispatch_at: datetime | None = None
    _dispatch: dict[int, int | None] = field(default_factory=dict)

    @classmethod
    def of(cls, places: Iterable[Place], freight: FreightTables, policy: Policy) -> "Network":
        return cls({place.place_no: place for place in places}, freight, policy)

    def under(self, policy: Policy) -> "Network":
        """The same places and freight under another policy, for a decision made on trial."""
        return Network(self.places, self.freight, policy)

    def lanes_to(self, region_code: str, latitude: float | None, longitude: float | None) -> dict[int, Lane]:
        """The lanes known so far, by place_no; `add_lane` adds one."""
        key = (region_code, latitude, longitude)
        lanes = self._lanes.get(key)
        if lanes is None:
            if self._lane_count > MAX_LANES:
                self._lanes.clear()
                self._lane_count = 0
            lanes = self._lanes[key] = {}
        return lanes

    def add_lane(
        self, lanes: dict[int, Lane], place: Place, region_code: str, latitude: float | None, longitude: float | None
    ) -> Lane:
        services = (
            service for carrier in place.carriers for service in self.freight.services(carrier, place.region_code, region_code)
        )
        lane = Lane(
            place,
            place.covers(region_code),
            0 if latitude is None or longitude is None else place.distance_metres(latitude, longitude),
            tuple(services),
        )
        lanes[place.place_no] = lane
        self._lane_count += 1
        return lane

    def days_to_dispatch(self, now: datetime) -> Mapping[int, int | None]:
        """By place_no. A batch has one clock reading, so this is worked out once per batch."""
        if self._dispatch_at != now:
            self._dispatch = {place_no: place.days_to_dispatch(now) for place_no, place in self.places.items()}
            self._dispatch_at = now
        return self._dispatch
