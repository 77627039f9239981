"""The rules: typed, as data, pure. What each objects to, and for whom it speaks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from audit.domain.conditions import NEEDS_CATALOGUE, Condition, condition_of
from audit.domain.facts import PICK_UP, Known, OrderFacts

MAX_SHOPS_REMEMBERED = 10_000
NO_REFUND = frozenset({"none", "refused", "closed"})
EVIDENCE_ORDERS = 5
"""How many like orders a hold names: enough to look, and evidence travels in events."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in doubt."""

    code: str
    evidence: dict[str, Any]
    release_at: datetime | None = None
    """When the doubt ends by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What all rules share: a name, whom they concern, and how their holds end by themselves."""

    KIND: ClassVar[str]
    CHECKS: ClassVar[bool] = True
    """Places holds; the others shape orders (split, merge)."""

    rule_id: str
    enabled: bool = True
    priority: int = 100
    """Lower is asked, and shown, first."""
    channels: frozenset[str] = frozenset()
    """Empty: every channel."""
    shop_ids: frozenset[str] = frozenset()
    when: Condition | None = None
    """Only orders of which this holds."""
    release_after_seconds: int | None = None
    release_before_deadline_hours: int | None = None
    """So long before the platform's dispatch deadline the hold ends; None: only a person ends it."""
    release_when: Condition | None = None
    """The hold ends once this holds, looked at when the order changes and every few minutes."""

    def concerns(self, channel: str, shop_id: str) -> bool:
        return (
            self.enabled and (not self.channels or channel in self.channels) and (not self.shop_ids or shop_id in self.shop_ids)
        )

    def applies(self, order: OrderFacts, known: Known) -> bool:
        return self.when is None or self.when.holds(order, known)

    @property
    def needs_catalogue(self) -> bool:
        conditions = (self.when, self.release_when)
        return any(condition is not None and condition.fields() & NEEDS_CATALOGUE for condition in conditions)

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
        """None: nothing to object."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRule(Rule):
    KIND = "address"

    allowed_grades: frozenset[str]

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
        if order.fulfilment_kind == PICK_UP or order.address_grade is None or order.address_grade in self.allowed_grades:
            return None
        return Finding("address_incomplete", {"grade": order.address_grade})


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneRule(Rule):
    KIND = "phone"

    reachable_kinds: frozenset[str]

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
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

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
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

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
        units_by_sku = order.units_by_sku
        if self.max_units_per_sku is not None:
            over = {sku: units for sku, units in units_by_sku.items() if units > self.max_units_per_sku}
            if over:
                worst = min(over, key=lambda sku: (-over[sku], sku))
                evidence = {"sku_id": worst, "quantity": over[worst], "limit": self.max_units_per_sku, "skus_over": len(over)}
                return Finding("quantity_out_of_range", evidence)
        if self.max_units_per_order is not None and (units := sum(units_by_sku.values())) > self.max_units_per_order:
            return Finding("order_quantity_out_of_range", {"quantity": units, "limit": self.max_units_per_order})
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlacklistRule(Rule):
    KIND = "blacklist"

    token_kinds: frozenset[str]
    """Which of buyer, receiver, phone, address count."""

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
        hits = sorted(self.token_kinds & known.blacklisted)
        # Neither the token nor the note beside it on the list goes into the evidence: it travels in events.
        return Finding("buyer_blacklisted", {"token_kinds": hits}) if hits else None


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateRule(Rule):
    """The same buyer or receiver ordered the same SKUs before, within so many minutes."""

    KIND = "duplicate"

    within_minutes: int
    token_kinds: frozenset[str]
    """buyer, receiver"""

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
        like = {
            other.order_id
            for other in known.like_orders
            if other.kind in self.token_kinds
            and abs((order.placed_at - other.placed_at).total_seconds()) <= self.within_minutes * 60
        }
        if not like:
            return None
        shown = sorted(map(str, like))[:EVIDENCE_ORDERS]
        return Finding("duplicate_buyer", {"orders": len(like) + 1, "minutes": self.within_minutes, "like": shown})


@dataclass(frozen=True, slots=True, kw_only=True)
class BuyerNoteRule(Rule):
    KIND = "buyer_note"

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
        return Finding("buyer_note", {}) if order.has_buyer_note else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SellerNoteRule(Rule):
    """A seller's note or flag; with `flags`, these flags only."""

    KIND = "seller_note"

    flags: frozenset[str] = frozenset()

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
        wanted = order.seller_flag in self.flags if self.flags else order.has_seller_note or order.seller_flag is not None
        return Finding("seller_note", {"flag": order.seller_flag or "none"}) if wanted else None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordRule(Rule):
    """A note says one of these; with none given, any keyword that ingest knows."""

    KIND = "keyword"

    keywords: frozenset[str] = frozenset()

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
        found = sorted(set(order.keywords) & self.keywords if self.keywords else set(order.keywords))
        return Finding("note_keyword", {"keywords": found[:20]}) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRule(Rule):
    KIND = "payment"

    settled_states: frozenset[str] = frozenset({"paid", "cash_on_delivery"})

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
        if order.payment_state in self.settled_states:
            return None
        return Finding("order_unpaid", {"payment_state": order.payment_state})


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRule(Rule):
    """A refund is under way on the order or on a line that moves. A word not known here counts as one."""

    KIND = "refund"

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
        states = {order.refund_state, *(line.refund_state for line in order.lines)} - NO_REFUND
        return Finding("refund_applied", {"refund_states": sorted(states)[:10]}) if states else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskRule(Rule):
    KIND = "risk"

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
        return Finding("risk_locked", {}) if order.risk_locked else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginRule(Rule):
    """Margin over standard cost below an amount, or below a share of revenue. Without a known cost it does not judge."""

    KIND = "margin"

    min_margin_minor: int | None = None
    min_margin_bp: int | None = None

    @property
    def needs_catalogue(self) -> bool:
        return True

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
        margin = order.margin_minor(known.items)
        if margin is None:
            return None
        revenue = sum(line.receivable_minor - line.tax_minor for line in order.lines)
        floors = [floor for floor in (self.min_margin_minor, _share(revenue, self.min_margin_bp)) if floor is not None]
        floor = max(floors)
        return Finding("margin_below_floor", {"margin_minor": margin, "floor_minor": floor}) if margin < floor else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PresaleRule(Rule):
    """Waits until the latest date of its lines; a timer lets it go then."""

    KIND = "presale"

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
        due = max((line.ship_not_before for line in order.lines if line.ship_not_before is not None), default=None)
        if due is None or due <= known.now:
            return None
        return Finding("presale_not_due", {"ship_not_before": due.isoformat()}, release_at=due)


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaRule(Rule):
    """Regions that need a look, by prefixes of their code."""

    KIND = "area"

    prefixes: frozenset[str]

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
        code = order.region_code
        if order.fulfilment_kind == PICK_UP or code is None or not code.startswith(tuple(self.prefixes)):
            return None
        return Finding("special_area", {"region_code": code})


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionRule(Rule):
    """Whatever `when` says."""

    KIND = "condition"

    def check(self, order: OrderFacts, known: Known) -> Finding | None:
        return Finding("condition_rule", {"rule_id": self.rule_id})


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeRule(Rule):
    """Orders of one receiver wait for each other and go on as one."""

    KIND = "merge"
    CHECKS = False

    wait_minutes: int
    max_orders: int
    across_shops: bool = False
    """The shops that this rule concerns count as one; else each for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPresaleRule(Rule):
    """Lines that are not due yet wait alone, one child per date."""

    KIND = "split_presale"
    CHECKS = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitGoodsRule(Rule):
    """Goods of these SKUs and categories travel alone."""

    KIND = "split_goods"
    CHECKS = False

    skus: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()

    @property
    def needs_catalogue(self) -> bool:
        return bool(self.categories)


RULE_KINDS: dict[str, type[Rule]] = {
    rule.KIND: rule
    for rule in (
        AddressRule,
        PhoneRule,
        AmountRule,
        QuantityRule,
        BlacklistRule,
        DuplicateRule,
        BuyerNoteRule,
        SellerNoteRule,
        KeywordRule,
        PaymentRule,
        RefundRule,
        RiskRule,
        MarginRule,
        PresaleRule,
        AreaRule,
        ConditionRule,
        MergeRule,
        SplitPresaleRule,
        SplitGoodsRule,
    )
}
_SETS = {
    "channels",
    "shop_ids",
    "allowed_grades",
    "reachable_kinds",
    "token_kinds",
    "flags",
    "keywords",
    "settled_states",
    "prefixes",
    "skus",
    "categories",
}
_CONDITIONS = {"when", "release_when"}


@dataclass(slots=True)
class RuleSet:
    version: int
    rules: tuple[Rule, ...]
    _concerned: dict[tuple[str, str], tuple[Rule, ...]] = field(default_factory=dict)

    def rules_for(self, channel: str, shop_id: str) -> tuple[Rule, ...]:
        """By priority. Worked out once per shop: there are far fewer shops than orders."""
        concerned = self._concerned.get((channel, shop_id))
        if concerned is None:
            by_priority = sorted(self.rules, key=lambda rule: rule.priority)
            concerned = tuple(rule for rule in by_priority if rule.concerns(channel, shop_id))
            if len(self._concerned) >= MAX_SHOPS_REMEMBERED:  # Shop ids come from outside: any number of them.
                self._concerned.clear()
            self._concerned[(channel, shop_id)] = concerned
        return concerned

    @property
    def needs_catalogue(self) -> bool:
        return any(rule.enabled and rule.needs_catalogue for rule in self.rules)

    @property
    def duplicate_minutes(self) -> int:
        """How far back like orders matter; 0: no rule asks."""
        return max((rule.within_minutes for rule in self.rules if rule.enabled and isinstance(rule, DuplicateRule)), default=0)


def rule_set_of(version: int, document: Mapping[str, Any]) -> RuleSet:
    """Build the rules from a stored document, which was checked when it was stored."""
    rules = []
    for entry in document["rules"]:
        build: Callable[..., Rule] = RULE_KINDS[entry["kind"]]
        rules.append(build(**{name: _parameter(name, value) for name, value in entry.items() if name != "kind"}))
    return RuleSet(version, tuple(rules))


def _parameter(name: str, value: Any) -> Any:
    if name in _SETS:
        return frozenset(value)
    return condition_of(value) if name in _CONDITIONS else value


def _share(amount: int, rate_bp: int | None) -> int | None:
    return None if rate_bp is None else amount * rate_bp // 10_000
