"""Order rows and their holds: adding, locking, changing.

The root's row is the lock: whoever changes an order of a root holds it. Merged orders are locked after all others: their
parents are known before them, and nobody goes the other way.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, Select, bindparam, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from audit.domain.holds import HELD, OPEN, Hold
from audit.tables import hold, order_state
from contracts import Order, Part
from eventing import UnitOfWork


@dataclass(slots=True, kw_only=True)
class OrderRow:
    """An order as audit knows it, and as it is to be written. Order and part are there only while it is held."""

    order_id: UUID
    root_id: UUID
    parent_id: UUID | None = None
    split_no: int = 0
    children: int = 0
    """How many it was split into, ever."""
    merged_into: UUID | None = None
    is_merge: bool = False
    step: int = 1
    state: str
    channel: str
    shop_id: str
    rule_set_version: int
    rules_checked: int
    merge_key: str | None = None
    order_json: str | None = None
    part_json: str | None = None
    holds: tuple[Hold, ...] = ()
    rejudged: bool = False
    _order: Order | None = None
    _part: Part | None = None

    @property
    def order(self) -> Order:
        if self._order is None:
            self._order = Order.model_validate_json(_kept(self.order_json))
        return self._order

    @property
    def part(self) -> Part:
        if self._part is None:
            self._part = Part.model_validate_json(_kept(self.part_json))
        return self._part

    def keep(self, *, order: Order | None = None, part: Part | None = None) -> None:
        """Hold on to these, as they are now."""
        if order is not None:
            self._order, self.order_json = order, order.model_dump_json()
        if part is not None:
            self._part, self.part_json = part, part.model_dump_json()

    def leave(self, state: str, *, merged_into: UUID | None = None) -> None:
        """It is no longer held; what it was stays readable until the transaction ends."""
        # Parsed now: the texts are dropped with the state.
        self._order, self._part = self.order, self.part
        self.state, self.merge_key, self.merged_into = state, None, merged_into
        self.order_json = self.part_json = None

    @property
    def open_holds(self) -> tuple[Hold, ...]:
        return tuple(one for one in self.holds if one.state == OPEN)


def _kept(kept: str | None) -> str:
    """A held order's text; the database holds that it is there."""
    if kept is None:
        raise LookupError("an order's text is asked for that audit no longer has")
    return kept


async def add_orders(work: UnitOfWork, rows: Iterable[OrderRow]) -> set[UUID]:
    """Write those not seen before and lock them, sorted; return their ids. The others were decided already."""
    ordered = sorted(rows, key=lambda row: row.order_id)
    if not ordered:
        return set()
    added = await work.connection.execute(
        _ADD_ORDERS,
        {
            "order_ids": [row.order_id for row in ordered],
            "root_ids": [row.root_id for row in ordered],
            "parent_ids": [row.parent_id for row in ordered],
            "split_nos": [row.split_no for row in ordered],
            "children": [row.children for row in ordered],
            "merges": [row.is_merge for row in ordered],
            "steps": [row.step for row in ordered],
            "states": [row.state for row in ordered],
            "open_holds": [len(row.open_holds) for row in ordered],
            "channels": [row.channel for row in ordered],
            "shop_ids": [row.shop_id for row in ordered],
            "versions": [row.rule_set_version for row in ordered],
            "checked": [row.rules_checked for row in ordered],
            "merge_keys": [row.merge_key for row in ordered],
            "orders": [row.order_json for row in ordered],
            "parts": [row.part_json for row in ordered],
            "now": work.now,
        },
    )
    return set(added.scalars())


_ADD_ORDERS = text(
    """
    INSERT INTO order_state (order_id, root_id, parent_id, split_no, children, is_merge, step, state, open_holds, channel,
                             shop_id, rule_set_version, rules_checked, decided_at, changed_at, merge_key, order_json, part_json)
    SELECT order_id, root_id, parent_id, split_no, children, is_merge, step, state, open_holds, channel,
           shop_id, version, checked, :now, :now, merge_key, order_json, part_json
    FROM unnest(CAST(:order_ids AS uuid[]), CAST(:root_ids AS uuid[]), CAST(:parent_ids AS uuid[]),
                CAST(:split_nos AS integer[]), CAST(:children AS integer[]), CAST(:merges AS boolean[]),
                CAST(:steps AS integer[]), CAST(:states AS text[]), CAST(:open_holds AS integer[]),
                CAST(:channels AS text[]), CAST(:shop_ids AS text[]), CAST(:versions AS integer[]),
                CAST(:checked AS integer[]), CAST(:merge_keys AS text[]), CAST(:orders AS text[]), CAST(:parts AS text[]))
      AS t (order_id, root_id, parent_id, split_no, children, is_merge, step, state, open_holds, channel, shop_id, version,
            checked, merge_key, order_json, part_json)
    ON CONFLICT (order_id) DO NOTHING
    RETURNING order_id
    """
)


async def find_roots(connection: AsyncConnection, order_ids: Iterable[UUID]) -> dict[UUID, UUID]:
    """Order → root, which never changes; unknown orders are absent."""
    found = await connection.execute(
        text("SELECT order_id, root_id FROM order_state WHERE order_id = ANY(CAST(:ids AS uuid[]))"),
        {"ids": list(order_ids)},
    )
    return {row.order_id: row.root_id for row in found}


async def find_merge_peers(work: UnitOfWork, order_ids: Iterable[UUID]) -> set[UUID]:
    """Orders that wait for the same receiver as these do. To be looked at again once they are locked."""
    found = await work.connection.execute(
        text(
            """
            SELECT DISTINCT peer.order_id
            FROM order_state AS o JOIN order_state AS peer ON peer.merge_key = o.merge_key
            WHERE o.order_id = ANY(CAST(:ids AS uuid[])) AND o.merge_key IS NOT NULL
            """
        ),
        {"ids": list(order_ids)},
    )
    return set(found.scalars())


async def lock_roots(work: UnitOfWork, root_ids: Iterable[UUID]) -> dict[UUID, OrderRow]:
    """Lock root rows, sorted, then what they were merged into; return these and all children, by order, with their holds."""
    wanted = sorted(set(root_ids))
    if not wanted:
        return {}
    connection = work.connection
    # Locked in statements of their own first: a later one sees what the lock's last owner left.
    roots = (await connection.execute(_LOCK_ROOTS, {"ids": wanted})).all()
    merged = sorted({row.merged_into for row in roots if row.merged_into is not None} - set(wanted))
    if merged:
        await connection.execute(_LOCK_ROOTS, {"ids": merged})
    known = [row.order_id for row in roots] + merged
    if not known:
        return {}
    found = {row["order_id"]: OrderRow(**row) for row in (await connection.execute(_OF_ROOTS, {"ids": known})).mappings()}
    if any(row.state == HELD for row in found.values()):
        holds: dict[UUID, list[Hold]] = {}
        held = [row.order_id for row in found.values() if row.state == HELD]
        for row in await connection.execute(_HOLDS_OF_ORDERS, {"ids": held}):
            holds.setdefault(row.order_id, []).append(_hold(row))
        for order_id, some in holds.items():
            found[order_id].holds = tuple(some)
    return found


_LOCK_ROOTS = text(
    """
    SELECT order_id, merged_into FROM order_state
    WHERE order_id = ANY(CAST(:ids AS uuid[])) ORDER BY is_merge, order_id FOR UPDATE
    """
)
_OF_ROOTS = text(
    """
    SELECT order_id, root_id, parent_id, split_no, children, merged_into, is_merge, step, state, channel, shop_id,
           rule_set_version, rules_checked, merge_key, order_json, part_json
    FROM order_state
    WHERE order_id = ANY(CAST(:ids AS uuid[])) OR (root_id = ANY(CAST(:ids AS uuid[])) AND parent_id IS NOT NULL)
    ORDER BY root_id, split_no
    """
)
_HOLDS_OF_ORDERS = text(
    """
    SELECT hold_id, order_id, kind, code, evidence, rule_id, release_at, state, placed_by, closed_by
    FROM hold WHERE order_id = ANY(CAST(:ids AS uuid[])) ORDER BY placed_at, rule_id
    """
)


def _hold(row: Row[Any]) -> Hold:
    return Hold(
        hold_id=row.hold_id,
        order_id=row.order_id,
        kind=row.kind,
        code=row.code,
        evidence=json.loads(row.evidence),
        rule_id=row.rule_id,
        release_at=row.release_at,
        state=row.state,
        placed_by=row.placed_by,
        closed_by=row.closed_by,
    )


async def record_orders(work: UnitOfWork, rows: Iterable[OrderRow]) -> None:
    """Write locked orders as they are now."""
    changed = sorted(rows, key=lambda row: row.order_id)
    if not changed:
        return
    await work.connection.execute(
        _RECORD_ORDERS,
        {
            "order_ids": [row.order_id for row in changed],
            "children": [row.children for row in changed],
            "merged": [row.merged_into for row in changed],
            "steps": [row.step for row in changed],
            "states": [row.state for row in changed],
            "open_holds": [len(row.open_holds) for row in changed],
            "versions": [row.rule_set_version for row in changed],
            "checked": [row.rules_checked for row in changed],
            "rejudged": [row.rejudged for row in changed],
            "merge_keys": [row.merge_key for row in changed],
            "orders": [row.order_json for row in changed],
            "parts": [row.part_json for row in changed],
            "now": work.now,
        },
    )


_RECORD_ORDERS = text(
    """
    UPDATE order_state AS o
    SET children = t.children, merged_into = t.merged_into, step = t.step, state = t.state, open_holds = t.open_holds,
        rule_set_version = t.version, rules_checked = t.checked, merge_key = t.merge_key, order_json = t.order_json,
        part_json = t.part_json, changed_at = :now,
        decided_at = CASE WHEN t.rejudged THEN CAST(:now AS timestamptz) ELSE o.decided_at END
    FROM unnest(CAST(:order_ids AS uuid[]), CAST(:children AS integer[]), CAST(:merged AS uuid[]), CAST(:steps AS integer[]),
                CAST(:states AS text[]), CAST(:open_holds AS integer[]), CAST(:versions AS integer[]),
                CAST(:checked AS integer[]), CAST(:rejudged AS boolean[]), CAST(:merge_keys AS text[]),
                CAST(:orders AS text[]), CAST(:parts AS text[]))
      AS t (order_id, children, merged_into, step, state, open_holds, version, checked, rejudged, merge_key, order_json,
            part_json)
    WHERE o.order_id = t.order_id
    """
)


async def find_order(connection: AsyncConnection, order_id: UUID) -> Row[Any] | None:
    columns = [column for column in order_state.c if column.name not in {"order_json", "part_json"}]
    return (await connection.execute(select(*columns).where(order_state.c.order_id == order_id))).one_or_none()


async def find_lineage(connection: AsyncConnection, order_id: UUID) -> list[Row[Any]]:
    """What it was split into and what was merged into it."""
    columns = (order_state.c.order_id, order_state.c.parent_id, order_state.c.merged_into, order_state.c.state)
    children = select(*columns, order_state.c.split_no).where(
        order_state.c.root_id == order_id, order_state.c.parent_id == order_id
    )
    parents = select(*columns, order_state.c.split_no).where(order_state.c.merged_into == order_id)
    return list(await connection.execute(children.union_all(parents).order_by("split_no", "order_id")))


def held_orders(order_ids: Sequence[UUID] | None, limit: int) -> Select[Any]:
    """Held orders with their text, the given ones or the newest."""
    statement = select(order_state.c.order_id, order_state.c.order_json, order_state.c.part_json).where(
        order_state.c.state == HELD
    )
    if order_ids is not None:
        return statement.where(order_state.c.order_id.in_(order_ids))
    newest = select(hold.c.order_id).where(hold.c.state == bindparam("open", OPEN, literal_execute=True))
    newest = newest.order_by(hold.c.placed_at.desc(), hold.c.hold_id.desc()).limit(limit * 3)
    return statement.where(order_state.c.order_id.in_(newest)).limit(limit)


# --- holds


class PlacedHold(NamedTuple):
    row: OrderRow
    hold: Hold


async def add_holds(work: UnitOfWork, placed: Sequence[PlacedHold]) -> None:
    if not placed:
        return
    await work.connection.execute(
        _ADD_HOLDS,
        {
            "hold_ids": [one.hold.hold_id for one in placed],
            "order_ids": [one.row.order_id for one in placed],
            "channels": [one.row.channel for one in placed],
            "shop_ids": [one.row.shop_id for one in placed],
            "kinds": [one.hold.kind for one in placed],
            "codes": [one.hold.code for one in placed],
            "evidence": [json.dumps(one.hold.evidence, ensure_ascii=False) for one in placed],
            "rule_ids": [one.hold.rule_id for one in placed],
            "versions": [one.row.rule_set_version for one in placed],
            "placers": [one.hold.placed_by for one in placed],
            "release_ats": [one.hold.release_at for one in placed],
            "notes": [one.hold.note for one in placed],
            "now": work.now,
        },
    )


_ADD_HOLDS = text(
    """
    INSERT INTO hold (hold_id, order_id, channel, shop_id, kind, scope, code, evidence, rule_id, rule_set_version,
                      placed_by, placed_at, release_at, note, state)
    SELECT hold_id, order_id, channel, shop_id, kind, 'order', code, evidence, rule_id, version,
           placed_by, :now, release_at, note, 'open'
    FROM unnest(CAST(:hold_ids AS uuid[]), CAST(:order_ids AS uuid[]), CAST(:channels AS text[]), CAST(:shop_ids AS text[]),
                CAST(:kinds AS text[]), CAST(:codes AS text[]), CAST(:evidence AS text[]), CAST(:rule_ids AS text[]),
                CAST(:versions AS integer[]), CAST(:placers AS text[]), CAST(:release_ats AS timestamptz[]),
                CAST(:notes AS text[]))
      AS t (hold_id, order_id, channel, shop_id, kind, code, evidence, rule_id, version, placed_by, release_at, note)
    """
)


class ClosedHold(NamedTuple):
    hold_id: UUID
    state: str
    by: str
    reason: str


async def close_holds(work: UnitOfWork, closed: Sequence[ClosedHold]) -> None:
    """End open holds of locked orders."""
    if not closed:
        return
    await work.connection.execute(
        _CLOSE_HOLDS,
        {
            "ids": [one.hold_id for one in closed],
            "states": [one.state for one in closed],
            "by": [one.by for one in closed],
            "reasons": [one.reason for one in closed],
            "now": work.now,
        },
    )


_CLOSE_HOLDS = text(
    """
    UPDATE hold SET state = t.state, closed_at = :now, closed_by = t.closed_by, close_reason = t.reason
    FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:by AS text[]), CAST(:reasons AS text[]))
      AS t (hold_id, state, closed_by, reason)
    WHERE hold.hold_id = t.hold_id AND hold.state = 'open'
    """
)


async def find_orders_of_holds(connection: AsyncConnection, hold_ids: Iterable[UUID]) -> dict[UUID, UUID]:
    """Hold → order; unknown holds are absent."""
    rows = await connection.execute(select(hold.c.hold_id, hold.c.order_id).where(hold.c.hold_id.in_(list(hold_ids))))
    return {row.hold_id: row.order_id for row in rows}


def holds_where(wanted: Mapping[str, Any]) -> Select[Any]:
    """Holds by what is asked of them; None: whatever it is."""
    return select(hold).where(*_conditions(wanted))


def count_holds(wanted: Mapping[str, Any], by: str) -> Select[Any]:
    """How many of these there are, by one of their columns."""
    column = hold.c[by]
    return select(column.label("value"), func.count().label("holds")).where(*_conditions(wanted)).group_by(column)


def _conditions(wanted: Mapping[str, Any]) -> list[Any]:
    conditions: list[Any] = []
    for name, value in wanted.items():
        if value is None:
            continue
        if name == "state":
            # Spelt out in the statement: a prepared one with a parameter could not use the index of open holds.
            conditions.append(hold.c.state == bindparam("wanted_state", value, literal_execute=True))
        elif name == "placed_after":
            conditions.append(hold.c.placed_at >= value)
        elif name == "placed_before":
            conditions.append(hold.c.placed_at < value)
        else:
            conditions.append(hold.c[name] == value)
    return conditions
