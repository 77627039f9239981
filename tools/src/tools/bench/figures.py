"""Numbers of a bench: percentiles, medians of repeats, when an open loop sends, how long a lane stood still. No I/O."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Results = Mapping[str, Any]
"""What one run found: figures by name, in groups where that reads better."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that is shown, compared and, where there is something to reach, judged."""

    path: str
    """Where it stands in the results: `paced.p99_seconds`."""
    better: Literal["higher", "lower"]
    reach: float | None = None

    def of(self, results: Results) -> float | None:
        """None where the run has no such figure."""
        found: Any = results
        for name in self.path.split("."):
            if not isinstance(found, Mapping) or name not in found:
                return None
            found = found[name]
        return float(found) if isinstance(found, int | float) else None

    def is_reached(self, value: float) -> bool | None:
        if self.reach is None:
            return None
        return value >= self.reach if self.better == "higher" else value <= self.reach

    @property
    def goal(self) -> str:
        return "" if self.reach is None else f"{'≥' if self.better == 'higher' else '≤'} {self.reach:g}"


def plain(number: float) -> str:
    """Four figures that count, no exponent: 1234, 12.34, 0.1234."""
    if not number or not math.isfinite(number):
        return f"{number:g}"
    return f"{number:.{max(0, 3 - math.floor(math.log10(abs(number))))}f}" if abs(number) < 1000 else f"{number:.0f}"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed (nearest rank): always one that was measured."""
    if not values:
        raise ValueError("no values, no percentile")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def latencies(values: Sequence[float]) -> dict[str, float]:
    """The three that are quoted, in seconds."""
    return {
        "p50_seconds": round(percentile(values, 0.50), 4),
        "p99_seconds": round(percentile(values, 0.99), 4),
        "worst_seconds": round(max(values), 4),
    }


def due_count(elapsed_seconds: float, per_second: float, total: int) -> int:
    """How many sends of an open loop are due: number n (from 0) at n / per_second, whether or not others were answered."""
    if elapsed_seconds < 0:
        return 0
    return min(total, math.floor(elapsed_seconds * per_second) + 1)


def intended_at(number: int, per_second: float) -> float:
    """When send `number` (from 0) of an open loop is due, in seconds from its beginning."""
    return number / per_second


def longest_silence(moments: Iterable[float], since: float, until: float) -> float:
    """The longest time without a record between two moments, their ends included."""
    inside = sorted(moment for moment in moments if since < moment < until)
    stops = [since, *inside, until]
    return max(later - earlier for earlier, later in itertools.pairwise(stops))


def growth_of(samples: Sequence[float]) -> float:
    """How much more the last quarter has than the second one, on average: what a process gained once it was warm."""
    quarter = len(samples) // 4
    if not quarter:
        return 0.0
    return statistics.fmean(samples[-quarter:]) - statistics.fmean(samples[quarter : 2 * quarter])


def merged(runs: Sequence[Results]) -> dict[str, Any]:
    """One result of several runs of the same shape: medians of numbers, `all` of truths, lists joined without repeats."""
    return {name: _merged([run[name] for run in runs if name in run]) for name in runs[0]}


def _merged(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Mapping):
        return merged(values)
    if isinstance(first, bool):
        return all(values)
    if isinstance(first, list):
        return list(dict.fromkeys(each for value in values for each in value))
    if isinstance(first, int | float):
        middle = statistics.median(values)
        return int(middle) if all(isinstance(value, int) for value in values) and middle == int(middle) else round(middle, 4)
    return first
