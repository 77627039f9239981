"""`make drill` (`SERVICE=all` or one, `AGO=300` seconds): figures to `.local/drill/report.json`, and a table."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence

from tools.drill.backup import BackupError
from tools.drill.rewind import RewindError
from tools.drill.run import Outcome, drill
from tools.failures import FAILURES
from tools.local_postgres import SERVICES
from tools.paths import stack_folder
from tools.terminal import Terminal, columns

NAME = "drill"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.drill",
        description="Restores one service's database from a backup under load, as docs/restore.md says. "
        "Exit 0: every drill ended coherent; 1: one did not.",
    )
    named = os.environ.get("SERVICE") or "all"
    parser.add_argument("--service", default=named, choices=("all", *SERVICES), help="whose database is lost (all)")
    parser.add_argument(
        "--ago", type=float, default=float(os.environ.get("AGO") or 300), help="seconds between backup and loss (300)"
    )
    parser.add_argument("--name", default=NAME, help="the stack's name")
    parser.add_argument("--without-steps", action="store_true", help="restore only, no rewind and no reconcile: must fail")
    options = parser.parse_args(arguments)
    terminal = Terminal()
    services = SERVICES if options.service == "all" else (options.service,)
    report: dict[str, object] = {}
    coherent = True
    for service in services:
        terminal.say(f"{service}: restored to {options.ago:g} s ago", "bold")
        try:
            outcome = asyncio.run(drill(service, options.ago, terminal, name=options.name, steps=not options.without_steps))
        except (*FAILURES, BackupError, RewindError) as error:
            terminal.end_live()
            terminal.say(f"{type(error).__name__}: {error}", "red")
            report[service] = {"service": service, "error": f"{type(error).__name__}: {error}"}
            coherent = False
        else:
            report[service] = outcome.to_json()
            coherent = coherent and outcome.coherent
            _tell(terminal, outcome)
        _write(options.name, report)
    terminal.say(f"figures: {stack_folder(options.name) / 'report.json'}", "dim")
    return 0 if coherent else 1


def _tell(terminal: Terminal, outcome: Outcome) -> None:
    drained = outcome.rto_drained_seconds
    rows: list[Sequence[object]] = [
        ("RPO, without the steps", f"{outcome.rpo_seconds} s, {sum(outcome.rows_in_that_time.values())} rows"),
        ("lost for good", _counts(outcome.rows_lost)),
        ("acts lost from the log", _counts(outcome.acts_lost)),
        ("records read again", _counts(outcome.rewound)),
        ("reconciled", _counts(outcome.reconciled)),
        ("RTO", f"{outcome.rto_ready_seconds} s to ready, {'never' if drained is None else f'{drained} s'} to drained"),
        ("coherent", "yes" if outcome.coherent else "NO"),
    ]
    rows += [(check, "; ".join(lines)) for check, lines in outcome.failed_checks.items()]
    for line in columns(rows):
        terminal.say(line)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items()) or "none"


def _write(name: str, report: dict[str, object]) -> None:
    path = stack_folder(name) / "report.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
