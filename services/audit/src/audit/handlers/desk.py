"""The orders that one transaction works on: as they were found, as they become, and what is to be said about it.

Handlers take orders to the desk, decide, note what changes; `save` writes it all, one statement per table. Several records of
one order in a batch see what the ones before them did.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from audit.domain.cancelling import HeldOrder, LineKey, Spent, Units, audit_reject_id, spend
from audit.domain.changing import Standing, nothing_went_on
from audit.domain.facts import Known, OrderFacts
from audit.domain.holds import (
    BY_SYSTEM,
    CANCELLED,
    CLEARED,
    HELD,
    MERGED,
    REJECTED,
    RELEASED,
    SPLIT,
    Cleared,
    Held,
    Hold,
    close,
    decide,
    rejudge,
    release,
)
from audit.domain.merging import Waiting, choose, merged_id
from audit.domain.rules import MergeRule, RuleSet
from audit.domain.splitting import Group, apart, child_id
from audit.store import cases as case_store
from audit.store import orders as store
from audit.store.orders import ClosedHold, OrderRow, PlacedHold
from contracts import (
    CancellationSettled,
    Order,
    OrderAudited,
    OrderEvent,
    OrderHeld,
    Part,
    PartLine,
    Progress,
    SettledLine,
)
from contracts import Hold as HoldOut
from eventing import NewTask, UnitOfWork

AUTO_RELEASE = "auto_release"
RECHECK = "recheck"
RECHECK_EVERY = timedelta(minutes=5)
"""Conditions that depend on time are promised to the quarter of an hour; one look costs what a release costs."""
MERGE_KIND = MergeRule.KIND


class Desk:
    """Orders under work, by id."""

    def __init__(self, work: UnitOfWork, rows: Mapping[UUID, OrderRow] | None = None) -> None:
        self.work = work
        self.rows: dict[UUID, OrderRow] = dict(rows or {})
        self._new: list[OrderRow] = []
        self._changed: dict[UUID, OrderRow] = {}
        self._placed: list[PlacedHold] = []
        self._closed: list[ClosedHold] = []
        self._cases: list[case_store.NewCase] = []
        self._events: list[tuple[UUID, OrderEvent]] = []
        """Each with the order that must have been new for it to be true, or any other."""

    @classmethod
    async def lock(cls, work: UnitOfWork, root_ids: Iterable[UUID]) -> "Desk":
        return cls(work, await store.lock_roots(work, root_ids))

    def of_root(self, root_id: UUID) -> list[OrderRow]:
        """All orders of the root, its own row first, children by number."""
        return sorted((row for row in self.rows.values() if row.root_id == root_id), key=lambda row: row.split_no)

    def standings(self, root_id: UUID) -> list[Standing]:
        return [Standing(row.order_id, row.state) for row in self.of_root(root_id)]

    def speaks_for(self, root: OrderRow) -> OrderRow:
        """The order under whose key things about this root go on: the merged one where it was merged."""
        return self.rows[root.merged_into] if root.merged_into is not None else root

    # New orders

    def admit(self, order: Order, part: Part, facts: OrderFacts, rules: RuleSet, known: Known) -> None:
        """Take in a received order: hold it, clear it, or split it and do so with each child."""
        groups = apart(facts, rules, known)
        if not groups:
            outcome = decide(facts, rules, known)
            self._introduce(self._row(part, order, rules, outcome), order, part, outcome)
            return
        parent = self._row(part, order, rules, Cleared("order_split", 0))
        parent.state, parent.step = SPLIT, 0  # Nothing is said of it: its children replace it from the first.
        self._add(parent)
        self._split(parent, order, part, facts, groups, rules, known)

    def _split(
        self,
        parent: OrderRow,
        order: Order,
        part: Part,
        facts: OrderFacts,
        groups: Sequence[Group],
        rules: RuleSet,
        known: Known,
    ) -> None:
        for position, group in enumerate(groups):
            parent.children += 1
            number = parent.children
            child = part.model_copy(
                update={
                    "order_id": child_id(parent.order_id, number),
                    "parent_id": parent.order_id,
                    "lines": [part.lines[line] for line in group.lines],
                    "freight": part.freight if position == 0 else [],
                }
            )
            own = replace(facts, order_id=child.order_id, lines=[facts.lines[line] for line in group.lines])
            # Requests about a split order look for its children under its own key: those are not merged with others.
            outcome = decide(own, rules, known, may_merge=False)
            row = self._row(child, order, rules, outcome)
            row.split_no = number
            params = {"n": position + 1, "of": len(groups), "why": group.why}
            self._introduce(row, order, child, outcome, replaces=[parent.order_id], split=params)

    def _row(self, part: Part, order: Order, rules: RuleSet, outcome: Cleared | Held) -> OrderRow:
        return OrderRow(
            order_id=part.order_id,
            root_id=part.root_id,
            parent_id=part.parent_id if part.root_id != part.order_id else None,
            state=CLEARED,
            channel=order.channel,
            shop_id=order.shop_id,
            rule_set_version=rules.version,
            rules_checked=outcome.rules_checked,
        )

    def _introduce(
        self,
        row: OrderRow,
        order: Order,
        part: Part,
        outcome: Cleared | Held,
        *,
        replaces: Sequence[UUID] = (),
        split: Mapping[str, Any] | None = None,
    ) -> None:
        """The first thing said of an order."""
        self._add(row)
        if isinstance(outcome, Held):
            # What is held must be able to go on later, whole; what is cleared goes on now.
            row.keep(order=order, part=part)
            row.state, row.merge_key, row.holds = HELD, outcome.merge_key, outcome.holds
            self._placed += [PlacedHold(row, hold) for hold in outcome.holds]
            self._say_held(row, "order_held", {}, replaces)
            return
        if split is not None:
            code, params = "order_split", dict(split)
        else:
            code, params = outcome.code, {}
            if outcome.rules_checked:
                params = {"rules": outcome.rules_checked, "version": row.rule_set_version}
        self._say_audited(row, order, part, code, params, replaces)

    # Holds

    def release(
        self, row: OrderRow, wanted: frozenset[UUID] | None, *, by: str, reason: str, code: str = "hold_released"
    ) -> None:
        """End these open holds (None: all); with the last one the order goes on, together with those that waited for it."""
        outcome = release(row.holds, wanted)
        if row.state != HELD or not outcome.closed:
            return
        self._end(row, outcome.closed, RELEASED, by, reason)
        if outcome.still_open:
            row.step += 1
            self._say_held(row, code, {"by": by})
            return
        parents = self._companions(row)
        if len(parents) > 1:
            self._merge(parents)
        else:
            row.step += 1
            self._clear(row, code, {"by": by})

    def place(self, row: OrderRow, hold: Hold, *, by: str) -> None:
        """A person's hold on a held order."""
        row.holds = (*row.holds, hold)
        row.step += 1
        self._touch(row)
        self._placed.append(PlacedHold(row, hold))
        self._say_held(row, "hold_placed", {"by": by})

    def _end(self, row: OrderRow, ended: Sequence[UUID], state: str, by: str, reason: str) -> None:
        row.holds = close(row.holds, ended, state=state, by=by)
        self._closed += [ClosedHold(hold_id, state, by, reason) for hold_id in ended]
        self._touch(row)

    def _clear(self, row: OrderRow, code: str, params: Mapping[str, Any]) -> None:
        self._say_audited(row, row.order, row.part, code, params)
        row.leave(CLEARED)
        self._touch(row)

    # Merges

    def _companions(self, row: OrderRow) -> list[OrderRow]:
        """Who goes on with this order: itself and those on the desk that only wait to be merged, eldest first."""
        if row.merge_key is None:
            return [row]
        others = [
            other
            for other in self.rows.values()
            if other.order_id != row.order_id
            and other.state == HELD
            and other.merge_key == row.merge_key
            and all(hold.kind == MERGE_KIND for hold in other.open_holds)
        ]
        limits = [hold.evidence["max_orders"] for hold in row.holds if hold.kind == MERGE_KIND]
        chosen = choose(_waiting(row), map(_waiting, others), max_orders=min(limits, default=1))
        return [self.rows[waiting.order_id] for waiting in chosen]

    def _merge(self, parents: Sequence[OrderRow]) -> None:
        eldest = parents[0]
        new_id = merged_id([parent.order_id for parent in parents])
        order = eldest.order.model_copy(update={"merged_with": [parent.order for parent in parents[1:]]})
        part = eldest.part.model_copy(
            update={
                "order_id": new_id,
                "root_id": new_id,
                "parent_id": None,
                "lines": [line for parent in parents for line in parent.part.lines],
                "freight": [freight for parent in parents for freight in parent.part.freight],
            }
        )
        merged = OrderRow(
            order_id=new_id,
            root_id=new_id,
            is_merge=True,
            state=CLEARED,
            channel=eldest.channel,
            shop_id=eldest.shop_id,
            rule_set_version=eldest.rule_set_version,
            rules_checked=eldest.rules_checked,
        )
        self._add(merged)
        replaced = [parent.order_id for parent in parents]
        self._say_audited(merged, order, part, "orders_merged", {"orders": len(parents)}, replaced)
        for parent in parents:
            self._end(parent, [hold.hold_id for hold in parent.open_holds], RELEASED, BY_SYSTEM, "")
            parent.leave(MERGED, merged_into=new_id)

    # Cancels

    def spend(self, root_id: UUID, wanted: Units) -> Spent:
        held = [row for row in self.of_root(root_id) if row.state == HELD]
        return spend([HeldOrder(row.order_id, _units(row.part.lines)) for row in held], wanted)

    def cancel(
        self,
        row: OrderRow,
        taken: Mapping[LineKey, int],
        *,
        request_id: UUID,
        code: str,
        by: str,
        reason: str | None = None,
        requested_by: str | None = None,
        note: str = "",
    ) -> None:
        """Take these units off a held order. It keeps its holds; with its last unit it ends.

        `note`: what a person wrote; it stays here, free text does not travel.
        """
        lines: list[PartLine] = []
        settled: list[SettledLine] = []
        for line in row.part.lines:
            units = taken.get(line.key, 0)
            if not units:
                lines.append(line)
                continue
            gone = line
            if units < line.quantity:
                kept, gone = line.divide(line.quantity - units)
                lines.append(kept)
            settled.append(_settled(line.key, units, code=code).model_copy(update=gone.money))
        row.step += 1
        self._touch(row)
        if lines:
            row.keep(part=row.part.model_copy(update={"lines": lines}))
        else:
            ended = [hold.hold_id for hold in row.open_holds]
            self._end(row, ended, REJECTED if code == "order_rejected" else CANCELLED, by, note)
            row.leave(CANCELLED)
        self.say(
            row,
            CancellationSettled(
                root_id=row.root_id,
                order_id=row.order_id,
                progress=Progress(step=row.step, stage=row.state, code=code, params={"by": by}),
                request_id=request_id,
                settled_by="audit",
                lines=settled,
                parent_id=row.parent_id,
                reason=reason,
                requested_by=requested_by,
            ),
        )

    def reject(self, row: OrderRow, *, by: str, reason: str) -> None:
        """Refuse a held order: a cancel of all that is in it, which audit itself asks for."""
        self.cancel(
            row,
            _units(row.part.lines),
            request_id=audit_reject_id(row.order_id),
            code="order_rejected",
            by=by,
            reason="order_rejected",
            requested_by=f"user:{by}",
            note=reason,
        )

    def nothing_went_on(self, root_id: UUID) -> bool:
        return nothing_went_on(self.standings(root_id))

    def add_cancelled(self, root_id: UUID) -> OrderRow:
        """An order whose record was given up before audit handled it."""
        row = OrderRow(
            order_id=root_id, root_id=root_id, state=CANCELLED, channel="", shop_id="", rule_set_version=0, rules_checked=0
        )
        self._add(row)
        return row

    # Changes

    def replace(self, row: OrderRow, order: Order, part: Part) -> None:
        """The new version of a held order takes its place."""
        row.keep(order=order, part=part)
        row.step += 1
        self._touch(row)

    def rejudge(
        self, row: OrderRow, facts: OrderFacts, rules: RuleSet, known: Known, *, code: str, params: Mapping[str, Any]
    ) -> None:
        """Judge a held order anew: its rules' holds end and begin as it now is; a person's holds stay."""
        by_person = any(hold.placed_by != "rule" for hold in row.open_holds)
        row.rejudged, row.rule_set_version = True, rules.version
        groups = () if by_person or row.parent_id is not None else apart(facts, rules, known)
        if groups:
            self._end(row, [hold.hold_id for hold in row.open_holds], RELEASED, BY_SYSTEM, "")
            order, part = row.order, row.part
            row.leave(SPLIT)
            self._split(row, order, part, facts, groups, rules, known)
            return
        row.step += 1
        outcome = decide(facts, rules, known, step=row.step, may_merge=not by_person and row.parent_id is None)
        row.rules_checked = outcome.rules_checked
        found = outcome.holds if isinstance(outcome, Held) else ()
        judged = rejudge(row.holds, found)
        self._end(row, judged.ended, RELEASED, BY_SYSTEM, "")
        row.holds = (*row.holds, *judged.placed)
        self._placed += [PlacedHold(row, hold) for hold in judged.placed]
        if judged.still_open:
            row.merge_key = outcome.merge_key if isinstance(outcome, Held) else None
            self._say_held(row, code, params)
        else:
            row.merge_key = None
            self._clear(row, code, params)

    def open_case(self, case: case_store.NewCase) -> None:
        self._cases.append(case)

    # Saying and saving

    def say(self, row: OrderRow, event: OrderEvent) -> None:
        self._events.append((row.root_id, event))

    def touch(self, row: OrderRow) -> int:
        """The order's next step: something is said of it."""
        row.step += 1
        self._touch(row)
        return row.step

    def _touch(self, row: OrderRow) -> None:
        self._changed[row.order_id] = row

    def _add(self, row: OrderRow) -> None:
        self.rows[row.order_id] = row
        self._new.append(row)

    def _say_held(self, row: OrderRow, code: str, params: Mapping[str, Any], replaces: Sequence[UUID] = ()) -> None:
        holds = row.open_holds
        shown = {**params, "kinds": sorted({hold.kind for hold in holds})}
        event = OrderHeld(
            root_id=row.root_id,
            order_id=row.order_id,
            progress=Progress(step=row.step, stage="held", code=code, params=shown),
            replaces=list(replaces),
            holds=[
                HoldOut(
                    hold_id=hold.hold_id,
                    kind=hold.kind,
                    code=hold.code,
                    evidence=hold.evidence,
                    rule_id=hold.rule_id,
                    placed_by=hold.placed_by,
                    release_at=hold.release_at,
                )
                for hold in holds
            ],
        )
        self.say(row, event)

    def _say_audited(
        self,
        row: OrderRow,
        order: Order,
        part: Part,
        code: str,
        params: Mapping[str, Any],
        replaces: Sequence[UUID] = (),
    ) -> None:
        event = OrderAudited(
            root_id=row.root_id,
            order_id=row.order_id,
            progress=Progress(step=row.step, stage="cleared", code=code, params=dict(params)),
            replaces=list(replaces),
            order=order,
            part=part,
            rule_set_version=row.rule_set_version,
        )
        self.say(row, event)

    async def save(self) -> None:
        """Write what changed, then schedule and emit. A new order that was known before is left out with all said of it."""
        work = self.work
        new = {row.order_id for row in self._new}
        roots = [row for row in self._new if row.parent_id is None]
        known_before: set[UUID] = set()
        if roots:
            known_before = {row.order_id for row in roots} - await store.add_orders(work, roots)
        children = [row for row in self._new if row.parent_id is not None and row.root_id not in known_before]
        if children:
            await store.add_orders(work, children)
        await store.record_orders(work, [row for order_id, row in self._changed.items() if order_id not in new])
        placed = [one for one in self._placed if one.row.root_id not in known_before]
        await store.add_holds(work, placed)
        await store.close_holds(work, self._closed)
        await case_store.add_cases(work, self._cases)
        if placed:
            self._schedule(placed)
        work.emit(event for root_id, event in self._events if root_id not in known_before)

    def _schedule(self, placed: Sequence[PlacedHold]) -> None:
        """Timers of holds that end early are left to fire and find nothing: to cancel them here would take a task's lock

        after the order's, which a firing timer takes the other way round.
        """
        work = self.work
        work.add_tasks(
            NewTask(AUTO_RELEASE, str(hold.hold_id), hold.release_at, {"order_id": str(hold.order_id)})
            for _, hold in placed
            if hold.release_at is not None
        )
        work.add_tasks(
            NewTask(RECHECK, str(hold.order_id), work.now + RECHECK_EVERY) for _, hold in placed if hold.is_conditional
        )


def settled_lines(units: Units, *, code: str, refused: bool = False) -> list[SettledLine]:
    return [_settled(key, quantity, code=code, refused=refused) for key, quantity in units.items()]


def _settled(key: LineKey, units: int, *, code: str, refused: bool = False) -> SettledLine:
    origin_order_id, origin_line, sku_id = key
    return SettledLine(
        origin_order_id=origin_order_id,
        origin_line=origin_line,
        sku_id=sku_id,
        cancelled=0 if refused else units,
        refused=units if refused else 0,
        code=code,
    )


def _units(lines: Iterable[PartLine]) -> dict[LineKey, int]:
    units: dict[LineKey, int] = {}
    for line in lines:
        units[line.key] = units.get(line.key, 0) + line.quantity
    return units


def _waiting(row: OrderRow) -> Waiting:
    size = len((row.order_json or "").encode()) + len((row.part_json or "").encode())
    return Waiting(row.order_id, row.order.received_at, len(row.part.lines), size)
