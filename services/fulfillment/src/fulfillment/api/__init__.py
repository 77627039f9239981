"""Fulfilment over HTTP: parse, call, shape the answer; no SQL and no decision here."""

from fulfillment.api import carriers, cases, floor, orders, places, returns, series, shipments, texts, wms
from fulfillment.api.runtime import runtime_of

routers = [
    orders.router,
    floor.router,
    shipments.router,
    returns.router,
    series.router,
    carriers.router,
    places.router,
    cases.router,
    wms.router,
]

__all__ = ["routers", "runtime_of", "texts"]
