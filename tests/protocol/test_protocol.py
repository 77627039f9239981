"""Cancels, withdrawals, returns, recalls and shipments in every order, decided by the services' own functions.

Small roots are walked through exhaustively; larger ones along many drawn paths, which a seed repeats.
"""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest

# importmode=importlib puts no test folder on the path.
sys.path.insert(0, str(Path(__file__).parent))
from world import LINE, Plan, World, cancelled_units, is_over, refused_units, start, steps

SMALL = {
    "one cancel of two units, two places": Plan(units=2, requests=(2,)),
    "two cancels of one unit each": Plan(units=2, requests=(1, 1), parcels=False),
    "a part cancel and a withdrawal": Plan(units=2, requests=(1,), withdrawals=1, parcels=False),
    "a cancel that meets a rejection": Plan(units=2, requests=(2,), rejections=1, parcels=False, holds=False),
    "a cancel that meets a short pick": Plan(units=2, requests=(1,), short_picks=1, splits=False, holds=False),
    "a cancel that meets a recall": Plan(units=2, requests=(1,), recalls=1, parcels=False, holds=False),
    "two orders merged, one unit of each cancelled": Plan(units=1, requests=(1, 1), merge=True, parcels=False),
    "two orders merged, one of them cancelled and kept": Plan(units=1, requests=(1,), withdrawals=1, merge=True, splits=False),
    "cancels of one unit, one after the other, at a WMS": Plan(units=2, requests=(1, 1), places=("wms",), holds=False),
}
LARGE = Plan(units=5, requests=(2, 1, 3), withdrawals=2, rejections=2, short_picks=2, recalls=2)
MERGED = replace(LARGE, units=3, requests=(2, 1, 1, 2), merge=True)
WALKS = 600


def check_end(world: World) -> None:
    """What must hold when no unit is anywhere any more."""
    requests = world.ingest.requests
    cancelled, refused = cancelled_units(world), refused_units(world)
    assert cancelled + world.shipped == world.plan.all_units, "a unit was lost, or both cancelled and shipped"
    assert all(request.is_answered for request in requests.values()), "a request was never answered"
    assert not world.inventory.pending, "a stop is still waited for"
    assert len(world.answers) == len(set(world.answers)) == len(world.stops), "a stop was not answered exactly once"
    assert not any(claim.open for claim in world.claims)
    withdrawn = [request for request in requests.values() if request.progress == "withdrawn"]
    assert world.revived == sum(sum(request.cancelled.values()) for request in withdrawn)
    if not withdrawn:
        assert refused <= world.shipped, "a unit was refused that did not ship"


@pytest.mark.parametrize("plan", SMALL.values(), ids=SMALL)
def test_every_interleaving_of_a_small_root_ends_well(plan: Plan) -> None:
    """Fails when any decision of the four services loses, doubles or wrongly refuses a unit in any order of events."""
    seen: set[bytes] = set()
    open_worlds = [start(plan)]
    ends = 0
    while open_worlds:
        world = open_worlds.pop()
        if (key := world.key()) in seen:
            continue
        seen.add(key)
        if is_over(world):
            ends += 1
            check_end(world)
        following = [after for _, after in steps(world)]
        assert following or is_over(world), "nothing can happen, and units are left"
        open_worlds += following
    assert ends > 1


@pytest.mark.parametrize("plan", [LARGE, MERGED], ids=["one order", "two orders merged"])
def test_long_lives_of_large_roots_end_well(plan: Plan) -> None:
    """Fails as the exhaustive test does, where it takes more units, requests and mishaps to see it. Prints the path."""
    ends = 0
    for seed in range(WALKS):
        draw = random.Random(seed)
        world, path = start(plan), []
        try:
            while not is_over(world) or world.asked < len(plan.requests):
                following = list(steps(world))
                if not following:
                    break
                name, world = draw.choice(following)
                path.append(name)
            assert is_over(world)
            check_end(world)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r} after {' · '.join(path)}") from error
        ends += cancelled_units(world) > 0
    assert ends > WALKS // 4, "hardly any walk cancelled something"


def test_a_refusal_is_seen() -> None:
    """Fails when the world above never comes to the interesting end: a cancel that is too late."""
    world = start(Plan(units=1, requests=(1,), holds=False, splits=False, places=("automatic",)))
    for wanted in ("clear", "reserve", "allocate to automatic", "take on", "ship", "ask 0", "audit spends"):
        world = dict(steps(world))[wanted]
    for wanted in ("inventory spends", "ask to stop", "hear the answer", "hear", "let go"):
        world = dict(steps(world))[wanted]
    line = next(iter(world.ingest.requests.values())).lines[LINE]
    assert (line.cancelled, line.refused, world.shipped) == (0, 1, 1)
    check_end(world)
