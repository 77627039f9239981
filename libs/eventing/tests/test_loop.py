"""The promises of the running loop, on the fake bus and on a real Kafka alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from eventing_buses import Bus, outgoing, raw
from eventing_sample import TOPICS, NumberAsked, NumberTold, Teller, WordKnown, build
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from eventing import Runtime, RuntimeSettings, create_engine, database
from eventing.observe import NullObserver, Observer

Kept = Callable[[], Awaitable[dict[str, list[int]]]]
Eventually = Callable[..., Awaitable[None]]
Start = Callable[..., Awaitable[Runtime]]
TOPIC_TOLD = "numbers.told"


@pytest.fixture
def teller() -> Teller:
    return Teller()


@pytest.fixture
async def start(bus: Bus, database_url: str, teller: Teller, settings: Callable[..., RuntimeSettings]) -> AsyncIterator[Start]:
    """Start workers of the sample service; all are stopped with the test."""
    async with AsyncExitStack() as stack:

        async def one(*, statement_seconds: float = 10, observer: Observer | None = None, **more: Any) -> Runtime:
            engine = create_engine(database_url, pool_size=5, session={"statement_timeout": str(int(statement_seconds * 1000))})
            stack.push_async_callback(engine.dispose)
            runtime = build(teller, engine=engine, broker=bus.broker(), settings=settings(**more), observer=observer)
            await stack.enter_async_context(runtime)
            return runtime

        yield one


def numbers(key: str, *values: int, **more: Any) -> list[NumberTold]:
    return [NumberTold(name=key, number=value, **more) for value in values]


async def said(bus: Bus) -> dict[str, list[int]]:
    """What the service has said on, first deliveries only, by key."""
    found: dict[str, list[int]] = {}
    seen: dict[bytes, bytes] = {}
    for record in await bus.records("numbers.kept"):
        identity = dict(record.headers)["ce_id"]
        assert seen.setdefault(identity, record.value or b"") == record.value, "a resend has other bytes"
        if list(seen).index(identity) == sum(len(some) for some in found.values()):
            event = json.loads(record.value or b"")
            found.setdefault(event["name"], []).append(event["number"])
    return found


@pytest.mark.parametrize("replays", [False, True])
async def test_what_is_told_is_kept_once_and_said_on_in_order(
    bus: Bus, start: Start, kept: Kept, eventually: Eventually, *, replays: bool
) -> None:
    """Fails when anything between poll and relay loses, doubles or reorders, also where topics are read merged."""
    wanted = {f"k{key}": list(range(40)) for key in range(12)}
    await bus.publish([outgoing(event) for n in range(40) for key in wanted for event in numbers(key, n)])
    until = datetime.now(UTC) + timedelta(seconds=30) if replays else None
    await start(replay_until=until)
    await start(replay_until=until)

    async def all_there() -> None:
        assert await kept() == wanted
        assert await said(bus) == wanted

    await eventually(all_there, seconds=20)


async def test_offsets_are_committed_behind_the_effects(bus: Bus, start: Start, eventually: Eventually) -> None:
    """Fails when offsets are not committed, or not as the next one to read."""
    await bus.publish([outgoing(event) for key in "abcdef" for event in numbers(key, 1, 2, 3)])
    await start()

    async def committed() -> None:
        offsets = await bus.committed("teller.main")
        assert sum(at for (topic, _), at in offsets.items() if topic == TOPIC_TOLD) == 18

    await eventually(committed)


async def test_a_steady_load_comes_in_batches(
    bus: Bus, start: Start, kept: Kept, eventually: Eventually, engine: AsyncEngine
) -> None:
    """Fails when every handful of records costs a transaction: at a few hundred a second that is most of the cost. And when
    what came during a rest is left for the next one, because only what was fetched before it is taken."""
    await start(batch_gap_seconds=2.0, batch_gap_records=1)

    async def there(count: int) -> None:
        assert await kept() == {"a": list(range(count))}

    await bus.publish([outgoing(event) for event in numbers("a", 0)])
    await eventually(lambda: there(1))
    for number in (1, 2, 3):
        await bus.publish([outgoing(event) for event in numbers("a", number)])
        await asyncio.sleep(0.05)
    await eventually(lambda: there(4))
    async with database.begin(engine) as connection:
        transactions = await connection.execute(text("SELECT count(DISTINCT CAST(xmin AS text)) FROM inbox"))
        assert transactions.scalar_one() == 2


async def test_where_little_happens_nobody_waits(bus: Bus, start: Start, kept: Kept, eventually: Eventually) -> None:
    """Fails when two records in a row wait as those of a steady load do."""
    await start(batch_gap_seconds=30.0)
    for count in (1, 2, 3):
        await bus.publish([outgoing(event) for event in numbers("a", count)])

        async def there(count: int = count) -> None:
            assert await kept() == {"a": list(range(1, count + 1))}

        await eventually(there, seconds=5)


class _Doubles(NullObserver):
    """Counts records that came again although their first coming was handled."""

    def __init__(self) -> None:
        self.doubles = 0

    def batch(self, consumer: str, topic: str, records: int, duplicates: int, seconds: float) -> None:
        self.doubles += duplicates


@pytest.mark.parametrize("bootstrap", [None])  # A real broker is not told when to rebalance.
async def test_a_rebalance_between_two_fetches_of_a_batch_doubles_and_loses_nothing(
    bus: Any, start: Start, kept: Kept, eventually: Eventually
) -> None:
    """Fails when what was fetched before a rebalance is handled beside what comes again after it, or that is dropped."""
    listener = _Doubles()
    slow = {"batch_gap_seconds": 1.7, "batch_gap_records": 1, "fetch_wait_seconds": 1.5, "observer": listener}
    await start(**slow)

    async def there(*wanted: int) -> None:
        assert await kept() == {key: list(wanted) for key in "abcdefgh"}
        assert await said(bus) == {key: list(wanted) for key in "abcdefgh"}

    for number in (1, 2):
        await bus.publish([outgoing(event) for key in "abcdefgh" for event in numbers(key, number)])
        if number == 1:
            await eventually(lambda: there(1))
    await asyncio.sleep(2.2)  # The second ones are fetched, and more is waited for.
    await start(**slow)
    await eventually(lambda: there(1, 2), seconds=20)
    assert listener.doubles == 0


@pytest.mark.parametrize("bootstrap", [None])  # A real broker cannot be told to refuse one commit.
async def test_an_offset_whose_commit_failed_is_committed_later(bus: Any, start: Start, eventually: Eventually) -> None:
    """Fails when a failed commit waits for the partition's next record: a group that has read all would lag for ever."""
    bus.bus.refuse_commits = 1
    await bus.publish([outgoing(event) for event in numbers("a", 1, 2, 3)])
    await start()

    async def committed() -> None:
        assert bus.bus.refuse_commits == 0
        assert 3 in (await bus.committed("teller.main")).values()

    await eventually(committed)


async def test_duplicates_conflicts_poison_invalid_and_unknown_each_have_their_fate(
    bus: Bus, start: Start, kept: Kept, eventually: Eventually, engine: AsyncEngine, teller: Teller
) -> None:
    """Fails when one bad record stops or hurts another key, or is handled twice."""
    same, conflict = uuid4(), uuid4()
    await bus.publish(
        [
            *(outgoing(event) for event in numbers("good", 1)),
            *(outgoing(event, id=same) for event in numbers("double", 1)),
            *(outgoing(event, id=same) for event in numbers("double", 1)),
            *(outgoing(event, id=conflict) for event in numbers("conflict", 1)),
            *(outgoing(event, id=conflict) for event in numbers("conflict", 2)),
            *(outgoing(event) for event in numbers("poison", 1)),
            *(outgoing(event) for event in numbers("poison", 2, trouble="raise")),
            *(outgoing(event) for event in numbers("poison", 3)),
            raw(TOPIC_TOLD, "invalid", b"{", "NumberTold"),
            *(outgoing(event) for event in numbers("invalid", 1)),
            raw(TOPIC_TOLD, "unknown", b"{}", "NumberForgotten"),
            *(outgoing(event) for event in numbers("unknown", 1)),
            *(outgoing(event) for event in numbers("good", 2)),
        ]
    )
    runtime = await start()

    async def fates() -> None:
        assert await kept() == {"good": [1, 2], "double": [1], "conflict": [1], "poison": [1], "unknown": [1]}
        parked = {one.key: (one.reason_code, one.records) for one in await runtime.operations.list_parked(10)}
        assert parked == {"conflict": ("id_conflict", 1), "poison": ("poison", 2), "invalid": ("schema", 2)}

    await eventually(fates)
    teller.trouble_is_over = True
    async with runtime.work() as work:
        await runtime.operations.wish(work, "poison", "retry")
        await runtime.operations.wish(work, "invalid", "discard")
    await bus.publish([outgoing(event) for event in numbers("poison", 9)])

    async def discarded() -> None:
        assert "invalid" not in {one.key for one in await runtime.operations.list_parked(10)}

    await eventually(discarded)
    await bus.publish([outgoing(event) for event in numbers("invalid", 9)])

    async def drained() -> None:
        found = await kept()
        assert found.get("poison") == [1, 2, 3, 9]
        assert found.get("invalid") == [9]

    await eventually(drained)


async def test_facts_that_were_there_at_start_are_known_before_the_first_order(
    bus: Bus, start: Start, kept: Kept, eventually: Eventually, engine: AsyncEngine, teller: Teller
) -> None:
    """Fails when order consumers do not wait for the compacted topics: records would go through the stash."""
    await bus.publish([outgoing(WordKnown(word=f"w{n}", version=1)) for n in range(200)])
    await bus.publish([outgoing(NumberTold(name=f"k{n}", number=n, word=f"w{n}")) for n in range(200)])
    async with database.begin(engine) as connection:
        await connection.exec_driver_sql("CREATE SEQUENCE stashed")  # Counts rolled-back attempts, too.
        await connection.exec_driver_sql(
            "CREATE FUNCTION note_stashing() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM nextval('stashed'); RETURN NULL; END $$"
        )
        await connection.exec_driver_sql("CREATE TRIGGER t BEFORE INSERT ON parked_record EXECUTE FUNCTION note_stashing()")
    teller.words_take_seconds = 0.5
    runtime = await start()

    async def all_there() -> None:
        assert len(await kept()) == 200
        assert all(check.ok for check in await runtime.readiness())

    await eventually(all_there, seconds=20)
    async with database.begin(engine) as connection:
        assert not (await connection.exec_driver_sql("SELECT is_called FROM stashed")).scalar_one()


async def test_a_fact_that_comes_late_wakes_what_waits_whatever_the_moment(
    bus: Bus, start: Start, kept: Kept, eventually: Eventually
) -> None:
    """Fails when a wake-up is lost between looking for a fact and stashing (the sweep is set out of the way)."""
    await start(waiting_sweep_seconds=3600.0)
    told = [outgoing(NumberTold(name=f"k{n % 40}", number=n, word=f"w{n}")) for n in range(200)]
    known = [outgoing(WordKnown(word=f"w{n}", version=1)) for n in range(200)]

    async def tell() -> None:
        for n in range(0, 200, 5):
            await bus.publish(told[n : n + 5])
            await asyncio.sleep(0.004)

    async def know() -> None:
        for n in range(0, 200, 5):
            await bus.publish(known[n : n + 5])
            await asyncio.sleep(0.004)

    await asyncio.gather(tell(), know())

    async def all_there() -> None:
        assert await kept() == {f"k{key}": list(range(key, 200, 40)) for key in range(40)}

    await eventually(all_there, seconds=20)


async def test_a_fact_that_wakes_nobody_is_found_by_the_sweep(
    bus: Bus, start: Start, kept: Kept, eventually: Eventually, engine: AsyncEngine
) -> None:
    await start()
    await bus.publish([outgoing(NumberTold(name="a", number=1, word="quiet"))])

    async def waits() -> None:
        async with database.begin(engine) as connection:
            assert (await connection.execute(text("SELECT count(*) FROM waiting"))).scalar_one() == 1

    await eventually(waits)
    async with database.begin(engine) as connection:
        await connection.execute(text("INSERT INTO word VALUES ('quiet', 1)"))
        await connection.execute(text("UPDATE waiting SET check_at = now()"))  # Else it takes five seconds.

    async def found() -> None:
        assert await kept() == {"a": [1]}

    await eventually(found)


async def test_a_database_that_goes_away_costs_nothing(
    bus: Bus, start: Start, kept: Kept, eventually: Eventually, database_url: str, postgres_server: str
) -> None:
    """Fails when an outage counts as poison, loses a batch, or ends a loop."""
    runtime = await start()
    wanted = {f"k{key}": list(range(30)) for key in range(10)}
    records = [outgoing(event) for n in range(30) for key in wanted for event in numbers(key, n)]
    name = database_url.rpartition("/")[2]
    admin = await asyncpg.connect(postgres_server)
    try:
        for part in range(3):
            await bus.publish(records[part * 100 : (part + 1) * 100])
            await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
            await asyncio.sleep(0.5)
            await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    finally:
        await admin.close()

    async def all_there() -> None:
        try:
            assert await kept() == wanted
        except Exception as error:
            raise AssertionError(error) from error
        assert await said(bus) == wanted
        assert await runtime.operations.list_parked(10) == []

    await eventually(all_there, seconds=20)


async def test_workers_that_come_and_go_change_nothing(bus: Bus, start: Start, kept: Kept, eventually: Eventually) -> None:
    """Fails when a rebalance drops, doubles or reorders what is in flight."""
    wanted = {f"k{key}": list(range(60)) for key in range(20)}
    first = await start(batch_records=20)

    async def publish() -> None:
        for n in range(60):
            await bus.publish([outgoing(event) for key in wanted for event in numbers(key, n)])
            await asyncio.sleep(0.03)

    publishing = asyncio.create_task(publish())
    await asyncio.sleep(0.4)
    second = await start(batch_records=20)
    await asyncio.sleep(0.6)
    await first.stop()
    third = await start(batch_records=20)
    await asyncio.sleep(0.4)
    await second.stop()
    await publishing

    async def all_there() -> None:
        assert await kept() == wanted
        assert await said(bus) == wanted

    await eventually(all_there, seconds=30)
    await third.stop()


async def test_two_workers_share_the_work(bus: Bus, start: Start, eventually: Eventually, kept: Kept) -> None:
    """Fails when one member gets all partitions, or the relays do not share the shards."""
    one, two = await start(), await start()

    async def shared() -> None:
        for runtime in (one, two):
            loop = runtime._loops["main"]
            assert loop._consumer is not None
            assert len(loop._consumer.assignment()) == 4  # Half of 2 topics × 4 partitions.
            assert runtime._relay is not None
            assert len(runtime._relay._backlog.floors) == 8

    await eventually(shared, seconds=20)
    told = {f"k{n}": [1] for n in range(50)}
    await bus.publish([outgoing(event) for key in told for event in numbers(key, 1)])

    async def all_there() -> None:
        assert await kept() == told

    await eventually(all_there)


async def test_a_batch_that_always_runs_into_a_timeout_is_looked_at_key_by_key(
    bus: Bus, start: Start, kept: Kept, eventually: Eventually
) -> None:
    """Fails when a time-out is retried for ever: the partition would stand still."""
    await bus.publish(
        [
            *(outgoing(event) for event in numbers("a", 1)),
            *(outgoing(event) for event in numbers("slow", 1, trouble="SELECT pg_sleep(5)")),
            *(outgoing(event) for event in numbers("b", 1)),
        ]
    )
    runtime = await start(statement_seconds=0.3)

    async def parked() -> None:
        assert await kept() == {"a": [1], "b": [1]}
        assert [(one.key, one.reason_code) for one in await runtime.operations.list_parked(10)] == [("slow", "poison")]

    await eventually(parked, seconds=20)


async def test_the_breaker_stops_a_bad_deployment_and_a_person_closes_it(
    bus: Bus, start: Start, kept: Kept, eventually: Eventually, teller: Teller
) -> None:
    """Fails when a deployment that fails everything parks every key."""
    await bus.publish([outgoing(event) for n in range(400) for event in numbers(f"k{n}", n, trouble="raise")])
    runtime = await start(breaker_half_open_seconds=3600.0)

    async def stopped() -> None:
        checks = {check.name: check.ok for check in await runtime.readiness()}
        assert checks["breaker main"] is False

    await eventually(stopped, seconds=20)
    parked = await runtime.operations.list_parked(500)
    assert len(parked) < 60
    teller.trouble_is_over = True
    async with runtime.work() as work:
        await runtime.operations.close_breaker(work)

    async def goes_on() -> None:
        assert len(await kept()) == 400 - len(parked)

    await eventually(goes_on, seconds=20)


async def test_a_breaker_of_another_version_closes_at_start(
    bus: Bus, start: Start, kept: Kept, eventually: Eventually, teller: Teller
) -> None:
    await bus.publish([outgoing(event) for n in range(400) for event in numbers(f"k{n}", n, trouble="raise")])
    old = await start(version="1", breaker_half_open_seconds=3600.0)

    async def stopped() -> None:
        assert not all(check.ok for check in await old.readiness())
        assert await old.operations.breaker() != []

    await eventually(stopped, seconds=20)
    await old.stop()
    teller.trouble_is_over = True
    new = await start(version="2")

    async def goes_on() -> None:
        assert len(await kept()) > 340
        assert await new.operations.breaker() == []

    await eventually(goes_on, seconds=20)


async def test_a_breaker_tries_again_half_open(
    bus: Bus, start: Start, kept: Kept, eventually: Eventually, teller: Teller
) -> None:
    await bus.publish([outgoing(event) for n in range(400) for event in numbers(f"k{n}", n, trouble="raise")])
    runtime = await start(breaker_half_open_seconds=1.0)

    async def stopped() -> None:
        assert await runtime.operations.breaker() != []

    await eventually(stopped, seconds=20)
    teller.trouble_is_over = True

    async def goes_on() -> None:
        assert len(await kept()) + len(await runtime.operations.list_parked(500)) == 400
        assert await runtime.operations.breaker() == []

    await eventually(goes_on, seconds=20)


async def test_order_holds_across_two_types_of_one_topic_set(
    bus: Bus, start: Start, kept: Kept, eventually: Eventually
) -> None:
    """Per topic, that is: across topics nothing is promised."""
    await bus.publish([outgoing(NumberAsked(name="a", number=n)) for n in range(50)])
    await bus.publish([outgoing(event) for event in numbers("a", *range(100, 150))])
    await start(batch_records=7)

    async def all_there() -> None:
        found = (await kept()).get("a", [])
        assert sorted(found) == [*range(50), *range(100, 150)]
        assert [n for n in found if n < 50] == list(range(50))
        assert [n for n in found if n >= 100] == list(range(100, 150))

    await eventually(all_there, seconds=20)


async def test_a_topic_with_another_partition_count_is_not_touched(
    bus: Bus, start: Start, kept: Kept, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a service starts on topics whose keys are spread otherwise: order per key would be lost."""
    from contracts import Topic
    from contracts import topics as registry

    wrong = Topic(name=TOPIC_TOLD, events=(NumberTold,), key="name", writers=(), readers=("teller",), fixed_partitions=7)
    monkeypatch.setitem(registry.TOPICS, TOPIC_TOLD, wrong)
    await bus.publish([outgoing(event) for event in numbers("a", 1)])
    runtime = await start()

    async def refused() -> None:
        (check,) = [check for check in await runtime.readiness() if check.name == "broker"]
        assert not check.ok
        assert "4 partitions, not 7" in check.detail

    await eventually(refused)
    await asyncio.sleep(0.5)
    assert await kept() == {}
    assert TOPICS[TOPIC_TOLD] == 4
