"""Stock: counts, promises, what left and what came back."""

from __future__ import annotations

from tools.coherence.model import Check, same_in_both, wrong_rows

_COUNTS_ARE_MOVEMENTS = """
    SELECT coalesce(s.sku_id, m.sku_id) || ' at place ' || coalesce(s.place_no, m.place_no),
           format('counts (on hand, allocated, short, damaged) are (%s, %s, %s, %s), movements sum to (%s, %s, %s, %s)',
                  s.on_hand, s.allocated, s.short, s.damaged, m.on_hand, m.allocated, m.short, m.damaged)
    FROM place_stock AS s
    FULL JOIN (
        SELECT sku_id, place_no, sum(on_hand) AS on_hand, sum(allocated) AS allocated, sum(short) AS short,
               sum(damaged) AS damaged
        FROM movement GROUP BY sku_id, place_no
    ) AS m USING (sku_id, place_no)
    WHERE (coalesce(s.on_hand, 0), coalesce(s.allocated, 0), coalesce(s.short, 0), coalesce(s.damaged, 0))
          IS DISTINCT FROM (coalesce(m.on_hand, 0), coalesce(m.allocated, 0), coalesce(m.short, 0), coalesce(m.damaged, 0))
"""
_POOL_ADDS_UP = """
    SELECT sku_id || ' in pool ' || pool_id,
           format('free %s less overpromised %s, but places have %s available and %s are held',
                  p.free, p.overpromised, coalesce(s.available, 0), coalesce(h.held, 0))
    FROM pool_stock AS p
    FULL JOIN (
        SELECT sku_id, pool_id, sum(on_hand - allocated - short) AS available
        FROM place_stock JOIN location USING (place_no) GROUP BY sku_id, pool_id
    ) AS s USING (sku_id, pool_id)
    FULL JOIN (
        SELECT wanted.sku_id, o.pool_id, sum(wanted.quantity) AS held
        FROM stock_order AS o, unnest(o.skus, o.quantities) AS wanted (sku_id, quantity)
        WHERE o.state IN ('reserved', 'stuck', 'returned')
        GROUP BY wanted.sku_id, o.pool_id
    ) AS h USING (sku_id, pool_id)
    WHERE coalesce(p.free - p.overpromised, 0) <> coalesce(s.available, 0) - coalesce(h.held, 0)
"""
_NEGATIVE = """
    SELECT sku_id || ' at place ' || place_no,
           format('on hand %s, allocated %s, short %s', on_hand, allocated, short)
    FROM place_stock WHERE least(on_hand, allocated, short, damaged, on_hand - allocated) < 0
    UNION ALL
    SELECT sku_id || ' in pool ' || pool_id, format('free %s, overpromised %s', free, overpromised)
    FROM pool_stock WHERE least(free, overpromised) < 0
"""
_ALLOCATED_FOR_ORDERS = """
    SELECT coalesce(s.sku_id, o.sku_id) || ' at place ' || coalesce(s.place_no, o.place_no),
           format('%s allocated, orders there want %s', coalesce(s.allocated, 0), coalesce(o.wanted, 0))
    FROM (SELECT sku_id, place_no, allocated FROM place_stock WHERE allocated > 0) AS s
    FULL JOIN (
        SELECT wanted.sku_id, o.place_no, sum(wanted.quantity) AS wanted
        FROM stock_order AS o, unnest(o.skus, o.quantities) AS wanted (sku_id, quantity)
        WHERE o.state = 'allocated'
        GROUP BY wanted.sku_id, o.place_no
    ) AS o USING (sku_id, place_no)
    WHERE coalesce(s.allocated, 0) <> coalesce(o.wanted, 0)
"""
_NOBODY_WAITS_IN_VAIN = """
    SELECT b.order_id::text, 'back-ordered although every unit it wants is free'
    FROM backorder AS b JOIN pool_stock AS p USING (sku_id, pool_id)
    GROUP BY b.order_id
    HAVING bool_and(b.quantity <= p.free - p.safety)
"""
_WAITING_ROWS = """
    SELECT coalesce(o.order_id, b.order_id)::text,
           CASE WHEN b.order_id IS NULL THEN 'back-ordered, but nothing says what it waits for'
                ELSE 'listed as waiting, but its state is ' || coalesce(o.state, 'unknown') END
    FROM (SELECT order_id, state FROM stock_order WHERE state = 'backordered') AS o
    FULL JOIN (SELECT DISTINCT order_id FROM backorder) AS b USING (order_id)
    WHERE o.order_id IS NULL OR b.order_id IS NULL
"""
_GONE_UNITS = """
    SELECT sku_id || ' at ' || place_id, sum(short - on_hand)::text
    FROM movement AS m JOIN location USING (place_no) WHERE m.kind IN ('shipped', 'handed_over') GROUP BY sku_id, place_id
"""
_SHIPPED_UNITS = """
    SELECT sku_id || ' at ' || place_id, sum(quantity)::text
    FROM shipment JOIN shipment_line USING (shipment_id) GROUP BY sku_id, place_id
"""
_GONE_LINES = """
    SELECT format('%s line %s %s', subject_id, line, sku_id), sum(short - on_hand)::text
    FROM movement WHERE kind IN ('shipped', 'handed_over') GROUP BY subject_id, line, sku_id
"""
_SHIPPED_LINES = """
    SELECT format('%s line %s %s', origin_order_id, origin_line, sku_id), sum(quantity)::text
    FROM shipment_line GROUP BY origin_order_id, origin_line, sku_id
"""
_BOOKED_BACK = """
    SELECT format('%s line %s %s', subject_id, line, sku_id), sum(on_hand - short + damaged)::text
    FROM movement WHERE kind = 'sent_back' GROUP BY subject_id, line, sku_id
"""
_CAME_BACK = """
    SELECT format('%s line %s %s', origin_order_id, origin_line, sku_id), sum(quantity)::text
    FROM goods_return_line WHERE grade <> 'missing' GROUP BY origin_order_id, origin_line, sku_id
"""
_MORE_BACK_THAN_OUT = """
    SELECT format('shipment %s line %s %s', shipment_id, b.origin_line, b.sku_id),
           format('%s shipped, %s came back', coalesce(s.quantity, 0), b.quantity)
    FROM (
        SELECT shipment_id, origin_order_id, origin_line, sku_id, sum(quantity) AS quantity
        FROM goods_return JOIN goods_return_line USING (return_id)
        GROUP BY shipment_id, origin_order_id, origin_line, sku_id
    ) AS b
    LEFT JOIN shipment_line AS s USING (shipment_id, origin_order_id, origin_line, sku_id)
    WHERE b.quantity > coalesce(s.quantity, 0)
"""

GOODS: tuple[Check, ...] = (
    wrong_rows("counts_are_movements", "stock counts are the sum of their movements", "inventory", _COUNTS_ARE_MOVEMENTS),
    wrong_rows("nothing_is_negative", "no count is negative, and no place promises more than it has", "inventory", _NEGATIVE),
    wrong_rows("pools_add_up", "what a pool may promise is what its places have less what is held", "inventory", _POOL_ADDS_UP),
    wrong_rows(
        "allocated_for_orders", "units allocated at a place are those of the orders there", "inventory", _ALLOCATED_FOR_ORDERS
    ),
    wrong_rows(
        "waiting_orders_are_listed", "back-ordered orders and the list of what they wait for agree", "inventory", _WAITING_ROWS
    ),
    wrong_rows(
        "nobody_waits_in_vain",
        "nobody is back-ordered while everything they want is free",
        "inventory",
        _NOBODY_WAITS_IN_VAIN,
        live=False,
    ),
    same_in_both(
        "goods_left_as_shipped",
        "units gone from each place are those in its shipments",
        ("inventory", _GONE_UNITS),
        ("fulfillment", _SHIPPED_UNITS),
    ),
    same_in_both(
        "shipped_lines_leave_stock",
        "stock has let go of exactly what was shipped of each line",
        ("inventory", _GONE_LINES),
        ("fulfillment", _SHIPPED_LINES),
    ),
    same_in_both(
        "returns_are_booked",
        "units that came back are in stock again, for sale or not, once",
        ("fulfillment", _CAME_BACK),
        ("inventory", _BOOKED_BACK),
    ),
    wrong_rows("no_more_back_than_out", "no parcel came back with more than it left with", "fulfillment", _MORE_BACK_THAN_OUT),
)
