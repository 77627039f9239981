"""A place that ships or hands over: where it is, whom it serves, when its parcels leave."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone
from math import asin, cos, radians, sin, sqrt

CHINA = timezone(timedelta(hours=8))
"""Cut-off times are local. China has one zone and no summer time, so no time zone data is needed."""
EARTH_RADIUS_METRES = 6_371_008.8
DAYS_IN_WEEK = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    place_no: int
    place_id: str
    version: int
    name: str
    region_code: str
    latitude: float
    longitude: float
    coverage: frozenset[str]
    """Prefixes of region codes; the empty one is everywhere."""
    carriers: tuple[str, ...]
    cut_off: time
    working_weekdays: frozenset[int]
    """ISO: Monday is 1."""
    priority: int
    handling_cost_minor: int
    paused: bool = False
    ships: bool = True
    pick_up: bool = False
    deleted: bool = False

    def covers(self, region_code: str) -> bool:
        """A place may list thousands of prefixes, a region code has seven."""
        return any(region_code[:length] in self.coverage for length in range(len(region_code) + 1))

    def days_to_dispatch(self, now: datetime) -> int | None:
        """Local days until an order allocated now leaves; None for a place that never works."""
        local = now.astimezone(CHINA)
        today = local.isoweekday()
        first = 0 if local.time() <= self.cut_off else 1
        for days in range(first, first + DAYS_IN_WEEK):
            if (today - 1 + days) % DAYS_IN_WEEK + 1 in self.working_weekdays:
                return days
        return None

    def distance_metres(self, latitude: float, longitude: float) -> int:
        """Great circle (haversine) to the centre of a region."""
        here, there = radians(self.latitude), radians(latitude)
        half_height, half_width = (there - here) / 2, radians(longitude - self.longitude) / 2
        chord = sin(half_height) ** 2 + cos(here) * cos(there) * sin(half_width) ** 2
        return round(2 * EARTH_RADIUS_METRES * asin(min(1.0, sqrt(chord))))
