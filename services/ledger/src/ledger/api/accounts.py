"""An order's accounts per origin line: what was paid, recognised, refunded, shipped and returned, and why it is not closed."""

from uuid import UUID

from fastapi import Request
from pydantic import BaseModel

from ledger.api.setup import book_of, runtime_of
from ledger.domain.account import LineAccount, Units, accounts_of
from ledger.store import books, reports
from webapi.callers import Viewer
from webapi.problems import Problem, language_of
from webapi.routing import Router
from webapi.texts import Language, render

router = Router(prefix="/v1")


class MoneyView(BaseModel):
    net_minor: int
    tax_minor: int


class GoodsView(BaseModel):
    quantity: int
    cost_minor: int


class OpenView(BaseModel):
    """Why a line is not closed."""

    code: str
    """order_not_posted | liability_open | goods_out"""
    text: str
    amount_minor: int


class LineAccountView(BaseModel):
    origin_order_id: UUID
    origin_line: int
    """0: the buyer's freight."""
    sku_ids: list[str]
    currency: str
    paid: MoneyView
    """Changes included."""
    recognised: MoneyView
    refunded: MoneyView
    taken_off_revenue: MoneyView
    """Of what was refunded, what had been recognised."""
    shipped: GoodsView
    sold: GoodsView
    returned: GoodsView
    lost: GoodsView
    liability_minor: int
    """What the buyer still has coming, tax included."""
    goods_out_minor: int
    """Cost of what was shipped, and is neither sold, lost nor back."""
    closed: bool
    open: list[OpenView]


class OrderVoucherView(BaseModel):
    voucher_id: UUID
    order_id: UUID
    period: str
    word: str
    number: int
    template: str
    total_minor: int


class OrderAccountsView(BaseModel):
    order_id: UUID
    closed: bool
    """Nothing is owed to the buyer, and nothing is out."""
    lines: list[LineAccountView]
    vouchers: list[OrderVoucherView]
    """Of all orders that carry these lines, oldest first; at most 500."""


@router.get("/orders/{order_id}/accounts", tags=["reports"], summary="An order's accounts, and why it is not closed")
async def get_order_accounts(order_id: UUID, request: Request, principal: Viewer) -> OrderAccountsView:
    """By origin line, whichever orders its units moved in: of a part or a merged order, the whole lines it took from."""
    async with runtime_of(request).work() as work:
        origins = await reports.get_origins(work.connection, order_id)
        accounts = await books.get_origin_facts(work.connection, origins)
        vouchers = await reports.get_origin_vouchers(work.connection, book_of(request), origins)
    if not accounts and not vouchers:
        raise Problem("order_not_posted", status=404)
    language = language_of(request)
    lines = []
    for (origin_order_id, currency), account in sorted(accounts.items(), key=lambda item: str(item[0])):
        paid = any(fact.phase == "paid" for fact in account.facts)
        for number, line in accounts_of(account.facts).items():
            skus = sorted({fact.sku_id for fact in account.facts if fact.origin_line == number and fact.sku_id})
            lines.append(_line_view(origin_order_id, number, skus, currency, line, paid=paid, language=language))
    return OrderAccountsView(
        order_id=order_id,
        closed=all(line.closed for line in lines),
        lines=lines,
        vouchers=[OrderVoucherView(**row._asdict()) for row in vouchers],
    )


def _line_view(
    origin_order_id: UUID, number: int, skus: list[str], currency: str, line: LineAccount, *, paid: bool, language: Language
) -> LineAccountView:
    liability = line.liability.net + line.liability.tax
    amounts = {"order_not_posted": 0 if paid else 1, "liability_open": liability, "goods_out": line.goods_out}
    reasons = [
        OpenView(
            code=code,
            text=render(code, language=language, params={"amount": _major(amount)}),
            amount_minor=0 if code == "order_not_posted" else amount,
        )
        for code, amount in amounts.items()
        if amount and (paid or code != "liability_open")
    ]
    return LineAccountView(
        origin_order_id=origin_order_id,
        origin_line=number,
        sku_ids=skus,
        currency=currency,
        paid=_money(line.paid),
        recognised=_money(line.recognised),
        refunded=_money(line.refunded),
        taken_off_revenue=_money(line.recognition_overlap),
        shipped=_goods(line.shipped),
        sold=GoodsView(quantity=line.recognised.quantity, cost_minor=line.recognised.cost - line.cost_overlap.cost),
        returned=_goods(line.returned),
        lost=GoodsView(quantity=line.lost.quantity, cost_minor=line.lost.cost - line.loss_overlap.cost),
        liability_minor=liability,
        goods_out_minor=line.goods_out,
        closed=not reasons,
        open=reasons,
    )


def _money(units: Units) -> MoneyView:
    return MoneyView(net_minor=units.net, tax_minor=units.tax)


def _goods(units: Units) -> GoodsView:
    return GoodsView(quantity=units.quantity, cost_minor=units.cost)


def _major(minor: int) -> str:
    return f"{'-' if minor < 0 else ''}{abs(minor) // 100:,}.{abs(minor) % 100:02d}"
