"""A steady load as outside systems bring it: they send again until they are told that it arrived."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Self

import httpx
from aiokafka.errors import KafkaError

from tools.background import Background
from tools.bench.feeder import producer_of
from tools.bench.load import Record, maker_of, record_of, records
from tools.client import ApiError, Clients
from tools.sample.goods import Good
from tools.stack import Stack

SHOP = "chaos"
"""The shop that faults of one shop are about."""
TICK_SECONDS, HTTP_SECONDS = 0.25, 0.5
SEND_SECONDS = 15.0
AGAIN_SECONDS = 0.5


class Feed(Background):
    """`async with Feed(stack, goods, run="1") as feed:` sends until `stop`.

    `duplicates`, `invalid` and `of_one_shop` (good orders of one shop more) are shares of what is sent on top; `invalid_shop`
    keeps the invalid ones to one shop.
    """

    def __init__(self, stack: Stack, goods: list[Good], *, run: str, per_second: float) -> None:
        super().__init__()
        self.duplicates = 0.0
        self.invalid = 0.0
        self.of_one_shop = 0.0
        self.invalid_shop: str | None = None
        self.sent = self.attempts = self.successes = 0
        """Records acknowledged by the broker; attempts and successes of the HTTP intake."""
        self.ships: dict[str, dict[str, int]] = {}
        """Good orders that arrived, by channel order number: units by SKU, which must ship."""
        self.paused = False
        self._stack, self._per_second = stack, per_second
        self._good = records(maker_of(goods, run=f"K{run}"), odd=False)
        self._bad_maker = maker_of(goods, run=f"B{run}")
        self._shop_maker = maker_of(goods, run=f"S{run}")
        self._over_http = maker_of(goods, run=f"H{run}")
        self._owed = {"duplicate": 0.0, "invalid": 0.0, "of_one_shop": 0.0}

    async def __aenter__(self) -> Self:
        self._begin(self._send(), self._push())
        return self

    def _next(self, count: int) -> Iterator[Record]:
        for _ in range(count):
            record = next(self._good)
            yield record
            for kind, share in (("duplicate", self.duplicates), ("invalid", self.invalid), ("of_one_shop", self.of_one_shop)):
                self._owed[kind] += share
                if self._owed[kind] >= 1:
                    self._owed[kind] -= 1
                    yield self._one_more(kind, record)

    def _one_more(self, kind: str, last: Record) -> Record:
        if kind == "duplicate":
            return last
        return self._wrong() if kind == "invalid" else record_of("good", self._shop_maker.order() | {"shop_id": SHOP})

    def _wrong(self) -> Record:
        order: dict[str, Any] = self._bad_maker.order()
        order["lines"][0]["quantity"] = -1
        if self.invalid_shop is not None:
            order["shop_id"] = self.invalid_shop
        return record_of("invalid", order)

    async def _send(self) -> None:
        began, due = time.monotonic(), 0
        while not self._stopped:
            wanted = int((time.monotonic() - began) * self._per_second)
            batch, due = [] if self.paused else list(self._next(wanted - due)), wanted
            while batch:
                batch = await self._deliver(batch)
            await asyncio.sleep(TICK_SECONDS)

    async def _deliver(self, batch: list[Record]) -> list[Record]:
        """What did not arrive, as far as the broker said."""
        topic = f"{self._stack.topic_prefix}channel.orders"
        try:
            async with asyncio.timeout(SEND_SECONDS), producer_of(self._stack) as producer:
                sent = [await producer.send(topic, record.body, key=record.key) for record in batch]
                told = await asyncio.gather(*sent, return_exceptions=True)
        except (KafkaError, OSError, TimeoutError):
            await asyncio.sleep(AGAIN_SECONDS)
            return batch
        left = [record for record, outcome in zip(batch, told, strict=True) if isinstance(outcome, BaseException)]
        unsure = {record.order_no for record in left}
        self.sent += len(batch) - len(left)
        self.ships |= {
            record.order_no: record.units for record in batch if record.kind == "good" and record.order_no not in unsure
        }
        return left

    async def _push(self) -> None:
        async with Clients(self._stack.urls, self._stack.keys["admin"]) as oms:
            while not self._stopped:
                if self.paused:
                    await asyncio.sleep(TICK_SECONDS)
                    continue
                order = self._over_http.order()
                while True:
                    self.attempts += 1
                    try:
                        await oms.post("ingest", "/v1/orders", order)
                    except (ApiError, httpx.HTTPError):
                        await asyncio.sleep(AGAIN_SECONDS)
                    else:
                        self.successes += 1
                        self.ships[order["channel_order_no"]] = record_of("good", order).units
                        break
                await asyncio.sleep(HTTP_SECONDS)
