"""How many units the rules keep back of a SKU at a place."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class SafetyRule(NamedTuple):
    """Names a SKU, or a category, or neither; a place or none. What it does not name, it holds for."""

    units: int
    place_id: str | None = None
    sku_id: str | None = None
    category: str | None = None


@dataclass(slots=True)
class SafetyRules:
    """The most special rule counts: one of the SKU before one of its category before one of all goods, and in each of them
    one of the place before one of all places. Of two alike the later."""

    rules: Iterable[SafetyRule]
    _units: dict[tuple[str | None, str | None, str | None], int] = field(init=False)

    def __post_init__(self) -> None:
        self._units = {(rule.sku_id, rule.category, rule.place_id): rule.units for rule in self.rules}

    def units(self, *, place_id: str, sku_id: str, category: str) -> int:
        for goods in ((sku_id, None), (None, category), (None, None)):
            for place in (place_id, None):
                if (units := self._units.get((*goods, place))) is not None:
                    return units
        return 0
