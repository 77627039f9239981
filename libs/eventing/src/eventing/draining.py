"""Draining the stash: what operators wish for and what missing facts set free, handled in order, by the same handlers.

Draining needs no inbox rows (parking has claimed them), so age does not matter. A key whose first record fails again stays,
with the new reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from eventing import database, parking
from eventing.batch import POISON, WAITING_FAULT, Outcome, Processor, halves
from eventing.errors import describe
from eventing.parking import Expectation, OpenKey
from eventing.reading import Fault, Item
from eventing.work import UnitOfWork


class Drainer:
    """Carries out the wishes of one consumer."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor

    async def drain(self, *, limit: int = 50) -> Outcome:
        """Retry or discard stashed keys, and quarantined records."""
        outcome = Outcome()
        await self._drain_keys(None, limit, outcome)
        await self._drain_quarantine(limit, outcome)
        return outcome

    async def _drain_keys(self, keys: list[str] | None, limit: int, outcome: Outcome, *, per_key: int = 0) -> None:
        per_key = per_key or parking.RECORDS_PER_KEY
        seen: list[str] = []

        async def attempt(cautious: set[str]) -> Outcome:
            seen.clear()
            return await self._drain_transaction(keys, limit, per_key, cautious, seen, {})

        try:
            outcome.add(await self._processor.repeat(attempt))
        except Exception as error:  # noqa: BLE001  whatever it is, it is judged
            await self._processor.raise_unless_poison(error, suspicious=False)
            failure = error
        else:
            return
        if not seen:
            raise failure  # Not a record's fault: it failed before one was read.
        if len(seen) > 1:
            for half in halves(seen):
                await self._drain_keys([key for key in seen if key in half], limit, outcome)
        elif per_key > 1:
            before = -1
            while before < len(outcome.handled):
                before = len(outcome.handled)
                await self._drain_keys(seen[:], limit, outcome, per_key=1)
        else:
            only, blamed = seen[:], {seen[0]: Fault(POISON, describe(failure))}
            outcome.add(
                await self._processor.repeat(lambda cautious: self._drain_transaction(only, limit, 1, cautious, [], blamed))
            )

    async def _drain_transaction(
        self, keys: list[str] | None, limit: int, per_key: int, cautious: set[str], seen: list[str], blamed: dict[str, Fault]
    ) -> Outcome:
        outcome, tools, name = Outcome(), self._processor.tools, self._processor.consumer.name
        async with database.begin(tools.engine) as connection:
            wished = await parking.lock_wished(connection, name, limit=limit, keys=keys)
            if not wished:
                return outcome
            retried = sorted(key for key, wish in wished.items() if wish == "retry")
            discarded = sorted(key for key, wish in wished.items() if wish == "discard")
            if discarded:
                await parking.discard(connection, name, discarded)
                outcome.discarded += len(discarded)
            records = await parking.load(connection, name, retried, per_key=per_key, sealer=tools.sealer)
            items = self._reread(records)
            seen.extend(retried)
            work = self._processor.begin_work(connection, items)
            work.has_transaction_id = True  # The locks on parked_key rows have one.
            await self._handle_stashed(items, retried, work, outcome, cautious, blamed, per_key)
            await work.flush()
            tools.crash.reach("before_commit")
        tools.crash.reach("after_commit")
        tools.committed(work)
        return outcome

    async def _handle_stashed(
        self,
        items: list[Item],
        keys: list[str],
        work: UnitOfWork,
        outcome: Outcome,
        cautious: set[str],
        blamed: dict[str, Fault],
        per_key: int,
    ) -> None:
        connection, name, now = work.connection, self._processor.consumer.name, work.now
        stopped: dict[str, OpenKey] = {}
        runnable: list[Item] = []
        running: dict[str, int] = {}
        for item in items:
            fault = item.fault or blamed.get(item.key)
            if item.key in stopped:
                continue
            if fault is not None:
                item.fault = fault
                stopped[item.key] = OpenKey(item.key, "parked", fault, item.record.topic)
                outcome.parked.append(item)
            elif item.key not in cautious or item.key not in running:
                running[item.key] = running.get(item.key, 0) + 1
                runnable.append(item)
        waiting, _ = await self._processor.run_handlers(runnable, work, outcome)
        expectations = [Expectation(answer.kind, answer.key, item.key) for item, answer in waiting]
        for item, answer in waiting:
            fault = Fault(WAITING_FAULT, f"waits for {answer.kind} {answer.key}")
            stopped[item.key] = OpenKey(item.key, "waiting", fault, item.record.topic)
        outcome.waiting += waiting
        # What was left out for care or for its number keeps its wish and comes next.
        work.woke_waiting = work.woke_waiting or any(
            key not in stopped and (key in cautious or running.get(key, 0) >= per_key) for key in keys
        )
        await parking.open_keys(connection, name, list(stopped.values()), now=now)
        handled = [item.stash_id for item in outcome.handled]
        await parking.settle(connection, name, keys, handled=handled, still=expectations)
        await parking.expect(connection, name, expectations, now=now)

    async def _drain_quarantine(self, limit: int, outcome: Outcome) -> None:
        """One record at a time: it is rare, and each has its own fate."""
        for _ in range(limit):
            tried: list[UUID] = []

            async def attempt(_: set[str], tried: list[UUID] = tried) -> tuple[bool, Outcome]:
                return await self._drain_quarantined(tried, None)

            try:
                found, part = await self._processor.repeat(attempt)
            except Exception as error:
                await self._processor.raise_unless_poison(error, suspicious=False)
                if not tried:
                    raise
                found, part = await self._drain_quarantined(tried, Fault(POISON, describe(error)))
            outcome.add(part)
            if not found:
                return

    async def _drain_quarantined(self, tried: list[UUID], blame: Fault | None) -> tuple[bool, Outcome]:
        outcome, tools, name = Outcome(), self._processor.tools, self._processor.consumer.name
        async with database.begin(tools.engine) as connection:
            records, discarded = await parking.lock_quarantine(connection, name, limit=1, sealer=tools.sealer)
            await parking.leave_quarantine(connection, discarded)
            outcome.discarded += len(discarded)
            items = self._reread(records)
            work = self._processor.begin_work(connection, items)
            for stashed, item in zip(records, items, strict=True):
                fault = (blame if stashed.id in tried else None) or item.fault
                tried.append(stashed.id)
                if fault is not None:
                    await parking.stay_in_quarantine(connection, {stashed.id: fault})
                    continue
                item.stash_id = None
                live = await self._processor.claim([item], work, outcome)
                await parking.leave_quarantine(connection, [stashed.id])
                await self._processor.handle(live, work, outcome, set())
            await work.flush()
        tools.committed(work)
        return bool(records or discarded), outcome

    def _reread(self, records: Iterable[parking.StashedRecord]) -> list[Item]:
        """Read stashed records again; a type that is no longer known is done with."""
        items: list[Item] = []
        for stashed in records:
            item = self._processor.reader.read(stashed.record, now=None, oldest=None)
            if item is None:
                any_route = self._processor.consumer.routes[0]
                item = Item(stashed.record, stashed.key, any_route, fault=Fault("unknown_type", "no handler knows the type"))
            item.stash_id = stashed.id
            item.key = stashed.key or item.key
            item.position = len(items)
            days = self._processor.tools.inbox_days()
            if item.received is not None and days is not None and item.received.day < days.oldest:
                item.claimable = False
            items.append(item)
        return items
