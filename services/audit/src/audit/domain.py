"""Whether an order may go on: typed rules as data, the holds they place, how holds end. Imports the standard library only."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid5

HELD, CLEARED, REJECTED = "held", "cleared", "rejected"
OPEN, RELEASED = "open", "released"
ALREADY_HANDED_OVER = "already_handed_over"
PICK_UP = "pick_up"
MAX_SHOPS_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFacts:
    """What the rules may look at. No personal data: grades, kinds and tokens stand for the receiver."""

    order_id: UUID
    channel: str
    shop_id: str
    fulfilment_kind: str
    currency: str
    paid_minor: int
    address_grade: str | None
    """None where nothing is shipped."""
    phone_kind: str | None
    tokens: Mapping[str, str] = field(default_factory=dict)
    """By kind (buyer, receiver, phone, address); kinds without a value are absent."""
    units_by_sku: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in doubt."""

    code: str
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What all rules share: a name, and whom they concern."""

    KIND: ClassVar[str]

    rule_id: str
    enabled: bool = True
    channels: frozenset[str] = frozenset()
    """Empty: every channel."""
    shop_ids: frozenset[str] = frozenset()
    release_after_seconds: int | None = None
    """When a timer releases the hold by itself; None: only a person does."""

    def concerns(self, channel: str, shop_id: str) -> bool:
        return (
            self.enabled and (not self.channels or channel in self.channels) and (not self.shop_ids or shop_id in self.shop_ids)
        )

    def check(self, order: OrderFacts, blacklisted: Set[str]) -> Finding | None:
        """None: nothing to object. `blacklisted`: which kinds of the order's tokens are on the list."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRule(Rule):
    KIND = "address"

    allowed_grades: frozenset[str]

    def check(self, order: OrderFacts, blacklisted: Set[str]) -> Finding | None:
        if order.fulfilment_kind == PICK_UP or order.address_grade is None or order.address_grade in self.allowed_grades:
            return None
        return Finding("address_incomplete", {"grade": order.address_grade})


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneRule(Rule):
    KIND = "phone"

    reachable_kinds: frozenset[str]

    def check(self, order: OrderFacts, blacklisted: Set[str]) -> Finding | None:
        if order.phone_kind is None or order.phone_kind in self.reachable_kinds:
            return None
        return Finding("phone_unreachable", {"phone_kind": order.phone_kind})


@dataclass(frozen=True, slots=True, kw_only=True)
class AmountRule(Rule):
    """Limits of one currency; orders in other currencies are none of its business."""

    KIND = "amount"

    currency: str
    min_paid_minor: int | None = None
    max_paid_minor: int | None = None

    def check(self, order: OrderFacts, blacklisted: Set[str]) -> Finding | None:
        if order.currency != self.currency:
            return None
        for limit, broken in (
            (self.min_paid_minor, self.min_paid_minor is not None and order.paid_minor < self.min_paid_minor),
            (self.max_paid_minor, self.max_paid_minor is not None and order.paid_minor > self.max_paid_minor),
        ):
            if broken:
                evidence = {"paid_minor": order.paid_minor, "limit_minor": limit, "currency": self.currency}
                return Finding("amount_out_of_range", evidence)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantityRule(Rule):
    KIND = "quantity"

    max_units_per_sku: int | None = None
    max_units_per_order: int | None = None

    def check(self, order: OrderFacts, blacklisted: Set[str]) -> Finding | None:
        if self.max_units_per_sku is not None:
            over = {sku: units for sku, units in order.units_by_sku.items() if units > self.max_units_per_sku}
            if over:
                worst = min(over, key=lambda sku: (-over[sku], sku))
                evidence = {"sku_id": worst, "quantity": over[worst], "limit": self.max_units_per_sku, "skus_over": len(over)}
                return Finding("quantity_out_of_range", evidence)
        if self.max_units_per_order is not None and (units := sum(order.units_by_sku.values())) > self.max_units_per_order:
            return Finding("order_quantity_out_of_range", {"quantity": units, "limit": self.max_units_per_order})
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlacklistRule(Rule):
    KIND = "blacklist"

    token_kinds: frozenset[str]
    """Which of buyer, receiver, phone, address count."""

    def check(self, order: OrderFacts, blacklisted: Set[str]) -> Finding | None:
        hits = sorted(self.token_kinds & blacklisted)
        # Neither the token nor the note beside it on the list goes into the evidence: it travels in events.
        return Finding("buyer_blacklisted", {"token_kinds": hits}) if hits else None


RULE_KINDS: dict[str, type[Rule]] = {
    rule.KIND: rule for rule in (AddressRule, PhoneRule, AmountRule, QuantityRule, BlacklistRule)
}
_SETS = {"channels", "shop_ids", "allowed_grades", "reachable_kinds", "token_kinds"}


@dataclass(slots=True)
class RuleSet:
    version: int
    rules: tuple[Rule, ...]
    _concerned: dict[tuple[str, str], tuple[Rule, ...]] = field(default_factory=dict)

    def rules_for(self, channel: str, shop_id: str) -> tuple[Rule, ...]:
        """Worked out once per shop: there are far fewer shops than orders."""
        concerned = self._concerned.get((channel, shop_id))
        if concerned is None:
            concerned = tuple(rule for rule in self.rules if rule.concerns(channel, shop_id))
            if len(self._concerned) >= MAX_SHOPS_REMEMBERED:  # Shop ids come from outside: any number of them.
                self._concerned.clear()
            self._concerned[(channel, shop_id)] = concerned
        return concerned


def rule_set_of(version: int, document: Mapping[str, Any]) -> RuleSet:
    """Build the rules from a stored document, which was checked when it was stored."""
    rules = []
    for entry in document["rules"]:
        parameters = {name: frozenset(value) if name in _SETS else value for name, value in entry.items() if name != "kind"}
        build: Callable[..., Rule] = RULE_KINDS[entry["kind"]]
        rules.append(build(**parameters))
    return RuleSet(version, tuple(rules))


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


@dataclass(frozen=True, slots=True)
class Cleared:
    code: str
    rules_checked: int


@dataclass(frozen=True, slots=True)
class Held:
    holds: tuple[Hold, ...]
    rules_checked: int


def decide(order: OrderFacts, rules: RuleSet, blacklisted: Set[str], *, now: datetime) -> Cleared | Held:
    """All rules are asked, so that a person sees everything that is in doubt at once."""
    if order.fulfilment_kind == ALREADY_HANDED_OVER:
        return Cleared("handed_over_passed", 0)
    concerned = rules.rules_for(order.channel, order.shop_id)
    holds = []
    for rule in concerned:
        finding = rule.check(order, blacklisted)
        if finding is None:
            continue
        after = rule.release_after_seconds
        holds.append(
            Hold(
                # Derived, so that deciding again names the same holds.
                hold_id=uuid5(order.order_id, f"hold:{rules.version}:{rule.rule_id}"),
                order_id=order.order_id,
                kind=rule.KIND,
                code=finding.code,
                evidence=finding.evidence,
                rule_id=rule.rule_id,
                release_at=None if after is None else now + timedelta(seconds=after),
            )
        )
    if holds:
        return Held(tuple(holds), len(concerned))
    return Cleared("order_cleared", len(concerned))


@dataclass(frozen=True, slots=True)
class Released:
    """What a release did to one order."""

    closed: tuple[UUID, ...]
    """Holds that ended now; empty: everything asked for had been released before."""
    still_open: tuple[Hold, ...]


def release(holds: Sequence[Hold], wanted: Iterable[UUID] | None) -> Released:
    """End the wanted holds (None: all) among one order's; those no longer open are left as they are."""
    wanted_ids = None if wanted is None else set(wanted)
    closed = tuple(hold.hold_id for hold in holds if hold.state == OPEN and (wanted_ids is None or hold.hold_id in wanted_ids))
    ended = set(closed)
    still_open = tuple(hold for hold in holds if hold.state == OPEN and hold.hold_id not in ended)
    return Released(closed, still_open)


def audit_reject_id(order_id: UUID) -> UUID:
    """The cancel request that a reject amounts to: one per order, whoever asks and however often."""
    return uuid5(order_id, "audit_reject")
