"""Which lines of an order travel alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID, uuid5

from audit.domain.facts import ALREADY_HANDED_OVER, ItemFacts, Known, OrderFacts
from audit.domain.rules import Rule, RuleSet, SplitGoodsRule, SplitPresaleRule

MAX_CHILDREN = 20
"""More dates than this share the last child, which waits for the latest."""


@dataclass(frozen=True, slots=True)
class Group:
    """Lines (by position) that become one order, and why."""

    why: str
    lines: tuple[int, ...]


def apart(order: OrderFacts, rules: RuleSet, known: Known) -> tuple[Group, ...]:
    """The orders that this one becomes, the main one first, which has the freight; none: it stays whole.

    Each line goes to the first rule, by priority, that wants it; what is left is the main order.
    """
    if len(order.lines) < 2 or order.fulfilment_kind == ALREADY_HANDED_OVER:
        return ()
    shaping = [rule for rule in rules.rules_for(order.channel, order.shop_id) if not rule.CHECKS]
    if not shaping:
        return ()
    groups: dict[tuple[int, str], list[int]] = {}
    applying = [rule for rule in shaping if rule.applies(order, known)]
    for position in range(len(order.lines)):
        groups.setdefault(_place(order, position, applying, known), []).append(position)
    if len(groups) < 2:
        return ()
    ordered = sorted(groups.items())
    if len(ordered) > MAX_CHILDREN:
        rest = [position for _, positions in ordered[MAX_CHILDREN - 1 :] for position in positions]
        ordered = [*ordered[: MAX_CHILDREN - 1], (ordered[-1][0], sorted(rest))]
    return tuple(Group(_why(key, applying), tuple(positions)) for key, positions in ordered)


def _place(order: OrderFacts, position: int, rules: list[Rule], known: Known) -> tuple[int, str]:
    line = order.lines[position]
    for number, rule in enumerate(rules, start=1):
        if isinstance(rule, SplitPresaleRule) and line.ship_not_before is not None and line.ship_not_before > known.now:
            return (number, line.ship_not_before.isoformat())
        if isinstance(rule, SplitGoodsRule) and _travels_alone(rule, line.sku_id, known.items):
            return (number, "")
    return (0, "")


def _travels_alone(rule: SplitGoodsRule, sku_id: str, items: Mapping[str, ItemFacts]) -> bool:
    return sku_id in rule.skus or (sku_id in items and items[sku_id].category in rule.categories)


def _why(key: tuple[int, str], rules: list[Rule]) -> str:
    number, _ = key
    return rules[number - 1].rule_id if number else "main"


def child_id(parent: UUID, number: int) -> UUID:
    """Children are counted per parent, from 1; a number is never used again."""
    return uuid5(parent, f"split:{number}")
