"""Choosing the place that ships: pure, so that a stored decision can be made again. Imports the standard library only."""

from router.domain.combining import TOO_MANY_PARCELS, combine, combined_values
from router.domain.decision import (
    PICK_UP,
    Decision,
    Finding,
    Flip,
    cheapest_flip,
    combined_gap,
    decide,
    runner_up_gap,
)
from router.domain.freight import FreightRow, FreightTables
from router.domain.need import Candidate, CombinedPlan, Need, Parcel, Plan, stock_after_pick
from router.domain.network import Network
from router.domain.place import Place
from router.domain.policy import CRITERIA, FILTERS, SPLITS, Policy
from router.domain.record import Record, is_reproduced, read_record, write_record

__all__ = [
    "CRITERIA",
    "FILTERS",
    "PICK_UP",
    "SPLITS",
    "TOO_MANY_PARCELS",
    "Candidate",
    "CombinedPlan",
    "Decision",
    "Finding",
    "Flip",
    "FreightRow",
    "FreightTables",
    "Need",
    "Network",
    "Parcel",
    "Place",
    "Plan",
    "Policy",
    "Record",
    "cheapest_flip",
    "combine",
    "combined_gap",
    "combined_values",
    "decide",
    "is_reproduced",
    "read_record",
    "runner_up_gap",
    "stock_after_pick",
    "write_record",
]
