"""Ingest's decisions and the values they need: identity, money, arrival, address, book. Imports the standard library only."""
