"""The runtime's numbers, each with its reason. Tests make the times short; production keeps them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from contracts.topics import DEFAULT_ORDER_PARTITIONS
from eventing.sealing import Sealer

REST_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    """**Units**: seconds, unless the name says otherwise."""

    order_partitions: int = DEFAULT_ORDER_PARTITIONS
    seal: Sealer | None = None
    """Needed as soon as records are consumed: parked bytes are sealed."""
    source: str | None = None
    """`ce_source`; None is "/<service>". A database restored from a backup gets a new incarnation here."""
    replay_until: datetime | None = None
    """After a restore: consumers that were set back read their topics merged by time up to here (replay.py)."""
    version: str = ""
    """The release. A breaker that another version opened closes by itself."""
    crash_at: str = ""
    """A crash point, or "point:n" for its n-th passing. Test builds only."""
    clock_offset_seconds: float = 0.0
    """Added to the machine's clock, to see what a wrong one does. For tests only."""

    batch_records: int = 300  # Beyond that the cost per record is flat and locks are held longer.
    fetch_min_bytes: int = 100_000  # With the wait below this makes batches of hundreds under load.
    fetch_wait_seconds: float = 0.05
    batch_gap_seconds: float = 0.4
    """Between the starts of two batches, unless the first was full: a steady load then comes in batches large enough that what
    each costs in itself does not matter. After less than `batch_gap_records` it is shorter in proportion: where little happens,
    nobody waits."""
    batch_gap_records: int = 20
    session_seconds: float = 10.0
    heartbeat_seconds: float = 3.0
    revoke_seconds: float = 6.0  # To finish what is in flight; below the session, or the others wait for nothing.
    stop_seconds: float = 10.0
    retry_seconds: float = 2.0  # Longest pause between two attempts while something is away.
    drain_poll_seconds: float = 1.0

    relay_lease_seconds: float = 10.0
    relay_renew_seconds: float = 3.0
    relay_guard_seconds: float = 3.0  # No send begins this close to the end of a lease.
    relay_wave_records: int = 1000
    relay_wave_bytes: int = 4 * 1024 * 1024
    relay_idle_seconds: float = 0.2  # What this process writes wakes its relay at once; this is for rows of others.
    relay_send_seconds: float = 3.0
    relay_floor_seconds: float = 1.0  # At rest; under load every wave raises the floors.
    producer_life_seconds: float = 24 * 3600.0

    task_idle_seconds: float = 0.5
    task_lease_seconds: float = 30.0
    waiting_sweep_seconds: float = 5.0
    sweep_seconds: float = 3600.0
    inbox_keep_days: int = 14  # Topic retention of 7 days, and 7 to be late.
    inbox_ahead_days: int = 3

    breaker_window_seconds: float = 60.0
    breaker_keys: int = 200
    breaker_share: float = 0.05
    breaker_half_open_seconds: float = 30.0

    def at_rest(self) -> RuntimeSettings:
        """Settings of a reader of topics on which next to nothing happens: told at once, asking seldom."""
        return replace(self, fetch_min_bytes=1, fetch_wait_seconds=REST_SECONDS)
