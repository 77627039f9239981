"""The decisions together, driven at random against a plain model: nothing oversold, nobody waiting while a unit is left."""

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inventory.domain.allocation import Plan, Routed, choose_in_turn
from inventory.domain.counts import Change, PlaceCount, PoolCount
from inventory.domain.reservation import Demand, Held, Split, hold_again, reserve_in_turn, wake_in_turn

SKUS = ("茶", "杯")
PLACES = (1, 2, 3)
POOL = "main"
units = st.integers(1, 4)
baskets = st.dictionaries(st.sampled_from(SKUS), units, min_size=1)


class Stockroom(RuleBasedStateMachine):
    """What the handlers do, without a database; `owned` is the plain model: units on the shelf, by SKU."""

    @initialize()
    def open(self) -> None:
        self.places = {(sku, place): PlaceCount() for sku in SKUS for place in PLACES}
        self.pool = {(sku, POOL): PoolCount() for sku in SKUS}
        self.moved: dict[tuple[str, int], list[Change]] = {key: [] for key in self.places}
        self.owned: Counter[str] = Counter()
        self.waiting: dict[UUID, dict[str, int]] = {}
        self.held: dict[UUID, dict[str, int]] = {}
        self.pinned: dict[UUID, tuple[int, dict[str, int]]] = {}
        self.number = 0

    @rule(wanted=st.lists(baskets, min_size=1, max_size=4))
    def orders_come(self, wanted: list[dict[str, int]]) -> None:
        demands = []
        for basket in wanted:
            self.number += 1
            demands.append(Demand(UUID(int=self.number), POOL, basket))
        for demand, outcome in zip(demands, reserve_in_turn(demands, self.pool), strict=True):
            (self.held if isinstance(outcome, Held) else self.waiting)[demand.order_id] = dict(demand.wanted)

    @rule(basket=baskets)
    def an_order_of_a_shop_that_splits_comes(self, basket: dict[str, int]) -> None:
        self.number += 2
        ids = UUID(int=self.number - 1), UUID(int=self.number)
        (outcome,) = reserve_in_turn([Demand(ids[0], POOL, basket, splits=True)], self.pool)
        if isinstance(outcome, Split):
            self.held[ids[0]] = outcome.held
            self.waiting[ids[1]] = {line.sku_id: line.missing for line in outcome.short}
            assert Counter(outcome.held) + Counter(self.waiting[ids[1]]) == Counter(basket)
        else:
            (self.held if isinstance(outcome, Held) else self.waiting)[ids[0]] = basket

    @precondition(lambda self: self.held)
    @rule(draw=st.data())
    def a_held_order_is_cancelled(self, draw: st.DataObject) -> None:
        wanted = self.held.pop(draw.draw(st.sampled_from(sorted(self.held))))
        self.free(wanted)

    @precondition(lambda self: self.pinned)
    @rule(draw=st.data(), effect=st.sampled_from(["none", "missing", "nothing_left", "damaged"]))
    def a_place_gives_an_order_back(self, draw: st.DataObject, effect: str) -> None:
        order_id = draw.draw(st.sampled_from(sorted(self.pinned)))
        place, wanted = self.pinned.pop(order_id)
        for sku, quantity in wanted.items():
            count = self.places[sku, place]
            change = count.release(quantity)
            match effect:
                case "missing":
                    lost = count.remove(quantity)
                case "nothing_left":
                    lost = count.remove(max(0, count.on_hand - count.allocated))
                case "damaged":
                    lost = count.damage(quantity)
                case _:
                    lost = Change()
            self.moved[sku, place].append(change + lost)
            self.owned[sku] += lost.counted
            self.pool[sku, POOL].move(lost.counted)
        before = {sku: self.pool[sku, POOL].overpromised for sku in wanted}
        if isinstance(hold_again(Demand(order_id, POOL, wanted), self.pool), Held):
            assert not any(before.values())
            self.held[order_id] = wanted
        else:
            self.waiting[order_id] = wanted
            self.wake(wanted)

    @rule()
    def the_youngest_holds_are_given_up(self) -> None:
        for sku in SKUS:
            for order_id in sorted(self.held, reverse=True):
                if self.pool[sku, POOL].overpromised and sku in self.held[order_id]:
                    self.waiting[order_id] = self.held.pop(order_id)
                    self.free(self.waiting[order_id])

    def free(self, wanted: dict[str, int]) -> None:
        for sku, quantity in wanted.items():
            self.pool[sku, POOL].add(quantity)
        self.wake(wanted)

    def wake(self, skus: Iterable[str]) -> None:
        for sku in skus:
            if self.pool[sku, POOL].free and any(sku in wanted for wanted in self.waiting.values()):
                self.pool[sku, POOL].waking = True

    @rule(sku=st.sampled_from(SKUS), place=st.sampled_from(PLACES), quantity=units)
    def goods_come(self, sku: str, place: int, quantity: int) -> None:
        self.owned[sku] += quantity
        self.moved[sku, place].append(self.places[sku, place].add(quantity))
        self.pool[sku, POOL].add(quantity)
        if self.pool[sku, POOL].free and any(sku in wanted for wanted in self.waiting.values()):
            self.pool[sku, POOL].waking = True

    @rule(sku=st.sampled_from(SKUS), place=st.sampled_from(PLACES), quantity=units)
    def goods_vanish(self, sku: str, place: int, quantity: int) -> None:
        quantity = min(quantity, self.places[sku, place].counted)
        if quantity > 0:
            self.owned[sku] -= quantity
            self.moved[sku, place].append(self.places[sku, place].remove(quantity))
            self.pool[sku, POOL].remove(quantity)

    @rule()
    def orders_wake(self) -> None:
        demands = [Demand(order_id, POOL, wanted) for order_id, wanted in sorted(self.waiting.items())]
        for outcome in wake_in_turn(demands, self.pool):
            if isinstance(outcome, Held):
                self.held[outcome.order_id] = self.waiting.pop(outcome.order_id)
        for level in self.pool.values():
            level.waking = False

    @precondition(lambda self: self.held)
    @rule(draw=st.data())
    def orders_are_pinned(self, draw: st.DataObject) -> None:
        orders = [
            Routed(order_id, wanted, [Plan(place, "sf", 0, 1) for place in draw.draw(st.permutations(PLACES))])
            for order_id, wanted in self.held.items()
        ]
        free = {key: count.available for key, count in self.places.items()}
        for choice in choose_in_turn(orders, free, dict.fromkeys(PLACES, 3)):
            wanted = self.held.pop(choice.order_id)
            place = next(order for order in orders if order.order_id == choice.order_id).plans[choice.plan].place_no
            for sku, quantity in wanted.items():
                self.moved[sku, place].append(self.places[sku, place].allocate(quantity))
            self.pinned[choice.order_id] = (place, wanted)

    @precondition(lambda self: self.pinned)
    @rule()
    def the_oldest_leaves(self) -> None:
        place, wanted = self.pinned[min(self.pinned)]
        if any(self.places[sku, place].short for sku in wanted):
            return  # What is short cannot be packed.
        del self.pinned[min(self.pinned)]
        for sku, quantity in wanted.items():
            self.owned[sku] -= quantity
            self.moved[sku, place].append(self.places[sku, place].ship(quantity))

    @invariant()
    def counts_are_the_sum_of_movements(self) -> None:
        for key, count in self.places.items():
            assert Change(count.on_hand, count.allocated, count.short, count.damaged) == sum(self.moved[key], Change())

    @invariant()
    def every_unit_is_promised_once(self) -> None:
        for sku in SKUS:
            here = [count for (of, _), count in self.places.items() if of == sku]
            pool = self.pool[sku, POOL]
            held = sum(wanted.get(sku, 0) for wanted in self.held.values())
            pinned = sum(wanted.get(sku, 0) for _, wanted in self.pinned.values())
            assert sum(count.counted for count in here) == self.owned[sku]
            assert sum(count.allocated for count in here) == pinned
            assert self.owned[sku] - pinned - held == pool.free - pool.overpromised
            assert pool.free == 0 or pool.overpromised == 0
            assert all(0 <= count.allocated <= count.on_hand and count.short >= 0 for count in here)

    @invariant()
    def nobody_waits_while_a_unit_is_left_unless_he_is_being_woken(self) -> None:
        for wanted in self.waiting.values():
            covered = all(self.pool[sku, POOL].free >= quantity for sku, quantity in wanted.items())
            assert not covered or any(self.pool[sku, POOL].waking for sku in wanted)


TestStockroom = Stockroom.TestCase
TestStockroom.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
