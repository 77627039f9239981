"""What audit does with what arrives: events, due timers, and the manual acts of `api.py`, through the same store functions."""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from audit import store
from audit.domain import (
    CLEARED,
    HELD,
    OPEN,
    REJECTED,
    RELEASED,
    Cleared,
    Held,
    Hold,
    OrderFacts,
    RuleSet,
    audit_reject_id,
    decide,
    release,
)
from contracts import (
    CancellationSettled,
    Order,
    OrderAudited,
    OrderEvent,
    OrderHeld,
    OrderReceived,
    Part,
    Progress,
    SettledLine,
)
from contracts import Hold as HoldOut
from eventing import NewTask, Received, Task, UnitOfWork

AUTO_RELEASE = "auto_release"


class NoRuleSetError(RuntimeError):
    """No rule set is active: clearing everything unseen would be worse than stopping."""


class Auditor:
    """Handles received orders; keeps the active rule set in memory until another is active."""

    def __init__(self) -> None:
        self._rules = RuleSet(0, ())

    async def on_order_received(self, received: Sequence[Received[OrderReceived]], work: UnitOfWork) -> None:
        """Hold or clear. An order that audit has decided before stays as it is, whoever sends it again."""
        events: dict[UUID, OrderReceived] = {}
        for record in received:
            events.setdefault(record.event.order_id, record.event)
        facts = [facts_of(event) for event in events.values()]
        rules = await self._active_rules(work)
        blacklisted = await store.find_blacklisted(work, {order.order_id: order.tokens for order in facts})
        outcomes = {
            order.order_id: decide(order, rules, blacklisted.get(order.order_id, frozenset()), now=work.now) for order in facts
        }
        rows = {order_id: new_order(events[order_id], outcome, rules.version) for order_id, outcome in outcomes.items()}
        added = await store.add_orders(work, rows.values())
        fresh = {order_id: outcome for order_id, outcome in outcomes.items() if order_id in added}
        placed = [(rows[hold.order_id], hold) for held in fresh.values() if isinstance(held, Held) for hold in held.holds]
        if placed:
            await store.add_holds(work, placed)
            work.add_tasks(
                NewTask(AUTO_RELEASE, str(hold.hold_id), hold.release_at, {"order_id": str(hold.order_id)})
                for _, hold in placed
                if hold.release_at is not None
            )
        work.emit(to_event(events[order_id], outcome, rules.version) for order_id, outcome in fresh.items())

    async def _active_rules(self, work: UnitOfWork) -> RuleSet:
        newer = await store.find_newer_rule_set(work, self._rules.version)
        if newer is not None:
            self._rules = newer
        if not self._rules.version:
            raise NoRuleSetError
        return self._rules


async def on_release_due(tasks: Sequence[Task], work: UnitOfWork) -> None:
    """A hold's time is up. One that a person has ended meanwhile stays as it is."""
    wanted: dict[UUID, set[UUID]] = {}
    for task in tasks:
        wanted.setdefault(UUID(task.payload["order_id"]), set()).add(UUID(task.key))
    await release_holds(work, wanted, by="timer", reason="")


async def release_holds(
    work: UnitOfWork, wanted: Mapping[UUID, Collection[UUID] | None], *, by: str, reason: str
) -> dict[UUID, store.LockedOrder]:
    """End holds by order (None: all open ones); an order whose last hold ends is cleared in the same transaction.

    Returns the orders as they were found. Timers of holds that a person ends are left to fire and find nothing: to cancel
    them here would take a task's lock after the order's, which a firing timer takes the other way round.
    """
    orders = await store.lock_orders(work, wanted)
    changes: list[store.OrderChange] = []
    events: list[OrderEvent] = []
    closed: list[UUID] = []
    for order in orders.values():
        outcome = release(order.holds, wanted[order.order_id])
        if not outcome.closed:
            continue
        state = HELD if outcome.still_open else CLEARED
        closed += outcome.closed
        changes.append(
            store.OrderChange(order_id=order.order_id, step=order.step + 1, state=state, open_holds=len(outcome.still_open))
        )
        events.append(release_event(order, outcome.still_open, by=by))
    if changes:
        await store.record_changes(work, changes)
        await store.close_holds(work, closed, state=RELEASED, by=by, reason=reason)
        work.emit(events)
    return orders


async def reject_order(work: UnitOfWork, order_id: UUID, *, by: str, reason: str) -> store.LockedOrder | None:
    """Refuse a held order: a cancel of all that is in it, settled here. Anything but a held order is left as it is.

    Returns the order as it was found.
    """
    order = (await store.lock_orders(work, [order_id])).get(order_id)
    if order is None or order.state != HELD:
        return order
    step = order.step + 1
    await store.record_changes(work, [store.OrderChange(order_id=order_id, step=step, state=REJECTED, open_holds=0)])
    still_open = [hold.hold_id for hold in order.holds if hold.state == OPEN]
    await store.close_holds(work, still_open, state=REJECTED, by=by, reason=reason)
    part = Part.model_validate_json(_kept(order.part_json))
    work.emit(
        [
            CancellationSettled(
                root_id=order.root_id,
                order_id=order_id,
                progress=Progress(step=step, stage="cancelled", code="order_rejected", params={"by": by}),
                request_id=audit_reject_id(order_id),
                settled_by="audit",
                lines=[
                    SettledLine(
                        origin_order_id=line.origin_order_id,
                        origin_line=line.origin_line,
                        sku_id=line.sku_id,
                        cancelled=line.quantity,
                        code="order_rejected",
                    )
                    for line in part.lines
                ],
            )
        ]
    )
    return order


def facts_of(event: OrderReceived) -> OrderFacts:
    order, destination = event.order, event.order.destination
    units: dict[str, int] = {}
    for line in event.part.lines:
        units[line.sku_id] = units.get(line.sku_id, 0) + line.quantity
    tokens = {"buyer": order.buyer_token}
    if destination is not None:
        tokens |= {
            "receiver": destination.receiver_token,
            "phone": destination.phone_token,
            "address": destination.address_token,
        }
    return OrderFacts(
        order_id=event.order_id,
        channel=order.channel,
        shop_id=order.shop_id,
        fulfilment_kind=order.fulfilment.kind,
        currency=order.currency,
        paid_minor=order.paid_minor,
        address_grade=None if destination is None else destination.address_grade,
        phone_kind=None if destination is None else destination.phone_kind,
        tokens={kind: token for kind, token in tokens.items() if token},
        units_by_sku=units,
    )


def new_order(event: OrderReceived, outcome: Cleared | Held, rule_set_version: int) -> store.NewOrder:
    held = isinstance(outcome, Held)
    return store.NewOrder(
        order_id=event.order_id,
        root_id=event.root_id,
        state=HELD if held else CLEARED,
        open_holds=len(outcome.holds) if isinstance(outcome, Held) else 0,
        channel=event.order.channel,
        shop_id=event.order.shop_id,
        rule_set_version=rule_set_version,
        rules_checked=outcome.rules_checked,
        # What is held must be able to go on later, whole; what is cleared goes on now.
        order_json=event.order.model_dump_json() if held else None,
        part_json=event.part.model_dump_json() if held else None,
    )


def to_event(event: OrderReceived, outcome: Cleared | Held, rule_set_version: int) -> OrderEvent:
    if isinstance(outcome, Held):
        return _held_event(event.root_id, event.order_id, 1, outcome.holds, "order_held", {"kinds": _kinds(outcome.holds)})
    return OrderAudited(
        root_id=event.root_id,
        order_id=event.order_id,
        progress=Progress(
            step=1,
            stage="cleared",
            code=outcome.code,
            params={"rules": outcome.rules_checked, "version": rule_set_version} if outcome.rules_checked else {},
        ),
        order=event.order,
        part=event.part,
        rule_set_version=rule_set_version,
    )


def release_event(order: store.LockedOrder, still_open: Sequence[Hold], *, by: str) -> OrderEvent:
    step, params = order.step + 1, {"by": by}
    if still_open:
        params_held = params | {"kinds": _kinds(still_open)}
        return _held_event(order.root_id, order.order_id, step, still_open, "hold_released", params_held)
    return OrderAudited(
        root_id=order.root_id,
        order_id=order.order_id,
        progress=Progress(step=step, stage="cleared", code="hold_released", params=params),
        order=Order.model_validate_json(_kept(order.order_json)),
        part=Part.model_validate_json(_kept(order.part_json)),
        rule_set_version=order.rule_set_version,
    )


def _held_event(
    root_id: UUID, order_id: UUID, step: int, holds: Sequence[Hold], code: str, params: Mapping[str, object]
) -> OrderHeld:
    return OrderHeld(
        root_id=root_id,
        order_id=order_id,
        progress=Progress(step=step, stage="held", code=code, params=dict(params)),
        holds=[
            HoldOut(
                hold_id=hold.hold_id,
                kind=hold.kind,
                code=hold.code,
                evidence=hold.evidence,
                rule_id=hold.rule_id,
                placed_by="rule",
                release_at=hold.release_at,
            )
            for hold in holds
        ],
    )


def _kinds(holds: Sequence[Hold]) -> list[str]:
    return sorted({hold.kind for hold in holds})


def _kept(text: str | None) -> str:
    """A held order's text; the database holds that it is there."""
    if text is None:
        raise LookupError("a held order without its text")
    return text
