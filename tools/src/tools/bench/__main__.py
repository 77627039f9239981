"""`make bench` (`BENCH=name` runs one): figures to `.local/bench/<name>.json`, and a table."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.bench.end_to_end import Burst, burst, cores
from tools.broker_jars import JarError
from tools.client import ApiError
from tools.paths import stack_folder
from tools.processes import ProcessError
from tools.stack import StackError
from tools.terminal import Terminal, columns
from tools.topics import TopicError

BENCHES = ("end_to_end",)
ORDERS = 20_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHES)} (all)")
    parser.add_argument("--orders", type=int, default=ORDERS, help=f"orders in a burst ({ORDERS:,})")
    parser.add_argument("--runs", type=int, default=1, help="repeat; the median is quoted (1)")
    options = parser.parse_args()
    names = options.names or ([os.environ["BENCH"]] if os.environ.get("BENCH") else list(BENCHES))
    if unknown := sorted(set(names) - set(BENCHES)):
        parser.error(f"no such bench: {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    terminal = Terminal()
    try:
        return asyncio.run(_end_to_end(terminal, options.orders, options.runs))
    except (StackError, ProcessError, JarError, TopicError, TimeoutError, ApiError) as error:
        terminal.end_live()
        terminal.say(str(error), "red")
        terminal.say("service logs: .local/bench/log/")
        return 1


async def _end_to_end(terminal: Terminal, orders: int, runs: int) -> int:
    terminal.add_steps(runs * 3)
    bursts = [await burst(orders, terminal) for _ in range(runs)]
    median = sorted(bursts, key=lambda each: each.orders_per_second)[len(bursts) // 2]
    figures = {
        "bench": "end_to_end",
        "commit": await asyncio.to_thread(_commit),
        "cores": cores(),
        "runs": [round(each.orders_per_second, 1) for each in bursts],
        **median.to_json(),
        "orders_per_second": round(statistics.median(each.orders_per_second for each in bursts), 1),
        "coherent": all(each.coherent for each in bursts),
    }
    path = await asyncio.to_thread(_write, "end_to_end", figures)
    _show(terminal, figures, bursts)
    terminal.say(f"figures: {path}")
    return 0 if figures["coherent"] else 1


def _show(terminal: Terminal, figures: dict[str, Any], bursts: Sequence[Burst]) -> None:
    cpu, rss = figures["cpu_ms_per_order"], figures["peak_rss_mb"]
    rows: list[Sequence[object]] = [("process", "CPU ms/order", "peak MB")]
    rows += [(name, f"{cpu[name]:.3f}", f"{rss[name]:.0f}") for name in cpu]
    rows.append(("all", f"{figures['cpu_ms_per_order_total']:.3f}", f"{sum(rss.values()):.0f}"))
    for line in columns(rows, right=(1, 2)):
        terminal.say(f"  {line}")
    spread = ", ".join(f"{each.orders_per_second:.0f}" for each in bursts)
    terminal.say(
        f"  {figures['orders']:,} orders, {figures['orders_per_second']:.0f} orders/s (runs: {spread}),"
        f" {figures['cores']} cores, {'coherent' if figures['coherent'] else 'NOT COHERENT'}",
        "bold",
    )


def _write(name: str, figures: dict[str, Any]) -> Path:
    path = stack_folder("bench") / f"{name}.json"
    path.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _commit() -> str:
    shown = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
