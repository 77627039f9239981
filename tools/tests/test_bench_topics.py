"""Feeding and listening on a real broker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tools.bench.feeder import Pace, send_all
from tools.bench.figures import intended_at
from tools.bench.listening import Pulse, Shipped, Spoken
from tools.bench.load import make_load
from tools.sample.goods import bench_goods
from tools.stack import Stack
from tools.topics import create_topics

pytestmark = pytest.mark.kafka
LONG_AGO_MS = 1_600_000_000_000
PARTITIONS = 4
HEARD_SECONDS = 20.0


async def _stack(bootstrap: str, prefix: str, folder: Path) -> Stack:
    """Nothing but the broker of one."""
    stack = Stack("bench-test", order_partitions=PARTITIONS, folder=folder, handle_signals=False)
    stack.bootstrap_servers, stack.topic_prefix = bootstrap, prefix
    await create_topics(bootstrap, prefix=prefix, order_partitions=PARTITIONS)
    return stack


async def _say(stack: Stack, topic: str, said: Sequence[tuple[str, str, str]]) -> None:
    """Records as the services write them (subject, id, template), by a clock that is far behind."""
    producer = AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers, acks="all")
    await producer.start()
    try:
        for subject, id_, template in said:
            headers = [("ce_subject", subject.encode()), ("ce_id", id_.encode()), ("ce_template", template.encode())]
            await producer.send_and_wait(
                f"{stack.topic_prefix}{topic}", b"{}", key=subject.encode(), headers=headers, timestamp_ms=LONG_AGO_MS
            )
    finally:
        await producer.stop()


async def test_an_order_is_posted_when_the_broker_took_its_first_voucher(
    kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    """Fails when the writer's clock is believed, when any voucher counts, or when a later parcel's moves the moment."""
    stack = await _stack(kafka_bootstrap, topic_prefix, tmp_path)
    async with Shipped(stack) as shipped:
        began = time.time()
        await _say(stack, "voucher.posted", [("a", "1", "paid"), ("b", "2", "shipped"), ("a", "3", "shipped")])
        await shipped.wait_for(2)
        first = dict(shipped.at)
        await _say(stack, "voucher.posted", [("a", "4", "shipped"), ("c", "5", "shipped")])
        await shipped.wait_for(3)
    assert first.keys() == {"a", "b"}
    assert all(began - 1 <= at <= time.time() + 1 for at in first.values())
    assert {name: shipped.at[name] for name in first} == first


async def test_who_listens_from_now_on_hears_nothing_older_and_an_event_once(
    kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    """Fails when the listener begins at the beginning: an earlier phase would then count for this one."""
    stack = await _stack(kafka_bootstrap, topic_prefix, tmp_path)
    await _say(stack, "order.routed", [("old", "1", "")])
    async with Spoken(stack, "order.routed", from_now=True) as spoken, Pulse(stack, "order.routed") as pulse:
        await _say(stack, "order.routed", [("new", "2", ""), ("new", "2", ""), ("new", "3", "")])
        lanes = pulse.moments["order.routed"].values()
        assert await pulse.until(lambda: sum(map(len, lanes)), 3, stall_seconds=HEARD_SECONDS)
        assert await spoken.until(lambda: len(spoken.ids["order.routed"]), 2, stall_seconds=HEARD_SECONDS)
    assert spoken.first["order.routed"].keys() == {"new"}
    assert spoken.ids["order.routed"] == {b"2", b"3"}
    assert sorted(map(len, lanes)) == [0, 0, 0, 3]


async def test_waiting_ends_when_nothing_comes_any_more(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> None:
    stack = await _stack(kafka_bootstrap, topic_prefix, tmp_path)
    async with Shipped(stack) as shipped:
        assert not await shipped.until(lambda: len(shipped.at), 1, stall_seconds=0.3)


async def test_a_paced_load_is_sent_to_the_end_or_until_it_is_stopped(
    kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    """Fails when an order's moment is that of its repeat, or when a stopped load goes on."""
    stack = await _stack(kafka_bootstrap, topic_prefix, tmp_path)
    load = make_load(90, bench_goods(5), run="T")
    pace = Pace(load.records, per_second=400)
    began = time.monotonic()
    await pace.send(stack)
    assert time.monotonic() - began >= intended_at(len(load.records) - 1, 400)
    assert pace.sent == len(load.records)
    repeat = next(number for number, record in enumerate(load.records) if record.kind == "duplicate")
    moments = pace.intended()
    assert len(moments) == len({record.order_no for record in load.records})
    assert moments[load.records[repeat].order_no] < pace.began + intended_at(repeat, 400)

    stopped = Pace(load.records, per_second=400)
    stopped.stop()
    await stopped.send(stack)
    assert stopped.sent == 0
    await send_all(stack, load.records)
