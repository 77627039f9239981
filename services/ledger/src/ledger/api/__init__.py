"""HTTP: `setup` (chart, templates, periods), `books` (vouchers, chain, flags), `reports` (balances, profit). No SQL here."""

from ledger.api import texts
from ledger.api.books import router as books_router
from ledger.api.reports import router as reports_router
from ledger.api.setup import router as setup_router

texts.register()
ROUTERS = (books_router, reports_router, setup_router)
