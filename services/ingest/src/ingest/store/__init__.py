"""Every SQL statement of ingest. Whole batches: arrays in, rows out. Locks: waited-for SKUs < root rows < order stages."""

from ingest.store import book, catalog, orders

__all__ = ["book", "catalog", "orders"]
