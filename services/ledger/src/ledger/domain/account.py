"""The accounts of one origin (channel order line): what was paid, recognised, refunded, shipped, returned; and what follows.

Every template posts from its own event alone, so that events may arrive in any order: refunds always take from the contract
liability, recognition is always in full, goods always leave 发出商品. What is counted twice by that is moved here, by the
difference to what was moved before: end balances are a function of sums, whatever the order and the number of copies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from ledger.domain.policy import DELIVERED
from ledger.domain.posting import Home


class Units(NamedTuple):
    quantity: int = 0
    net: int = 0
    """Money without tax."""
    tax: int = 0
    cost: int = 0

    def plus(self, other: Units) -> Units:
        return Units(*map(sum, zip(self, other, strict=True)))

    def minus(self, other: Units) -> Units:
        return Units(*(mine - its for mine, its in zip(self, other, strict=True)))

    def first(self, quantity: int) -> Units:
        """The first units of these, by the one rule by which money follows goods (`PartLine.divide`)."""
        if quantity >= self.quantity:
            return self
        return Units(*(amount * quantity // self.quantity for amount in self))


class OriginFact(NamedTuple):
    """The sum of what one kind of fact says of one line of an origin in one parcel."""

    phase: str
    """paid | changed | shipped | delivered | arrived (noted only) | recognised | receipt_confirmed | refunded | return_… |
    lost | recognition_overlap | cost_overlap | loss_overlap"""
    home: Home
    origin_line: int
    sku_id: str
    units: Units


class Adjustment(NamedTuple):
    """What is to be moved now, by template; amounts may be negative."""

    template: str
    home: Home
    lines: tuple[tuple[int, str, Units], ...]
    """(origin line, SKU, units)"""


def settle(facts: Sequence[OriginFact], recognition: str) -> list[Adjustment]:
    """All that the facts of one origin and currency call for beyond what their own templates post."""
    recognised = _recognise(facts, recognition)
    posted = [OriginFact(a.template, a.home, line, sku_id, units) for a in recognised for line, sku_id, units in a.lines]
    return [*recognised, *_overlaps([*facts, *posted])]


RECOGNISED = ("delivered", "recognised")
_ARRIVED = ("delivered", "arrived")
_RETURNED = ("return_good", "return_bad", "return_missing")

_Key = tuple[int, str]
"""(origin line, SKU)"""


def _recognise(facts: Sequence[OriginFact], recognition: str) -> list[Adjustment]:
    """Each unit of each parcel once, as soon as the carrier or the buyer says it is there, or the buyer alone.

    What the buyer confirms is taken to be what arrived first; only the rest is looked for in parcels under way, in the order
    of their ids. The buyer's freight comes with its parcel's first unit.
    """
    homes: dict[UUID, Home] = {}
    shipped: dict[UUID, dict[_Key, Units]] = defaultdict(dict)
    arrived: dict[UUID, dict[_Key, Units]] = defaultdict(dict)
    posted: dict[UUID, dict[_Key, Units]] = defaultdict(dict)
    confirmed: dict[_Key, int] = defaultdict(int)
    for phase, home, line, sku_id, units in facts:
        key = (line, sku_id)
        if phase == "receipt_confirmed":
            confirmed[key] += units.quantity
        if (shipment_id := home.shipment_id) is None:
            continue
        for phases, parcels in ((("shipped",), shipped), (_ARRIVED, arrived), (RECOGNISED, posted)):
            if phase in phases:
                homes.setdefault(shipment_id, home)
                parcels[shipment_id][key] = parcels[shipment_id].get(key, Units()).plus(units)
    there = {
        shipment_id
        for shipment_id, lines in arrived.items()
        if recognition == DELIVERED and any(units.quantity > 0 for units in lines.values())
    }
    left = dict(confirmed)
    adjustments = []
    for shipment_id in sorted(homes, key=lambda one: (one not in there, one)):
        lines = shipped.get(shipment_id) or arrived.get(shipment_id, {})
        wanted: dict[_Key, Units] = {}
        for key, units in lines.items():
            if key[0] == 0:
                continue
            covered = min(left.get(key, 0), units.quantity)
            left[key] = left.get(key, 0) - covered
            if quantity := units.quantity if shipment_id in there else covered:
                wanted[key] = units.first(quantity)
        if wanted:
            wanted |= {key: units for key, units in lines.items() if key[0] == 0}
        before = posted.get(shipment_id, {})
        differences = _differences(wanted, before)
        if differences:
            adjustments.append(Adjustment("recognised", homes[shipment_id], differences))
    return adjustments


def _differences(wanted: Mapping[_Key, Units], before: Mapping[_Key, Units]) -> tuple[tuple[int, str, Units], ...]:
    both = ((key, wanted.get(key, Units()).minus(before.get(key, Units()))) for key in sorted({*wanted, *before}))
    return tuple((line, sku_id, units) for (line, sku_id), units in both if any(units))


class LineAccount(NamedTuple):
    """The account of one origin line: sums of facts, in minor units; money without tax in `net`, tax apart."""

    paid: Units
    """Changes included."""
    recognised: Units
    refunded: Units
    shipped: Units
    returned: Units
    """Good, bad or missing."""
    lost: Units
    recognition_overlap: Units
    """Refunded after it was recognised: taken off revenue and output tax."""
    cost_overlap: Units
    """Come back after it was sold: taken off the cost of sales."""
    loss_overlap: Units
    """Lost, and turned up after all."""

    @property
    def liability(self) -> Units:
        """What is still owed to the buyer: the line's 合同负债 (net) and 待转销项税额 (tax)."""
        return self.paid.minus(self.recognised).minus(self.refunded).plus(self.recognition_overlap)

    @property
    def goods_out(self) -> int:
        """The line's 发出商品: shipped, and neither sold, lost nor come back."""
        gone = self.recognised.cost + self.returned.cost + self.lost.cost
        return self.shipped.cost - gone + self.cost_overlap.cost + self.loss_overlap.cost


def accounts_of(facts: Iterable[OriginFact]) -> dict[int, LineAccount]:
    """Origin line → account."""
    sums: dict[int, dict[str, Units]] = defaultdict(lambda: defaultdict(Units))
    for phase, _, line, _, units in facts:
        if (column := _COLUMNS.get(phase)) is not None:
            sums[line][column] = sums[line][column].plus(units)
    return {
        line: LineAccount(*(columns.get(name, Units()) for name in LineAccount._fields))
        for line, columns in sorted(sums.items())
    }


_COLUMNS = {
    "paid": "paid",
    "changed": "paid",
    **dict.fromkeys(RECOGNISED, "recognised"),
    "refunded": "refunded",
    "shipped": "shipped",
    **dict.fromkeys(_RETURNED, "returned"),
    "lost": "lost",
    "recognition_overlap": "recognition_overlap",
    "cost_overlap": "cost_overlap",
    "loss_overlap": "loss_overlap",
}


def _overlaps(facts: Sequence[OriginFact]) -> Iterator[Adjustment]:
    paid = any(fact.phase == "paid" for fact in facts)
    shipped = {fact.origin_line for fact in facts if fact.phase == "shipped"}
    home = min(facts, key=lambda fact: (fact.phase != "paid", fact.phase)).home._replace(shipment_id=None)
    skus = _sku_of(facts)
    moves: dict[str, list[tuple[int, str, Units]]] = defaultdict(list)
    for line, account in accounts_of(facts).items():
        wanted = {
            "recognition_overlap": _money_overlap(account) if paid else Units(),
            "cost_overlap": _cost_overlap(account) if line in shipped else Units(),
            "loss_overlap": _loss_overlap(account) if line in shipped else Units(),
        }
        for template, units in wanted.items():
            difference = units.minus(getattr(account, template))
            if any(difference):
                moves[template].append((line, skus.get(line, ""), difference))
    for template, lines in sorted(moves.items()):
        yield Adjustment(template, home, tuple(lines))


def _money_overlap(account: LineAccount) -> Units:
    taken = account.recognised.plus(account.refunded).minus(account.paid)
    return Units(net=max(0, taken.net), tax=max(0, taken.tax))


def _cost_overlap(account: LineAccount) -> Units:
    return Units(cost=max(0, account.recognised.cost + account.returned.cost - account.shipped.cost))


def _loss_overlap(account: LineAccount) -> Units:
    """What is lost and is sold or back as well was not lost."""
    too_much = account.recognised.cost + account.returned.cost + account.lost.cost - account.shipped.cost
    return Units(cost=max(0, min(account.lost.cost, too_much)))


def _sku_of(facts: Iterable[OriginFact]) -> dict[int, str]:
    """The SKU of a line, for reports; a bundle's first."""
    skus: dict[int, str] = {}
    for fact in facts:
        if fact.sku_id:
            skus[fact.origin_line] = min(fact.sku_id, skus.get(fact.origin_line, fact.sku_id))
    return skus
