"""Whether the counts add up: everything that is kept as a sum, summed again."""

from collections.abc import Sequence
from typing import Any

from eventing import UnitOfWork
from inventory.store.rows import rows

_FIND_SKUS = """
SELECT sku_id FROM item WHERE sku_id > $1::text AND ($2::text IS NULL OR sku_id = $2::text) ORDER BY sku_id LIMIT $3::int
"""
# One statement is one snapshot, so nothing is in between. Units are held by orders that are neither at a place nor waiting for
# stock nor finished; they have no place_no. Unfinished orders have a document, so that the finished ones are not looked at.
_PROVE = """
WITH skus AS MATERIALIZED (SELECT unnest($1::text[]) COLLATE "C" AS sku_id),
places AS MATERIALIZED (
    SELECT s.*, l.place_id, l.pool_id FROM skus JOIN place_stock s USING (sku_id) JOIN location l USING (place_no)
),
moved AS (
    SELECT m.sku_id, m.place_no, sum(m.on_hand) AS on_hand, sum(m.allocated) AS allocated, sum(m.short) AS short,
           sum(m.damaged) AS damaged
    FROM skus JOIN movement m USING (sku_id) GROUP BY m.sku_id, m.place_no
),
wanted AS MATERIALIZED (
    SELECT d.sku_id, o.pool_id, o.place_no, o.state, sum(d.quantity) AS units
    FROM order_document JOIN stock_order o USING (order_id)
    CROSS JOIN LATERAL unnest(o.skus, o.quantities) AS d(sku_id, quantity)
    WHERE o.state IN ('reserved', 'stuck', 'returned', 'allocated') AND o.skus && $1::text[]
    GROUP BY d.sku_id, o.pool_id, o.place_no, o.state
),
held AS (SELECT sku_id, pool_id, sum(units) AS units FROM wanted WHERE state <> 'allocated' GROUP BY sku_id, pool_id),
pinned AS (SELECT sku_id, place_no, sum(units) AS units FROM wanted WHERE state = 'allocated' GROUP BY sku_id, place_no),
in_pool AS (
    SELECT sku_id, pool_id, sum(on_hand - allocated - short) AS available, sum(safety) AS safety FROM places
    GROUP BY sku_id, pool_id
),
expected AS (
    SELECT i.sku_id, i.place_no, sum(greatest(0, i.announced - i.arrived)) AS units
    FROM skus JOIN incoming i USING (sku_id) WHERE i.open GROUP BY i.sku_id, i.place_no
)
SELECT sku_id, 'counts_are_movements' AS check, coalesce(p.place_id, place_no::text) AS where,
       ARRAY[coalesce(m.on_hand, 0), coalesce(m.allocated, 0), coalesce(m.short, 0), coalesce(m.damaged, 0)]::bigint[]
           AS expected,
       ARRAY[coalesce(p.on_hand, 0), coalesce(p.allocated, 0), coalesce(p.short, 0), coalesce(p.damaged, 0)]::bigint[] AS found
FROM places p FULL JOIN moved m USING (sku_id, place_no)
WHERE (coalesce(m.on_hand, 0), coalesce(m.allocated, 0), coalesce(m.short, 0), coalesce(m.damaged, 0))
    <> (coalesce(p.on_hand, 0), coalesce(p.allocated, 0), coalesce(p.short, 0), coalesce(p.damaged, 0))
UNION ALL
SELECT sku_id, 'allocated_for_orders', coalesce(p.place_id, place_no::text),
       ARRAY[coalesce(o.units, 0)]::bigint[], ARRAY[coalesce(p.allocated, 0)]::bigint[]
FROM places p FULL JOIN (SELECT * FROM pinned JOIN skus USING (sku_id)) o USING (sku_id, place_no)
WHERE coalesce(o.units, 0) <> coalesce(p.allocated, 0)
UNION ALL
SELECT sku_id, 'incoming_adds_up', coalesce(p.place_id, place_no::text),
       ARRAY[coalesce(e.units, 0)]::bigint[], ARRAY[coalesce(p.incoming, 0)]::bigint[]
FROM places p FULL JOIN expected e USING (sku_id, place_no)
WHERE coalesce(e.units, 0) <> coalesce(p.incoming, 0)
UNION ALL
SELECT sku_id, 'pool_adds_up', pool_id,
       ARRAY[coalesce(s.available, 0) - coalesce(h.units, 0)]::bigint[],
       ARRAY[coalesce(p.free, 0) - coalesce(p.overpromised, 0)]::bigint[]
FROM (SELECT p.* FROM skus JOIN pool_stock p USING (sku_id)) p
FULL JOIN in_pool s USING (sku_id, pool_id)
FULL JOIN (SELECT * FROM held JOIN skus USING (sku_id)) h USING (sku_id, pool_id)
WHERE coalesce(s.available, 0) - coalesce(h.units, 0) <> coalesce(p.free, 0) - coalesce(p.overpromised, 0)
UNION ALL
SELECT sku_id, 'safety_adds_up', pool_id, ARRAY[s.safety]::bigint[], ARRAY[p.safety]::bigint[]
FROM in_pool s JOIN pool_stock p USING (sku_id, pool_id) WHERE s.safety <> p.safety
ORDER BY 1, 2, 3 LIMIT 100
"""


async def prove(work: UnitOfWork, *, sku_id: str | None, after: str, limit: int) -> tuple[list[str], Sequence[Any]]:
    """The SKUs of this page, and what differs: at most a hundred, by SKU."""
    skus = [row.sku_id for row in await rows(work, _FIND_SKUS, after, sku_id, limit)]
    return skus, (await rows(work, _PROVE, skus) if skus else [])
