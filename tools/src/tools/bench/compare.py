"""Two recorded results of a bench side by side: is the difference more than noise? No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from tools.bench.figures import Figure

SINGLE_RUN_NOISE = 0.10
"""What two single runs of the same thing may differ by on a small machine; repeats (`--runs 3`) put a measured figure here."""
FEWEST_RUNS = 2

Record = Mapping[str, Any]
"""A result as it was written: `runs` holds each run's figures by path."""
Word = Literal["better", "worse", "same", "new"]


class Line(NamedTuple):
    figure: Figure
    before: float | None
    now: float
    change: float | None
    """Relative: 0.05 is 5 % more. None where there is nothing to compare with, or it was 0."""
    noise: float
    """Relative: smaller changes mean nothing."""
    word: Word


def compare(figures: Sequence[Figure], before: Record | None, now: Record) -> list[Line]:
    """A line per figure that this run has."""
    return [
        _line(figure, figure.of(before) if before else None, value, _noise(figure, before, now))
        for figure in figures
        if (value := figure.of(now)) is not None
    ]


def differences(before: Record, now: Record) -> list[str]:
    """What makes the two hard to compare, in words."""
    return [
        f"{what}: {before.get(what)} then, {now.get(what)} now"
        for what in ("cores", "orders", "short")
        if before.get(what) != now.get(what)
    ]


def spread(values: Sequence[float]) -> float | None:
    """From lowest to highest, relative to their middle; None for too few, or where the middle is 0."""
    middle = sorted(values)[len(values) // 2] if values else 0.0
    if len(values) < FEWEST_RUNS or not middle:
        return None
    return (max(values) - min(values)) / abs(middle)


def _noise(figure: Figure, *records: Record | None) -> float:
    """The wider spread of the two records' repeats; where one has none, that of a single run at least."""
    spreads = [spread(_repeats(figure, record)) for record in records if record]
    return max([SINGLE_RUN_NOISE if each is None else each for each in spreads])


def _repeats(figure: Figure, record: Record) -> list[float]:
    return [float(run[figure.path]) for run in record.get("runs", []) if figure.path in run]


def _line(figure: Figure, before: float | None, now: float, noise: float) -> Line:
    if before is None:
        return Line(figure, None, now, None, noise, "new")
    if before == now:
        return Line(figure, before, now, 0.0, noise, "same")
    change = (now - before) / abs(before) if before else None
    if change is not None and abs(change) <= noise:
        return Line(figure, before, now, change, noise, "same")
    return Line(figure, before, now, change, noise, "better" if (now > before) == (figure.better == "higher") else "worse")
