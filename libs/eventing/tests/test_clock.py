from __future__ import annotations

from datetime import UTC, datetime, timedelta

from eventing.clock import SystemClock


def test_a_clock_set_wrong_is_off_by_that_much() -> None:
    """Fails when a test of wrong clocks runs by the right one."""
    for hours in (1, -1):
        off = SystemClock(3600.0 * hours).now() - datetime.now(UTC)
        assert abs(off - timedelta(hours=hours)) < timedelta(seconds=5)
