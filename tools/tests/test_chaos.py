"""The parts of chaos that need no stack: the proxy, the plan, the report."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from tools.chaos.__main__ import main
from tools.chaos.faults import FAULTS, NOT_BUILT
from tools.chaos.proxy import SLOW_SECONDS, Proxy
from tools.chaos.run import Passage, Report, plan


@pytest.fixture
async def echo_port() -> AsyncIterator[int]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(100):
            writer.write(piece)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float = 2) -> bytes:
    writer.write(b"x")
    await writer.drain()
    async with asyncio.timeout(seconds):
        return await reader.read(1)


async def test_a_proxy_passes_on_slows_swallows_and_cuts(echo_port: int) -> None:
    """Fails when a mood does not reach connections that are open already: those are the ones that hurt."""
    loop = asyncio.get_running_loop()
    async with Proxy(echo_port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await _ask(reader, writer) == b"x"
        proxy.set_mood("slow")
        began = loop.time()
        assert await _ask(reader, writer) == b"x"
        assert loop.time() - began >= 2 * SLOW_SECONDS
        proxy.set_mood("black_hole")
        with pytest.raises(TimeoutError):
            await _ask(reader, writer, seconds=0.3)
        proxy.set_mood("reset")
        with pytest.raises((ConnectionError, AssertionError)):
            assert await _ask(reader, writer) == b"x"
        new_reader, new_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises((ConnectionError, AssertionError)):
            assert await _ask(new_reader, new_writer) == b"x"
        proxy.set_mood("open")
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await _ask(reader, writer) == b"x"


async def test_a_proxy_cuts_when_nobody_listens_behind_it() -> None:
    """Fails when a target that is away leaves its clients hanging."""
    with socket.socket() as never_listening:
        never_listening.bind(("127.0.0.1", 0))
        async with Proxy(never_listening.getsockname()[1]) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            with pytest.raises((ConnectionError, AssertionError)):
                assert await _ask(reader, writer) == b"x"


def test_a_seed_repeats_the_order_of_faults() -> None:
    """Fails when a failing run cannot be repeated."""
    assert plan(7) == plan(7)
    assert plan(7) != plan(8)
    assert {fault.name for fault in plan(7)} == {fault.name for fault in FAULTS}
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_what_was_not_reached_is_never_told_as_held() -> None:
    """Fails when a fault that was not brought in counts as passed, or one failure among several times is lost."""
    report = Report(1, "abc", 2)
    assert not report.held
    first, second, *_ = FAULTS
    report.passages += [Passage(first.name, "held"), Passage(first.name, "not held", "waybills_are_unique")]
    report.passages.append(Passage(second.name, "not tried", "no root"))
    assert not report.held
    told = {row[0]: row[2] for row in report.rows()[1:]}
    assert told.pop(first.name) == "not held"
    assert set(told.values()) == {"not tried"}
    assert set(told) == {fault.name for fault in FAULTS[1:]} | NOT_BUILT.keys()
    assert report.missed == [fault.name for fault in FAULTS[1:]]


def test_an_unknown_fault_is_refused_with_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no_such_fault"])
    assert "kill_kafka" in capsys.readouterr().err
