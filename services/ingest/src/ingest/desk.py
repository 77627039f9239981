"""What callers ask of an order over HTTP, each in the caller's transaction: find it, do it, note it, or say why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts import Notes, Receiver
from eventing import UnitOfWork
from ingest import dossier as dossiers
from ingest import store
from ingest.acts import (
    Change,
    Why,
    ask_change,
    cancel,
    confirm_receipt,
    former_receiver,
    is_refunded,
    live_part,
    refund,
    sealed_receiver,
    told_money,
    withdraw,
)
from ingest.domain.arrival import State
from ingest.domain.bundles import sets_of
from ingest.domain.refunds import TooMuch, refund_lines, refund_order, remaining
from ingest.domain.requests import Key, Progress, Refused
from ingest.dossier import Dossier, Family
from ingest.intake import Gateway
from ingest.privacy import destination_of, note_flags_of
from ingest.store.requests import Kind, RefundRow, RequestRow
from webapi.problems import FieldError, Problem


@dataclass(frozen=True, slots=True)
class Named:
    """An order as a caller names it."""

    order_id: UUID
    by_channel: bool = False
    """By the channel's number: of an order that was taken up again, the latest with anything left."""


@dataclass(frozen=True, slots=True)
class Units:
    """A line by its number or by the channel's own id of it; all of it without a quantity."""

    line: int | None
    channel_line_id: str | None
    quantity: int | None


class Desk:
    """Carries requests out. Problems it raises roll everything back."""

    def __init__(self, gateway: Gateway, work: UnitOfWork) -> None:
        self._gateway = gateway
        self._work = work

    async def find(self, named: Named) -> tuple[Family, Dossier]:
        """The order and its family, locked. A part's id names the whole order that it belongs to.

        **Errors**: 404; 409 where it belongs to several.
        """
        order_id, first = await find_first(self._work, named.order_id)
        family = (await dossiers.load(self._work, [first]))[first]
        if named.by_channel:
            return family, next((member for member in reversed(family) if member.state.left()), family[-1])
        return family, next(member for member in family if member.order_id == order_id)

    async def cancel(self, named: Named, lines: Sequence[Units] | None, why: Why) -> RequestRow:
        """Ask to cancel lines of an order, or all that is left of it.

        **Errors**: 404; 422 for lines that the order does not have; 409 for more than is left.
        """
        family, dossier = await self.find(named)
        if known := _by_reference(family if named.by_channel else [dossier], "cancel", why.reference):
            return known
        wanted = None if lines is None else _keys_of(dossier, lines)
        answer = cancel(dossier, wanted, why, self._work)
        if isinstance(answer, Refused):
            raise _nothing_left(dossier, lines, answer)
        await dossiers.save(self._work, family)
        return answer

    async def withdraw(self, request_id: UUID, why: Why) -> list[RequestRow]:
        """Take a cancel back.

        **Errors**: 404; 409 once its money has gone back.
        """
        spoken_of = (await store.requests.find_orders_of(self._work, [request_id])).get(request_id)
        if not spoken_of:
            raise Problem("cancellation_not_found", status=404)
        rows = []
        firsts = await store.orders.find_firsts(self._work, spoken_of)
        families = await dossiers.load(self._work, set(firsts.values()))
        for family in families.values():
            for member in list(family):
                row = member.requests.get(request_id)
                if row is None:
                    continue
                if row.kind != "cancel":
                    raise Problem("cancellation_not_found", status=404)
                if row.progress is not Progress.WITHDRAWN and row.pure.is_answered and is_refunded(family, row):
                    raise Problem("cancellation_refunded", status=409)
                withdraw(family, member, row, why, self._work)
                if member.row.state is State.PARKED:
                    await self._gateway.redecide({member.order_id: member}, self._work)
                rows.append(row)
            await dossiers.save(self._work, family)
        return rows

    async def change(self, named: Named, receiver: Receiver | None, notes: Notes | None, why: Why) -> RequestRow:
        """Ask for another receiver or other notes. A parked order takes them at once.

        **Errors**: 404; 409 where nothing of the order is left.
        """
        family, dossier = await self.find(named)
        if known := _by_reference(family if named.by_channel else [dossier], "change", why.reference):
            return known
        fields = tuple(name for name, value in (("receiver", receiver), ("note", notes)) if value is not None)
        if dossier.is_sent:
            row = self._change_sent(dossier, fields, receiver, notes, why)
        else:
            row = await self._change_parked(dossier, fields, receiver, notes, why)
        await dossiers.save(self._work, family)
        return row

    def _change_sent(
        self, dossier: Dossier, fields: tuple[str, ...], receiver: Receiver | None, notes: Notes | None, why: Why
    ) -> RequestRow:
        part = live_part(dossier)
        if part is None:
            raise Problem("nothing_left", status=409)
        normaliser = self._gateway.normaliser
        block = dossier.block
        update: dict[str, Any] = {}
        former = ""
        if notes is not None:
            update["notes"] = note_flags_of(notes, normaliser.note_keywords)
        if receiver is not None:
            receiver_ref = self._work.new_id()
            clear = receiver.model_dump_json().encode()
            dossier.events.append(sealed_receiver(self._gateway.envelope, clear, receiver_ref))
            dossier.row.former_ref = block.receiver_ref
            former = former_receiver(block, asked_ref=receiver_ref)
            update |= {"receiver_ref": receiver_ref, "destination": destination_of(receiver, normaliser.tokens)}
        changed = block.model_copy(update=update)
        dossier.put_block(changed)
        return ask_change(dossier, Change(fields, changed, part, former=former), why, self._work)

    async def _change_parked(
        self, dossier: Dossier, fields: tuple[str, ...], receiver: Receiver | None, notes: Notes | None, why: Why
    ) -> RequestRow:
        if dossier.row.state is not State.PARKED:
            raise Problem("nothing_left", status=409)
        update: dict[str, Any] = {}
        if receiver is not None:
            update["receiver"] = receiver
        if notes is not None:
            update["notes"] = notes
        await self._gateway.amend(dossier, update, self._work)
        row = RequestRow(
            self._work.new_id(), dossier.order_id, "change", why.reason, why.by, self._work.now,
            is_sent=False, progress=Progress.CLOSED, note=why.note, reference=why.reference, fields=fields, applied=fields,
            code="change_applied", settled_at=self._work.now,
        )  # fmt: skip
        dossier.put_request(row)
        return row

    async def refund(
        self,
        named: Named,
        refund_id: str,
        amount_minor: int | None,
        lines: Sequence[tuple[int, int]] | None,
        settled_at: datetime,
        why: Why,
    ) -> RefundRow:
        """Tell that money went back, once for ever per refund of the shop.

        **Errors**: 404; 409 for an order that was not sent, for more than was paid, for a refund told otherwise before.
        """
        family, _ = await self.find(named)
        first = family[0]
        if not first.is_sent:
            raise Problem("order_not_sent", status=409)
        block = first.block
        key = (block.channel, block.shop_id, refund_id)
        known = (await store.requests.find_refunds_by_id(self._work, [key])).get(key)
        amounts: dict[int, int] = {}
        for number, amount in lines or ():
            amounts[number] = amounts.get(number, 0) + amount
        asked = amount_minor if amount_minor is not None else sum(amounts.values())
        if known is not None:
            if known.order_id != first.order_id or known.amount_minor != asked:
                raise Problem("refund_known", status=409)
            return known
        items = await self._gateway.find_items({line.sku_id for line in block.lines}, self._work)
        left = remaining(told_money(block, items), [row.lines for row in first.refunds])
        numbers = {number for number, _ in left}
        if unknown := [index for index, (number, _) in enumerate(lines or ()) if number not in numbers]:
            errors = [FieldError(f"lines.{index}.line", "line_unknown") for index in unknown]
            raise Problem("invalid_request", status=422, errors=errors)
        taken = refund_order(asked, left) if amount_minor is not None else refund_lines(amounts, left)
        if isinstance(taken, TooMuch):
            at = next((index for index, (number, _) in enumerate(lines or ()) if number == taken.line), None)
            field = "amount_minor" if at is None else f"lines.{at}.amount_minor"
            errors = [FieldError(field, "only_money_left", {"left_minor": taken.left_minor})]
            raise Problem("refund_too_much", status=409, params={"left_minor": taken.left_minor}, errors=errors)
        shipped = await store.requests.find_shipped(self._work, {member.order_id for member in family})
        row = refund(family, refund_id, taken, settled_at, why, self._work, shipped=bool(shipped))
        try:
            await dossiers.save(self._work, family)
        except store.requests.RefundKnownError:
            raise Problem("refund_known", status=409) from None
        return row

    async def confirm_receipt(
        self, named: Named, reference: str, confirmed_at: datetime, lines: Sequence[Units] | None
    ) -> tuple[UUID, bool]:
        """Tell that the buyer has confirmed receipt; the order, and whether this is news.

        **Errors**: 404; 422; 409 where nothing of the order, or less than said, is left.
        """
        family, dossier = await self.find(named)
        for told in family if named.by_channel else [dossier]:
            if reference in told.receipts:
                return told.order_id, False
        if not dossier.is_sent:
            raise Problem("order_not_sent", status=409)
        left = dossier.state.left()
        asked = left if lines is None else _keys_of(dossier, lines)
        wanted = {key: units for key, units in asked.items() if units}
        beyond = {key: units - left.get(key, 0) for key, units in wanted.items() if units > left.get(key, 0)}
        if beyond or not wanted:
            raise _nothing_left(dossier, lines, Refused(left, beyond or asked))
        confirm_receipt(dossier, reference, confirmed_at, wanted, self._work)
        await dossiers.save(self._work, family)
        return dossier.order_id, True


async def find_first(work: UnitOfWork, order_id: UUID) -> tuple[UUID, UUID]:
    """The order that an id means, which for a part is the one it was split from, and the first of its family.

    **Errors**: 404; 409 where several channel orders travel under the id.
    """
    firsts = await store.orders.find_firsts(work, [order_id])
    if order_id in firsts:
        return order_id, firsts[order_id]
    roots = await store.book.find_channel_orders(work.connection, order_id)
    if len(roots) > 1:
        raise Problem("order_of_several", status=409, params={"orders": ", ".join(map(str, roots))})
    if not roots:
        raise Problem("order_not_found", status=404)
    return roots[0], (await store.orders.find_firsts(work, roots))[roots[0]]


def _by_reference(named: Sequence[Dossier], kind: Kind, reference: str | None) -> RequestRow | None:
    """The request that the caller made under this reference before."""
    if reference is None:
        return None
    rows = (row for dossier in named for row in dossier.requests.values())
    return next((row for row in rows if row.kind == kind and row.reference == reference), None)


def _keys_of(dossier: Dossier, lines: Sequence[Units]) -> dict[Key, int]:
    """Lines in the channel's units as units of what moves.

    **Errors**: 422 for a line that the order does not have, or whose id two lines have.
    """
    number_of = _line_finder(dossier)
    counts = _counts(dossier)
    left = dossier.state.left()
    origin = dossier.row.first_order_id
    wanted: dict[Key, int] = {}
    errors = []
    for index, units in enumerate(lines):
        number = number_of(units)
        if not isinstance(number, int):
            field = "line" if units.line is not None else "channel_line_id"
            errors.append(FieldError(f"lines.{index}.{field}", number))
            continue
        for sku_id, count in counts[number].items():
            key = (origin, number, sku_id)
            more = left.get(key, 0) if units.quantity is None else units.quantity * count
            wanted[key] = wanted.get(key, 0) + more
    if errors:
        raise Problem("invalid_request", status=422, errors=errors)
    return wanted


def _line_finder(dossier: Dossier) -> Callable[[Units], int | str]:
    counts = _counts(dossier)
    by_channel_id: dict[str, list[int]] = {}
    for line in dossier.block.lines:
        by_channel_id.setdefault(line.channel_line_id, []).append(line.line)

    def find(units: Units) -> int | str:
        numbers = [units.line] if units.line is not None else by_channel_id.get(units.channel_line_id or "", [])
        if len(numbers) > 1:
            return "line_ambiguous"
        return numbers[0] if numbers and numbers[0] in counts else "line_unknown"

    return find


def _counts(dossier: Dossier) -> dict[int, Mapping[str, int]]:
    """By line: units of each SKU that moves in one unit of the channel's line."""
    counts: dict[int, Mapping[str, int]] = {key[1]: {key[2]: 1} for key in dossier.state.units}
    if dossier.is_sent:
        counts.update(dossier.sent[1])
    return counts


def _nothing_left(dossier: Dossier, lines: Sequence[Units] | None, refused: Refused) -> Problem:
    """More is asked for than is left: which line, and how much of it is."""
    if not lines or not refused.left:
        return Problem("nothing_left", status=409)
    number_of = _line_finder(dossier)
    counts = _counts(dossier)
    beyond = {key[1] for key in refused.beyond}
    errors = []
    for index, units in enumerate(lines):
        number = number_of(units)
        if isinstance(number, int) and number in beyond:
            of_line = {key[2]: left for key, left in refused.left.items() if key[1] == number}
            params = {"line": number, "left": sets_of(of_line, counts[number]).whole}
            errors.append(FieldError(f"lines.{index}.quantity", "only_units_left", params))
    return Problem("too_much_asked", status=409, errors=errors)
