"""What an order is judged by: the active rules, the facts of an order, and what else must be known."""

from collections.abc import Sequence
from datetime import timedelta
from hashlib import blake2b
from uuid import UUID

from audit.domain.facts import Known, LineFacts, OrderFacts
from audit.domain.rules import RuleSet
from audit.store import rules as store
from contracts import Order, Part
from eventing import UnitOfWork


class NoRuleSetError(RuntimeError):
    """No rule set is active: clearing everything unseen would be worse than stopping."""


class ActiveRules:
    """The active rule set, kept in memory until another is active."""

    def __init__(self) -> None:
        self._rules = RuleSet(0, ())

    async def get(self, work: UnitOfWork) -> RuleSet:
        newer = await store.find_newer_rule_set(work, self._rules.version)
        if newer is not None:
            self._rules = newer
        if not self._rules.version:
            raise NoRuleSetError
        return self._rules


async def look_up(work: UnitOfWork, orders: Sequence[OrderFacts], rules: RuleSet, *, remember: bool = True) -> list[Known]:
    """What else must be known of these orders, in their order; no statement for what no rule asks.

    `remember`: later orders are compared with these.
    """
    blacklisted = await store.find_blacklisted(work, [order.tokens for order in orders])
    minutes = rules.duplicate_minutes
    like = {}
    if minutes:
        fingerprints = [one for order in orders for one in fingerprints_of(order)]
        like = await store.find_like_orders(work, fingerprints, within=timedelta(minutes=minutes), remember=remember)
    items = {}
    if rules.needs_catalogue:
        items = await store.find_items(work.connection, [line.sku_id for order in orders for line in order.lines])
    return [
        Known(
            blacklisted=blacklisted.get(position, frozenset()),
            like_orders=like.get(order.purchase_id, ()),
            items=items,
            now=work.now,
        )
        for position, order in enumerate(orders)
    ]


def fingerprints_of(order: OrderFacts) -> list[store.Fingerprint]:
    """Buyer and SKUs, receiver and SKUs, each as a digest: neither can be read back."""
    skus = sorted(order.units_by_sku)
    found = []
    for kind in ("buyer", "receiver"):
        if token := order.tokens.get(kind):
            text = "".join(f"{len(part)}:{part}" for part in (kind, token, *skus))
            digest = blake2b(text.encode(), digest_size=16).hexdigest()
            found.append(store.Fingerprint(order.purchase_id, kind, digest, order.placed_at))
    return found


def facts_of(order: Order, part: Part, order_id: UUID | None = None) -> OrderFacts:
    destination, notes = order.destination, order.notes
    tokens = {"buyer": order.buyer_token}
    if destination is not None:
        tokens |= {
            "receiver": destination.receiver_token,
            "phone": destination.phone_token,
            "address": destination.address_token,
        }
    by_line = {line.line: line for line in order.lines}
    return OrderFacts(
        order_id=order_id or part.order_id,
        channel=order.channel,
        shop_id=order.shop_id,
        fulfilment_kind=order.fulfilment.kind,
        currency=order.currency,
        paid_minor=order.paid_minor,
        address_grade=None if destination is None else destination.address_grade,
        phone_kind=None if destination is None else destination.phone_kind,
        region_code=None if destination is None else destination.region_code,
        tokens={kind: token for kind, token in tokens.items() if token},
        lines=[
            LineFacts(
                line.sku_id,
                line.quantity,
                line.paid_minor,
                line.receivable_minor,
                line.tax_minor,
                line.unit_weight_grams * line.quantity,
                found.refund_state if (found := by_line.get(line.origin_line)) is not None else "none",
                found.ship_not_before if found is not None else None,
            )
            for line in part.lines
        ],
        payment_state=order.payment_state,
        trade_state=order.trade_state,
        refund_state=order.refund_state,
        collection=order.collection,
        invoice_kind=order.invoice_kind,
        presale=order.presale,
        risk_locked=order.risk_locked,
        has_buyer_note=notes.has_buyer_note,
        has_seller_note=notes.has_seller_note,
        seller_flag=notes.seller_flag,
        keywords=notes.keywords,
        payment_methods=order.payment_methods,
        quality_flags=order.quality_flags,
        wanted_carrier=order.wanted_carrier,
        placed_at=order.placed_at,
        received_at=order.received_at,
        ship_before=order.ship_before,
        first_order_id=part.lines[0].origin_order_id if order.again else None,
    )
