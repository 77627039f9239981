"""`make skew` (`BASE=revision`, `SERVICE=name`): figures to `.local/skew/report.json`, and a table."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.failures import FAILURES
from tools.local_postgres import SERVICES
from tools.paths import repository_root
from tools.skew.release import ReleaseError, find_base, head, interpreter_of
from tools.skew.run import Report, walk
from tools.terminal import Terminal, columns

NAME = "skew-stack"
NOT_TRIED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.skew",
        description="Upgrades each service from an older release to this one and back, under load. "
        "Exit 0: all passed and coherent; 1: something failed; 2: not tried, there is no older release here.",
    )
    parser.add_argument(
        "--base", default=os.environ.get("BASE"), help="the older release (newest tag v*, else the last change)"
    )
    parser.add_argument("--service", default=os.environ.get("SERVICE") or "all", choices=("all", *SERVICES))
    parser.add_argument("--name", default=NAME, help="the stack's name")
    options = parser.parse_args(arguments)
    terminal = Terminal()
    path = repository_root() / ".local" / "skew" / "report.json"
    try:
        base = find_base(options.base)
        terminal.say(f"preparing {base[:12]}", "dim")
        old = asyncio.run(interpreter_of(base))
    except (ReleaseError, subprocess.SubprocessError, OSError) as error:
        terminal.say(f"not tried: {error}", "yellow")
        _write(path, {"not_tried": str(error)})
        return NOT_TRIED
    report = Report(base[:12], head())
    failure = ""
    try:
        services = SERVICES if options.service == "all" else (options.service,)
        asyncio.run(walk(report, old, terminal, name=options.name, services=services))
    except FAILURES as error:
        terminal.end_live()
        failure = f"{type(error).__name__}: {error}"
        terminal.say(failure, "red")
    _write(path, report.to_json() | {"error": failure})
    _tell(terminal, report)
    terminal.say(f"figures: {path}", "dim")
    return 0 if report.holds and not failure else 1


def _tell(terminal: Terminal, report: Report) -> None:
    rows: list[Sequence[object]] = [("service", "direction", "outcome", "s without progress", "parked", "")]
    rows += [
        (each.service, each.direction, each.outcome, each.seconds_without_progress, each.parked_or_quarantined, each.detail)
        for each in report.passages
    ]
    for line in columns(rows, right=(3, 4)):
        terminal.say(line)
    for check, lines in report.failed_checks.items():
        terminal.say(f"{check}: {'; '.join(lines)}", "red")
    said = {True: "coherent", False: "NOT coherent", None: "not reached"}
    terminal.say(
        f"{report.base} -> {report.head}: rolled back {said[report.coherent_rolled_back]}, "
        f"upgraded {said[report.coherent_upgraded]}; calls refused meanwhile: {report.calls_refused or 'none'}"
    )


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
