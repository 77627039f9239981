"""The pure parts of the benches, and what reads processes and HTTP."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.bench import records
from tools.bench.compare import SINGLE_RUN_NOISE, compare, differences
from tools.bench.figures import (
    Figure,
    due_count,
    growth_of,
    intended_at,
    latencies,
    longest_silence,
    merged,
    percentile,
    plain,
)
from tools.bench.http import HttpLoad, NoAnswer, read_answer
from tools.bench.kinds import Bench
from tools.bench.load import CYCLE, GOOD_SHARE, HELD_UNITS, kind_of, make_load
from tools.bench.usage import UsageWatch
from tools.bench.verdict import verdict
from tools.sample.goods import bench_goods
from tools.waiting import until

RATE = Figure("orders_per_second", "higher", 500)
P99 = Figure("paced.p99_seconds", "lower", 5)

# Percentiles


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50.0, 99.0, 100.0)
    assert percentile([7.0], 0.99) == 7.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_so_many_of_all_do_not_exceed_a_percentile(values: list[float], share: float) -> None:
    """Fails when the rank is rounded down: p99 of 50 values would then leave out the worst, which is 2 % of them."""
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert all(sum(value <= lower for value in values) < share * len(values) for lower in values if lower < found)


def test_latencies_name_median_tail_and_worst() -> None:
    assert latencies([0.2, 0.1, 0.3]) == {"p50_seconds": 0.2, "p99_seconds": 0.3, "worst_seconds": 0.3}


# The open loop


@given(st.integers(1, 500), st.floats(0.5, 2000), st.lists(st.floats(0, 3), min_size=1))
def test_an_open_loop_sends_what_is_due_and_nothing_before(total: int, per_second: float, looks: list[float]) -> None:
    """Fails when the loop paces itself by what it sent last: then a pause would be made up for by nobody."""
    sent = 0
    for elapsed in sorted(looks):
        due = due_count(elapsed, per_second, total)
        assert due >= sent
        sent = due
        assert all(intended_at(number, per_second) <= elapsed + 1e-9 for number in range(max(0, due - 2), due))
        assert due == total or intended_at(due, per_second) > elapsed - 1e-9


def test_nothing_is_due_before_the_beginning_and_one_at_it() -> None:
    assert [due_count(elapsed, 100, 5) for elapsed in (-0.1, 0.0, 0.0101, 9.0)] == [0, 1, 2, 5]


# Silence, growth, repeats


def test_silence_counts_from_the_kill_and_until_the_end() -> None:
    """Fails when only gaps between records count: a lane that never moves again would then look best."""
    assert longest_silence([1.0, 2.0, 9.5, 10.0], since=2.5, until=11.0) == 7.0
    assert longest_silence([1.0, 2.0], since=2.5, until=32.5) == 30.0


def test_growth_leaves_the_warm_up_out() -> None:
    assert growth_of([0, 0, 100, 100, 100, 100, 110, 110]) == 10.0
    assert growth_of([1, 2]) == 0.0


def test_runs_become_medians_truths_hold_in_all_and_lists_are_joined() -> None:
    runs = [
        {"rate": rate, "paced": {"p99": rate / 2}, "coherent": rate != 3, "failed_checks": failed, "name": "x"}
        for rate, failed in ((1, []), (3, ["b"]), (8, ["b", "a"]))
    ]
    assert merged(runs) == {"rate": 3, "paced": {"p99": 1.5}, "coherent": False, "failed_checks": ["b", "a"], "name": "x"}


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (1234.5, "1234"), (99.95, "99.95"), (0.01234, "0.01234"), (5, "5.000")])
def test_numbers_show_four_figures(number: float, text: str) -> None:
    assert plain(number) == text


# Comparing


def _record(*rates: float, **more: Any) -> dict[str, Any]:
    middle = sorted(rates)[len(rates) // 2]
    return {"orders_per_second": middle, "runs": [{"orders_per_second": rate} for rate in rates], **more}


def test_a_change_within_the_noise_of_repeats_is_none() -> None:
    """Fails when the noise of only one side counts."""
    (line,) = compare([RATE], _record(400, 500, 600), _record(420, 425, 430))
    assert (line.word, line.noise, round(line.change or 0, 3)) == ("same", 0.4, -0.15)


def test_a_change_beyond_the_noise_is_better_or_worse_by_the_figure() -> None:
    (faster,) = compare([RATE], _record(495, 500, 505), _record(595, 600, 605))
    (slower,) = compare([P99], {"paced": {"p99_seconds": 1.0}}, {"paced": {"p99_seconds": 2.0}})
    assert (faster.word, slower.word) == ("better", "worse")


def test_single_runs_have_an_assumed_noise() -> None:
    (line,) = compare([RATE], _record(500), _record(500 * (1 + SINGLE_RUN_NOISE / 2)))
    assert (line.word, line.noise) == ("same", SINGLE_RUN_NOISE)


def test_figures_without_a_past_are_new_and_those_not_measured_left_out() -> None:
    lines = compare([RATE, P99], None, _record(500))
    assert [(line.figure.path, line.word) for line in lines] == [("orders_per_second", "new")]
    (from_nothing,) = compare([RATE], _record(0), _record(3))
    assert (from_nothing.word, from_nothing.change) == ("better", None)


def test_other_machines_and_sizes_are_pointed_out() -> None:
    assert differences({"cores": 2, "orders": 5}, {"cores": 4, "orders": 5}) == ["cores: 2 then, 4 now"]


def test_a_goal_is_met_from_its_own_side() -> None:
    assert (RATE.is_reached(500), RATE.is_reached(499)) == (True, False)
    assert (P99.is_reached(5), P99.is_reached(5.1)) == (True, False)
    assert Figure("x", "higher").is_reached(1) is None


# Records on disk


def test_the_record_before_is_kept(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "stack_folder", lambda name: tmp_path / name)

    async def run(_: Any) -> dict[str, Any]:
        raise AssertionError

    bench = Bench("some", "some bench", run, (RATE,), steps=0)
    for rate in (1.0, 2.0):
        record = records.record_of(bench, [{"orders_per_second": rate, "coherent": True}], short=False)
        record["recorded_at"] = f"2026-11-11T00:00:0{rate:g}"
        records.write(bench, record)
    now, before = records.read("some", short=False), records.read_before("some", short=False)
    assert now is not None
    assert before is not None
    assert (now["orders_per_second"], before["orders_per_second"]) == (2.0, 1.0)
    assert now["runs"] == [{"orders_per_second": 2.0}]
    assert records.read("some", short=True) is None


# Loads


def test_one_record_in_ten_is_held_invalid_or_a_repeat() -> None:
    kinds = Counter(kind_of(number) for number in range(CYCLE))
    assert kinds == {"good": 90, "held": 5, "duplicate": 3, "invalid": 2}
    assert pytest.approx(0.9) == GOOD_SHARE


def test_a_load_has_so_many_orders_to_ship_and_equal_runs_are_equal() -> None:
    load = make_load(200, bench_goods(20), run="T")
    assert len(load.ships) == 200
    assert load.taken == 200 + load.held
    by_kind = Counter(record.kind for record in load.records)
    assert by_kind["good"] == 200
    repeats = [record for record in load.records if record.kind == "duplicate"]
    assert all(sum(record.body == repeat.body for record in load.records) == 2 for repeat in repeats)
    assert all(list(record.units.values()) == [HELD_UNITS] for record in load.records if record.kind == "held")
    again = make_load(200, bench_goods(20), run="T")
    assert [record.units for record in again.records] == [record.units for record in load.records]


def test_a_part_of_a_load_expects_only_its_own() -> None:
    load = make_load(50, bench_goods(20), run="T").first(10)
    assert len(load.records) == 10
    assert len(load.ships) == sum(record.kind == "good" for record in load.records)


# What became of them


def test_the_verdict_tells_wrong_missing_and_unwanted_parcels() -> None:
    """Fails when only what was ordered is looked at: a held order that left would then go unseen."""
    ordered = {"right": {"A": 1}, "other": {"A": 2}, "absent": {"B": 1}}
    numbers = {"1": "right", "2": "other", "3": "absent", "4": "held"}
    shipped = {"1": {"A": 1}, "2": {"A": 1, "B": 1}, "4": {"A": 25}, "9": {"A": 1}}
    assert verdict(ordered, numbers, shipped, taken=4) == {"misshipped": 2, "unshipped": 1, "auto_percent": 25.0}


# Processes


BURNERS = """
import subprocess, sys, time
burn = "import time\\nend = time.process_time() + 0.2\\nwhile time.process_time() < end: pass"
sys.stdin.readline()
for _ in range(3):
    subprocess.run([sys.executable, "-c", burn], check=True)
print("done", flush=True)
sys.stdin.readline()
"""


async def _python(code: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )


async def test_cpu_of_children_that_ended_counts_once() -> None:
    """Fails when only processes seen alive count (short ones never are), or when their parent's share is added to theirs."""
    process = await _python(BURNERS)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with UsageWatch(lambda: {"burner": [process.pid]}) as watch:
            process.stdin.write(b"go\n")
            assert await process.stdout.readline() == b"done\n"
        assert 0.6 <= watch.cpu_seconds()["burner"] < 1.1
        assert watch.peak_rss_mb()["burner"] > 1
    finally:
        process.kill()
        await process.wait()


async def test_a_killed_process_keeps_what_it_used_and_its_successor_adds_to_it() -> None:
    """Fails when a tree is only what lives under today's process id."""
    burn = "import time\nend = time.process_time() + 0.35\nwhile time.process_time() < end: pass\ninput()"
    pids: list[int] = []
    async with UsageWatch(lambda: {"burner": pids}) as watch:
        for wanted_seconds in (0.3, 0.6):
            process = await _python(burn)
            pids[:] = [process.pid]
            try:
                await until(
                    lambda wanted=wanted_seconds: _is(watch.cpu_seconds().get("burner", 0.0) >= wanted),  # type: ignore[misc]
                    seconds=20,
                    what=f"{wanted_seconds} s of CPU",
                )
            finally:
                process.kill()
                await process.wait()
    assert 0.6 <= watch.cpu_seconds()["burner"] < 1.1


async def _is(truth: bool) -> bool:
    return truth


# HTTP


async def _answer(*parts: bytes) -> Any:
    reader = asyncio.StreamReader()
    for part in parts:
        reader.feed_data(part)
    reader.feed_eof()
    return await read_answer(reader)


async def test_answers_with_a_length_and_in_chunks_are_read_whole() -> None:
    plain_one = await _answer(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 2\r\n\r\n{}")
    assert plain_one == (503, {"retry-after": "5", "content-length": "2"}, b"{}")
    chunked = await _answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert (chunked.status, chunked.body) == (200, b"abcde")


async def test_what_is_no_answer_is_an_error() -> None:
    for said in (b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"):
        with pytest.raises((ValueError, EOFError)):
            await _answer(said)


async def test_a_server_that_hangs_up_is_no_answer() -> None:

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, HttpLoad(f"http://127.0.0.1:{port}", "key") as http:
        with pytest.raises(NoAnswer):
            await http.post("/v1/orders", b"{}")


async def test_connections_are_used_again() -> None:

    connections = itertools.count(1)
    seen = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(next(connections))
        while head := await reader.readuntil(b"\r\n\r\n"):
            assert b"Authorization: Bearer key" in head
            body = await reader.readexactly(2)
            writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n" + body)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with HttpLoad(f"http://127.0.0.1:{port}", "key") as http:
        answers = [await http.post("/v1/orders", b"{}") for _ in range(3)]
    assert [(answer.status, answer.body) for answer in answers] == [(202, b"{}")] * 3
    assert seen == [1]
    server.close()


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again() -> None:
    """Fails when a kept connection is taken as it is: the first requests after a pause would go unanswered."""
    connections = []

    async def serve_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2)
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(serve_once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, HttpLoad(f"http://127.0.0.1:{port}", "key") as http:
        for _ in range(2):
            assert (await http.post("/v1/orders", b"{}")).status == 202
            await until(lambda: _is(all(reader.at_eof() for reader, _ in http._free)), seconds=5, what="the server hung up")
    assert len(connections) == 2
