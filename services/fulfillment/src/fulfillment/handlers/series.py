"""Waybill numbers: taking them for a batch, and setting up the blocks they come from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from eventing import NewTask, UnitOfWork
from fulfillment import store
from fulfillment.domain import SeriesOverlapError, SeriesRange, WaybillPool, check_block, series_on_demand

RETRY_WAYBILL = "retry_waybill"


async def lock_waybill_pool(parcels: Iterable[tuple[str, str | None]], work: UnitOfWork) -> WaybillPool:
    """Lock the blocks that parcels may take numbers from; a carrier's first parcel makes its block.

    **Shapes**: (place_id, carrier).
    """
    wanted = {(place_id, carrier) for place_id, carrier in parcels if carrier}
    places, carriers = {place_id for place_id, _ in wanted}, {carrier for _, carrier in wanted}
    series = await store.lock_series(work.connection, places=places, carriers=carriers)
    missing = carriers - {one.carrier for one in series}
    unknown = missing - await store.carriers_with_series(work.connection, missing) if missing else missing
    for carrier in sorted(unknown):  # Once in a carrier's life.
        if not await store.lock_carrier_series(work.connection, carrier):
            numbers = series_on_demand(carrier)
            if (given := await store.highest_given_elsewhere(work.connection, carrier, numbers)) is not None:
                numbers = replace(numbers, first_no=given + 1)
            await store.add_series(work.connection, carrier=carrier, numbers=numbers, place_id=None, now=work.now)
    if unknown:
        series = await store.lock_series(work.connection, places=places, carriers=carriers)
    return WaybillPool(series)


async def put_series(carrier: str, numbers: SeriesRange, work: UnitOfWork, *, place_id: str | None) -> None:
    """Set up a block of numbers, or change the end or the place of one; orders that wait for the carrier are tried.

    **Errors**: SeriesOverlapError, SeriesInUseError.
    """
    key = (numbers.prefix, numbers.digits, numbers.first_no)
    existing, others = None, []
    for row in await store.lock_carrier_series(work.connection, carrier):
        if (row.prefix, row.digits, row.first_no) == key:
            existing = row
        else:
            others.append(SeriesRange(prefix=row.prefix, digits=row.digits, first_no=row.first_no, until_no=row.until_no))
    check_block(numbers, others, next_no=existing and existing.next_no)
    if existing is None:
        if await store.highest_given_elsewhere(work.connection, carrier, numbers) is not None:
            raise SeriesOverlapError("a parcel has one of these numbers already")
        await store.add_series(work.connection, carrier=carrier, numbers=numbers, place_id=place_id, now=work.now)
    else:
        await store.change_series(
            work.connection, existing.series_id, place_id=place_id, until_no=numbers.until_no, now=work.now
        )
    work.add_tasks([NewTask(RETRY_WAYBILL, carrier, work.now)])
