"""Chart of accounts, posting templates, periods: documents that administrators keep, a new version at each change."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from fastapi import Path, Query, Request, Response
from pydantic import BaseModel, Field, StringConstraints

from eventing import Runtime, UnitOfWork
from ledger import tables
from ledger.api.export import CSV, Format, csv_response, wants_csv
from ledger.domain.period import local_date, period_of
from ledger.domain.policy import Policy
from ledger.domain.template import COLLECTIONS, KNOWN_TERMS, Template, TemplateLine, faults_of
from ledger.store import setup as store
from ledger.store.setup import Account, postable_of
from webapi.callers import Admin, Viewer
from webapi.models import StrictModel, UtcTime
from webapi.operators import ManualReason, record_manual_act
from webapi.problems import FieldError, Problem
from webapi.routing import Router

router = Router(prefix="/v1")

AccountCode = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}(\.[0-9]{2,4}){0,4}$", max_length=32)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40)]
Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4)]
Period = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$")]
Collection = Literal["platform_escrow", "direct", "cash_on_delivery", "other"]
AccountType = Literal["asset", "liability", "common", "equity", "cost", "revenue", "expense"]
Direction = Literal["debit", "credit"]


class AccountBody(StrictModel):
    code: AccountCode = Field(description="`1122` or, below it, `1122.01`. Only accounts without others below are posted to.")
    name: Name
    english: Name
    type: AccountType
    direction: Direction = Field(description="The side on which the balance normally stands.")


class ChartBody(ManualReason):
    accounts: list[AccountBody] = Field(min_length=1, max_length=5000)
    replaces_version: int = Field(ge=1, description="The version you read: if it is no longer the latest, nothing is changed.")


class AccountView(BaseModel):
    code: str
    name: str
    english: str
    type: str
    direction: str
    postable: bool


class ChartView(BaseModel):
    version: int
    created_at: UtcTime
    created_by: str
    accounts: list[AccountView]


@router.get("/accounts", tags=["accounts"], summary="The chart of accounts")
async def get_accounts(request: Request, principal: Viewer) -> ChartView:
    async with runtime_of(request).work() as work:
        return await _chart_view(work)


@router.put("/accounts", tags=["accounts"], summary="Replace the chart of accounts")
async def put_accounts(body: ChartBody, request: Request, principal: Admin) -> ChartView:
    """Makes a new version of the whole chart. Accounts that have been posted to, or that a template uses, must stay."""
    accounts = [Account(**account.model_dump()) for account in body.accounts]
    async with runtime_of(request).work() as work:
        await store.take_gate(work.connection)
        before = await store.get_chart(work.connection)
        if before.version != body.replaces_version:
            raise Problem("chart_changed_meanwhile", status=409)
        used = await store.get_used_accounts(work.connection) | _accounts_of(await store.get_templates(work.connection))
        if errors := _chart_errors(accounts, before.accounts, used):
            raise Problem("chart_refused", status=422, errors=errors)
        version = before.version + 1
        await store.add_chart(work.connection, accounts, version=version, now=work.now, who=principal.name)
        await note(work, principal.name, "put_accounts", str(version), body.reason)
        return await _chart_view(work)


def _accounts_of(templates: Mapping[str, Sequence[Template]]) -> set[str]:
    return {line.account for versions in templates.values() for template in versions for line in template.lines}


def _chart_errors(accounts: Sequence[Account], before: Mapping[str, Account], used: set[str]) -> list[FieldError]:
    errors = []
    by_code: dict[str, Account] = {}
    for index, account in enumerate(accounts):
        if account.code in by_code:
            errors.append(FieldError(f"accounts.{index}.code", "account_twice"))
        by_code[account.code] = account
    for index, account in enumerate(accounts):
        parent = account.code.rpartition(".")[0]
        if parent and parent not in by_code:
            errors.append(FieldError(f"accounts.{index}.code", "account_has_no_parent", {"parent": parent}))
    postable = postable_of(by_code)
    for code in sorted(used):
        kept = by_code.get(code)
        same = kept is not None and (kept.type, kept.direction) == (before[code].type, before[code].direction)
        if not same or code not in postable:
            errors.append(FieldError("accounts", "account_in_use", {"account": code}))
    return errors


async def _chart_view(work: UnitOfWork) -> ChartView:
    chart = await store.get_chart(work.connection)
    accounts = [
        AccountView(**account._asdict(), postable=account.code in chart.postable)
        for account in sorted(chart.accounts.values(), key=lambda account: account.code)
    ]
    return ChartView(version=chart.version, created_at=chart.created_at, created_by=chart.created_by, accounts=accounts)


class WhenBody(StrictModel):
    collection: list[Collection] = Field(
        min_length=1, max_length=len(COLLECTIONS), description="Who holds the buyer's money; `other` is whatever is not named."
    )


class TemplateLineBody(StrictModel):
    account: AccountCode
    side: Direction
    amount: Annotated[str, StringConstraints(max_length=40)] = Field(
        description="paid | subsidy | receivable | tax | net_of_tax | cost | freight_estimate | residual | write_off,"
        " as far as the fact knows it"
    )
    per: Literal["order", "line"] = Field(default="order", description="One posting in all, or one per origin line.")
    when: WhenBody | None = Field(default=None, description="Post only then; always where there is none.")


class TemplateBody(ManualReason):
    name: Name = Field(description="Stands in the summary of every voucher.")
    word: Word = Field(default="记", description="The voucher word (记, 收, 付, 转); each word has numbers of its own.")
    valid_from: UtcTime | None = Field(default=None, description="From which event time on; at once where there is none.")
    lines: list[TemplateLineBody] = Field(min_length=2, max_length=100)


class WhenView(BaseModel):
    collection: list[str]


class TemplateLineView(BaseModel):
    account: str
    side: str
    amount: str
    per: str
    when: WhenView | None = None


class TemplateView(BaseModel):
    code: str
    version: int
    valid_from: UtcTime
    word: str
    name: str
    lines: list[TemplateLineView]


class TemplatesView(BaseModel):
    items: list[TemplateView]


TemplateCode = Annotated[
    str, Path(max_length=40, description="paid | shipped | delivered | refunded | …: GET /v1/templates lists all")
]


@router.get("/templates", tags=["templates"], summary="The newest version of every template")
async def list_templates(request: Request, principal: Viewer) -> TemplatesView:
    async with runtime_of(request).work() as work:
        templates = await store.get_templates(work.connection)
    return TemplatesView(items=[_template_view(versions[-1]) for _, versions in sorted(templates.items())])


@router.get("/templates/{code}", tags=["templates"], summary="All versions of a template, newest first")
async def get_template(code: TemplateCode, request: Request, principal: Viewer) -> TemplatesView:
    async with runtime_of(request).work() as work:
        versions = (await store.get_templates(work.connection)).get(code)
    if not versions:
        raise _no_template()
    return TemplatesView(items=[_template_view(template) for template in reversed(versions)])


@router.put("/templates/{code}", tags=["templates"], summary="Add a version of a template")
async def put_template(code: TemplateCode, body: TemplateBody, request: Request, principal: Admin) -> TemplateView:
    """Events from `valid_from` on are posted by it. It is accepted only if debits equal credits for every amount there can be
    and for each way of collecting the money: amounts are sums of base amounts, so this is proved, not probed."""
    if code not in KNOWN_TERMS:
        raise _no_template()
    lines = [
        TemplateLine(
            account=line.account,
            side=line.side,
            term=line.amount,
            per=line.per,
            collections=tuple(dict.fromkeys(line.when.collection)) if line.when else COLLECTIONS,
        )
        for line in body.lines
    ]
    async with runtime_of(request).work() as work:
        await store.take_gate(work.connection)
        valid_from = body.valid_from or work.now
        if valid_from < work.now:
            raise Problem("template_refused", status=422, errors=[FieldError("valid_from", "valid_from_in_the_past")])
        chart = await store.get_chart(work.connection)
        if faults := faults_of(code, lines, postable=chart.postable):
            errors = [FieldError(fault.field, fault.code, fault.params) for fault in faults]
            raise Problem("template_refused", status=422, errors=errors)
        versions = (await store.get_templates(work.connection)).get(code, [])
        template = Template.of(
            code=code, version=len(versions) + 1, valid_from=valid_from, word=body.word, name=body.name, lines=lines
        )
        await store.add_template(work.connection, template, now=work.now, who=principal.name)
        await note(work, principal.name, "put_template", f"{code}:{template.version}", body.reason)
    return _template_view(template)


def _no_template() -> Problem:
    return Problem("template_not_found", status=404, params={"known": ", ".join(KNOWN_TERMS)})


def _template_view(template: Template) -> TemplateView:
    lines = [
        TemplateLineView(
            account=line.account,
            side=line.side,
            amount=line.term,
            per=line.per,
            when=None if line.collections == COLLECTIONS else WhenView(collection=list(line.collections)),
        )
        for line in template.lines
    ]
    return TemplateView(
        code=template.code,
        version=template.version,
        valid_from=template.valid_from,
        word=template.word,
        name=template.name,
        lines=lines,
    )


class PolicyBody(ManualReason):
    recognition: Literal["delivered", "receipt_confirmed"] = Field(
        description="When revenue, output VAT and cost of sales are booked: when the carrier or the buyer says that the goods"
        " are there, or only when the buyer does."
    )
    damaged_value_bp: int = Field(ge=0, le=10_000, description="What damaged goods are still worth, of 10,000.")
    valid_from: UtcTime | None = Field(
        default=None, description="For orders paid from then on, and damage of then on; at once where there is none."
    )


class PolicyView(BaseModel):
    version: int
    """0: what every book begins with."""
    recognition: str
    damaged_value_bp: int
    valid_from: UtcTime | None


class PoliciesView(BaseModel):
    items: list[PolicyView]


@router.get("/policies", tags=["policies"], summary="All versions of the book's policy, newest first")
async def list_policies(request: Request, principal: Viewer) -> PoliciesView:
    async with runtime_of(request).work() as work:
        policies = await store.get_policies(work.connection, book_of(request))
    return PoliciesView(items=[_policy_view(policy) for policy in reversed(policies)])


@router.put("/policy", tags=["policies"], summary="Decide when revenue is recognised, and what damaged goods are worth")
async def put_policy(body: PolicyBody, request: Request, principal: Admin) -> PolicyView:
    """A new version. An order keeps the one that was in force when it was paid, so nothing that is booked changes."""
    book = book_of(request)
    async with runtime_of(request).work() as work:
        await store.take_gate(work.connection)
        valid_from = body.valid_from or work.now
        if valid_from < work.now:
            raise Problem("policy_refused", status=422, errors=[FieldError("valid_from", "valid_from_in_the_past")])
        versions = await store.get_policies(work.connection, book)
        policy = Policy(versions[-1].version + 1, valid_from, body.recognition, body.damaged_value_bp)
        await store.add_policy(work.connection, book, policy, now=work.now, who=principal.name)
        await note(work, principal.name, "put_policy", f"{book}:{policy.version}", body.reason)
    return _policy_view(policy)


def _policy_view(policy: Policy) -> PolicyView:
    return PolicyView(**policy._asdict() | {"valid_from": policy.valid_from if policy.version else None})


class PeriodView(BaseModel):
    period: str
    state: Literal["open", "closed"]
    vouchers: int
    closed_at: UtcTime | None = None
    closed_by: str | None = None
    reason: str | None = None


class PeriodsView(BaseModel):
    first_open_period: str | None
    """Everything before it is closed; what belongs there is posted here. None where nothing was ever closed."""
    items: list[PeriodView]


PeriodCode = Annotated[str, Path(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$", description="A month in China, `2026-11`.")]


@router.get("/periods", tags=["periods"], summary="Periods with vouchers, or closed, newest first", response_model=PeriodsView)
async def list_periods(
    request: Request,
    principal: Viewer,
    format: Annotated[Format | None, Query(description=CSV)] = None,  # noqa: A002  the parameter's public name
) -> PeriodsView | Response:
    async with runtime_of(request).work() as work:
        periods = await _periods_view(work, book_of(request))
    return csv_response(periods.items) if wants_csv(request, format) else periods


@router.post("/periods/{period}/close", tags=["periods"], summary="Close a period and all before it")
async def close_period(period: PeriodCode, body: ManualReason, request: Request, principal: Admin) -> PeriodsView:
    """Waits for postings in flight. What comes later for this period is posted to the next open one, its own date kept."""
    book = book_of(request)
    async with runtime_of(request).work() as work:
        current = period_of(local_date(work.now))
        if period > current:
            raise Problem("period_in_the_future", status=422, params={"current": current})
        await store.take_gate(work.connection)
        if period < await _first_open(work, book):
            raise Problem("period_already_closed", status=409)
        await store.add_closed_period(
            work.connection, book=book, period=period, now=work.now, who=principal.name, reason=body.reason
        )
        await note(work, principal.name, "close_period", f"{book}:{period}", body.reason)
        return await _periods_view(work, book)


@router.post("/periods/{period}/open", tags=["periods"], summary="Open the period that was closed last")
async def open_period(period: PeriodCode, body: ManualReason, request: Request, principal: Admin) -> PeriodsView:
    """What was posted to a later period meanwhile stays there: vouchers do not move."""
    book = book_of(request)
    async with runtime_of(request).work() as work:
        await store.take_gate(work.connection)
        closed = await store.find_last_closed(work.connection, book)
        if closed is None or period > closed:
            raise Problem("period_not_closed", status=409)
        if period < closed:
            raise Problem("later_period_closed", status=409, params={"latest": closed})
        await store.remove_closed_period(work.connection, book=book, period=period)
        await note(work, principal.name, "open_period", f"{book}:{period}", body.reason)
        return await _periods_view(work, book)


async def _first_open(work: UnitOfWork, book: str) -> str:
    return store.first_open_after(await store.find_last_closed(work.connection, book))


async def _periods_view(work: UnitOfWork, book: str) -> PeriodsView:
    first_open = await _first_open(work, book)
    items = [
        PeriodView(state="closed" if row["period"] < first_open else "open", **row)
        for row in await store.get_periods(work.connection, book)
    ]
    return PeriodsView(first_open_period=first_open or None, items=items)


def runtime_of(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def book_of(request: Request) -> str:
    book: str = request.app.state.settings.book
    return book


async def note(work: UnitOfWork, who: str, act: str, subject: str, why: str) -> None:
    await record_manual_act(work.connection, tables.manual_act, who=who, act=act, subject=subject, why=why, at=work.now)
