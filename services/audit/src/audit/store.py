"""Every SQL statement of audit. A batch is one statement: arrays in, rows out."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, bindparam, delete, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from audit.domain import Hold, RuleSet, rule_set_of
from audit.tables import blacklist, hold, order_state, rule_set
from eventing import UnitOfWork


class OrderNotFoundError(LookupError):
    """Audit has never seen the order."""


class HoldNotFoundError(LookupError):
    """There is no such hold."""


# --- rule sets


async def find_newer_rule_set(work: UnitOfWork, known_version: int) -> RuleSet | None:
    """The active rule set, if it is not the known one. Asked in every batch, so a change holds from the next batch on."""
    row = (await work.connection.execute(_ACTIVE_RULE_SET, {"known": known_version})).one_or_none()
    return None if row is None else rule_set_of(row.version, json.loads(row.document))


_ACTIVE_RULE_SET = text("SELECT version, document FROM rule_set WHERE active AND version <> :known")


async def add_rule_set(work: UnitOfWork, document: str, *, made_by: str, reason: str) -> int:
    """Activate a new version; the ones before stay as they are."""
    connection = work.connection
    # Two admins at once: the second waits here and gets the next number.
    await connection.execute(text("LOCK TABLE rule_set IN SHARE ROW EXCLUSIVE MODE"))
    await connection.execute(text("UPDATE rule_set SET active = false WHERE active"))
    inserted = await connection.execute(
        text(
            """
            INSERT INTO rule_set (version, document, active, made_by, made_at, reason)
            SELECT coalesce(max(version), 0) + 1, :document, true, :made_by, :now, :reason FROM rule_set
            RETURNING version
            """
        ),
        {"document": document, "made_by": made_by, "now": work.now, "reason": reason},
    )
    version: int = inserted.scalar_one()
    return version


async def get_rule_set(connection: AsyncConnection, version: int | None = None) -> Row[Any] | None:
    """One version; None: the active one."""
    which = rule_set.c.active if version is None else rule_set.c.version == version
    return (await connection.execute(select(rule_set).where(which))).one_or_none()


def rule_sets() -> Select[Any]:
    return select(rule_set)


# --- orders


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """A decided order, as it is written."""

    order_id: UUID
    root_id: UUID
    state: str
    open_holds: int
    channel: str
    shop_id: str
    rule_set_version: int
    rules_checked: int
    order_json: str | None
    part_json: str | None


async def add_orders(work: UnitOfWork, orders: Iterable[NewOrder]) -> set[UUID]:
    """Write those not seen before and lock them, sorted; return their ids. The others were decided already."""
    ordered = sorted(orders, key=lambda order: order.order_id)
    if not ordered:
        return set()
    rows = await work.connection.execute(
        _ADD_ORDERS,
        {
            "order_ids": [order.order_id for order in ordered],
            "root_ids": [order.root_id for order in ordered],
            "states": [order.state for order in ordered],
            "open_holds": [order.open_holds for order in ordered],
            "channels": [order.channel for order in ordered],
            "shop_ids": [order.shop_id for order in ordered],
            "versions": [order.rule_set_version for order in ordered],
            "checked": [order.rules_checked for order in ordered],
            "orders": [order.order_json for order in ordered],
            "parts": [order.part_json for order in ordered],
            "now": work.now,
        },
    )
    return set(rows.scalars())


_ADD_ORDERS = text(
    """
    INSERT INTO order_state (order_id, root_id, step, state, open_holds, channel, shop_id, rule_set_version, rules_checked,
                             decided_at, changed_at, order_json, part_json)
    SELECT order_id, root_id, 1, state, open_holds, channel, shop_id, version, checked, :now, :now, order_json, part_json
    FROM unnest(CAST(:order_ids AS uuid[]), CAST(:root_ids AS uuid[]), CAST(:states AS text[]), CAST(:open_holds AS integer[]),
                CAST(:channels AS text[]), CAST(:shop_ids AS text[]), CAST(:versions AS integer[]), CAST(:checked AS integer[]),
                CAST(:orders AS text[]), CAST(:parts AS text[]))
      AS t (order_id, root_id, state, open_holds, channel, shop_id, version, checked, order_json, part_json)
    ON CONFLICT (order_id) DO NOTHING
    RETURNING order_id
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedOrder:
    order_id: UUID
    root_id: UUID
    step: int
    state: str
    rule_set_version: int
    order_json: str | None
    part_json: str | None
    holds: tuple[Hold, ...]


async def lock_orders(work: UnitOfWork, order_ids: Iterable[UUID]) -> dict[UUID, LockedOrder]:
    """Lock the root rows, sorted, with their holds; unknown orders are absent."""
    wanted = sorted(set(order_ids))
    if not wanted:
        return {}
    # Locked in an own statement first: a later one sees what the lock's last owner left.
    orders = (await work.connection.execute(_LOCK_ORDERS, {"order_ids": wanted})).mappings().all()
    holds: dict[UUID, list[Hold]] = {order["order_id"]: [] for order in orders}
    for row in await work.connection.execute(_HOLDS_OF_ORDERS, {"order_ids": list(holds)}):
        holds[row.order_id].append(
            Hold(
                hold_id=row.hold_id,
                order_id=row.order_id,
                kind=row.kind,
                code=row.code,
                evidence=json.loads(row.evidence),
                rule_id=row.rule_id,
                release_at=row.release_at,
                state=row.state,
            )
        )
    return {order["order_id"]: LockedOrder(**order, holds=tuple(holds[order["order_id"]])) for order in orders}


_LOCK_ORDERS = text(
    """
    SELECT order_id, root_id, step, state, rule_set_version, order_json, part_json
    FROM order_state WHERE order_id = ANY(CAST(:order_ids AS uuid[])) ORDER BY order_id FOR UPDATE
    """
)
_HOLDS_OF_ORDERS = text(
    """
    SELECT hold_id, order_id, kind, code, evidence, rule_id, release_at, state
    FROM hold WHERE order_id = ANY(CAST(:order_ids AS uuid[])) ORDER BY placed_at, rule_id
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChange:
    order_id: UUID
    step: int
    state: str
    open_holds: int


async def record_changes(work: UnitOfWork, changes: Sequence[OrderChange]) -> None:
    """Write the new state of locked orders; a cleared order's text is dropped, it has gone on."""
    await work.connection.execute(
        _RECORD_CHANGES,
        {
            "order_ids": [change.order_id for change in changes],
            "steps": [change.step for change in changes],
            "states": [change.state for change in changes],
            "open_holds": [change.open_holds for change in changes],
            "now": work.now,
        },
    )


_RECORD_CHANGES = text(
    """
    UPDATE order_state AS o
    SET step = t.step, state = t.state, open_holds = t.open_holds, changed_at = :now,
        order_json = CASE WHEN t.state = 'cleared' THEN NULL ELSE o.order_json END,
        part_json = CASE WHEN t.state = 'cleared' THEN NULL ELSE o.part_json END
    FROM unnest(CAST(:order_ids AS uuid[]), CAST(:steps AS integer[]), CAST(:states AS text[]), CAST(:open_holds AS integer[]))
      AS t (order_id, step, state, open_holds)
    WHERE o.order_id = t.order_id
    """
)


async def find_order(connection: AsyncConnection, order_id: UUID) -> Row[Any] | None:
    columns = [column for column in order_state.c if column.name not in {"order_json", "part_json"}]
    return (await connection.execute(select(*columns).where(order_state.c.order_id == order_id))).one_or_none()


# --- holds


async def add_holds(work: UnitOfWork, holds: Sequence[tuple[NewOrder, Hold]]) -> None:
    await work.connection.execute(
        _ADD_HOLDS,
        {
            "hold_ids": [hold.hold_id for _, hold in holds],
            "order_ids": [hold.order_id for _, hold in holds],
            "channels": [order.channel for order, _ in holds],
            "shop_ids": [order.shop_id for order, _ in holds],
            "kinds": [hold.kind for _, hold in holds],
            "codes": [hold.code for _, hold in holds],
            "evidence": [json.dumps(hold.evidence, ensure_ascii=False) for _, hold in holds],
            "rule_ids": [hold.rule_id for _, hold in holds],
            "versions": [order.rule_set_version for order, _ in holds],
            "release_ats": [hold.release_at for _, hold in holds],
            "now": work.now,
        },
    )


_ADD_HOLDS = text(
    """
    INSERT INTO hold (hold_id, order_id, channel, shop_id, kind, scope, code, evidence, rule_id, rule_set_version,
                      placed_by, placed_at, release_at, state)
    SELECT hold_id, order_id, channel, shop_id, kind, 'order', code, evidence, rule_id, version,
           'rule', :now, release_at, 'open'
    FROM unnest(CAST(:hold_ids AS uuid[]), CAST(:order_ids AS uuid[]), CAST(:channels AS text[]), CAST(:shop_ids AS text[]),
                CAST(:kinds AS text[]), CAST(:codes AS text[]), CAST(:evidence AS text[]), CAST(:rule_ids AS text[]),
                CAST(:versions AS integer[]), CAST(:release_ats AS timestamptz[]))
      AS t (hold_id, order_id, channel, shop_id, kind, code, evidence, rule_id, version, release_at)
    """
)


async def close_holds(work: UnitOfWork, hold_ids: Iterable[UUID], *, state: str, by: str, reason: str) -> None:
    """End open holds of locked orders."""
    await work.connection.execute(
        _CLOSE_HOLDS, {"hold_ids": list(hold_ids), "state": state, "by": by, "reason": reason, "now": work.now}
    )


_CLOSE_HOLDS = text(
    """
    UPDATE hold SET state = :state, closed_at = :now, closed_by = :by, close_reason = :reason
    WHERE hold_id = ANY(CAST(:hold_ids AS uuid[])) AND state = 'open'
    """
)


async def get_order_of_hold(connection: AsyncConnection, hold_id: UUID) -> UUID:
    found: UUID | None = await connection.scalar(select(hold.c.order_id).where(hold.c.hold_id == hold_id))
    if found is None:
        raise HoldNotFoundError
    return found


def holds_where(
    *,
    state: str | None = None,
    kind: str | None = None,
    code: str | None = None,
    channel: str | None = None,
    shop_id: str | None = None,
    order_id: UUID | None = None,
) -> Select[Any]:
    """Holds by what is asked of them; None: whatever it is."""
    wanted = {"kind": kind, "code": code, "channel": channel, "shop_id": shop_id, "order_id": order_id}
    conditions = [hold.c[name] == value for name, value in wanted.items() if value is not None]
    if state is not None:
        # Spelt out in the statement: a prepared one with a parameter could not use the index of open holds.
        conditions.append(hold.c.state == bindparam("wanted_state", state, literal_execute=True))
    return select(hold).where(*conditions)


# --- blacklist


async def find_blacklisted(work: UnitOfWork, tokens_by_order: Mapping[UUID, Mapping[str, str]]) -> dict[UUID, set[str]]:
    """Which kinds of each order's tokens are listed; orders without a hit are absent.

    Asked per batch and not kept in memory: an entry counts from the next batch on, and the list may be as long as it likes.
    """
    asked = [(order_id, kind, token) for order_id, tokens in tokens_by_order.items() for kind, token in tokens.items()]
    if not asked:
        return {}
    order_ids, kinds, tokens = zip(*asked, strict=True)
    found: dict[UUID, set[str]] = {}
    parameters = {"order_ids": list(order_ids), "kinds": list(kinds), "tokens": list(tokens)}
    for row in await work.connection.execute(_FIND_BLACKLISTED, parameters):
        found.setdefault(row.order_id, set()).add(row.kind)
    return found


_FIND_BLACKLISTED = text(
    """
    SELECT t.order_id, t.kind
    FROM unnest(CAST(:order_ids AS uuid[]), CAST(:kinds AS text[]), CAST(:tokens AS text[])) AS t (order_id, kind, token)
    JOIN blacklist USING (kind, token)
    """
)


async def add_blacklisted(
    work: UnitOfWork, entries: Sequence[tuple[str, str]], *, reason: str, added_by: str
) -> list[tuple[str, str]]:
    """List (kind, token) pairs; return those that were not listed before."""
    rows = await work.connection.execute(
        _ADD_BLACKLISTED,
        {
            "kinds": [kind for kind, _ in entries],
            "tokens": [token for _, token in entries],
            "reason": reason,
            "by": added_by,
            "now": work.now,
        },
    )
    return [(row.kind, row.token) for row in rows]


_ADD_BLACKLISTED = text(
    """
    INSERT INTO blacklist (kind, token, reason, added_by, added_at)
    SELECT DISTINCT kind, token, :reason, :by, CAST(:now AS timestamptz)
    FROM unnest(CAST(:kinds AS text[]), CAST(:tokens AS text[])) AS t (kind, token)
    ORDER BY kind, token
    ON CONFLICT (kind, token) DO NOTHING
    RETURNING kind, token
    """
)


async def remove_blacklisted(work: UnitOfWork, kind: str, token: str) -> bool:
    """True: it was listed."""
    removed = await work.connection.execute(
        delete(blacklist).where(blacklist.c.kind == kind, blacklist.c.token == token).returning(blacklist.c.kind)
    )
    return removed.one_or_none() is not None


def blacklisted(kind: str | None) -> Select[Any]:
    return select(blacklist) if kind is None else select(blacklist).where(blacklist.c.kind == kind)
