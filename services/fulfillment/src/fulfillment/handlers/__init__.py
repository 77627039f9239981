"""What happens on each event, timer, call-back and manual act: translate, lock, decide, record, emit."""

from fulfillment.handlers import counter, floor
from fulfillment.handlers.allocation import on_allocated_order_changed, on_stock_allocated, on_stop_requested
from fulfillment.handlers.callback import ReportRefusedError, WmsReport, on_wms_report
from fulfillment.handlers.departure import DELIVER, SHIP, on_retry_waybill, on_ship_due
from fulfillment.handlers.desk import STOP, Desk
from fulfillment.handlers.facts import on_catalog_locations, on_receiver_sealed
from fulfillment.handlers.journey import CarrierReport, Recorded, on_deliver_due, record_carrier_report
from fulfillment.handlers.returning import InspectedLine, ReferenceReusedError, ReturnReport, receive_return
from fulfillment.handlers.series import RETRY_WAYBILL, put_series
from fulfillment.handlers.wms import INSTRUCT, WmsCalls

__all__ = [
    "DELIVER",
    "INSTRUCT",
    "RETRY_WAYBILL",
    "SHIP",
    "STOP",
    "CarrierReport",
    "Desk",
    "InspectedLine",
    "Recorded",
    "ReferenceReusedError",
    "ReportRefusedError",
    "ReturnReport",
    "WmsCalls",
    "WmsReport",
    "counter",
    "floor",
    "on_allocated_order_changed",
    "on_catalog_locations",
    "on_deliver_due",
    "on_receiver_sealed",
    "on_retry_waybill",
    "on_ship_due",
    "on_stock_allocated",
    "on_stop_requested",
    "on_wms_report",
    "put_series",
    "receive_return",
    "record_carrier_report",
]
