"""What a newer version of a sent order asks for."""

from dataclasses import replace
from typing import Any

import pytest

from ingest.domain.versions import Difference, Line, Version, compare

LINES = (Line(1, "A", 3, money=(300, 300, 30)), Line(2, "B", 1, money=(50, 50, 5)))
TOLD = Version("to_ship", is_closed=False, lines=LINES, receiver="x", notes="", money=(0, 0, 0), dispatch=(), other=())


def the(line: int, **changes: Any) -> list[Line]:
    return [replace(given, **changes) if given.number == line else given for given in LINES]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Difference()),
        ({"is_closed": True, "trade_state": "cancelled"}, Difference(closes=True)),
        ({"lines": the(1, quantity=2)}, Difference(lower={1: 2})),
        ({"lines": the(1, quantity=4)}, Difference(fields=("lines",))),
        ({"lines": the(1, sku_id="Z")}, Difference(lower={1: 0}, fields=("lines",))),
        ({"lines": LINES[:1]}, Difference(lower={2: 0}, fields=("money",))),
        ({"lines": [*LINES, Line(3, "C", 1)]}, Difference(fields=("lines",))),
        ({"lines": the(1, money=(290, 290, 29))}, Difference(fields=("money",))),
        ({"lines": the(1, dispatch="later")}, Difference(fields=("dispatch",))),
        ({"lines": the(1, refund_state="approved_wait_return")}, Difference(lower={1: 0}, taken_back=frozenset({1}))),
        (
            {"lines": the(1, refund_state="refunded", refund_id="R-1", money=(0, 0, 0))},
            Difference(lower={1: 0}, taken_back=frozenset({1}), refunds={1: "R-1"}),
        ),
        ({"lines": the(1, refund_state="applied")}, Difference(fields=("other",))),
        ({"receiver": "y", "notes": "n"}, Difference(fields=("receiver", "note"))),
        ({"money": (1, 1, 0)}, Difference(fields=("money",))),
        ({"trade_state": "shipped"}, Difference(is_shipped=True)),
        ({"trade_state": "finished"}, Difference(is_received=True)),
    ],
)
def test_each_difference_asks_for_what_it_means(changes: dict[str, Any], expected: Difference) -> None:
    """Fails when a version makes nobody stop what the buyer no longer wants, or asks for what nobody changed."""
    assert compare(TOLD, replace(TOLD, **changes)) == expected


def test_what_a_version_said_before_is_not_said_again() -> None:
    """Fails when each later version of a closed, received or refunded order closes, confirms or refunds once more."""
    closed = replace(TOLD, is_closed=True, trade_state="finished", lines=the(1, refund_state="refunded", refund_id="R-1"))
    assert compare(closed, replace(closed, trade_state="signed")) == Difference()
