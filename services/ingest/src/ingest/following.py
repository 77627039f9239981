"""A newer version of an order that was sent: told to the stages as requests and facts, never as the order again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from contracts import ChannelOrder, LineMoney, MoneyChange, Order, Part, PartLine, Receiver
from eventing import UnitOfWork
from ingest.acts import Change, Why, ask_change, cancel, confirm_receipt, live_part, refund, sealed_receiver, told_money
from ingest.blocks import MONEY_FLAGS, Normaliser, bundles_of, facts_of, money_flags, moved_by, numbers_of, portion, price
from ingest.domain import versions
from ingest.domain.address import MASK
from ingest.domain.arrival import dispose
from ingest.domain.bundles import is_too_large
from ingest.domain.refunds import NOTHING, Money, remaining
from ingest.domain.requests import Key, Refused
from ingest.domain.versions import Difference, compare
from ingest.dossier import Bundles, Dossier, Family, stored_part
from ingest.privacy import Envelope, Sealed
from ingest.store.catalog import Item

BY_CHANNEL = "channel"


@dataclass(frozen=True, slots=True)
class Newer:
    """A version to follow, with what the world says of the order by now."""

    before: ChannelOrder
    """The version that was told last."""
    order: ChannelOrder
    content_hash: bytes
    sealed: Sealed
    flag: str
    """newer_version | version_conflict"""
    is_shipped: bool
    """A parcel has left with goods of the order."""
    known_refunds: Collection[str]
    """Refunds of the shop that were told before, of whichever order."""


class Follower:
    """Follows newer versions, with what never changes while the process runs."""

    def __init__(self, *, envelope: Envelope, normaliser: Normaliser, refunds_from_versions: bool) -> None:
        self._envelope = envelope
        self._normaliser = normaliser
        self._refunds_from_versions = refunds_from_versions

    def follow(self, family: Family, newer: Newer, items: Mapping[str, Item], work: UnitOfWork) -> None:
        """Ask for what the new version wants otherwise, and tell the money facts in it."""
        first = family[0]
        told = first.block
        order = _with_rates(newer.order, told)
        used = {key[1] for member in family for key in member.state.units}
        numbers = numbers_of(order, told, used)
        is_new_receiver = _is_new_receiver(newer.before.receiver, order.receiver)
        priced = price(order, items)
        row = first.row
        row.source_version, row.content_hash, row.sealed = order.source_version, newer.content_hash, newer.sealed
        row.flags = [flag for flag in row.flags if flag not in MONEY_FLAGS] + money_flags(order, priced)
        first.flag(newer.flag)
        first.has_new_document = True
        first.note("received", newer.flag, {"source_version": order.source_version}, work)
        if newer.flag == "version_conflict":
            first.open_case("version_conflict", str(order.source_version))
        block = self._normaliser.block(
            order,
            first.order_id,
            numbers=numbers,
            priced=priced,
            items=items,
            flags=row.flags,
            received_at=row.received_at,
            receiver_ref=work.new_id() if is_new_receiver else told.receiver_ref,
        )
        block = block.model_copy(update={} if is_new_receiver else {"destination": told.destination})
        if _notes(newer.before) == _notes(order):
            block = block.model_copy(update={"notes": told.notes})  # What our own people changed of them stays.
        difference = compare(
            _version(newer.before, told, None, False),
            _version(order, block, order.receiver, is_new_receiver),
        )
        old_bundles, sent_bundles = first.sent[1], bundles_of(block, items)
        self._cancel(family, difference, told, old_bundles, work)
        if is_new_receiver and order.receiver is not None and block.receiver_ref is not None:
            clear = order.receiver.model_dump_json().encode()
            first.events.append(sealed_receiver(self._envelope, clear, block.receiver_ref))
            row.former_ref = told.receiver_ref
        money = _money_changes(told, block, items)
        for member in family:
            member.put_block(block.model_copy(update={"order_id": member.order_id, "again": member.row.again}))
        if difference.fields and not difference.closes:
            self._change(family, difference, told, block, money, sent_bundles, items, work)
        self._refund(family, newer, difference, block, items, work)
        if difference.is_received:
            for member in family:
                if (part := live_part(member)) is not None:
                    lines = {_key(line): line.quantity for line in part.lines}
                    reference = f"version:{order.source_version}"
                    if reference not in member.receipts:
                        confirm_receipt(member, reference, order.source_modified_at, lines, work)
        says_gone = difference.is_shipped or (difference.is_received and order.fulfilment.kind != "already_handed_over")
        if says_gone and not newer.is_shipped and any(member.state.left() for member in family):
            first.open_case("shipped_elsewhere", str(order.source_version))

    def _cancel(self, family: Family, difference: Difference, told: Order, bundles: Bundles, work: UnitOfWork) -> None:
        """Ask for what shall not go on, of the youngest orders of the family first."""
        if difference.closes:
            for member in reversed(family):
                cancel(member, None, Why("closed_by_channel", BY_CHANNEL), work)
            return
        for reason, numbers in (
            ("line_refunded", difference.taken_back),
            ("newer_version", difference.lower.keys() - difference.taken_back),
        ):
            left = {member.order_id: member.state.left() for member in family}
            beyond = _beyond({number: difference.lower[number] for number in numbers}, told, bundles, left.values())
            for member in reversed(family):
                wanted = {key: min(units, left[member.order_id].get(key, 0)) for key, units in beyond.items()}
                wanted = {key: units for key, units in wanted.items() if units}
                if not wanted or isinstance(cancel(member, wanted, Why(reason, BY_CHANNEL), work), Refused):
                    continue
                for key, units in wanted.items():
                    beyond[key] -= units

    def _change(
        self,
        family: Family,
        difference: Difference,
        told: Order,
        block: Order,
        money: Sequence[MoneyChange],
        bundles: Bundles,
        items: Mapping[str, Item],
        work: UnitOfWork,
    ) -> None:
        """Ask for the change of whatever is left. New units and money go with the first order that has something left."""
        now = {_key(line): line for given in block.lines for line in moved_by(block, given, items)}
        grown, missing = _grown(told, block, items)
        if missing:
            family[0].open_case("unknown_sku", str(block.source_version), {"skus": sorted(missing)[:10]})
        if is_too_large([(line.quantity, items[line.sku_id].bundle) for line in block.lines if line.sku_id in items]):
            family[0].open_case("bundle_too_large", str(block.source_version))
            grown = {}
        fields = [name for name in difference.fields if name != versions.LINES or grown]
        lives = [(member, live) for member in family if (live := live_part(member)) is not None]
        if not lives and (grown or money):
            # Nobody can apply it any more, but the money is a fact, and people must see that goods are wanted.
            first = family[0]
            lives = [(first, first.sent[0].model_copy(update={"lines": []} if grown else {}))]
        for member, live in lives:
            if not fields:
                break
            own = block.model_copy(update={"order_id": member.order_id, "again": member.row.again})
            left = {_key(line): line for line in live.lines}
            lines = [
                _scaled(now.get(key), left.get(key), (left[key].quantity if key in left else 0) + grown.get(key, 0))
                for key in dict.fromkeys((*left, *grown))
            ]
            part = live.model_copy(update={"lines": lines, **_freight(live, block)})
            pending = _pending(member, part, now, grown, bundles, own) if versions.LINES in fields else ""
            why = Why("newer_version", BY_CHANNEL)
            ask_change(member, Change(tuple(fields), own, part, pending, money), why, work)
            # Told once: the others of the family learn what is about the buyer and the dispatch.
            fields = [name for name in fields if name not in (versions.LINES, versions.MONEY)]
            money, grown = (), {}

    def _refund(
        self,
        family: Family,
        newer: Newer,
        difference: Difference,
        block: Order,
        items: Mapping[str, Item],
        work: UnitOfWork,
    ) -> None:
        if not self._refunds_from_versions:
            return
        by_id: dict[str, set[int]] = {}
        for number, refund_id in difference.refunds.items():
            by_id.setdefault(refund_id, set()).add(number)
        for refund_id, numbers in sorted(by_id.items()):
            known = {row.refund_id for row in family[0].refunds}
            left = remaining(told_money(block, items), [row.lines for row in family[0].refunds])
            taken = {line: money for line, money in left.items() if line[0] in numbers and min(money) >= 0 and any(money)}
            if not taken or refund_id in known or refund_id in newer.known_refunds:
                continue
            why = Why("line_refunded", BY_CHANNEL)
            refund(family, refund_id, taken, newer.order.source_modified_at, why, work, shipped=newer.is_shipped)


def _version(order: ChannelOrder, block: Order, receiver: Receiver | None, is_new_receiver: bool) -> versions.Version:
    """A version as the comparison takes it. The receiver counts as one more fact: whether it is another one."""
    return versions.Version(
        trade_state=order.trade_state,
        is_closed=dispose(facts_of(order, ())).code == "closed_by_channel",
        lines=[
            versions.Line(
                told.line,
                told.sku_id,
                told.quantity,
                told.refund_state,
                given.refund_id,
                money=(told.paid_minor, told.receivable_minor, told.tax_minor),
                dispatch=told.ship_not_before,
            )
            for given, told in zip(order.lines, block.lines, strict=True)
        ],
        receiver=is_new_receiver,
        notes=_notes(order),
        money=(block.freight.paid_minor, block.freight.receivable_minor, block.freight.tax_minor),
        dispatch=(
            order.fulfilment.kind,
            order.fulfilment.place_id,
            order.presale,
            order.group_state,
            order.risk_locked,
            order.wanted_carrier,
            order.ship_before,
        ),
        other=(
            order.invoice.model_dump_json(),
            order.payment_state in ("unpaid", "part_paid"),
            order.refund_state == "applied",
        ),
    )


def _notes(order: ChannelOrder) -> tuple[str, str, str | None]:
    return order.notes.buyer_note, order.notes.seller_note, order.notes.seller_flag


def _is_new_receiver(before: Receiver | None, now: Receiver | None) -> bool:
    """Whether goods are to go to somebody or somewhere else. Platforms blot a receiver out after a while: that is no change."""
    if now is None or now == before:
        return False
    if before is None:
        return True
    return not (now.handle == before.handle and any(MASK in text for text in (now.name, now.phone, now.street)))


def _with_rates(order: ChannelOrder, told: Order) -> ChannelOrder:
    """Tax rates that the channel does not name stay those that were told: the catalogue's may have changed since."""
    rates = {(line.channel_line_id, line.sku_id): line.tax_rate_bp for line in told.lines}
    lines = [
        line
        if line.tax_rate_bp is not None
        else line.model_copy(update={"tax_rate_bp": rates.get((line.channel_line_id, line.sku_id))})
        for line in order.lines
    ]
    freight = told.freight.tax_rate_bp if order.freight_tax_rate_bp is None else order.freight_tax_rate_bp
    return order.model_copy(update={"lines": lines, "freight_tax_rate_bp": freight})


def _beyond(lower: Mapping[int, int], told: Order, bundles: Bundles, left: Iterable[Mapping[Key, int]]) -> dict[Key, int]:
    """Units of these lines that are left and shall not be."""
    skus = {line.line: line.sku_id for line in told.lines}
    total: dict[Key, int] = {}
    for units_left in left:
        for key, units in units_left.items():
            if key[1] in lower:
                total[key] = total.get(key, 0) + units
    beyond = {}
    for key, units in total.items():
        counts = bundles.get(key[1]) or {skus.get(key[1], key[2]): 1}
        keep = lower[key[1]] * counts.get(key[2], 0)
        if units > keep:
            beyond[key] = units - keep
    return beyond


def _money_changes(told: Order, block: Order, items: Mapping[str, Item]) -> list[MoneyChange]:
    """Every line whose money is another than before; not those whose money went back, which their refund tells."""
    refunded = {line.line for line in (*told.lines, *block.lines) if line.refund_state in ("refunded", "approved_wait_return")}
    before, now = told_money(told, items), told_money(block, items)
    return [
        MoneyChange(
            origin_order_id=block.order_id,
            origin_line=line[0],
            sku_id=line[1],
            previous=_line_money(before.get(line, NOTHING)),
            current=_line_money(now.get(line, NOTHING)),
        )
        for line in sorted({*before, *now}, key=lambda line: (line[0], line[1] or ""))
        if before.get(line) != now.get(line) and line[0] not in refunded
    ]


def _line_money(money: Money) -> LineMoney:
    return LineMoney(paid_minor=money.paid_minor, receivable_minor=money.receivable_minor, tax_minor=money.tax_minor)


def _grown(told: Order, block: Order, items: Mapping[str, Item]) -> tuple[dict[Key, int], set[str]]:
    """Units that are wanted beyond the version before, and SKUs among them that the catalogue lacks."""
    before = {(line.line, line.sku_id): line.quantity for line in told.lines}
    grown: dict[Key, int] = {}
    missing: set[str] = set()
    for line in block.lines:
        more = line.quantity - before.get((line.line, line.sku_id), 0)
        if more <= 0 or line.refund_state in ("refunded", "approved_wait_return"):
            continue
        bundle = items[line.sku_id].bundle if line.sku_id in items else ()
        unknown = [sku for sku in (line.sku_id, *(part.sku_id for part in bundle)) if sku not in items]
        if unknown:
            missing.update(unknown)
            continue
        for moving in moved_by(block, line, items):
            grown[_key(moving)] = moving.quantity // line.quantity * more
    return grown, missing


def _scaled(now: PartLine | None, before: PartLine | None, units: int) -> PartLine:
    """Units of a line with the money that the new version gives them."""
    if now is not None and units <= now.quantity:
        return portion(now, units)
    line = before or now
    if line is None:
        raise ValueError("a line of no version")
    return line.model_copy(update={"quantity": units})


def _pending(
    member: Dossier, part: Part, now: Mapping[Key, PartLine], grown: Mapping[Key, int], bundles: Bundles, block: Order
) -> str:
    """The part as it will have been sent once new units are accepted: what is left, and all that was ever asked to cancel."""
    sent, sent_bundles = member.sent
    before = {_key(line): line for line in sent.lines}
    lines = [
        _scaled(now.get(key), before.get(key), before[key].quantity + grown[key] if key in before else grown[key])
        if key in grown
        else before[key]
        for key in dict.fromkeys((*before, *grown))
    ]
    return stored_part(block, part.model_copy(update={"lines": lines}), {**sent_bundles, **bundles})


def _freight(live: Part, block: Order) -> dict[str, object]:
    """The freight of a part that carries it, with the new version's money."""
    if not live.freight or not block.freight.receivable_minor:
        return {}
    (carried, *others) = live.freight
    money = {name: getattr(block.freight, name) for name in ("paid_minor", "receivable_minor", "tax_minor")}
    return {"freight": [carried.model_copy(update=money), *others]}


def _key(line: PartLine) -> Key:
    return (line.origin_order_id, line.origin_line, line.sku_id)
