"""The fates of records, step by step on a real Postgres: claims, layers, bisecting, parking, waiting."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from eventing_sample import TOPICS, NumberAsked, NumberKept, NumberTold, Teller, WordKnown, build
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncEngine

from eventing import Consumer, RawRoute, Received, Runtime, UnitOfWork, database, tables
from eventing.testing import FakeBus, Harness


@pytest.fixture
def teller() -> Teller:
    return Teller()


@pytest.fixture
def harness(engine: AsyncEngine, teller: Teller) -> Harness:
    return Harness(
        partial(build, teller, engine=engine), bus=FakeBus(TOPICS), events=[NumberTold, NumberAsked, NumberKept, WordKnown]
    )


async def kept(engine: AsyncEngine, key: str | None = None) -> list[int]:
    async with database.begin(engine) as connection:
        rows = await connection.execute(
            text("SELECT number FROM kept WHERE CAST(:key AS text) IS NULL OR key = :key ORDER BY id"), {"key": key}
        )
        return list(rows.scalars())


async def count(engine: AsyncEngine, table: str) -> int:
    async with database.begin(engine) as connection:
        return (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()  # noqa: S608


def told(name: str, number: int, **more: Any) -> NumberTold:
    return NumberTold(name=name, number=number, **more)


async def test_a_batch_has_its_effect_and_says_so_in_order(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when outbox rows are not numbered in the order of emission."""
    result = await harness.receive([told("中文", n) for n in range(5)])
    assert result.emitted == [NumberKept(name="中文", number=n) for n in range(5)]
    assert await kept(engine) == [0, 1, 2, 3, 4]


async def test_the_same_event_twice_is_handled_once(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when a claim that is taken does not stop the record."""
    event_id = uuid4()
    await harness.receive([told("a", 1)], id=event_id)
    again = await harness.receive([told("a", 1)], id=event_id)
    assert (again.duplicates, again.handled, again.emitted) == (1, 0, [])
    assert await kept(engine) == [1]


async def test_the_same_id_with_other_content_parks_the_key(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when content hashes are not compared: the second would pass as a duplicate."""
    event_id = uuid4()
    await harness.receive([told("a", 1)], id=event_id)
    other = await harness.receive([told("a", 2)], id=event_id)
    assert [fated.code for fated in other.parked] == ["id_conflict"]
    assert await kept(engine) == [1]


async def test_poison_parks_its_key_and_lets_the_others_through(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when bisecting loses, doubles or reorders what is not poison."""
    events = [told(f"k{n % 7}", n) for n in range(50)]
    events.insert(20, told("k3", 999, trouble="raise"))
    result = await harness.receive(events)
    assert [fated.code for fated in result.parked] == ["poison"]
    numbers = await kept(engine)
    assert sorted(numbers) == sorted(n for n in range(50) if n % 7 != 3 or n < 20)
    for key in range(7):
        mine = [n for n in numbers if n % 7 == key]
        assert mine == sorted(mine)
    assert len(result.queued) == len([n for n in range(20, 50) if n % 7 == 3])


async def test_a_database_error_of_a_handler_is_poison_too(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when every database error passes for an outage: the partition would stand still for ever."""
    result = await harness.receive([told("a", 1), told("b", 2, trouble="SELECT 1 / 0"), told("c", 3)])
    assert [fated.code for fated in result.parked] == ["poison"]
    assert "22012" in result.parked[0].reason
    assert sorted(await kept(engine)) == [1, 3]


async def test_what_follows_a_parked_record_waits_and_is_drained_in_order(
    harness: Harness, engine: AsyncEngine, teller: Teller
) -> None:
    """Fails when later records overtake, or a retry drains out of order or across topics."""
    await harness.receive([told("a", 1, trouble="raise"), told("a", 2)])
    later = await harness.receive([NumberAsked(name="a", number=3), told("a", 4), told("b", 5)])
    assert [fated.key for fated in later.queued] == ["a", "a"]
    assert await kept(engine) == [5]
    operations = harness.runtime.operations
    (parked,) = await operations.list_parked(10)
    assert (parked.key, parked.records, parked.reason_code) == ("a", 4, "poison")
    async with harness.runtime.work() as work:
        await operations.wish(work, "a", "retry")
    still = await harness.drain()
    assert [fated.code for fated in still.parked] == ["poison"]
    teller.trouble_is_over = True
    async with harness.runtime.work() as work:
        await operations.wish(work, "a", "retry")
    done = await harness.drain()
    assert [event.number for event in done.emitted if isinstance(event, NumberKept)] == [1, 2, 3, 4]
    assert await kept(engine, "a") == [1, 2, 3, 4]
    assert await operations.list_parked(10) == []
    assert await count(engine, "parked_record") == 0


async def test_a_record_that_supersedes_its_stash_discards_it(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when a cancel queues behind the order that it cancels: it would wait for a person for nothing."""
    await harness.receive([told("a", 1, trouble="raise"), told("a", 2), told("b", 1, trouble="raise"), told("b", 2)])
    result = await harness.receive([told("a", 3), NumberAsked(name="a", number=0), told("a", 4), told("b", 3)])
    assert [event.number for event in result.emitted if isinstance(event, NumberKept)] == [0, 4]
    assert await kept(engine, "a") == [0, 4]
    (left,) = await harness.runtime.operations.list_parked(10)
    assert (left.key, left.records) == ("b", 3)
    assert await count(engine, "parked_record") == 3


async def test_a_record_supersedes_what_was_refused_in_its_own_batch(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when only stashes of earlier batches are looked at."""
    result = await harness.receive([told("a", 1, trouble="raise"), told("a", 2), NumberAsked(name="a", number=0)])
    assert await kept(engine) == [0]
    assert (result.parked, await count(engine, "parked_key"), await count(engine, "parked_record")) == ([], 0, 0)


async def test_poison_that_would_supersede_poison_waits_behind_it(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when the failure of the later one leaves the batch: it would come again for ever, and its partition stand still."""
    result = await harness.receive(
        [told("a", 1, trouble="raise"), told("b", 2), NumberAsked(name="a", number=0, trouble="raise"), told("a", 3)]
    )
    assert await kept(engine) == [2]
    assert [fated.code for fated in result.parked] == ["poison"]
    (left,) = await harness.runtime.operations.list_parked(10)
    assert (left.key, left.records) == ("a", 3)


async def test_a_record_that_does_not_supersede_queues_like_any_other(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when the service is not asked: a part cancel would throw the order away."""
    await harness.receive([told("a", 1, trouble="raise")])
    later = await harness.receive([NumberAsked(name="a", number=7)])
    assert [fated.key for fated in later.queued] == ["a"]
    await harness.receive([NumberAsked(name="c", number=5, trouble="raise"), NumberAsked(name="c", number=0)])
    assert await kept(engine) == []


async def test_a_redelivered_parked_record_is_not_parked_twice(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when parking does not claim the inbox row."""
    bad = told("a", 1, trouble="raise")
    event_id = uuid4()
    await harness.receive([bad], id=event_id)
    again = await harness.receive([bad], id=event_id)
    assert again.duplicates == 1
    assert await count(engine, "parked_record") == 1


async def test_discarding_frees_the_key(harness: Harness, engine: AsyncEngine) -> None:
    await harness.receive([told("a", 1, trouble="raise"), told("a", 2)])
    async with harness.runtime.work() as work:
        await harness.runtime.operations.wish(work, "a", "discard")
    await harness.drain()
    await harness.receive([told("a", 3)])
    assert await kept(engine) == [3]


async def test_an_edited_record_is_handled_under_a_new_id(harness: Harness, engine: AsyncEngine) -> None:
    await harness.receive([told("a", 1, trouble="raise"), told("a", 2)])
    operations = harness.runtime.operations
    first, _ = await operations.list_parked_records("a")
    async with harness.runtime.work() as work:
        await operations.edit_parked(work, "a", first.id, told("a", 10).model_dump_json().encode(), "operator")
        await operations.wish(work, "a", "retry")
    await harness.drain()
    assert await kept(engine) == [10, 2]


@pytest.mark.parametrize(
    ("headers", "body", "code", "field"),
    [
        ({}, b"{}", "envelope", "ce_id"),
        ({"ce_id": "x"}, b"{}", "envelope", "ce_source"),
        ({"ce_time": "2026-03-02"}, b"{}", "envelope", "ce_time"),
        ({"ce_time": "2026-03-04T09:00:00Z"}, b'{"name":"a","number":1}', "too_far_ahead", "ce_time"),
        ({"ce_time": "2025-03-04T09:00:00Z"}, b'{"name":"a","number":1}', "too_old", "ce_time"),
        ({}, b"\xff\xfe", "schema", ""),
        ({}, b'{"name":"a","number":"many"}', "schema", "number"),
        ({}, b'{"name":"a\\u0000","number":1}', "schema", ""),
        ({}, b'{"name":"\\ud800","number":1}', "schema", ""),
        ({"ce_dataschema": "urn:oms:NumberTold:2"}, b'{"name":"a","number":1}', "unknown_version", "ce_dataschema"),
    ],
)
async def test_an_invalid_record_parks_its_key_and_names_the_field(
    harness: Harness, engine: AsyncEngine, headers: dict[str, str], body: bytes, code: str, field: str
) -> None:
    """Fails when bad bytes stop the loop, or the reason does not say where."""
    envelope = {
        "ce_id": str(uuid4()),
        "ce_source": "/elsewhere",
        "ce_type": "NumberTold",
        "ce_time": "2026-03-02T08:00:00Z",
        "ce_dataschema": "urn:oms:NumberTold:1",
    }
    if field in ("ce_id", "ce_source"):
        envelope = {name: value for name, value in envelope.items() if name == "ce_time"}
    result = await harness.receive_raw("numbers.told", "a", body, envelope | headers)
    (fated,) = result.parked
    assert (fated.code, fated.field) == (code, field)
    assert (await harness.receive([told("a", 2), told("b", 3)])).handled == 1
    assert await kept(engine) == [3]


async def test_an_unknown_type_is_skipped(harness: Harness) -> None:
    """Fails when a newer writer's event stops an older reader."""
    headers = {"ce_id": str(uuid4()), "ce_source": "/x", "ce_type": "NumberForgotten", "ce_time": "2026-03-02T08:00:00Z"}
    result = await harness.receive_raw("numbers.told", "a", b"{}", headers)
    assert (result.skipped, result.parked) == (1, [])


async def test_a_missing_fact_lets_the_key_wait_and_its_arrival_wakes_it(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when later records overtake the waiting one, or the fact's arrival does not wake it."""
    result = await harness.receive([told("a", 1), told("a", 2, word="hello"), told("a", 3), told("b", 4)])
    assert result.waiting == [("word", "hello")]
    assert await kept(engine) == [1, 4]
    later = await harness.receive([told("a", 5), NumberAsked(name="a", number=6)])
    assert later.handled == 0
    woken = await harness.apply([WordKnown(word="hello", version=1)])
    assert [event.number for event in woken.emitted if isinstance(event, NumberKept)] == [2, 3, 5, 6]
    assert await count(engine, "waiting") + await count(engine, "parked_key") == 0


async def test_each_missing_fact_is_waited_for(harness: Harness, engine: AsyncEngine) -> None:
    await harness.receive([told("a", 1, word="x"), told("a", 2, word="y")])
    await harness.apply([WordKnown(word="y", version=1)])
    assert await kept(engine) == []
    await harness.apply([WordKnown(word="x", version=1)])
    assert await kept(engine) == [1, 2]


async def test_handlers_keep_the_order_of_a_key_across_types(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when records are grouped by type over the whole batch."""
    numbers = [told("a", 1), NumberAsked(name="a", number=2), told("a", 3), told("a", 4), NumberAsked(name="b", number=5)]
    await harness.receive(numbers)
    assert await kept(engine, "a") == [1, 2, 3, 4]


async def test_a_bad_fact_is_set_aside_and_the_others_are_applied(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when one fact can stop a compacted topic."""
    result = await harness.apply(
        [WordKnown(word="a", version=1), WordKnown(word="b", version=1, trouble=True), WordKnown(word="c", version=1)]
    )
    assert [fated.code for fated in result.quarantined] == ["poison"]
    assert await count(engine, "word") == 2


async def test_the_runtime_writes_nothing_before_its_first_commit(harness: Harness, engine: AsyncEngine) -> None:
    """An HTTP unit of work that fails leaves neither outbox rows nor tasks."""

    async def fail() -> None:
        async with harness.runtime.work() as work:
            work.emit([NumberKept(name="a", number=1)])
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await harness.emitted() == []


async def test_routes_that_share_a_handler_get_one_call(engine: AsyncEngine) -> None:
    """Fails when layers are made by route: thirteen topics of one thin reader would be thirteen calls a batch."""
    calls: list[list[str]] = []

    async def fold(received: Sequence[Received[None]], work: UnitOfWork) -> None:
        calls.append([f"{one.topic}:{one.subject}" for one in received])
        assert all(one.event is None for one in received)

    def make(**options: Any) -> Runtime:
        return Runtime(
            service="book",
            engine=engine,
            tables=tables.define(MetaData()),
            consumers=[
                Consumer("book", routes=[RawRoute("numbers.told", fold), RawRoute("numbers.asked", fold)], claim="natural")
            ],
            **options,
        )

    harness = Harness(make, bus=FakeBus(TOPICS))
    await harness.receive([told("a", 1), NumberAsked(name="a", number=2), told("b", 3)])
    assert calls == [["numbers.told:a", "numbers.asked:a", "numbers.told:b"]]
    assert await count(engine, "inbox") == 0
