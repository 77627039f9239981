"""The `http` connector: telling a WMS what to ship and what to stop, and what it answers at once.

A call first says in a transaction of its own that it is made (`submitted`, `told`), under the root's lock. So whatever is not
said to be told can be stopped for certain, and whatever is must be asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts import Receiver
from eventing import NewTask, Retry, Task, UnitOfWork
from fulfillment import label, store
from fulfillment.clients import Wms, WmsAnswer, WmsLine
from fulfillment.domain import (
    Claim,
    LineError,
    LineRef,
    Policy,
    RequestStatus,
    Status,
    answer,
    give_back,
    resolve,
    taken_on,
)
from fulfillment.handlers.desk import STOP, Desk
from fulfillment.handlers.goods import Goods

INSTRUCT = "instruct"
NO_ENDPOINT_SECONDS = 60.0  # A person has to set it up.
NOT_ACCEPTED_SECONDS = 2.0  # The instruction is on its way; a WMS answers within seconds.


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What came back for an order; `answer` is None where there was nothing to ask."""

    fulfilment_order_id: UUID
    answer: WmsAnswer | None
    claim: Claim | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Letter:
    endpoint: store.Endpoint
    now: datetime
    body: Mapping[str, Any]
    sealed: store.SealedReceiver | None = None
    claim: Claim | None = None


class WmsCalls:
    """The calls of the connector. `work` opens a unit of work."""

    def __init__(
        self,
        wms: Wms,
        work: Callable[[], AbstractAsyncContextManager[UnitOfWork]],
        *,
        keks: Mapping[str, bytes],
        policy: Policy,
    ) -> None:
        self._wms = wms
        self._work = work
        self._keks = keks
        self._policy = policy

    async def instruct(self, task: Task) -> Asked:
        """Tell the WMS of an order that it has not taken on yet; `again` in the payload: also of one that it has."""
        fulfilment_order_id = UUID(task.key)
        letter = await self._instruction(fulfilment_order_id, again=bool(task.payload.get("again")))
        if letter is None:
            return Asked(fulfilment_order_id=fulfilment_order_id, answer=None)
        body = dict(letter.body)
        if letter.sealed is not None:
            try:
                body["receiver"] = _receiver(label.open_receiver(letter.sealed, self._keks))
            except label.LabelError as error:
                if error.code == "receiver_erased":  # Nobody can ship it: it goes back as if the WMS had said no.
                    return Asked(fulfilment_order_id=fulfilment_order_id, answer=WmsAnswer(outcome="rejected"))
                raise Retry(NO_ENDPOINT_SECONDS, error.code) from None
        answered = await self._wms.post(letter.endpoint, "/orders", body, key=task.key, now=letter.now)
        return Asked(fulfilment_order_id=fulfilment_order_id, answer=answered)

    async def _instruction(self, fulfilment_order_id: UUID, *, again: bool) -> _Letter | None:
        async with self._work() as work:
            desk = await Desk.open(await store.roots_of_fulfilment_orders(work.connection, [fulfilment_order_id]), work)
            place = desk.place(fulfilment_order_id)
            if place is None or place.order.status is Status.ON_HOLD:
                return None
            order = place.order
            fresh = order.request_status in (RequestStatus.UNSUBMITTED, RequestStatus.SUBMITTED)
            if not fresh and not again:
                return None
            endpoint = await store.find_endpoint(work.connection, order.place_id)
            if endpoint is None:
                raise Retry(NO_ENDPOINT_SECONDS, "the place has no WMS any more")
            sealed = await store.find_receiver(work.connection, order.receiver_ref) if order.receiver_ref else None
            if order.receiver_ref and sealed is None:
                raise Retry(NOT_ACCEPTED_SECONDS, "the receiver is not here yet")
            if order.request_status is RequestStatus.UNSUBMITTED:
                desk.apply_order(order.asked(RequestStatus.SUBMITTED))
                await desk.save(policy=self._policy)
            goods = desk.goods[fulfilment_order_id]
            body = {
                "fulfilment_order_id": str(fulfilment_order_id),
                "order_id": str(order.order_id),
                "channel": goods.order.channel,
                "channel_order_no": goods.order.channel_order_no,
                "place_id": order.place_id,
                "carrier": order.carrier,
                "promised_on": order.promised_on and order.promised_on.isoformat(),
                "lines": _lines(goods, goods.units()),
                "receiver": None,
            }
            return _Letter(endpoint=endpoint, now=work.now, body=body, sealed=sealed)

    async def record_instructed(self, answers: Sequence[tuple[Task, Asked]], work: UnitOfWork) -> None:
        desk = await self._desk([asked for _, asked in answers], work)
        for _, asked in answers:
            place = desk.place(asked.fulfilment_order_id)
            if place is None:
                continue
            if asked.answer is None:
                if place.order.request_status is RequestStatus.UNSUBMITTED and place.order.status is not Status.ON_HOLD:
                    # Released while the call ran that found it on hold: a task of its own could not be added then.
                    work.add_tasks([NewTask(INSTRUCT, str(asked.fulfilment_order_id), work.now)])
            elif asked.answer.outcome == "rejected":
                effect = asked.answer.stock_effect
                desk.apply(give_back(place, desk.claims(), place.left, reason="wms_refused", stock_effect=effect))
            else:
                desk.apply(taken_on(place, desk.claims()))
        await desk.save(policy=self._policy)

    async def stop(self, task: Task) -> Asked:
        """Ask the WMS for the oldest stop that it has not heard of."""
        fulfilment_order_id = UUID(task.key)
        letter = await self._stop_letter(fulfilment_order_id)
        if letter is None or letter.claim is None:
            return Asked(fulfilment_order_id=fulfilment_order_id, answer=None)
        path = f"/orders/{fulfilment_order_id}/cancellation"
        answered = await self._wms.post(letter.endpoint, path, letter.body, key=str(letter.claim.stop_id), now=letter.now)
        return Asked(fulfilment_order_id=fulfilment_order_id, answer=answered, claim=letter.claim)

    async def _stop_letter(self, fulfilment_order_id: UUID) -> _Letter | None:
        async with self._work() as work:
            desk = await Desk.open(await store.roots_of_fulfilment_orders(work.connection, [fulfilment_order_id]), work)
            place = desk.place(fulfilment_order_id)
            claim = next((one for one in desk.claims_at(fulfilment_order_id) if one.open and not one.pending), None)
            if place is None or claim is None:
                return None
            if place.order.request_status is RequestStatus.SUBMITTED:
                raise Retry(NOT_ACCEPTED_SECONDS, "the WMS has not taken the order on yet")
            endpoint = await store.find_endpoint(work.connection, place.order.place_id)
            if endpoint is None:
                raise Retry(NO_ENDPOINT_SECONDS, "the place has no WMS any more")
            if not claim.told:
                claim = replace(claim, told=True)
                desk.put_claim(claim)
                await desk.save(policy=self._policy)
            goods = desk.goods[fulfilment_order_id]
            body = {
                "fulfilment_order_id": str(fulfilment_order_id),
                "stop_id": str(claim.stop_id),
                "lines": _lines(goods, claim.asked),
            }
            return _Letter(endpoint=endpoint, now=work.now, body=body, claim=claim)

    async def record_stopped(self, answers: Sequence[tuple[Task, Asked]], work: UnitOfWork) -> None:
        desk = await self._desk([asked for _, asked in answers], work)
        for _, asked in answers:
            place = desk.place(asked.fulfilment_order_id)
            if asked.answer is None or asked.claim is None or place is None:
                continue
            now_open = {one.request_id: one for one in desk.claims_at(asked.fulfilment_order_id) if one.open}
            claim = now_open.get(asked.claim.request_id)
            if claim is None:
                continue  # Its call-back was faster.
            if asked.answer.outcome in ("pending", "accepted"):
                desk.put_claim(replace(claim, pending=True))
            else:
                refs = [_ref(line) for line in asked.answer.lines] if asked.answer.outcome == "stopped" else []
                try:
                    units = resolve(refs, place.left)
                except LineError:
                    # What cannot be is not believed; a person resolves it, and the WMS may still call back.
                    desk.put_claim(replace(claim, pending=True))
                    detail = {"stop_id": str(claim.stop_id)}
                    await store.add_case(
                        work.connection, work.new_id(), place.order, kind="stop_not_understood", detail=detail, now=work.now
                    )
                    continue
                desk.apply(answer(place, desk.claims(), request_id=claim.request_id, stopped=units))
        # A stop that came while this call ran could not add a task of its own: one is open per order.
        work.add_tasks(
            NewTask(STOP, str(asked.fulfilment_order_id), work.now)
            for _, asked in answers
            if desk.place(asked.fulfilment_order_id) is not None
            and any(one.open and not one.pending for one in desk.claims_at(asked.fulfilment_order_id))
        )
        await desk.save(policy=self._policy)

    async def _desk(self, asked: Sequence[Asked], work: UnitOfWork) -> Desk:
        ids = [one.fulfilment_order_id for one in asked]
        return await Desk.open(await store.roots_of_fulfilment_orders(work.connection, ids), work)


def _lines(goods: Goods, units: Mapping[tuple[UUID, int, str], int]) -> list[dict[str, Any]]:
    titles = {(goods.order.order_id, line.line): line.title for line in goods.order.lines}
    return [
        {
            "origin_order_id": str(order_id),
            "origin_line": line,
            "sku_id": sku_id,
            "title": titles.get((order_id, line), ""),
            "quantity": units[order_id, line, sku_id],
        }
        for order_id, line, sku_id in sorted(units)
    ]


def _receiver(receiver: Receiver) -> dict[str, Any]:
    return receiver.model_dump(mode="json")


def _ref(line: WmsLine) -> LineRef:
    return LineRef(
        sku_id=line.sku_id,
        quantity=line.quantity,
        origin_order_id=line.origin_order_id,
        origin_line=line.origin_line,
    )
