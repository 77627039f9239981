"""The release before this one: which revision it is, its code and its environment below `.local/skew/<revision>/`."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from tools.paths import repository_root

BOOTSTRAP_SECONDS = 600.0


class ReleaseError(Exception):
    """There is no older release, or it cannot be made to run; the text says which."""


def find_base(wanted: str | None, root: Path | None = None) -> str:
    """The full commit of ``wanted``, of the newest tag `v*`, or of the last change of code before HEAD.

    Errors: ReleaseError where history does not reach so far (a shallow clone).
    """
    where = root or repository_root()
    if not wanted:
        wanted = _git(where, "describe", "--tags", "--abbrev=0", "--match=v*", "HEAD~1") or _git(
            where, "rev-list", "--first-parent", "--max-count=1", "HEAD~1", "--", "services", "libs"
        )
    if not wanted:
        raise ReleaseError("there is no older revision in this clone: fetch more of it, or name one with BASE=")
    commit = _git(where, "rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}")
    if not commit:
        raise ReleaseError(f"{wanted} is no revision of this clone: fetch it.")
    return commit


def head(root: Path | None = None) -> str:
    """This release: the commit, with `+` where the working tree differs from it."""
    where = root or repository_root()
    changed = _git(where, "status", "--porcelain", "--untracked-files=no", "--", "services", "libs")
    return _git(where, "rev-parse", "HEAD")[:12] + ("+" if changed else "")


async def interpreter_of(commit: str) -> str:
    """The Python that runs a revision's services; made when it is not there yet, which takes a minute at most.

    Errors: ReleaseError.
    """
    return await asyncio.to_thread(_prepare, commit)


def _prepare(commit: str) -> str:
    root = repository_root()
    folder = root / ".local" / "skew" / commit[:12]
    interpreter, complete = folder / ".venv" / "bin" / "python", folder / ".complete"
    if complete.exists():
        return str(interpreter)
    shutil.rmtree(folder, ignore_errors=True)  # One that was interrupted.
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=root, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    ours = {"VENV", "VIRTUAL_ENV", "PYTHONPATH"}
    done = subprocess.run(
        ["sh", "deploy/local/bootstrap.sh"],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in ours},
        capture_output=True,
        text=True,
        check=False,
        timeout=BOOTSTRAP_SECONDS,
    )
    if done.returncode:
        raise ReleaseError(f"the environment of {commit[:12]} cannot be made: {done.stderr.strip()[-500:]}")
    complete.touch()
    return str(interpreter)


def _git(where: Path, *arguments: str) -> str:
    """Its output, empty where it fails."""
    done = subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
