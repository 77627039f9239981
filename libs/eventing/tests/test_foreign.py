"""Topics that others write: identity from the body, quarantine instead of parking, a breaker per shop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest
from eventing_sample import NumberKept
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncEngine

from contracts import Event
from eventing import (
    Consumer,
    ForeignRoute,
    InvalidRecordError,
    Received,
    Runtime,
    RuntimeSettings,
    UnitOfWork,
    database,
    tables,
)
from eventing.testing import FakeBus, Harness

PHONE = "13812345678"


class Letter(Event):
    TOPIC: ClassVar[str] = "letters.posted"
    TYPE: ClassVar[str] = "Letter"

    shop: str
    number: int
    trouble: bool = False


def identify(letter: Letter, raw: bytes) -> tuple[str, UUID]:
    if letter.number < 0:
        raise InvalidRecordError("impossible_number", "below zero", "number")
    return f"{letter.shop}:{letter.number}", uuid5(NAMESPACE_URL, raw.decode())


class Office:
    def __init__(self) -> None:
        self.opened: list[int] = []
        self.trouble_is_over = False

    async def on_letter(self, received: Sequence[Received[Letter]], work: UnitOfWork) -> None:
        if not self.trouble_is_over and any(one.event.trouble for one in received):
            raise LookupError
        await work.connection.execute(
            text(
                "INSERT INTO kept (key, number, kind, delivery)"
                " SELECT '', n, '', gen_random_uuid() FROM unnest(CAST(:n AS integer[])) n"
            ),
            {"n": [one.event.number for one in received]},
        )
        work.emit(NumberKept(name=one.key, number=one.event.number) for one in received)


@pytest.fixture
def office() -> Office:
    return Office()


def build(office: Office, *, engine: AsyncEngine, **options: Any) -> Runtime:
    route = ForeignRoute(Letter, office.on_letter, identify, scope=lambda letter: letter.shop)
    return Runtime(
        service="office",
        engine=engine,
        tables=tables.define(MetaData()),
        consumers=[Consumer("main", routes=[route])],
        **options,
    )


@pytest.fixture
def harness(engine: AsyncEngine, office: Office, settings: Callable[..., RuntimeSettings]) -> Harness:
    bus = FakeBus({"letters.posted": 4, "office.dlq": 1})
    return Harness(partial(build, office, engine=engine, settings=settings()), bus=bus, events=[NumberKept])


async def post(harness: Harness, *bodies: bytes) -> Any:
    from eventing.broker import Outgoing

    records = [harness._publish(Outgoing("letters.posted", b"any", body, [])) for body in bodies]
    return await harness.deliver(records)


def letter(number: int, shop: str = "s", **more: Any) -> bytes:
    return Letter(shop=shop, number=number, **more).model_dump_json().encode()


async def test_a_body_posted_twice_is_handled_once(harness: Harness) -> None:
    """Fails when identity is taken from what the sender says instead of the body."""
    assert (await post(harness, letter(1), letter(1))).duplicates == 1
    assert (await post(harness, letter(1))).duplicates == 1


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"", "schema", ""),
        (b"[]", "schema", ""),
        (b'{"shop":"s"}', "schema", "number"),
        (b'{"shop":"s","number":1,"number":2}', "duplicate_key", ""),
        (b'{"shop":"s\\u0000","number":1}', "schema", ""),
        (b'{"shop":"\\ud800","number":1}', "schema", ""),
        (b"\xff", "schema", ""),
        (b'{"shop":"s","number":-1}', "impossible_number", "number"),
        (b'{"shop":"s","number":1,"deep":' + b"[" * 5000 + b"]" * 5000 + b"}", "schema", ""),
    ],
)
async def test_an_invalid_body_is_set_aside_with_a_notice_and_the_others_go_on(
    harness: Harness, engine: AsyncEngine, body: bytes, code: str, field: str
) -> None:
    """Fails when bad bytes from outside stop the partition or are lost."""
    result = await post(harness, letter(1), body, letter(2))
    assert [(fated.code, fated.field) for fated in result.quarantined] == [(code, field)]
    assert result.handled == 2
    (row,) = await harness.runtime.operations.list_quarantined(10)
    assert (row.reason_code, row.topic) == (code, "letters.posted")


async def test_a_notice_says_where_and_why_and_never_what(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when personal data of a refused body leaves the database, or lies there in clear."""
    rows: list[Any] = []

    async def take() -> list[Event]:
        async with database.begin(engine) as connection:
            rows.extend((await connection.execute(text("SELECT * FROM outbox WHERE type = 'RecordQuarantined'"))).all())
            await connection.execute(text("DELETE FROM outbox"))
        return []

    harness.emitted = take  # type: ignore[method-assign]
    await post(harness, b'{"shop":"' + PHONE.encode() + b'","number":"call ' + PHONE.encode() + b'"}')
    (notice,) = rows
    assert notice.aggregatetype == "office.dlq"
    assert b"letters.posted" in notice.payload
    assert PHONE.encode() not in notice.payload
    async with database.begin(engine) as connection:
        (kept,) = (await connection.execute(text("SELECT * FROM quarantine"))).all()
    assert not any(PHONE.encode() in value for value in kept if isinstance(value, bytes))
    assert not any(PHONE in value for value in kept if isinstance(value, str))
    clear = await harness.runtime.operations.open_quarantined(kept.id)
    assert PHONE.encode() in clear


async def test_a_quarantined_record_is_mended_and_handled(harness: Harness, office: Office) -> None:
    await post(harness, b'{"shop":"s"}', b'{"shop":"t"}')
    operations = harness.runtime.operations
    first, second = await operations.list_quarantined(10)
    async with harness.runtime.work() as work:
        with pytest.raises(InvalidRecordError):
            await operations.edit_quarantined(work, first.id, b'{"shop":"s","number":"x"}', "operator")
        await operations.edit_quarantined(work, first.id, letter(7), "operator")
        await operations.discard_quarantined(work, second.id)
    result = await harness.drain()
    assert [event.number for event in result.emitted if isinstance(event, NumberKept)] == [7]
    assert await operations.list_quarantined(10) == []


async def test_a_retry_that_fails_again_stays_with_its_reason(harness: Harness) -> None:
    await post(harness, b'{"shop":"s"}')
    operations = harness.runtime.operations
    (row,) = await operations.list_quarantined(10)
    async with harness.runtime.work() as work:
        await operations.retry_quarantined(work, row.id)
    await harness.drain()
    (row,) = await operations.list_quarantined(10)
    assert (row.reason_code, row.wish) == ("schema", None)


async def test_poison_parks_its_key_only(harness: Harness, office: Office) -> None:
    result = await post(harness, letter(1), letter(2, trouble=True), letter(3))
    assert [fated.key for fated in result.parked] == ["s:2"]
    assert result.handled == 2


async def test_the_breaker_sets_one_shop_aside_and_serves_the_others(harness: Harness, office: Office) -> None:
    """Fails when one shop's bad records park without end, or stop the partition for all."""
    good = [letter(n, "good") for n in range(100)]
    result = await post(harness, *[letter(n, "bad", trouble=True) for n in range(300)], *good)
    assert result.handled == 100
    assert len(result.parked) <= 16
    assert len(result.quarantined) + len(result.parked) == 300
    assert {fated.code for fated in result.quarantined} == {"breaker_open"}
    next_one = await post(harness, letter(999, "bad"), letter(999, "good"))
    assert (next_one.handled, len(next_one.quarantined)) == (1, 1)
    assert [state.scope for state in await harness.runtime.operations.breaker()] == ["bad"]
    office.trouble_is_over = True
    harness.clock.advance(seconds=31)
    assert (await post(harness, letter(1000, "bad"))).handled == 1  # Half-open: one that goes through closes it.
    assert await harness.runtime.operations.breaker() == []


async def test_what_a_breaker_set_aside_is_handled_when_it_is_retried(harness: Harness, office: Office) -> None:
    """Fails when what was set aside counts as taken in: its retry would then drop it as a duplicate, and nobody would know."""
    await post(harness, *[letter(n, "bad", trouble=True) for n in range(300)])
    office.trouble_is_over = True
    operations = harness.runtime.operations
    aside = await operations.list_quarantined(300)
    async with harness.runtime.work() as work:
        await operations.close_breaker(work, "main", "bad")
        for row in aside[:3]:
            await operations.retry_quarantined(work, row.id)
    result = await harness.drain()
    told = [event.number for event in result.emitted if isinstance(event, NumberKept)]
    assert len(told) == result.handled == 3
    assert len(await operations.list_quarantined(300)) == len(aside) - 3
    harness.clock.advance(seconds=31)
    assert (await post(harness, letter(told[0], "bad", trouble=True))).duplicates == 1
