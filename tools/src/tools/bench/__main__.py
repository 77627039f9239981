"""`make bench` (`BENCH=name` runs one): figures to `.local/bench/<name>.json`, and a table beside the run before."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

import asyncpg
from aiokafka.errors import KafkaError

from tools.bench import records, report
from tools.bench.cancel_latency import CANCEL_LATENCY
from tools.bench.end_to_end import END_TO_END
from tools.bench.growth import GROWTH
from tools.bench.hot_sku import HOT_SKU
from tools.bench.http_intake import HTTP_INTAKE
from tools.bench.kinds import Bench, Setting
from tools.bench.recovery import RECOVERY
from tools.bench.stampede import STAMPEDE
from tools.broker_jars import JarError
from tools.client import ApiError
from tools.processes import ProcessError
from tools.stack import StackError
from tools.terminal import Terminal
from tools.topics import TopicError

BENCHES = {bench.name: bench for bench in (END_TO_END, HOT_SKU, STAMPEDE, GROWTH, HTTP_INTAKE, CANCEL_LATENCY, RECOVERY)}
FAILURES = (StackError, ProcessError, JarError, TopicError, TimeoutError, ApiError, KafkaError, asyncpg.PostgresError, OSError)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench",
        description="Measures the whole system on this machine; all of it takes up to 40 minutes. `BENCH=name` names one, too.",
        epilog="\n".join(f"{bench.name:15} {bench.title}" for bench in BENCHES.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (all)")
    parser.add_argument("--orders", type=int, help="how many, instead of the bench's own count")
    parser.add_argument("--runs", type=int, default=1, help="repeat; medians are quoted, their spread is the noise (1)")
    parser.add_argument("--short", action="store_true", help="a tenth or so, to see that it works; recorded apart")
    parser.add_argument("--compare", action="store_true", help="run nothing: the last record beside the one before it")
    options = parser.parse_args(arguments)
    names = options.names or os.environ.get("BENCH", "").split() or list(BENCHES)
    if unknown := sorted(set(names) - BENCHES.keys()):
        parser.error(f"no such bench: {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    if options.runs < 1 or (options.orders is not None and options.orders < 1):
        parser.error("--runs and --orders are 1 at least")
    benches, terminal = [BENCHES[name] for name in names], Terminal()
    if options.compare:
        return _compare(benches, terminal, short=options.short)
    setting = Setting(terminal, orders=options.orders, short=options.short)
    failed = [bench.name for bench in benches if not _run(bench, setting, options.runs)]
    if failed:
        terminal.say(f"failed: {', '.join(failed)}", "red")
    return 1 if failed else 0


def _run(bench: Bench, setting: Setting, runs: int) -> bool:
    """Whether it came to its figures, of a coherent system. One that fails does not keep the next from running."""
    terminal = setting.terminal
    terminal.say(f"{bench.name}: {bench.title}", "bold")
    terminal.add_steps(runs * bench.steps)
    try:
        results = [asyncio.run(bench.run(setting)) for _ in range(runs)]
    except FAILURES as error:
        terminal.end_live()
        terminal.say(f"{type(error).__name__}: {error}", "red")
        terminal.say("service logs: .local/bench/log/")
        return False
    short = setting.short or setting.orders is not None
    before = records.read(bench.name, short=short)
    record = records.record_of(bench, results, short=short)
    path = records.write(bench, record)
    terminal.say()
    report.show(terminal, bench, record, before)
    terminal.say(f"figures: {path}", "dim")
    return bool(record["coherent"])


def _compare(benches: Sequence[Bench], terminal: Terminal, *, short: bool) -> int:
    for bench in benches:
        now = records.read(bench.name, short=short)
        if now is None:
            terminal.say(f"{bench.name}: never ran here; BENCH={bench.name} make bench", "dim")
            continue
        report.show(terminal, bench, now, records.read_before(bench.name, short=short))
    return 0


if __name__ == "__main__":
    sys.exit(main())
