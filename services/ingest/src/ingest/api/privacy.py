"""Personal data: its erasure."""

from __future__ import annotations

from uuid import UUID

from fastapi import Request
from pydantic import BaseModel

from ingest import store, tables
from ingest.api.book import detail_of
from ingest.api.common import gateway_of, runtime_of
from ingest.desk import find_first
from ingest.domain.arrival import State
from ingest.erasure import erase
from webapi.callers import Admin
from webapi.models import UtcTime
from webapi.operators import ManualReason, record_manual_act
from webapi.problems import Problem
from webapi.routing import Router
from webapi.texts import register_texts

router = Router(prefix="/v1", tags=["privacy"])

register_texts(
    {
        "erasure_too_early": (
            "The order is not finished. Its receiver is still needed; cancel it or wait, or send force to erase all the same.",
            "订单尚未完结。发货仍需收件人信息；请先取消或等待完结，或使用 force 强制擦除。",
        ),
        "erasure_of_unsent": (
            "The order waits in ingest. Cancel it first: it could not be sent without its receiver.",
            "订单仍停留在接单环节。请先取消：没有收件人信息就无法下发。",
        ),
    }
)


class ErasureRequest(ManualReason):
    force: bool = False
    """Erase an order that is not finished: nobody can print a label for it afterwards."""


class ErasureView(BaseModel):
    order_id: UUID
    erased_at: UtcTime
    receivers: int
    """Receivers that got a tombstone, earlier ones of a changed order among them."""


@router.post("/orders/{order_id}/erasure", summary="Destroy the personal data of one order")
async def erase_order(order_id: UUID, body: ErasureRequest, principal: Admin, request: Request) -> ErasureView:
    """Destroys the data key of the sealed original and of every receiver sent, and empties masks and tokens.

    Repeating it changes nothing, unless a newer version of the order has brought the person back. Fulfillment deletes its
    copies when it reads the tombstones. Records that are parked or quarantined are sealed and go with their retention.
    """
    async with runtime_of(request).work() as work:
        _, first = await find_first(work, order_id)
        rows = (await store.orders.lock_families(work, [first]))[first]
        if any(row.state is State.PARKED for row in rows):
            raise Problem("erasure_of_unsent", status=409)
        if not body.force and not (await detail_of(work, first)).finished and rows[0].sent_version is not None:
            raise Problem("erasure_too_early", status=409)
        done = await erase(first, rows, gateway_of(request).envelope, work)
        if done.is_new:
            await record_manual_act(
                work.connection,
                tables.manual_act,
                who=principal.name,
                act="erase_order",
                subject=str(first),
                why=body.reason,
                at=work.now,
                detail={"receivers": len(done.receiver_refs), "force": body.force},
            )
    return ErasureView(order_id=first, erased_at=done.erased_at, receivers=len(done.receiver_refs))
