"""What orders are judged by: rule sets, the blacklist, like orders, and the local copy of the catalogue."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, Select, delete, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from audit.domain.facts import ItemFacts, LikeOrder
from audit.domain.rules import RuleSet, rule_set_of
from audit.tables import blacklist, rule_set
from contracts import CatalogItem
from eventing import UnitOfWork

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


# --- blacklist


async def find_blacklisted(work: UnitOfWork, tokens: Sequence[Mapping[str, str]]) -> dict[int, set[str]]:
    """Which kinds of each order's tokens are listed, by position; orders without a hit are absent.

    Asked per batch and not kept in memory: an entry counts from the next batch on, and the list may be as long as it likes.
    """
    asked = [(position, kind, token) for position, some in enumerate(tokens) for kind, token in some.items()]
    if not asked:
        return {}
    positions, kinds, values = zip(*asked, strict=True)
    found: dict[int, set[str]] = {}
    parameters = {"positions": list(positions), "kinds": list(kinds), "tokens": list(values)}
    for row in await work.connection.execute(_FIND_BLACKLISTED, parameters):
        found.setdefault(row.position, set()).add(row.kind)
    return found


_FIND_BLACKLISTED = text(
    """
    SELECT t.position, t.kind
    FROM unnest(CAST(:positions AS integer[]), CAST(:kinds AS text[]), CAST(:tokens AS text[])) AS t (position, kind, token)
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


# --- like orders


class Fingerprint(NamedTuple):
    order_id: UUID
    kind: str
    digest: str
    placed_at: datetime


async def find_like_orders(
    work: UnitOfWork, fingerprints: Sequence[Fingerprint], *, within: timedelta, remember: bool
) -> dict[UUID, list[LikeOrder]]:
    """What was noted before of the same; two of one batch see each other in turn. With `remember`, note who bought what.

    Two like orders that two workers handle at the same moment do not see each other; a person does not order that fast.
    """
    if not fingerprints:
        return {}
    found: dict[UUID, list[LikeOrder]] = {}
    earlier: dict[str, list[Fingerprint]] = {}
    for one in fingerprints:
        found.setdefault(one.order_id, []).extend(
            LikeOrder(other.order_id, other.kind, other.placed_at)
            for other in earlier.get(one.digest, ())
            if other.order_id != one.order_id
        )
        earlier.setdefault(one.digest, []).append(one)
    ordered = sorted(set(fingerprints), key=lambda one: (one.digest, one.order_id))
    values: dict[str, Any] = {
        "digests": [one.digest for one in ordered],
        "order_ids": [one.order_id for one in ordered],
        "kinds": [one.kind for one in ordered],
        "placed": [one.placed_at for one in ordered],
        "seconds": int(within.total_seconds()),
    }
    if remember:
        # Kept a while longer than they count: a late order may have been placed long ago.
        values |= {"forget": work.now - within - timedelta(days=1), "now": work.now}
    rows = await work.connection.execute(_NOTE_AND_FIND_LIKE_ORDERS if remember else _FIND_LIKE_ORDERS, values)
    for row in rows:
        found.setdefault(row.order_id, []).append(LikeOrder(row.like_id, row.kind, row.placed_at))
    return found


_HERE = """
    WITH here AS (
        SELECT * FROM unnest(CAST(:digests AS text[]), CAST(:order_ids AS uuid[]), CAST(:kinds AS text[]),
                             CAST(:placed AS timestamptz[])) AS t (digest, order_id, kind, placed_at)
    )
"""
_LIKE_HERE = """
    SELECT here.order_id, other.order_id AS like_id, other.kind, other.placed_at
    FROM here JOIN like_order AS other USING (digest)
    WHERE other.order_id <> here.order_id
      AND abs(extract(epoch FROM other.placed_at - here.placed_at)) <= :seconds
"""
_FIND_LIKE_ORDERS = text(_HERE + _LIKE_HERE)
_NOTE_AND_FIND_LIKE_ORDERS = text(
    f"""
    {_HERE}, added AS (
        INSERT INTO like_order (digest, order_id, kind, placed_at, seen_at)
        SELECT digest, order_id, kind, placed_at, :now FROM here
        ON CONFLICT DO NOTHING
    ), forgotten AS (
        DELETE FROM like_order WHERE ctid IN (
            SELECT ctid FROM like_order WHERE seen_at < :forget ORDER BY seen_at LIMIT 500 FOR UPDATE SKIP LOCKED)
    )
    {_LIKE_HERE}
    """  # noqa: S608  constant text
)


# --- the catalogue's copy


async def put_items(work: UnitOfWork, items: Sequence[CatalogItem]) -> None:
    """Keep the highest version of each SKU."""
    highest: dict[str, CatalogItem] = {}
    for item in items:
        known = highest.get(item.sku_id)
        if known is None or known.version <= item.version:
            highest[item.sku_id] = item
    ordered = [highest[sku_id] for sku_id in sorted(highest)]
    await work.connection.execute(
        _PUT_ITEMS,
        {
            "skus": [item.sku_id for item in ordered],
            "versions": [item.version for item in ordered],
            "deleted": [item.deleted for item in ordered],
            "categories": [item.category for item in ordered],
            "costs": [item.standard_cost_minor for item in ordered],
        },
    )


_PUT_ITEMS = text(
    """
    INSERT INTO catalog_item AS kept (sku_id, version, deleted, category, standard_cost_minor)
    SELECT * FROM unnest(CAST(:skus AS text[]), CAST(:versions AS bigint[]), CAST(:deleted AS boolean[]),
                         CAST(:categories AS text[]), CAST(:costs AS bigint[]))
    ON CONFLICT (sku_id) DO UPDATE SET version = excluded.version, deleted = excluded.deleted, category = excluded.category,
                                       standard_cost_minor = excluded.standard_cost_minor
    WHERE kept.version < excluded.version
    """
)


async def find_items(connection: AsyncConnection, sku_ids: Iterable[str]) -> dict[str, ItemFacts]:
    """What is known of these SKUs; deleted ones too: an order may still be under way."""
    rows = await connection.execute(
        text("SELECT sku_id, category, standard_cost_minor FROM catalog_item WHERE sku_id = ANY(CAST(:skus AS text[]))"),
        {"skus": sorted(set(sku_ids))},
    )
    return {row.sku_id: ItemFacts(row.category, row.standard_cost_minor) for row in rows}
