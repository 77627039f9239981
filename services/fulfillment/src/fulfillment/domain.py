"""Decisions of fulfilment: what an allocated order becomes, when it ships, which carrier event counts. Pure values, no I/O.

Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid5


class FulfilmentError(Exception):
    """Root of what this service cannot decide; the loop parks the order's key."""


class UnknownKindError(FulfilmentError):
    """The order asks for a way of getting the goods that this version does not know."""


class AlreadyFulfilledError(FulfilmentError):
    """A new attempt came for an order that another fulfilment order still holds or has shipped."""


class Kind(StrEnum):
    """How the buyer gets the goods."""

    TO_SHIP = "to_ship"
    PICK_UP = "pick_up"
    ALREADY_HANDED_OVER = "already_handed_over"


class Status(StrEnum):
    """Where the work stands at the place."""

    OPEN = "open"
    SCHEDULED = "scheduled"
    ON_HOLD = "on_hold"
    IN_PROGRESS = "in_progress"
    INCOMPLETE = "incomplete"
    CANCELLED = "cancelled"
    CLOSED = "closed"


class RequestStatus(StrEnum):
    """What the place said to being asked; kept apart from the work itself."""

    UNSUBMITTED = "unsubmitted"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    CANCELLATION_REQUESTED = "cancellation_requested"
    CANCELLATION_ACCEPTED = "cancellation_accepted"
    CANCELLATION_REJECTED = "cancellation_rejected"


class WaitingFor(StrEnum):
    """What an open fulfilment order waits for, so that people see it."""

    WAYBILL = "waybill"
    BUYER = "buyer"


class Connector(StrEnum):
    """How a place is driven."""

    AUTOMATIC = "automatic"


class State(StrEnum):
    """Where a shipment is."""

    SHIPPED = "shipped"
    PICKED_UP = "picked_up"
    IN_TRANSIT = "in_transit"
    OUT_FOR_DELIVERY = "out_for_delivery"
    DELIVERED = "delivered"
    REFUSED = "refused"
    LOST = "lost"


OPEN_STATUSES = frozenset({Status.OPEN, Status.SCHEDULED, Status.ON_HOLD, Status.IN_PROGRESS})
FINISHED = frozenset({State.DELIVERED, State.REFUSED, State.LOST})
_RANK = {
    State.SHIPPED: 0,
    State.PICKED_UP: 1,
    State.IN_TRANSIT: 2,
    State.OUT_FOR_DELIVERY: 3,
    State.DELIVERED: 4,
    State.REFUSED: 4,
    State.LOST: 4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the settings decide."""

    ship_seconds: float
    delivery_seconds: float | None
    packaging_grams: int
    freight_first_kg_minor: int
    freight_next_kg_minor: int
    default_carrier: str

    def freight_minor(self, weight_grams: int) -> int:
        """The first kilogram, then each one begun, as couriers charge."""
        further_kg = max(0, -(-(weight_grams - 1000) // 1000))
        return self.freight_first_kg_minor + further_kg * self.freight_next_kg_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What inventory pinned to one place."""

    order_id: UUID
    root_id: UUID
    attempt: int
    kind: str
    place_id: str
    place_no: int
    carrier: str | None
    landed_cost_minor: int
    promised_on: date | None
    goods_grams: int
    receiver_ref: UUID | None
    handed_over_at: datetime | None


@dataclass(slots=True, kw_only=True)
class TrackedOrder:
    """An order's row under its root's lock: how often this service changed it, and the last attempt it saw."""

    order_id: UUID
    root_id: UUID
    step: int = 0
    attempt: int = -1
    live: bool = False
    """A fulfilment order holds the goods or has shipped them."""

    def take(self, attempt: int) -> bool:
        """Whether the attempt is new. Errors: AlreadyFulfilledError, poison: goods would leave twice."""
        if attempt <= self.attempt:
            return False
        if self.live:
            raise AlreadyFulfilledError(f"attempt {attempt} came while attempt {self.attempt} is live")
        self.attempt, self.live = attempt, True
        return True

    def next_step(self) -> int:
        self.step += 1
        return self.step


@dataclass(frozen=True, slots=True, kw_only=True)
class FulfilmentOrder:
    """What one place has to do for one order."""

    fulfilment_order_id: UUID
    order_id: UUID
    root_id: UUID
    attempt: int
    kind: Kind
    place_id: str
    place_no: int
    connector: str
    carrier: str | None
    receiver_ref: UUID | None
    weight_grams: int
    freight_cost_minor: int
    promised_on: date | None
    status: Status
    request_status: RequestStatus
    waiting_for: WaitingFor | None
    ship_at: datetime | None
    """When the automatic connector sends it off; None where that is not its job."""
    created_at: datetime

    def is_due(self, now: datetime) -> bool:
        """Whether the parcel may leave now."""
        return self.kind is Kind.TO_SHIP and self.status in OPEN_STATUSES and self.ship_at is not None and self.ship_at <= now


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """One parcel that has left, or goods handed over at a place."""

    shipment_id: UUID
    fulfilment_order_id: UUID
    order_id: UUID
    root_id: UUID
    place_id: str
    kind: Kind
    carrier: str | None
    waybill_no: str | None
    weight_grams: int
    freight_cost_minor: int
    shipped_at: datetime
    state: State
    state_at: datetime


@dataclass(frozen=True, slots=True)
class Report:
    """Stage, reason code and its parameters, as the order book shows them."""

    stage: str
    code: str
    params: dict[str, str | None] = field(default_factory=dict)


def fulfilment_order_id(order_id: UUID, attempt: int) -> UUID:
    return uuid5(order_id, f"fulfilment:{attempt}")


def shipment_id(of_fulfilment_order: UUID, parcel_no: int) -> UUID:
    return uuid5(of_fulfilment_order, f"parcel:{parcel_no}")


def accept(allocation: Allocation, *, connector: str, policy: Policy, now: datetime) -> FulfilmentOrder:
    """The fulfilment order of an allocation. Errors: UnknownKindError, poison."""
    try:
        kind = Kind(allocation.kind)
    except ValueError:
        raise UnknownKindError("this fulfilment kind is not known") from None
    status, request, waiting_for, ship_at = Status.IN_PROGRESS, RequestStatus.ACCEPTED, None, None
    carrier, weight_grams, freight_minor = None, allocation.goods_grams, 0
    if kind is Kind.TO_SHIP:
        ship_at = now + timedelta(seconds=policy.ship_seconds)
        carrier = allocation.carrier or policy.default_carrier
        weight_grams += policy.packaging_grams
        freight_minor = allocation.landed_cost_minor or policy.freight_minor(weight_grams)
    elif kind is Kind.PICK_UP:
        waiting_for = WaitingFor.BUYER
    else:
        request = RequestStatus.UNSUBMITTED  # Nobody was asked: the goods are gone already.
    return FulfilmentOrder(
        fulfilment_order_id=fulfilment_order_id(allocation.order_id, allocation.attempt),
        order_id=allocation.order_id,
        root_id=allocation.root_id,
        attempt=allocation.attempt,
        kind=kind,
        place_id=allocation.place_id,
        place_no=allocation.place_no,
        connector=connector,
        carrier=carrier,
        receiver_ref=allocation.receiver_ref,
        weight_grams=weight_grams,
        freight_cost_minor=freight_minor,
        promised_on=allocation.promised_on,
        status=status,
        request_status=request,
        waiting_for=waiting_for,
        ship_at=ship_at,
        created_at=now,
    )


def ship(order: FulfilmentOrder, pool: WaybillPool, *, now: datetime) -> tuple[FulfilmentOrder, Shipment | None]:
    """Send the parcel off under a number of the carrier's; where none is left the order waits in sight."""
    if order.carrier is None:
        raise FulfilmentError("an order to ship has no carrier")
    waybill_no = pool.take(order.place_id, order.carrier)
    if waybill_no is None:
        return replace(order, waiting_for=WaitingFor.WAYBILL), None
    return _closed(order), _shipment(order, State.SHIPPED, now, waybill_no=waybill_no)


def hand_over(order: FulfilmentOrder, *, at: datetime) -> tuple[FulfilmentOrder, Shipment]:
    """The buyer took the goods at the place: no carrier, no number; left and delivered in one moment."""
    return _closed(order), _shipment(order, State.DELIVERED, at, waybill_no=None)


def moves(current: State, state: State) -> bool:
    """Whether a carrier event changes anything: forward only, and nothing after the end."""
    return _RANK[state] > _RANK[current]


def report_of_departure(shipment: Shipment) -> Report:
    if shipment.kind is Kind.TO_SHIP:
        params = {"place": shipment.place_id, "carrier": shipment.carrier, "waybill_no": shipment.waybill_no}
        return Report("shipped", "parcel_shipped", params)
    return Report("shipped", "goods_handed_over", {"place": shipment.place_id})


def report_of_state(state: State) -> Report:
    """Until the end the order's stage stays "shipped": where the parcel is on its way is detail."""
    return Report(state.value if state in FINISHED else "shipped", f"parcel_{state.value}")


def _closed(order: FulfilmentOrder) -> FulfilmentOrder:
    return replace(order, status=Status.CLOSED, waiting_for=None)


def _shipment(order: FulfilmentOrder, state: State, at: datetime, *, waybill_no: str | None) -> Shipment:
    return Shipment(
        shipment_id=shipment_id(order.fulfilment_order_id, 1),
        fulfilment_order_id=order.fulfilment_order_id,
        order_id=order.order_id,
        root_id=order.root_id,
        place_id=order.place_id,
        kind=order.kind,
        carrier=order.carrier if waybill_no else None,
        waybill_no=waybill_no,
        weight_grams=order.weight_grams,
        freight_cost_minor=order.freight_cost_minor,
        shipped_at=at,
        state=state,
        state_at=at,
    )


# Waybill numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRange:
    """The numbers `prefix` + `digits` digits, from first_no to until_no."""

    prefix: str
    digits: int
    first_no: int
    until_no: int

    def overlaps(self, other: SeriesRange) -> bool:
        """Whether one text could come from both. Equal length is needed, and one prefix must begin the other with digits."""
        short, long = sorted((self, other), key=lambda series: len(series.prefix))
        if len(short.prefix) + short.digits != len(long.prefix) + long.digits or not long.prefix.startswith(short.prefix):
            return False
        rest = long.prefix[len(short.prefix) :]
        if not all("0" <= digit <= "9" for digit in rest):
            return False
        shift: int = int(rest or "0") * 10**long.digits
        return shift + long.first_no <= short.until_no and short.first_no <= shift + long.until_no


@dataclass(slots=True, kw_only=True)
class Series:
    """A carrier's block of numbers, for one place or for every place."""

    series_id: int
    place_id: str | None
    carrier: str
    prefix: str
    digits: int
    next_no: int
    until_no: int


class WaybillPool:
    """The locked series of one batch: a place's own first, then those for every place, oldest first."""

    def __init__(self, series: Iterable[Series]) -> None:
        self._by_owner: dict[tuple[str | None, str], list[Series]] = {}
        for one in sorted(series, key=lambda one: one.series_id, reverse=True):
            self._by_owner.setdefault((one.place_id, one.carrier), []).append(one)
        self._carriers = frozenset(carrier for _, carrier in self._by_owner)
        self._touched: dict[int, Series] = {}

    def without_series(self, carriers: Iterable[str]) -> set[str]:
        """The carriers of which no series was ever set up; one used up is not among them."""
        return set(carriers) - self._carriers

    def take(self, place_id: str, carrier: str) -> str | None:
        """The next number, never given again; None where all are used up."""
        for owner in (place_id, None):
            stack = self._by_owner.get((owner, carrier))
            while stack:
                series = stack[-1]
                if series.next_no <= series.until_no:
                    number = series.next_no
                    series.next_no = number + 1
                    self._touched[series.series_id] = series
                    return f"{series.prefix}{number:0{series.digits}d}"
                stack.pop()
        return None

    def touched(self) -> Mapping[int, int]:
        """The next number of each series that gave one, by series_id."""
        return {series_id: series.next_no for series_id, series in self._touched.items()}


def series_on_demand(carrier: str) -> SeriesRange:
    """The series a carrier gets at its first parcel where nobody set one up: SF000000000001 …"""
    return SeriesRange(prefix=carrier.replace("_", "").upper(), digits=12, first_no=1, until_no=10**12 - 1)
