"""Who an order is: the same channel order is the same id, whoever sends it, however often."""

from uuid import UUID, uuid5

ORDERS = UUID("6f1d6a3e-0f5b-5b1e-9c57-3a2a1d5f7c40")
"""The name space of order ids. Frozen for life: another value would take every order in twice."""


def order_id_of(channel: str, shop_id: str, channel_order_no: str) -> UUID:
    """The id of a channel order.

    Each part carries its length, so ("a", "b:c") and ("a:b", "c") are two orders.
    """
    return uuid5(ORDERS, "".join(f"{len(part)}:{part}" for part in (channel, shop_id, channel_order_no)))


def record_id_of(order_id: UUID, source_version: int, content_hash: bytes) -> UUID:
    """The identity of one record on `channel.orders`: the sender's own ids count for nothing."""
    return uuid5(order_id, f"{source_version}:{content_hash.hex()}")
