"""The local copy of the catalogue. Highest version of each SKU wins."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pydantic_core import from_json, to_json
from sqlalchemy import text

from contracts import CatalogItem
from eventing import UnitOfWork
from ingest.domain.bundles import Component


@dataclass(frozen=True, slots=True)
class Item:
    """What ingest needs to know of a SKU."""

    weight_grams: int
    tax_rate_bp: int
    bundle: tuple[Component, ...] = ()
    """Not empty: a bundle, which moves as these."""


_FIND_ITEMS = text(
    """
    SELECT sku_id, weight_grams, tax_rate_bp, bundle_parts FROM catalog_item
    WHERE sku_id = ANY(CAST(:skus AS text[])) AND NOT deleted
    """
)
_PUT_ITEMS = text(
    """
    INSERT INTO catalog_item (sku_id, version, deleted, weight_grams, tax_rate_bp, bundle_parts)
    SELECT * FROM unnest(
        CAST(:skus AS text[]), CAST(:versions AS bigint[]), CAST(:deleted AS boolean[]),
        CAST(:weights AS integer[]), CAST(:rates AS integer[]), CAST(:bundles AS text[])
    )
    ON CONFLICT (sku_id) DO UPDATE SET
        version = excluded.version, deleted = excluded.deleted,
        weight_grams = excluded.weight_grams, tax_rate_bp = excluded.tax_rate_bp, bundle_parts = excluded.bundle_parts
    WHERE catalog_item.version < excluded.version
    """
)


async def find_items(work: UnitOfWork, skus: Collection[str]) -> dict[str, Item]:
    """The items the catalogue has; SKUs it lacks are missing from the answer."""
    if not skus:
        return {}
    rows = await work.connection.execute(_FIND_ITEMS, {"skus": list(skus)})
    return {sku_id: Item(weight, rate, _bundle(parts) if parts else ()) for sku_id, weight, rate, parts in rows}


async def put_items(work: UnitOfWork, items: Sequence[CatalogItem]) -> None:
    """Keep the highest version of each SKU, whatever order they come in."""
    highest: dict[str, CatalogItem] = {}
    for item in items:
        known = highest.get(item.sku_id)
        if known is None or known.version < item.version:
            highest[item.sku_id] = item
    newest = [highest[sku_id] for sku_id in sorted(highest)]
    await work.connection.execute(
        _PUT_ITEMS,
        {
            "skus": [item.sku_id for item in newest],
            "versions": [item.version for item in newest],
            "deleted": [item.deleted for item in newest],
            "weights": [item.weight_grams for item in newest],
            "rates": [item.tax_rate_bp for item in newest],
            "bundles": [
                to_json([(part.sku_id, part.quantity, part.price_weight) for part in item.bundle_parts]).decode()
                if item.bundle_parts
                else ""
                for item in newest
            ],
        },
    )


def _bundle(parts: str) -> tuple[Component, ...]:
    return tuple(Component(*part) for part in from_json(parts))
