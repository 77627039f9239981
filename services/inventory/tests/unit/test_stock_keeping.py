"""Documents against a plain model: damage, transfers, snapshots and short picks in any order, and nothing is lost."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inventory.domain.bundles import whole_sets
from inventory.domain.costs import StockValue
from inventory.domain.counts import Change, PlaceCount, PoolCount
from inventory.domain.documents import Act, Entry, ImpossibleCountError, book_in_turn, with_later
from inventory.domain.safety import SafetyRule, SafetyRules

SKU = "茶"
PLACES = (1, 2)
units = st.integers(1, 5)
places = st.sampled_from(PLACES)


class Warehouse(RuleBasedStateMachine):
    """`shelf`, `broken` and `road` are the plain model: units that can be touched, good, damaged and between places."""

    @initialize()
    def open(self) -> None:
        self.counts = {place: PlaceCount() for place in PLACES}
        self.pool = PoolCount()
        self.moved: dict[int, list[Change]] = {place: [] for place in PLACES}
        self.shelf: Counter[int] = Counter()
        self.broken: Counter[int] = Counter()
        self.road: list[tuple[int, int]] = []
        self.held = 0
        self.pinned: list[tuple[int, int]] = []
        self.snapshots: list[tuple[int, int, int]] = []

    def book(self, place: int, act: Act, quantity: int) -> Change:
        entry = Entry(1, SKU, act, quantity, "test")
        (booked,) = book_in_turn([entry], {SKU: self.counts[place]}, {SKU: self.pool})
        self.moved[place].append(booked.change)
        return booked.change

    def refused(self, place: int, act: Act, quantity: int) -> None:
        before = (replace(self.counts[place]), replace(self.pool))
        with pytest.raises(ImpossibleCountError):
            book_in_turn([Entry(1, SKU, act, quantity, "test")], {SKU: self.counts[place]}, {SKU: self.pool})
        assert before == (self.counts[place], self.pool)

    @rule(place=places, quantity=units)
    def goods_come(self, place: int, quantity: int) -> None:
        self.book(place, Act.ADD, quantity)
        self.shelf[place] += quantity

    @rule(place=places, quantity=st.integers(0, 9))
    def shelf_is_counted(self, place: int, quantity: int) -> None:
        self.book(place, Act.COUNT, quantity)
        self.shelf[place] = quantity

    @rule(place=places, quantity=units)
    def goods_break(self, place: int, quantity: int) -> None:
        if quantity > self.shelf[place]:
            self.refused(place, Act.DAMAGE, quantity)
            return
        self.book(place, Act.DAMAGE, quantity)
        self.shelf[place] -= quantity
        self.broken[place] += quantity

    @rule(place=places, quantity=units, act=st.sampled_from([Act.REPAIR, Act.SCRAP]))
    def damaged_goods_are_looked_at(self, place: int, quantity: int, act: Act) -> None:
        if quantity > self.broken[place]:
            self.refused(place, act, quantity)
            return
        self.book(place, act, quantity)
        self.broken[place] -= quantity
        self.shelf[place] += quantity if act is Act.REPAIR else 0

    @rule(place=places, quantity=units)
    def goods_are_sent(self, place: int, quantity: int) -> None:
        pinned = sum(wanted for at, wanted in self.pinned if at == place)
        everywhere = sum(self.shelf.values()) - self.held - sum(wanted for _, wanted in self.pinned)
        if quantity > min(self.shelf[place] - pinned, everywhere):
            self.refused(place, Act.SEND, quantity)
            return
        self.book(place, Act.SEND, quantity)
        self.shelf[place] -= quantity
        self.road.append((sum(PLACES) - place, quantity))

    @precondition(lambda self: self.road)
    @rule()
    def a_transfer_arrives(self) -> None:
        place, quantity = self.road.pop(0)
        self.book(place, Act.ARRIVE, quantity)
        self.shelf[place] += quantity

    @rule(place=places)
    def a_snapshot_is_taken(self, place: int) -> None:
        self.snapshots.append((place, self.shelf[place], len(self.moved[place])))

    @precondition(lambda self: self.snapshots)
    @rule()
    def a_snapshot_comes_late_and_changes_nothing(self) -> None:
        place, counted, watermark = self.snapshots.pop(0)
        later = sum(self.moved[place][watermark:], Change())
        (entry,) = with_later([Entry(1, SKU, Act.COUNT, counted, "test")], {SKU: (later.counted, later.damaged)})
        change = self.book(place, entry.act, entry.quantity)
        assert change == Change()

    @rule(quantity=units)
    def an_order_is_held(self, quantity: int) -> None:
        if quantity <= self.pool.promisable:
            self.pool.hold(quantity)
            self.held += quantity

    @precondition(lambda self: self.held)
    @rule(place=places)
    def a_hold_is_pinned(self, place: int) -> None:
        quantity = min(self.held, self.counts[place].available)
        if quantity > 0:
            self.moved[place].append(self.counts[place].allocate(quantity))
            self.held -= quantity
            self.pinned.append((place, quantity))

    @precondition(lambda self: self.pinned)
    @rule()
    def a_place_gives_units_back(self) -> None:
        place, quantity = self.pinned.pop(0)
        self.moved[place].append(self.counts[place].release(quantity))
        self.held += quantity

    @precondition(lambda self: self.pinned)
    @rule()
    def goods_leave(self) -> None:
        place, quantity = self.pinned[0]
        if quantity <= self.shelf[place]:
            self.pinned.pop(0)
            self.moved[place].append(self.counts[place].ship(quantity))
            self.shelf[place] -= quantity

    @invariant()
    def counts_are_what_can_be_touched(self) -> None:
        for place, count in self.counts.items():
            assert Change(count.on_hand, count.allocated, count.short, count.damaged) == sum(self.moved[place], Change())
            assert (count.counted, count.damaged) == (self.shelf[place], self.broken[place])
            assert count.allocated == sum(wanted for at, wanted in self.pinned if at == place)
            assert 0 <= count.allocated <= count.on_hand
            assert count.short >= 0

    @invariant()
    def every_unit_is_promised_once(self) -> None:
        promised = self.held + sum(wanted for _, wanted in self.pinned)
        assert self.pool.free - self.pool.overpromised == sum(self.shelf.values()) - promised
        assert self.pool.free == 0 or self.pool.overpromised == 0


TestWarehouse = Warehouse.TestCase
TestWarehouse.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@given(st.lists(st.tuples(units, st.integers(0, 999), st.integers(0, 5)), min_size=1, max_size=12))
def test_what_was_paid_is_what_left_and_what_is_there(deliveries: list[tuple[int, int, int]]) -> None:
    """Fails if the average loses or makes a fen: units leave at their cost, and the remainder stays with what is there."""
    value, paid, left_at, counted = StockValue(), 0, 0, 0
    for quantity, cost, leave in deliveries:
        value.receive(quantity, cost, counted=counted)
        paid += quantity * cost
        counted += quantity
        assert left_at + value.value_minor == paid
        leave = min(leave, counted - 1)  # The last unit takes the remainder along: what it left is booked by the next receipt.
        left_at += leave * value.unit_cost_minor
        counted -= leave


def test_the_most_special_safety_rule_counts() -> None:
    """Fails if a rule for all goods beats one for the SKU, or one for all places beats one for the place."""
    rules = SafetyRules(
        [
            SafetyRule(1),
            SafetyRule(2, place_id="a"),
            SafetyRule(3, category="tea"),
            SafetyRule(4, category="tea", place_id="a"),
            SafetyRule(5, sku_id="茶"),
            SafetyRule(6, sku_id="茶", place_id="a"),
            SafetyRule(7, sku_id="茶", place_id="a"),
        ]
    )
    asked = [("a", "茶"), ("b", "茶"), ("a", "红茶"), ("b", "红茶")]
    assert [rules.units(place_id=place, sku_id=sku, category="tea") for place, sku in asked] == [7, 5, 4, 3]
    assert [rules.units(place_id=place, sku_id="杯", category="cup") for place in "ab"] == [2, 1]
    assert SafetyRules([]).units(place_id="a", sku_id="茶", category="tea") == 0


def test_a_bundle_is_as_many_sets_as_its_scarcest_part_makes() -> None:
    assert whole_sets({"茶": 3, "杯": 1}, {"茶": 7, "杯": 9}) == 2
    assert whole_sets({"茶": 3, "杯": 1}, {"茶": 7}) == 0
