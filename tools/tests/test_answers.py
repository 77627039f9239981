"""Answers of places, told and kept: what a restored service tells again is no second answer."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from tools.coherence.checks.requests import REQUESTS
from tools.coherence.model import Sources, TopicRecord

UNITS = [["order", 1, "茶", 2]]
ANSWERS = next(check for check in REQUESTS if check.name == "stops_are_answered_once")


def told(number: int, source: str, *, stopped: int = 2) -> TopicRecord:
    line = {"origin_order_id": "order", "origin_line": 1, "sku_id": "茶", "stopped": stopped}
    body = {"request_id": "request", "root_id": "root", "lines": [line]}
    return TopicRecord(0, number, "order", "StopAnswered", str(number), source, b"", json.dumps(body).encode())


class Kept:
    """One answer in fulfillment, these records on the topic."""

    def __init__(self, *records: TopicRecord) -> None:
        self.told = list(records)
        self.topics = self

    async def records(self, topic: str) -> list[TopicRecord]:
        assert topic == "allocation.returned"
        return self.told

    async def rows(self, service: str, sql: str) -> list[Any]:
        assert service == "fulfillment"
        return [("root", "request", json.dumps(UNITS))] if "stop_request" in sql else []


@pytest.mark.parametrize(
    ("records", "findings"),
    [
        ([told(1, "/fulfillment")], 0),
        ([told(1, "/fulfillment"), told(1, "/fulfillment")], 0),
        ([told(1, "/fulfillment"), told(2, "/fulfillment/2")], 0),
        ([told(1, "/fulfillment"), told(2, "/fulfillment")], 1),
        ([told(1, "/fulfillment"), told(2, "/fulfillment/2", stopped=1)], 1),
        ([], 1),
    ],
)
async def test_each_life_of_a_service_answers_once_and_alike(records: list[TopicRecord], findings: int) -> None:
    """Fails when an answer told again after a restore is taken for a second one, or another answer for the same."""
    assert len(await ANSWERS.find(cast("Sources", Kept(*records)))) == findings
