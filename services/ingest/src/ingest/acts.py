"""What can be done to an order after it came: cancel, withdraw, change, refund, confirm receipt, and what the stages answer.

Works on dossiers in memory; who calls loads them under their locks, and saves them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID, uuid5

from pydantic_core import from_json, to_json

from contracts import (
    CancellationSettled,
    CancelRequested,
    CancelWithdrawn,
    ChangeRequested,
    ChangeSettled,
    Destination,
    MoneyChange,
    Order,
    OrderReceived,
    OriginQuantity,
    Part,
    PartLine,
    ReceiptConfirmed,
    ReceiverSealed,
    RefundedLine,
    RefundSettled,
    SettledLine,
)
from eventing import UnitOfWork
from ingest.blocks import moved_by, portion
from ingest.domain import requests as rules
from ingest.domain.arrival import State
from ingest.domain.bundles import sets_of
from ingest.domain.refunds import NOTHING, LineNo, Money
from ingest.domain.requests import Accepted, Asked, ImpossibleSettlementError, Key, Refused, Settled
from ingest.domain.requests import Progress as RequestProgress
from ingest.dossier import SERVICE, Bundles, Dossier, Family
from ingest.privacy import Envelope, Sealed
from ingest.store.catalog import Item
from ingest.store.requests import RefundRow, RequestRow

FREIGHT: LineNo = (0, None)
NOT_SEALED = Sealed("", b"", b"", b"")
"""Of an order taken up again: the channel's version is kept with the first one."""


@dataclass(frozen=True, slots=True)
class Why:
    """Who wants something, and why."""

    reason: str
    by: str
    note: str = ""
    reference: str | None = None


def stage_of(dossier: Dossier) -> str:
    """Ingest's word for where an order stands."""
    if dossier.row.state is State.CANCELLED:
        return "cancelled"
    return "received" if dossier.is_sent else dossier.row.state.value


def cancel(dossier: Dossier, wanted: Mapping[Key, int] | None, why: Why, work: UnitOfWork) -> RequestRow | Refused:
    """Ask to cancel these units, or all that is left. An order that was not sent yet gives them up at once."""
    if dossier.row.state is State.CLOSED:
        return Refused({}, dict(wanted or {}))
    request_id = work.new_id()
    answer = rules.ask(dossier.state, request_id, wanted)
    if isinstance(answer, Refused):
        return answer
    row = RequestRow(
        request_id,
        dossier.order_id,
        "cancel",
        why.reason,
        why.by,
        work.now,
        is_sent=dossier.is_sent,
        lines=dict(answer.state.requests[request_id].lines),
        note=why.note,
        reference=why.reference,
        code="cancel_requested",
    )
    if dossier.is_sent:
        dossier.put_request(row)
        _request_cancel(dossier, row, answer, work)
    else:
        _cancel_unsent(dossier, row, answer, work)
    return row


def _request_cancel(dossier: Dossier, row: RequestRow, answer: Accepted, work: UnitOfWork) -> None:
    units = sum(answer.lines.values())
    dossier.events.append(
        CancelRequested(
            root_id=dossier.order_id,
            order_id=dossier.order_id,
            progress=dossier.progress(stage_of(dossier), "cancel_requested", {"by": row.requested_by, "units": units}, work),
            request_id=row.request_id,
            lines=_quantities(answer.lines),
            whole=answer.whole,
            reason=row.reason,
            requested_by=row.requested_by,
        )
    )


def _cancel_unsent(dossier: Dossier, row: RequestRow, answer: Accepted, work: UnitOfWork) -> None:
    ordered = {line.line: line.quantity for line in dossier.block.lines}
    row.lines = {key: Asked(units, cancelled=units) for key, units in answer.lines.items()}
    row.codes = dict.fromkeys(answer.lines, "cancelled_unsent")
    row.quantities_then = {key: ordered[key[1]] for key in answer.lines}
    row.progress, row.settled_at, row.code = RequestProgress.CLOSED, work.now, "cancelled_unsent"
    dossier.put_request(row)
    if not any(dossier.left_unsent().values()):
        dossier.row.state, dossier.row.code = State.CANCELLED, "cancelled"
        dossier.is_decided = True
    dossier.events.append(
        CancellationSettled(
            root_id=dossier.order_id,
            order_id=dossier.order_id,
            progress=dossier.progress(stage_of(dossier), "cancelled_unsent", {}, work),
            request_id=row.request_id,
            settled_by=SERVICE,
            lines=[
                SettledLine(origin_order_id=key[0], origin_line=key[1], sku_id=key[2], cancelled=units, code="cancelled_unsent")
                for key, units in sorted(answer.lines.items())
            ],
            reason=row.reason,
            requested_by=row.requested_by,
        )
    )


def withdraw(family: Family, dossier: Dossier, row: RequestRow, why: Why, work: UnitOfWork) -> None:
    """Take a cancel back: its holder lets go what is not settled, and what was cancelled starts again.

    An order that was never sent is parked again instead; who calls decides about it anew.
    """
    if row.progress is RequestProgress.WITHDRAWN:
        return
    if not row.is_sent:
        row.progress, row.code = RequestProgress.WITHDRAWN, "withdrawn"
        dossier.put_request(row)
        if not dossier.is_sent:
            dossier.row.state, dossier.row.code = State.PARKED, "cancel_restored"
            dossier.note("parked", "cancel_restored", {"by": why.by}, work)
        return
    result = rules.withdraw(dossier.state, row.request_id)
    row.progress, row.code = RequestProgress.WITHDRAWN, "withdrawn"
    dossier.put_request(row)
    if result.is_sent:
        dossier.events.append(
            CancelWithdrawn(
                root_id=dossier.order_id,
                order_id=dossier.order_id,
                progress=dossier.progress(stage_of(dossier), "cancel_withdrawn", {"by": why.by}, work),
                request_id=row.request_id,
                reason=why.reason,
            )
        )
    if result.revive:
        row.revived_as = revive(family, dossier, row, result.revive, work).order_id


def revive(family: Family, source: Dossier, row: RequestRow, units: Mapping[Key, int], work: UnitOfWork) -> Dossier:
    """Take cancelled units up again as an order of their own, with the money they had. Freight comes along where nothing else
    is left to carry it."""
    first = family[0]
    again = len(family)
    order_id = uuid5(first.order_id, f"again:{again}")
    part, bundles = source.sent
    lines = []
    for line in part.lines:
        taken = units.get(line.key, 0)
        if taken:
            lines.append(_revived(line, taken, row.money.get(line.key)))
    is_carrier = source.state.is_cancelled and not any(
        member.sent[0].freight for member in family if member.row.again > source.row.again
    )
    block = source.block.model_copy(update={"order_id": order_id, "again": again})
    revived = Part(order_id=order_id, root_id=order_id, lines=lines, freight=part.freight if is_carrier else [])
    own = replace(
        source.row,
        order_id=order_id,
        again=again,
        step=0,
        state=State.SENT,
        code="order_revived",
        flags=[],
        received_at=work.now,
        sealed=NOT_SEALED,
        block=block.model_dump_json(),
        missing_skus=(),
    )
    dossier = Dossier(own, is_new=True)
    dossier.put_part(revived, {number: counts for number, counts in bundles.items() if any(key[1] == number for key in units)})
    dossier.events.append(
        OrderReceived(
            root_id=order_id,
            order_id=order_id,
            progress=dossier.progress("received", "order_revived", {"again": again}, work),
            order=block,
            part=revived,
            revives=first.order_id,
        )
    )
    family.append(dossier)
    return dossier


def _revived(line: PartLine, units: int, told: tuple[int, Money] | None) -> PartLine:
    """These units with what they brought along when they were cancelled, or else as if all had been one part until then."""
    if told is not None and told[0] == units:
        return line.model_copy(update={"quantity": units, **told[1]._asdict()})
    return line if units == line.quantity else line.divide(line.quantity - units)[1]


def settle(
    family: Family, dossier: Dossier, event: CancellationSettled, lines: Sequence[SettledLine], work: UnitOfWork
) -> None:
    """Take one stage's answer to a cancel in. A request never heard of is one that the stage made itself.

    **Errors**: ImpossibleSettlementError.
    """
    if not dossier.is_sent:
        raise ImpossibleSettlementError(f"order {dossier.order_id} was never sent")
    answers = [Settled((line.origin_order_id, line.origin_line, line.sku_id), line.cancelled, line.refused) for line in lines]
    result = rules.settle(dossier.state, event.request_id, answers)
    row = dossier.requests.get(event.request_id) or RequestRow(
        event.request_id,
        dossier.order_id,
        "cancel",
        event.reason or "operator",
        event.requested_by or event.settled_by,
        work.now,
        is_ours=False,
    )
    row.lines, row.progress = dict(result.request.lines), result.request.progress
    row.codes.update({answer.key: line.code for answer, line in zip(answers, lines, strict=True)})
    row.code = lines[-1].code
    for answer, line in zip(answers, lines, strict=True):
        if line.paid_minor is not None and line.receivable_minor is not None and line.tax_minor is not None:
            units, money = row.money.get(answer.key, (0, NOTHING))
            more = Money(line.paid_minor, line.receivable_minor, line.tax_minor)
            row.money[answer.key] = units + line.cancelled, money.plus(more)
    dossier.put_request(row)
    if result.state.is_cancelled and dossier.row.state is State.SENT:
        dossier.row.state, dossier.row.code, dossier.row.changed_at = State.CANCELLED, "cancelled", work.now
        dossier.is_changed = True
    if not result.is_answered:
        return
    row.settled_at = work.now
    for number in uneven_bundles(dossier.sent[1], row):
        dossier.open_case("bundle_uneven", str(row.request_id), {"line": number})
    if result.revive:
        if is_refunded(family, row):
            dossier.open_case("revival_refused", str(row.request_id))
        else:
            row.revived_as = revive(family, dossier, row, result.revive, work).order_id


def is_refunded(family: Family, row: RequestRow) -> bool:
    """Whether money of lines that a request cancelled has gone back: then they cannot be taken up again."""
    cancelled = {key[1] for key, line in row.lines.items() if line.cancelled}
    return any(number in cancelled for refunded in family[0].refunds for number, _ in refunded.lines)


def uneven_bundles(bundles: Bundles, row: RequestRow) -> list[int]:
    """Lines of bundles of which parts were cancelled and others not."""
    found = []
    for number, counts in bundles.items():
        units = {key[2]: line.cancelled for key, line in row.lines.items() if key[1] == number}
        if not sets_of(units, counts).even:
            found.append(number)
    return found


@dataclass(frozen=True, slots=True)
class Change:
    """A change as it is to be asked for."""

    fields: tuple[str, ...]
    block: Order
    part: Part
    """What is left of the order, as it now is."""
    pending: str = ""
    """The part as it will have been sent once the change applies; empty where no quantity changes."""
    money: Sequence[MoneyChange] = ()
    former: str = ""
    """What `former_receiver` says, where a person asks for another receiver."""


def former_receiver(block: Order, *, asked_ref: UUID) -> str:
    """How an order stands for which another receiver is asked for: a refusal takes it back there."""
    before = {
        "receiver_ref": block.receiver_ref and str(block.receiver_ref),
        "destination": block.destination and block.destination.model_dump(mode="json"),
    }
    return to_json({"asked_ref": str(asked_ref), "before": before}).decode()


def ask_change(dossier: Dossier, change: Change, why: Why, work: UnitOfWork) -> RequestRow:
    """Ask whoever holds the order to let it be so."""
    row = RequestRow(
        work.new_id(),
        dossier.order_id,
        "change",
        why.reason,
        why.by,
        work.now,
        note=why.note,
        reference=why.reference,
        fields=change.fields,
        part=change.pending,
        code="change_requested",
        former=change.former,
    )
    dossier.put_request(row)
    dossier.events.append(
        ChangeRequested(
            root_id=dossier.order_id,
            order_id=dossier.order_id,
            progress=dossier.progress(stage_of(dossier), "change_requested", {"fields": list(change.fields)}, work),
            request_id=row.request_id,
            fields=list(change.fields),
            order=change.block,
            part=change.part,
            money=list(change.money),
            requested_by=why.by,
        )
    )
    return row


def settle_change(dossier: Dossier, event: ChangeSettled, work: UnitOfWork) -> None:
    """Take one holder's answer to a change in; closed once every field was answered by somebody.

    **Errors**: ImpossibleSettlementError.
    """
    row = dossier.requests.get(event.request_id)
    if row is None:
        raise ImpossibleSettlementError(f"nobody asked for change {event.request_id}")
    row.applied = tuple(dict.fromkeys((*row.applied, *event.applied)))
    row.refused = tuple(dict.fromkeys((*row.refused, *event.refused)))
    row.code = event.code
    if row.part and "lines" in event.applied:
        dossier.row.part = row.part
        dossier.has_new_document = True
    if {*row.fields} <= {*row.applied, *row.refused} and row.progress is RequestProgress.OPEN:
        row.progress, row.settled_at = RequestProgress.CLOSED, work.now
        if row.former and "receiver" not in row.applied:
            _take_back_receiver(dossier, row)
        row.former = ""
    if event.refused:
        dossier.open_case("change_refused", str(row.request_id), {"fields": list(event.refused)})
    dossier.put_request(row)


def _take_back_receiver(dossier: Dossier, refused: RequestRow) -> None:
    """Show the order as it was before a change that every holder refused; one asked for since stays, and starts from there."""
    told = from_json(refused.former)
    before = told["before"]
    block = dossier.block
    if str(block.receiver_ref) == told["asked_ref"]:
        dossier.row.former_ref = block.receiver_ref  # It was sealed and sent: an erasure must find it.
        destination = before["destination"] and Destination.model_validate(before["destination"])
        receiver_ref = before["receiver_ref"] and UUID(before["receiver_ref"])
        dossier.put_block(block.model_copy(update={"receiver_ref": receiver_ref, "destination": destination}))
    for later in dossier.requests.values():
        if later.former and from_json(later.former)["before"]["receiver_ref"] == told["asked_ref"]:
            later.former = to_json(from_json(later.former) | {"before": before}).decode()
            dossier.put_request(later)


def live_part(dossier: Dossier) -> Part | None:
    """What is left of an order, less all that was asked to cancel; None where nothing is."""
    part, _ = dossier.sent
    left = dossier.state.left()
    lines = []
    for line in part.lines:
        units = min(left.get(line.key, 0), line.quantity)
        if units:
            lines.append(portion(line, units))
    return part.model_copy(update={"lines": lines}) if lines else None


def told_money(block: Order, items: Mapping[str, Item]) -> dict[LineNo, Money]:
    """The money of an order as its latest version has it, per line and SKU, and its freight."""
    told: dict[LineNo, Money] = {
        (line.line, moving.sku_id): Money(moving.paid_minor, moving.receivable_minor, moving.tax_minor)
        for line in block.lines
        for moving in moved_by(block, line, items)
    }
    freight = block.freight
    if freight.receivable_minor:
        told[FREIGHT] = Money(freight.paid_minor, freight.receivable_minor, freight.tax_minor)
    return told


def refund(
    family: Family,
    refund_id: str,
    taken: Mapping[LineNo, Money],
    settled_at: datetime,
    why: Why,
    work: UnitOfWork,
    *,
    shipped: bool,
) -> RefundRow:
    """Tell that money went back. What the goods do is another matter: people look where they are out."""
    first = family[0]
    block = first.block
    row = RefundRow(block.channel, block.shop_id, refund_id, first.order_id, dict(taken), settled_at)
    first.refunds.append(row)
    first.refunded.append(row)
    first.events.append(
        RefundSettled(
            root_id=first.order_id,
            order_id=first.order_id,
            progress=first.progress(
                stage_of(first), "refund_settled", {"amount_minor": row.amount_minor, "refund": refund_id}, work
            ),
            order=block,
            refund_id=refund_id,
            lines=[
                RefundedLine(
                    origin_order_id=first.order_id,
                    origin_line=number,
                    sku_id=sku_id,
                    paid_minor=money.paid_minor,
                    receivable_minor=money.receivable_minor,
                    tax_minor=money.tax_minor,
                )
                for (number, sku_id), money in taken.items()
            ],
            settled_at=settled_at,
            reason=why.reason,
        )
    )
    if shipped:
        first.open_case("refund_after_shipping", refund_id, {"amount_minor": row.amount_minor})
    return row


def confirm_receipt(
    dossier: Dossier, reference: str, confirmed_at: datetime, lines: Mapping[Key, int], work: UnitOfWork
) -> None:
    """Tell that the buyer has confirmed receipt of these units."""
    dossier.receipts.add(reference)
    dossier.confirmed.append((reference, confirmed_at))
    dossier.events.append(
        ReceiptConfirmed(
            root_id=dossier.order_id,
            order_id=dossier.order_id,
            progress=dossier.progress(stage_of(dossier), "receipt_confirmed", {}, work),
            order=dossier.block,
            lines=_quantities(lines),
            confirmed_at=confirmed_at,
            reference=reference,
        )
    )


def sealed_receiver(envelope: Envelope, clear: bytes, receiver_ref: UUID) -> ReceiverSealed:
    """A receiver as it travels."""
    sealed = envelope.seal(clear, str(receiver_ref))
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


def _quantities(lines: Mapping[Key, int]) -> list[OriginQuantity]:
    return [
        OriginQuantity(origin_order_id=origin, origin_line=number, sku_id=sku_id, quantity=units)
        for (origin, number, sku_id), units in sorted(lines.items())
    ]
