"""Fulfilment over HTTP: parse, call, shape the answer; no SQL and no decision here."""

from fulfillment.api import orders, places, series, shipments, texts
from fulfillment.api.runtime import runtime_of

routers = [orders.router, shipments.router, series.router, places.router]

__all__ = ["routers", "runtime_of", "texts"]
