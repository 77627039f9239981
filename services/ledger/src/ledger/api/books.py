"""Vouchers as they stand in the books, the chain that guards them, and what a person should look at."""

import asyncio
from datetime import date, datetime
from itertools import takewhile
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Request, Response
from pydantic import BaseModel
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts import text_of
from contracts.envelope import Code, Id
from ledger import tables
from ledger.api.export import CSV, Format, csv_page, wants_csv
from ledger.api.setup import AccountCode, Period, book_of, runtime_of
from ledger.domain.chain import Link, Posting, Verifier
from ledger.domain.posting import REVERSAL
from ledger.store import reports
from ledger.store import setup as setup_store
from ledger.store.reports import VoucherFilter
from ledger.store.setup import Chart
from webapi.callers import Viewer
from webapi.models import UtcTime
from webapi.paging import Keyset, Page, Paging
from webapi.problems import FieldError, Problem, language_of
from webapi.routing import Router
from webapi.texts import Language

router = Router(prefix="/v1")


class PostingView(BaseModel):
    account: str
    account_name: str
    debit_minor: int
    credit_minor: int
    origin_order_id: UUID | None = None
    origin_line: int | None = None


class VoucherView(BaseModel):
    voucher_id: UUID
    book: str
    period: str
    word: str
    number: int
    posted_on: date
    """Its date in the books. Later than `occurred_on` where that period was closed already."""
    occurred_on: date
    occurred_at: UtcTime
    template: str
    template_version: int
    event_id: UUID
    root_id: UUID
    order_id: UUID
    shipment_id: UUID | None
    channel: str
    shop_id: str
    currency: str
    total_minor: int
    summary: str
    recorded_at: UtcTime
    hash: str
    reverses: UUID | None = None
    """The voucher that this one reverses."""
    reversed_by: UUID | None = None
    entries: list[PostingView]


class VoucherQuery(BaseModel):
    order_id: UUID | None = None
    template: Annotated[str | None, Query(max_length=40)] = None
    period: Period | None = None
    word: Annotated[str | None, Query(max_length=4)] = None
    account: Annotated[AccountCode | None, Query(description="With all accounts below it.")] = None
    from_day: Annotated[date | None, Query(alias="from", description="First date in the books.")] = None
    to_day: Annotated[date | None, Query(alias="to", description="Last date in the books.")] = None
    channel: Code | None = None
    shop_id: Id | None = None
    min_total_minor: Annotated[int | None, Query(ge=0, le=10**15)] = None
    max_total_minor: Annotated[int | None, Query(ge=0, le=10**15)] = None
    q: Annotated[str | None, Query(min_length=1, max_length=64, description="In the summary: a channel order number.")] = None
    sort: Literal["number", "-number"] = "-number"
    format: Annotated[Format | None, Query(description="`csv`, or the header `Accept: text/csv`: a row per entry.")] = None


_COLUMNS = (
    (tables.voucher_number.c.period, str),
    (tables.voucher_number.c.word, str),
    (tables.voucher_number.c.number, int),
)
_ORDERS = {
    "number": Keyset("vouchers.number", *_COLUMNS),
    "-number": Keyset("vouchers.number", *_COLUMNS, descending=True),
}


@router.get(
    "/vouchers",
    tags=["vouchers"],
    summary="Vouchers with their entries, newest number first",
    response_model=Page[VoucherView],
)
async def list_vouchers(
    request: Request, paging: Paging, wanted: Annotated[VoucherQuery, Query()], principal: Viewer
) -> Page[VoucherView] | Response:
    """Sorted by period, word and number; `sort=number` begins with the oldest."""
    if wanted.from_day and wanted.to_day and wanted.from_day > wanted.to_day:
        raise Problem("invalid_request", status=422, errors=[FieldError("from", "days_crossed")])
    low, high = wanted.min_total_minor, wanted.max_total_minor
    if low is not None and high is not None and low > high:
        raise Problem("invalid_request", status=422, errors=[FieldError("min_total_minor", "totals_crossed")])
    keyset = _ORDERS[wanted.sort]
    after = keyset.after(keyset.decode(paging.next))
    filters = VoucherFilter(**wanted.model_dump(exclude={"sort", "format"}))
    async with runtime_of(request).work() as work:
        rows = await reports.find_vouchers(
            work.connection, book_of(request), filters, after=after, order_by=keyset.order_by, limit=paging.limit + 1
        )
        shown = [row.voucher_id for row in rows[: paging.limit]]
        postings = await reports.get_postings(work.connection, shown)
        reversals = await reports.get_reversals(work.connection, shown)
        chart = await setup_store.get_chart(work.connection)
    page = keyset.page(
        rows,
        paging,
        key=lambda row: (row.period, row.word, row.number),
        item=lambda row: _voucher_view(row, postings[row.voucher_id], chart, reversals.get(row.voucher_id)),
    )
    return csv_page(page, rows_in="entries") if wants_csv(request, wanted.format) else page


@router.get("/vouchers/{voucher_id}", tags=["vouchers"], summary="One voucher")
async def get_voucher(voucher_id: UUID, request: Request, principal: Viewer) -> VoucherView:
    async with runtime_of(request).work() as work:
        return await load_voucher_view(work.connection, voucher_id)


async def load_voucher_view(connection: AsyncConnection, voucher_id: UUID) -> VoucherView:
    row = await reports.find_voucher(connection, voucher_id)
    if row is None:
        raise Problem("voucher_not_found", status=404)
    postings = await reports.get_postings(connection, [voucher_id])
    reversals = await reports.get_reversals(connection, [voucher_id])
    return _voucher_view(row, postings[voucher_id], await setup_store.get_chart(connection), reversals.get(voucher_id))


def _voucher_view(row: Row[Any], postings: list[Posting], chart: Chart, reversed_by: UUID | None) -> VoucherView:
    entries = [
        PostingView(
            account=posting.account,
            account_name=chart.accounts[posting.account].name,
            debit_minor=posting.debit_minor,
            credit_minor=posting.credit_minor,
            origin_order_id=posting.origin_order_id,
            origin_line=posting.origin_line,
        )
        for posting in postings
    ]
    values = {name: value for name, value in row._asdict().items() if name != "content_hash"} | {"hash": row.hash.hex()}
    reverses = row.event_id if row.template == REVERSAL else None
    return VoucherView(**values, reverses=reverses, reversed_by=reversed_by, entries=entries)


class BreakView(BaseModel):
    code: str
    """voucher_changed | voucher_missing | voucher_unexpected | link_changed | link_missing | head_changed"""
    period: str
    word: str
    link_no: int
    number: int | None
    voucher_id: UUID | None


class ChainView(BaseModel):
    holds: bool
    """Of what was checked in this call: see `next`."""
    vouchers_checked: int
    links_checked: int
    first_break: BreakView | None = None
    next: str | None = None
    """There is more to check: call again with it."""


_CHAIN_CURSOR = Keyset(
    "chain", (tables.chain_link.c.period, str), (tables.chain_link.c.word, str), (tables.chain_link.c.link_no, int)
)
_LINKS_AT_ONCE = 64
_VOUCHERS_AT_ONCE = 500
"""Rows in hand: some 30 ms of reading them, in which the process does nothing else. Hashes are computed in a thread."""


@router.get("/chain/verify", tags=["vouchers"], summary="Check that nobody has changed the books")
async def verify_chain(
    request: Request,
    principal: Viewer,
    period: Annotated[Period | None, Query(description="Only this period; all where there is none.")] = None,
    vouchers: Annotated[int, Query(ge=1, le=200_000, description="About how many to check in one call.")] = 50_000,
    next: Annotated[str | None, Query(max_length=500)] = None,  # noqa: A002  the parameter's public name
) -> ChainView:
    """Computes every hash again from the stored vouchers, and every link from them. Names the first one that does not hold.

    Checks what the books held when the call began; postings go on meanwhile.
    """
    book = book_of(request)
    resume = _CHAIN_CURSOR.decode(next) or ("", "", 0)
    seen = ChainView(holds=True, vouchers_checked=0, links_checked=0)
    async with runtime_of(request).work() as work:
        for chain in await reports.get_chains(work.connection, book, period=period, start=resume[:2]):
            verifier = Verifier()
            if resume[2] and (chain.period, chain.word) == resume[:2]:
                verifier = Verifier(await reports.find_link(work.connection, book, chain, resume[2]))
            found = None
            while found is None and (
                links := await reports.get_links(work.connection, book, chain, after=verifier.links, limit=_LINKS_AT_ONCE)
            ):
                first = verifier.vouchers + 1
                links = _first_of(links, last=verifier.vouchers + min(_VOUCHERS_AT_ONCE, vouchers - seen.vouchers_checked))
                numbered = await reports.get_numbered(work.connection, book, chain, first=first, last=links[-1].last_number)
                before = verifier.links, verifier.vouchers
                found = await asyncio.to_thread(verifier.check_links, links, numbered)
                seen.links_checked += verifier.links - before[0]
                seen.vouchers_checked += verifier.vouchers - before[1]
                if found is None and seen.vouchers_checked >= vouchers and verifier.links < chain.head.link_no:
                    seen.next = _CHAIN_CURSOR.encode((chain.period, chain.word, verifier.links))
                    return seen
            found = found or verifier.check_head(chain.head)
            if found is not None:
                seen.holds = False
                seen.first_break = BreakView(period=chain.period, word=chain.word, **found._asdict())
                return seen
    return seen


def _first_of(links: list[Link], *, last: int) -> list[Link]:
    """The first one at least, however many vouchers it has."""
    return list(takewhile(lambda link: link.last_number <= last, links)) or links[:1]


class FlagView(BaseModel):
    flag_id: UUID
    code: str
    text: str
    params: dict[str, Any]
    event_id: UUID
    template: str
    order_id: UUID
    flagged_at: UtcTime


_FLAGS = Keyset("flags", (tables.posting_flag.c.flagged_at, datetime), (tables.posting_flag.c.flag_id, UUID), descending=True)


@router.get(
    "/flags",
    tags=["vouchers"],
    summary="What was posted, or not, in a way that a person should look at",
    response_model=Page[FlagView],
)
async def list_flags(
    request: Request,
    paging: Paging,
    principal: Viewer,
    code: Annotated[str | None, Query(max_length=40, description="content_changed | cost_unknown | unknown_value")] = None,
    order_id: UUID | None = None,
    format: Annotated[Format | None, Query(description=CSV)] = None,  # noqa: A002  the parameter's public name
) -> Page[FlagView] | Response:
    after = _FLAGS.after(_FLAGS.decode(paging.next))
    async with runtime_of(request).work() as work:
        rows = await reports.find_flags(
            work.connection, code=code, order_id=order_id, after=after, order_by=_FLAGS.order_by, limit=paging.limit + 1
        )
    language = language_of(request)
    page = _FLAGS.page(rows, paging, key=lambda row: (row.flagged_at, row.flag_id), item=lambda row: _flag_view(row, language))
    return csv_page(page) if wants_csv(request, format) else page


def _flag_view(row: Row[Any], language: Language) -> FlagView:
    text = text_of(row.code, row.params, chinese=language == "zh")
    return FlagView(**{name: value for name, value in row._asdict().items() if name != "content_hash"}, text=text)
