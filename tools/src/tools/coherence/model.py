"""What a check is, and the three shapes nearly all of them have: wrong rows, equal sets, nothing old."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import asyncpg

SHOWN = 5
"""Findings shown in words per check; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    subject: str
    """The order, SKU, voucher … it is about."""
    detail: str


@dataclass(frozen=True, slots=True)
class TopicRecord:
    partition: int
    offset: int
    subject: str
    type: str
    id: str
    source: str
    """The service, and after a restore which of its lives."""
    digest: bytes
    """Of type and body."""
    body: bytes


class Topics(Protocol):
    async def lags(self) -> Mapping[str, int]:
        """Records not yet consumed, by `group topic`."""
        ...

    async def records(self, topic: str) -> Sequence[TopicRecord]:
        """Every record still on a topic, in order per partition."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Where checks read: a connection per database (in a read-only snapshot each), and the broker."""

    databases: Mapping[str, asyncpg.Connection]
    topics: Topics

    async def rows(self, service: str, sql: str, *values: object) -> list[asyncpg.Record]:
        return list(await self.databases[service].fetch(sql, *values))


_SUM = "SELECT count(*), sum(hashtextextended(key || '=' || value, 0)) FROM ({}) AS said (key, value)"

Find = Callable[[Sources], Awaitable[list[Finding]]]


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    title: str
    """What holds, as a sentence."""
    find: Find
    live: bool = False
    """Holds at any moment, not only when nothing is under way."""


@dataclass(frozen=True, slots=True)
class Outcome:
    check: Check
    findings: list[Finding] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.findings


def wrong_rows(name: str, title: str, service: str, sql: str, *, live: bool = True) -> Check:
    """A check whose statement finds what is wrong: rows (subject, detail), none when all is well."""

    async def find(sources: Sources) -> list[Finding]:
        return [Finding(str(subject), str(detail)) for subject, detail in await sources.rows(service, sql)]

    return Check(name, title, find, live=live)


def everywhere(name: str, title: str, services: Sequence[str], sql: str, *, live: bool = False) -> Check:
    """The same statement in several databases."""

    async def find(sources: Sources) -> list[Finding]:
        return [
            Finding(f"{service}: {subject}", str(detail))
            for service in services
            for subject, detail in await sources.rows(service, sql)
        ]

    return Check(name, title, find, live=live)


def same_in_both(name: str, title: str, left: tuple[str, str], right: tuple[str, str]) -> Check:
    """Two databases say the same: each statement gives (key, value) as text, keys unique.

    Counts and a sum of hashes are compared first, so that a million equal rows cost two aggregates and no memory here.
    """

    async def find(sources: Sources) -> list[Finding]:
        sums = [await sources.rows(service, _SUM.format(sql)) for service, sql in (left, right)]
        if tuple(sums[0][0]) == tuple(sums[1][0]):
            return []
        ours, theirs = [dict(map(tuple, await sources.rows(service, sql))) for service, sql in (left, right)]
        return [
            Finding(key, _difference(left[0], ours.get(key), right[0], theirs.get(key)))
            for key in sorted(ours.keys() | theirs.keys())
            if ours.get(key) != theirs.get(key)
        ]

    return Check(name, title, find)


@dataclass(frozen=True, slots=True)
class Term:
    """Some of the units of a sum that must come to nothing."""

    where: str
    """In words."""
    service: str
    sign: int
    sql: str
    """Gives (key, quantity); a key may come often."""


_WEIGHED = (
    "SELECT coalesce(sum(quantity), 0), coalesce(sum(quantity * hashtextextended(key, 0)::numeric), 0)"
    " FROM ({}) AS said (key, quantity)"
)


def adds_up(name: str, title: str, terms: Sequence[Term]) -> Check:
    """Over all databases, the units of each key come to zero.

    Sums weighed by a hash of the key are compared first: they are linear, so two aggregates per term tell of a million keys.
    """

    async def find(sources: Sources) -> list[Finding]:
        sums = [(await sources.rows(term.service, _WEIGHED.format(term.sql)))[0] for term in terms]
        if all(sum(term.sign * row[column] for term, row in zip(terms, sums, strict=True)) == 0 for column in (0, 1)):
            return []
        found: dict[str, dict[str, int]] = {}
        for term in terms:
            for key, quantity in await sources.rows(term.service, term.sql):
                units = found.setdefault(key, {})
                units[term.where] = units.get(term.where, 0) + quantity
        signs = {term.where: term.sign for term in terms}
        return [
            Finding(key, ", ".join(f"{quantity} {where}" for where, quantity in units.items()))
            for key, units in sorted(found.items())
            if sum(signs[where] * quantity for where, quantity in units.items())
        ]

    return Check(name, title, find)


def _difference(left: str, ours: str | None, right: str, theirs: str | None) -> str:
    if theirs is None:
        return f"in {left}, missing in {right}"
    if ours is None:
        return f"in {right}, missing in {left}"
    return f"{left} says {ours}, {right} says {theirs}"
