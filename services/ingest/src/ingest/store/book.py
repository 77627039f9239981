"""The order book: the timeline, each order's stage, and what people read of them.

A channel order may become several orders. `order_link` says which took the place of which, `order_stage.family_stage` what
they come to: written only by batches that touch such orders, with every row it depends on locked, in the order of ids.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, Row, and_, exists, func, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from eventing import UnitOfWork
from ingest.domain.arrival import State
from ingest.domain.book import SERVICES, STAGES, UNFINISHED_RANKS, PartState, Seen, together
from ingest.tables import (
    channel_order,
    erasure,
    manual_act,
    order_document,
    order_stage,
    request,
    request_line,
    timeline,
)
from webapi.paging import Keyset

AnyRow: TypeAlias = Row[*tuple[Any, ...]]
MERGED_MOST = 101
"""Channel orders of one merge: what the contract allows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an order's timeline. Its order's ids are texts: a delivery brings them so, and the driver takes them so."""

    order_id: str
    root_id: str
    service: str
    step: int
    event_id: UUID
    stage: str
    code: str
    params: str
    topic: str
    at: datetime
    attempt: int = 0
    replaces: tuple[str, ...] = ()
    """Orders whose place this one takes, with its siblings."""
    revives: str | None = None
    """The channel order that this one takes up again."""


# Orders joined into one (merged, or taken up again) are named by it alone. `OFFSET 0` keeps the walk on the index: planned
# freely, a batch that joins nothing would still hash every join ever made.
_UP = """
    up (root, given) AS (
        SELECT id, true FROM unnest(CAST(:roots AS uuid[])) AS id
        WHERE EXISTS (SELECT FROM order_link WHERE by_root = id AND by_order = by_root)
        UNION
        SELECT link.root, false FROM up CROSS JOIN LATERAL (
            SELECT coalesce(s.root_id, l.order_id) AS root
            FROM order_link l LEFT JOIN order_stage s ON s.order_id = l.order_id
            WHERE l.by_root = up.root AND l.by_order = l.by_root OFFSET 0
        ) AS link
    )
"""
_ADD_LINKS = text(
    """
    INSERT INTO order_link (order_id, by_order, by_root, revived)
    SELECT * FROM unnest(
        CAST(:ids AS uuid[]), CAST(:by_orders AS uuid[]), CAST(:by_roots AS uuid[]), CAST(:revived AS boolean[])
    )
    ON CONFLICT DO NOTHING
    """
)
_ADD_TIMELINE = text(
    f"""
    WITH RECURSIVE {_UP}, added AS (
        INSERT INTO timeline (order_id, service, step, event_id, root_id, stage, code, params, topic, at)
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:services AS text[]), CAST(:steps AS integer[]), CAST(:events AS uuid[]),
            CAST(:entry_roots AS uuid[]), CAST(:stages AS text[]), CAST(:codes AS text[]), CAST(:params AS text[]),
            CAST(:topics AS text[]), CAST(:at AS timestamptz[])
        )
        ON CONFLICT DO NOTHING
    )
    SELECT DISTINCT root FROM up WHERE NOT given
    """  # noqa: S608  constant text
)
_SEE_STAGES = text(
    f"""
    WITH told AS (
        INSERT INTO order_stage AS seen (order_id, root_id, progress_at, replaced, joined, {", ".join(SERVICES)})
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:roots AS uuid[]), CAST(:at AS timestamptz[]),
            CAST(:replaced AS boolean[]), CAST(:joined AS boolean[]),
            {", ".join(f"CAST(:{service} AS bigint[])" for service in SERVICES)}
        )
        ON CONFLICT (order_id) DO UPDATE SET
            {", ".join(f"{service} = greatest(seen.{service}, excluded.{service})" for service in SERVICES)},
            root_id = coalesce(excluded.root_id, seen.root_id),
            replaced = seen.replaced OR excluded.replaced,
            joined = seen.joined OR excluded.joined,
            progress_at = greatest(seen.progress_at, excluded.progress_at)
        RETURNING order_id, family_stage
    )
    SELECT order_id FROM told WHERE family_stage IS NOT NULL
    """  # noqa: S608  constant text
)
# From channel orders down to every order that now carries some of them, the replaced ones among them.
_FAMILIES = text(
    f"""
    WITH RECURSIVE family (head, root) AS (
        SELECT id, id FROM unnest(CAST(:heads AS uuid[])) AS id
        UNION
        SELECT family.head, link.by_root FROM family CROSS JOIN LATERAL (
            SELECT l.by_root
            FROM (
                SELECT family.root AS order_id
                UNION ALL
                SELECT order_id FROM order_stage WHERE root_id = family.root AND order_id <> root_id
            ) AS member
            JOIN order_link l ON l.order_id = member.order_id AND l.by_order = l.by_root
            OFFSET 0
        ) AS link
    )
    SELECT family.head, member.* FROM family CROSS JOIN LATERAL (
        SELECT order_id, root_id, replaced, progress_at, {", ".join(SERVICES)}
        FROM order_stage WHERE order_id = family.root
        UNION ALL
        SELECT order_id, root_id, replaced, progress_at, {", ".join(SERVICES)}
        FROM order_stage WHERE root_id = family.root AND order_id <> root_id
    ) AS member
    ORDER BY family.head, member.order_id <> family.head, member.order_id
    """  # noqa: S608  constant text
)
_TELL_FAMILIES = text(
    """
    UPDATE order_stage s SET family_stage = told.stage, family_at = told.at
    FROM unnest(CAST(:heads AS uuid[]), CAST(:stages AS smallint[]), CAST(:at AS timestamptz[])) AS told(id, stage, at)
    WHERE s.order_id = told.id AND (s.family_stage, s.family_at) IS DISTINCT FROM (told.stage, told.at)
    """
)


async def add_progress(work: UnitOfWork, entries: Sequence[Entry]) -> None:
    """Write timeline entries, once each, and what they say of each order's stage, commutatively."""
    if not entries:
        return
    entries = sorted(entries, key=lambda entry: (entry.order_id, entry.service, entry.step))
    links = links_of(entries)
    if links:
        await work.connection.execute(
            _ADD_LINKS,
            {
                "ids": [link.order_id for link in links],
                "by_orders": [link.by_order for link in links],
                "by_roots": [link.by_root for link in links],
                "revived": [link.is_revived for link in links],
            },
        )
    joins = await work.connection.execute(
        _ADD_TIMELINE,
        {
            "roots": list({entry.root_id for entry in entries}),
            "ids": [entry.order_id for entry in entries],
            "services": [entry.service for entry in entries],
            "steps": [entry.step for entry in entries],
            "events": [entry.event_id for entry in entries],
            "entry_roots": [entry.root_id for entry in entries],
            "stages": [entry.stage for entry in entries],
            "codes": [entry.code for entry in entries],
            "params": [entry.params for entry in entries],
            "topics": [entry.topic for entry in entries],
            "at": [entry.at for entry in entries],
        },
    )
    heads = {str(root) for root in joins.scalars()}
    heads.update(entry.root_id for entry in entries if entry.order_id != entry.root_id)
    seen = fold(entries, links, heads)
    ids = sorted(seen)
    values: dict[str, list[Any]] = {
        "ids": ids,
        "roots": [seen[order_id].root_id for order_id in ids],
        "at": [seen[order_id].at for order_id in ids],
        "replaced": [seen[order_id].replaced for order_id in ids],
        "joined": [seen[order_id].joined for order_id in ids],
    }
    for index, service in enumerate(SERVICES):
        values[service] = [seen[order_id].marks[index] for order_id in ids]
    told = await work.connection.execute(_SEE_STAGES, values)
    heads.update(str(order_id) for order_id in told.scalars())
    if heads:
        await _tell_families(work, heads)


async def _tell_families(work: UnitOfWork, heads: Collection[str]) -> None:
    """Derive again what these channel orders come to. Their rows are locked, so nobody derives them from less than we see."""
    families = await list_families(work.connection, heads)
    stages = {head: together(parts) for head, members in families.items() if (parts := live_parts(members))}
    ids = sorted(stages)
    await work.connection.execute(
        _TELL_FAMILIES,
        {
            "heads": ids,
            "stages": [stages[head].rank for head in ids],
            "at": [stages[head].since for head in ids],
        },
    )


@dataclass(frozen=True, slots=True)
class Link:
    """`by_order`, under `by_root`, carries what was `order_id`; both are roots where channel orders were joined."""

    order_id: str
    by_order: str
    by_root: str
    is_revived: bool

    @property
    def joins(self) -> bool:
        return self.by_order == self.by_root


def links_of(entries: Iterable[Entry]) -> list[Link]:
    """What a batch says of orders that stand for others; nothing for nearly every batch."""
    links = [
        Link(replaced, entry.order_id, entry.root_id, is_revived=False) for entry in entries for replaced in entry.replaces
    ]
    links += [
        Link(entry.revives, entry.order_id, entry.root_id, is_revived=True) for entry in entries if entry.revives is not None
    ]
    return sorted(links, key=lambda link: (link.order_id, link.by_order))


def fold(entries: Iterable[Entry], links: Iterable[Link] = (), heads: Iterable[str] = ()) -> dict[str, Seen]:
    """What a batch says of each order, one row per order: a row can be updated only once per statement."""
    seen: dict[str, Seen] = {}
    for entry in entries:
        known = seen.get(entry.order_id)
        if known is None:
            known = seen[entry.order_id] = Seen(entry.root_id, [0] * len(SERVICES), entry.at)
        known.see(entry.service, entry.step, entry.attempt, entry.stage, entry.at)
        if entry.root_id not in seen:
            seen[entry.root_id] = Seen.unheard(entry.root_id)
    for link in links:
        known = seen.get(link.order_id)
        if known is None:
            known = seen[link.order_id] = Seen.unheard(None if link.joins else link.by_root)
        known.replaced = known.replaced or not link.is_revived
        if link.joins:
            seen[link.by_order].joined = True
    for head in heads:
        if head not in seen:
            seen[head] = Seen.unheard(None)
    return seen


async def list_families(connection: AsyncConnection, heads: Collection[Any]) -> dict[UUID, list[AnyRow]]:
    """The orders that carry these channel orders, the order itself first. **Shapes**: replaced ones are among them."""
    families: dict[UUID, list[AnyRow]] = defaultdict(list)
    for row in await connection.execute(_FAMILIES, {"heads": list(heads)}):
        families[row.head].append(row)
    return dict(families)


def live_parts(family: Iterable[AnyRow]) -> list[PartState]:
    """Those that count: not replaced by others, and heard of."""
    parts = [part_state(member) for member in family if not member.replaced]
    return [part for part in parts if any(part.marks)]


def part_state(row: AnyRow) -> PartState:
    return PartState(row.order_id, tuple(getattr(row, service) for service in SERVICES), row.progress_at)


# Reading, for people


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """What `GET /v1/orders` can ask for; None asks nothing."""

    channel: str | None = None
    shop_id: str | None = None
    channel_order_no: str | None = None
    stage: str | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None
    order_id: UUID | None = None
    stuck_before: datetime | None = None
    """No progress since, and not finished."""
    parked: bool = False


def order_list(column: Literal["received_at", "placed_at"], *, descending: bool) -> Keyset:
    """The order of a list of orders: by one time, then by id."""
    return Keyset(
        f"orders.{column}",
        (channel_order.c[column], datetime),
        (channel_order.c.order_id, UUID),
        descending=descending,
    )


_LISTED = (
    channel_order.c.order_id,
    channel_order.c.channel,
    channel_order.c.shop_id,
    channel_order.c.channel_order_no,
    channel_order.c.source_version,
    channel_order.c.state,
    channel_order.c.code,
    channel_order.c.flags,
    channel_order.c.currency,
    channel_order.c.paid_minor,
    channel_order.c.placed_at,
    channel_order.c.received_at,
    order_stage.c.progress_at,
    order_stage.c.family_stage,
    *(order_stage.c[service] for service in SERVICES),
)


async def list_orders(
    connection: AsyncConnection, wanted: OrderFilter, *, keyset: Keyset, after: Any, limit: int
) -> Sequence[AnyRow]:
    """Root rows with their marks, one more than `limit` where there are more."""
    orders = channel_order.outerjoin(order_stage, order_stage.c.order_id == channel_order.c.order_id)
    statement = (
        select(*_LISTED)
        .select_from(orders)
        .where(*_conditions(wanted), keyset.after(after))
        .order_by(*keyset.order_by)
        .limit(limit + 1)
    )
    return (await connection.execute(statement)).all()


def _conditions(wanted: OrderFilter) -> Iterable[ColumnElement[bool]]:
    columns = channel_order.c
    # What took a cancelled order up again is listed with that.
    yield order_stage.c.joined.is_not(True)
    if wanted.channel is not None:
        yield columns.channel == wanted.channel
    if wanted.shop_id is not None:
        yield columns.shop_id == wanted.shop_id
    if wanted.channel_order_no is not None:
        yield columns.channel_order_no == wanted.channel_order_no
    if wanted.order_id is not None:
        yield columns.order_id == wanted.order_id
    if wanted.received_from is not None:
        yield columns.received_at >= wanted.received_from
    if wanted.received_to is not None:
        yield columns.received_at < wanted.received_to
    if wanted.parked:
        yield columns.state == State.PARKED.value
    if wanted.stage is not None:
        yield order_stage.c.stage == STAGES.get(wanted.stage, -1)
    if wanted.stuck_before is not None:
        # Two sources, each with its own index: one condition over both tables would look at every order there ever was.
        stood, unheard = order_stage.alias(), channel_order.alias()
        yield columns.order_id.in_(
            union_all(
                select(stood.c.order_id).where(stood.c.stage.in_(UNFINISHED_RANKS), stood.c.since < wanted.stuck_before),
                # Nothing in the book yet counts too: sent, but not even our own event has come back.
                select(unheard.c.order_id).where(
                    unheard.c.received_at < wanted.stuck_before,
                    ~exists().where(order_stage.c.order_id == unheard.c.order_id).correlate(unheard),
                ),
            )
        )


_FIND_HEADS = text(
    f"""
    WITH RECURSIVE {_UP}
    SELECT o.order_id FROM (SELECT root FROM up UNION SELECT unnest(CAST(:roots AS uuid[]))) AS reached
    JOIN channel_order o ON o.order_id = reached.root
    LEFT JOIN order_stage s ON s.order_id = o.order_id
    WHERE s.joined IS NOT TRUE ORDER BY o.received_at, o.order_id LIMIT :most
    """  # noqa: S608  constant text
)
_FIND_ROOT = text("SELECT root_id FROM order_stage WHERE order_id = CAST(:id AS uuid)")


async def find_head(connection: AsyncConnection, order_id: UUID) -> UUID | None:
    """The channel order that an order belongs to: itself, what it was split from, the first it was merged from."""
    heads = await _find_heads(connection, order_id)
    return heads[0] if heads else None


async def find_channel_orders(connection: AsyncConnection, part_id: UUID) -> list[UUID]:
    """The orders that a part carries units of, the first received first: several of a merge, none of an unknown id.

    An order taken up again is one of its own: acts on its parts are meant for it, not for the cancelled one.
    """
    root = await _find_root(connection, part_id)
    return [root] if await find_order(connection, root) is not None else await _find_heads(connection, part_id)


async def _find_heads(connection: AsyncConnection, order_id: UUID) -> list[UUID]:
    root = await _find_root(connection, order_id)
    return list((await connection.execute(_FIND_HEADS, {"roots": [root], "most": MERGED_MOST})).scalars())


async def _find_root(connection: AsyncConnection, order_id: UUID) -> UUID:
    root: UUID | None = (await connection.execute(_FIND_ROOT, {"id": order_id})).scalar_one_or_none()
    return root or order_id


async def find_order(connection: AsyncConnection, order_id: UUID) -> AnyRow | None:
    """A channel order's row with its marks and its block."""
    orders = channel_order.outerjoin(order_stage, order_stage.c.order_id == channel_order.c.order_id)
    statement = (
        select(*_LISTED, channel_order.c.sent_version, order_document.c.block, erasure.c.erased_at)
        .select_from(
            orders.outerjoin(order_document, order_document.c.order_id == channel_order.c.order_id).outerjoin(
                erasure, erasure.c.order_id == channel_order.c.order_id
            )
        )
        .where(channel_order.c.order_id == order_id)
    )
    return (await connection.execute(statement)).one_or_none()


async def find_standing(connection: AsyncConnection, order_ids: Collection[UUID]) -> dict[UUID, AnyRow]:
    """Channel orders with their marks, by id; unknown ones are missing from the answer."""
    orders = channel_order.outerjoin(order_stage, order_stage.c.order_id == channel_order.c.order_id)
    statement = select(*_LISTED).select_from(orders).where(channel_order.c.order_id.in_(order_ids))
    return {row.order_id: row for row in await connection.execute(statement)}


async def list_timeline(connection: AsyncConnection, order_ids: Collection[UUID]) -> Sequence[AnyRow]:
    """Everything reported of these orders, in the order it happened."""
    statement = (
        select(timeline).where(timeline.c.order_id.in_(order_ids)).order_by(timeline.c.at, timeline.c.event_id, timeline.c.step)
    )
    return (await connection.execute(statement)).all()


async def find_entries(
    connection: AsyncConnection, keys: Collection[tuple[UUID, str, int]]
) -> Mapping[tuple[UUID, str, int], tuple[str, str, datetime]]:
    """(code, params, at) of timeline entries by (order, service, step): why a list of orders stands where it does."""
    statement = text(
        """
        SELECT DISTINCT ON (t.order_id, t.service, t.step) t.order_id, t.service, t.step, t.code, t.params, t.at
        FROM unnest(CAST(:ids AS uuid[]), CAST(:services AS text[]), CAST(:steps AS integer[])) AS k(order_id, service, step)
        JOIN timeline t USING (order_id, service, step)
        ORDER BY t.order_id, t.service, t.step, t.event_id
        """
    )
    listed = list(keys)
    rows = await connection.execute(
        statement,
        {
            "ids": [order_id for order_id, _, _ in listed],
            "services": [service for _, service, _ in listed],
            "steps": [step for _, _, step in listed],
        },
    )
    return {(row.order_id, row.service, row.step): (row.code, row.params, row.at) for row in rows}


_COUNT_STAGES = text(
    """
    SELECT stage, count(*), min(since) FROM order_stage
    WHERE stage IS NOT NULL AND since < coalesce(CAST(:before AS timestamptz), 'infinity') GROUP BY stage
    """
)


async def count_stages(connection: AsyncConnection, *, before: datetime | None) -> Sequence[tuple[int, int, datetime]]:
    """(rank, channel orders, oldest progress) of each shown stage; with `before`, of those without progress since."""
    return [(row[0], row[1], row[2]) for row in await connection.execute(_COUNT_STAGES, {"before": before})]


async def list_open_requests(connection: AsyncConnection, order_ids: Collection[UUID]) -> Sequence[AnyRow]:
    """Cancels and changes of these orders that are not settled yet, with their units."""
    lines = request_line.c
    statement = (
        select(
            request.c.request_id,
            request.c.kind,
            request.c.reason,
            request.c.requested_by,
            request.c.asked_at,
            *(func.coalesce(func.sum(lines[name]), 0).label(name) for name in ("asked", "cancelled", "refused")),
        )
        .select_from(
            request.outerjoin(
                request_line,
                and_(lines.request_id == request.c.request_id, lines.order_id == request.c.order_id),
            )
        )
        .where(request.c.order_id.in_(order_ids), request.c.state == "open")
        .group_by(request.c.request_id, request.c.order_id)
        .order_by(request.c.asked_at, request.c.request_id)
    )
    return (await connection.execute(statement)).all()


async def list_acts(connection: AsyncConnection, subject: str) -> Sequence[AnyRow]:
    """What was done to an order by hand."""
    statement = select(manual_act).where(manual_act.c.subject == subject).order_by(manual_act.c.at)
    return (await connection.execute(statement)).all()
