"""Choosing the place that ships: pure, so that a stored decision can be made again. Imports the standard library only."""

from router.domain.decision import (
    PICK_UP,
    Candidate,
    Decision,
    Finding,
    Need,
    Plan,
    decide,
    runner_up_gap,
)
from router.domain.freight import FreightRow, FreightTables
from router.domain.network import Network
from router.domain.place import Place
from router.domain.policy import CRITERIA, FILTERS, Policy
from router.domain.record import Record, is_reproduced, read_record, write_record

__all__ = [
    "CRITERIA",
    "FILTERS",
    "PICK_UP",
    "Candidate",
    "Decision",
    "Finding",
    "FreightRow",
    "FreightTables",
    "Need",
    "Network",
    "Place",
    "Plan",
    "Policy",
    "Record",
    "decide",
    "is_reproduced",
    "read_record",
    "runner_up_gap",
    "write_record",
]
