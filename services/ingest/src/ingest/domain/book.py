"""The order book's fold: from each service's reports to one shown stage, whatever order they arrive in.

A channel order may have become several orders (split, merged, taken up again): its stage is derived from those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

STAGES: Mapping[str, int] = {
    # Rank of a stage among what the services say of one attempt: the highest is shown. Numbers are stored: never renumber.
    "closed": 5,
    "parked": 10,
    "received": 20,
    "held": 30,
    "cleared": 40,
    "backordered": 50,
    "reserved": 60,
    "unroutable": 68,
    "routed": 70,
    "stuck": 75,
    "allocated": 80,
    "returned": 82,
    "instructed": 85,
    "ready_for_pick_up": 88,
    "part_shipped": 89,
    "shipped": 90,
    "lost": 94,
    "refused": 96,
    "delivered": 98,
    "cancelled": 99,
}
"""`part_shipped` is said by no service: it is what an order in parts is when some of them have left and some have not."""
STAGE_NAMES: Mapping[int, str] = {rank: name for name, rank in STAGES.items()} | {0: "unknown"}
SHIPPED = STAGES["shipped"]
GONE: frozenset[int] = frozenset({STAGES["closed"], STAGES["cancelled"]})
"""Nothing is left of such a part: it says nothing of the order while another part lives."""
FINISHED: frozenset[str] = frozenset({"closed", "cancelled", "lost", "refused", "delivered"})
UNFINISHED_RANKS: tuple[int, ...] = tuple(rank for name, rank in STAGES.items() if name not in FINISHED)
SERVICES: tuple[str, ...] = ("ingest", "audit", "inventory", "router", "fulfillment", "ledger")
"""One mark each; the ledger's is kept apart from the shown stage: goods and books are two axes."""
RANKS = 1000
ATTEMPTS = 1000
STEPS = ATTEMPTS * RANKS
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""When an order was last heard of that only others have named so far: earlier than any report."""
_INDEX = {service: index for index, service in enumerate(SERVICES)}


def mark_of(step: int, attempt: int, stage: str) -> int:
    """One number per service and order that grows with its steps: the greater of two is the later one."""
    return step * STEPS + attempt * RANKS + STAGES.get(stage, 0)


def step_of(mark: int) -> int:
    return mark // STEPS


def weight_of(mark: int) -> int:
    """What a mark weighs among those of other services: a later attempt outranks every stage of an earlier one."""
    return mark % STEPS


@dataclass(slots=True)
class Seen:
    """What one batch says of one order: a mark per service, 0 where it says nothing."""

    root_id: str | None
    """None where the order is only named by another."""
    marks: list[int]
    at: datetime
    replaced: bool = False
    """Other orders have taken its place: it counts no longer."""
    joined: bool = False
    """Stands for other channel orders (merged, or taken up again), and is shown with those."""

    @classmethod
    def unheard(cls, root_id: str | None) -> Seen:
        """Of an order that is named, but reports nothing itself."""
        return cls(root_id, [0] * len(SERVICES), NEVER)

    def see(self, service: str, step: int, attempt: int, stage: str, at: datetime) -> None:
        """Take one report in; the order of calls does not matter."""
        index = _INDEX.get(service)
        if index is not None:  # A service younger than this code stands in the timeline only.
            mark = mark_of(step, attempt, stage)
            if mark > self.marks[index]:
                self.marks[index] = mark
        if at > self.at:
            self.at = at


@dataclass(frozen=True, slots=True)
class Shown:
    """A stage, the service that says so, and its step."""

    rank: int
    service: str
    step: int

    @property
    def stage(self) -> str:
        return STAGE_NAMES.get(self.rank, "unknown")


def shown_stage(marks: Iterable[int]) -> Shown:
    """What to show of one order. `marks` in the order of SERVICES."""
    service, mark = max(zip(SERVICES[:-1], marks, strict=False), key=lambda said: weight_of(said[1]))
    return Shown(mark % RANKS, service, step_of(mark))


@dataclass(frozen=True, slots=True)
class PartState:
    """One of the orders that a channel order consists of."""

    order_id: UUID
    marks: tuple[int, ...]
    progress_at: datetime

    @property
    def shown(self) -> Shown:
        return shown_stage(self.marks)


@dataclass(frozen=True, slots=True)
class Together:
    """What the parts of an order come to."""

    rank: int
    telling: PartState
    """The part that says why: the least advanced."""
    since: datetime
    """The oldest progress among unfinished parts, for one that stands still is not hidden by one that moves; else the last."""
    shipped: int
    live: int

    @property
    def stage(self) -> str:
        return STAGE_NAMES.get(self.rank, "unknown")


def together(parts: Sequence[PartState]) -> Together:
    """One stage from the parts of an order. **Shapes**: at least one part.

    Cancelled parts say nothing unless all are; some shipped and some not is `part_shipped`; else the least advanced counts.
    """
    ranks = {part.order_id: part.shown.rank for part in parts}
    live = [part for part in parts if ranks[part.order_id] not in GONE] or list(parts)
    telling = min(live, key=lambda part: (ranks[part.order_id], part.progress_at, part.order_id.int))
    # Cancelled stands above shipped, so it is only ever counted here when all are cancelled.
    shipped = sum(ranks[part.order_id] >= SHIPPED for part in live)
    rank = STAGES["part_shipped"] if 0 < shipped < len(live) else ranks[telling.order_id]
    unfinished = [part.progress_at for part in live if STAGE_NAMES.get(ranks[part.order_id]) not in FINISHED]
    since = min(unfinished) if unfinished else max(part.progress_at for part in parts)
    return Together(rank, telling, since, shipped, len(live))
