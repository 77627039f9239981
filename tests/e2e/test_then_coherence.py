"""After everything the other tests did: it all adds up; and each check fires, alone, when its own fault is planted.

Faults are planted by raw SQL inside transactions that only the checks see and that are rolled back.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence

import asyncpg
import pytest
import pytest_asyncio
from e2e_support import Shop, new_shop

from tools.client import Clients
from tools.coherence import CHECKS, Sources, drained, look, run_checks
from tools.coherence.checks import SERVICES
from tools.coherence.checks.flow import STEP
from tools.coherence.model import TopicRecord
from tools.coherence.topics import KafkaTopics
from tools.local_postgres import with_database
from tools.stack import Stack

DRAIN_SECONDS = 60.0
TIMER_SECONDS = 1.0
"""A worker takes what is due within half a second."""


@dataclasses.dataclass(frozen=True)
class ReadOnce:
    """The topics as they were when the tests began; a test may change its copy."""

    lag: Mapping[str, int]
    by_topic: Mapping[str, Sequence[TopicRecord]]

    async def lags(self) -> Mapping[str, int]:
        return self.lag

    async def records(self, topic: str) -> Sequence[TopicRecord]:
        return self.by_topic[topic]

    def but(self, topic: str, records: Sequence[TopicRecord]) -> ReadOnce:
        return ReadOnce(self.lag, {**self.by_topic, topic: records})


@pytest_asyncio.fixture(scope="module")
async def topics(stack: Stack, oms: Clients) -> ReadOnce:
    await _some_of_everything(new_shop(oms))
    sources = (stack.read_only_database_urls, stack.bootstrap_servers, stack.topic_prefix)
    busy = await drained(*sources, seconds=DRAIN_SECONDS)
    assert busy == [], [(outcome.check.name, outcome.findings[:3]) for outcome in busy]
    kafka = KafkaTopics(stack.bootstrap_servers, stack.topic_prefix)
    names = (
        "channel.orders",
        "order.received",
        "cancellation.settled",
        "allocation.returned",
        "stock.adjusted",
        "voucher.posted",
    )
    return ReadOnce(await kafka.lags(), {name: await kafka.records(name) for name in names})


async def _some_of_everything(shop: Shop) -> None:
    """Delivered, held, rejected and waiting orders, and stock that is left: what the faults below change."""
    plenty, none = await shop.stocked(10), await shop.stocked(0)
    delivered = [shop.order(plenty), shop.order(plenty)]
    held, rejected, waiting = shop.order(plenty, 25), shop.order(plenty, 25), shop.order(none)
    await shop.send(*delivered, held, rejected, waiting)
    order_id = (await shop.reaches(rejected, "held"))["order_id"]
    await shop.oms.post("audit", f"/v1/orders/{order_id}/reject", {"reason": "the buyer did not order this"})
    await shop.reaches(rejected, "cancelled")
    for order in delivered:
        await shop.reaches(order, "delivered")
    await shop.reaches(held, "held")
    await shop.reaches(waiting, "backordered")


async def test_everything_adds_up_after_all_the_other_tests(stack: Stack, topics: ReadOnce) -> None:
    """Fails when any of them lost, doubled, oversold or misbooked something."""
    outcomes = await look(stack.read_only_database_urls, stack.bootstrap_servers, stack.topic_prefix)
    assert {outcome.check.name: outcome.findings[:3] for outcome in outcomes if not outcome.holds} == {}


def _one(table: str, where: str = "true") -> str:
    return f"ctid = (SELECT ctid FROM {table} WHERE {where} LIMIT 1)"


_PARCEL = _one("shipment", "kind = 'to_ship'")
_PARCEL_ORDER = "(SELECT fulfilment_order_id FROM shipment WHERE part_json IS NULL AND order_id = root_id AND state = 'delivered' ORDER BY 1 LIMIT 1)"  # noqa: E501
_GONE = _one("movement", "kind = 'shipped'")
_RECEIVED = _one("movement", "kind = 'received'")
_PAID = _one("voucher", "template = 'paid'")
_SHIPPED = _one("voucher", "template = 'shipped'")
_DELIVERED = _one("voucher", "template = 'delivered'")
_ID = "00000000-0000-4000-8000-00000000fa17"
_HELD = "state = 'held'"
_AT_A_PLACE = _one("fulfilment_order", "status <> 'cancelled'")
_NEWEST = _one("decision", "decided_at = (SELECT max(decided_at) FROM decision)")
_WAITING = "(SELECT order_id FROM backorder ORDER BY order_id LIMIT 1)"
_WAITED_SKU = "(SELECT sku_id FROM backorder ORDER BY order_id LIMIT 1)"
_ITS_PLACE = f"(SELECT min(place_no) FROM place_stock WHERE sku_id = {_WAITED_SKU})"
_MOVE = """
    INSERT INTO movement (subject_id, cause_id, line, kind, sku_id, place_no, on_hand, allocated, short, damaged, moved_at)
    SELECT gen_random_uuid(), gen_random_uuid(), 1, '{kind}', sku_id, place_no, {on_hand}, {allocated}, 0, 0, now()
    FROM place_stock WHERE {where}
"""
_FREE_PLACE = _one("place_stock", "on_hand > allocated + short")
_FREE_SKU = f"(SELECT sku_id FROM place_stock WHERE {_FREE_PLACE})"
_TASK = "INSERT INTO task (id, kind, key, due_at, attempt, payload, created_at) VALUES (gen_random_uuid(), 'x', 'x', now() - interval '{age}', 0, '{{}}', now())"  # noqa: E501
_OUTBOX = "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, headers, ce_time, shard) VALUES (gen_random_uuid(), 'x', 'x', 'x', '', '', now() - interval '{age}', 0)"  # noqa: E501


def _quantity(column: str) -> str:
    return f"{column} = jsonb_set({column}::jsonb, '{{lines,0,quantity}}', '777')::text"


def _claim(template: str) -> str:
    """A fact that moved no money: claimed, and without postings."""
    return (
        f'INSERT INTO voucher SELECT (jsonb_populate_record(v, \'{{"voucher_id": "{_ID}", "claim_id": "{_ID}",'
        f' "order_id": "{_ID}", "template": "{template}", "shipment_id": null, "total_minor": 0, "posting_count": 0}}\')).*'
        " FROM voucher AS v LIMIT 1"
    )


FAULTS: dict[str, list[tuple[str, str]]] = {
    "outboxes_empty": [("audit", _OUTBOX.format(age="0 s"))],
    "outbox_moves": [("audit", _OUTBOX.format(age="10 min"))],
    "no_task_due": [("router", _TASK.format(age="1 s"))],
    "tasks_run": [("router", _TASK.format(age="1 h"))],
    "nothing_parked": [
        (
            "ledger",
            "INSERT INTO parked_key (consumer, key, cause, reason_code, reason, field, topic, parked_at)"
            " VALUES ('main', 'k', 'parked', 'x', 'x', '', 'order.received', now())",
        )
    ],
    "facts_arrive": [
        (
            "fulfillment",
            "INSERT INTO waiting (kind, key, consumer, stash_key, since, check_at)"
            " VALUES ('receiver', 'r', 'main', 'k', now() - interval '1 h', now())",
        )
    ],
    "received_orders_are_audited": [
        (
            "audit",
            f'INSERT INTO order_state SELECT (jsonb_populate_record(o, \'{{"order_id": "{_ID}", "state": "cancelled",'
            ' "open_holds": 0}\')).* FROM order_state AS o'
            " WHERE state = 'cleared' AND step = 1 AND parent_id IS NULL AND NOT is_merge LIMIT 1",
        ),
        (
            "ingest",
            "INSERT INTO order_stage (order_id, root_id, ingest, audit, inventory, router, fulfillment, ledger, replaced,"
            f" joined, progress_at) VALUES ('{_ID}', '{_ID}', 0, 1000099, 0, 0, 0, 0, false, false, now())",
        ),
    ],
    "open_holds_are_counted": [
        (
            "audit",
            "INSERT INTO hold SELECT (jsonb_populate_record(h, jsonb_build_object('hold_id', gen_random_uuid(),"
            " 'state', 'open', 'closed_at', null, 'closed_by', null))).* FROM hold AS h LIMIT 1",
        )
    ],
    "cleared_orders_reach_stock": [
        (
            "inventory",
            f'INSERT INTO stock_order SELECT (jsonb_populate_record(o, \'{{"order_id": "{_ID}", "state": "stuck", "step": 0,'
            ' "skus": [], "quantities": [], "units_left": 1, "place_no": null, "parent_id": null}\')).*'
            " FROM stock_order AS o LIMIT 1",
        )
    ],
    "reserved_orders_are_routed": [
        (
            "inventory",
            "UPDATE pool_stock SET overpromised = overpromised + (SELECT quantity FROM backorder WHERE order_id ="
            f" {_WAITING}) WHERE sku_id = {_WAITED_SKU}",
        ),
        ("inventory", f"UPDATE stock_order SET state = 'reserved' WHERE order_id = {_WAITING}"),
        ("inventory", f"DELETE FROM backorder WHERE order_id = {_WAITING}"),
    ],
    "routed_orders_have_a_decision": [("router", f"DELETE FROM decision WHERE {_NEWEST}")],
    "allocated_orders_are_fulfilled": [("fulfillment", f"UPDATE fulfilment_order SET place_no = 999 WHERE {_AT_A_PLACE}")],
    "shipped_as_ordered": [
        (
            "fulfillment",
            f"UPDATE fulfilment_content SET {_quantity('part_json')} WHERE fulfilment_order_id = {_PARCEL_ORDER}",
        )
    ],
    "every_unit_is_somewhere": [
        (
            "ingest",
            f"UPDATE order_document SET {_quantity('block')} WHERE order_id ="
            " (SELECT order_id FROM order_stage JOIN order_document USING (order_id)"
            " WHERE fulfillment % 1000 = 98 AND part = '' AND order_id = root_id LIMIT 1)",
        )
    ],
    "money_follows_goods": [
        (
            "fulfillment",
            "UPDATE shipment SET part_json = jsonb_set((SELECT part_json::jsonb FROM fulfilment_content AS c"
            " WHERE c.fulfilment_order_id = shipment.fulfilment_order_id), '{lines,0,receivable_minor}', '777')::text"
            " WHERE part_json IS NULL AND order_id = root_id",
        )
    ],
    "closed_cancels_are_answered": [
        (
            "ingest",
            "UPDATE request_line AS l SET asked = asked + 1 FROM request AS r"
            " WHERE r.request_id = l.request_id AND r.order_id = l.order_id AND r.kind = 'cancel' AND r.state = 'closed'",
        )
    ],
    "open_cancels_wait_for_a_place": [
        (
            "ingest",
            "INSERT INTO request SELECT (jsonb_populate_record(r, jsonb_build_object('request_id', gen_random_uuid(),"
            " 'state', 'open', 'reference', null, 'settled_at', null))).* FROM request AS r"
            " WHERE kind = 'cancel' ORDER BY request_id LIMIT 1",
        ),
        (
            "ingest",
            "INSERT INTO request_line (request_id, order_id, origin_order_id, origin_line, sku_id, asked, cancelled, refused,"
            " code, quantity_then) SELECT request_id, order_id, order_id, 1, 'x', 1, 0, 0, 'x', 1"
            " FROM request WHERE kind = 'cancel' AND state = 'open'",
        ),
    ],
    "pending_stops_can_be_answered": [
        (
            "inventory",
            "INSERT INTO pending_stop (root_id, request_id, origin_order_id, origin_line, sku_id, quantity, kind, since)"
            f" VALUES ('{_ID}', '{_ID}', '{_ID}', 1, 'x', 1, 'recall', now())",
        )
    ],
    "stops_are_answered_once": [
        (
            "fulfillment",
            "INSERT INTO stop_request (root_id, request_id, reason, asked, stopped, asked_at, answered_at)"
            f" VALUES ('{_ID}', '{_ID}', 'x', '[]', '[]', now(), now())",
        )
    ],
    "shipped_lines_leave_stock": [("inventory", f"UPDATE movement SET line = 777 WHERE {_GONE}")],
    "returns_are_booked": [
        (
            "inventory",
            "INSERT INTO movement (subject_id, cause_id, line, kind, sku_id, place_no, on_hand, allocated, short, damaged,"
            f" moved_at) SELECT '{_ID}', '{_ID}', 1, 'sent_back', sku_id, place_no, 0, 0, 0, 1, now()"
            f" FROM place_stock WHERE {_FREE_PLACE}",
        ),
        ("inventory", f"UPDATE place_stock SET damaged = damaged + 1 WHERE {_FREE_PLACE}"),
    ],
    "no_more_back_than_out": [
        (
            "fulfillment",
            "INSERT INTO goods_return (return_id, reference, content_hash, shipment_id, order_id, root_id, place_id, reason,"
            f" received_at, recorded_by) VALUES ('{_ID}', 'x', '', '{_ID}', '{_ID}', '{_ID}', 'x', 'buyer_return', now(), 'x')",
        ),
        (
            "fulfillment",
            "INSERT INTO goods_return_line (return_id, origin_order_id, origin_line, sku_id, grade, quantity, paid_minor,"
            f" receivable_minor, tax_minor) VALUES ('{_ID}', '{_ID}', 1, 'x', 'missing', 1, 0, 0, 0)",
        ),
        ("ledger", _claim("return_missing")),
    ],
    "waybills_are_unique": [
        ("fulfillment", "ALTER TABLE shipment DROP CONSTRAINT shipment_waybill"),
        (
            "fulfillment",
            "UPDATE shipment SET (carrier, waybill_no) = (SELECT carrier, waybill_no FROM shipment WHERE kind = 'to_ship'"
            f" ORDER BY shipment_id LIMIT 1) WHERE {_PARCEL}"
            " OR shipment_id = (SELECT max(shipment_id::text)::uuid FROM shipment WHERE kind = 'to_ship')",
        ),
    ],
    "counts_are_movements": [("inventory", f"UPDATE movement SET on_hand = on_hand + 1 WHERE {_RECEIVED}")],
    "nothing_is_negative": [
        (
            "inventory",
            "ALTER TABLE place_stock DROP CONSTRAINT place_stock_on_hand_check, DROP CONSTRAINT place_stock_short_check,"
            " DROP CONSTRAINT place_stock_check",
        ),
        (
            "inventory",
            "INSERT INTO place_stock (sku_id, place_no, on_hand, allocated, short, damaged, safety, incoming, version)"
            f" SELECT '{_ID}', min(place_no), -1, 0, -1, 0, 0, 0, 1 FROM location",
        ),
        (
            "inventory",
            "INSERT INTO movement (subject_id, cause_id, line, kind, sku_id, place_no, on_hand, allocated, short, damaged,"
            f" moved_at) SELECT '{_ID}', '{_ID}', 1, 'adjusted', sku_id, place_no, -1, 0, -1, 0, now()"
            f" FROM place_stock WHERE sku_id = '{_ID}'",
        ),
    ],
    "pools_add_up": [
        (
            "inventory",
            "UPDATE pool_stock SET overpromised = overpromised + 1 WHERE sku_id ="
            " (SELECT sku_id FROM pool_stock WHERE free = 0 ORDER BY sku_id LIMIT 1)",
        )
    ],
    "allocated_for_orders": [
        ("inventory", f"UPDATE pool_stock SET free = free - 1 WHERE sku_id = {_FREE_SKU}"),
        ("inventory", _MOVE.format(kind="allocated", on_hand=0, allocated=1, where=_FREE_PLACE)),
        ("inventory", f"UPDATE place_stock SET allocated = allocated + 1 WHERE {_FREE_PLACE}"),
    ],
    "waiting_orders_are_listed": [("inventory", f"DELETE FROM backorder WHERE order_id = {_WAITING}")],
    "nobody_waits_in_vain": [
        ("inventory", f"UPDATE pool_stock SET free = 50 WHERE sku_id = {_WAITED_SKU}"),
        (
            "inventory",
            "INSERT INTO place_stock (sku_id, place_no, on_hand, allocated, short, damaged, safety, incoming, version)"
            f" SELECT {_WAITED_SKU}, min(place_no), 0, 0, 0, 0, 0, 0, 1 FROM location ON CONFLICT DO NOTHING",
        ),
        (
            "inventory",
            _MOVE.format(
                kind="adjusted",
                on_hand=50,
                allocated=0,
                where=f"sku_id = {_WAITED_SKU} AND place_no = {_ITS_PLACE}",
            ),
        ),
        (
            "inventory",
            f"UPDATE place_stock SET on_hand = on_hand + 50 WHERE sku_id = {_WAITED_SKU} AND place_no = {_ITS_PLACE}",
        ),
    ],
    "goods_left_as_shipped": [("fulfillment", f"UPDATE shipment SET place_id = 'ELSEWHERE' WHERE {_one('shipment')}")],
    "paid_orders_are_posted": [("ledger", f"UPDATE voucher SET template = 'x' WHERE {_PAID}")],
    "shipments_are_posted": [("ledger", f"UPDATE voucher SET template = 'x' WHERE {_SHIPPED}")],
    "deliveries_are_posted": [("ledger", f"UPDATE voucher SET template = 'x' WHERE {_DELIVERED}")],
    "refunds_are_posted": [
        (
            "ingest",
            "INSERT INTO refund (channel, shop_id, refund_id, order_id, amount_minor, lines, settled_at)"
            f" VALUES ('x', 'x', 'x', '{_ID}', 0, '[]', now())",
        )
    ],
    "returns_are_posted": [("ledger", _claim("return_good"))],
    "delivered_orders_are_not_owed": [
        (
            "ledger",
            "INSERT INTO profit_fact SELECT (jsonb_populate_record(f, jsonb_build_object('phase', 'delivered',"
            " 'line', f.line + 1000, 'shipment_id', f.voucher_id))).*"
            " FROM profit_fact AS f JOIN voucher AS v USING (voucher_id)"
            " WHERE v.template = 'paid' AND v.root_id NOT IN (SELECT root_id FROM voucher WHERE template <> 'paid')",
        )
    ],
    "vouchers_balance": [
        (
            "ledger",
            "INSERT INTO balance_delta (book, period, account, currency, debit_minor, credit_minor)"
            " SELECT n.book, n.period, p.account, v.currency, 1, 0 FROM posting AS p JOIN voucher AS v USING (voucher_id)"
            f" JOIN voucher_number AS n USING (voucher_id) WHERE p.{_one('posting', 'debit_minor > 0')}",
        ),
        ("ledger", f"UPDATE posting SET debit_minor = debit_minor + 1 WHERE {_one('posting', 'debit_minor > 0')}"),
    ],
    "numbers_are_gapless": [
        ("ledger", f"UPDATE voucher_counter SET last_number = last_number + 1 WHERE {_one('voucher_counter')}")
    ],
    "vouchers_are_numbered_once": [
        (
            "ledger",
            f'INSERT INTO voucher SELECT (jsonb_populate_record(v, \'{{"voucher_id": "{_ID}", "event_id": "{_ID}",'
            ' "template": "x", "total_minor": 5, "posting_count": 2}\')).* FROM voucher AS v LIMIT 1',
        ),
        (
            "ledger",
            "INSERT INTO posting (voucher_id, line, account, debit_minor, credit_minor)"
            f" VALUES ('{_ID}', 1, '1405', 5, 0), ('{_ID}', 2, '1406', 0, 5)",
        ),
    ],
    "balances_are_postings": [
        (
            "ledger",
            "INSERT INTO balance_delta (book, period, account, currency, debit_minor, credit_minor)"
            " SELECT book, period, '1405', 'CNY', 1, 0 FROM voucher_number LIMIT 1",
        )
    ],
    **{
        f"book_has_seen_{service}": [
            (
                "ingest",
                f"UPDATE order_stage SET {service} = {service} + {STEP} WHERE {_one('order_stage', f'{service} >= {STEP}')}",
            )
        ]
        for service in ("audit", "inventory", "router", "fulfillment", "ledger")
    },
}
FURTHER_FAULTS: list[tuple[str, list[tuple[str, str]]]] = [
    (
        "paid_orders_are_posted",  # Over another amount.
        [
            (
                "ingest",
                "UPDATE order_document SET block = jsonb_set(block::jsonb, '{receivable_minor}', '777')::text WHERE order_id ="
                " (SELECT order_id FROM channel_order JOIN order_document USING (order_id) WHERE state = 'sent' AND again = 0"
                " AND part = '' AND NOT EXISTS (SELECT FROM request AS r WHERE r.order_id = channel_order.order_id) LIMIT 1)",
            )
        ],
    ),
    (
        "pools_add_up",  # Goods that no pool may promise.
        [("inventory", f"DELETE FROM pool_stock WHERE sku_id = {_FREE_SKU}")],
    ),
    (
        "every_unit_is_somewhere",  # Held in another quantity.
        [("audit", f"UPDATE order_state SET {_quantity('part_json')} WHERE {_one('order_state', _HELD)}")],
    ),
    (
        "stops_are_answered_once",  # Units given back that nobody was told of.
        [
            (
                "fulfillment",
                "INSERT INTO allocation_return (fulfilment_order_id, return_no, reason, stock_effect, units, returned_at)"
                f" SELECT fulfilment_order_id, 99, 'x', 'none', '[]', now() FROM fulfilment_order WHERE"
                f" {_one('fulfilment_order')}",
            )
        ],
    ),
]
"""Other ways to break what a check watches."""
TOPIC_FAULTS = {
    "stock_documents_are_posted",
    "consumers_caught_up",
    "channel_orders_are_taken",
    "received_topic_is_complete",
    "cancels_are_settled_once",
    "voucher_topic_is_complete",
}


@contextlib.asynccontextmanager
async def planted(stack: Stack, faults: Sequence[tuple[str, str]], topics: ReadOnce) -> AsyncIterator[Sources]:
    """Sources of which some have a fault; nobody else ever sees it."""
    async with contextlib.AsyncExitStack() as exits:
        databases = {}
        for service in SERVICES:
            url = with_database(stack.admin_database_url, stack.database_urls[service].rsplit("/", 1)[1])
            connection = await asyncpg.connect(url)
            exits.push_async_callback(connection.close)
            transaction = connection.transaction()
            await transaction.start()
            exits.push_async_callback(transaction.rollback)
            databases[service] = connection
        for service, sql in faults:
            # Triggers and foreign keys would refuse most faults; the checks must not rely on them.
            await databases[service].execute("SET LOCAL session_replication_role = replica")
            done = await databases[service].execute(sql)
            assert not done.endswith(" 0"), f"nothing was planted by {sql}"
        yield Sources(databases, topics)


async def _fired(sources: Sources, checks: Sequence[str]) -> set[str]:
    chosen = [check for check in CHECKS if check.name in checks]
    return {outcome.check.name for outcome in await run_checks(sources, chosen) if not outcome.holds}


async def _fired_by(
    stack: Stack, faults: Sequence[tuple[str, str]], topics: ReadOnce, checks: Sequence[str], *, is_timer: bool = False
) -> set[str]:
    """Which of these checks the faults set off. The running system has timers of its own: a look at which one is due at that
    very moment is looked again, unless a timer is what was planted."""
    for _ in range(10):
        async with planted(stack, faults, topics) as sources:
            fired = await _fired(sources, checks)
        if is_timer or "no_task_due" not in fired:
            break
        await asyncio.sleep(TIMER_SECONDS)
    return fired


def test_every_check_has_its_fault() -> None:
    assert {check.name for check in CHECKS} == FAULTS.keys() | TOPIC_FAULTS


@pytest.mark.parametrize(("name", "faults"), [*FAULTS.items(), *FURTHER_FAULTS])
async def test_a_planted_fault_fires_its_check_and_no_other(
    stack: Stack, topics: ReadOnce, name: str, faults: Sequence[tuple[str, str]]
) -> None:
    """Fails when a check cannot fail, or cries at another's fault."""
    live = {check.name for check in CHECKS if check.live}
    # What is old is under way too, so age limits are tried among the live checks, as `--live` runs them.
    among = live if name in {"outbox_moves", "tasks_run", "facts_arrive"} else {check.name for check in CHECKS}
    assert await _fired_by(stack, faults, topics, sorted(among), is_timer=name == "no_task_due") == {name}


async def test_a_lost_or_changed_record_fires_its_check_and_no_other(stack: Stack, topics: ReadOnce) -> None:
    """Fails when what only the topics can tell goes unseen."""
    taken, received, settled, adjusted, posted = (
        topics.by_topic[name]
        for name in ("channel.orders", "order.received", "cancellation.settled", "stock.adjusted", "voucher.posted")
    )
    settled = [record for record in settled if record.type == "CancellationSettled"]
    orders = [record for record in received if record.type == "OrderReceived"]
    untaken = dataclasses.replace(taken[0], offset=10**9, body=b'{"channel": "jd", "shop_id": "s", "channel_order_no": "lost"}')
    unreadable = dataclasses.replace(taken[0], offset=10**9, body=b"[")
    again = dataclasses.replace(settled[0], id="another event")
    faults: list[tuple[str, ReadOnce]] = [
        ("consumers_caught_up", dataclasses.replace(topics, lag={"ledger.main order.received": 3})),
        ("channel_orders_are_taken", topics.but("channel.orders", [*taken, untaken])),
        ("channel_orders_are_taken", topics.but("channel.orders", [*taken, unreadable])),
        (
            "received_topic_is_complete",
            topics.but("order.received", [record for record in received if record.id != orders[0].id]),
        ),
        ("cancels_are_settled_once", topics.but("cancellation.settled", settled[1:])),
        ("cancels_are_settled_once", topics.but("cancellation.settled", [*settled, again])),
        ("voucher_topic_is_complete", topics.but("voucher.posted", [*posted, dataclasses.replace(posted[0], digest=b"other")])),
        ("stock_documents_are_posted", topics.but("stock.adjusted", adjusted[1:])),
        ("voucher_topic_is_complete", topics.but("voucher.posted", posted[1:])),
    ]
    assert {name for name, _ in faults} == TOPIC_FAULTS
    for name, faulty in faults:
        assert await _fired_by(stack, [], faulty, [check.name for check in CHECKS]) == {name}


async def test_resent_records_are_no_fault(stack: Stack, topics: ReadOnce) -> None:
    """Fails when a check takes at-least-once delivery for a doubled effect."""
    resent = ReadOnce(topics.lag, {name: [*records, *records] for name, records in topics.by_topic.items()})
    assert await _fired_by(stack, [], resent, [check.name for check in CHECKS]) == set()
