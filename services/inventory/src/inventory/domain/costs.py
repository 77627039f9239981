"""What one unit cost: the moving average of what was paid, in whole minor units."""

from dataclasses import dataclass


@dataclass(slots=True)
class StockValue:
    """The average as of the last receipt: `value_minor` over `units`. Units that went since then went at `unit_cost_minor`, so
    the fen that the division left over stay with what is still there, and the next receipt shares them out."""

    units: int = 0
    value_minor: int = 0

    @property
    def unit_cost_minor(self) -> int:
        return self.value_minor // self.units

    def receive(self, quantity: int, unit_cost_minor: int, *, counted: int) -> None:
        """`counted` units are there before the receipt, at all places; below 0 (sold before they were booked) counts as 0."""
        left = max(0, counted)
        carried = self.value_minor - (self.units - left) * self.unit_cost_minor if self.units else 0
        self.units = left + quantity
        self.value_minor = max(0, carried) + quantity * unit_cost_minor
