"""Cancel requests of one order: what may be asked, what became of it, what a withdrawal brings back.

Units are counted per line key (origin order, origin line, SKU). What was asked and not refused is spoken for: nobody can ask
for it again. A request is done once everything asked for was either cancelled or refused.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from uuid import UUID

Key = tuple[UUID, int, str]
"""(origin_order_id, origin_line, sku_id): what names units of a line in requests and answers."""


class ImpossibleSettlementError(Exception):
    """An answer of more units than the request asked for, or of units that the order never had."""


class Progress(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    """Everything asked for was answered."""
    WITHDRAWN = "withdrawn"
    """Taken back by who asked. What was cancelled by then is taken up again once everything is answered."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Units of one line in one request."""

    asked: int
    cancelled: int = 0
    refused: int = 0

    @property
    def open(self) -> int:
        return self.asked - self.cancelled - self.refused


@dataclass(frozen=True, slots=True)
class Request:
    lines: Mapping[Key, Asked]
    progress: Progress = Progress.OPEN
    is_ours: bool = True
    """False: a stage cancelled by itself (audit rejected the order, …) and told us; it asks for what it answers."""

    @property
    def is_answered(self) -> bool:
        return not any(line.open for line in self.lines.values())

    @property
    def cancelled(self) -> dict[Key, int]:
        return {key: line.cancelled for key, line in self.lines.items() if line.cancelled}


@dataclass(frozen=True, slots=True)
class OrderState:
    """An order that was sent: its units, and all cancel requests there ever were of it."""

    units: Mapping[Key, int]
    requests: Mapping[UUID, Request] = field(default_factory=dict)

    def left(self) -> dict[Key, int]:
        """Units that nobody has asked to cancel; lines without any are missing."""
        left = dict(self.units)
        for request in self.requests.values():
            for key, line in request.lines.items():
                left[key] = left.get(key, 0) - line.cancelled - line.open
        return {key: units for key, units in left.items() if units > 0}

    def cancelled(self) -> dict[Key, int]:
        cancelled: dict[Key, int] = {}
        for request in self.requests.values():
            for key, units in request.cancelled.items():
                cancelled[key] = cancelled.get(key, 0) + units
        return cancelled

    @property
    def is_cancelled(self) -> bool:
        """Nothing of it is on its way any more."""
        cancelled = self.cancelled()
        return all(cancelled.get(key, 0) >= units for key, units in self.units.items())


@dataclass(frozen=True, slots=True)
class Accepted:
    state: OrderState
    lines: Mapping[Key, int]
    whole: bool
    """All that the order ever had."""


@dataclass(frozen=True, slots=True)
class Refused:
    """More was asked for than is left, or nothing is."""

    left: Mapping[Key, int]
    beyond: Mapping[Key, int]
    """Units asked for and not there, by line."""


def ask(state: OrderState, request_id: UUID, wanted: Mapping[Key, int] | None = None) -> Accepted | Refused:
    """Open a request for these units, or for all that is left. All or nothing: a caller corrects it and asks again."""
    if request_id in state.requests:
        raise ValueError(f"request {request_id} was asked before")
    left = state.left()
    lines = left if wanted is None else {key: units for key, units in wanted.items() if units > 0}
    beyond = {key: units - left.get(key, 0) for key, units in lines.items() if units > left.get(key, 0)}
    if beyond or not lines:
        return Refused(left, beyond)
    request = Request({key: Asked(units) for key, units in lines.items()})
    return Accepted(_with(state, request_id, request), lines, whole=dict(lines) == dict(state.units))


@dataclass(frozen=True, slots=True)
class Settled:
    """What one stage answers for one line."""

    key: Key
    cancelled: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Settlement:
    """The state after an answer."""

    state: OrderState
    request: Request
    is_answered: bool
    """It was open before, and everything is answered now."""
    revive: Mapping[Key, int] = field(default_factory=dict)
    """Units of a withdrawn request that had been cancelled before the withdrawal came: they start again."""


def settle(state: OrderState, request_id: UUID, answers: Iterable[Settled]) -> Settlement:
    """Take one answer in. The order in which answers come does not matter; each must be taken once.

    **Errors**: ImpossibleSettlementError.
    """
    known = state.requests.get(request_id)
    request = known or Request({}, is_ours=False)
    lines = dict(request.lines)
    for answer in answers:
        line = lines.get(answer.key, Asked(0))
        if not request.is_ours:
            line = replace(line, asked=line.asked + answer.cancelled + answer.refused)
        line = replace(line, cancelled=line.cancelled + answer.cancelled, refused=line.refused + answer.refused)
        if line.open < 0:
            raise ImpossibleSettlementError(f"line {answer.key[1]}: more was answered than request {request_id} asked for")
        # Per request, not over all: a stage that rejects an order may overtake a request on its way, which then finds nothing.
        if line.cancelled > state.units.get(answer.key, 0):
            raise ImpossibleSettlementError(f"line {answer.key[1]}: request {request_id} cancels more than the order had")
        lines[answer.key] = line
    request = replace(request, lines=lines)
    was_answered = known is not None and known.is_answered
    is_answered = request.is_answered and (not was_answered or not request.is_ours)
    if is_answered and request.progress is Progress.OPEN:
        request = replace(request, progress=Progress.CLOSED)
    revive = request.cancelled if is_answered and request.progress is Progress.WITHDRAWN else {}
    return Settlement(_with(state, request_id, request), request, is_answered, revive)


@dataclass(frozen=True, slots=True)
class Withdrawal:
    state: OrderState
    is_sent: bool
    """Something of it is not answered yet: its holder must be told to let it go on."""
    revive: Mapping[Key, int] = field(default_factory=dict)
    """It was answered in full: what was cancelled starts again at once."""


def withdraw(state: OrderState, request_id: UUID) -> Withdrawal:
    """Take a request back; a second time changes nothing."""
    request = state.requests[request_id]
    if request.progress is Progress.WITHDRAWN:
        return Withdrawal(state, is_sent=False)
    withdrawn = replace(request, progress=Progress.WITHDRAWN)
    after = _with(state, request_id, withdrawn)
    if request.is_answered:
        return Withdrawal(after, is_sent=False, revive=request.cancelled)
    return Withdrawal(after, is_sent=True)


def left_unsent(quantity: int, cancelled: int, quantity_then: int) -> int:
    """Units of a line to send, of which some were cancelled while the order waited here.

    Where a newer version of the channel has lowered the quantity since, it speaks of the same units.
    """
    return quantity - max(0, cancelled - max(0, quantity_then - quantity))


def _with(state: OrderState, request_id: UUID, request: Request) -> OrderState:
    return replace(state, requests={**state.requests, request_id: request})
