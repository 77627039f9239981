"""Pick-up over the counter: the code, the hand-over, and the buyer who does not come.

A code is derived from the seal key and the fulfilment order, so nothing of it is stored anywhere.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from uuid import UUID

from eventing import Task, UnitOfWork
from fulfillment import store
from fulfillment.domain import Kind, PickUpLock, Policy, Shipment, Status, TransitionError, WaitingFor, wrong_code
from fulfillment.handlers.desk import Desk

PICK_UP_EXPIRY = "pick_up_expiry"
CODE_DIGITS = 8


class WrongCodeError(Exception):
    """The code is not the order's; the try is counted, so the transaction must be kept."""


class LockedError(Exception):
    """Too many wrong codes. **Shapes**: `seconds` until the next try."""

    def __init__(self, seconds: int) -> None:
        super().__init__("too many wrong codes")
        self.seconds = seconds


def pick_up_code(key: bytes, fulfilment_order_id: UUID) -> str:
    digest = hmac.new(key, b"pick-up code:" + fulfilment_order_id.bytes, hashlib.sha256).digest()
    return f"{int.from_bytes(digest) % 10**CODE_DIGITS:0{CODE_DIGITS}d}"


async def pick_up(
    fulfilment_order_id: UUID, work: UnitOfWork, *, code: str | None, key: bytes, policy: Policy
) -> Shipment | WrongCodeError | LockedError:
    """The buyer takes the goods, with the code, or (None) because a person vouches for the buyer.

    A refusal by the code is a value: it is counted. **Errors**: TransitionError.
    """
    desk = await Desk.open(await store.roots_of_fulfilment_orders(work.connection, [fulfilment_order_id]), work)
    place = desk.place(fulfilment_order_id)
    if place is None or place.order.kind is not Kind.PICK_UP or place.order.waiting_for is not WaitingFor.BUYER:
        raise TransitionError("the order does not wait for its buyer")
    if place.order.status is Status.ON_HOLD:
        raise TransitionError("the order is on hold")
    if code is not None:
        wrong, locked_until = await store.find_pick_up_try(work.connection, fulfilment_order_id)
        lock = PickUpLock(wrong=wrong, locked_until=locked_until)
        if lock.locked_until is not None and lock.is_locked(work.now):
            return LockedError(int((lock.locked_until - work.now).total_seconds()) + 1)
        if not hmac.compare_digest(code, pick_up_code(key, fulfilment_order_id)):
            lock = wrong_code(lock, now=work.now)
            await store.put_pick_up_try(work.connection, fulfilment_order_id, wrong=lock.wrong, locked_until=lock.locked_until)
            return WrongCodeError()
    shipment = desk.hand_over(fulfilment_order_id)
    await desk.save(policy=policy)
    return shipment


async def on_pick_up_expiry(tasks: Sequence[Task], work: UnitOfWork) -> None:
    """The buyer has not come in time: people decide, they may reject the order for the place."""
    for order in await store.find_fulfilment_orders(work.connection, [UUID(task.key) for task in tasks]):
        if order.is_open:
            detail = {"waiting_since": order.created_at.isoformat()}
            await store.add_case(work.connection, work.new_id(), order, kind="pick_up_expired", detail=detail, now=work.now)
