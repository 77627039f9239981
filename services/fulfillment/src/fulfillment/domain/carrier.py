"""Who carries a parcel: the buyer's wish, then rules, then the plan, then the default; never a forbidden one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierRule:
    """Chooses a carrier, or forbids it, where every condition holds; what is not set always holds."""

    rule_id: str
    priority: int
    """Lower goes first; ties by rule_id."""
    carrier: str
    forbid: bool
    place_id: str | None = None
    shop_id: str | None = None
    area_prefix: str = ""
    """Beginning of the region code: "33" Zhejiang, "" everywhere."""
    min_weight_grams: int = 0
    max_weight_grams: int | None = None
    """Below this weight; None: no upper end."""

    def matches(self, wish: Wish) -> bool:
        return (
            self.place_id in (None, wish.place_id)
            and self.shop_id in (None, wish.shop_id)
            and wish.region_code.startswith(self.area_prefix)
            and self.min_weight_grams <= wish.weight_grams
            and (self.max_weight_grams is None or wish.weight_grams < self.max_weight_grams)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a choice of carrier looks at."""

    place_id: str
    shop_id: str
    region_code: str
    weight_grams: int
    wanted: str | None
    planned: str | None


def choose_carrier(rules: Sequence[CarrierRule], wish: Wish, *, default: str) -> str:
    """The first that is not forbidden of: named by the buyer, chosen by the rules in turn, planned, the default.

    Where all are forbidden the default goes all the same: a parcel that cannot leave helps nobody, and people see the carrier.
    """
    matching = sorted((rule for rule in rules if rule.matches(wish)), key=lambda rule: (rule.priority, rule.rule_id))
    forbidden = {rule.carrier for rule in matching if rule.forbid}
    chosen = [wish.wanted, *(rule.carrier for rule in matching if not rule.forbid), wish.planned]
    return next((carrier for carrier in chosen if carrier and carrier not in forbidden), default)
