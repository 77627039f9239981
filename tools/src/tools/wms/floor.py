"""What happens on the floor of the demo WMS: no clock, no network. Chance hangs on seed and order number."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5


@dataclass(frozen=True, slots=True, kw_only=True)
class Dials:
    """How the WMS behaves; rates are from 0 to 1."""

    accept_seconds: float = 0.0
    """0: answers at once; else it says "accepted" and makes up its mind later."""
    pick_seconds: float = 1.0
    ship_seconds: float = 1.0
    """From picked to left."""
    reject_rate: float = 0.0
    reject_skus: tuple[str, ...] = ()
    short_rate: float = 0.0
    """How often one unit of an order is not found."""
    parcels: int = 1
    """The most parcels of one order; orders of more units than one are spread over them."""
    stops_after_pick: bool = False
    """Whether it still stops what is picked."""
    stops_only_whole: bool = False
    pending_stops: bool = False
    """Whether stops are answered by call-back."""
    duplicate_rate: float = 0.0
    """How often a call-back is sent twice."""
    seed: int = 1


Line = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Job:
    """An order on the floor. The receiver is not kept: this WMS prints no labels."""

    fulfilment_order_id: str
    place_id: str
    number: str
    """The channel's order number: what chance hangs on, so that equal orders fare equally in every run."""
    lines: list[Line]
    state: str = "received"
    """received | accepted | picked | shipped | rejected | stopped"""
    stops: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Answers given, by stop: asked again, answered as before."""

    @property
    def is_open(self) -> bool:
        return self.state in ("received", "accepted", "picked")

    def shown(self) -> dict[str, Any]:
        return {
            "fulfilment_order_id": self.fulfilment_order_id,
            "place_id": self.place_id,
            "channel_order_no": self.number,
            "state": self.state,
            "lines": self.lines,
        }


class Floor:
    """All orders of one WMS."""

    def __init__(self, dials: Dials) -> None:
        self.dials = dials
        self.jobs: dict[str, Job] = {}

    def receive(self, body: dict[str, Any]) -> tuple[Job, bool, dict[str, Any]]:
        """Take an order; a known one is answered as before. Returns the job, whether it is new, and the answer."""
        known = self.jobs.get(str(body["fulfilment_order_id"]))
        if known is not None:
            return known, False, {"outcome": "rejected" if known.state == "rejected" else "accepted"}
        job = Job(
            fulfilment_order_id=str(body["fulfilment_order_id"]),
            place_id=str(body["place_id"]),
            number=str(body["channel_order_no"]),
            lines=[_line(line, int(line["quantity"])) for line in body["lines"]],
        )
        self.jobs[job.fulfilment_order_id] = job
        if self.dials.accept_seconds > 0:
            return job, True, {"outcome": "accepted"}
        return job, True, {"outcome": "accepted" if self.decide(job) is None else "rejected", "stock_effect": "none"}

    def decide(self, job: Job) -> str | None:
        """Accept or reject; the cause of a rejection."""
        if any(line["sku_id"] in self.dials.reject_skus for line in job.lines):
            job.state = "rejected"
            return "not_in_stock"
        if self._chance(job, "reject") < self.dials.reject_rate:
            job.state = "rejected"
            return "too_busy"
        job.state = "accepted"
        return None

    def pick(self, job: Job) -> list[Line]:
        """Pick; return what was not found."""
        job.state = "picked"
        if self._chance(job, "short") >= self.dials.short_rate:
            return []
        line = job.lines[int(self._chance(job, "which") * len(job.lines))]
        self._take(job, [_line(line, 1)])
        if not job.lines:
            job.state = "stopped"
        return [_line(line, 1)]

    def ship(self, job: Job) -> list[list[Line]]:
        """What leaves, by parcel: every unit that is left."""
        units = [_line(line, 1) for line in job.lines for _ in range(line["quantity"])]
        count = min(len(units), self.dials.parcels)
        job.state, job.lines = "shipped", []
        return [_joined(units[number::count]) for number in range(count)]

    def stop(self, job: Job, stop_id: str, lines: Sequence[Line]) -> dict[str, Any]:
        """What can still be stopped of these lines; asked again, the same."""
        if stop_id in job.stops:
            return job.stops[stop_id]
        late = not job.is_open or (job.state == "picked" and not self.dials.stops_after_pick)
        stopped: list[Line] = []
        if not late:
            wanted = job.lines if self.dials.stops_only_whole else lines
            stopped = self._take(job, wanted)
            if not job.lines:
                job.state = "stopped"
        answer: dict[str, Any] = {"outcome": "stopped", "lines": stopped} if stopped else {"outcome": "refused"}
        job.stops[stop_id] = answer
        return answer

    def sent_twice(self, job: Job, what: str) -> bool:
        return self._chance(job, f"twice {what}") < self.dials.duplicate_rate

    def _take(self, job: Job, wanted: Sequence[Line]) -> list[Line]:
        taken: list[Line] = []
        for line in wanted:
            left = next((one for one in job.lines if _key(one) == _key(line)), None)
            quantity = min(int(line["quantity"]), left["quantity"]) if left else 0
            if left and quantity:
                taken.append(_line(left, quantity))
                left["quantity"] -= quantity
        job.lines = [line for line in job.lines if line["quantity"]]
        return taken

    def _chance(self, job: Job, what: str) -> float:
        # Texts seed alike in every process; hashes of them would not.
        return random.Random(f"{self.dials.seed}:{job.number}:{what}").random()  # noqa: S311  a demo, not a secret


def event_id(job: Job, what: str) -> str:
    """The same thing told again has the same id."""
    return str(uuid5(UUID(job.fulfilment_order_id), what))


def _line(line: Line, quantity: int) -> Line:
    return {
        "origin_order_id": line["origin_order_id"],
        "origin_line": line["origin_line"],
        "sku_id": line["sku_id"],
        "quantity": quantity,
    }


def _key(line: Line) -> tuple[Any, ...]:
    return line["origin_order_id"], line["origin_line"], line["sku_id"]


def _joined(units: Sequence[Line]) -> list[Line]:
    joined: dict[tuple[Any, ...], Line] = {}
    for unit in units:
        if _key(unit) in joined:
            joined[_key(unit)]["quantity"] += 1
        else:
            joined[_key(unit)] = dict(unit)
    return list(joined.values())
