"""What the restore drill decides without a stack: where groups go, what was lost, what a command line may say."""

from __future__ import annotations

import argparse

import pytest
from aiokafka import TopicPartition

from tools.drill.backup import password_of, without_password
from tools.drill.loss import lost
from tools.drill.reconcile import superseded
from tools.drill.rewind import moment, targets

A, B, C = (TopicPartition("order.received", number) for number in range(3))


def test_a_rewind_never_skips_what_was_not_read() -> None:
    """Fails when a group is moved forward, or moved where nothing came since."""
    assert targets({A: 10, B: 10, C: 10}, {A: 4, B: 12, C: None}) == {A: 4}


def test_rows_that_came_back_are_not_lost() -> None:
    """Fails when new rows hide lost ones, or a table that is gone whole counts as kept."""
    before: dict[str, set[tuple[str, ...]]] = {"voucher": {("1",), ("2",), ("3",)}, "hold": {("a",)}, "period": {("p",)}}
    assert lost(before, {"voucher": {("2",), ("8",), ("9",)}, "period": {("p",)}}) == {"hold": 1, "voucher": 2}


def test_a_voucher_posted_by_two_lives_is_superseded_once() -> None:
    """Fails when a resend counts, when the later voucher is struck out, or when two templates of one event are one."""
    common = {"book": "main", "period": "2026-01", "word": "记"}
    old = common | {"voucher_id": "a", "source": "/ledger", "number": 7, "template": "paid", "event_id": "e"}
    other = old | {"voucher_id": "b", "number": 8, "template": "shipped"}
    new = old | {"voucher_id": "c", "source": "/ledger/2", "number": 9}
    [void] = superseded([old, old, other, new, new])
    assert (void["voucher_id"], void["number"]) == ("a", 7)
    assert (void["replaced_by"], void["replaced_by_number"]) == ("c", 9)


def test_the_password_is_no_argument() -> None:
    """Fails when every user of the machine can read it in the process list."""
    url = "postgresql://oms:p%2Fw@127.0.0.1:5432/oms_router"
    assert without_password(url) == "postgresql://oms@127.0.0.1:5432/oms_router"
    assert password_of(url) == "p/w"


def test_a_moment_without_a_time_zone_is_refused() -> None:
    """Fails when local time is taken for UTC: the groups would go to another hour."""
    with pytest.raises(argparse.ArgumentTypeError):
        moment("2026-01-31T14:00:00")
    assert moment("2026-01-31T22:00:00+08:00").timestamp() == moment("2026-01-31T14:00:00Z").timestamp()
