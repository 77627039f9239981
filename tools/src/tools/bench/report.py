"""The table of a bench: each figure, what is to be reached, what it was before; then who used the CPU and the memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tools.bench.compare import Line, Record, compare, differences
from tools.bench.figures import plain
from tools.bench.kinds import Bench
from tools.terminal import Style, Terminal, columns

_HEADING: Style = "dim"


def show(terminal: Terminal, bench: Bench, now: Record, before: Record | None) -> None:
    terminal.say(f"{bench.name}: {bench.title}", "bold")
    lines = compare(bench.figures, before, now)
    rows: list[Sequence[object]] = [_heading(before)]
    rows += [_row(line, compared=before is not None) for line in lines]
    for text, style in zip(columns(rows, right=(1, 2, 4, 5, 6)), [_HEADING, *map(_style, lines)], strict=True):
        terminal.say(f"  {text}", style)
    terminal.say()
    for text in columns(_costs(now), right=(1, 2)):
        terminal.say(f"  {text}")
    if before is not None:
        for difference in differences(before, now):
            terminal.say(f"  not the same then and now: {difference}", "yellow")
    runs = len(now["runs"])
    coherent = "coherent" if now["coherent"] else f"NOT COHERENT: {', '.join(now['failed_checks'])}"
    terminal.say(
        f"  {now['orders']:,} orders, {runs} run{'s' if runs != 1 else ''}, {now['cores']} cores,"
        f" commit {now['commit']}, {coherent}",
        "bold" if now["coherent"] else "bold red",
    )
    terminal.say()


def _heading(before: Record | None) -> tuple[str, ...]:
    heading = ("figure", "now", "to reach", "")
    return heading if before is None else (*heading, "before", "change", "noise", f"against {before.get('commit', '?')}")


def _row(line: Line, *, compared: bool) -> tuple[str, ...]:
    reached = line.figure.is_reached(line.now)
    row = (line.figure.path, plain(line.now), line.figure.goal, {None: "", True: "yes", False: "NO"}[reached])
    if not compared:
        return row
    before = "" if line.before is None else plain(line.before)
    change = "" if line.change is None else f"{line.change:+.1%}"
    return (*row, before, change, f"±{line.noise:.0%}", line.word)


def _style(line: Line) -> Style:
    return "red" if line.figure.is_reached(line.now) is False else ""


def _costs(now: Record) -> list[Sequence[object]]:
    cpu: dict[str, Any] = now["cpu_ms_per_order"]
    rss: dict[str, Any] = now["peak_rss_mb"]
    rows: list[Sequence[object]] = [("process", "CPU ms/order", "peak MB")]
    rows += [(name, f"{cpu[name]:.3f}", f"{rss[name]:.0f}") for name in cpu]
    rows.append(("all", f"{sum(cpu.values()):.3f}", f"{sum(rss.values()):.0f}"))
    return [*rows, ("feeder (apart)", f"{now['feeder_cpu_ms_per_order']:.3f}", "")]
