"""How an order is judged, and how holds begin and end."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from audit.domain.facts import ALREADY_HANDED_OVER, Known, OrderFacts
from audit.domain.merging import merge_key
from audit.domain.rules import Finding, MergeRule, Rule, RuleSet

HELD, CLEARED, CANCELLED, SPLIT, MERGED = "held", "cleared", "cancelled", "split", "merged"
OPEN, RELEASED, REJECTED = "open", "released", "rejected"
BY_RULE, BY_SYSTEM = "rule", "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    hold_id: UUID
    order_id: UUID
    kind: str
    code: str
    evidence: dict[str, Any]
    rule_id: str
    release_at: datetime | None
    state: str = OPEN
    placed_by: str = BY_RULE
    closed_by: str | None = None
    is_conditional: bool = False
    """Ends once its rule's `release_when` holds."""
    note: str = ""
    """Why a person placed it. May name anything: it stays here."""

    @property
    def doubt(self) -> tuple[str, str, str]:
        return (self.rule_id, self.code, repr(sorted(self.evidence.items())))


@dataclass(frozen=True, slots=True)
class Cleared:
    code: str
    rules_checked: int


@dataclass(frozen=True, slots=True)
class Held:
    holds: tuple[Hold, ...]
    rules_checked: int
    merge_key: str | None = None
    """Set where the order only waits for others of its receiver."""


def decide(order: OrderFacts, rules: RuleSet, known: Known, *, step: int = 1, may_merge: bool = True) -> Cleared | Held:
    """All rules are asked, so that a person sees everything that is in doubt at once.

    `step`: of the order when it is judged; deciding again names the same holds, judging a changed order names new ones.
    """
    if order.fulfilment_kind == ALREADY_HANDED_OVER:
        return Cleared("handed_over_passed", 0)
    concerned = rules.rules_for(order.channel, order.shop_id)
    holds: list[Hold] = []
    merging: MergeRule | None = None
    checked = 0
    for rule in concerned:
        if not rule.CHECKS:
            if merging is None and isinstance(rule, MergeRule) and rule.applies(order, known):
                merging = rule
            continue
        checked += 1
        if rule.when is not None and not rule.when.holds(order, known):
            continue
        finding = rule.check(order, known)
        if finding is not None:
            holds.append(_hold(order, rule, finding, rules.version, step, known.now))
    if holds:
        return Held(tuple(holds), checked)
    key = merge_key(order, across_shops=merging.rule_id if merging.across_shops else None) if merging and may_merge else None
    if merging is not None and key is not None:
        due = known.now + timedelta(minutes=merging.wait_minutes)
        finding = Finding("waiting_to_merge", {"max_orders": merging.max_orders}, release_at=due)
        return Held((_hold(order, merging, finding, rules.version, step, known.now),), checked, key)
    return Cleared("order_cleared", checked)


def _hold(order: OrderFacts, rule: Rule, finding: Finding, version: int, step: int, now: datetime) -> Hold:
    ends = [] if finding.release_at is None else [finding.release_at]
    if rule.release_after_seconds is not None:
        ends.append(now + timedelta(seconds=rule.release_after_seconds))
    if rule.release_before_deadline_hours is not None and order.ship_before is not None:
        ends.append(max(now, order.ship_before - timedelta(hours=rule.release_before_deadline_hours)))
    return Hold(
        hold_id=uuid5(order.order_id, f"hold:{version}:{rule.rule_id}:{step}"),
        order_id=order.order_id,
        kind=rule.KIND,
        code=finding.code,
        evidence=finding.evidence,
        rule_id=rule.rule_id,
        release_at=min(ends, default=None),
        is_conditional=rule.release_when is not None,
    )


@dataclass(frozen=True, slots=True)
class Rejudged:
    """What a new look at a held order changes."""

    ended: tuple[UUID, ...]
    placed: tuple[Hold, ...]
    still_open: tuple[Hold, ...]
    """The holds that stay, and those placed."""


def rejudge(holds: Sequence[Hold], found: Iterable[Hold]) -> Rejudged:
    """Hold by what is in doubt now. A person's holds stay, and a doubt that a person put aside is not raised again."""
    wanted = {hold.doubt: hold for hold in found}
    put_aside = {
        hold.doubt for hold in holds if hold.state == RELEASED and hold.placed_by == BY_RULE and hold.closed_by != BY_SYSTEM
    }
    stays, ended = [], []
    for hold in holds:
        if hold.state != OPEN:
            continue
        if hold.placed_by != BY_RULE or hold.doubt in wanted:
            stays.append(hold)
        else:
            ended.append(hold.hold_id)
    known = {hold.doubt for hold in stays} | put_aside
    placed = tuple(hold for doubt, hold in wanted.items() if doubt not in known)
    return Rejudged(tuple(ended), placed, (*stays, *placed))


def conditions_met(order: OrderFacts, holds: Iterable[Hold], rules: RuleSet, known: Known) -> tuple[UUID, ...]:
    """Open holds that end now because their rule's `release_when` holds; a rule that is gone releases nothing."""
    by_id = {rule.rule_id: rule for rule in rules.rules}
    met = []
    for hold in holds:
        rule = by_id.get(hold.rule_id)
        if hold.state != OPEN or hold.placed_by != BY_RULE or rule is None or rule.release_when is None:
            continue
        if rule.release_when.holds(order, known):
            met.append(hold.hold_id)
    return tuple(met)


@dataclass(frozen=True, slots=True)
class Released:
    """What a release did to one order."""

    closed: tuple[UUID, ...]
    """Holds that ended now; empty: everything asked for had been released before."""
    still_open: tuple[Hold, ...]


def release(holds: Sequence[Hold], wanted: Collection[UUID] | None) -> Released:
    """End the wanted holds (None: all) among one order's; those no longer open are left as they are."""
    closed = tuple(hold.hold_id for hold in holds if hold.state == OPEN and (wanted is None or hold.hold_id in wanted))
    ended = set(closed)
    still_open = tuple(hold for hold in holds if hold.state == OPEN and hold.hold_id not in ended)
    return Released(closed, still_open)


def close(holds: Sequence[Hold], ended: Iterable[UUID], *, state: str, by: str) -> tuple[Hold, ...]:
    """The same holds, these ended."""
    gone = set(ended)
    return tuple(replace(hold, state=state, closed_by=by) if hold.hold_id in gone else hold for hold in holds)


def manual_hold_id(order_id: UUID, reference: str) -> UUID:
    """One hold per order and the caller's own reference."""
    return uuid5(order_id, f"manual_hold:{reference}")
