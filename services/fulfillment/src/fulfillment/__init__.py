"""Fulfilment: drives the place until the parcel leaves, numbers it, and follows it to the buyer."""

__version__ = "0.1.0"
