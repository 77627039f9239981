"""For the tests of services: a fake bus, a harness on a real Postgres, a clock and ids of one's own."""

from eventing.testing.bus import FakeBus
from eventing.testing.harness import Harness, Received, Result, install
from eventing.testing.values import FakeClock, PlainSealer, SeededIds

__all__ = ["FakeBus", "FakeClock", "Harness", "PlainSealer", "Received", "Result", "SeededIds", "install"]
