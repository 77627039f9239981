"""The life of one root with cancels, as a machine whose every decision is made by the services' own functions.

What is here is only what lies between them: queues that keep the order per topic, places that do what places do, and the
counting. A step is one transaction of one service, or one thing that the world does. Nothing is copied from the services.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import product
from typing import Any
from uuid import UUID

from audit.domain import cancelling as auditing
from fulfillment.domain import stopping
from fulfillment.domain.order import Connector, FulfilmentOrder, Kind, RequestStatus, Status, fulfilment_order_id
from ingest.domain import requests as asking
from inventory.domain import cancelling as holding

ROOT = UUID(int=1)
NOW = datetime(2026, 11, 11, tzinfo=UTC)
OTHER = UUID(int=2)
"""The order that is merged with the first; the merged order moves under ROOT here."""
LINE = (ROOT, 1, "SKU")
OTHER_LINE = (OTHER, 1, "SKU")
AUTOMATIC, WMS = "automatic", "wms"
Units = Mapping[tuple[UUID, int, str], int]


class TooEarlyError(AssertionError):
    """A request was refused units that lay at a place and could have been stopped."""


@dataclass(frozen=True)
class Plan:
    """What may happen in a run, and how often: bounds keep the space finite."""

    units: int
    requests: tuple[int, ...]
    """Units that each request asks for."""
    withdrawals: int = 0
    rejections: int = 0
    short_picks: int = 0
    recalls: int = 0
    splits: bool = True
    """By shortage and by place."""
    parcels: bool = True
    """A place may ship unit by unit."""
    holds: bool = True
    """Audit may hold the order before it is released."""
    places: tuple[str, ...] = (AUTOMATIC, WMS)
    merge: bool = False
    """A second order of as many units is merged with the first while audit holds both; requests go to them in turn."""

    @property
    def lines(self) -> tuple[tuple[UUID, int, str], ...]:
        return (LINE, OTHER_LINE) if self.merge else (LINE,)

    @property
    def all_units(self) -> int:
        return self.units * len(self.lines)


@dataclass(frozen=True)
class World:
    plan: Plan
    ingest: asking.OrderState
    audit: tuple[auditing.HeldOrder, ...] = ()
    inventory: holding.Root = field(default_factory=holding.Root)
    places: tuple[stopping.AtPlace, ...] = ()
    claims: tuple[stopping.Claim, ...] = ()
    stops: tuple[stopping.StopRequest, ...] = ()
    received: tuple[Any, ...] = ()
    audited: tuple[Any, ...] = ()
    allocated: tuple[Any, ...] = ()
    returned: tuple[Any, ...] = ()
    departed: tuple[Any, ...] = ()
    settled: tuple[Any, ...] = ()
    asked: int = 0
    withdrawn: int = 0
    rejected: int = 0
    picked_short: int = 0
    recalled: int = 0
    revived: int = 0
    shipped: int = 0
    """Units that left a place."""
    answers: tuple[UUID, ...] = ()

    def key(self) -> bytes:
        """Equal for equal worlds, whatever order their parts were made in."""
        return blake2b(repr(_frozen(self)).encode(), digest_size=16).digest()


def start(plan: Plan) -> World:
    state = asking.OrderState(dict.fromkeys(plan.lines, plan.units))
    return World(plan=plan, ingest=state, received=tuple(("order", {line: plan.units}) for line in plan.lines))


def request_id(number: int) -> UUID:
    return UUID(int=100 + number)


def steps(world: World) -> Iterator[tuple[str, World]]:
    """Every next world, each named by what happened."""
    yield from _ingest(world)
    yield from _audit(world)
    yield from _inventory(world)
    yield from _fulfilment(world)


# Ingest


def _ingest(world: World) -> Iterator[tuple[str, World]]:
    plan = world.plan
    if world.asked < len(plan.requests):
        number = world.asked
        outcome = asking.ask(world.ingest, request_id(number), {plan.lines[number % len(plan.lines)]: plan.requests[number]})
        after = replace(world, asked=number + 1)
        if isinstance(outcome, asking.Accepted):
            after = replace(
                after,
                ingest=outcome.state,
                received=(*world.received, ("cancel", request_id(number), dict(outcome.lines), outcome.whole)),
            )
        yield f"ask {number}", after
    if world.withdrawn < plan.withdrawals:
        for each in world.ingest.requests:
            if world.ingest.requests[each].progress is asking.Progress.WITHDRAWN or not world.ingest.requests[each].is_ours:
                continue
            withdrawal = asking.withdraw(world.ingest, each)
            after = replace(
                world,
                ingest=withdrawal.state,
                withdrawn=world.withdrawn + 1,
                revived=world.revived + sum(withdrawal.revive.values()),
            )
            if withdrawal.is_sent:
                after = replace(after, received=(*world.received, ("withdraw", each)))
            yield f"withdraw {each.int - 100}", after
    if world.settled:
        (settled_id, lines), rest = world.settled[0], world.settled[1:]
        settlement = asking.settle(world.ingest, settled_id, [asking.Settled(*line) for line in lines])
        yield (
            "hear",
            replace(world, ingest=settlement.state, settled=rest, revived=world.revived + sum(settlement.revive.values())),
        )


# Audit


def _audit(world: World) -> Iterator[tuple[str, World]]:
    if world.audit and not any(message[0] == "order" for message in world.received):
        # Merged, or alone where a cancel took all of the other.
        together = {key: units for held in world.audit for key, units in held.lines.items()}
        yield "release", replace(world, audit=(), audited=(*world.audited, ("order", together)))
    if not world.received:
        return
    message, rest = world.received[0], world.received[1:]
    after = replace(world, received=rest)
    if message[0] == "order":
        ((order_id, _, _),) = message[1]
        if world.plan.holds or world.plan.merge:
            yield "hold", replace(after, audit=(*world.audit, auditing.HeldOrder(order_id, message[1])))
        if not world.plan.merge:
            yield "clear", replace(after, audited=(*world.audited, message))
    elif message[0] == "cancel":
        _, asked_id, lines, whole = message
        spent = auditing.spend(world.audit, lines)
        taken = {key: units for of_order in spent.taken.values() for key, units in of_order.items()}
        audit = tuple(
            auditing.HeldOrder(held.order_id, left)
            for held in world.audit
            if (left := {key: units - taken.get(key, 0) for key, units in held.lines.items() if units > taken.get(key, 0)})
        )
        after = replace(after, audit=audit)
        if taken:
            after = _settle(after, asked_id, [(key, units, 0) for key, units in taken.items()])
        if spent.remainder:
            forwarded = ("cancel", asked_id, dict(spent.remainder), whole and not taken)
            after = replace(after, audited=(*after.audited, forwarded))
        yield "audit spends", after
    else:
        yield "audit forwards", replace(after, audited=(*world.audited, message))


# Inventory


def _inventory(world: World) -> Iterator[tuple[str, World]]:
    root = world.inventory
    for order in root.orders:
        if order.state == holding.BACKORDERED:
            yield "wake", replace(world, inventory=_changed(root, replace(order, state=holding.RESERVED, attempt=1)))
        if order.state == holding.RESERVED:
            yield from _allocate(world, order)
    if world.plan.recalls > world.recalled and root.at_places(holding.LineKey(*LINE)):
        outcome = holding.recall(root, UUID(int=900 + world.recalled), {holding.LineKey(*LINE): 1})
        yield "recall", _inventory_does(replace(world, recalled=world.recalled + 1), outcome, UUID(int=900 + world.recalled))
    if world.audited:
        message, rest = world.audited[0], world.audited[1:]
        after = replace(world, audited=rest)
        if message[0] == "order":
            lines = {holding.LineKey(*key): units for key, units in message[1].items()}
            yield from _reserve(after, lines)
        elif message[0] == "cancel":
            _, asked_id, lines, _ = message
            outcome = holding.cancel(root, asked_id, {holding.LineKey(*key): units for key, units in lines.items()})
            yield "inventory spends", _inventory_does(after, outcome, asked_id)
        else:
            yield "inventory withdraws", _inventory_does(after, holding.withdraw(root, message[1]), message[1])
    if world.returned:
        message, rest = world.returned[0], world.returned[1:]
        after = replace(world, returned=rest)
        if message[0] == "goods":
            _, order_id, attempt, return_no, lines, whole = message
            units = {holding.LineKey(*key): count for key, count in lines.items()}
            outcome = holding.returned(root, order_id, attempt, return_no, units, whole=whole)
            yield "take back", _inventory_does(after, outcome, ROOT)
        else:
            yield "hear the answer", _inventory_does(after, holding.answered(root, message[1]), message[1])
    if world.departed:
        (order_id, lines), rest = world.departed[0], world.departed[1:]
        outcome = holding.shipped(root, order_id, {holding.LineKey(*key): count for key, count in lines.items()})
        yield "let go", _inventory_does(replace(world, departed=rest), outcome, ROOT)


def _reserve(world: World, lines: Mapping[holding.LineKey, int]) -> Iterator[tuple[str, World]]:
    whole = holding.Held(ROOT, 1, holding.RESERVED, 1, lines)
    yield "reserve", replace(world, inventory=_added(world.inventory, whole))
    yield "back-order", replace(world, inventory=_added(world.inventory, replace(whole, state=holding.BACKORDERED, attempt=0)))
    if world.plan.splits and sum(lines.values()) > 1:
        rest, last = _apart(lines)
        parts = (
            holding.Held(holding.child_id(ROOT, 1), 2, holding.RESERVED, 1, rest),
            holding.Held(holding.child_id(ROOT, 2), 3, holding.BACKORDERED, 0, last),
        )
        yield "split by shortage", replace(world, inventory=_added(world.inventory, *parts))


def _allocate(world: World, order: holding.Held) -> Iterator[tuple[str, World]]:
    for place in world.plan.places:
        taken = replace(order, state=holding.ALLOCATED)
        told = ("order", order.order_id, order.attempt, place, dict(order.lines))
        yield (
            f"allocate to {place}",
            replace(world, inventory=_changed(world.inventory, taken), allocated=(*world.allocated, told)),
        )
    if world.plan.splits and sum(order.lines.values()) > 1 and len(world.plan.places) > 1:
        others = tuple(other for other in world.inventory.orders if other.order_id != order.order_id)
        number = max(other.number for other in world.inventory.orders)
        parts, told_all = [], []
        for nth, (place, share) in enumerate(zip(world.plan.places, _apart(order.lines), strict=True), 1):
            child = holding.Held(
                holding.child_id(order.order_id, order.children + nth),
                number + nth,
                holding.ALLOCATED,
                1,
                share,
            )
            parts.append(child)
            told_all.append(("order", child.order_id, 1, place, dict(child.lines)))
        yield (
            "split by place",
            replace(
                world,
                inventory=replace(world.inventory, orders=(*others, *parts)),
                allocated=(*world.allocated, *told_all),
            ),
        )


def _inventory_does(world: World, outcome: holding.Outcome, asked_id: UUID) -> World:
    after = replace(world, inventory=outcome.root)
    for key in {refused.key for refused in outcome.refused if refused.code == "too_late"}:
        in_hand = sum(order.lines.get(key, 0) for order in outcome.root.orders if order.state != holding.ALLOCATED)
        if (free := in_hand - outcome.root.claimed(key)) > 0:
            raise TooEarlyError(f"units refused as shipped while inventory has {free} in hand")
    lines = [(tuple(taken.key), taken.quantity, 0) for taken in outcome.taken]
    lines += [(tuple(refused.key), refused.quantity, 0) for refused in outcome.discarded]
    lines += [(tuple(refused.key), 0, refused.quantity) for refused in outcome.refused]
    if lines:
        after = _settle(after, asked_id, lines)
    if outcome.stops:
        stop = ("stop", asked_id, {tuple(key): units for key, units in outcome.stops.items()})
        after = replace(after, allocated=(*after.allocated, stop))
    return after


# Fulfilment


def _fulfilment(world: World) -> Iterator[tuple[str, World]]:
    if world.allocated:
        message, rest = world.allocated[0], world.allocated[1:]
        after = replace(world, allocated=rest)
        if message[0] == "order":
            _, order_id, attempt, place, lines = message
            at_place = stopping.AtPlace(order=_work(order_id, attempt, place), left=_plain(lines))
            yield "take on", replace(after, places=(*world.places, at_place))
        else:
            _, asked_id, lines = message
            stop = stopping.StopRequest(request_id=asked_id, root_id=ROOT, asked=lines)
            yield "ask to stop", _place_does(replace(after, stops=(*world.stops, stop)), stopping.Outcome())
    for place in world.places:
        if place.order.is_open and place.left:
            yield from _work_on(world, place)


def _work_on(world: World, place: stopping.AtPlace) -> Iterator[tuple[str, World]]:
    everything = dict(place.left)
    for units in _shares(everything, every=world.plan.parcels):
        outcome = stopping.depart(place, world.claims, units)
        after = replace(
            world,
            departed=(*world.departed, (place.order.order_id, dict(units))),
            shipped=world.shipped + sum(units.values()),
        )
        yield "ship", _place_does(after, outcome)
    if world.rejected < world.plan.rejections and not place.order.parcels:
        outcome = stopping.give_back(place, world.claims, everything, reason="place_rejected", stock_effect="none")
        yield "reject", _place_does(replace(world, rejected=world.rejected + 1), outcome)
    if world.picked_short < world.plan.short_picks:
        one = {next(iter(place.left)): 1}
        outcome = stopping.give_back(place, world.claims, one, reason="short_pick", stock_effect="none")
        yield "pick short", _place_does(replace(world, picked_short=world.picked_short + 1), outcome)
    for claim in world.claims:
        if claim.open and claim.fulfilment_order_id == place.order.fulfilment_order_id:
            for stopped in ({}, *_shares(everything, every=True)):
                outcome = stopping.answer(place, world.claims, request_id=claim.request_id, stopped=stopped)
                yield f"stop {sum(stopped.values())}", _place_does(world, outcome)


def _place_does(world: World, outcome: stopping.Outcome) -> World:
    """What a transaction of fulfilment does: the decision, what is missing asked of further places, answers that are due."""
    world = _written(world, outcome)
    for stop in world.stops:
        if stop.request_id not in world.answers:
            open_places = [place for place in world.places if place.order.is_open]
            world = _written(world, stopping.stop(stop, open_places, world.claims))
    for stop in world.stops:
        stopped = stopping.answered(stop, world.claims)
        if stop.request_id not in world.answers and stopped is not None:
            for key, wanted in stop.asked.items():
                if wanted > stopped[key] and (free := _unclaimed(world, stop, key)):
                    raise TooEarlyError(f"answered with units missing while {free} lie unclaimed at places")
            answer = ("answer", stop.request_id)
            world = replace(world, answers=(*world.answers, stop.request_id), returned=(*world.returned, answer))
    return world


def _written(world: World, outcome: stopping.Outcome) -> World:
    changed = {place.order.fulfilment_order_id: place for place in outcome.places}
    claims = {(claim.request_id, claim.fulfilment_order_id): claim for claim in (*world.claims, *outcome.claims)}
    goods = tuple(
        (
            "goods",
            back.order.order_id,
            back.order.attempt,
            back.order.returns,
            dict(back.units),
            back.whole,
        )
        for back in outcome.returns
    )
    return replace(
        world,
        places=tuple(changed.get(place.order.fulfilment_order_id, place) for place in world.places),
        claims=tuple(claims.values()),
        returned=(*world.returned, *goods),
    )


def _work(order_id: UUID, attempt: int, place: str) -> FulfilmentOrder:
    return FulfilmentOrder(
        fulfilment_order_id=fulfilment_order_id(order_id, attempt),
        order_id=order_id,
        root_id=ROOT,
        attempt=attempt,
        kind=Kind.TO_SHIP,
        place_id=place,
        place_no=1,
        connector=Connector.HTTP if place == WMS else Connector.AUTOMATIC,
        carrier="sf",
        receiver_ref=None,
        weight_grams=100,
        freight_cost_minor=0,
        promised_on=None,
        status=Status.IN_PROGRESS,
        request_status=RequestStatus.ACCEPTED,
        waiting_for=None,
        ship_at=NOW,
        created_at=NOW,
    )


def _unclaimed(world: World, stop: stopping.StopRequest, key: tuple[UUID, int, str]) -> int:
    """Units at places that nobody was asked to stop for this request, and that no other has claimed."""
    asked = {claim.fulfilment_order_id for claim in world.claims if claim.request_id == stop.request_id}
    free = 0
    for place in world.places:
        work_id = place.order.fulfilment_order_id
        if place.order.is_open and work_id not in asked:
            claimed = sum(claim.wants(key) for claim in world.claims if claim.fulfilment_order_id == work_id)
            free += max(0, place.left.get(key, 0) - claimed)
    return free


# Counting


def is_quiet(world: World) -> bool:
    """Nothing is on its way; whoever could still do something (release, wake, ship) does it in the steps."""
    return not any((world.received, world.audited, world.allocated, world.returned, world.departed, world.settled))


def is_over(world: World) -> bool:
    """Quiet, and nobody holds a unit any more: each was cancelled or has left."""
    held = any(order.lines for order in world.inventory.orders)
    return is_quiet(world) and not world.audit and not held and not any(place.left for place in world.places)


def cancelled_units(world: World) -> int:
    return sum(line.cancelled for request in world.ingest.requests.values() for line in request.lines.values())


def refused_units(world: World) -> int:
    return sum(line.refused for request in world.ingest.requests.values() for line in request.lines.values())


def _settle(world: World, asked_id: UUID, lines: list[tuple[Any, int, int]]) -> World:
    return replace(world, settled=(*world.settled, (asked_id, tuple(lines))))


def _shares(units: Mapping[Any, int], *, every: bool) -> Iterator[dict[Any, int]]:
    """All that there is, or every choice of it but none."""
    if not every:
        yield dict(units)
        return
    for counts in product(*(range(count + 1) for count in units.values())):
        if any(counts):
            yield {key: count for key, count in zip(units, counts, strict=True) if count}


def _apart(lines: Mapping[holding.LineKey, int]) -> tuple[dict[holding.LineKey, int], dict[holding.LineKey, int]]:
    """The last unit, and the others."""
    last = list(lines)[-1]
    rest = {key: count - (key == last) for key, count in lines.items()}
    return {key: count for key, count in rest.items() if count}, {last: 1}


def _plain(lines: Mapping[Any, int]) -> dict[Any, int]:
    return {tuple(key): units for key, units in lines.items()}


def _changed(root: holding.Root, order: holding.Held) -> holding.Root:
    orders = tuple(order if other.order_id == order.order_id else other for other in root.orders)
    return replace(root, orders=orders)


def _added(root: holding.Root, *orders: holding.Held) -> holding.Root:
    return replace(root, orders=(*root.orders, *orders))


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple(sorted((_frozen(key), _frozen(item)) for key, item in value.items()))
    if isinstance(value, tuple | list):
        return tuple(_frozen(item) for item in value)
    if hasattr(value, "__dataclass_fields__"):
        return tuple(_frozen(getattr(value, name)) for name in value.__dataclass_fields__)
    return value.hex if isinstance(value, UUID) else value
