"""What arrives on `order.received`: orders, and in-band requests about them."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from audit.domain.cancelling import LineKey
from audit.domain.changing import Replace, case_id, judge_change
from audit.domain.facts import Known, OrderFacts
from audit.domain.holds import CLEARED, MERGED
from audit.domain.rules import RuleSet
from audit.handlers.desk import Desk, settled_lines
from audit.handlers.judging import ActiveRules, facts_of, look_up
from audit.store import rules as rule_store
from audit.store.cases import NewCase
from audit.store.orders import OrderRow
from contracts import (
    CancelForwarded,
    CancellationSettled,
    CancelRequested,
    CancelWithdrawn,
    CatalogItem,
    ChangeForwarded,
    ChangeRequested,
    ChangeSettled,
    Order,
    OrderReceived,
    OriginQuantity,
    Progress,
    SettledLine,
    WithdrawalForwarded,
)
from eventing import Received, UnitOfWork

Request = CancelRequested | CancelWithdrawn | ChangeRequested


class UnknownOrderError(LookupError):
    """A change or withdrawal of an order that never came, although both travel behind it. Poison: the key is parked."""


class Auditor:
    """Handles what ingest sends; remembers the active rule set."""

    def __init__(self, rules: ActiveRules) -> None:
        self._rules = rules

    async def on_order_received(self, received: Sequence[Received[OrderReceived]], work: UnitOfWork) -> None:
        """Hold, clear or split. An order that audit has decided before stays as it is, whoever sends it again."""
        events: dict[UUID, OrderReceived] = {}
        for record in received:
            events.setdefault(record.event.order_id, record.event)
        facts = [facts_of(event.order, event.part) for event in events.values()]
        rules = await self._rules.get(work)
        known = await look_up(work, facts, rules)
        desk = Desk(work)
        for event, own_facts, own_known in zip(events.values(), facts, known, strict=True):
            desk.admit(event.order, event.part, own_facts, rules, own_known)
        await desk.save()

    async def on_requests(self, received: Sequence[Received[Request]], work: UnitOfWork) -> None:
        """Cancels, withdrawals and changes: done to what is held here, the rest passed on, in the order they came."""
        events = [record.event for record in received]
        desk = await Desk.lock(work, [event.root_id for event in events])
        changes = [event for event in events if isinstance(event, ChangeRequested)]
        judged_by: dict[int, tuple[OrderFacts, Known]] = {}
        rules = RuleSet(0, ())
        if changes:
            rules = await self._rules.get(work)
            facts = [facts_of(event.order, event.part) for event in changes]
            known = await look_up(work, facts, rules)
            judged_by = {id(event): (own, more) for event, own, more in zip(changes, facts, known, strict=True)}
        for event in events:
            if isinstance(event, CancelRequested):
                cancel(desk, event)
            elif isinstance(event, CancelWithdrawn):
                withdraw(desk, event)
            else:
                change(desk, event, rules, *judged_by[id(event)])
        await desk.save()


async def on_catalog_items(items: Sequence[CatalogItem], work: UnitOfWork) -> None:
    await rule_store.put_items(work, items)


def cancel(desk: Desk, event: CancelRequested) -> None:
    """Spend the request on what is held; pass on the rest, or refuse it where nothing of the order ever went on."""
    wanted: dict[LineKey, int] = {}
    for line in event.lines:
        wanted[line.key] = wanted.get(line.key, 0) + line.quantity
    root = desk.rows.get(event.root_id)
    if root is None:
        root = desk.add_cancelled(event.root_id)
        lines = settled_lines(wanted, code="cancelled_discarded")
        desk.say(root, _settlement(root, event.request_id, "cancelled_discarded", lines))
        return
    spent = desk.spend(event.root_id, wanted)
    went_on = not desk.nothing_went_on(event.root_id)
    for order_id, taken in spent.taken.items():
        desk.cancel(desk.rows[order_id], taken, request_id=event.request_id, code="cancelled_held", by=event.requested_by)
    if not spent.remainder:
        return
    if not went_on:
        desk.touch(root)
        lines = settled_lines(spent.remainder, code="nothing_to_cancel", refused=True)
        desk.say(root, _settlement(root, event.request_id, "nothing_to_cancel", lines))
        return
    speaker = desk.speaks_for(root)
    desk.say(
        speaker,
        CancelForwarded(
            root_id=speaker.root_id,
            order_id=speaker.order_id,
            progress=_progress(desk, speaker, "cancel_forwarded", {"units": sum(spent.remainder.values())}),
            request_id=event.request_id,
            lines=[
                OriginQuantity(origin_order_id=order_id, origin_line=line, sku_id=sku_id, quantity=units)
                for (order_id, line, sku_id), units in spent.remainder.items()
            ],
            # All of it went on as one order: who has it parked may drop it unseen.
            whole=event.whole and not spent.taken and root.state == CLEARED,
            reason=event.reason,
            requested_by=event.requested_by,
        ),
    )


def withdraw(desk: Desk, event: CancelWithdrawn) -> None:
    """Nothing is ever pending here; whoever has it pending gives it up."""
    root = _root(desk, event.root_id)
    if desk.nothing_went_on(event.root_id):
        return
    speaker = desk.speaks_for(root)
    by = event.progress.params.get("by", "channel")
    desk.say(
        speaker,
        WithdrawalForwarded(
            root_id=speaker.root_id,
            order_id=speaker.order_id,
            progress=_progress(desk, speaker, "cancel_withdrawn", {"by": by}),
            request_id=event.request_id,
            reason=event.reason,
        ),
    )


def change(desk: Desk, event: ChangeRequested, rules: RuleSet, facts: OrderFacts, known: Known) -> None:
    """Replace an order that is held whole; else apply and pass on receiver and note, and refuse the rest."""
    root = _root(desk, event.root_id)
    decision = judge_change(event.fields, event.root_id, desk.standings(event.root_id))
    if isinstance(decision, Replace):
        desk.replace(root, event.order, event.part)
        params = {"source_version": event.order.source_version}
        settled = _change_settled(root, event, root.step, "order_replaced", params, applied=event.fields)
        desk.say(root, settled)
        desk.rejudge(root, facts, rules, known, code="order_replaced", params=dict(params))
        return
    for order_id in decision.held:
        row = desk.rows[order_id]
        desk.replace(row, _with_fields(row.order, event.order, decision.applied), row.part)
        own = facts_of(row.order, row.part)
        desk.rejudge(row, own, rules, known, code="change_applied", params={"fields": list(decision.applied)})
    if decision.applied:
        told = {"fields": list(decision.applied)}
        desk.say(root, _change_settled(root, event, desk.touch(root), "change_applied", told, applied=decision.applied))
    if decision.refused:
        told = {"fields": list(decision.refused)}
        desk.say(root, _change_settled(root, event, desk.touch(root), "change_refused", told, refused=decision.refused))
    if decision.needs_person:
        desk.open_case(
            NewCase(
                case_id=case_id(event.request_id),
                kind="change_refused",
                root_id=event.root_id,
                request_id=event.request_id,
                channel=event.order.channel,
                shop_id=event.order.shop_id,
                fields=decision.refused,
                source_version=event.order.source_version,
            )
        )
    if decision.forwarded:
        speaker = desk.speaks_for(root)
        told = {"fields": list(decision.forwarded)}
        desk.say(
            speaker,
            ChangeForwarded(
                root_id=speaker.root_id,
                order_id=speaker.order_id,
                progress=_progress(desk, speaker, "change_forwarded", told),
                request_id=event.request_id,
                fields=list(decision.forwarded),
                order=event.order,
            ),
        )


def _root(desk: Desk, root_id: UUID) -> OrderRow:
    root = desk.rows.get(root_id)
    if root is None:
        raise UnknownOrderError(f"order {root_id} is not known here")
    return root


def _with_fields(held: Order, newer: Order, fields: Sequence[str]) -> Order:
    update: dict[str, object] = {}
    if "receiver" in fields:
        update |= {"receiver_ref": newer.receiver_ref, "destination": newer.destination}
    if "note" in fields:
        update["notes"] = newer.notes
    return held.model_copy(update=update)


def _progress(desk: Desk, row: OrderRow, code: str, params: Mapping[str, object]) -> Progress:
    return Progress(step=desk.touch(row), stage=row.state, code=code, params=dict(params))


def _settlement(root: OrderRow, request_id: UUID, code: str, lines: Sequence[SettledLine]) -> CancellationSettled:
    return CancellationSettled(
        root_id=root.root_id,
        order_id=root.order_id,
        progress=Progress(step=root.step, stage=_stage(root), code=code),
        request_id=request_id,
        settled_by="audit",
        lines=list(lines),
    )


def _change_settled(
    root: OrderRow,
    event: ChangeRequested,
    step: int,
    code: str,
    params: Mapping[str, object],
    *,
    applied: Sequence[str] = (),
    refused: Sequence[str] = (),
) -> ChangeSettled:
    return ChangeSettled(
        root_id=root.root_id,
        order_id=root.order_id,
        progress=Progress(step=step, stage=_stage(root), code=code, params=dict(params)),
        request_id=event.request_id,
        settled_by="audit",
        applied=list(applied),
        refused=list(refused),
        code=code,
    )


def _stage(row: OrderRow) -> str:
    # A parent of a merge has no stage of its own any more.
    return "cleared" if row.state == MERGED else row.state
