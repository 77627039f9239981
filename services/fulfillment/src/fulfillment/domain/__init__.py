"""Decisions of fulfilment: what an allocated order becomes, when it ships, which carrier event counts. Pure values, no I/O.

Imports the standard library only.
"""

from fulfillment.domain.errors import (
    AlreadyFulfilledError,
    FulfilmentError,
    SeriesInUseError,
    SeriesOverlapError,
    UnknownKindError,
)
from fulfillment.domain.order import (
    OPEN_STATUSES,
    Allocation,
    Connector,
    FulfilmentOrder,
    Kind,
    Policy,
    RequestStatus,
    Status,
    TrackedOrder,
    WaitingFor,
    accept,
    fulfilment_order_id,
)
from fulfillment.domain.shipment import (
    FINISHED,
    Report,
    Shipment,
    State,
    hand_over,
    moves,
    report_of_departure,
    report_of_state,
    ship,
    shipment_id,
)
from fulfillment.domain.waybill import Series, SeriesRange, WaybillPool, check_block, series_on_demand

__all__ = [
    "FINISHED",
    "OPEN_STATUSES",
    "Allocation",
    "AlreadyFulfilledError",
    "Connector",
    "FulfilmentError",
    "FulfilmentOrder",
    "Kind",
    "Policy",
    "Report",
    "RequestStatus",
    "Series",
    "SeriesInUseError",
    "SeriesOverlapError",
    "SeriesRange",
    "Shipment",
    "State",
    "Status",
    "TrackedOrder",
    "UnknownKindError",
    "WaitingFor",
    "WaybillPool",
    "accept",
    "check_block",
    "fulfilment_order_id",
    "hand_over",
    "moves",
    "report_of_departure",
    "report_of_state",
    "series_on_demand",
    "ship",
    "shipment_id",
]
