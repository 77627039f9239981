"""What a carrier charges and how long it takes, from where to where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FreightRow:
    origin_prefix: str = ""
    destination_prefix: str = ""
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


@dataclass(frozen=True, slots=True)
class FreightTables:
    """One table per carrier. The longest destination prefix wins, among equals the longest origin prefix."""

    version: int
    rows: Mapping[str, Sequence[FreightRow]]
    default_row: FreightRow | None = None
    """For carriers that have no table at all; None: such a carrier reaches nobody."""

    def find_row(self, carrier: str, origin: str, destination: str) -> FreightRow | None:
        """None: the carrier does not go there from here."""
        table = self.rows.get(carrier)
        if table is None:
            return self.default_row
        # Asked once per lane (the answer is kept there), so a scan is good enough.
        matching = (
            row for row in table if destination.startswith(row.destination_prefix) and origin.startswith(row.origin_prefix)
        )
        return max(matching, key=lambda row: (len(row.destination_prefix), len(row.origin_prefix)), default=None)
