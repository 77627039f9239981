"""The stock-keeper's decisions, pure: what may be promised, what is offered to routing, where an order is pinned.

Imports the standard library only; no clock, no randomness, no I/O.
"""
