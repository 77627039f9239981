"""The parts of chaos that need no stack: the proxy, the plan, the report."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tools.chaos.__main__ import main
from tools.chaos.faults import FAULTS, READY_SECONDS, Fault, Ground
from tools.chaos.proxy import SLOW_SECONDS, Proxy
from tools.chaos.run import Passage, Report, plan, walk
from tools.local_postgres import with_database
from tools.terminal import Terminal
from tools.waiting import until


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
    assert set(told) == {fault.name for fault in FAULTS[1:]}
    assert report.missed == [fault.name for fault in FAULTS[1:]]
    assert not report.complete
    report.passages += [Passage(fault.name, "held") for fault in FAULTS if not fault.needs]
    assert report.complete
    assert report.missed == [fault.name for fault in FAULTS if fault.needs]


def test_an_unknown_fault_is_refused_with_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no_such_fault"])
    assert "kill_kafka" in capsys.readouterr().err


_LOSE = """
    DELETE FROM movement WHERE kind = 'shipped' AND subject_id = (
        SELECT subject_id FROM movement WHERE kind = 'shipped' ORDER BY movement_id DESC LIMIT 1
    )
"""


async def _lose_a_parcel(ground: Ground) -> None:
    """What no fault may do: one order's goods never left."""
    database = with_database(ground.postgres.admin_url, ground.stack.database_urls["inventory"].rpartition("/")[2])
    connection = await asyncpg.connect(database)
    try:

        async def lost() -> bool:
            return not (await connection.execute(_LOSE)).endswith(" 0")

        await until(lost, seconds=READY_SECONDS, what="a shipment to lose")
    finally:
        await connection.close()


@pytest.mark.e2e
@pytest.mark.kafka
@pytest.mark.postgres
async def test_a_kill_is_survived_and_a_loss_is_seen() -> None:
    """Fails when a killed worker costs an order, or when whatever a fault does counts as held."""
    kill = next(fault for fault in FAULTS if fault.name == "kill_router_worker")
    report = Report(1)
    await walk(
        report,
        [kill, Fault("loss", "an order's goods never leave", _lose_a_parcel)],
        Terminal(),
        name="chaos-test",
        seconds=None,
    )
    held, lost = report.passages
    assert (held.outcome, held.detail) == ("held", "")
    assert held.seconds_without_progress > 0
    assert lost.outcome == "not held"
    assert "1 orders unshipped" in lost.detail
    assert report.orders_sent > 100
    assert not report.held
