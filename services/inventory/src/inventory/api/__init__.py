"""Inventory over HTTP: the catalogue, stock and its movements, waiting and stuck orders."""

from inventory.api import catalogue, documents, incoming, orders, policies, snapshots, stock
from webapi.routing import Router

router = Router()
for part in (catalogue, stock, documents, incoming, snapshots, policies, orders):
    router.include_router(part.router)
