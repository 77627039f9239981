"""HTTP: `setup` (chart, templates, policies, periods), `books` (vouchers, chain, flags), `acts` (vouchers by hand),
`accounts` (of an order), `reports` (balances, profit, receivables). No SQL here."""

from ledger.api import texts
from ledger.api.accounts import router as accounts_router
from ledger.api.acts import router as acts_router
from ledger.api.books import router as books_router
from ledger.api.reports import router as reports_router
from ledger.api.setup import router as setup_router

texts.register()
ROUTERS = (books_router, acts_router, accounts_router, reports_router, setup_router)
