"""Inventory over HTTP: the catalogue, stock and its movements, waiting and stuck orders."""

from inventory.api import catalogue, orders, stock
from webapi.routing import Router

router = Router()
for part in (catalogue, stock, orders):
    router.include_router(part.router)
