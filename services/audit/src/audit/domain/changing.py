"""What audit does with a change: replace what it holds whole, or pass on what later owners may still apply."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from audit.domain.holds import CLEARED, HELD, MERGED

PASSED_ON = ("receiver", "note")
"""The only fields that can change once an order has left audit or was split."""


@dataclass(frozen=True, slots=True)
class Standing:
    order_id: UUID
    state: str


@dataclass(frozen=True, slots=True)
class Replace:
    """All of the root is still held as one order: the new version takes its place and is judged anew."""

    order_id: UUID


@dataclass(frozen=True, slots=True)
class PassOn:
    held: tuple[UUID, ...]
    """Orders here that take the passed fields."""
    applied: tuple[str, ...]
    """Fields that hold for what is here."""
    forwarded: tuple[str, ...]
    refused: tuple[str, ...]
    needs_person: bool
    """Refused although something of the order goes on."""


def judge_change(fields: Sequence[str], root_id: UUID, orders: Iterable[Standing]) -> Replace | PassOn:
    """`orders`: all of the root that audit knows, the root's own row among them."""
    rows = list(orders)
    held = tuple(row.order_id for row in rows if row.state == HELD)
    if held == (root_id,) and len(rows) == 1:
        return Replace(root_id)
    downstream = any(row.state in (CLEARED, MERGED) for row in rows)
    alive = downstream or bool(held)
    passed = tuple(name for name in fields if name in PASSED_ON) if alive else ()
    refused = tuple(name for name in fields if name not in passed)
    return PassOn(
        held=held if passed else (),
        applied=passed if held else (),
        forwarded=passed if downstream else (),
        refused=refused,
        needs_person=bool(refused) and alive,
    )


def nothing_went_on(orders: Iterable[Standing]) -> bool:
    """All that audit ever had of the root is held or was cancelled here: nobody further on knows of it."""
    return not any(row.state in (CLEARED, MERGED) for row in orders)


def case_id(request_id: UUID) -> UUID:
    return uuid5(request_id, "change_refused")
