"""`make chaos` (`DURATION=600`, `SEED=`, `ALL=1`, `FAULT=name`): figures to `.local/chaos/report.json`, and a table."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import sys
from collections.abc import Sequence

from tools.chaos.faults import FAULTS
from tools.chaos.run import Report, plan, walk
from tools.failures import FAILURES
from tools.paths import repository_root
from tools.terminal import Terminal, columns

NAME = "chaos"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.chaos",
        description="Faults under load; after each everything must drain and add up. Exit 0: all held; 1: something did not, "
        "or with --all a fault was not reached.",
        epilog="faults: "
        + "; ".join(f"{fault.name} ({fault.says}{f'; needs {fault.needs}' if fault.needs else ''})" for fault in FAULTS),
    )
    parser.add_argument("--duration", type=float, default=float(os.environ.get("DURATION") or 600), help="seconds (600)")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6)))
    parser.add_argument("--all", action="store_true", default=os.environ.get("ALL") == "1", help="walk each fault once")
    parser.add_argument("--name", default=NAME, help="the stack's name")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="these alone, each once")
    options = parser.parse_args(arguments)
    chosen = options.faults or os.environ.get("FAULT", "").split()
    known = {fault.name: fault for fault in FAULTS}
    if unknown := sorted(set(chosen) - known.keys()):
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    faults = [known[name] for name in chosen] or (list(FAULTS) if options.all else plan(options.seed))
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # That the broker is away is what is done here.
    terminal, report = Terminal(), Report(options.seed)
    terminal.say(f"seed {options.seed}: SEED={options.seed} repeats this run", "dim")
    try:
        seconds = None if options.all or chosen else options.duration
        asyncio.run(walk(report, faults, terminal, name=options.name, seconds=seconds))
    except (*FAILURES, RuntimeError) as error:
        terminal.end_live()
        report.error = f"{type(error).__name__}: {error}"
        terminal.say(report.error, "red")
    finally:
        path = repository_root() / ".local" / "chaos" / "report.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for line in columns(report.rows(), right=(1, 3, 4)):
        terminal.say(line)
    terminal.say(
        f"{report.orders_sent:,} orders sent; HTTP intake took {report.intake_successes:,} of {report.intake_attempts:,} "
        f"attempts; commit {report.commit}, {report.cores} cores"
    )
    terminal.say(f"figures: {path}", "dim")
    return 0 if report.held and (report.complete or not options.all) else 1


if __name__ == "__main__":
    sys.exit(main())
