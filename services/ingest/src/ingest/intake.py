"""Taking channel orders in: the one path that HTTP, `channel.orders`, wake-ups and retries share.

`examine` needs no database and runs before the transaction; `take` and `reconsider` are the transaction's work.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from contracts import (
    ChannelOrder,
    DiscountShare,
    Event,
    Fulfilment,
    Order,
    OrderReceived,
    Part,
    Progress,
    ReceiverSealed,
)
from eventing import UnitOfWork
from ingest import store
from ingest.domain.arrival import (
    COLLECTIONS,
    FULFILMENT_KINDS,
    GROUP_STATES,
    PAYMENT_STATES,
    REFUND_STATES,
    TRADE_STATES,
    Facts,
    Known,
    News,
    Refusal,
    State,
    dispose,
    news_of,
    unknown_word,
)
from ingest.domain.identity import order_id_of
from ingest.domain.money import ImpossibleMoney, LineMoney, PricedOrder, price_order
from ingest.privacy import Envelope, Tokens, destination_of, note_flags_of
from ingest.store.book import Entry
from ingest.store.catalog import Item
from ingest.store.orders import OrderRow

CANONICAL_LIMIT_BYTES = 96 * 1024
SERVICE = "ingest"
SHOP = "shop"
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
_UNKNOWN = Item(weight_grams=0, tax_rate_bp=0)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One version of a channel order that can be taken in."""

    order: ChannelOrder
    order_id: UUID
    canonical: bytes
    content_hash: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an arrival."""

    order_id: UUID
    outcome: Literal["accepted", "parked", "duplicate"]
    code: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Change:
    """A row as it shall be written, and what is to be told of it."""

    row: OrderRow
    events: list[Event] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)


class Gateway:
    """Decides about arriving orders with the keys and tables that never change while the process runs."""

    def __init__(self, *, envelope: Envelope, tokens: Tokens, note_keywords: Mapping[str, str]) -> None:
        self._envelope = envelope
        self._tokens = tokens
        self._note_keywords = note_keywords

    def examine(self, order: ChannelOrder) -> Arrival | Sequence[Refusal]:
        """Everything that can be wrong with an order by itself; else the order with its identity."""
        canonical = order.model_dump_json().encode()
        if len(canonical) > CANONICAL_LIMIT_BYTES:
            return [Refusal("", "too_large")]
        if refusals := refusals_of(order):
            return refusals
        order_id = order_id_of(order.channel, order.shop_id, order.channel_order_no)
        return Arrival(order, order_id, canonical, self._tokens.content_hash(canonical))

    async def take(self, arrivals: Sequence[Arrival], work: UnitOfWork) -> list[Outcome]:
        """Take versions in, in the order given; several of one order count one after the other."""
        if not arrivals:
            return []
        items = await self._items({line.sku_id for arrival in arrivals for line in arrival.order.lines}, work)
        outcomes: dict[int, Outcome] = {}
        firsts: dict[UUID, _Change] = {}
        first_at: dict[UUID, int] = {}
        for position, arrival in enumerate(arrivals):
            if arrival.order_id not in firsts:
                change = firsts[arrival.order_id] = self._first(arrival, items, work)
                first_at[arrival.order_id] = position
                outcomes[position] = _outcome(change.row)
        added = await store.orders.add_orders(work, [change.row for change in firsts.values()])
        changes = [change for order_id, change in firsts.items() if order_id in added]
        later = [
            (position, arrival)
            for position, arrival in enumerate(arrivals)
            if arrival.order_id not in added or first_at[arrival.order_id] != position
        ]
        updated: dict[UUID, OrderRow] = {}
        if later:
            rows = await store.orders.lock_orders(work, {arrival.order_id for _, arrival in later})
            for order_id in rows.keys() & added:
                rows[order_id] = firsts[order_id].row  # Written a moment ago, here: with the block that is not stored yet.
            for position, arrival in later:
                later_change, outcomes[position] = self._later(rows[arrival.order_id], arrival, items, work)
                if later_change is not None:
                    changes.append(later_change)
                    updated[arrival.order_id] = rows[arrival.order_id] = later_change.row
            await store.orders.update_orders(work, list(updated.values()))
        written = {change.row.order_id: change.row for change in changes}
        await store.orders.put_documents(work, list(written.values()))
        await store.orders.set_missing_skus(
            work, [row for row in written.values() if row.missing_skus or row.order_id in updated], were_there=bool(updated)
        )
        await self._tell(changes, work)
        return [outcomes[position] for position in range(len(arrivals))]

    async def reconsider(self, order_ids: Collection[UUID], work: UnitOfWork) -> dict[UUID, Outcome]:
        """Decide again about parked orders, from their latest version and today's catalogue; others are left alone."""
        rows = await store.orders.lock_orders(work, order_ids)
        parked = {order_id: row for order_id, row in rows.items() if row.state is State.PARKED}
        sealed = await store.orders.find_sealed(work, parked)
        arrivals = {
            order_id: self._stored(row, self._envelope.open(sealed[order_id], str(order_id)))
            for order_id, row in parked.items()
        }
        items = await self._items({line.sku_id for arrival in arrivals.values() for line in arrival.order.lines}, work)
        changes = []
        for order_id, row in parked.items():
            change = self._decide(arrivals[order_id], row, items, work, code_when_sent="order_unparked")
            if (change.row.state, change.row.code, change.row.missing_skus) != (row.state, row.code, ()):
                changes.append(change)
        changed = [change.row for change in changes]
        await store.orders.update_orders(work, changed)
        await store.orders.put_documents(work, changed)
        await store.orders.set_missing_skus(work, changed, were_there=True)
        await self._tell(changes, work)
        return {order_id: _outcome(row) for order_id, row in {**parked, **{row.order_id: row for row in changed}}.items()}

    async def _items(self, skus: set[str], work: UnitOfWork) -> dict[str, Item]:
        items = await store.catalog.find_items(work, skus)
        if missing := skus - items.keys():
            # From here on nobody brings these items in unseen: looking again tells for good.
            await work.expect("catalog_item", missing)
            items.update(await store.catalog.find_items(work, missing))
        return items

    def _stored(self, row: OrderRow, canonical: bytes) -> Arrival:
        return Arrival(ChannelOrder.model_validate_json(canonical), row.order_id, canonical, row.content_hash)

    def _first(self, arrival: Arrival, items: Mapping[str, Item], work: UnitOfWork) -> _Change:
        return self._decide(arrival, None, items, work, code_when_sent="order_received")

    def _later(
        self, row: OrderRow, arrival: Arrival, items: Mapping[str, Item], work: UnitOfWork
    ) -> tuple[_Change | None, Outcome]:
        version = arrival.order.source_version
        news = news_of(Known(row.source_version, row.content_hash, row.state), version, arrival.content_hash)
        if news in (News.OLDER, News.SAME):
            return None, Outcome(row.order_id, "duplicate", row.code)
        if row.state is not State.SENT:
            if news is News.CONFLICT:
                row = replace(row, flags=_with(row.flags, "version_conflict"))
            change = self._decide(arrival, row, items, work, code_when_sent="order_received")
            return change, _outcome(change.row)
        # Already on its way: kept as the latest version and flagged. What was sent, and its block, stay what they were.
        flag = "version_conflict" if news is News.CONFLICT else "newer_version"
        row = replace(
            row,
            step=row.step + 1,
            source_version=version,
            content_hash=arrival.content_hash,
            flags=_with(row.flags, flag),
            changed_at=work.now,
            sealed=self._envelope.seal(arrival.canonical, str(arrival.order_id)),
        )
        params = {"source_version": version}
        change = _Change(row, entries=[self._entry(row, "received", flag, params, work)])
        return change, Outcome(row.order_id, "accepted", flag, params)

    def _decide(
        self,
        arrival: Arrival,
        known: OrderRow | None,
        items: Mapping[str, Item],
        work: UnitOfWork,
        *,
        code_when_sent: str,
    ) -> _Change:
        """Send, park or close one version. `known` is the row that it replaces."""
        order = arrival.order
        missing = tuple(sorted({line.sku_id for line in order.lines} - items.keys()))
        disposition = dispose(_facts(order, missing))
        priced = price_order(*_money(order, items))
        if isinstance(priced, ImpossibleMoney):
            raise TypeError("impossible money passed examine")  # Rates decide taxes only, so a second look cannot differ.
        is_sent = disposition.state is State.SENT
        receiver_ref = work.new_id() if is_sent and order.receiver is not None else None
        received_at = known.received_at if known else work.now
        flags = [flag for flag in known.flags if flag != "money_mismatch"] if known else []
        if priced.mismatch:
            flags.append("money_mismatch")
        block = self._block(arrival, priced, items, flags, received_at, receiver_ref)
        row = OrderRow(
            order_id=arrival.order_id,
            step=known.step + 1 if known else 1,
            channel=order.channel,
            shop_id=order.shop_id,
            channel_order_no=order.channel_order_no,
            source_version=order.source_version,
            content_hash=arrival.content_hash,
            state=disposition.state,
            code=disposition.code,
            flags=flags,
            sent_version=order.source_version if is_sent else None,
            currency=order.currency,
            paid_minor=priced.paid_minor,
            placed_at=order.placed_at,
            received_at=received_at,
            changed_at=work.now,
            sealed=self._envelope.seal(arrival.canonical, str(arrival.order_id)),
            block=block.model_dump_json(),
            missing_skus=missing if disposition.code == "unknown_sku" else (),
        )
        change = _Change(row)
        if not is_sent:
            stage = "parked" if disposition.state is State.PARKED else "closed"
            change.entries.append(self._entry(row, stage, disposition.code, _params(row), work))
            return change
        if order.receiver is not None and receiver_ref is not None:
            change.events.append(self._sealed_receiver(order.receiver.model_dump_json().encode(), receiver_ref))
        params = {"channel": order.channel, "lines": len(order.lines), "paid_minor": priced.paid_minor}
        change.events.append(
            OrderReceived(
                root_id=row.order_id,
                order_id=row.order_id,
                progress=Progress(step=row.step, stage="received", code=code_when_sent, params=params),
                order=block,
                part=_whole(block),
            )
        )
        return change

    def _sealed_receiver(self, clear: bytes, receiver_ref: UUID) -> ReceiverSealed:
        sealed = self._envelope.seal(clear, str(receiver_ref))
        # Constructed: validation would take the bytes for base64 and decode them.
        return ReceiverSealed.model_construct(
            version=1,
            deleted=False,
            receiver_ref=receiver_ref,
            key_id=sealed.key_id,
            wrapped_key=sealed.wrapped_key,
            nonce=sealed.nonce,
            ciphertext=sealed.ciphertext,
        )

    def _block(
        self,
        arrival: Arrival,
        priced: PricedOrder,
        items: Mapping[str, Item],
        flags: Sequence[str],
        received_at: datetime,
        receiver_ref: UUID | None,
    ) -> Order:
        order = arrival.order
        lines = []
        for number, (line, money) in enumerate(zip(order.lines, priced.lines, strict=True), start=1):
            item = items.get(line.sku_id, _UNKNOWN)
            lines.append(
                {
                    "line": number,
                    "channel_line_id": line.channel_line_id,
                    "sku_id": line.sku_id,
                    "title": line.title,
                    "quantity": line.quantity,
                    "unit_list_price_minor": line.unit_list_price_minor,
                    "adjust_minor": line.adjust_minor,
                    "discounts": _declared_shares(line.discounts),
                    "paid_minor": money.paid_minor,
                    "receivable_minor": money.receivable_minor,
                    "tax_rate_bp": item.tax_rate_bp if line.tax_rate_bp is None else line.tax_rate_bp,
                    "tax_minor": money.tax_minor,
                    "unit_weight_grams": item.weight_grams,
                    "gift": line.gift,
                    "refund_state": line.refund_state,
                    "ship_not_before": line.ship_not_before,
                }
            )
        is_shipped = order.fulfilment.kind == "to_ship" or order.receiver is not None
        return Order.model_validate(
            {
                "order_id": arrival.order_id,
                "channel": order.channel,
                "shop_id": order.shop_id,
                "channel_order_no": order.channel_order_no,
                "source_version": order.source_version,
                "received_at": received_at,
                "placed_at": order.placed_at,
                "paid_at": order.paid_at,
                "trade_state": order.trade_state,
                "payment_state": order.payment_state,
                "refund_state": order.refund_state,
                "collection": order.collection,
                "currency": order.currency,
                "lines": lines,
                "freight": {
                    "list_minor": order.freight_list_minor,
                    "discounts": _declared_shares(order.freight_discounts),
                    "paid_minor": priced.freight.paid_minor,
                    "receivable_minor": priced.freight.receivable_minor,
                    "tax_rate_bp": _freight_rate(order, items),
                    "tax_minor": priced.freight.tax_minor,
                },
                "paid_minor": priced.paid_minor,
                "receivable_minor": priced.receivable_minor,
                "payment_methods": list(dict.fromkeys(payment.method for payment in order.payments)),
                "fulfilment": Fulfilment(
                    kind=order.fulfilment.kind,
                    place_id=order.fulfilment.place_id,
                    handed_over_at=order.fulfilment.handed_over_at,
                ),
                "receiver_ref": receiver_ref,
                "destination": destination_of(order.receiver, self._tokens) if is_shipped else None,
                "buyer_token": self._tokens.buyer(order.channel, order.buyer),
                "notes": note_flags_of(order.notes, self._note_keywords),
                "invoice_kind": order.invoice.kind,
                "presale": order.presale,
                "group_state": order.group_state,
                "risk_locked": order.risk_locked,
                "wanted_carrier": order.wanted_carrier,
                "ship_before": order.ship_before,
                "quality_flags": list(flags),
            }
        )

    def _entry(self, row: OrderRow, stage: str, code: str, params: Mapping[str, Any], work: UnitOfWork) -> Entry:
        """What ingest tells its own book of changes that no event carries."""
        told = json.dumps(params, ensure_ascii=False, separators=(",", ":"))
        order_id = str(row.order_id)
        return Entry(order_id, order_id, SERVICE, row.step, work.new_id(), stage, code, told, "", work.now)

    async def _tell(self, changes: Sequence[_Change], work: UnitOfWork) -> None:
        await store.book.add_progress(work, [entry for change in changes for entry in change.entries])
        work.emit(event for change in changes for event in change.events)


def refusals_of(order: ChannelOrder) -> list[Refusal]:
    """Words that cannot be read, times outside the calendar, a missing place, money that cannot be."""
    found = [
        unknown_word("trade_state", order.trade_state, TRADE_STATES),
        unknown_word("payment_state", order.payment_state, PAYMENT_STATES),
        unknown_word("refund_state", order.refund_state, REFUND_STATES),
        unknown_word("collection", order.collection, COLLECTIONS),
        unknown_word("group_state", order.group_state, GROUP_STATES),
        unknown_word("fulfilment.kind", order.fulfilment.kind, FULFILMENT_KINDS),
    ]
    for index, line in enumerate(order.lines):
        if line.refund_state not in REFUND_STATES:
            found.append(Refusal(f"lines.{index}.refund_state", "unknown_value"))
        if line.ship_not_before is not None and not EARLIEST <= line.ship_not_before < LATEST:
            found.append(Refusal(f"lines.{index}.ship_not_before", "time_out_of_range"))
    for name, moment in (
        ("source_modified_at", order.source_modified_at),
        ("placed_at", order.placed_at),
        ("paid_at", order.paid_at),
        ("ship_before", order.ship_before),
        ("fulfilment.handed_over_at", order.fulfilment.handed_over_at),
        *((f"payments.{index}.paid_at", payment.paid_at) for index, payment in enumerate(order.payments)),
    ):
        if moment is not None and not EARLIEST <= moment < LATEST:
            found.append(Refusal(name, "time_out_of_range"))
    if order.fulfilment.kind in ("pick_up", "already_handed_over") and order.fulfilment.place_id is None:
        found.append(Refusal("fulfilment.place_id", "place_missing"))
    refusals = [refusal for refusal in found if refusal is not None]
    if not refusals and isinstance(impossible := price_order(*_money(order, {})), ImpossibleMoney):
        where = {None: "freight_discounts", -1: "paid_minor"}.get(impossible.line, f"lines.{impossible.line}")
        refusals.append(Refusal(where, "impossible_money"))
    return refusals


def _facts(order: ChannelOrder, missing: tuple[str, ...]) -> Facts:
    return Facts(
        trade_state=order.trade_state,
        payment_state=order.payment_state,
        refund_states=frozenset((order.refund_state, *(line.refund_state for line in order.lines))),
        every_line_refunded=all(line.refund_state == "refunded" for line in order.lines),
        fulfilment_kind=order.fulfilment.kind,
        group_state=order.group_state,
        risk_locked=order.risk_locked,
        unknown_skus=missing,
    )


def _money(order: ChannelOrder, items: Mapping[str, Item]) -> tuple[list[LineMoney], LineMoney, int | None]:
    lines = []
    for line in order.lines:
        shop, others = _shares(line.discounts)
        rate = line.tax_rate_bp
        if rate is None:
            rate = items.get(line.sku_id, _UNKNOWN).tax_rate_bp
        lines.append(
            LineMoney(line.quantity, line.unit_list_price_minor, line.adjust_minor, shop, others, line.paid_minor, rate)
        )
    shop, others = _shares(order.freight_discounts)
    freight = LineMoney(1, order.freight_list_minor, 0, shop, others, None, _freight_rate(order, items))
    return lines, freight, order.paid_minor


def _freight_rate(order: ChannelOrder, items: Mapping[str, Item]) -> int:
    """Freight billed with goods is part of a mixed sale: where the channel names no rate, the goods' highest."""
    if order.freight_tax_rate_bp is not None:
        return order.freight_tax_rate_bp
    return max(
        items.get(line.sku_id, _UNKNOWN).tax_rate_bp if line.tax_rate_bp is None else line.tax_rate_bp for line in order.lines
    )


def _shares(shares: Sequence[DiscountShare]) -> tuple[int, int]:
    shop = others = 0
    for share in shares:
        if share.payer == SHOP:
            shop += share.amount_minor
        else:
            others += share.amount_minor
    return shop, others


def _declared_shares(shares: Sequence[DiscountShare]) -> list[DiscountShare]:
    """Shares without fields that we do not know: those may name a person, and the order block goes everywhere."""
    return [
        DiscountShare(payer=share.payer, amount_minor=share.amount_minor, promotion_id=share.promotion_id, name=share.name)
        for share in shares
    ]


def _whole(block: Order) -> Part:
    """The part that an order is before anybody splits it: all of it."""
    freight = block.freight
    return Part.model_validate(
        {
            "order_id": block.order_id,
            "root_id": block.order_id,
            "lines": [
                {
                    "origin_order_id": block.order_id,
                    "origin_line": line.line,
                    "sku_id": line.sku_id,
                    "quantity": line.quantity,
                    "paid_minor": line.paid_minor,
                    "receivable_minor": line.receivable_minor,
                    "tax_minor": line.tax_minor,
                    "unit_weight_grams": line.unit_weight_grams,
                }
                for line in block.lines
            ],
            "freight": [
                {
                    "origin_order_id": block.order_id,
                    "paid_minor": freight.paid_minor,
                    "receivable_minor": freight.receivable_minor,
                    "tax_minor": freight.tax_minor,
                }
            ]
            if freight.receivable_minor
            else [],
        }
    )


def _outcome(row: OrderRow) -> Outcome:
    return Outcome(row.order_id, "parked" if row.state is State.PARKED else "accepted", row.code, _params(row))


def _with(flags: Sequence[str], flag: str) -> list[str]:
    return [*flags, flag] if flag not in flags else list(flags)


def _params(row: OrderRow) -> dict[str, Any]:
    return {"skus": list(row.missing_skus[:10])} if row.missing_skus else {}
