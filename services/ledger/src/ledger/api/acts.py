"""Vouchers that a person makes: reversals, and entries of their own."""

from datetime import date, datetime, time
from typing import Annotated
from uuid import UUID

from fastapi import Request, Response
from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from contracts.envelope import Currency
from ledger import tables
from ledger.api.books import VoucherView, load_voucher_view
from ledger.api.setup import AccountCode, Name, Word, book_of, note, runtime_of
from ledger.domain.chain import Content, Posting
from ledger.domain.period import BOOK_TIME, local_date
from ledger.domain.posting import DERIVED, REVERSAL
from ledger.handlers.by_hand import Original, post_manual, reverse
from ledger.handlers.posting import Bookkeeper
from ledger.store import reports
from ledger.store import setup as setup_store
from telemetry import mask_text
from webapi.callers import Operator
from webapi.idempotency import Once, StoredResponse
from webapi.models import StrictModel
from webapi.operators import ManualReason
from webapi.problems import FieldError, Problem
from webapi.routing import Router

router = Router(prefix="/v1")

Amount = Annotated[int, Field(ge=0, le=10**12)]
"""Ten billion yuan: 200 entries of it still fit into what a voucher's event can say, and thousands of them into a balance."""


@router.post(
    "/vouchers/{voucher_id}/reversal",
    tags=["vouchers"],
    summary="Reverse a voucher by a new one",
    status_code=201,
    response_model=VoucherView,
)
async def reverse_voucher(voucher_id: UUID, body: ManualReason, request: Request, once: Once, principal: Operator) -> Response:
    """The same entries on the other sides, dated today, once for ever. What the voucher told the accounts of its order is taken
    back too, so what follows from them is posted or taken back with it."""
    runtime, bookkeeper = runtime_of(request), Bookkeeper(book_of(request))
    async with runtime.work() as work:

        async def call() -> StoredResponse:
            row = await reports.find_voucher(work.connection, voucher_id)
            if row is None or row.book != bookkeeper.book:
                raise Problem("voucher_not_found", status=404)
            if row.template == REVERSAL:
                raise Problem("reversal_not_reversible", status=409)
            if row.template in DERIVED:
                raise Problem("voucher_is_derived", status=409, params={"order_id": str(row.order_id)})
            postings = (await reports.get_postings(work.connection, [voucher_id]))[voucher_id]
            content = Content(**{name: getattr(row, name) for name in Content._fields})
            reversal_id = await reverse(bookkeeper, Original(content, postings, row.word, row.number), work)
            if reversal_id is None:
                raise Problem("voucher_already_reversed", status=409)
            await note(work, principal.name, "reverse_voucher", str(voucher_id), body.reason)
            view = await load_voucher_view(work.connection, reversal_id)
            return StoredResponse(201, view.model_dump(mode="json"))

        stored = await once.run(work.connection, tables.idempotency_key, principal, call, now=work.now)
    return stored.response()


class ManualEntryBody(StrictModel):
    account: AccountCode
    debit_minor: Amount = 0
    credit_minor: Amount = 0

    @model_validator(mode="after")
    def _one_side(self) -> "ManualEntryBody":
        if (self.debit_minor > 0) == (self.credit_minor > 0):
            raise PydanticCustomError("entry_needs_one_side", "a debit or a credit")
        return self


class ManualVoucherBody(ManualReason):
    summary: Name
    word: Word = "记"
    currency: Currency = "CNY"
    dated: date | None = Field(default=None, description="Today where there is none; never after it.")
    entries: list[ManualEntryBody] = Field(min_length=2, max_length=200)

    @field_validator("summary")
    @classmethod
    def _names_nobody(cls, summary: str) -> str:
        # It goes out on a topic and into the chain, from which nothing can be erased.
        if mask_text(summary) != summary:
            raise PydanticCustomError("summary_is_personal", "personal data")
        return summary


@router.post("/vouchers", tags=["vouchers"], summary="Post a voucher by hand", status_code=201, response_model=VoucherView)
async def post_voucher(body: ManualVoucherBody, request: Request, once: Once, principal: Operator) -> Response:
    """For what no event calls for: settlements, the clearing of losses, accruals. It must balance, on accounts of the chart."""
    async with runtime_of(request).work() as work:
        today = local_date(work.now)
        if body.dated and not date(2000, 1, 1) <= body.dated <= today:
            raise Problem("voucher_refused", status=422, errors=[FieldError("dated", "day_out_of_range")])
        occurred_at = datetime.combine(body.dated, time(12), BOOK_TIME) if body.dated and body.dated < today else work.now

        async def call() -> StoredResponse:
            # Before the chart is read: what is postable now must be so when it is posted.
            await setup_store.share_gate(work.connection)
            postable = (await setup_store.get_chart(work.connection)).postable
            errors = [
                FieldError(f"entries.{index}.account", "account_not_postable", {"account": entry.account})
                for index, entry in enumerate(body.entries)
                if entry.account not in postable
            ]
            difference = sum(entry.debit_minor - entry.credit_minor for entry in body.entries)
            if difference:
                errors.append(FieldError("entries", "voucher_unbalanced", {"difference_minor": difference}))
            if errors:
                raise Problem("voucher_refused", status=422, errors=errors)
            voucher_id = await post_manual(
                Bookkeeper(book_of(request)),
                [Posting(entry.account, entry.debit_minor, entry.credit_minor) for entry in body.entries],
                word=body.word,
                summary=body.summary,
                currency=body.currency,
                occurred_at=occurred_at,
                work=work,
            )
            await note(work, principal.name, "post_voucher", str(voucher_id), body.reason)
            view = await load_voucher_view(work.connection, voucher_id)
            return StoredResponse(201, view.model_dump(mode="json"))

        stored = await once.run(work.connection, tables.idempotency_key, principal, call, now=work.now)
    return stored.response()
