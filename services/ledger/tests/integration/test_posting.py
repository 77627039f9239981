"""From events to numbered, balanced, chained vouchers, on a real Postgres."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from contracts import Event, VoucherPosted
from eventing.broker import Outgoing, Record
from eventing.envelope import encode, headers_of
from eventing.testing import Harness
from eventing.testing.values import SeededIds

from .conftest import Story, make_harness

Movement = dict[str, int]


async def rows_of(engine: AsyncEngine, statement: str, **parameters: Any) -> Sequence[Any]:
    async with engine.connect() as connection:
        return (await connection.execute(text(statement), parameters)).all()


async def balances_of(engine: AsyncEngine, book: str = "main") -> Movement:
    rows = await rows_of(
        engine,
        "SELECT account, sum(debit_minor - credit_minor) AS amount FROM ("
        " SELECT book, account, debit_minor, credit_minor FROM account_balance"
        " UNION ALL SELECT book, account, debit_minor, credit_minor FROM balance_delta"
        ") AS b WHERE book = :book GROUP BY account",
        book=book,
    )
    return {row.account: int(row.amount) for row in rows}


def movement_of(voucher: VoucherPosted) -> Movement:
    return {entry.account: entry.debit_minor - entry.credit_minor for entry in voucher.entries}


def vouchers_of(events: Sequence[Event]) -> list[VoucherPosted]:
    return [event for event in events if isinstance(event, VoucherPosted)]


def publish(harness: Harness, events: Sequence[Event]) -> list[Record]:
    """Records with identities of their own, to be delivered as often as wanted."""
    records = []
    for event in events:
        row = encode(event, id=uuid4(), time=harness.clock.now(), source="/elsewhere", traceparent=None)
        outgoing = Outgoing(row.topic, row.key.encode(), row.payload, headers_of(row.headers))
        records.append(harness.bus.publish(outgoing, timestamp_ms=int(harness.clock.now().timestamp() * 1000)))
    return records


async def test_an_order_brings_three_vouchers_that_say_what_happened(harness: Harness) -> None:
    """Fails when a term, an account or a side of a seeded template is changed."""
    outcome = await harness.receive(Story().all)
    paid, shipped, delivered = vouchers_of(outcome.emitted)
    assert movement_of(paid) == {"1122.01": 27790, "1122.02": 2397, "2204": -26772, "2221.07": -3415}
    assert movement_of(shipped) == {"1406": 13900, "1405.01": -13900, "6601.01": 1350, "2202.01": -1350}
    assert movement_of(delivered) == {
        "2204": 26772, "2221.07": 3415, "6001": -26772, "2221.01": -3415, "6401": 13900, "1406": -13900,
    }  # fmt: skip
    assert [(v.template, v.number, v.progress.step) for v in (paid, shipped, delivered)] == [
        ("paid", 1, 1), ("shipped", 2, 2), ("delivered", 3, 3),
    ]  # fmt: skip
    assert (paid.entries[0].account_name, paid.entries[0].summary) == ("应收账款-平台", "收款 taobao 4000000000000000100")
    assert paid.progress.params == {"word": "记", "number": 1, "template": "paid", "total_minor": 30187}


@pytest.mark.parametrize(
    ("collection", "account"), [("direct", "1012"), ("cash_on_delivery", "1122.03"), ("barter", "1122.01")]
)
async def test_who_collects_decides_who_owes_us(harness: Harness, collection: str, account: str) -> None:
    """Fails when a collection that nobody knows yet stops an order: enums on topics are open."""
    (paid,) = vouchers_of((await harness.receive([Story(collection=collection).received])).emitted)
    assert movement_of(paid)[account] == 27790


async def test_a_redelivered_batch_posts_nothing(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when the voucher is inserted without its claim on (event, template)."""
    records = publish(harness, Story().all)
    assert len((await harness.deliver(records)).emitted) == 3
    before = await balances_of(engine)
    assert (await harness.deliver([*records, *records])).emitted == []
    assert await balances_of(engine) == before
    assert (await rows_of(engine, "SELECT step FROM posted_order"))[0].step == 3


async def test_steps_count_on_from_batch_to_batch(harness: Harness) -> None:
    """Fails when the order's counter starts anew: the order book would keep an older state."""
    steps = [vouchers_of((await harness.receive([event])).emitted)[0].progress.step for event in Story().all]
    assert steps == [1, 2, 3]


async def test_copies_inside_one_batch_are_posted_once(harness: Harness) -> None:
    records = publish(harness, Story().all)
    assert len((await harness.deliver([*records, *records])).emitted) == 3


async def test_a_payment_that_is_told_again_under_another_id_is_posted_once(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when a payment is known by its event alone: a service restored from a backup tells its orders anew."""
    story = Story()
    again = [*publish(harness, [story.received]), *publish(harness, [story.received])]
    assert len((await harness.deliver(again)).emitted) == 1
    await harness.deliver(publish(harness, story.all[1:]))
    before = await balances_of(engine)
    assert (await harness.deliver(publish(harness, story.all))).emitted == []
    assert await balances_of(engine) == before
    assert await rows_of(engine, "SELECT event_id FROM posting_flag") == []


async def test_the_same_event_with_other_content_is_flagged_and_not_posted(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when the claim is taken without looking at the content hash."""
    story, event_id = Story(), uuid4()
    await harness.receive([story.received], id=event_id)
    before = await balances_of(engine)
    story.order["collection"] = "direct"
    for _ in range(2):
        assert (await harness.receive([story.received], id=event_id)).emitted == []
    assert await balances_of(engine) == before
    assert [tuple(row) for row in await rows_of(engine, "SELECT event_id, code, template FROM posting_flag")] == [
        (event_id, "content_changed", "paid")
    ]


async def test_carrier_events_before_delivery_move_nothing(harness: Harness, engine: AsyncEngine) -> None:
    event = Story().delivered.model_copy(update={"state": "in_transit"})
    outcome = await harness.receive([event])
    assert (outcome.handled, outcome.emitted) == (1, [])
    assert await rows_of(engine, "SELECT 1 FROM voucher") == []


async def test_a_free_order_is_claimed_without_a_voucher(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when an empty voucher takes a number."""
    event = Story().received
    free = {"paid_minor": 0, "receivable_minor": 0, "tax_minor": 0}
    part = event.part.model_copy(update={"lines": [line.model_copy(update=free) for line in event.part.lines], "freight": []})
    outcome = await harness.receive([event.model_copy(update={"part": part})])
    assert outcome.emitted == []
    rows = await rows_of(engine, "SELECT total_minor, posting_count FROM voucher")
    assert [tuple(row) for row in rows] == [(0, 0)]
    assert await rows_of(engine, "SELECT 1 FROM voucher_counter") == []


async def test_goods_shipped_without_a_cost_are_posted_and_flagged(harness: Harness, engine: AsyncEngine) -> None:
    event = Story().shipped
    lines = [event.part.lines[0].model_copy(update={"unit_cost_minor": None}), event.part.lines[1]]
    part = event.part.model_copy(update={"lines": lines})
    (shipped,) = vouchers_of((await harness.receive([event.model_copy(update={"part": part})])).emitted)
    assert movement_of(shipped)["1406"] == 1500
    rows = await rows_of(engine, "SELECT code, params FROM posting_flag")
    assert [tuple(row) for row in rows] == [("cost_unknown", {"skus": ["DRESS01-RED-M"]})]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), size=st.integers(1, 4))
async def test_any_order_of_events_with_copies_ends_in_the_same_balances(engine: AsyncEngine, seed: int, size: int) -> None:
    """Fails when a template reads anything but its own event, or a copy in another batch is posted again."""
    chance = random.Random(seed)
    results = []
    for shuffled in (False, True):
        stories = [Story() for _ in range(size)]  # Others each time: a parcel is posted once for ever, whatever the book.
        book = f"book_{uuid4().hex}"
        harness = make_harness(engine, book=book, ids=SeededIds(uuid4().int))
        records = publish(harness, [event for story in stories for event in story.all])
        if shuffled:
            records += chance.sample(records, k=chance.randint(0, len(records)))
            chance.shuffle(records)
        while records:
            count = chance.randint(1, len(records))
            await harness.deliver(records[:count])
            records = records[count:]
            if shuffled and chance.random() < 0.3:
                harness.clock.advance(seconds=6)
                await harness.run_due_tasks()
        results.append(await balances_of(engine, book))
    assert results[0] == results[1]
    assert sum(results[0].values()) == 0
    assert results[0]["6001"] == -26772 * size


async def test_concurrent_writers_leave_no_gap(engine: AsyncEngine) -> None:
    """Fails when numbers come from a sequence, or the counter is read before it is locked."""
    harnesses = [make_harness(engine, ids=SeededIds(seed)) for seed in (1, 2)]
    batches = [[publish(h, [e for _ in range(5) for e in Story().all]) for _ in range(6)] for h in harnesses]
    shared = publish(harnesses[0], Story().all)  # Both get these, as after a rebalance.

    async def write(number: int) -> None:
        processor = harnesses[number].runtime.processors["main"]
        for batch in batches[number]:
            await processor.process([*batch, *shared])

    await asyncio.gather(write(0), write(1))
    numbers = await rows_of(engine, "SELECT number FROM voucher_number ORDER BY number")
    assert [row.number for row in numbers] == list(range(1, 2 * 6 * 5 * 3 + 3 + 1))
    events = vouchers_of(await harnesses[0].emitted())
    assert sorted(event.number for event in events) == [row.number for row in numbers]
    steps = Counter((event.order_id, event.progress.step) for event in events)
    assert set(steps.values()) == {1}
    assert {step for _, step in steps} == {1, 2, 3}


async def test_the_database_refuses_what_does_not_balance(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when the trigger is dropped: then only our own arithmetic would stand between a bug and the books."""
    await harness.receive([Story().received])
    copy = (
        "INSERT INTO voucher SELECT gen_random_uuid(), gen_random_uuid(), event_id, template, template_version,"
        " content_hash, root_id, order_id, shipment_id, channel, shop_id, currency, occurred_at, occurred_on,"
        " summary, 100, 2, hash, recorded_at"
        " FROM voucher LIMIT 1 RETURNING voucher_id"
    )

    async def insert(lines: str) -> None:
        async with engine.begin() as connection:
            voucher_id = await connection.scalar(text(copy))
            statement = f"INSERT INTO posting SELECT :id, * FROM (VALUES {lines}) AS l"  # noqa: S608
            await connection.execute(text(statement), {"id": voucher_id})

    for lines in ("(1, '1405', 100, 0), (2, '1406', 0, 99)", "(1, '1405', 99, 0), (2, '1406', 0, 99)", "(1, '1405', 100, 0)"):
        with pytest.raises(IntegrityError, match="does not balance"):
            await insert(lines)
    await insert("(1, '1405', 100, 0), (2, '1406', 0, 100)")


@pytest.mark.parametrize("table", ["voucher", "posting", "voucher_number", "chain_link", "template_version", "chart_version"])
async def test_the_books_are_insert_only(harness: Harness, engine: AsyncEngine, table: str) -> None:
    await harness.receive([Story().received])

    async def run(statement: str) -> None:
        async with engine.begin() as connection:
            await connection.execute(text(statement))

    for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}"):  # noqa: S608
        with pytest.raises(IntegrityError, match="insert-only"):
            await run(statement)


async def test_one_record_that_cannot_be_booked_does_not_stop_the_others(harness: Harness) -> None:
    """Fails when an amount beyond 64 bits takes its whole batch down."""
    bad, good = Story(), Story()
    event = bad.shipped
    huge = event.part.lines[0].model_copy(update={"unit_cost_minor": 10**15, "quantity": 1_000_000})
    part = event.part.model_copy(update={"lines": [huge]})
    outcome = await harness.receive([event.model_copy(update={"part": part}), *good.all])
    assert [parked.key for parked in outcome.parked] == [str(bad.order_id)]
    assert [voucher.number for voucher in vouchers_of(outcome.emitted)] == [1, 2, 3]
