"""What router does with what arrives: reserved orders are routed, places are kept."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from contracts import CatalogLocation, OrderRouted, Progress, StockReserved
from eventing import NewTask, Received, Task, UnitOfWork, Waiting
from router import store
from router.domain import Candidate, Decision, Need, Network, decide, write_record

PLACE = "place"
PICK_UP_KIND = "pick_up"
PURGE = "purge_decisions"
PURGE_ROWS = 2000
"""About 50 ms of deleting: no other transaction waits longer for it."""
PURGE_PAUSE = timedelta(hours=1)


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


async def on_purge_due(tasks: Sequence[Task], work: UnitOfWork, *, keep_days: int) -> None:
    """Drop old decisions slice by slice; a full slice means that there are more."""
    gone = await store.purge_decisions(work, before=work.now - timedelta(days=keep_days), limit=PURGE_ROWS)
    pause = timedelta(0) if gone >= PURGE_ROWS else PURGE_PAUSE
    work.add_tasks(NewTask(task.kind, task.key, work.now + pause) for task in tasks)


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
        combined=len(decision.combined),
        place_no=decision.plans[0].place_no if decision.plans else None,
        record=write_record(need, candidates, decision),
    )
    return Routed(event, decision, row)


def need_of(event: StockReserved) -> Need:
    """Raises where the offer tells of other SKUs than the order has: units would be counted as those of another SKU."""
    order, destination = event.order, event.order.destination
    units: dict[str, int] = {}
    weights: dict[str, int] = {}
    values: dict[str, int] = {}
    for line in event.part.lines:
        sku, quantity = line.sku_id, line.quantity
        units[sku] = units.get(sku, 0) + quantity
        weights[sku] = weights.get(sku, 0) + line.unit_weight_grams * quantity
        values[sku] = values.get(sku, 0) + line.receivable_minor
    skus = event.skus
    if len(skus) != len(units) or units.keys() != set(skus):
        raise ValueError(f"stock is told of {len(skus)} SKUs, the order has {len(units)} or others")
    return Need(
        region_code="" if destination is None else destination.region_code,
        latitude=None if destination is None else destination.latitude,
        longitude=None if destination is None else destination.longitude,
        skus=tuple(skus),
        wanted=tuple([units[sku] for sku in skus]),
        weights_grams=tuple([weights[sku] for sku in skus]),
        values_minor=tuple([values[sku] for sku in skus]),
        wanted_carrier=order.wanted_carrier,
        # A pick-up order without a place cannot be served anywhere, and "" is no place's id.
        pick_up_place_id=(order.fulfilment.place_id or "") if order.fulfilment.kind == PICK_UP_KIND else None,
        excluded=frozenset(event.excluded),
        forced=event.forced,
        ship_before=order.ship_before,
    )


def candidates_of(event: StockReserved) -> Sequence[Candidate]:
    """The offered places. Raises where one is offered twice or tells of more or fewer SKUs than the order has."""
    count, places = len(event.skus), event.places
    for place_no, _, free in places:
        if len(free) != count:
            raise ValueError(f"place {place_no} tells of {len(free)} SKUs, the order has {count}")
    if len({place[0] for place in places}) != len(places):
        raise ValueError("a place is offered twice")
    return places


def to_event(outcome: Routed, step: int, network: Network) -> OrderRouted:
    event, decision = outcome.event, outcome.decision
    return OrderRouted(
        root_id=event.root_id,
        order_id=event.order_id,
        progress=progress_of(decision, network, step=step, attempt=event.attempt),
        attempt=event.attempt,
        policy_version=decision.policy_version,
        plans=list(decision.plans),
        skus=list(event.skus) if decision.combined else [],
        combined=[[(*parcel[:4], list(parcel.units)) for parcel in plan] for plan in decision.combined],
    )


def progress_of(decision: Decision, network: Network, *, step: int, attempt: int) -> Progress:
    candidates = len(decision.findings)
    if decision.plans:
        best = decision.plans[0]
        params: dict[str, Any] = {
            "eligible": len(decision.plans),
            "candidates": candidates,
            "place": network.places[best.place_no].name,
            "cost_minor": best.cost_minor,
            "promised_days": best.promised_days,
        }
        return Progress(step=step, stage=store.ROUTED, code="order_routed", params=params, attempt=attempt)
    if decision.combined:
        parcels = decision.combined[0]
        params = {
            "places": len(parcels),
            "candidates": candidates,
            "cost_minor": sum(parcel.cost_minor for parcel in parcels),
            "promised_days": max(parcel.promised_days for parcel in parcels),
        }
        return Progress(step=step, stage=store.ROUTED, code=decision.split_verdict, params=params, attempt=attempt)
    params = {"candidates": candidates}
    return Progress(step=step, stage=store.UNROUTABLE, code="no_place_eligible", params=params, attempt=attempt)


def _missing_places(outcome: Routed) -> list[int]:
    return [] if outcome.decision.is_routed else outcome.decision.unknown_places
