"""Results on disk: `.local/bench/<name>.json`, and those before it under `.local/bench/history/`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.bench.figures import Results, merged
from tools.bench.ground import NAME, cores
from tools.bench.kinds import Bench
from tools.paths import repository_root, stack_folder

KEPT = 50
"""Records per bench in the history."""


def record_of(bench: Bench, runs: Sequence[Results], *, short: bool) -> dict[str, Any]:
    """One record of some runs: their medians, and each run's own figures."""
    figures = [{figure.path: value for figure in bench.figures if (value := figure.of(run)) is not None} for run in runs]
    return {
        "bench": bench.name,
        "commit": commit(),
        "recorded_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": cores(),
        "short": short,
        "runs": figures,
        **merged(runs),
    }


def write(bench: Bench, record: dict[str, Any]) -> Path:
    """Put a record in place; the one that was there goes to the history."""
    path = _path(bench.name, short=record["short"])
    path.parent.mkdir(parents=True, exist_ok=True)
    if (former := read(bench.name, short=record["short"])) is not None:
        history = _history(bench.name, short=record["short"])
        history.mkdir(parents=True, exist_ok=True)
        stamp = str(former.get("recorded_at", "earlier")).replace(":", "")
        path.replace(history / f"{stamp}.json")
        for old in sorted(history.glob("*.json"))[:-KEPT]:
            old.unlink()
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read(name: str, *, short: bool) -> dict[str, Any] | None:
    """The last record; None where the bench never ran here."""
    return _read(_path(name, short=short))


def read_before(name: str, *, short: bool) -> dict[str, Any] | None:
    """The record before the last one."""
    found = sorted(_history(name, short=short).glob("*.json"))
    return _read(found[-1]) if found else None


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    # Figures by path, since there are several; a record of before that has none to tell noise from.
    record["runs"] = [run for run in record.get("runs", []) if isinstance(run, dict)]
    return record


def _path(name: str, *, short: bool) -> Path:
    return stack_folder(NAME) / f"{name}{'.short' if short else ''}.json"


def _history(name: str, *, short: bool) -> Path:
    return stack_folder(NAME) / "history" / f"{name}{'.short' if short else ''}"


def commit() -> str:
    """With a `+` where files differ from it."""

    def git(*arguments: str) -> str:
        shown = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=repository_root())
        return shown.stdout.strip()

    commit = git("rev-parse", "--short", "HEAD")
    return f"{commit}{'+' if git('status', '--porcelain', '--untracked-files=no') else ''}" if commit else "unknown"
