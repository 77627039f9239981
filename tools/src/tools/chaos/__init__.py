"""Faults brought into a running system under load, one after the other; after each, everything must drain and add up."""
