"""All that is open under some roots, under their locks: load, let decisions be made, write and say what they changed.

For everything that is not the plain way: stops, parcels one by one, what a place says. The plain way never comes here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from contracts import Part
from eventing import NewTask, UnitOfWork
from fulfillment import store
from fulfillment.domain import (
    AtPlace,
    Claim,
    FulfilmentOrder,
    Outcome,
    Policy,
    RequestStatus,
    Return,
    Shipment,
    StopRequest,
    TrackedOrder,
    Units,
    answered,
    depart,
    hand_over,
    pack,
    stop,
)
from fulfillment.handlers.departure import record_shipments
from fulfillment.handlers.goods import Goods, content_of, goods_of, returned, stop_answered

STOP = "stop"
"""Asks a WMS to stop; its key is the fulfilment order, as the instruction's is: one of the two runs at a time."""


class Desk:
    """**Shapes**: `at` and `goods` by fulfilment_order_id, `tracked` by order_id."""

    def __init__(self, work: UnitOfWork, tracked: dict[UUID, TrackedOrder]) -> None:
        self.work = work
        self.tracked = tracked
        self.at: dict[UUID, AtPlace] = {}
        self.goods: dict[UUID, Goods] = {}
        self.requests: list[StopRequest] = []
        self._names: dict[str, store.Place] = {}
        self._claims: dict[tuple[UUID, UUID], Claim] = {}
        self._changed: set[UUID] = set()
        self._changed_goods: set[UUID] = set()
        self._changed_claims: dict[tuple[UUID, UUID], None] = {}
        self._returns: list[Return] = []
        self._shipments: list[tuple[Shipment, Goods]] = []

    @classmethod
    async def open(cls, roots: Mapping[UUID, UUID], work: UnitOfWork) -> Desk:
        """Lock these orders, their roots and all that is open under them. **Shapes**: `roots` by order_id."""
        wanted = set(roots.values())
        open_now = await store.find_open_of_roots(work.connection, wanted)
        # One statement for all, in one order: a root taken alone first could wait for a worker that waits for the root.
        known = dict(roots) | {order.order_id: order.root_id for order in open_now}
        desk = cls(work, await store.lock_orders(work.connection, known))
        orders = [order for order in await store.find_open_of_roots(work.connection, wanted) if order.order_id in desk.tracked]
        if orders:
            contents = await store.find_contents(work.connection, [order.fulfilment_order_id for order in orders])
            desk.goods = {key: goods_of(content) for key, content in contents.items()}
            desk._names = await store.find_places(work.connection, [order.place_id for order in orders])
        for order in orders:
            key = order.fulfilment_order_id
            desk.at[key] = AtPlace(order=order, left=desk.goods[key].units())
        desk.requests = await store.find_stop_requests(work.connection, wanted)
        for claim in await store.find_claims(work.connection, desk.requests):
            desk._claims[claim.fulfilment_order_id, claim.request_id] = claim
        return desk

    def place(self, fulfilment_order_id: UUID) -> AtPlace | None:
        """None where it is not open: everything has left it."""
        place = self.at.get(fulfilment_order_id)
        return place if place is not None and place.order.is_open else None

    def places(self, root_id: UUID) -> list[AtPlace]:
        return [place for place in self.at.values() if place.order.root_id == root_id and place.order.is_open]

    def claims(self) -> list[Claim]:
        return list(self._claims.values())

    def claims_at(self, fulfilment_order_id: UUID) -> list[Claim]:
        """Oldest first."""
        return [claim for claim in self._claims.values() if claim.fulfilment_order_id == fulfilment_order_id]

    def apply(self, outcome: Outcome) -> None:
        for place in outcome.places:
            key = place.order.fulfilment_order_id
            gone = {line: quantity - place.left.get(line, 0) for line, quantity in self.at[key].left.items()}
            weight_grams = max(0, place.order.weight_grams - self.goods[key].grams(gone))
            # The last weight stays: an order that is done shows what it was.
            order = replace(place.order, weight_grams=weight_grams) if place.left else place.order
            self.at[key] = replace(place, order=order)
            self._changed.add(key)
        for back in outcome.returns:
            key = back.order.fulfilment_order_id
            # The order keeps its first units, as inventory has it: else a fen could be on both sides, or on none.
            kept = {line: quantity - back.units.get(line, 0) for line, quantity in self.goods[key].units().items()}
            part, _ = self.goods[key].take(kept)
            self._keep(key, part)
            self._returns.append(back)
        for claim in outcome.claims:
            self.put_claim(claim)

    def apply_order(self, order: FulfilmentOrder) -> None:
        """An order whose goods stay as they are."""
        key = order.fulfilment_order_id
        self.apply(Outcome(places=(replace(self.at[key], order=order),)))

    def put_claim(self, claim: Claim) -> None:
        key = (claim.fulfilment_order_id, claim.request_id)
        self._claims[key] = claim
        self._changed_claims[key] = None

    def change_goods(self, fulfilment_order_id: UUID, goods: Goods) -> None:
        self.goods[fulfilment_order_id] = goods
        self._changed_goods.add(fulfilment_order_id)

    def ship(
        self,
        fulfilment_order_id: UUID,
        units: Units,
        *,
        carrier: str,
        waybill_no: str,
        weight_grams: int | None,
        at: datetime,
        policy: Policy,
    ) -> Shipment:
        """Send off one parcel. The buyer's freight goes with the first one. **Errors**: TooManyUnitsError."""
        place, goods = self.at[fulfilment_order_id], self.goods[fulfilment_order_id]
        outcome = depart(place, self.claims(), units)
        part, rest = goods.take(units)
        inside = Goods(goods.order, part or goods.part, whole=goods.whole and rest is None)
        weight = weight_grams if weight_grams is not None else inside.grams() + policy.packaging_grams
        # The plan priced one parcel with that carrier; whatever else it became is estimated by weight.
        planned = inside.whole and carrier == place.order.carrier
        shipment = pack(
            place.order,
            at=at,
            carrier=carrier,
            waybill_no=waybill_no,
            weight_grams=weight,
            freight_cost_minor=place.order.freight_cost_minor if planned else policy.freight_minor(weight),
        )
        self._shipments.append((shipment, inside))
        self.apply(outcome)
        self._keep(fulfilment_order_id, rest)
        return shipment

    def hand_over(self, fulfilment_order_id: UUID) -> Shipment:
        """The buyer takes all that is left over the counter."""
        place, goods = self.at[fulfilment_order_id], self.goods[fulfilment_order_id]
        _, shipment = hand_over(place.order, at=self.work.now)
        self._shipments.append((shipment, goods))
        self.apply(depart(place, self.claims(), place.left))
        return shipment

    async def save(self, *, policy: Policy) -> None:
        """Write and say everything: returns before parcels and answers, as their reader takes them."""
        work, connection = self.work, self.work.connection
        for request in self.requests:
            self.apply(stop(request, self.places(request.root_id), self.claims()))
        moved = [self.at[key] for key in sorted(self._changed)]
        await store.save_fulfilment_orders(connection, [place.order for place in moved], now=work.now)
        await store.save_contents(connection, {key: self._content(key) for key in sorted(self._changed_goods)})
        await store.add_allocation_returns(connection, self._returns, now=work.now)
        for back in self._returns:
            tracked = self.tracked[back.order.order_id]
            if back.whole:
                tracked.give_up()
            work.emit([returned(back, tracked, place=self._names[back.order.place_id].name)])
        await record_shipments(self._shipments, self.tracked, self._names, work, policy=policy)
        roots = {place.order.fulfilment_order_id: place.order.root_id for place in self.at.values()}
        changed_claims = [self._claims[key] for key in self._changed_claims]
        await store.save_claims(connection, changed_claims, roots)
        await self._answer()
        await store.save_orders(connection, self.tracked.values())
        work.add_tasks(NewTask(STOP, str(key), work.now) for key in self._to_ask())

    async def _answer(self) -> None:
        answers = [(one, stopped) for one in self.requests if (stopped := answered(one, self._claims.values())) is not None]
        await store.save_answers(self.work.connection, answers, now=self.work.now)
        for request, stopped in answers:
            self.requests.remove(request)
            tracked = self.tracked[request.root_id]
            self.work.emit([stop_answered(request, stopped, tracked, stage=self._stage(tracked))])

    def _stage(self, tracked: TrackedOrder) -> str:
        """Where an order stands, for a report that is not about it alone."""
        if tracked.attempt < 0:
            return "split"  # It was never here itself: its children are.
        if not tracked.live:
            return "returned"
        at = [place.order for place in self.at.values() if place.order.order_id == tracked.order_id and place.order.is_open]
        return "allocated" if at and not at[0].parcels else "shipped"

    def _to_ask(self) -> Iterable[UUID]:
        """Orders whose WMS must still hear of a stop; one that has not taken the order on yet hears of it then."""
        asked = {claim.fulfilment_order_id for claim in self._claims.values() if claim.open and not claim.pending}
        return [
            key
            for key in sorted(asked & self._changed)
            if self.at[key].order.is_open and self.at[key].order.request_status is not RequestStatus.SUBMITTED
        ]

    def _keep(self, fulfilment_order_id: UUID, rest: Part | None) -> None:
        if rest is not None:
            self.change_goods(fulfilment_order_id, Goods(self.goods[fulfilment_order_id].order, rest, whole=False))

    def _content(self, fulfilment_order_id: UUID) -> store.Content:
        goods = self.goods[fulfilment_order_id]
        content = content_of(goods)
        return replace(content, left_json=None if goods.whole else content.part_json)
