"""Conditions as data: fields of an order compared with values, combined by all, any and at least k of n.

No regular expressions: one that a person mistypes can stall a worker for minutes, and lists and prefixes say what is needed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from audit.domain.facts import Known, OrderFacts

FieldKind = Literal["number", "text", "flag", "list"]
Reader = Callable[[OrderFacts, Known], Any]
OPERATORS: dict[FieldKind, tuple[str, ...]] = {
    "number": ("=", "!=", ">", ">=", "<", "<=", "in", "between"),
    "text": ("=", "!=", "in", "contains", "starts_with"),
    "flag": ("=", "!="),
    "list": ("contains", "in"),
}
"""Of a list: `contains` one value, or has one that is `in` the given ones."""
MAX_DEPTH, MAX_NODES = 5, 100


def _minutes(until: datetime | None, since: datetime | None) -> int | None:
    return None if until is None or since is None else int((until - since).total_seconds() // 60)


FIELDS: dict[str, tuple[FieldKind, Reader]] = {
    "channel": ("text", lambda order, _: order.channel),
    "shop_id": ("text", lambda order, _: order.shop_id),
    "currency": ("text", lambda order, _: order.currency),
    "fulfilment_kind": ("text", lambda order, _: order.fulfilment_kind),
    "payment_state": ("text", lambda order, _: order.payment_state),
    "trade_state": ("text", lambda order, _: order.trade_state),
    "refund_state": ("text", lambda order, _: order.refund_state),
    "collection": ("text", lambda order, _: order.collection),
    "invoice_kind": ("text", lambda order, _: order.invoice_kind),
    "address_grade": ("text", lambda order, _: order.address_grade),
    "phone_kind": ("text", lambda order, _: order.phone_kind),
    "region_code": ("text", lambda order, _: order.region_code),
    "seller_flag": ("text", lambda order, _: order.seller_flag),
    "wanted_carrier": ("text", lambda order, _: order.wanted_carrier),
    "paid_minor": ("number", lambda order, _: order.paid_minor),
    "receivable_minor": ("number", lambda order, _: sum(line.receivable_minor for line in order.lines)),
    "margin_minor": ("number", lambda order, known: order.margin_minor(known.items)),
    "units": ("number", lambda order, _: sum(line.quantity for line in order.lines)),
    "lines": ("number", lambda order, _: len(order.lines)),
    "weight_grams": ("number", lambda order, _: sum(line.weight_grams for line in order.lines)),
    "age_minutes": ("number", lambda order, known: _minutes(known.now, order.received_at)),
    "minutes_to_ship_before": ("number", lambda order, known: _minutes(order.ship_before, known.now)),
    "presale": ("flag", lambda order, _: order.presale),
    "risk_locked": ("flag", lambda order, _: order.risk_locked),
    "has_buyer_note": ("flag", lambda order, _: order.has_buyer_note),
    "has_seller_note": ("flag", lambda order, _: order.has_seller_note),
    "blacklisted": ("flag", lambda _, known: bool(known.blacklisted)),
    "skus": ("list", lambda order, _: {line.sku_id for line in order.lines}),
    "categories": (
        "list",
        lambda order, known: {known.items[line.sku_id].category for line in order.lines if line.sku_id in known.items},
    ),
    "keywords": ("list", lambda order, _: order.keywords),
    "payment_methods": ("list", lambda order, _: order.payment_methods),
    "quality_flags": ("list", lambda order, _: order.quality_flags),
}
NEEDS_CATALOGUE = frozenset({"margin_minor", "categories"})

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda left, right: bool(left == right),
    "!=": lambda left, right: bool(left != right),
    ">": lambda left, right: bool(left > right),
    ">=": lambda left, right: bool(left >= right),
    "<": lambda left, right: bool(left < right),
    "<=": lambda left, right: bool(left <= right),
    "in": lambda left, right: left in right,
    "between": lambda left, right: bool(right[0] <= left <= right[1]),
    "contains": lambda left, right: right in left,
    "starts_with": lambda left, right: bool(left.startswith(right)),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field against a value. A field without a value is unequal to everything, and nothing else holds of it."""

    field: str
    operator: str
    value: Any

    def holds(self, order: OrderFacts, known: Known) -> bool:
        kind, read = FIELDS[self.field]
        found = read(order, known)
        if found is None:
            return self.operator == "!="
        if kind == "list" and self.operator == "in":
            return any(item in self.value for item in found)
        return _COMPARE[self.operator](found, self.value)

    def fields(self) -> frozenset[str]:
        return frozenset({self.field})


@dataclass(frozen=True, slots=True)
class AtLeast:
    """At least so many of these: all of them, any of them, k of n."""

    count: int
    of: tuple["Condition", ...]

    def holds(self, order: OrderFacts, known: Known) -> bool:
        found = 0
        for condition in self.of:
            found += condition.holds(order, known)
            if found >= self.count:
                return True
        return False

    def fields(self) -> frozenset[str]:
        return frozenset().union(*(condition.fields() for condition in self.of))


Condition = Comparison | AtLeast


def condition_of(document: Mapping[str, Any]) -> Condition:
    """Build a condition from a stored document, which was checked when it was stored."""
    if "field" in document:
        value = document["value"]
        return Comparison(document["field"], document["op"], tuple(value) if isinstance(value, list) else value)
    for name in ("all", "any"):
        if name in document:
            of = tuple(condition_of(part) for part in document[name])
            return AtLeast(len(of) if name == "all" else 1, of)
    return AtLeast(document["at_least"], tuple(condition_of(part) for part in document["of"]))


def fault_of(field: str, operator: str, value: object) -> str | None:
    """Why a comparison makes no sense: a code, or None."""
    known = FIELDS.get(field)
    if known is None:
        return "condition_field_unknown"
    kind = known[0]
    if operator not in OPERATORS[kind]:
        return "condition_operator_unfit"
    wanted: type = {"number": int, "text": str, "flag": bool, "list": str}[kind]
    if operator in ("in", "between"):
        fits = isinstance(value, Sequence) and not isinstance(value, str) and all(_is(item, wanted) for item in value)
        if not fits or (operator == "between" and (len(value) != 2 or value[0] > value[1])):  # type: ignore[arg-type,index]
            return "condition_value_unfit"
        return None
    return None if _is(value, wanted) else "condition_value_unfit"


def _is(value: object, wanted: type) -> bool:
    return type(value) is wanted  # True is an int, and must not pass for a number.
