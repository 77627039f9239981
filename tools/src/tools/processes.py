"""Child processes that never outlive the one who started them.

Each child leads its own process group and logs straight to a file. A watchdog process holds the read end of a pipe:
when the starter dies, however it dies, the pipe closes and the watchdog stops every child. The same on Linux and macOS.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

LOOPBACK = "127.0.0.1"
# A start time comes from ticks since boot and moves a little when the machine's clock is corrected.
START_TIME_TOLERANCE_SECONDS = 2.0
STOP_GRACE_SECONDS = 15.0


class ProcessError(Exception):
    """A child ended that should be running; the text carries the end of its log."""

    def __init__(self, name: str, exit_code: int | None, tail: str) -> None:
        super().__init__(f"{name} {_ending(exit_code)}; the end of its log:\n{tail}")
        self.name = name
        self.exit_code = exit_code


@dataclasses.dataclass(frozen=True)
class Record:
    """What is needed to find a process again and to stop it, also from another process."""

    name: str
    pid: int
    started_at: float
    tier: int = 0
    """Higher tiers are stopped first: services before the broker, the broker before the database."""
    stop_signal: int = signal.SIGTERM

    def find(self) -> psutil.Process | None:
        """Return the live process, or None; a pid that the system gave to somebody else is not ours."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started_at) > START_TIME_TOLERANCE_SECONDS:
                return None
            # A zombie has ended; under a container's PID 1 nobody may ever collect it.
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.Error:
            return None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def of_pid(cls, name: str, pid: int) -> Record:
        return cls(name=name, pid=pid, started_at=psutil.Process(pid).create_time())


class Child:
    """A started process and the file it logs to."""

    def __init__(self, record: Record, popen: subprocess.Popen[bytes], log_path: Path) -> None:
        self.record = record
        self.log_path = log_path
        self._popen = popen

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def exit_code(self) -> int | None:
        return self._popen.poll()

    def send_signal(self, number: int) -> None:
        """Signal the whole group; somebody already gone is no error."""
        if self.exit_code is None:
            signal_group(self.record.pid, number)

    def stop(self, *, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        stop_all([self.record], grace_seconds=grace_seconds)
        self.collect()

    def collect(self) -> None:
        """Take the exit status of a process that has been stopped, so that no zombie stays."""
        self._popen.wait()

    def raise_if_ended(self) -> None:
        if self.exit_code is not None:
            raise ProcessError(self.name, self.exit_code, log_tail(self.log_path))

    async def wait(self) -> int:
        # Polling costs nothing at this rate and, unlike asyncio's transports, never kills a child that is left running.
        while (code := self.exit_code) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        return code


class Watchdog:
    """The far end of the pipe; see the module's text."""

    def __init__(self, *, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        read_end, write_end = os.pipe()
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tools.processes", str(grace_seconds)],
            stdin=read_end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read_end)
        self._pipe = os.fdopen(write_end, "w", encoding="utf-8")
        self.record = Record.of_pid("watchdog", self._popen.pid)

    def watch(self, record: Record) -> None:
        self._tell(json.dumps(record.to_json()))

    def release(self) -> None:
        """Let the children live on without a parent."""
        self._tell("release")
        self.close()

    def close(self) -> None:
        """Stop what is still there and wait for it."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.close()
        self._popen.wait()

    def _tell(self, line: str) -> None:
        # A watchdog that somebody killed must not take the rest down: the pipe is then broken, and nobody watches.
        with contextlib.suppress(BrokenPipeError):
            print(line, file=self._pipe, flush=True)


def spawn(
    name: str,
    argv: Sequence[str],
    *,
    log_path: Path,
    watchdog: Watchdog | None,
    env: Mapping[str, str] | None = None,
    account: Account | None = None,
    cwd: Path | None = None,
    tier: int = 0,
    stop_signal: int = signal.SIGTERM,
) -> Child:
    """Start a child in a session of its own, its output appended to ``log_path``."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        popen = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
            **as_account(account),
        )
    try:
        record = dataclasses.replace(Record.of_pid(name, popen.pid), tier=tier, stop_signal=stop_signal)
    except psutil.NoSuchProcess:
        raise ProcessError(name, popen.wait(), log_tail(log_path)) from None
    if watchdog is not None:
        watchdog.watch(record)
    return Child(record, popen, log_path)


@dataclasses.dataclass(frozen=True)
class Account:
    """A system account to run as; PostgreSQL refuses to run as root."""

    name: str
    uid: int
    gid: int


def as_account(account: Account | None) -> dict[str, Any]:
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


def signal_group(leader_pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies.
        os.killpg(leader_pid, number)


def stop_all(records: Iterable[Record], *, grace_seconds: float = STOP_GRACE_SECONDS) -> list[str]:
    """Stop processes tier by tier: ask, wait, kill. Returns the names of those that had to be killed."""
    killed: list[str] = []
    remaining = list(records)
    for tier in sorted({record.tier for record in remaining}, reverse=True):
        group = [record for record in remaining if record.tier == tier and record.find()]
        for record in group:
            signal_group(record.pid, record.stop_signal)
            signal_group(record.pid, signal.SIGCONT)  # A stopped process would sleep through the request.
        left = _wait_gone(group, grace_seconds)
        for record in left:
            signal_group(record.pid, signal.SIGKILL)
        _wait_gone(left, grace_seconds)
        for record in group:
            signal_group(record.pid, signal.SIGKILL)  # Somebody in the group may have outlived its leader.
        killed += [record.name for record in left]
    return killed


def _wait_gone(records: list[Record], seconds: float) -> list[Record]:
    deadline = time.monotonic() + seconds
    while left := [record for record in records if record.find()]:
        if time.monotonic() > deadline:
            return left
        time.sleep(0.05)
    return []


def log_tail(path: Path, lines: int = 30) -> str:
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]) or "(empty)"
    except FileNotFoundError:
        return "(no log)"


def free_ports(count: int) -> list[int]:
    """Free loopback ports. Somebody may take one before we do: callers that listen must be ready to try again."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [int(each.getsockname()[1]) for each in sockets]


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As a server would bind it: connections lingering in TIME_WAIT are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


async def until_ready(child: Child, *, seconds: float, ready: Callable[[], Any], what: str) -> None:
    """Call the coroutine function ``ready`` until it returns true; give up when the child ends or time is over."""
    deadline = time.monotonic() + seconds
    while True:
        child.raise_if_ended()
        if await ready():
            return
        if time.monotonic() > deadline:
            tail = log_tail(child.log_path)
            raise TimeoutError(f"{what} was not ready within {seconds:g} s; the end of its log:\n{tail}")
        await asyncio.sleep(0.05)


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"was killed by signal {-exit_code}"
    return f"ended with exit status {exit_code}"


def _watch(lines: IO[str], grace_seconds: float) -> None:
    """The watchdog's whole life: note children until the pipe closes, then stop them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # It goes when its parent is gone, not before.
    records: list[Record] = []
    for line in lines:
        if line.strip() == "release":
            return
        records.append(Record(**json.loads(line)))
    stop_all(records, grace_seconds=grace_seconds)


if __name__ == "__main__":
    _watch(sys.stdin, float(sys.argv[1]))
