"""Requests that follow an order: cancel, withdraw, return, answer, ship, recall. Whoever holds the goods decides.

A root's orders and the stops it waits for are one plain value; each decision takes it and gives the next one, with what is to
be told and done. Nothing here knows of rows, events or pools.

    held (back-ordered, returned, reserved)   spent at once, settled cancelled
    at a place                                asked to stop, pending until the answer; what comes back meanwhile waits
    gone                                      settled refused
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from uuid import UUID, uuid5

BACKORDERED, RESERVED, STUCK, RETURNED, ALLOCATED = "backordered", "reserved", "stuck", "returned", "allocated"
CANCELLED, CLOSED = "cancelled", "closed"
CANCEL, RECALL = "cancel", "recall"


class RequestError(Exception):
    """Something that cannot be: more units came back or left than were ever there. The record is parked."""


class LineKey(NamedTuple):
    """Units of one origin line, in units of that SKU."""

    origin_order_id: UUID
    origin_line: int
    sku_id: str


Units = Mapping[LineKey, int]


@dataclass(frozen=True, slots=True)
class Held:
    """One order as far as requests are concerned: which units it still has, and in whose hands they are."""

    order_id: UUID
    number: int
    """Age among the orders of its root: the highest is the youngest."""
    state: str
    attempt: int
    lines: Units
    """Units neither shipped, returned nor cancelled; none is 0."""
    children: int = 0
    """Orders split off so far: their numbers are never used again."""
    return_no: int = 0
    """The last return under this attempt."""


class Pending(NamedTuple):
    """Units that a request claims at places and that no answer has come for."""

    request_id: UUID
    key: LineKey
    quantity: int
    kind: str
    """cancel | recall: a recall settles nothing."""


@dataclass(frozen=True, slots=True)
class Root:
    orders: tuple[Held, ...] = ()
    pending: tuple[Pending, ...] = ()
    """In the order in which they were asked."""

    def at_places(self, key: LineKey) -> int:
        return _units(self.orders, key, ALLOCATED)

    def waiting(self, key: LineKey) -> int:
        return _units(self.orders, key, RETURNED)

    def claimed(self, key: LineKey, kind: str = CANCEL) -> int:
        return sum(pending.quantity for pending in self.pending if pending.key == key and pending.kind == kind)


class Taken(NamedTuple):
    """Units that one order lost to a request; it is cancelled where they were its last."""

    order_id: UUID
    state: str
    """The state in which they were taken."""
    key: LineKey
    quantity: int
    code: str


class Refused(NamedTuple):
    key: LineKey
    quantity: int
    code: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The next root, and what follows from the decision."""

    root: Root
    taken: tuple[Taken, ...] = ()
    refused: tuple[Refused, ...] = ()
    discarded: tuple[Refused, ...] = ()
    """Cancelled without anybody having held them: their order never came here."""
    stops: Units = field(default_factory=dict)
    """Units that a place is to be asked to stop, in one request."""
    again: tuple[UUID, ...] = ()
    """Orders that are reserved again; their attempt has risen."""
    returned: tuple[UUID, Units] | None = None
    """The order that units came back of: they are off its place now."""
    child: Held | None = None
    """The order that holds what came back, where the old one keeps the rest."""


def cancel(root: Root, request_id: UUID, lines: Units) -> Outcome:
    """Spend a cancel on what nobody works on, youngest orders first; ask the places for the rest; refuse what is gone.

    What waits after a return is left to the earlier requests that claim it: they are answered later, but came first.
    """
    if not root.orders:
        return Outcome(root, discarded=tuple(Refused(key, units, "cancelled_discarded") for key, units in lines.items()))
    desk = _Desk(root)
    refused, stops = [], {}
    for key, wanted in lines.items():
        claimed = root.claimed(key)
        waiting = root.waiting(key)
        left = wanted - desk.take(key, wanted, (BACKORDERED,), "cancelled_backordered")
        left -= desk.take(key, min(left, max(0, waiting - claimed)), (RETURNED,), "cancelled_reserved")
        left -= desk.take(key, left, (RESERVED, STUCK), "cancelled_reserved")
        stop = min(left, max(0, root.at_places(key) - max(0, claimed - waiting)))
        if stop:
            stops[key] = stop
        if left > stop:
            refused.append(Refused(key, left - stop, "too_late"))
    pending = root.pending + tuple(Pending(request_id, key, units, CANCEL) for key, units in stops.items())
    again = tuple(order.order_id for order in desk.changed() if order.state in (RESERVED, STUCK))
    return Outcome(desk.root(pending, again), tuple(desk.taken), tuple(refused), stops=stops, again=again)


def withdraw(root: Root, request_id: UUID) -> Outcome:
    """Drop what is still pending of a cancel. What its stop brings back later goes on like any other return."""
    dropped = [pending for pending in root.pending if pending.request_id == request_id and pending.kind == CANCEL]
    if not dropped:
        return Outcome(root)
    refused = tuple(Refused(pending.key, pending.quantity, "withdrawn") for pending in dropped)
    pending = tuple(pending for pending in root.pending if pending not in dropped)
    settled, again = _go_on(replace(root, pending=pending))
    return Outcome(settled, refused=refused, again=again)


def returned(root: Root, order_id: UUID, attempt: int, return_no: int, lines: Units, *, whole: bool) -> Outcome:
    """Take back units that a place will not ship: they wait while anything is pending, else they are reserved again at once.

    A return of another attempt, or one told before, changes nothing. **Errors**: RequestError.
    """
    order = _order(root, order_id)
    if order.attempt != attempt or order.state != ALLOCATED or return_no <= order.return_no:
        return Outcome(root)
    left = _less(order.lines, lines, "returned")
    if whole:
        if left:
            raise RequestError(f"order {order_id} came back whole, without {sum(left.values())} of its units")
        child = None
        orders = _put(root.orders, replace(order, state=RETURNED, return_no=return_no))
    else:
        number = order.children + 1
        child = Held(child_id(order_id, number), _next_number(root), RETURNED, 0, dict(lines))
        kept = replace(order, lines=left, state=ALLOCATED if left else CLOSED, children=number, return_no=return_no)
        orders = (*_put(root.orders, kept), child)
    settled, again = _go_on(Root(orders, root.pending))
    return Outcome(settled, again=again, returned=(order_id, dict(lines)), child=child)


def answered(root: Root, request_id: UUID) -> Outcome:
    """Settle a request that the places have answered: it takes what waits, up to what it claims; the remainder has shipped."""
    claims = [pending for pending in root.pending if pending.request_id == request_id]
    if not claims:
        return Outcome(root)
    desk = _Desk(root)
    refused = []
    for claim in claims:
        if claim.kind == CANCEL:
            left = claim.quantity - desk.take(claim.key, claim.quantity, (RETURNED,), "cancelled_stopped")
            if left:
                refused.append(Refused(claim.key, left, "too_late"))
    pending = tuple(pending for pending in root.pending if pending.request_id != request_id)
    settled, again = _go_on(desk.root(pending, ()))
    return Outcome(settled, tuple(desk.taken), tuple(refused), again=again)


def shipped(root: Root, order_id: UUID, lines: Units) -> Outcome:
    """Let units go that left a place; the order is closed with its last one. **Errors**: RequestError."""
    order = _order(root, order_id)
    if order.state != ALLOCATED:
        raise RequestError(f"units shipped of order {order_id}, which is {order.state}")
    left = _less(order.lines, lines, "shipped")
    return Outcome(replace(root, orders=_put(root.orders, replace(order, lines=left, state=ALLOCATED if left else CLOSED))))


def recall(root: Root, request_id: UUID, lines: Units) -> Outcome:
    """Ask places for units that turned out not to be there; never for more than no other recall has asked for."""
    stops = {}
    for key, wanted in lines.items():
        stop = min(wanted, root.at_places(key) - root.claimed(key, RECALL))
        if stop > 0:  # Below 0 where some of what was recalled before has shipped.
            stops[key] = stop
    pending = root.pending + tuple(Pending(request_id, key, units, RECALL) for key, units in stops.items())
    return Outcome(replace(root, pending=pending), stops=stops)


def recall_id(order: Held, sku_id: str) -> UUID:
    """The request that recalls units of a SKU from an order as it stands: the same as long as nothing of it has come back."""
    units = sum(units for key, units in order.lines.items() if key.sku_id == sku_id)
    return uuid5(order.order_id, f"recall:{order.attempt}:{units}:{sku_id}")


def child_id(parent_id: UUID, number: int) -> UUID:
    """The id of the n-th order split off from another."""
    return uuid5(parent_id, f"split:{number}")


class _Desk:
    """The orders of a root while units are taken from them."""

    def __init__(self, root: Root) -> None:
        self._before = {order.order_id: order for order in root.orders}
        self._now = dict(self._before)
        self.taken: list[Taken] = []

    def take(self, key: LineKey, wanted: int, states: Iterable[str], code: str) -> int:
        """Take up to `wanted` units, youngest orders first; return how many there were."""
        left = wanted
        for order in sorted(self._now.values(), key=lambda order: -order.number):
            units = min(left, order.lines.get(key, 0)) if order.state in states else 0
            if units:
                left -= units
                self.taken.append(Taken(order.order_id, order.state, key, units, code))
                lines = {other: count - (units if other == key else 0) for other, count in order.lines.items()}
                lines = {other: count for other, count in lines.items() if count}
                self._now[order.order_id] = replace(order, lines=lines, state=order.state if lines else CANCELLED)
        return wanted - left

    def changed(self) -> list[Held]:
        return [order for order_id, order in self._now.items() if order is not self._before[order_id]]

    def root(self, pending: tuple[Pending, ...], again: Iterable[UUID]) -> Root:
        return Root(tuple(map(_risen(again), self._now.values())), pending)


def _go_on(root: Root) -> tuple[Root, tuple[UUID, ...]]:
    """Once nothing is pending, reserve what waits again."""
    if root.pending:
        return root, ()
    again = tuple(order.order_id for order in root.orders if order.state == RETURNED)
    return replace(root, orders=tuple(map(_risen(again), root.orders))), again


def _risen(again: Iterable[UUID]) -> Callable[[Held], Held]:
    chosen = set(again)
    return lambda order: (
        replace(order, state=RESERVED, attempt=order.attempt + 1, return_no=0) if order.order_id in chosen else order
    )


def _order(root: Root, order_id: UUID) -> Held:
    for order in root.orders:
        if order.order_id == order_id:
            return order
    raise RequestError(f"order {order_id} is not here")


def _put(orders: tuple[Held, ...], changed: Held) -> tuple[Held, ...]:
    return tuple(changed if order.order_id == changed.order_id else order for order in orders)


def _less(have: Units, gone: Units, verb: str) -> Units:
    left = dict(have)
    for key, units in gone.items():
        if units > left.get(key, 0):
            raise RequestError(f"{units} units {verb} of {key.sku_id}, {left.get(key, 0)} were there")
        left[key] -= units
    return {key: units for key, units in left.items() if units}


def _next_number(root: Root) -> int:
    return 1 + max((order.number for order in root.orders), default=0)


def _units(orders: Iterable[Held], key: LineKey, state: str) -> int:
    return sum(order.lines.get(key, 0) for order in orders if order.state == state)
