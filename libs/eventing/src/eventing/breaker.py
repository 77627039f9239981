"""The breaker: when too large a share of the keys fails, it is the deployment that is bad, not the data.

Then nothing is parked any more: the batch is rolled back and the consumer stops, in all workers of the service, until a person
or a new version closes the breaker, or one batch goes through half-open. On foreign topics it trips per scope (a shop): the
records of that scope are quarantined, the partition goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from eventing import database
from eventing.clock import Clock
from eventing.errors import BreakerOpenError
from eventing.observe import Observer
from eventing.reading import Fault, Item
from eventing.settings import RuntimeSettings

_OPEN = text(
    """
    INSERT INTO breaker (consumer, scope, opened_at, half_open_at, version, reason)
    VALUES (CAST(:consumer AS text), CAST(:scope AS text), CAST(:now AS timestamptz), CAST(:half_open_at AS timestamptz),
        CAST(:version AS text), CAST(:reason AS text))
    ON CONFLICT (consumer, scope, version) DO UPDATE SET
        half_open_at = excluded.half_open_at, reason = excluded.reason
    """
)
_CLOSE = text("DELETE FROM breaker WHERE consumer = CAST(:consumer AS text) AND scope = CAST(:scope AS text)")
_CLOSE_OTHER_VERSIONS = text(
    "DELETE FROM breaker WHERE consumer = CAST(:consumer AS text) AND version <> CAST(:version AS text)"
)
# While two versions run side by side, the old one's failing must not stop the new one.
_READ = text(
    """
    SELECT scope, half_open_at, reason FROM breaker
    WHERE consumer = CAST(:consumer AS text) AND version = CAST(:version AS text)
    """
)
ALL = ""
"""The scope that is the whole consumer."""


@dataclass(slots=True)
class _Window:
    """Keys seen and keys newly parked, of late."""

    seen: deque[tuple[datetime, int]] = field(default_factory=deque)
    parked: dict[str, datetime] = field(default_factory=dict)

    def forget_before(self, moment: datetime) -> None:
        while self.seen and self.seen[0][0] < moment:
            self.seen.popleft()
        self.parked = {key: at for key, at in self.parked.items() if at >= moment}

    @property
    def keys(self) -> int:
        return sum(count for _, count in self.seen)


class Breaker:
    """One per consumer and worker; what is open is shared through the database."""

    def __init__(
        self, consumer: str, *, engine: AsyncEngine, clock: Clock, settings: RuntimeSettings, observer: Observer
    ) -> None:
        self._consumer = consumer
        self._engine = engine
        self._clock = clock
        self._settings = settings
        self._observer = observer
        self._windows: dict[str, _Window] = {}
        self._open: dict[str, datetime] = {}
        """Open scopes, and when each may be tried again."""
        self._tripped: dict[str, str] = {}
        self._trials: dict[str, _Window] = {}
        self.reason = ""

    @property
    def is_open(self) -> bool:
        return ALL in self._open

    def lets_through(self) -> bool:
        """Whether a batch may be tried now; where the breaker is open, this one decides."""
        if ALL not in self._open:
            return True
        if self._clock.now() < self._open[ALL]:
            return False
        self._trials[ALL] = _Window()
        self._observer.breaker(self._consumer, "half_open")
        return True

    def saw(self, items: Iterable[Item]) -> None:
        """Count the keys of a batch; records of an open scope are marked for quarantine."""
        now = self._clock.now()
        keys: dict[str, set[str]] = {}
        for item in items:
            scope = item.scope
            if scope in self._open and scope != ALL and item.fault is None:
                if now < self._open[scope]:
                    item.fault = _stopped(scope)
                    continue
                self._trials.setdefault(scope, _Window())
            keys.setdefault(scope, set()).add(item.key)
        for scope, seen in keys.items():
            for window in (self._windows.setdefault(scope, _Window()), self._trials.get(scope)):
                if window is not None:
                    window.seen.append((now, len(seen)))

    def about_to_park(self, item: Item) -> None:
        """Count a key that is to be parked; a scope that trips turns the record over to quarantine.

        **Errors**: BreakerOpenError when the share is too large: the transaction must not commit.
        """
        now, scope, settings = self._clock.now(), item.scope, self._settings
        if (trial := self._trials.get(scope)) is not None:
            trial.parked[item.key] = now
            # One bad key may be in any batch, however small.
            tripped = len(trial.parked) > max(1.0, settings.breaker_share * trial.keys)
        else:
            window = self._windows.setdefault(scope, _Window())
            window.forget_before(now - timedelta(seconds=settings.breaker_window_seconds))
            window.parked[item.key] = now
            tripped = window.keys >= settings.breaker_keys and len(window.parked) > settings.breaker_share * window.keys
        if not tripped and scope not in self._tripped:
            return
        kind = item.fault.reason if item.fault is not None else ""
        self._tripped[scope] = f"more than {settings.breaker_share:.0%} of the keys fail, the last by {kind}"
        if scope == ALL:
            raise BreakerOpenError(self._tripped[scope])
        item.fault = _stopped(scope)

    async def after_batch(self) -> None:
        """Write down what the last batch did to the breaker."""
        now = self._clock.now()
        trials, self._trials = self._trials, {}
        tripped, self._tripped = self._tripped, {}
        for scope, trial in trials.items():
            if scope in tripped or not trial.keys:
                continue
            if len(trial.parked) <= self._settings.breaker_share * trial.keys:
                await self.close(scope)
            else:
                tripped[scope] = "the trial was not clean"
        for scope, reason in tripped.items():
            half_open_at = now + timedelta(seconds=self._settings.breaker_half_open_seconds)
            self._open[scope] = half_open_at
            self._windows.pop(scope, None)
            self.reason = reason
            self._observer.breaker(self._consumer, "open")
            async with database.begin(self._engine) as connection:
                await connection.execute(
                    _OPEN,
                    {
                        "consumer": self._consumer,
                        "scope": scope,
                        "now": now,
                        "half_open_at": half_open_at,
                        "version": self._settings.version,
                        "reason": reason,
                    },
                )

    async def close(self, scope: str) -> None:
        async with database.begin(self._engine) as connection:
            await connection.execute(_CLOSE, {"consumer": self._consumer, "scope": scope})
        self._open.pop(scope, None)
        self._windows.pop(scope, None)
        self._observer.breaker(self._consumer, "closed")

    async def start(self) -> None:
        """Close what another version opened, take over what is open."""
        async with database.begin(self._engine) as connection:
            await connection.execute(_CLOSE_OTHER_VERSIONS, {"consumer": self._consumer, "version": self._settings.version})
        await self.refresh()

    async def refresh(self) -> None:
        """Learn what other workers opened and people closed."""
        async with database.begin(self._engine) as connection:
            rows = (await connection.execute(_READ, {"consumer": self._consumer, "version": self._settings.version})).all()
        was_open = self.is_open
        self._open = {row.scope: row.half_open_at for row in rows}
        self.reason = next((row.reason for row in rows if row.scope == ALL), "")
        if was_open and not self.is_open:
            self._windows.pop(ALL, None)
            self._observer.breaker(self._consumer, "closed")


def _stopped(scope: str) -> Fault:
    return Fault("breaker_open", f"too many records of {scope} fail: all of them are set aside")
