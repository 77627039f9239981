"""Lines in bodies, and the problems of decisions, as several routes have them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from contracts.envelope import Code, Id, SkuId
from fulfillment.domain import LineError, LineRef, TransitionError
from fulfillment.handlers.floor import ParcelReport, WaybillError
from webapi.models import StrictModel
from webapi.problems import FieldError, Problem

StockEffect = Literal["none", "missing", "nothing_left", "damaged"]
Cause = Literal["not_in_stock", "mismatch", "damaged", "too_busy", "closed", "other"]


class LineBody(StrictModel):
    """Units of a line. The origin may be left out: then the units are spread over the lines with that SKU."""

    sku_id: SkuId
    quantity: Annotated[int, Field(ge=1, le=1_000_000)]
    origin_order_id: UUID | None = None
    origin_line: Annotated[int, Field(ge=1, le=500)] | None = None

    def ref(self) -> LineRef:
        return LineRef(
            sku_id=self.sku_id,
            quantity=self.quantity,
            origin_order_id=self.origin_order_id,
            origin_line=self.origin_line,
        )


MaybeLines = Annotated[list[LineBody], Field(max_length=500)]
Lines = Annotated[list[LineBody], Field(min_length=1, max_length=500)]


class ParcelBody(StrictModel):
    """A parcel that has left. Without lines it holds all that is left; without a number it gets one of ours."""

    lines: MaybeLines = Field(default_factory=list)
    carrier: Code | None = None
    waybill_no: Id | None = None
    weight_grams: Annotated[int, Field(ge=1, le=2_000_000_000)] | None = None

    def report(self) -> ParcelReport:
        return ParcelReport(
            lines=[line.ref() for line in self.lines],
            carrier=self.carrier,
            waybill_no=self.waybill_no,
            weight_grams=self.weight_grams,
        )


Parcels = Annotated[list[ParcelBody], Field(min_length=1, max_length=100)]


@contextmanager
def problems(lines: str = "lines") -> Iterator[None]:
    """Turn what a decision refuses into its problem. `lines`: the field that held the lines."""
    try:
        yield
    except LineError as error:
        status = 422 if error.code == "line_unknown" else 409
        field = FieldError(f"{lines}.{error.index}.quantity", error.code, {"left": error.left})
        raise Problem("lines_refused", status=status, errors=[field]) from None
    except WaybillError as error:
        raise Problem(error.code, status=409, errors=[FieldError(f"parcels.{error.index}.waybill_no", error.code)]) from None
    except TransitionError:
        raise Problem("state_forbids", status=409) from None
