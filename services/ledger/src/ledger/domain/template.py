"""Posting templates as data: which accounts a fact moves. Accepted only if they balance whatever the amounts are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

Side = Literal["debit", "credit"]
Per = Literal["order", "line"]


class Amounts(NamedTuple):
    """The base amounts of a fact, or of one line of it, in minor units. Every term of a template is a sum of these."""

    paid: int = 0
    """What the buyer pays, tax included."""
    subsidy: int = 0
    """What others than the shop pay towards it (receivable - paid), tax included."""
    tax: int = 0
    """Output VAT inside paid + subsidy."""
    cost: int = 0
    freight_estimate: int = 0
    """What the carrier will charge."""
    residual: int = 0
    """What damaged goods are still worth, of their cost."""


def total_of(amounts: Iterable[Amounts]) -> Amounts:
    """The sum, base amount by base amount."""
    columns = tuple(zip(*amounts, strict=True))
    return Amounts(*map(sum, columns)) if columns else Amounts()


TERMS: dict[str, Amounts] = {
    "paid": Amounts(paid=1),
    "subsidy": Amounts(subsidy=1),
    "receivable": Amounts(paid=1, subsidy=1),
    "tax": Amounts(tax=1),
    "net_of_tax": Amounts(paid=1, subsidy=1, tax=-1),
    "cost": Amounts(cost=1),
    "freight_estimate": Amounts(freight_estimate=1),
    "residual": Amounts(residual=1),
    "write_off": Amounts(cost=1, residual=-1),
}
"""The closed vocabulary: term → how often each base amount is in it. Being linear, balance can be proved, not only probed."""

_SALE = frozenset({"paid", "subsidy", "receivable", "tax", "net_of_tax"})
_NET = frozenset({"receivable", "tax", "net_of_tax"})
_COST = frozenset({"cost"})
_DAMAGE = frozenset({"cost", "residual", "write_off"})
KNOWN_TERMS: dict[str, frozenset[str]] = {
    "paid": _SALE,  # Nobody knows the cost before goods are allocated.
    "changed": _SALE,
    "shipped": _SALE | {"cost", "freight_estimate"},
    "delivered": _SALE | _COST,
    "recognised": _NET | _COST,
    "refunded": _SALE,
    "recognition_overlap": _NET,
    "return_good": _COST,
    "return_bad": _DAMAGE,
    "return_missing": _COST,
    "lost": _COST,
    "cost_overlap": _COST,
    "loss_overlap": _COST,
    "stock_received": _COST,
    "stock_difference": _COST,
    "stock_damaged": _DAMAGE,
    "stock_transfer_out": _COST,
    "stock_transfer_in": _COST,
}
"""Template → the terms its own event carries. A template may ask for no other: it posts from its event alone, or from the sums
of its origin's accounts (domain/account.py)."""

COLLECTIONS = ("platform_escrow", "direct", "cash_on_delivery", "other")
"""Who holds the buyer's money. Enums on topics are open: what is not known here counts as `other`."""


def collection_of(word: str) -> str:
    return word if word in COLLECTIONS else "other"


class TemplateLine(NamedTuple):
    account: str
    side: Side
    term: str
    per: Per = "order"
    collections: tuple[str, ...] = COLLECTIONS
    """When it is posted."""


class _Step(NamedTuple):
    """A template line made ready: the base amounts it adds up, signed so that debits are positive."""

    account: str
    weights: tuple[tuple[int, int], ...]
    per_line: bool


@dataclass(frozen=True, slots=True)
class Template:
    """One version of a template. `code` says which fact it posts, `valid_from` from which event time on."""

    code: str
    version: int
    valid_from: datetime
    word: str
    name: str
    lines: tuple[TemplateLine, ...]
    steps: Mapping[str, tuple[_Step, ...]]
    """Collection → lines, made ready once, since they run for every event."""

    @classmethod
    def of(
        cls, *, code: str, version: int, valid_from: datetime, word: str, name: str, lines: Sequence[TemplateLine]
    ) -> Template:
        steps = {
            collection: tuple(_step(line) for line in lines if collection in line.collections) for collection in COLLECTIONS
        }
        return cls(code, version, valid_from, word, name, tuple(lines), steps)


def _step(line: TemplateLine) -> _Step:
    sign = 1 if line.side == "debit" else -1
    weights = tuple((index, sign * factor) for index, factor in enumerate(TERMS[line.term]) if factor)
    return _Step(line.account, weights, line.per == "line")


def lines_of(document: Sequence[Mapping[str, Any]]) -> tuple[TemplateLine, ...]:
    """Template lines as they are kept: `[{"account", "side", "amount", "per", "when": {"collection": [...]}}]`."""
    return tuple(
        TemplateLine(
            account=line["account"],
            side=line["side"],
            term=line["amount"],
            per=line.get("per", "order"),
            collections=tuple((line.get("when") or {}).get("collection") or COLLECTIONS),
        )
        for line in document
    )


def document_of(lines: Iterable[TemplateLine]) -> list[dict[str, Any]]:
    """The inverse of `lines_of`."""
    return [
        {"account": line.account, "side": line.side, "amount": line.term, "per": line.per}
        | ({} if line.collections == COLLECTIONS else {"when": {"collection": list(line.collections)}})
        for line in lines
    ]


class TemplateFault(NamedTuple):
    """Why a template is refused. `field` is the line's place in the document, empty for the whole."""

    code: str
    field: str
    params: dict[str, Any]


def faults_of(code: str, lines: Sequence[TemplateLine], *, postable: frozenset[str]) -> list[TemplateFault]:
    """Everything wrong with a template's lines; `postable` are the accounts that may be posted to."""
    faults = []
    for index, line in enumerate(lines):
        if line.account not in postable:
            faults.append(TemplateFault("account_not_postable", f"lines.{index}.account", {"account": line.account}))
        if line.term not in KNOWN_TERMS[code]:
            known = ", ".join(sorted(KNOWN_TERMS[code]))
            faults.append(TemplateFault("term_not_known", f"lines.{index}.amount", {"template": code, "known": known}))
    return faults or _imbalances(lines)


def _imbalances(lines: Sequence[TemplateLine]) -> list[TemplateFault]:
    faults = []
    for collection in COLLECTIONS:
        balance = [0] * len(Amounts._fields)
        for line in lines:
            if collection in line.collections:
                for index, factor in _step(line).weights:
                    balance[index] += factor
        if any(balance):
            params = {"collection": collection, "difference": _in_words(balance)}
            faults.append(TemplateFault("unbalanced_template", "lines", params))
    return faults


def _in_words(balance: Sequence[int]) -> str:
    words = [
        f"{'-' if factor < 0 else '+'} {'' if abs(factor) == 1 else f'{abs(factor)} × '}{name}"
        for name, factor in zip(Amounts._fields, balance, strict=True)
        if factor
    ]
    return " ".join(words).removeprefix("+ ")


def in_force(templates: Sequence[Template], at: datetime) -> Template | None:
    """The highest version whose day has come at `at`, the event's time; versions of one code, in any order."""
    valid = [template for template in templates if template.valid_from <= at]
    return max(valid, key=lambda template: template.version) if valid else None
