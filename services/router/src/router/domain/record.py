"""A decision as it is kept: its inputs and what came of each candidate, short enough for one row per decision."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from router.domain.decision import Decision, Finding, decide
from router.domain.need import Candidate, Need, Parcel, Plan
from router.domain.network import Network

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Record:
    """Together with `decided_at` and the versions it names, all that the decision depended on."""

    need: Need
    candidates: tuple[Candidate, ...]
    decision: Decision


def write_record(need: Need, candidates: Sequence[Candidate], decision: Decision) -> str:
    """Policy and freight version stand in columns beside it."""
    return json.dumps(
        [
            FORMAT,
            [
                need.region_code,
                need.latitude,
                need.longitude,
                need.skus,
                need.wanted,
                need.weights_grams,
                need.values_minor,
                need.wanted_carrier,
                need.pick_up_place_id,
                sorted(need.excluded),
                need.forced,
                None if need.ship_before is None else need.ship_before.isoformat(),
            ],
            # A finding repeats the candidate's place_no; what else the candidate tells follows it.
            [(*finding, left, *free) for finding, (_, left, free) in zip(decision.findings, candidates, strict=True)],
            [plan.place_no for plan in decision.plans],
            [decision.split_verdict, decision.parcels, decision.combined],
        ],
        ensure_ascii=False,
        separators=(",", ":"),
    )


def read_record(text: str, *, policy_version: int, freight_version: int) -> Record:
    _, need, rows, ranking, (split_verdict, parcels, combined) = json.loads(text)
    region, latitude, longitude, skus, wanted, weights, values, carrier, pick_up, excluded, forced, ship_before = need
    findings = tuple(Finding(*row[:8]) for row in rows)
    by_place = {finding.place_no: finding for finding in findings}
    ranked = (by_place[place_no] for place_no in ranking)
    return Record(
        Need(
            region_code=region,
            latitude=latitude,
            longitude=longitude,
            skus=tuple(skus),
            wanted=tuple(wanted),
            weights_grams=tuple(weights),
            values_minor=tuple(values),
            wanted_carrier=carrier,
            pick_up_place_id=pick_up,
            excluded=frozenset(excluded),
            forced=forced,
            ship_before=None if ship_before is None else datetime.fromisoformat(ship_before),
        ),
        tuple((row[0], row[8], row[9:]) for row in rows),
        Decision(
            policy_version,
            freight_version,
            findings,
            tuple(Plan(best.place_no, best.carrier, best.cost_minor, best.promised_days) for best in ranked),
            tuple(tuple(Parcel(no, by, cost, days, tuple(units)) for no, by, cost, days, units in plan) for plan in combined),
            split_verdict,
            parcels,
        ),
    )


def is_reproduced(record: Record, network: Network, *, decided_at: datetime) -> bool:
    """Decide the kept inputs once more; `network` holds the versions that were used."""
    return decide(record.need, record.candidates, network, now=decided_at) == record.decision
