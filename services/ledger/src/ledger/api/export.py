"""Lists as CSV, for spreadsheets: one row per item, or per entry of it."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from fastapi import Request, Response
from pydantic import BaseModel

from webapi.paging import Page

Format = Literal["json", "csv"]
CSV = "`csv`, or the header `Accept: text/csv`."
_BYTE_ORDER_MARK = "\ufeff"
"""Without it the usual spreadsheet takes Chinese for something else."""
_DOCUMENTS = frozenset({"params"})
"""What differs from row to row stands in one cell."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def wants_csv(request: Request, wanted: Format | None) -> bool:
    """The parameter wins; without it the Accept header decides."""
    return wanted == "csv" if wanted else "text/csv" in request.headers.get("accept", "")


def csv_page(page: Page[Any], *, rows_in: str | None = None) -> Response:
    """The page's items; the cursor of the next page is in the header `Next-Cursor`. `rows_in` names a list that is spread."""
    return csv_response(page.items, rows_in=rows_in, next_cursor=page.next)


def csv_response(items: Sequence[BaseModel], *, rows_in: str | None = None, next_cursor: str | None = None) -> Response:
    rows = [row for item in items for row in _spread(item, rows_in)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    headers = {"Next-Cursor": next_cursor} if next_cursor else None
    return Response(_BYTE_ORDER_MARK + text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _spread(item: BaseModel, rows_in: str | None) -> Iterator[dict[str, Any]]:
    values = item.model_dump(mode="json")
    inner = values.pop(rows_in) if rows_in else [{}]
    for one in inner:
        yield dict(_flat(values)) | dict(_flat(one))


def _flat(values: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and name not in _DOCUMENTS:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula is marked as text. Numbers are no texts, negative or not."""
    if isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
