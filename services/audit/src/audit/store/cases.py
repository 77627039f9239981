"""What waits for a person: cases, and acts that can still be taken back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from audit.tables import audit_case, deferred_act
from eventing import UnitOfWork


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCase:
    case_id: UUID
    kind: str
    root_id: UUID
    request_id: UUID
    channel: str
    shop_id: str
    fields: tuple[str, ...]
    source_version: int


async def add_cases(work: UnitOfWork, cases: Sequence[NewCase]) -> None:
    if not cases:
        return
    await work.connection.execute(
        text(
            """
            INSERT INTO audit_case (case_id, kind, root_id, request_id, channel, shop_id, fields, source_version, opened_at,
                                    state)
            SELECT case_id, kind, root_id, request_id, channel, shop_id, fields, version, :now, 'open'
            FROM unnest(CAST(:ids AS uuid[]), CAST(:kinds AS text[]), CAST(:roots AS uuid[]), CAST(:requests AS uuid[]),
                        CAST(:channels AS text[]), CAST(:shops AS text[]), CAST(:fields AS text[]), CAST(:versions AS bigint[]))
              AS t (case_id, kind, root_id, request_id, channel, shop_id, fields, version)
            ON CONFLICT (case_id) DO NOTHING
            """
        ),
        {
            "ids": [case.case_id for case in cases],
            "kinds": [case.kind for case in cases],
            "roots": [case.root_id for case in cases],
            "requests": [case.request_id for case in cases],
            "channels": [case.channel for case in cases],
            "shops": [case.shop_id for case in cases],
            "fields": [json.dumps(case.fields) for case in cases],
            "versions": [case.source_version for case in cases],
            "now": work.now,
        },
    )


def cases_where(wanted: Mapping[str, Any]) -> Select[Any]:
    return select(audit_case).where(*(audit_case.c[name] == value for name, value in wanted.items() if value is not None))


async def close_case(work: UnitOfWork, case_id: UUID, *, by: str, reason: str) -> Row[Any] | None:
    """Close it, unless it is closed already; return it as it is now."""
    await work.connection.execute(
        text(
            """
            UPDATE audit_case SET state = 'closed', closed_at = :now, closed_by = :by, close_reason = :reason
            WHERE case_id = :case_id AND state = 'open'
            """
        ),
        {"case_id": case_id, "now": work.now, "by": by, "reason": reason},
    )
    return (await work.connection.execute(select(audit_case).where(audit_case.c.case_id == case_id))).one_or_none()


# --- acts that wait


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAct:
    act_id: UUID
    act: str
    subjects: tuple[UUID, ...]
    reason: str
    asked_by: str
    due_at: datetime


async def add_act(work: UnitOfWork, act: NewAct) -> None:
    await work.connection.execute(
        text(
            """
            INSERT INTO deferred_act (act_id, act, subjects, reason, asked_by, asked_at, due_at, state)
            VALUES (:act_id, :act, :subjects, :reason, :asked_by, :now, :due_at, 'waiting')
            """
        ),
        {
            "act_id": act.act_id,
            "act": act.act,
            "subjects": json.dumps([str(subject) for subject in act.subjects]),
            "reason": act.reason,
            "asked_by": act.asked_by,
            "due_at": act.due_at,
            "now": work.now,
        },
    )


async def lock_acts(work: UnitOfWork, act_ids: Sequence[UUID]) -> Sequence[Row[Any]]:
    """Locked before any order: who takes an act back waits here, and finds it done or not."""
    statement = select(deferred_act).where(deferred_act.c.act_id.in_(act_ids)).order_by(deferred_act.c.act_id)
    return (await work.connection.execute(statement.with_for_update())).all()


async def end_act(work: UnitOfWork, act_id: UUID, state: str, outcomes: Mapping[UUID, str] | None = None) -> None:
    await work.connection.execute(
        text("UPDATE deferred_act SET state = :state, ended_at = :now, outcomes = :outcomes WHERE act_id = :act_id"),
        {
            "act_id": act_id,
            "state": state,
            "now": work.now,
            "outcomes": None if outcomes is None else json.dumps({str(key): value for key, value in outcomes.items()}),
        },
    )


async def get_act(connection: AsyncConnection, act_id: UUID) -> Row[Any]:
    return (await connection.execute(select(deferred_act).where(deferred_act.c.act_id == act_id))).one()


def acts_where(wanted: Mapping[str, Any]) -> Select[Any]:
    return select(deferred_act).where(*(deferred_act.c[name] == value for name, value in wanted.items() if value is not None))


def subjects_of(row: Row[Any]) -> list[UUID]:
    return [UUID(subject) for subject in json.loads(row.subjects)]
