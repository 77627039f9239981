"""The order book's fold: from each service's reports to one shown stage, whatever order they arrive in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

STAGES: Mapping[str, int] = {
    # Rank of a stage among what the services say of one order: the highest is shown. Numbers are stored: never renumber.
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
    "instructed": 85,
    "ready_for_pick_up": 88,
    "shipped": 90,
    "lost": 94,
    "refused": 96,
    "delivered": 98,
    "cancelled": 99,
}
STAGE_NAMES: Mapping[int, str] = {rank: name for name, rank in STAGES.items()} | {0: "unknown"}
FINISHED: frozenset[str] = frozenset({"closed", "cancelled", "lost", "refused", "delivered"})
UNFINISHED_RANKS: tuple[int, ...] = tuple(rank for name, rank in STAGES.items() if name not in FINISHED)
SERVICES: tuple[str, ...] = ("ingest", "audit", "inventory", "router", "fulfillment", "ledger")
"""One mark each; the ledger's is kept apart from the shown stage: goods and books are two axes."""
RANKS = 1000
_INDEX = {service: index for index, service in enumerate(SERVICES)}


def mark_of(step: int, stage: str) -> int:
    """One number per service and order that grows with its steps: the greater of two is the later one."""
    return step * RANKS + STAGES.get(stage, 0)


def step_of(mark: int) -> int:
    return mark // RANKS


@dataclass(slots=True)
class Seen:
    """What one batch says of one order: a mark per service, 0 where it says nothing."""

    root_id: str
    marks: list[int]
    at: datetime

    def see(self, service: str, step: int, stage: str, at: datetime) -> None:
        """Take one report in; the order of calls does not matter."""
        index = _INDEX.get(service)
        if index is not None:  # A service younger than this code stands in the timeline only.
            mark = mark_of(step, stage)
            if mark > self.marks[index]:
                self.marks[index] = mark
        if at > self.at:
            self.at = at


def shown_stage(marks: Iterable[int]) -> tuple[str, str, int]:
    """The stage to show, the service that says so, and its step. `marks` in the order of SERVICES."""
    service, mark = max(
        zip(SERVICES[:-1], marks, strict=False),
        key=lambda said: said[1] % RANKS,
    )
    return STAGE_NAMES.get(mark % RANKS, "unknown"), service, step_of(mark)
