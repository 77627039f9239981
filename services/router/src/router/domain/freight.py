"""What a carrier charges and how long it takes, from where to where, for how heavy a parcel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class FreightRow:
    origin_prefix: str = ""
    destination_prefix: str = ""
    max_weight_grams: int | None = None
    """Heavier parcels take the next band of the same prefixes, or do not go at all. None: however heavy."""
    first_weight_grams: int
    first_price_minor: int
    step_weight_grams: int
    """Every begun step above the first weight costs `step_price_minor`."""
    step_price_minor: int
    days: int

    def price_minor(self, weight_grams: int) -> int:
        over = weight_grams - self.first_weight_grams
        if over <= 0:
            return self.first_price_minor
        return self.first_price_minor + -(-over // self.step_weight_grams) * self.step_price_minor


class Service(NamedTuple):
    """A carrier on one lane, for parcels of one weight band."""

    carrier: str
    row: FreightRow
    over_grams: int
    up_to_grams: int


@dataclass(frozen=True, slots=True)
class FreightTables:
    """One table per carrier. The longest destination prefix wins, among equals the longest origin prefix."""

    version: int
    rows: Mapping[str, Sequence[FreightRow]]
    default_row: FreightRow | None = None
    """For carriers that have no table at all; None: such a carrier reaches nobody."""
    _bands: Mapping[str, Mapping[tuple[str, str], Sequence[Service]]] = field(init=False, repr=False, compare=False)
    """By carrier, then (destination prefix, origin prefix). A table may have ten thousand rows, and each change of a place asks
    for every lane anew: a scan took a millisecond a lane."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_bands", {carrier: _bands_of(carrier, rows) for carrier, rows in self.rows.items()})

    def services(self, carrier: str, origin: str, destination: str) -> Sequence[Service]:
        """One per weight band, lightest first; none: the carrier does not go there from here."""
        table = self._bands.get(carrier)
        if table is None:
            default = self.default_row
            return [] if default is None else [Service(carrier, default, -1, _limit(default))]
        for far in range(len(destination), -1, -1):
            for near in range(len(origin), -1, -1):
                if (services := table.get((destination[:far], origin[:near]))) is not None:
                    return services
        return []


def _bands_of(carrier: str, rows: Sequence[FreightRow]) -> Mapping[tuple[str, str], Sequence[Service]]:
    bands: dict[tuple[str, str], list[Service]] = {}
    for row in sorted(rows, key=_limit):
        services = bands.setdefault((row.destination_prefix, row.origin_prefix), [])
        services.append(Service(carrier, row, services[-1].up_to_grams if services else -1, _limit(row)))
    return bands


def best_service(services: Sequence[Service], weight_grams: int, wanted: str | None) -> tuple[int, int, str] | None:
    """Price, days in transit and carrier: the buyer's where the place has it, else the cheapest, then the fastest.

    None: no carrier takes so heavy a parcel.
    """
    offers = [
        (row.price_minor(weight_grams), row.days, carrier)
        for carrier, row, over, up_to in services
        if over < weight_grams <= up_to
    ]
    if wanted is not None:
        for offer in offers:
            if offer[2] == wanted:
                return offer
    return min(offers, default=None)


def _limit(row: FreightRow) -> int:
    return NO_LIMIT if row.max_weight_grams is None else row.max_weight_grams
