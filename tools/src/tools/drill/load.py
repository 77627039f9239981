"""What goes on while a database is backed up, lost and restored: orders over Kafka and HTTP, cancels, people at the holds."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import httpx

from tools.background import Background
from tools.bench.feeder import producer_of
from tools.bench.load import maker_of, records
from tools.client import ApiError, Clients
from tools.sample.goods import Good
from tools.stack import Stack

KAFKA_SECONDS, HTTP_SECONDS, CANCEL_SECONDS, RELEASE_SECONDS = 0.08, 0.5, 2.0, 1.0


class Load(Background):
    """`async with Load(stack, goods, run="A") as load:`; it goes on until the end of the block, or `stop`.

    ``odd=False``: no invalid, held or repeated orders over Kafka.
    """

    def __init__(self, stack: Stack, goods: list[Good], *, run: str, odd: bool = True) -> None:
        super().__init__()
        self._stack = stack
        self._over_kafka = records(maker_of(goods, run=f"K{run}"), odd=odd)
        self._over_http = maker_of(goods, run=f"H{run}")
        self._oms = Clients(stack.urls, stack.keys["admin"])
        self._uncancelled: list[str] = []
        self.pushed: list[tuple[float, dict[str, Any]]] = []
        """Orders that ingest acknowledged over HTTP, with the moment: a channel still has them, and can push them again."""
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """Calls without success: their callers know, and repeat them."""

    async def __aenter__(self) -> Self:
        self._begin(
            self._send(),
            self._every(HTTP_SECONDS, "order_pushed", self._push),
            self._every(CANCEL_SECONDS, "cancel_asked", self._cancel),
            self._every(RELEASE_SECONDS, "order_released", self._release),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._oms:
            await super().__aexit__(kind, error, trace)

    async def push_again(self, since: float) -> int:
        """As a channel's connector does that reads its shop's orders again from a moment on (seconds since the epoch)."""
        orders = [order for at, order in self.pushed if at >= since]
        for order in orders:
            await self._oms.post("ingest", "/v1/orders", {"orders": [order]})
        return len(orders)

    async def _send(self) -> None:
        async with producer_of(self._stack) as producer:
            waits = []
            while not self._stopped:
                record = next(self._over_kafka)
                waits.append(await producer.send(f"{self._stack.topic_prefix}channel.orders", record.body, key=record.key))
                self.done["order_sent"] += 1
                await asyncio.sleep(KAFKA_SECONDS)
            await asyncio.gather(*waits)

    async def _every(self, seconds: float, what: str, act: Callable[[], Awaitable[bool]]) -> None:
        while not self._stopped:
            try:
                self.done[what] += await act()
            except (ApiError, httpx.HTTPError):
                self.refused[what] += 1
            await asyncio.sleep(seconds)

    async def _push(self) -> bool:
        order = self._over_http.order()
        answer = await self._oms.post("ingest", "/v1/orders", {"orders": [order]})
        self.pushed.append((time.time(), order))
        self._uncancelled.append(answer["results"][0]["order_id"])
        return True

    async def _cancel(self) -> bool:
        if not self._uncancelled:
            return False
        await self._oms.post("ingest", f"/v1/orders/{self._uncancelled.pop()}/cancellation", {"reason": "buyer_asked"})
        return True

    async def _release(self) -> bool:
        page = await self._oms.get("audit", "/v1/holds", status="open", limit=1)
        for hold in page["items"]:
            await self._oms.post("audit", f"/v1/orders/{hold['order_id']}/release", {"reason": "drill: the buyer confirmed"})
        return bool(page["items"])
