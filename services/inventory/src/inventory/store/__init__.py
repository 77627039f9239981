"""Every SQL statement of the service: arrays in, rows out, one statement per beat, locks sorted.

`orders`, then `stock` (pool rows, place rows, place days) is also the order in which their locks are taken.
"""
