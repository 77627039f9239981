"""The supervisor, with real Postgres and Kafka and stand-ins for the services."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest

from tools.local_postgres import with_database
from tools.processes import ProcessError, Record
from tools.stack import Stack, StackError
from tools.stack_state import ensure_secrets, read_state, stop_from_outside

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]
SERVICES = ("alpha", "beta")
Eventually = Callable[..., Awaitable[None]]
# A supervisor of its own, as `python -m tools.stack up` is one, but with the stand-ins.
SUPERVISOR = """
import asyncio, json, pathlib, sys
from tools.stack import Stack
async def main(folder, env):
    async with Stack("test", services=("alpha", "beta"), folder=pathlib.Path(folder), env={"*": env}, durable=False):
        await asyncio.Event().wait()
asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
"""


def a_stack(folder: Path, standins: Mapping[str, str], **options: object) -> Stack:
    env = {"*": standins, **options.pop("env", {})}  # type: ignore[dict-item]
    return Stack(
        "test",
        services=SERVICES,
        folder=folder,
        env=env,
        durable=False,
        handle_signals=False,
        **options,  # type: ignore[arg-type]
    )


def everything_below(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[str]:
    return [str(each) for each in processes if command_line(each)]


def command_line(process: psutil.Process) -> list[str]:
    """Empty for what has ended, a zombie included; Postgres' workers come and go by themselves."""
    try:
        return process.cmdline() if process.is_running() else []
    except psutil.Error:
        return []


@pytest.fixture(scope="module")
async def running(shared_stack_folder: Path, standins: Mapping[str, str]) -> AsyncIterator[Stack]:
    """A stack with two alphas, one of them a worker."""
    options = {"env": {"alpha": {"OMS_ALPHA_COLOUR": "红"}}, "roles": {"alpha": "api"}, "replicas": {"alpha": 2}}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OMS_ALPHA_MASTER_KEY", "alpha's own")
        async with a_stack(shared_stack_folder, standins, **options) as stack:
            yield stack


@pytest.fixture
async def supervisor(
    stack_folder: Path, standins: Mapping[str, str], eventually: Eventually
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A supervisor in a process of its own, everything up."""
    argv = [sys.executable, "-c", SUPERVISOR, str(stack_folder), json.dumps(dict(standins))]
    process = await asyncio.to_thread(subprocess.Popen, argv, start_new_session=True)

    async def both_answer() -> None:
        assert process.poll() is None
        state = read_state(stack_folder)
        assert state is not None
        assert {"alpha", "beta"} <= set(state.alive())
        async with httpx.AsyncClient(trust_env=False) as client:
            for service in SERVICES:
                try:
                    assert (await client.get(state.content["services"][service]["url"])).is_success
                except httpx.HTTPError as error:
                    raise AssertionError(str(error)) from error

    await eventually(both_answer, seconds=60)
    yield process
    await asyncio.to_thread(stop_from_outside, stack_folder)
    await asyncio.to_thread(process.wait, 60)


async def test_services_get_their_settings_and_nobody_elses(running: Stack) -> None:
    """Fails when a setting is not passed, or a service sees another one's."""
    async with httpx.AsyncClient(trust_env=False) as client:
        alpha = (await client.get(f"{running.urls['alpha']}/readyz")).json()
        beta = (await client.get(f"{running.urls['beta']}/readyz")).json()
    assert alpha["argv"] == ["--role", "api"]
    assert beta["argv"] == ["--role", "all"]
    assert alpha["settings"]["OMS_ALPHA_COLOUR"] == "红"
    assert alpha["settings"]["OMS_ALPHA_MASTER_KEY"] == "alpha's own"
    assert alpha["settings"]["OMS_ALPHA_KAFKA_BOOTSTRAP_SERVERS"] == running.bootstrap_servers
    assert alpha["settings"]["OMS_ALPHA_DATABASE_URL"] == running.database_urls["alpha"]
    assert not [name for name in beta["settings"] if name.startswith("OMS_ALPHA")]


async def test_replicas_are_workers_with_ports_of_their_own(running: Stack) -> None:
    """Fails when replicas are not started, or share a port or a role."""
    first, second = running.members["alpha"], running.members["alpha-2"]
    assert first.port != second.port
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(second.url)).json()["argv"] == ["--role", "worker"]


async def test_databases_belong_to_their_service_and_can_be_read(running: Stack) -> None:
    """Fails when the roles or URLs in the state do not work."""
    owner = await asyncpg.connect(running.database_urls["alpha"])
    await owner.execute("CREATE TABLE note (body text)")
    await owner.close()
    reader = await asyncpg.connect(running.read_only_database_urls["alpha"])
    assert await reader.fetchval("SELECT count(*) FROM note") == 0
    await reader.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(with_database(running.database_urls["alpha"], "oms_beta"))


async def test_state_and_keys_are_for_their_owner_alone(running: Stack) -> None:
    """Fails when files with passwords or keys can be read by others, or clear keys reach the services' file."""
    for name in ("stack.json", "keys.json", "api_keys.json"):
        assert (running.folder / name).stat().st_mode & 0o077 == 0
    hashed = (running.folder / "api_keys.json").read_text(encoding="utf-8")
    assert not [key for key in running.keys.values() if key in hashed]
    assert {each["principal"]: each["roles"] for each in json.loads(hashed)}["operator"] == ["operator"]


async def test_what_was_killed_on_purpose_is_no_crash_and_starts_again_in_its_place(running: Stack) -> None:
    """Fails when `kill` counts as a crash, or a restart takes another port or loses data."""
    before = {name: member.port for name, member in running.members.items()}
    for name in ("beta", "kafka", "postgres"):
        running.kill(name)
        await running._children()[name].wait()
        await asyncio.sleep(0.5)  # Two rounds of the look for crashes: what must not happen cannot be waited for.
        await running.start(name)
    running.check()
    assert {name: member.port for name, member in running.members.items()} == before
    connection = await asyncpg.connect(running.database_urls["alpha"])
    await connection.close()
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(running.urls["beta"])).is_success


def test_secrets_are_made_once_and_shared_only_where_they_must_be(stack_folder: Path) -> None:
    """Fails when a secret changes between runs (sealed data would be lost), or services share one that is their own."""
    made = ensure_secrets(stack_folder)
    assert ensure_secrets(stack_folder) == made
    assert made["ingest"]["OMS_INGEST_RECEIVER_KEK"] == made["fulfillment"]["OMS_FULFILLMENT_RECEIVER_KEK"]
    values = [value for settings in made.values() for value in settings.values()]
    assert len(values) - len(set(values)) == 1
    assert (stack_folder / "secrets.json").stat().st_mode & 0o077 == 0


async def test_a_second_supervisor_of_one_stack_is_refused(running: Stack, standins: Mapping[str, str]) -> None:
    """Fails when two supervisors may share a folder: the second would stop the first one's processes."""
    with pytest.raises(StackError, match="running already"):
        async with a_stack(running.folder, standins):
            pytest.fail("it started")
    assert set(read_state(running.folder).alive()) >= {"alpha", "beta", "kafka", "postgres"}  # type: ignore[union-attr]


async def test_two_stacks_run_side_by_side(running: Stack, stack_folder: Path, standins: Mapping[str, str]) -> None:
    """Fails when ports, folders or names of two stacks collide."""
    async with a_stack(stack_folder, standins) as second:
        assert set(second.urls.values()).isdisjoint(running.urls.values())
        assert second.bootstrap_servers != running.bootstrap_servers
        async with httpx.AsyncClient(trust_env=False) as client:
            for url in (*second.urls.values(), *running.urls.values()):
                assert (await client.get(url)).is_success
    running.check()


def test_stacks_that_start_at_once_take_different_ports(stack_folder: Path) -> None:
    """Fails when the lock on a block goes: both would find it free before either listens."""
    first, second = (Stack(name, services=SERVICES, folder=stack_folder) for name in ("one", "two"))
    try:
        assert set(first._take_ports()).isdisjoint(second._take_ports())
    finally:
        first._locks.close()
        second._locks.close()


async def test_a_crash_shows_the_last_lines_and_stops_everything(stack_folder: Path, standins: Mapping[str, str]) -> None:
    """Fails when a crash goes unnoticed, hides its log, or leaves the others running."""
    records: list[Record] = []

    async def run_until_beta_dies() -> None:
        async with a_stack(stack_folder, standins) as stack:
            records.extend(read_state(stack_folder).records)  # type: ignore[union-attr]
            os.kill(stack.members["beta"].child.record.pid, signal.SIGKILL)  # type: ignore[union-attr]
            await asyncio.Event().wait()

    with pytest.raises(ProcessError) as caught:
        await asyncio.wait_for(run_until_beta_dies(), 60)
    text = str(caught.value)
    assert text.startswith("beta was killed by signal 9")
    assert "beta line 39" in text
    assert "beta line 10" in text
    assert "beta line 9\n" not in text
    assert len(records) == 4
    assert [record.name for record in records if record.find()] == []
    assert read_state(stack_folder) is None


@pytest.mark.parametrize(
    ("service", "setting", "told"),
    [("alpha", "OMS_ALPHA_BAD_MIGRATION", "alpha --migrate"), ("beta", "OMS_BETA_BAD_START", "no such setting: 收货人")],
)
async def test_what_cannot_start_says_why_and_leaves_nothing(
    stack_folder: Path, standins: Mapping[str, str], service: str, setting: str, told: str
) -> None:
    """Fails when a failed migration or start is passed over, or something stays."""
    mine = set(everything_below(os.getpid()))
    with pytest.raises(ProcessError, match=told):
        async with a_stack(stack_folder, standins, env={service: {setting: "1"}}):
            pytest.fail("it started")
    assert alive([each for each in everything_below(os.getpid()) if each not in mine]) == []


async def test_a_service_that_never_gets_ready_is_given_up(stack_folder: Path, standins: Mapping[str, str]) -> None:
    """Fails when the deadline goes."""
    with pytest.raises(StackError, match=r"alpha was not ready within 1 s; http.*/readyz says: 503"):
        async with a_stack(stack_folder, standins, env={"alpha": {"OMS_ALPHA_NEVER_READY": "1"}}, ready_seconds=1):
            pytest.fail("it started")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_the_end_of_the_supervisor_is_the_end_of_everything(
    supervisor: subprocess.Popen[bytes], stack_folder: Path, eventually: Eventually, number: int
) -> None:
    """Fails when a signal is not handled, or the watchdog goes, or misses a process."""
    processes = everything_below(supervisor.pid)
    records = read_state(stack_folder).records  # type: ignore[union-attr]
    assert len(records) == 4
    os.kill(supervisor.pid, number)
    code = await asyncio.to_thread(supervisor.wait, 60)
    assert code == (-number if number == signal.SIGKILL else 128 + number)

    async def nothing_is_left() -> None:
        assert alive(processes) == []

    await eventually(nothing_is_left, seconds=30)


async def test_what_a_dead_supervisor_left_is_cleared_by_the_next_start(
    supervisor: subprocess.Popen[bytes], stack_folder: Path, standins: Mapping[str, str]
) -> None:
    """Fails when a stale state blocks a start, or its processes stay; here the watchdog died too."""
    left = everything_below(supervisor.pid)
    for process in [each for each in left if "tools.processes" in command_line(each)]:
        process.kill()
    supervisor.kill()
    await asyncio.to_thread(supervisor.wait, 10)
    assert len(alive(left)) >= 4
    async with a_stack(stack_folder, standins) as stack:
        assert alive(left) == []
        assert set(stack.urls) == set(SERVICES)


async def test_a_detached_stack_lives_on_until_it_is_told(stack_folder: Path, standins: Mapping[str, str]) -> None:
    """Fails when detaching stops something, or `down` leaves something."""
    async with a_stack(stack_folder, standins) as stack:
        stack.detach()
    state = read_state(stack_folder)
    assert state is not None
    assert state.supervisor is None
    assert len(state.alive()) == 4
    stopped = await asyncio.to_thread(stop_from_outside, stack_folder)
    assert set(stopped) == {"alpha", "beta", "kafka", "postgres"}
    assert state.alive() == []
    for child in stack._children().values():
        child.collect()  # In life their starter has ended; here it is this process.
