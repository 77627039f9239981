"""What one place has to do for one order, and how an allocation becomes that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid5

from fulfillment.domain.carrier import CarrierRule, Wish, choose_carrier
from fulfillment.domain.errors import AlreadyFulfilledError, TransitionError, UnknownKindError


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
    """Nobody is asked: the parcel leaves after a set time."""
    MANUAL = "manual"
    """People at the place say over HTTP what they do."""
    HTTP = "http"
    """A WMS is told over HTTP, and calls back."""


OPEN_STATUSES = frozenset({Status.OPEN, Status.SCHEDULED, Status.ON_HOLD, Status.IN_PROGRESS})
STATUS_MOVES: dict[Status, frozenset[Status]] = {
    Status.OPEN: frozenset({Status.IN_PROGRESS, Status.ON_HOLD, Status.CANCELLED, Status.CLOSED}),
    Status.SCHEDULED: frozenset({Status.OPEN, Status.ON_HOLD, Status.CANCELLED, Status.CLOSED}),
    Status.ON_HOLD: frozenset({Status.OPEN, Status.IN_PROGRESS, Status.CANCELLED, Status.CLOSED}),
    Status.IN_PROGRESS: frozenset({Status.ON_HOLD, Status.INCOMPLETE, Status.CANCELLED, Status.CLOSED}),
    Status.INCOMPLETE: frozenset({Status.CLOSED}),
    Status.CANCELLED: frozenset(),
    Status.CLOSED: frozenset(),
}
REQUEST_MOVES: dict[RequestStatus, frozenset[RequestStatus]] = {
    RequestStatus.UNSUBMITTED: frozenset({RequestStatus.SUBMITTED, RequestStatus.REJECTED}),
    RequestStatus.SUBMITTED: frozenset(
        {
            RequestStatus.ACCEPTED,
            RequestStatus.REJECTED,
            RequestStatus.CANCELLATION_REQUESTED,
            RequestStatus.CANCELLATION_ACCEPTED,
        }
    ),
    RequestStatus.ACCEPTED: frozenset(
        {RequestStatus.REJECTED, RequestStatus.CANCELLATION_REQUESTED, RequestStatus.CANCELLATION_ACCEPTED}
    ),
    RequestStatus.REJECTED: frozenset(),
    RequestStatus.CANCELLATION_REQUESTED: frozenset(
        {RequestStatus.CANCELLATION_ACCEPTED, RequestStatus.CANCELLATION_REJECTED, RequestStatus.REJECTED}
    ),
    RequestStatus.CANCELLATION_ACCEPTED: frozenset(
        {RequestStatus.CANCELLATION_REQUESTED, RequestStatus.CANCELLATION_REJECTED, RequestStatus.REJECTED}
    ),
    RequestStatus.CANCELLATION_REJECTED: frozenset(
        {RequestStatus.CANCELLATION_REQUESTED, RequestStatus.CANCELLATION_ACCEPTED, RequestStatus.REJECTED}
    ),
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
    shop_id: str = ""
    region_code: str = ""
    wanted_carrier: str | None = None
    """The one the buyer asked for."""


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

    def give_up(self) -> None:
        """Nothing of it is left at its place and nothing was shipped: a later attempt may take it up."""
        self.live = False

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
    parcels: int = 0
    """How many have left."""
    returns: int = 0
    """How often units went back without being shipped."""

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATUSES

    @property
    def is_told(self) -> bool:
        """Whether a WMS may be at work on it: only it can say what it still can stop."""
        return (
            self.connector == Connector.HTTP
            and self.kind is Kind.TO_SHIP
            and self.request_status is not RequestStatus.UNSUBMITTED
        )

    def moved(self, status: Status) -> FulfilmentOrder:
        """With another status of the work. Errors: TransitionError."""
        if status is self.status:
            return self
        if status not in STATUS_MOVES[self.status]:
            raise TransitionError(f"{self.status} does not become {status}")
        waiting_for = None if status not in OPEN_STATUSES else self.waiting_for
        return replace(self, status=status, waiting_for=waiting_for)

    def asked(self, request_status: RequestStatus) -> FulfilmentOrder:
        """With another status of the request. Errors: TransitionError."""
        if request_status is self.request_status:
            return self
        if request_status not in REQUEST_MOVES[self.request_status]:
            raise TransitionError(f"{self.request_status} does not become {request_status}")
        return replace(self, request_status=request_status)

    def is_due(self, now: datetime) -> bool:
        """Whether the parcel may leave now."""
        return (
            self.kind is Kind.TO_SHIP and self.status is Status.IN_PROGRESS and self.ship_at is not None and self.ship_at <= now
        )


def fulfilment_order_id(order_id: UUID, attempt: int) -> UUID:
    return uuid5(order_id, f"fulfilment:{attempt}")


def accept(
    allocation: Allocation, *, connector: str, policy: Policy, now: datetime, rules: Sequence[CarrierRule] = ()
) -> FulfilmentOrder:
    """The fulfilment order of an allocation. Errors: UnknownKindError, poison."""
    try:
        kind = Kind(allocation.kind)
    except ValueError:
        raise UnknownKindError("this fulfilment kind is not known") from None
    status, request, waiting_for, ship_at = Status.IN_PROGRESS, RequestStatus.ACCEPTED, None, None
    carrier, weight_grams, freight_minor = None, allocation.goods_grams, 0
    if kind is Kind.TO_SHIP:
        if connector == Connector.HTTP:
            status, request = Status.OPEN, RequestStatus.UNSUBMITTED
        elif connector == Connector.MANUAL:
            status, request = Status.OPEN, RequestStatus.SUBMITTED
        else:
            ship_at = now + timedelta(seconds=policy.ship_seconds)
        weight_grams += policy.packaging_grams
        carrier = choose_carrier(
            rules,
            Wish(
                place_id=allocation.place_id,
                shop_id=allocation.shop_id,
                region_code=allocation.region_code,
                weight_grams=weight_grams,
                wanted=allocation.wanted_carrier,
                planned=allocation.carrier,
            ),
            default=policy.default_carrier,
        )
        # The plan's cost is the price of the plan's carrier.
        planned_minor = allocation.landed_cost_minor if carrier == (allocation.carrier or carrier) else 0
        freight_minor = planned_minor or policy.freight_minor(weight_grams)
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
