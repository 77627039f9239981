"""What a book's owner decides: when revenue is recognised, and what damaged goods are still worth."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from ledger.domain.posting import Fact

DELIVERED = "delivered"
RECEIPT_CONFIRMED = "receipt_confirmed"


class Policy(NamedTuple):
    """One version. An order keeps the policy that was in force when it was paid, whatever comes later."""

    version: int
    valid_from: datetime
    recognition: str
    """delivered: when the carrier says so, or the buyer, whoever is first | receipt_confirmed: only when the buyer does"""
    damaged_value_bp: int
    """What damaged goods are still worth, in basis points of their cost."""


FIRST_POLICY = Policy(0, datetime.min.replace(tzinfo=UTC), DELIVERED, 3000)
"""What every book begins with. 30 % is a guess to be replaced: what damaged goods sell for differs by trade."""


def policy_at(policies: Sequence[Policy], at: datetime) -> Policy:
    """The highest version whose day has come; `FIRST_POLICY` is among them."""
    return max((policy for policy in policies if policy.valid_from <= at), key=lambda policy: policy.version)


def apply_policies(fact: Fact, policies: Sequence[Policy], confirmed: Collection[UUID]) -> Fact:
    """A fact as the book's policies have it.

    `confirmed` are origins whose buyers have confirmed receipt of something: what arrives of those, or of an order that waits
    for the buyer, is only noted, and recognised by what is then known of the origin in all (domain/account.py).
    """
    if fact.template in ("return_bad", "stock_damaged"):
        share_bp = policy_at(policies, fact.event_time).damaged_value_bp
        lines = [
            line._replace(amounts=line.amounts._replace(residual=_share(line.amounts.cost, share_bp))) for line in fact.lines
        ]
        return fact._replace(lines=tuple(lines))
    if fact.template != "delivered" or not (confirmed or any(policy.recognition != DELIVERED for policy in policies)):
        return fact
    waiting = {
        origin
        for origin in {line.origin_order_id for line in fact.lines}
        if origin in confirmed or recognition_of(fact, origin, policies) != DELIVERED
    }
    return fact._replace(
        lines=tuple(line for line in fact.lines if line.origin_order_id not in waiting),
        deferred=tuple(line for line in fact.lines if line.origin_order_id in waiting),
    )


def recognition_of(fact: Fact, origin_order_id: UUID, policies: Sequence[Policy]) -> str:
    return policy_at(policies, fact.origin_paid_at(origin_order_id)).recognition


def _share(cost: int, share_bp: int) -> int:
    """Rounded towards zero, so that a document and its opposite cancel out."""
    return (abs(cost) * share_bp // 10_000) * (1 if cost >= 0 else -1)
