"""A disk that is full: one service's database on a small tmpfs of its own, and a balloon that takes what is left of it."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg

from tools.local_postgres import LocalPostgres, unprivileged_account

ROOM_BYTES = 256 * 1024 * 1024
"""Beyond what the database has, for the time before the balloon and after it."""
LEFT_BYTES = 1024 * 1024
TABLESPACE = "small_disk"


def why_not() -> str:
    """What is missing to mount a small disk; empty if nothing is."""
    if os.geteuid() != 0:
        return "needs root, to mount a small disk"
    missing = [tool for tool in ("mount", "umount") if shutil.which(tool) is None]
    return f"needs {' and '.join(missing)}" if missing else ""


@contextmanager
def small_disk(postgres: LocalPostgres, size_bytes: int) -> Iterator[Path]:
    """Mount one that the server may write to.

    Errors: OSError where it cannot be mounted.
    """
    folder, account = postgres.data_folder().parent / "small-disk", unprivileged_account()
    owner = "" if account is None else f",uid={account.uid},gid={account.gid}"
    folder.mkdir(exist_ok=True)
    try:
        _sh("mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700{owner}", "tmpfs", str(folder))
        try:
            yield folder
        finally:
            _sh("umount", "--lazy", str(folder))  # At a bad end the server still has files open there.
    finally:
        folder.rmdir()


async def size_of(postgres: LocalPostgres, database: str) -> int:
    async with _admin(postgres) as connection:
        return int(await connection.fetchval("SELECT pg_database_size($1)", database))


async def move_there(postgres: LocalPostgres, database: str, disk: Path) -> None:
    """Nobody may be connected."""
    async with _admin(postgres) as connection:
        await connection.execute(f"CREATE TABLESPACE {TABLESPACE} LOCATION '{disk}'")
        await connection.execute(f'ALTER DATABASE "{database}" SET TABLESPACE {TABLESPACE}')


async def move_back(postgres: LocalPostgres, database: str) -> None:
    """Nobody may be connected."""
    async with _admin(postgres) as connection:
        await connection.execute(f'ALTER DATABASE "{database}" SET TABLESPACE pg_default')
        await connection.execute(f"DROP TABLESPACE {TABLESPACE}")


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Nothing is left on this disk meanwhile, but for a moment's worth."""
    balloon, size = disk / "balloon", 0
    with balloon.open("wb") as file:
        while (room := _free_bytes(disk) - LEFT_BYTES) > 0:
            try:
                os.posix_fallocate(file.fileno(), size, room)
            except OSError as error:  # The database grew meanwhile: look again what is left.
                if error.errno != errno.ENOSPC:
                    raise
            else:
                size += room
    try:
        yield
    finally:
        balloon.unlink()


def _free_bytes(disk: Path) -> int:
    state = os.statvfs(disk)
    return state.f_bavail * state.f_frsize


def _sh(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(argv)}: {done.stderr.strip()}")


@asynccontextmanager
async def _admin(postgres: LocalPostgres) -> AsyncIterator[asyncpg.Connection]:
    async with asyncio.timeout(60):
        connection = await asyncpg.connect(postgres.admin_url)
        try:
            yield connection
        finally:
            await connection.close()
