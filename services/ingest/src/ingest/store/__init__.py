"""Every SQL statement of ingest. Whole batches: arrays in, rows out. Locks: waited-for SKUs < root rows < order stages."""

from ingest.store import book, catalog, erasure, orders, requests

__all__ = ["book", "catalog", "erasure", "orders", "requests"]
