"""Every SQL statement of router. A batch is one statement: arrays in, rows out."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import Row, Select, Table, TextClause, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts import CatalogLocation
from eventing import UnitOfWork
from router.domain import FreightRow, FreightTables, Network, Place, Policy, Record
from router.tables import decision, freight_tables, location, location_version, policy, routing_state

ROUTED, UNROUTABLE = "routed", "unroutable"
Kind = Literal["policy", "freight_tables"]
_TABLES: Mapping[Kind, Table] = {"policy": policy, "freight_tables": freight_tables}


class Revision(NamedTuple):
    """Changes whenever places, policy or freight tables do."""

    location_revision: int
    policy_version: int
    freight_version: int


# --- what decisions rest on


async def get_revision(connection: AsyncConnection) -> Revision:
    row = (await connection.execute(_GET_REVISION)).one()
    return Revision(*row)


_GET_REVISION = select(routing_state.c.location_revision, routing_state.c.policy_version, routing_state.c.freight_version)


async def get_network(connection: AsyncConnection) -> Network:
    """All places (those that are gone too), the active policy and freight tables."""
    documents = (await connection.execute(select(location.c.document))).scalars()
    return Network.of(
        [place_of(CatalogLocation.model_validate_json(document)) for document in documents],
        freight_of(*await _get_versioned(connection, "freight_tables", None)),
        policy_of(*await _get_versioned(connection, "policy", None)),
    )


async def get_network_of(connection: AsyncConnection, record: Record) -> Network:
    """Places, policy and freight tables in the versions that a kept decision names."""
    policy = policy_of(*await _get_versioned(connection, "policy", record.decision.policy_version))
    [network] = await get_networks_of(connection, [record], policy)
    return network


async def add_locations(work: UnitOfWork, locations: Iterable[CatalogLocation]) -> list[int]:
    """Keep the highest version of each place; return the places that changed."""
    newest: dict[int, CatalogLocation] = {}
    for known in locations:
        if known.place_no not in newest or known.version > newest[known.place_no].version:
            newest[known.place_no] = known
    ordered = [newest[place_no] for place_no in sorted(newest)]
    parameters = {
        "place_nos": [known.place_no for known in ordered],
        "place_ids": [known.place_id for known in ordered],
        "versions": [known.version for known in ordered],
        "documents": [known.model_dump_json() for known in ordered],
    }
    changed = list((await work.connection.execute(_ADD_LOCATIONS, parameters)).scalars())
    if changed:
        await work.connection.execute(text("UPDATE routing_state SET location_revision = location_revision + 1"))
    return changed


_ADD_LOCATIONS = text(
    """
    WITH given AS (
        SELECT * FROM unnest(CAST(:place_nos AS integer[]), CAST(:place_ids AS text[]), CAST(:versions AS bigint[]),
                             CAST(:documents AS text[])) AS t (place_no, place_id, version, document)
    ), changed AS (
        INSERT INTO location (place_no, place_id, version, document)
        SELECT place_no, place_id, version, document FROM given ORDER BY place_no
        ON CONFLICT (place_no) DO UPDATE
        SET place_id = excluded.place_id, version = excluded.version, document = excluded.document
        WHERE location.version < excluded.version
        RETURNING place_no, version, document
    ), kept AS (
        INSERT INTO location_version (place_no, version, document)
        SELECT place_no, version, document FROM changed
        ON CONFLICT DO NOTHING
    )
    SELECT place_no FROM changed
    """
)


async def add_version(work: UnitOfWork, kind: Kind, document: str, *, active: bool, made_by: str, reason: str) -> int:
    """Add a new version, at once or not yet active; the ones before stay, for the decisions that name them."""
    # The one row is the lock: two admins at once get two numbers, and workers see the change with their next batch.
    await work.connection.execute(text("SELECT FROM routing_state FOR UPDATE"))
    inserted = await work.connection.execute(
        text(
            f"""
            INSERT INTO {kind} (version, document, state, made_by, made_at, reason)
            SELECT coalesce(max(version), 0) + 1, :document, 'draft', :made_by, :now, :reason FROM {kind}
            RETURNING version
            """  # noqa: S608  one of two names
        ),
        {"document": document, "made_by": made_by, "now": work.now, "reason": reason},
    )
    version: int = inserted.scalar_one()
    if active:
        await activate_version(work, kind, version)
    return version


async def activate_version(work: UnitOfWork, kind: Kind, version: int) -> None:
    """Let this version hold from every worker's next batch on; the one before becomes inactive and may come back."""
    connection = work.connection
    column = "policy_version" if kind == "policy" else "freight_version"
    await connection.execute(text(f"UPDATE routing_state SET {column} = :version"), {"version": version})  # noqa: S608
    await connection.execute(text(f"UPDATE {kind} SET state = 'inactive' WHERE state = 'active'"))  # noqa: S608
    await connection.execute(
        text(f"UPDATE {kind} SET state = 'active' WHERE version = :version"),  # noqa: S608  one of two names
        {"version": version},
    )


async def find_version(connection: AsyncConnection, kind: Kind, version: int | None) -> Row[Any] | None:
    """One version; None: the active one."""
    table = _TABLES[kind]
    which = table.c.state == "active" if version is None else table.c.version == version
    return (await connection.execute(select(table).where(which))).one_or_none()


def versions(kind: Kind) -> Select[Any]:
    return select(_TABLES[kind])


def locations() -> Select[Any]:
    return select(location)


async def _get_versioned(connection: AsyncConnection, kind: Kind, version: int | None) -> tuple[int, Mapping[str, Any]]:
    row = await find_version(connection, kind, version)
    if row is None:
        raise LookupError(f"{kind}: version {version or 'active'} is missing")
    return version_of(row)


def version_of(row: Row[Any]) -> tuple[int, Mapping[str, Any]]:
    return row.version, json.loads(row.document)


# --- orders and their decisions


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDecision:
    order_id: UUID
    root_id: UUID
    attempt: int
    policy_version: int
    freight_version: int
    candidates: int
    eligible: int
    combined: int
    """Plans of several parcels."""
    place_no: int | None
    """The winner, where one place ships it all."""
    record: str

    @property
    def state(self) -> str:
        return ROUTED if self.eligible or self.combined else UNROUTABLE


async def lock_orders(work: UnitOfWork, decisions: Sequence[NewDecision]) -> dict[UUID, int]:
    """Lock the orders, sorted, and count this change of each; return the new step by order.

    Orders whose attempt (or a later one) has been decided before are absent.
    """
    ordered = sorted(decisions, key=lambda new: new.order_id)
    rows = await work.connection.execute(
        _LOCK_ORDERS,
        {
            "order_ids": [new.order_id for new in ordered],
            "root_ids": [new.root_id for new in ordered],
            "attempts": [new.attempt for new in ordered],
            "states": [new.state for new in ordered],
            "now": work.now,
        },
    )
    return {row.order_id: row.step for row in rows}


_LOCK_ORDERS = text(
    """
    INSERT INTO order_state (order_id, root_id, step, attempt, state, decided_at)
    SELECT order_id, root_id, 1, attempt, state, :now
    FROM unnest(CAST(:order_ids AS uuid[]), CAST(:root_ids AS uuid[]), CAST(:attempts AS integer[]), CAST(:states AS text[]))
      AS t (order_id, root_id, attempt, state)
    ON CONFLICT (order_id) DO UPDATE
    SET step = order_state.step + 1, attempt = excluded.attempt, state = excluded.state,
        decided_at = excluded.decided_at
    WHERE order_state.attempt < excluded.attempt
    RETURNING order_id, step
    """
)


async def add_decisions(work: UnitOfWork, decisions: Sequence[NewDecision]) -> None:
    await work.connection.execute(
        _ADD_DECISIONS,
        {
            "order_ids": [new.order_id for new in decisions],
            "attempts": [new.attempt for new in decisions],
            "policies": [new.policy_version for new in decisions],
            "freights": [new.freight_version for new in decisions],
            "candidates": [new.candidates for new in decisions],
            "eligible": [new.eligible for new in decisions],
            "combined": [new.combined for new in decisions],
            "place_nos": [new.place_no for new in decisions],
            "records": [new.record for new in decisions],
            "now": work.now,
        },
    )


_ADD_DECISIONS = text(
    """
    INSERT INTO decision (order_id, attempt, decided_at, policy_version, freight_version, candidates, eligible, combined,
                          place_no, record)
    SELECT order_id, attempt, :now, policy_version, freight_version, candidates, eligible, combined, place_no, record
    FROM unnest(CAST(:order_ids AS uuid[]), CAST(:attempts AS integer[]), CAST(:policies AS integer[]),
                CAST(:freights AS integer[]), CAST(:candidates AS integer[]), CAST(:eligible AS integer[]),
                CAST(:combined AS integer[]), CAST(:place_nos AS integer[]), CAST(:records AS text[]))
      AS t (order_id, attempt, policy_version, freight_version, candidates, eligible, combined, place_no, record)
    """
)


async def find_decision(connection: AsyncConnection, order_id: UUID, attempt: int | None) -> Row[Any] | None:
    """The order's decision of an attempt; None: of the last one."""
    wanted = select(decision).where(decision.c.order_id == order_id)
    if attempt is not None:
        wanted = wanted.where(decision.c.attempt == attempt)
    return (await connection.execute(wanted.order_by(decision.c.attempt.desc()).limit(1))).one_or_none()


def decisions() -> Select[Any]:
    """Without their records, which are long."""
    return select(*[column for column in decision.c if column.name != "record"])


Outcome = Literal["single", "combined", "unroutable"]
_OUTCOMES: Mapping[Outcome, TextClause] = {
    "single": text("eligible > 0"),
    "combined": text("eligible = 0 AND combined > 0"),
    "unroutable": text("eligible = 0 AND combined = 0"),
}
"""Written as the partial indexes are, so that they are used: both are rare."""


def decisions_of(outcome: Outcome) -> Select[Any]:
    return decisions().where(_OUTCOMES[outcome])


async def get_networks_of(connection: AsyncConnection, records: Sequence[Record], policy: Policy) -> list[Network]:
    """Places and freight tables as each kept decision knew them, under one policy; three statements for all of them."""
    used = {
        (finding.place_no, finding.place_version)
        for record in records
        for finding in record.decision.findings
        if finding.place_version
    }
    documents = await connection.execute(
        select(location_version).where(tuple_(location_version.c.place_no, location_version.c.version).in_(used))
    )
    places = {(row.place_no, row.version): place_of(CatalogLocation.model_validate_json(row.document)) for row in documents}
    wanted = {record.decision.freight_version for record in records}
    rows = await connection.execute(select(freight_tables).where(freight_tables.c.version.in_(wanted)))
    freights = {row.version: freight_of(row.version, json.loads(row.document)) for row in rows}
    return [
        Network.of(
            [places[finding.place_no, finding.place_version] for finding in record.decision.findings if finding.place_version],
            freights[record.decision.freight_version],
            policy,
        )
        for record in records
    ]


async def find_last_decisions(connection: AsyncConnection, *, before: datetime, limit: int) -> Sequence[Row[Any]]:
    newest = decision.c.decided_at.desc(), decision.c.order_id.desc(), decision.c.attempt.desc()
    found = select(decision).where(decision.c.decided_at <= before).order_by(*newest).limit(limit)
    return (await connection.execute(found)).all()


async def purge_decisions(work: UnitOfWork, *, before: datetime, limit: int) -> int:
    """Drop the oldest decisions, at most so many at once; return how many went."""
    gone = await work.connection.execute(_PURGE_DECISIONS, {"before": before, "limit": limit})
    return gone.rowcount


_PURGE_DECISIONS = text(
    """
    DELETE FROM decision USING (
        SELECT order_id, attempt FROM decision WHERE decided_at < :before
        ORDER BY decided_at, order_id, attempt LIMIT :limit FOR UPDATE SKIP LOCKED
    ) AS old
    WHERE decision.order_id = old.order_id AND decision.attempt = old.attempt
    """
)


# --- documents


def place_of(known: CatalogLocation) -> Place:
    return Place(
        place_no=known.place_no,
        place_id=known.place_id,
        version=known.version,
        name=known.name,
        region_code=known.region_code,
        latitude=known.latitude,
        longitude=known.longitude,
        coverage=frozenset(known.coverage),
        carriers=tuple(dict.fromkeys(known.carriers)),
        # Local by contract; one with an offset could not be compared, and would stop every order, not its place alone.
        cut_off=known.cut_off.replace(tzinfo=None),
        working_weekdays=frozenset(known.working_weekdays),
        priority=known.priority,
        handling_cost_minor=known.handling_cost_minor,
        paused=known.paused,
        ships=known.ships,
        pick_up=known.pick_up,
        deleted=known.deleted,
    )


def policy_of(version: int, document: Mapping[str, Any]) -> Policy:
    return Policy(
        version=version,
        filters=frozenset(document["filters"]),
        criteria=tuple(document["criteria"]),
        bands=document["bands"],
        min_stock_after_pick=document["min_stock_after_pick"],
        split=document["split"],
        max_parcels=document["max_parcels"],
        min_parcel_value_minor=document["min_parcel_value_minor"],
    )


def freight_of(version: int, document: Mapping[str, Any]) -> FreightTables:
    default_row = document.get("default_row")
    return FreightTables(
        version,
        {carrier: tuple(FreightRow(**row) for row in rows) for carrier, rows in document["carriers"].items()},
        None if default_row is None else FreightRow(**default_row),
    )
