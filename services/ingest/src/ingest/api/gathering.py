"""Orders that come one by one are taken together: what arrives while a transaction runs goes into the next one.

A transaction costs the same for one order as for a hundred, so single requests are as cheap as batches where there are many,
and wait for nobody where there are few. Each still gets its own durable answer: after the commit, and alone where it fails.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from eventing import Runtime, current_trace
from ingest.intake import Arrival, Gateway, Outcome

MOST = 100
"""Orders of one transaction: beyond that the cost of each is flat, and the first waits for the last."""
AT_ONCE = 2
"""Transactions: one computes while the other waits for its commit."""


class _Waiting(NamedTuple):
    arrival: Arrival
    trace: str | None
    answer: asyncio.Future[Outcome]


class Gathering:
    """Gathers the orders of concurrent requests of one process."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def take(self, arrival: Arrival, runtime: Runtime, gateway: Gateway) -> Outcome:
        """Take one order in, with whichever others wait. **Errors**: those of its own transaction."""
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(arrival, current_trace(), answer))
        if len(self._running) < AT_ONCE:
            # A task of its own: a caller that hangs up takes only its own answer along.
            task = asyncio.create_task(self._run(runtime, gateway))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await answer

    async def _run(self, runtime: Runtime, gateway: Gateway) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
            try:
                await _take(batch, runtime, gateway)
            except Exception as error:  # noqa: BLE001  handed to whoever caused it
                if len(batch) == 1:
                    _fail(batch, error)
                else:
                    await _take_apart(batch, runtime, gateway)
            except BaseException as error:
                _fail(batch, error)
                raise


async def _take(batch: Sequence[_Waiting], runtime: Runtime, gateway: Gateway) -> None:
    traces = {str(one.arrival.order_id): one.trace for one in batch if one.trace is not None}
    async with runtime.work(traces=traces) as work:
        outcomes = await gateway.take([one.arrival for one in batch], work)
    for one, outcome in zip(batch, outcomes, strict=True):
        if not one.answer.done():  # Whoever hung up has cancelled it.
            one.answer.set_result(outcome)


async def _take_apart(batch: Sequence[_Waiting], runtime: Runtime, gateway: Gateway) -> None:
    for one in batch:
        try:
            await _take([one], runtime, gateway)
        except Exception as error:  # noqa: BLE001  handed to whoever caused it
            _fail([one], error)


def _fail(batch: Sequence[_Waiting], error: BaseException) -> None:
    for one in batch:
        if not one.answer.done():
            one.answer.set_exception(error)
