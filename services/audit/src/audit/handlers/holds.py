"""How holds end: by a person at once or after a pause in which it can be taken back, by a timer, by a condition."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from audit.domain.holds import CANCELLED, CLEARED, HELD, Hold, conditions_met, manual_hold_id
from audit.handlers.desk import RECHECK, RECHECK_EVERY, Desk
from audit.handlers.judging import ActiveRules, facts_of, look_up
from audit.store import cases as case_store
from audit.store import orders as store
from eventing import NewTask, Task, UnitOfWork

DEFERRED_ACT = "deferred_act"
MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Ended:
    """What an act did to one order."""

    before: str
    after: str


async def on_release_due(tasks: Sequence[Task], work: UnitOfWork) -> None:
    """A hold's time is up. One that a person has ended meanwhile stays as it is."""
    wanted: dict[UUID, set[UUID]] = {}
    for task in tasks:
        wanted.setdefault(UUID(task.payload["order_id"]), set()).add(UUID(task.key))
    await end_holds(work, {order_id: frozenset(holds) for order_id, holds in wanted.items()}, by="timer", reason="")


async def end_holds(
    work: UnitOfWork, wanted: Mapping[UUID, frozenset[UUID] | None], *, by: str, reason: str
) -> dict[UUID, Ended]:
    """End holds by order (None: all open ones); an order whose last hold ends goes on in the same transaction.

    Orders unknown here are absent from the answer.
    """
    desk = await _desk(work, wanted)
    before = {order_id: desk.rows[order_id].state for order_id in wanted if order_id in desk.rows}
    for order_id in sorted(before):
        desk.release(desk.rows[order_id], wanted[order_id], by=by, reason=reason)
    await desk.save()
    return {order_id: Ended(state, desk.rows[order_id].state) for order_id, state in before.items()}


async def reject_orders(work: UnitOfWork, order_ids: Iterable[UUID], *, by: str, reason: str) -> dict[UUID, Ended]:
    """Refuse held orders; any others are left as they are, unknown ones are absent."""
    wanted = set(order_ids)
    roots = await store.find_roots(work.connection, wanted)
    desk = await Desk.lock(work, roots.values())
    ended = {}
    for order_id in sorted(roots):
        row = desk.rows[order_id]
        before = row.state
        if before == HELD:
            desk.reject(row, by=by, reason=reason)
        ended[order_id] = Ended(before, row.state)
    await desk.save()
    return ended


async def place_hold(
    work: UnitOfWork, order_id: UUID, *, by: str, reason: str, reference: str | None, release_at: datetime | None
) -> tuple[str, UUID] | None:
    """A person stops a held order once more. Returns the order's state and the hold; None: no such order.

    Only where the state is `held` is the hold there: what has gone on is past holding.
    """
    hold_id = work.new_id() if reference is None else manual_hold_id(order_id, reference)
    roots = await store.find_roots(work.connection, [order_id])
    if not roots:
        return None
    desk = await Desk.lock(work, roots.values())
    row = desk.rows[order_id]
    if row.state == HELD and all(hold.hold_id != hold_id for hold in row.holds):
        hold = Hold(
            hold_id=hold_id,
            order_id=order_id,
            kind=MANUAL,
            code="hold_placed",
            evidence={"by": by},
            rule_id=MANUAL,
            release_at=release_at,
            placed_by=f"user:{by}",
            note=reason,
        )
        desk.place(row, hold, by=by)
        await desk.save()
    return row.state, hold_id


async def _desk(work: UnitOfWork, order_ids: Iterable[UUID]) -> Desk:
    """Lock orders, and with them those that wait for the same receiver: they may go on together."""
    wanted = set(order_ids)
    peers = await store.find_merge_peers(work, wanted)
    roots = await store.find_roots(work.connection, wanted | peers)
    return await Desk.lock(work, roots.values())


class Rechecker:
    """Looks again at held orders whose holds end by a condition."""

    def __init__(self, rules: ActiveRules) -> None:
        self._rules = rules

    async def on_recheck_due(self, tasks: Sequence[Task], work: UnitOfWork) -> None:
        order_ids = [UUID(task.key) for task in tasks]
        desk = await _desk(work, order_ids)
        rules = await self._rules.get(work)
        held = [desk.rows[order_id] for order_id in order_ids if order_id in desk.rows and desk.rows[order_id].state == HELD]
        facts = [facts_of(row.order, row.part) for row in held]
        known = await look_up(work, facts, rules)
        conditional = {rule.rule_id for rule in rules.rules if rule.release_when is not None}
        for row, own_facts, own_known in zip(held, facts, known, strict=True):
            met = conditions_met(own_facts, row.holds, rules, own_known)
            if met:
                desk.release(row, frozenset(met), by="condition", reason="", code="condition_met")
            if row.state == HELD and any(hold.rule_id in conditional for hold in row.open_holds):
                work.add_tasks([NewTask(RECHECK, str(row.order_id), work.now + RECHECK_EVERY)])
        await desk.save()


# --- acts that wait a while before they are done


async def defer_act(work: UnitOfWork, act: str, subjects: Sequence[UUID], *, by: str, reason: str, undo_seconds: int) -> UUID:
    """Do it later, unless it is taken back before."""
    act_id, due_at = work.new_id(), work.now + timedelta(seconds=undo_seconds)
    await case_store.add_act(
        work,
        case_store.NewAct(act_id=act_id, act=act, subjects=tuple(subjects), reason=reason, asked_by=by, due_at=due_at),
    )
    work.add_tasks([NewTask(DEFERRED_ACT, str(act_id), due_at)])
    return act_id


async def undo_act(work: UnitOfWork, act_id: UUID) -> str | None:
    """Take it back if it is not done. Returns how it stands now; None: no such act."""
    rows = await case_store.lock_acts(work, [act_id])
    if not rows:
        return None
    state: str = rows[0].state
    if state != "waiting":
        return state
    # Its task fires and finds it undone.
    await case_store.end_act(work, act_id, "undone")
    return "undone"


async def on_acts_due(tasks: Sequence[Task], work: UnitOfWork) -> None:
    """The time to take it back is over."""
    for row in await case_store.lock_acts(work, [UUID(task.key) for task in tasks]):
        if row.state != "waiting":
            continue
        outcomes = await carry_out(work, row.act, case_store.subjects_of(row), by=row.asked_by, reason=row.reason)
        await case_store.end_act(work, row.act_id, "done", outcomes)


async def carry_out(work: UnitOfWork, act: str, subjects: Sequence[UUID], *, by: str, reason: str) -> dict[UUID, str]:
    """Release holds, release orders or reject orders; say of each what became of it."""
    if act == "reject_orders":
        ended: Mapping[UUID, Ended] = await reject_orders(work, subjects, by=by, reason=reason)
        return {subject: _outcome(ended.get(subject), wanted=(CANCELLED,)) for subject in subjects}
    if act == "release_orders":
        ended = await end_holds(work, dict.fromkeys(subjects), by=by, reason=reason)
        return {subject: _outcome(ended.get(subject), wanted=(CLEARED, "merged")) for subject in subjects}
    orders = await store.find_orders_of_holds(work.connection, subjects)
    wanted: dict[UUID, set[UUID]] = {}
    for hold_id, order_id in orders.items():
        wanted.setdefault(order_id, set()).add(hold_id)
    ended = await end_holds(work, {order_id: frozenset(holds) for order_id, holds in wanted.items()}, by=by, reason=reason)
    return {
        subject: _outcome(ended.get(orders[subject]) if subject in orders else None, wanted=(CLEARED, "merged", HELD))
        for subject in subjects
    }


def _outcome(ended: Ended | None, *, wanted: Sequence[str]) -> str:
    """done: it is as asked, now or since before; else why not: the state that forbids it, or not_found."""
    if ended is None:
        return "not_found"
    return "done" if ended.after in wanted else ended.after
