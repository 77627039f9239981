"""Units that stay behind: stops, rejections, short picks, and what is left at a place after each.

Everything here works under the root's lock, on what is open under one root. A stop request is spread over the open
fulfilment orders as *claims*; a claim is open until its place has said what became of it, or nothing is left to stop.
When no claim of a request is open any more, the request is answered, once. A unit is promised to one request only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid5

from fulfillment.domain.errors import TooManyUnitsError
from fulfillment.domain.order import FulfilmentOrder, Kind, RequestStatus, Status

Key = tuple[UUID, int, str]
"""(origin order, origin line, SKU): what names units of a line."""
Units = Mapping[Key, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtPlace:
    """An open fulfilment order and what is left of it: neither shipped nor given back. **Shapes**: `left` has no zeros."""

    order: FulfilmentOrder
    left: Units


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one request wants of one fulfilment order, and got."""

    request_id: UUID
    fulfilment_order_id: UUID
    asked: Units
    stopped: Units = field(default_factory=dict)
    told: bool = False
    """The place was asked, or is being asked."""
    pending: bool = False
    """The place has heard it, and will say later."""
    open: bool = True

    @property
    def stop_id(self) -> UUID:
        """How the place knows it."""
        return uuid5(self.request_id, f"stop:{self.fulfilment_order_id}")

    def wants(self, key: Key) -> int:
        return self.asked.get(key, 0) - self.stopped.get(key, 0) if self.open else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequest:
    request_id: UUID
    root_id: UUID
    asked: Units


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """Units that a place gives back. `order` is what became of it; its `returns` is the number of this one."""

    order: FulfilmentOrder
    units: Units
    reason: str
    stock_effect: str
    whole: bool
    """Nothing of the order is left at the place, and none of it was shipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a decision changed: orders with what is left of them, what goes back, claims (new and changed)."""

    places: tuple[AtPlace, ...] = ()
    returns: tuple[Return, ...] = ()
    claims: tuple[Claim, ...] = ()


def stop(request: StopRequest, places: Sequence[AtPlace], claims: Sequence[Claim]) -> Outcome:
    """Spread a request: at once where nobody has to be asked, as open claims where a WMS is at work.

    Again, once a place has said less than it was asked for: the rest goes to places that this request has not asked yet. So
    nothing is refused that lies where it could be stopped.
    """
    mine = [claim for claim in claims if claim.request_id == request.request_id]
    rest = {key: quantity - sum(_promised(claim, key) for claim in mine) for key, quantity in request.asked.items()}
    asked_before = {claim.fulfilment_order_id for claim in mine}
    changed: list[AtPlace] = []
    returns: list[Return] = []
    made: list[Claim] = []
    for place in sorted(places, key=_certain_first):
        if place.order.fulfilment_order_id in asked_before:
            continue
        share = _share(place, rest, claims)
        if not share:
            continue
        for key, quantity in share.items():
            rest[key] -= quantity
        claim = Claim(request_id=request.request_id, fulfilment_order_id=place.order.fulfilment_order_id, asked=share)
        if place.order.is_told:
            made.append(claim)
            if place.order.request_status is not RequestStatus.SUBMITTED:  # Else once it has taken the order on.
                changed.append(replace(place, order=place.order.asked(RequestStatus.CANCELLATION_REQUESTED)))
            continue
        made.append(replace(claim, stopped=share, open=False))
        after, back = _give_back(place, share, reason="stopped", stock_effect="none")
        changed.append(after)
        returns.append(back)
    return Outcome(places=tuple(changed), returns=tuple(returns), claims=tuple(made))


def answer(place: AtPlace, claims: Sequence[Claim], *, request_id: UUID, stopped: Units) -> Outcome:
    """A place says what it stopped for a request: nothing, less, all, or more because it can only stop whole.

    What is answered already changes nothing: the same answer may come twice, on two ways. **Errors**: TooManyUnitsError.
    """
    mine = [one for one in claims if one.fulfilment_order_id == place.order.fulfilment_order_id]
    if not any(one.open for one in mine if one.request_id == request_id):
        return Outcome()
    _check(place, stopped)
    units = {key: quantity for key, quantity in stopped.items() if quantity}
    returns: tuple[Return, ...] = ()
    if units:
        place, back = _give_back(place, units, reason="stopped", stock_effect="none")
        returns = (back,)
    credited = _credit(mine, units, first=request_id)
    closed = [replace(one, open=False) if one.request_id == request_id else one for one in credited]
    return _after(place, mine, closed, returns)


def give_back(place: AtPlace, claims: Sequence[Claim], units: Units, *, reason: str, stock_effect: str) -> Outcome:
    """A place will not ship these units, asked or not. Requests that wait for units of it are served first.

    **Errors**: TooManyUnitsError.
    """
    _check(place, units)
    mine = [one for one in claims if one.fulfilment_order_id == place.order.fulfilment_order_id]
    after, back = _give_back(place, units, reason=reason, stock_effect=stock_effect)
    return _after(after, mine, _credit(mine, units, first=None), (back,))


def depart(place: AtPlace, claims: Sequence[Claim], units: Units) -> Outcome:
    """A parcel with these units has left: it wins over every stop that is not answered yet.

    **Errors**: TooManyUnitsError.
    """
    _check(place, units)
    mine = [one for one in claims if one.fulfilment_order_id == place.order.fulfilment_order_id]
    left = _less(place.left, units)
    order = replace(place.order, parcels=place.order.parcels + 1)
    if order.status is Status.OPEN:
        order = order.moved(Status.IN_PROGRESS)
    if not left:
        order = order.moved(Status.CLOSED)
    return _after(AtPlace(order=order, left=left), mine, mine, ())


def taken_on(place: AtPlace, claims: Sequence[Claim]) -> Outcome:
    """The place has accepted the order; what was to be stopped meanwhile is asked for now."""
    order = place.order
    if order.status is Status.OPEN:
        order = order.moved(Status.IN_PROGRESS)
    if order.request_status is RequestStatus.SUBMITTED:
        waits = any(one.open for one in claims if one.fulfilment_order_id == order.fulfilment_order_id)
        order = order.asked(RequestStatus.ACCEPTED)
        order = order.asked(RequestStatus.CANCELLATION_REQUESTED) if waits else order
    return Outcome(places=(replace(place, order=order),)) if order != place.order else Outcome()


def answered(request: StopRequest, claims: Iterable[Claim]) -> dict[Key, int] | None:
    """Units stopped per line asked for, 0 = too late; None while a place has not spoken."""
    stopped = dict.fromkeys(request.asked, 0)
    for claim in claims:
        if claim.request_id != request.request_id:
            continue
        if claim.open:
            return None
        for key, quantity in claim.stopped.items():
            stopped[key] += quantity
    return stopped


def _certain_first(place: AtPlace) -> tuple[bool, bool, float, UUID]:
    """The youngest first: the oldest is the likeliest to be on its way already. A waiting buyer may be at the door."""
    order = place.order
    return order.is_told, order.kind is Kind.PICK_UP, -order.created_at.timestamp(), order.fulfilment_order_id


def _promised(claim: Claim, key: Key) -> int:
    """Units that came of a claim, and those that still may."""
    return claim.stopped.get(key, 0) + claim.wants(key)


def _share(place: AtPlace, wanted: Units, claims: Sequence[Claim]) -> dict[Key, int]:
    share: dict[Key, int] = {}
    for key, quantity in wanted.items():
        promised = sum(one.wants(key) for one in claims if one.fulfilment_order_id == place.order.fulfilment_order_id)
        free = min(quantity, place.left.get(key, 0) - promised)
        if free > 0:
            share[key] = free
    return share


def _check(place: AtPlace, units: Units) -> None:
    for key, quantity in units.items():
        if quantity > place.left.get(key, 0):
            raise TooManyUnitsError(key, place.left.get(key, 0))


def _less(left: Units, units: Units) -> dict[Key, int]:
    rest = {key: quantity - units.get(key, 0) for key, quantity in left.items()}
    return {key: quantity for key, quantity in rest.items() if quantity}


def _give_back(place: AtPlace, units: Units, *, reason: str, stock_effect: str) -> tuple[AtPlace, Return]:
    left = _less(place.left, units)
    order = replace(place.order, returns=place.order.returns + 1)
    if not left:
        order = order.moved(Status.CLOSED if order.parcels else Status.CANCELLED)
        if reason != "stopped":
            order = order if order.parcels else order.asked(RequestStatus.REJECTED)
        elif order.request_status in (RequestStatus.SUBMITTED, RequestStatus.ACCEPTED):
            order = order.asked(RequestStatus.CANCELLATION_ACCEPTED)
    back = Return(
        order=order,
        units=dict(units),
        reason=reason,
        stock_effect=stock_effect,
        whole=not left and not order.parcels,
    )
    return AtPlace(order=order, left=left), back


def _credit(claims: Sequence[Claim], units: Units, *, first: UUID | None) -> list[Claim]:
    """Units that came back serve the request that the place answered, then the others, oldest first."""
    rest = dict(units)
    after = list(claims)
    for number in sorted(range(len(after)), key=lambda number: after[number].request_id != first):
        claim = after[number]
        got = {key: min(claim.wants(key), quantity) for key, quantity in rest.items()}
        stopped = dict(claim.stopped)
        for key, quantity in got.items():
            if quantity > 0:
                stopped[key] = stopped.get(key, 0) + quantity
                rest[key] -= quantity
        after[number] = replace(claim, stopped=stopped)
    return after


def _after(place: AtPlace, before: Sequence[Claim], claims: Sequence[Claim], returns: tuple[Return, ...]) -> Outcome:
    """Close the claims that nothing can serve any more, and say on the order how its stops ended."""
    after = [one if _is_alive(one, place) else replace(one, open=False) for one in claims]
    order = place.order
    told = order.is_told and order.request_status is not RequestStatus.SUBMITTED
    ended = any(one.open for one in before) and not any(one.open for one in after)
    if told and ended and order.request_status is not RequestStatus.REJECTED:
        won = any(one.stopped for one in after)
        order = order.asked(RequestStatus.CANCELLATION_ACCEPTED if won else RequestStatus.CANCELLATION_REJECTED)
    changed = tuple(one for one, old in zip(after, before, strict=True) if one != old)
    return Outcome(places=(replace(place, order=order),), returns=returns, claims=changed)


def _is_alive(claim: Claim, place: AtPlace) -> bool:
    """Whether the place can still stop something for it. Once asked, it is waited for: what it stops comes back in any case."""
    return claim.open and any((claim.told or claim.wants(key) > 0) and place.left.get(key, 0) > 0 for key in claim.asked)
