"""Which orders may travel as one, and under which id."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from uuid import UUID, uuid5

from audit.domain.facts import TO_SHIP, OrderFacts

NAMESPACE_MERGE = UUID("7b0c3c0e-5e0f-5a37-9a1c-0d6d1e1f4f6b")
"""Frozen for life: ids of merged orders are made from it."""
MAX_BYTES = 400_000
"""Of all blocks of a merge: an event must stay below 512 KiB."""
MAX_LINES = 500


def merge_key(order: OrderFacts, *, across_shops: str | None) -> str | None:
    """Equal for orders that may be merged; None: this one may not. `across_shops` names a group of shops instead of one."""
    tokens = [order.tokens.get(kind, "") for kind in ("receiver", "address", "phone")]
    # Platforms that mask phones give none; their receiver's handle then says enough, and only orders without one meet.
    if not all(tokens[:2]) or order.fulfilment_kind != TO_SHIP or order.payment_state != "paid":
        return None
    if order.collection == "cash_on_delivery" or order.presale:
        return None
    if order.first_order_id is not None:
        return None  # Its lines name the origin of another order: in one part nobody could tell the two apart.
    shops = ["group", across_shops] if across_shops is not None else ["shop", order.channel, order.shop_id]
    # Two flags of the seller, or two carriers asked for, are two wishes: they do not meet. Nor do two currencies.
    parts = [*tokens, order.currency, order.seller_flag or "", order.wanted_carrier or "", order.invoice_kind, *shops]
    return blake2b("".join(f"{len(part)}:{part}" for part in parts).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Waiting:
    """An order that may be merged."""

    order_id: UUID
    received_at: datetime
    lines: int
    size_bytes: int


def choose(first: Waiting, others: Iterable[Waiting], *, max_orders: int) -> tuple[Waiting, ...]:
    """Those that go with the order that is cleared now, eldest first, as far as size allows; alone: only itself."""
    chosen, lines, size_bytes = [first], first.lines, first.size_bytes
    for other in sorted(others, key=lambda order: (order.received_at, order.order_id)):
        fits = lines + other.lines <= MAX_LINES and size_bytes + other.size_bytes <= MAX_BYTES
        if len(chosen) < max_orders and fits:
            chosen.append(other)
            lines, size_bytes = lines + other.lines, size_bytes + other.size_bytes
    return tuple(sorted(chosen, key=lambda order: (order.received_at, order.order_id)))


def merged_id(parents: Sequence[UUID]) -> UUID:
    return uuid5(NAMESPACE_MERGE, "|".join(sorted(map(str, parents))))
