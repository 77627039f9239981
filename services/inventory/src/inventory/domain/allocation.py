"""Pinning held orders to one place each: the first plan that fits whole wins."""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import NamedTuple
from uuid import UUID

REOFFERS = 2
"""How often an order is offered to routing again after none of its plans fitted, before people look at it."""


class Plan(NamedTuple):
    place_no: int
    carrier: str
    landed_cost_minor: int
    promised_days: int


class Routed(NamedTuple):
    order_id: UUID
    wanted: Mapping[str, int]
    plans: Sequence[Plan]


class Choice(NamedTuple):
    order_id: UUID
    plan: int
    """Index into the plans, best first."""


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
            if capacity_left.get(plan.place_no, 0) < 1:
                continue
            if any(free.get((sku_id, plan.place_no), 0) < wanted for sku_id, wanted in order.wanted.items()):
                continue
            for sku_id, wanted in order.wanted.items():
                free[sku_id, plan.place_no] -= wanted
            capacity_left[plan.place_no] -= 1
            choices.append(Choice(order.order_id, index))
            break
    return choices


def is_stuck(reoffers: int) -> bool:
    """Whether an order that was offered again so often is handed to people now."""
    return reoffers >= REOFFERS
