"""Trial balance and profit: from balances and fact rows, never from the vouchers one by one."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Request, Response
from pydantic import BaseModel
from sqlalchemy import Row, column

from contracts.envelope import Code, Id
from ledger.api.export import CSV, Format, csv_page, csv_response, wants_csv
from ledger.api.setup import Period, book_of, runtime_of
from ledger.domain.period import local_date, period_of
from ledger.store import reports
from ledger.store import setup as setup_store
from ledger.store.reports import ProfitFilter
from ledger.store.setup import Chart
from webapi.callers import Viewer
from webapi.paging import Keyset, Page, Paging
from webapi.problems import FieldError, Problem
from webapi.routing import Router

router = Router(prefix="/v1")


class BalanceView(BaseModel):
    account: str
    account_name: str
    english: str
    type: str
    direction: str
    currency: str
    opening_minor: int
    """On the account's own side; negative where it stands on the other one. So is `closing_minor`."""
    debit_minor: int
    credit_minor: int
    closing_minor: int


class TotalsView(BaseModel):
    currency: str
    debit_minor: int
    credit_minor: int
    difference_minor: int
    """Debits minus credits of the period, and of all closing balances: anything but 0 is a fault of the books."""
    closing_difference_minor: int


class TrialBalanceView(BaseModel):
    book: str
    period: str | None
    as_of: date | None
    accounts: list[BalanceView]
    totals: list[TotalsView]


@router.get(
    "/trial-balance",
    tags=["reports"],
    summary="Opening, movement and closing of every account",
    response_model=TrialBalanceView,
)
async def get_trial_balance(
    request: Request,
    principal: Viewer,
    period: Annotated[Period | None, Query(description="The month whose movement is shown.")] = None,
    as_of: Annotated[date | None, Query(description="Only vouchers dated up to this day, within its month.")] = None,
    level: Annotated[
        int | None, Query(ge=1, le=5, description="1: 1122 with all below it; 2: 1122.01 …; all leaves else.")
    ] = None,
    format: Annotated[Format | None, Query(description=CSV)] = None,  # noqa: A002  the parameter's public name
) -> TrialBalanceView | Response:
    """Without either, everything ever posted. What is posted is in it at once."""
    if period and as_of and period_of(as_of) != period:
        raise Problem("invalid_request", status=422, errors=[FieldError("as_of", "as_of_outside_period")])
    async with runtime_of(request).work() as work:
        rows = await reports.get_trial_balance(
            work.connection, book_of(request), period=period, as_of=as_of, today=local_date(work.now)
        )
        chart = await setup_store.get_chart(work.connection)
    shown = _summed(rows, level) if level else rows
    balance = TrialBalanceView(
        book=book_of(request),
        period=period or (period_of(as_of) if as_of else None),
        as_of=as_of,
        accounts=[_balance_view(row, chart) for row in shown],
        totals=_totals(shown),
    )
    return csv_response(balance.accounts) if wants_csv(request, format) else balance


_SUMS = ("opening_minor", "debit_minor", "credit_minor", "closing_minor")


def _summed(rows: Sequence[Mapping[str, Any]], level: int) -> list[dict[str, Any]]:
    """Accounts below a level, added to the one above them there."""
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        account = ".".join(row["account"].split(".")[:level])
        whole = sums.setdefault(
            (account, row["currency"]), {"account": account, "currency": row["currency"], **dict.fromkeys(_SUMS, 0)}
        )
        for name in _SUMS:
            whole[name] += row[name]
    return list(sums.values())


def _balance_view(row: Mapping[str, Any], chart: Chart) -> BalanceView:
    account = chart.accounts[row["account"]]
    sign = 1 if account.direction == "debit" else -1
    return BalanceView(
        account=account.code,
        account_name=account.name,
        english=account.english,
        type=account.type,
        direction=account.direction,
        currency=row["currency"],
        opening_minor=sign * row["opening_minor"],
        debit_minor=row["debit_minor"],
        credit_minor=row["credit_minor"],
        closing_minor=sign * row["closing_minor"],
    )


def _totals(rows: Sequence[Mapping[str, Any]]) -> list[TotalsView]:
    totals = []
    for currency in sorted({row["currency"] for row in rows}):
        own = [row for row in rows if row["currency"] == currency]
        debit, credit = (sum(row[side] for row in own) for side in ("debit_minor", "credit_minor"))
        totals.append(
            TotalsView(
                currency=currency,
                debit_minor=debit,
                credit_minor=credit,
                difference_minor=debit - credit,
                closing_difference_minor=sum(row["closing_minor"] for row in own),
            )
        )
    return totals


class RecognisedView(BaseModel):
    quantity: int
    revenue_minor: int
    """Without tax."""
    refunds_minor: int
    """What of it was given back, before or after."""
    cost_minor: int
    gift_cost_minor: int
    """What of it went out for nothing."""
    returned_cost_minor: int
    """What of it came back, whatever it is worth then."""
    write_off_minor: int
    """What came back damaged is no longer worth."""
    freight_minor: int
    profit_minor: int


class EstimatedView(BaseModel):
    """Paid and not yet delivered nor given back. Cost and freight are known for what has been shipped."""

    quantity: int
    revenue_minor: int
    cost_minor: int
    freight_minor: int
    profit_minor: int
    revenue_without_cost_minor: int
    """The revenue inside it whose goods have not been shipped, so that their cost and freight are still missing."""


class ProfitView(BaseModel):
    key: str
    currency: str
    recognised: RecognisedView
    estimated: EstimatedView


class ProfitQuery(BaseModel):
    by: Literal["channel", "shop", "sku", "order", "day"] = "channel"
    from_day: Annotated[date, Query(alias="from", description="First day, in China.")] = date(1970, 1, 1)
    to_day: Annotated[date, Query(alias="to", description="Last day, in China.")] = date(9999, 12, 31)
    channel: Code | None = None
    shop_id: Id | None = None
    sku_id: Id | None = None
    order_id: UUID | None = None
    format: Annotated[Format | None, Query(description=CSV)] = None


_PROFIT = Keyset("profit", (column("key"), str), (column("currency"), str))


@router.get(
    "/profit",
    tags=["reports"],
    summary="Profit by channel, shop, SKU, order or day",
    response_model=Page[ProfitView],
)
async def get_profit(
    request: Request, paging: Paging, wanted: Annotated[ProfitQuery, Query()], principal: Viewer
) -> Page[ProfitView] | Response:
    """`recognised`: what deliveries of these days brought: revenue without tax, cost of sales, the carrier's freight.
    `estimated`: what orders *paid* on these days and not yet delivered are still to bring, from what is known now.
    The buyer's freight is revenue; by SKU it stands under `(freight)`."""
    if wanted.from_day > wanted.to_day:
        raise Problem("invalid_request", status=422, errors=[FieldError("from", "days_crossed")])
    after = _PROFIT.decode(paging.next)
    filters = ProfitFilter(**wanted.model_dump(exclude={"by", "format"}))
    async with runtime_of(request).work() as work:
        rows = await reports.get_profit(
            work.connection, wanted.by, filters, after=(after[0], after[1]) if after else None, limit=paging.limit + 1
        )
    page = _PROFIT.page(rows, paging, key=lambda row: (row.key, row.currency), item=_profit_view)
    return csv_page(page) if wants_csv(request, wanted.format) else page


def _profit_view(row: Row[Any]) -> ProfitView:
    return ProfitView(
        key=row.key,
        currency=row.currency,
        recognised=RecognisedView(
            quantity=row.quantity,
            revenue_minor=row.revenue_minor,
            refunds_minor=row.refunds_minor,
            cost_minor=row.cost_minor,
            gift_cost_minor=row.gift_cost_minor,
            returned_cost_minor=row.returned_cost_minor,
            write_off_minor=row.write_off_minor,
            freight_minor=row.freight_minor,
            profit_minor=row.revenue_minor
            - row.refunds_minor
            - (row.cost_minor - row.returned_cost_minor)
            - row.write_off_minor
            - row.freight_minor,
        ),
        estimated=EstimatedView(
            quantity=row.open_quantity,
            revenue_minor=row.open_revenue_minor,
            cost_minor=row.open_cost_minor,
            freight_minor=row.open_freight_minor,
            profit_minor=row.open_revenue_minor - row.open_cost_minor - row.open_freight_minor,
            revenue_without_cost_minor=row.uncosted_minor,
        ),
    )


class OwedView(BaseModel):
    key: str
    currency: str
    owed_minor: int
    up_to_7_days_minor: int
    """Of orders paid up to 7 days before `as_of`; then 8 to 30, 31 to 90, more."""
    up_to_30_days_minor: int
    up_to_90_days_minor: int
    older_minor: int


class OwedQuery(BaseModel):
    by: Literal["channel", "shop", "account"] = "channel"
    as_of: Annotated[date | None, Query(description="At the end of this day, in China; today where there is none.")] = None
    format: Annotated[Format | None, Query(description=CSV)] = None


_OWED = Keyset("receivables", (column("key"), str), (column("currency"), str))


@router.get(
    "/receivables",
    tags=["reports"],
    summary="What platforms, couriers and others owe us, by age",
    response_model=Page[OwedView],
)
async def get_receivables(
    request: Request, paging: Paging, wanted: Annotated[OwedQuery, Query()], principal: Viewer
) -> Page[OwedView] | Response:
    """The balance of 应收账款 from orders and their refunds. Settlements posted by hand stand under the empty channel."""
    after = _OWED.decode(paging.next)
    async with runtime_of(request).work() as work:
        rows = await reports.get_owed(
            work.connection,
            book_of(request),
            wanted.by,
            as_of=wanted.as_of or local_date(work.now),
            after=(after[0], after[1]) if after else None,
            limit=paging.limit + 1,
        )
    page = _OWED.page(rows, paging, key=lambda row: (row.key, row.currency), item=lambda row: OwedView(**row._asdict()))
    return csv_page(page) if wants_csv(request, wanted.format) else page
