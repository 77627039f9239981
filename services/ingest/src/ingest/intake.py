"""Taking channel orders in: the one path that HTTP, `channel.orders`, wake-ups and retries share.

`examine` needs no database and runs before the transaction; `take` and `reconsider` are the transaction's work.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import UUID

from contracts import ChannelOrder, Order, OrderReceived, Part
from contracts.envelope import Progress
from eventing import UnitOfWork
from ingest import dossier as dossiers
from ingest import store
from ingest.acts import sealed_receiver
from ingest.blocks import MONEY_FLAGS, Normaliser, bundles_of, facts_of, money_flags, numbers_of, price, refusals_of, whole
from ingest.domain.arrival import Known, News, Refusal, State, dispose, news_of
from ingest.domain.bundles import Component, is_too_large
from ingest.domain.identity import order_id_of
from ingest.dossier import Dossier, Family, entry_of, stored_part
from ingest.following import Follower, Newer
from ingest.privacy import Envelope, Tokens
from ingest.store.catalog import Item
from ingest.store.orders import OrderRow

CANONICAL_LIMIT_BYTES = 96 * 1024
_SHIPPED = frozenset({"part_shipped", "shipped", "signed", "finished"})


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


class Gateway:
    """Decides about arriving orders with the keys and tables that never change while the process runs."""

    def __init__(
        self, *, envelope: Envelope, tokens: Tokens, note_keywords: Mapping[str, str], refunds_from_versions: bool
    ) -> None:
        self.envelope = envelope
        self.normaliser = Normaliser(tokens, note_keywords)
        self._tokens = tokens
        self._follower = Follower(envelope=envelope, normaliser=self.normaliser, refunds_from_versions=refunds_from_versions)

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
        items = await self.find_items({line.sku_id for arrival in arrivals for line in arrival.order.lines}, work)
        outcomes: dict[int, Outcome] = {}
        firsts: dict[UUID, Dossier] = {}
        first_at: dict[UUID, int] = {}
        for position, arrival in enumerate(arrivals):
            if arrival.order_id not in firsts:
                first = firsts[arrival.order_id] = self._decide(arrival, None, items, work, code_when_sent="order_received")
                first_at[arrival.order_id] = position
                outcomes[position] = _outcome(first.row)
        added = await store.orders.add_orders(work, [first.row for first in firsts.values()])
        written = [first for order_id, first in firsts.items() if order_id in added]
        later = [
            (position, arrival)
            for position, arrival in enumerate(arrivals)
            if arrival.order_id not in added or first_at[arrival.order_id] != position
        ]
        if later:
            families = await self._families([arrival for _, arrival in later], firsts, added, work)
            known = await self._known_of([arrival for _, arrival in later], families, work)
            for position, arrival in later:
                outcomes[position] = self._later(families[arrival.order_id], arrival, items, known, work)
            changed = [member for family in families.values() for member in family if member.order_id not in added]
            await dossiers.save(work, [*written, *changed])
        else:
            # The plain order's way: nothing but what is new is looked at.
            rows = [first.row for first in written]
            await store.orders.put_documents(work, rows)
            await store.orders.set_missing_skus(work, [row for row in rows if row.missing_skus], were_there=False)
            await store.book.add_progress(work, [entry for first in written for entry in first.entries])
            work.emit(event for first in written for event in first.events)
        return [outcomes[position] for position in range(len(arrivals))]

    async def reconsider(self, order_ids: Collection[UUID], work: UnitOfWork) -> dict[UUID, Outcome]:
        """Decide again about parked orders, from their latest version and today's catalogue; others are left alone."""
        rows = await store.orders.lock_orders(work, order_ids)
        families = await dossiers.read(work, {order_id: [row] for order_id, row in rows.items() if row.state is State.PARKED})
        parked = {order_id: family[0] for order_id, family in families.items()}
        outcomes = await self.redecide(parked, work)
        await dossiers.save(work, list(parked.values()))
        return outcomes

    async def redecide(self, parked: Mapping[UUID, Dossier], work: UnitOfWork) -> dict[UUID, Outcome]:
        """Decide again about these parked orders, whose dossiers the caller saves."""
        arrivals = {order_id: self.stored(dossier.row) for order_id, dossier in parked.items()}
        items = await self.find_items({line.sku_id for arrival in arrivals.values() for line in arrival.order.lines}, work)
        for order_id, dossier in parked.items():
            before = dossier.row
            decided = self._decide(arrivals[order_id], dossier, items, work, code_when_sent="order_unparked")
            if (decided.row.state, decided.row.code, decided.row.missing_skus) != (before.state, before.code, ()):
                _take_over(dossier, decided)
        return {order_id: _outcome(dossier.row) for order_id, dossier in parked.items()}

    async def amend(self, parked: Dossier, update: Mapping[str, Any], work: UnitOfWork) -> None:
        """Decide again about a parked order, of which a person has corrected something. Its version stays the channel's."""
        stored = self.stored(parked.row)
        order = stored.order.model_copy(update=dict(update))
        items = await self.find_items({line.sku_id for line in order.lines}, work)
        amended = replace(stored, order=order, canonical=order.model_dump_json().encode())
        _take_over(parked, self._decide(amended, parked, items, work, code_when_sent="order_unparked"))

    async def find_items(self, skus: set[str], work: UnitOfWork) -> dict[str, Item]:
        """What the catalogue has of these SKUs, and of the parts of those that are bundles."""
        items = await self._find_items(skus, work)
        parts = {part.sku_id for item in items.values() for part in item.bundle} - items.keys()
        if parts:
            items.update(await self._find_items(parts, work))
        return items

    async def _find_items(self, skus: set[str], work: UnitOfWork) -> dict[str, Item]:
        items = await store.catalog.find_items(work, skus)
        if missing := skus - items.keys():
            # From here on nobody brings these items in unseen: looking again tells for good.
            await work.expect("catalog_item", missing)
            items.update(await store.catalog.find_items(work, missing))
        return items

    def stored(self, row: OrderRow) -> Arrival:
        """The latest version that came, opened. Its row was read with its document."""
        if row.sealed is None:
            raise LookupError(f"order {row.order_id} has no document")
        canonical = self.envelope.open(row.sealed, str(row.order_id))
        return Arrival(ChannelOrder.model_validate_json(canonical), row.order_id, canonical, row.content_hash)

    async def _families(
        self, later: Sequence[Arrival], firsts: Mapping[UUID, Dossier], added: set[UUID], work: UnitOfWork
    ) -> dict[UUID, Family]:
        """Dossiers of orders that were there before; of those that bring no news, the root row alone."""
        rows = await store.orders.lock_families(work, {arrival.order_id for arrival in later} - added)
        with_news = {
            arrival.order_id
            for arrival in later
            if arrival.order_id in rows and _news(rows[arrival.order_id][0], arrival) not in (News.OLDER, News.SAME)
        }
        families = {order_id: [Dossier(row) for row in family] for order_id, family in rows.items()}
        families.update(await dossiers.read(work, {order_id: rows[order_id] for order_id in with_news}))
        for arrival in later:
            if arrival.order_id in added:
                families[arrival.order_id] = [firsts[arrival.order_id]]
        return families

    async def _known_of(
        self, later: Sequence[Arrival], families: Mapping[UUID, Family], work: UnitOfWork
    ) -> tuple[set[tuple[str, str, str]], set[UUID]]:
        """Refunds told before and orders that have left, of those for which a version makes it matter."""
        refunds = {
            (arrival.order.channel, arrival.order.shop_id, line.refund_id)
            for arrival in later
            for line in arrival.order.lines
            if line.refund_id and line.refund_state == "refunded"
        }
        orders = {
            member.order_id
            for arrival in later
            if arrival.order.trade_state in _SHIPPED or any(line.refund_id for line in arrival.order.lines)
            for member in families[arrival.order_id]
        }
        known = set(await store.requests.find_refunds_by_id(work, refunds)) if refunds else set()
        return known, await store.requests.find_shipped(work, orders) if orders else set()

    def _later(
        self,
        family: Family,
        arrival: Arrival,
        items: Mapping[str, Item],
        known: tuple[set[tuple[str, str, str]], set[UUID]],
        work: UnitOfWork,
    ) -> Outcome:
        first = family[0]
        news = _news(first.row, arrival)
        if news in (News.OLDER, News.SAME):
            return Outcome(first.order_id, "duplicate", first.row.code)
        flag = "version_conflict" if news is News.CONFLICT else "newer_version"
        if not first.is_sent:
            if news is News.CONFLICT:
                first.row = replace(first.row, flags=_with(first.row.flags, flag))
                first.open_case("version_conflict", str(arrival.order.source_version))
            _take_over(first, self._decide(arrival, first, items, work, code_when_sent="order_received"))
            return _outcome(first.row)
        refunds, shipped = known
        newer = Newer(
            before=self.stored(first.row).order,
            order=arrival.order,
            content_hash=arrival.content_hash,
            sealed=self.envelope.seal(arrival.canonical, str(arrival.order_id)),
            flag=flag,
            is_shipped=any(member.order_id in shipped for member in family),
            known_refunds={
                refund_id for channel, shop, refund_id in refunds if (channel, shop) == (first.row.channel, first.row.shop_id)
            },
        )
        self._follower.follow(family, newer, items, work)
        # Another order of this batch may name the same refund; it was told just now.
        refunds.update((told.channel, told.shop_id, told.refund_id) for told in first.refunded)
        return Outcome(first.order_id, "accepted", flag, {"source_version": arrival.order.source_version})

    def _decide(
        self,
        arrival: Arrival,
        known: Dossier | None,
        items: Mapping[str, Item],
        work: UnitOfWork,
        *,
        code_when_sent: str,
    ) -> Dossier:
        """Send, park or close one version. `known` is what it replaces."""
        order = arrival.order
        missing = {line.sku_id for line in order.lines} - items.keys()
        bundles = {
            line.sku_id: bundle for line in order.lines if line.sku_id in items and (bundle := items[line.sku_id].bundle)
        }
        missing.update(part.sku_id for bundle in bundles.values() for part in bundle if part.sku_id not in items)
        state, code = _disposition(order, tuple(sorted(missing)), bundles)
        priced = price(order, items)
        is_sent = state is State.SENT
        receiver_ref = work.new_id() if is_sent and order.receiver is not None else None
        received_at = known.row.received_at if known else work.now
        flags = [flag for flag in known.row.flags if flag not in MONEY_FLAGS] if known else []
        flags.extend(money_flags(order, priced))
        block = self.normaliser.block(
            order,
            arrival.order_id,
            numbers=numbers_of(order, known.block if known else None),
            priced=priced,
            items=items,
            flags=flags,
            received_at=received_at,
            receiver_ref=receiver_ref,
        )
        left = known.left_unsent(block) if known and known.requests else None
        if left is not None and not any(left.values()):
            state, code, is_sent = State.CANCELLED, "cancelled", False
        row = OrderRow(
            order_id=arrival.order_id,
            first_order_id=arrival.order_id,
            again=0,
            step=known.row.step + 1 if known else 1,
            channel=order.channel,
            shop_id=order.shop_id,
            channel_order_no=order.channel_order_no,
            source_version=order.source_version,
            content_hash=arrival.content_hash,
            state=state,
            code=code,
            flags=flags,
            sent_version=order.source_version if is_sent else None,
            currency=order.currency,
            paid_minor=priced.paid_minor,
            placed_at=order.placed_at,
            received_at=received_at,
            changed_at=work.now,
            sealed=self.envelope.seal(arrival.canonical, str(arrival.order_id)),
            block=block.model_dump_json(),
            missing_skus=tuple(sorted(missing)) if code == "unknown_sku" else (),
        )
        decided = Dossier(row, is_changed=True, is_decided=True, has_new_document=True)
        if not is_sent:
            decided.entries.append(entry_of(row, state.value, code, _params(row), work))
            return decided
        part = whole(block, items, left)
        if left is not None or bundles:
            row.part = stored_part(block, part, bundles_of(block, items))
        if order.receiver is not None and receiver_ref is not None:
            clear = order.receiver.model_dump_json().encode()
            decided.events.append(sealed_receiver(self.envelope, clear, receiver_ref))
        decided.events.append(_received(row, block, part, code_when_sent))
        return decided


def _disposition(
    order: ChannelOrder, missing: tuple[str, ...], bundles: Mapping[str, Sequence[Component]]
) -> tuple[State, str]:
    disposition = dispose(facts_of(order, missing))
    is_sent = disposition.state is State.SENT
    if is_sent and bundles and is_too_large([(line.quantity, bundles.get(line.sku_id, ())) for line in order.lines]):
        return State.PARKED, "bundle_too_large"
    return disposition.state, disposition.code


def _received(row: OrderRow, block: Order, part: Part, code: str) -> OrderReceived:
    params = {"channel": row.channel, "lines": len(block.lines), "paid_minor": row.paid_minor}
    return OrderReceived(
        root_id=row.order_id,
        order_id=row.order_id,
        progress=Progress(step=row.step, stage="received", code=code, params=params),
        order=block,
        part=part,
    )


def _take_over(dossier: Dossier, decided: Dossier) -> None:
    """A decision anew about an order whose dossier was read."""
    dossier.row = decided.row
    dossier.is_changed = dossier.is_decided = dossier.has_new_document = True
    dossier.events.extend(decided.events)
    dossier.entries.extend(decided.entries)


def _news(row: OrderRow, arrival: Arrival) -> News:
    known = Known(row.source_version, row.content_hash, row.state)
    return news_of(known, arrival.order.source_version, arrival.content_hash)


def _outcome(row: OrderRow) -> Outcome:
    return Outcome(row.order_id, "parked" if row.state is State.PARKED else "accepted", row.code, _params(row))


def _with(flags: Sequence[str], flag: str) -> list[str]:
    return [*flags, flag] if flag not in flags else list(flags)


def _params(row: OrderRow) -> dict[str, Any]:
    return {"skus": list(row.missing_skus[:10])} if row.missing_skus else {}
