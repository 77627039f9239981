"""What places were asked and have not answered, and which requests were heard."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from eventing import UnitOfWork
from inventory.domain.cancelling import LineKey, Pending
from inventory.store.rows import execute, rows

_HEAR = """
INSERT INTO order_request (request_id, kind, root_id, heard_at)
SELECT request_id, kind, root_id, $4::timestamptz
FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS d(request_id, kind, root_id)
ON CONFLICT DO NOTHING RETURNING request_id, kind
"""
_FIND_HEARD = "SELECT request_id FROM order_request WHERE request_id = ANY($1::uuid[]) AND kind = $2::text"
_FIND_PENDING = """
SELECT root_id, request_id, origin_order_id, origin_line, sku_id, quantity, kind
FROM pending_stop WHERE root_id = ANY($1::uuid[]) ORDER BY stop_no
"""
_LIST_STOPS = """
SELECT request_id, kind, origin_order_id, origin_line, sku_id, quantity, since
FROM pending_stop WHERE root_id = $1::uuid ORDER BY stop_no LIMIT 1000
"""
_ADD_PENDING = """
INSERT INTO pending_stop (root_id, request_id, origin_order_id, origin_line, sku_id, quantity, kind, since)
SELECT *, $8::timestamptz FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::text[], $6::int[], $7::text[])
"""
_REMOVE_PENDING = """
DELETE FROM pending_stop p USING unnest($1::uuid[], $2::uuid[]) AS d(root_id, request_id)
WHERE p.root_id = d.root_id AND p.request_id = d.request_id
"""


async def hear(work: UnitOfWork, requests: Iterable[tuple[UUID, str, UUID]]) -> set[tuple[UUID, str]]:
    """Note requests (id, kind, root); return those that were new."""
    table = sorted(set(requests))
    if not table:
        return set()
    return {(row.request_id, row.kind) for row in await rows(work, _HEAR, *map(list, zip(*table, strict=True)), work.now)}


async def find_heard(work: UnitOfWork, request_ids: Iterable[UUID], kind: str) -> set[UUID]:
    """Those that were noted before; exact under their roots' locks."""
    return {row.request_id for row in await rows(work, _FIND_HEARD, list(request_ids), kind)}


async def find_pending(work: UnitOfWork, root_ids: Collection[UUID]) -> dict[UUID, list[Pending]]:
    """What is pending under these roots, in the order in which it was asked; exact under the roots' locks."""
    found: dict[UUID, list[Pending]] = {root_id: [] for root_id in root_ids}
    for root_id, request_id, origin_order_id, origin_line, sku_id, quantity, kind in await rows(
        work, _FIND_PENDING, list(root_ids)
    ):
        found[root_id].append(Pending(request_id, LineKey(origin_order_id, origin_line, sku_id), quantity, kind))
    return found


async def list_stops(work: UnitOfWork, root_id: UUID) -> list[Any]:
    return list(await rows(work, _LIST_STOPS, root_id))


async def save_pending(
    work: UnitOfWork, before: Mapping[UUID, Sequence[Pending]], after: Mapping[UUID, Sequence[Pending]]
) -> None:
    """Write what was asked and what was answered. A request is asked once and dropped whole."""
    gone = {
        (root_id, pending.request_id) for root_id, asked in before.items() for pending in asked if pending not in after[root_id]
    }
    new = [
        (root_id, pending.request_id, *pending.key, pending.quantity, pending.kind)
        for root_id, asked in after.items()
        for pending in asked
        if pending not in before[root_id]
    ]
    if gone:
        await execute(work, _REMOVE_PENDING, *map(list, zip(*sorted(gone), strict=True)))
    if new:
        await execute(work, _ADD_PENDING, *map(list, zip(*new, strict=True)), work.now)
