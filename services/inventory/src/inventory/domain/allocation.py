"""Pinning held orders to places: the first plan that fits whole wins, of one place or of several."""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import NamedTuple
from uuid import UUID

REOFFERS = 2
"""How often an order is offered to routing again after none of its plans fitted, before it is split or people look at it."""


class Plan(NamedTuple):
    place_no: int
    carrier: str
    landed_cost_minor: int
    promised_days: int


class Parcel(NamedTuple):
    """What one place ships of an order."""

    plan: Plan
    units: Mapping[str, int]
    """By SKU; none is 0."""


class Routed(NamedTuple):
    order_id: UUID
    wanted: Mapping[str, int]
    plans: Sequence[Plan]
    combined: Sequence[Sequence[Parcel]] = ()
    """Plans of several parcels, tried after those of one place."""
    splits_freely: bool = False
    """The last try: whatever the places of the combined plans have left together will do."""
    forced: bool = False
    """A person chose the place: its capacity does not count."""


class Choice(NamedTuple):
    order_id: UUID
    plan: int
    """Index into the plans and, after them, the combined ones; beyond both: split freely."""
    parcels: Sequence[Parcel]


Free = MutableMapping[tuple[str, int], int]
"""Units available by (SKU, place_no); what is not in it is not there."""


def choose_in_turn(orders: Iterable[Routed], free: Free, capacity_left: MutableMapping[int, int]) -> list[Choice]:
    """The best fitting plan of each order, seeing what the ones before it took. Orders that nothing fits are left out.

    Spends `free` and `capacity_left`. Run twice by the caller: on numbers read without locks to learn which rows to lock,
    then on the locked ones, which alone count.
    """
    choices = []
    for order in orders:
        for index, plan in enumerate(order.plans):
            if capacity_left.get(plan.place_no, 0) < 1 and not order.forced:
                continue
            if any(free.get((sku_id, plan.place_no), 0) < wanted for sku_id, wanted in order.wanted.items()):
                continue
            choice = Choice(order.order_id, index, (Parcel(plan, order.wanted),))
            break
        else:
            found = _choose_combined(order, free, capacity_left)
            if found is None:
                continue
            choice = found
        for parcel in choice.parcels:
            place_no = parcel.plan.place_no
            for sku_id, units in parcel.units.items():
                free[sku_id, place_no] -= units
            capacity_left[place_no] = capacity_left.get(place_no, 0) - 1
        choices.append(choice)
    return choices


def _choose_combined(order: Routed, free: Free, capacity_left: Mapping[int, int]) -> Choice | None:
    for index, parcels in enumerate(order.combined, len(order.plans)):
        if all(
            capacity_left.get(parcel.plan.place_no, 0) >= 1
            and all(free.get((sku_id, parcel.plan.place_no), 0) >= units for sku_id, units in parcel.units.items())
            for parcel in parcels
        ):
            return Choice(order.order_id, index, parcels)
    if order.splits_freely and order.combined and (split := _split_freely(order, free, capacity_left)):
        return Choice(order.order_id, len(order.plans) + len(order.combined), split)
    return None


def _split_freely(order: Routed, free: Free, capacity_left: Mapping[int, int]) -> list[Parcel] | None:
    """Take what each place has, best places first, until the order is complete; None where it does not get so far."""
    left = dict(order.wanted)
    parcels = []
    plans = {plan.place_no: plan for plan in order.plans}
    for parcel in (parcel for combined in order.combined for parcel in combined):
        plans.setdefault(parcel.plan.place_no, parcel.plan)
    for place_no, plan in plans.items():
        if capacity_left.get(place_no, 0) < 1:
            continue
        units = {sku_id: min(wanted, free.get((sku_id, place_no), 0)) for sku_id, wanted in left.items()}
        if units := {sku_id: count for sku_id, count in units.items() if count > 0}:
            parcels.append(Parcel(plan, units))
            left = {sku_id: rest for sku_id, wanted in left.items() if (rest := wanted - units.get(sku_id, 0))}
        if not left:
            return parcels
    return None


def is_last_try(reoffers: int) -> bool:
    """Whether an order that was offered again so often is split freely or handed to people, if nothing fits now."""
    return reoffers >= REOFFERS
