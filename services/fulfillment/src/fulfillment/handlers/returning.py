"""Goods that come back after they left: received and inspected, each unit in one condition."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID, uuid5

from contracts import PartLine, ReturnReceived
from contracts.spine import ReturnedLine
from eventing import UnitOfWork
from fulfillment import store
from fulfillment.domain import Key, LineError, LineRef, Report, Shipment, report_of_state, resolve
from fulfillment.handlers.goods import Goods, goods_of, progress_of

GRADES = ("good", "bad", "missing")


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedLine:
    """Units of a line by condition; the origin may be left out as in `LineRef`."""

    sku_id: str
    good: int
    bad: int
    missing: int
    origin_order_id: UUID | None = None
    origin_line: int | None = None

    def ref(self, grade: str) -> LineRef:
        quantity: int = getattr(self, grade)
        return LineRef(
            sku_id=self.sku_id, quantity=quantity, origin_order_id=self.origin_order_id, origin_line=self.origin_line
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnReport:
    reference: str
    reason: str
    lines: Sequence[InspectedLine]
    place_id: str | None
    """Where the goods are now; None: at the place that they left."""

    def content_hash(self, shipments: Sequence[UUID]) -> bytes:
        lines = [[getattr(line, name) for name in InspectedLine.__dataclass_fields__] for line in self.lines]
        content = [self.reason, self.place_id, lines, sorted(map(str, shipments))]
        return hashlib.sha256(json.dumps(content, default=str).encode()).digest()


class ReferenceReusedError(Exception):
    """The reference names another return."""


async def receive_return(shipments: Sequence[UUID], report: ReturnReport, work: UnitOfWork, *, who: str) -> list[UUID]:
    """Record what came back of these shipments, and say so: one return per shipment.

    Never more than was shipped and has not come back. The same reference with the same content is answered as before.
    **Errors**: ReferenceReusedError, LineError.
    """
    roots = await store.roots_of_shipments(work.connection, list(shipments))
    tracked = await store.lock_orders(work.connection, roots)
    await store.lock_reference(work.connection, report.reference)
    content_hash = report.content_hash(shipments)
    before = await store.find_returns(work.connection, report.reference)
    if before:
        if any(row.content_hash != content_hash for row in before):
            raise ReferenceReusedError
        return [row.return_id for row in before]
    found = {
        one.shipment_id: (one, goods_of(content)) for one, content in await store.find_shipments(work.connection, shipments)
    }
    left = await _not_returned(found, work)
    made: list[UUID] = []
    for shipment_id, graded in _spread(report, shipments, left).items():
        shipment, goods = found[shipment_id]
        return_id = uuid5(shipment_id, f"return:{report.reference}")
        lines = _divided(left[shipment_id], graded)
        await store.add_return(
            work.connection,
            [_stored(return_id, line) for line in lines],
            return_id=return_id,
            reference=report.reference,
            content_hash=content_hash,
            shipment_id=shipment_id,
            order_id=shipment.order_id,
            root_id=shipment.root_id,
            place_id=report.place_id or shipment.place_id,
            reason=report.reason,
            received_at=work.now,
            recorded_by=who,
        )
        order = tracked[shipment.order_id]
        counts: dict[str, str | int | None] = {
            grade: sum(line.quantity for line in lines if line.grade == grade) for grade in GRADES
        }
        place = report.place_id or shipment.place_id
        stage = report_of_state(shipment.state).stage
        names = await store.find_places(work.connection, [place])
        shown = Report(stage, "return_received", {"place": names[place].name, **counts})
        work.emit(
            [
                ReturnReceived(
                    root_id=shipment.root_id,
                    order_id=shipment.order_id,
                    progress=progress_of(shown, order),
                    order=goods.order,
                    return_id=return_id,
                    shipment_id=shipment_id,
                    place_id=place,
                    lines=lines,
                    reason=report.reason,
                    received_at=work.now,
                )
            ]
        )
        made.append(return_id)
    await store.save_orders(work.connection, tracked.values())
    return made


async def _not_returned(found: dict[UUID, tuple[Shipment, Goods]], work: UnitOfWork) -> dict[UUID, dict[Key, PartLine]]:
    """What is still out, with its money: what came back took its fen with it. **Shapes**: by shipment, by line."""
    left: dict[UUID, dict[Key, PartLine]] = {
        key: {line.key: line for line in goods.part.lines} for key, (_, goods) in found.items()
    }
    for shipment_id, units in await store.returned_units(work.connection, list(found)):
        lines = left[shipment_id]
        key = (units.origin_order_id, units.origin_line, units.sku_id)
        line = lines[key]
        if line.quantity == units.quantity:
            del lines[key]
            continue
        lines[key] = line.model_copy(
            update={
                "quantity": line.quantity - units.quantity,
                "paid_minor": line.paid_minor - units.paid_minor,
                "receivable_minor": line.receivable_minor - units.receivable_minor,
                "tax_minor": line.tax_minor - units.tax_minor,
            }
        )
    return left


def _spread(
    report: ReturnReport, shipments: Sequence[UUID], left: dict[UUID, dict[Key, PartLine]]
) -> dict[UUID, dict[tuple[Key, str], int]]:
    """Units by shipment, line and condition: the first parcel that left first. **Errors**: LineError."""
    rest = {shipment_id: {key: line.quantity for key, line in left[shipment_id].items()} for shipment_id in shipments}
    graded: dict[UUID, dict[tuple[Key, str], int]] = {}
    for index, line in enumerate(report.lines):
        for grade in GRADES:
            ref = line.ref(grade)
            for shipment_id in shipments:
                there = sum(quantity for key, quantity in rest[shipment_id].items() if ref.matches(key))
                taken = min(ref.quantity, there)
                if not taken:
                    continue
                for key, quantity in resolve([replace(ref, quantity=taken)], rest[shipment_id]).items():
                    rest[shipment_id][key] -= quantity
                    units = graded.setdefault(shipment_id, {})
                    units[key, grade] = units.get((key, grade), 0) + quantity
                ref = replace(ref, quantity=ref.quantity - taken)
            if ref.quantity:
                raise LineError(index, "more_than_shipped", line.ref(grade).quantity - ref.quantity)
    return graded


def _divided(lines: dict[Key, PartLine], graded: dict[tuple[Key, str], int]) -> list[ReturnedLine]:
    """The units with the money and cost they left with, divided by the one rule."""
    rest = dict(lines)
    returned: list[ReturnedLine] = []
    for (key, grade), quantity in sorted(graded.items()):
        line = rest[key]
        if quantity < line.quantity:
            line, rest[key] = line.divide(quantity)
        returned.append(ReturnedLine(**line.model_dump(), grade=grade))
    return returned


def _stored(return_id: UUID, line: ReturnedLine) -> store.ReturnedUnits:
    return store.ReturnedUnits(
        return_id=return_id,
        origin_order_id=line.origin_order_id,
        origin_line=line.origin_line,
        sku_id=line.sku_id,
        grade=line.grade,
        quantity=line.quantity,
        paid_minor=line.paid_minor,
        receivable_minor=line.receivable_minor,
        tax_minor=line.tax_minor,
    )
