"""What router does with what arrives: reserved orders are routed, places are kept."""

from collections.abc import Sequence
from operator import sub
from typing import NamedTuple

from contracts import CatalogLocation, OrderRouted, Progress, StockReserved
from eventing import Received, UnitOfWork, Waiting
from router import store
from router.domain import Candidate, Decision, Need, Network, decide, write_record

PLACE = "place"
PICK_UP_KIND = "pick_up"


class Routed(NamedTuple):
    """A reserved order with what was decided for it."""

    event: StockReserved
    decision: Decision
    row: store.NewDecision


class Routing:
    """Routes orders; keeps the network in memory until its revision changes."""

    def __init__(self) -> None:
        self._network: Network | None = None
        self._revision: store.Revision | None = None

    async def on_stock_reserved(
        self, received: Sequence[Received[StockReserved]], work: UnitOfWork
    ) -> Sequence[Waiting] | None:
        """Rank the places that could ship each order. Of several attempts of one order the newest counts.

        An order waits only where it has no plan and names a place that the catalogue has not told of yet.
        """
        newest = {record.event.order_id: record for record in sorted(received, key=lambda record: record.event.attempt)}
        network = await self.network(work)
        routed = {order_id: route(record.event, network, work) for order_id, record in newest.items()}
        waiting = []
        if missing := {order_id: places for order_id, outcome in routed.items() if (places := _missing_places(outcome))}:
            await work.expect(PLACE, {str(place_no) for places in missing.values() for place_no in places})
            network = await self.network(work)  # Again, now that nobody can bring a place unseen.
            for order_id in missing:
                outcome = route(newest[order_id].event, network, work)
                if still_missing := _missing_places(outcome):
                    waiting.append(Waiting(newest[order_id], kind=PLACE, key=str(still_missing[0])))
                    del routed[order_id]
                else:
                    routed[order_id] = outcome
        steps = await store.lock_orders(work, [outcome.row for outcome in routed.values()])
        fresh = [outcome for order_id, outcome in routed.items() if order_id in steps]
        await store.add_decisions(work, [outcome.row for outcome in fresh])
        work.emit(to_event(outcome, steps[outcome.event.order_id], network) for outcome in fresh)
        return waiting

    async def on_locations(self, locations: Sequence[CatalogLocation], work: UnitOfWork) -> None:
        """Keep places; wake the orders that waited for one."""
        changed = await store.add_locations(work, locations)
        await work.arrived(PLACE, [str(place_no) for place_no in changed])

    async def network(self, work: UnitOfWork) -> Network:
        """What holds now; read anew only after a change, which every replica sees with its next batch."""
        revision = await store.get_revision(work.connection)
        if self._network is None or revision != self._revision:
            self._network, self._revision = await store.get_network(work.connection), revision
        return self._network


def route(event: StockReserved, network: Network, work: UnitOfWork) -> Routed:
    need, candidates = need_of(event), candidates_of(event)
    decision = decide(need, candidates, network, now=work.now)
    row = store.NewDecision(
        order_id=event.order_id,
        root_id=event.root_id,
        attempt=event.attempt,
        policy_version=decision.policy_version,
        freight_version=decision.freight_version,
        candidates=len(candidates),
        eligible=len(decision.plans),
        record=write_record(need, candidates, decision),
    )
    return Routed(event, decision, row)


def need_of(event: StockReserved) -> Need:
    order, destination = event.order, event.order.destination
    return Need(
        region_code="" if destination is None else destination.region_code,
        latitude=None if destination is None else destination.latitude,
        longitude=None if destination is None else destination.longitude,
        weight_grams=sum(line.unit_weight_grams * line.quantity for line in event.part.lines),
        wanted_carrier=order.wanted_carrier,
        # A pick-up order without a place cannot be served anywhere, and "" is no place's id.
        pick_up_place_id=(order.fulfilment.place_id or "") if order.fulfilment.kind == PICK_UP_KIND else None,
        excluded=frozenset(event.excluded),
    )


def candidates_of(event: StockReserved) -> list[Candidate]:
    """The offered places, with what would be left there of the scarcest SKU."""
    units: dict[str, int] = {}
    for line in event.part.lines:
        units[line.sku_id] = units.get(line.sku_id, 0) + line.quantity
    wanted = [units.get(sku, 0) for sku in event.skus]
    candidates = []
    for place_no, capacity_left, free in event.places:
        if len(free) != len(wanted):
            raise ValueError(f"place {place_no} tells of {len(free)} SKUs, the order has {len(wanted)}")
        candidates.append(Candidate(place_no, capacity_left, min(map(sub, free, wanted), default=0)))
    return candidates


def to_event(outcome: Routed, step: int, network: Network) -> OrderRouted:
    event, decision = outcome.event, outcome.decision
    candidates = len(decision.findings)
    if decision.plans:
        best = decision.plans[0]
        progress = Progress(
            step=step,
            stage=store.ROUTED,
            code="order_routed",
            params={
                "eligible": len(decision.plans),
                "candidates": candidates,
                "place": network.places[best.place_no].name,
                "cost_minor": best.cost_minor,
                "promised_days": best.promised_days,
            },
        )
    else:
        progress = Progress(step=step, stage=store.UNROUTABLE, code="no_place_eligible", params={"candidates": candidates})
    return OrderRouted(
        root_id=event.root_id,
        order_id=event.order_id,
        progress=progress,
        attempt=event.attempt,
        policy_version=decision.policy_version,
        plans=list(decision.plans),
    )


def _missing_places(outcome: Routed) -> list[int]:
    return [] if outcome.decision.plans else outcome.decision.unknown_places
