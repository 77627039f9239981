"""The counts of one SKU, at one place and in one pool, and the only ways in which they change."""

from dataclasses import dataclass
from typing import NamedTuple


class StockError(Exception):
    """A change that the counts forbid. Reaching one is a fault of the caller: every decision looks first."""


class Change(NamedTuple):
    """What one movement does to the counts of a place; counts are the sum of these."""

    on_hand: int = 0
    allocated: int = 0
    short: int = 0
    damaged: int = 0

    @property
    def counted(self) -> int:
        """What it does to the units on the shelf."""
        return self.on_hand - self.short

    def __add__(self, other: tuple[int, ...]) -> "Change":  # type: ignore[override]  # Sums, where a tuple would append.
        return Change(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(slots=True)
class PlaceCount:
    """One SKU at one place: 0 ≤ allocated ≤ on_hand, short ≥ 0, damaged ≥ 0.

    `short` is what is promised to orders there and known not to be there: a count found less, or the till sold it. The
    units really on the shelf are `on_hand - short`; keeping the two apart lets `allocated ≤ on_hand` stay a hard check.
    `damaged` units lie there too, are not for sale and not in on_hand.
    """

    on_hand: int = 0
    allocated: int = 0
    short: int = 0
    damaged: int = 0

    @property
    def available(self) -> int:
        """Units that nobody was promised; below 0 where `short` exceeds what is free."""
        return self.on_hand - self.allocated - self.short

    @property
    def counted(self) -> int:
        """Units on the shelf; below 0 only where a till sold what the books did not know."""
        return self.on_hand - self.short

    def add(self, quantity: int) -> Change:
        """Goods came in; what is short is paid off first."""
        paid_off = min(self.short, quantity)
        return self._apply(Change(on_hand=quantity - paid_off, short=-paid_off))

    def remove(self, quantity: int) -> Change:
        """Goods are gone as a fact: free units first, the rest is booked as short."""
        taken = min(quantity, self.on_hand - self.allocated)
        return self._apply(Change(on_hand=-taken, short=quantity - taken))

    def move(self, quantity: int) -> Change:
        """Units that came (positive) or are gone (negative) as a fact."""
        return self.add(quantity) if quantity > 0 else self.remove(-quantity)

    def allocate(self, quantity: int) -> Change:
        if quantity > self.available:
            raise StockError(f"{quantity} to allocate, {self.available} available")
        return self._apply(Change(allocated=quantity))

    def ship(self, quantity: int) -> Change:
        if quantity > self.allocated:
            raise StockError(f"{quantity} to ship, {self.allocated} allocated")
        return self._apply(Change(on_hand=-quantity, allocated=-quantity))

    def release(self, quantity: int) -> Change:
        """Units that the place will not ship for their order; what is short is paid off with them first."""
        if quantity > self.allocated:
            raise StockError(f"{quantity} to release, {self.allocated} allocated")
        paid_off = min(self.short, quantity)
        return self._apply(Change(on_hand=-paid_off, allocated=-quantity, short=-paid_off))

    def damage(self, quantity: int) -> Change:
        """Good units turn out not to be for sale."""
        return self.remove(quantity) + self._apply(Change(damaged=quantity))

    def repair(self, quantity: int) -> Change:
        """Units that were not for sale are good after all."""
        return self.scrap(quantity) + self.add(quantity)

    def put_aside(self, quantity: int) -> Change:
        """Units came that are not for sale."""
        return self._apply(Change(damaged=quantity))

    def scrap(self, quantity: int) -> Change:
        if quantity > self.damaged:
            raise StockError(f"{quantity} to scrap, {self.damaged} damaged")
        return self._apply(Change(damaged=-quantity))

    def disprove(self) -> Change:
        """More has left the shelf than was counted on it: so much of `short` was wrong."""
        return self._apply(Change(short=-min(self.short, max(0, -self.counted))))

    def _apply(self, change: Change) -> Change:
        self.on_hand += change.on_hand
        self.allocated += change.allocated
        self.short += change.short
        self.damaged += change.damaged
        return change


@dataclass(slots=True)
class PoolCount:
    """One SKU in one pool: what may still be promised.

    free - overpromised = Σ available over the pool's places - Σ unpinned holds. Kept as one row, so that a promise locks
    one row; pinning a hold to a place changes both sums alike and need not touch it.
    """

    free: int = 0
    overpromised: int = 0
    """Promised beyond what is left, because goods vanished as a fact. Never together with free > 0."""
    waking: bool = False
    """More came in while orders wait: until the wake pass has run, new demand queues behind them."""
    safety: int = 0
    """Kept back by rule: not promised, though free."""

    @property
    def promisable(self) -> int:
        return max(0, self.free - self.safety)

    def add(self, quantity: int) -> None:
        paid_off = min(self.overpromised, quantity)
        self.overpromised -= paid_off
        self.free += quantity - paid_off

    def remove(self, quantity: int) -> None:
        taken = min(self.free, quantity)
        self.free -= taken
        self.overpromised += quantity - taken

    def move(self, quantity: int) -> None:
        if quantity > 0:
            self.add(quantity)
        else:
            self.remove(-quantity)

    def hold(self, quantity: int) -> None:
        if quantity > self.free:
            raise StockError(f"{quantity} to hold, {self.free} free")
        self.free -= quantity
