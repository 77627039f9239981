"""Chart of accounts, posting templates and closed periods: versioned documents, read once and kept until one is added."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.domain.period import next_period
from ledger.domain.policy import FIRST_POLICY, Policy
from ledger.domain.posting import RECEIPT
from ledger.domain.template import Template, document_of, lines_of

_GATE = 0x6C65_6467_6572
"""Key of the advisory lock around the set-up: postings share it, whoever closes a period or adds a version takes it alone."""

_SHARE_GATE = text("SELECT pg_advisory_xact_lock_shared(:gate)")
_TAKE_GATE = text("SELECT pg_advisory_xact_lock(:gate)")
_STAMP = text(
    """
    SELECT (SELECT count(*) FROM template_version) AS templates, (SELECT count(*) FROM chart_version) AS charts,
           (SELECT count(*) FROM policy_version WHERE book = :book) AS policies,
           (SELECT max(period) FROM closed_period WHERE book = :book) AS closed
    """
)
_TEMPLATES = text("SELECT code, version, valid_from, word, name, document::text FROM template_version ORDER BY code, version")
_CHART = text("SELECT version, document::text, created_at, created_by FROM chart_version ORDER BY version DESC LIMIT 1")
_ADD_TEMPLATE = text(
    """
    INSERT INTO template_version (code, version, valid_from, word, name, document, created_at, created_by)
    VALUES (:code, :version, :valid_from, :word, :name, CAST(:document AS jsonb), :now, :who)
    """
)
_ADD_CHART = text(
    """
    INSERT INTO chart_version (version, document, created_at, created_by)
    VALUES (:version, CAST(:document AS jsonb), :now, :who)
    """
)
_POLICIES = text(
    """
    SELECT version, valid_from, recognition, damaged_value_bp FROM policy_version WHERE book = :book ORDER BY version
    """
)
_ADD_POLICY = text(
    """
    INSERT INTO policy_version (book, version, valid_from, recognition, damaged_value_bp, created_at, created_by)
    VALUES (:book, :version, :valid_from, :recognition, :damaged_value_bp, :now, :who)
    """
)
_USED_ACCOUNTS = text("SELECT account FROM account_balance UNION SELECT account FROM balance_delta")
_CLOSE = text(
    """
    INSERT INTO closed_period (book, period, closed_at, closed_by, reason) VALUES (:book, :period, :now, :who, :reason)
    ON CONFLICT (book, period) DO NOTHING
    """
)
_OPEN = text("DELETE FROM closed_period WHERE book = :book AND period = :period")
_LAST_CLOSED = text("SELECT max(period) FROM closed_period WHERE book = :book")
_PERIODS = text(
    """
    SELECT coalesce(counted.period, closed.period) AS period, coalesce(counted.vouchers, 0) AS vouchers,
           closed.closed_at, closed.closed_by, closed.reason
    FROM (SELECT period, sum(last_number) AS vouchers FROM voucher_counter WHERE book = :book GROUP BY period) AS counted
    FULL JOIN (SELECT * FROM closed_period WHERE book = :book) AS closed USING (period)
    ORDER BY 1 DESC
    """
)


class Account(NamedTuple):
    code: str
    name: str
    english: str
    type: str
    direction: str


@dataclass(frozen=True, slots=True)
class Chart:
    version: int
    created_at: datetime
    created_by: str
    accounts: Mapping[str, Account]

    @property
    def postable(self) -> frozenset[str]:
        """Only leaves: an account that has accounts below it (1122 above 1122.01) is a sum."""
        return postable_of(self.accounts)


def postable_of(accounts: Mapping[str, Account]) -> frozenset[str]:
    parents = {code.rpartition(".")[0] for code in accounts}
    return frozenset(accounts) - parents


@dataclass(frozen=True, slots=True)
class Setup:
    """What a batch needs to know before it posts."""

    chart: Chart
    templates: Mapping[str, Sequence[Template]]
    policies: Sequence[Policy]
    first_open_period: str
    """Everything before it is closed; empty where nothing ever was."""


class SetupReader:
    """Reads the set-up of one book; documents are parsed again only when a version was added (they are never changed)."""

    def __init__(self, book: str) -> None:
        self.book = book
        self._stamp: tuple[int, int, int] | None = None
        self._chart: Chart | None = None
        self._templates: Mapping[str, Sequence[Template]] = {}
        self._policies: Sequence[Policy] = ()

    async def read(self, connection: AsyncConnection) -> Setup:
        row = (await connection.execute(_STAMP, {"book": self.book})).one()
        stamp = (row.templates, row.charts, row.policies)
        if self._chart is None or self._stamp != stamp:
            self._chart = await get_chart(connection)
            self._templates = await get_templates(connection) | {RECEIPT.code: [RECEIPT]}
            self._policies = await get_policies(connection, self.book)
            self._stamp = stamp
        return Setup(self._chart, self._templates, self._policies, first_open_after(row.closed))


def first_open_after(last_closed: str | None) -> str:
    """Closing a period closes all before it."""
    return next_period(last_closed) if last_closed else ""


async def share_gate(connection: AsyncConnection) -> None:
    """Keep the set-up as it is until this transaction ends; read it after this. Taken before every other lock."""
    await connection.execute(_SHARE_GATE, {"gate": _GATE})


async def take_gate(connection: AsyncConnection) -> None:
    """Wait until nobody posts: for changes of the set-up, which postings in flight must not see half."""
    await connection.execute(_TAKE_GATE, {"gate": _GATE})


async def get_chart(connection: AsyncConnection) -> Chart:
    row = (await connection.execute(_CHART)).one()
    accounts = {account["code"]: Account(**account) for account in json.loads(row.document)}
    return Chart(row.version, row.created_at, row.created_by, accounts)


async def get_templates(connection: AsyncConnection) -> dict[str, list[Template]]:
    templates: dict[str, list[Template]] = {}
    for row in await connection.execute(_TEMPLATES):
        lines = lines_of(json.loads(row.document))
        template = Template.of(
            code=row.code, version=row.version, valid_from=row.valid_from, word=row.word, name=row.name, lines=lines
        )
        templates.setdefault(row.code, []).append(template)
    return templates


async def add_template(connection: AsyncConnection, template: Template, *, now: datetime, who: str) -> None:
    await connection.execute(
        _ADD_TEMPLATE,
        {
            "code": template.code,
            "version": template.version,
            "valid_from": template.valid_from,
            "word": template.word,
            "name": template.name,
            "document": json.dumps(document_of(template.lines), ensure_ascii=False),
            "now": now,
            "who": who,
        },
    )


async def get_policies(connection: AsyncConnection, book: str) -> list[Policy]:
    """All versions, oldest first, before them the one that every book begins with."""
    rows = await connection.execute(_POLICIES, {"book": book})
    return [FIRST_POLICY, *(Policy(*row) for row in rows)]


async def add_policy(connection: AsyncConnection, book: str, policy: Policy, *, now: datetime, who: str) -> None:
    await connection.execute(_ADD_POLICY, policy._asdict() | {"book": book, "now": now, "who": who})


async def add_chart(connection: AsyncConnection, accounts: Sequence[Account], *, version: int, now: datetime, who: str) -> None:
    document = json.dumps([account._asdict() for account in accounts], ensure_ascii=False)
    await connection.execute(_ADD_CHART, {"version": version, "document": document, "now": now, "who": who})


async def get_used_accounts(connection: AsyncConnection) -> set[str]:
    """Accounts that have ever been posted to."""
    return set((await connection.execute(_USED_ACCOUNTS)).scalars())


async def add_closed_period(
    connection: AsyncConnection, *, book: str, period: str, now: datetime, who: str, reason: str
) -> None:
    await connection.execute(_CLOSE, {"book": book, "period": period, "now": now, "who": who, "reason": reason})


async def remove_closed_period(connection: AsyncConnection, *, book: str, period: str) -> None:
    await connection.execute(_OPEN, {"book": book, "period": period})


async def find_last_closed(connection: AsyncConnection, book: str) -> str | None:
    closed: str | None = await connection.scalar(_LAST_CLOSED, {"book": book})
    return closed


async def get_periods(connection: AsyncConnection, book: str) -> Sequence[RowMapping]:
    return (await connection.execute(_PERIODS, {"book": book})).mappings().all()
