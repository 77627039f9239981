"""Ingest over HTTP: parse, call, shape the answer; no SQL."""

from ingest.api import book, cases, orders, privacy, requests, tokens
from ingest.api.common import gateway_of, runtime_of
from ingest.api.gathering import Gathering
from ingest.api.orders import Backlog

ROUTERS = (orders.router, book.router, requests.router, cases.router, privacy.router, tokens.router)

__all__ = ["ROUTERS", "Backlog", "Gathering", "gateway_of", "runtime_of"]
