"""What happens on each event, timer and manual act: translate, lock, decide, record, emit."""

from fulfillment.handlers.allocation import on_stock_allocated
from fulfillment.handlers.departure import DELIVER, SHIP, on_retry_waybill, on_ship_due, pick_up
from fulfillment.handlers.facts import on_catalog_locations, on_receiver_sealed
from fulfillment.handlers.journey import CarrierReport, Recorded, on_deliver_due, record_carrier_report
from fulfillment.handlers.series import RETRY_WAYBILL, put_series

__all__ = [
    "DELIVER",
    "RETRY_WAYBILL",
    "SHIP",
    "CarrierReport",
    "Recorded",
    "on_catalog_locations",
    "on_deliver_due",
    "on_receiver_sealed",
    "on_retry_waybill",
    "on_ship_due",
    "on_stock_allocated",
    "pick_up",
    "put_series",
    "record_carrier_report",
]
