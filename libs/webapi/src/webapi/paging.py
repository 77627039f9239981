"""Keyset paging: the next page starts after the last row's key, so that it costs the same at any depth and skips nothing."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Depends, Query
from pydantic import BaseModel
from sqlalchemy import ColumnElement, and_, or_, true
from sqlalchemy.sql.elements import UnaryExpression

from webapi.problems import FieldError, Problem

LIMIT_DEFAULT = 50
LIMIT_MOST = 500
CURSOR_CHARACTERS = 2000

Item = TypeVar("Item")
Row = TypeVar("Row")


class Page(BaseModel, Generic[Item]):
    """Some items, and the cursor of the next page (`?next=…`); none on the last one."""

    items: list[Item]
    next: str | None = None


class PageRequest(BaseModel):
    """Which page the caller wants."""

    limit: int
    next: str | None


def page_request(
    limit: Annotated[int, Query(ge=1, le=LIMIT_MOST, description="How many items at most.")] = LIMIT_DEFAULT,
    next: Annotated[  # noqa: A002  the parameter's public name
        str | None, Query(max_length=CURSOR_CHARACTERS, description="The cursor that the last page gave.")
    ] = None,
) -> PageRequest:
    return PageRequest(limit=limit, next=next)


Paging = Annotated[PageRequest, Depends(page_request)]


class Cursor:
    """The key of a last row as opaque text: name, types and check sum make sure that it comes back as it was given.

    The check sum is no secret: it catches cut or foreign cursors, and what a cursor can say, a filter can say as well.
    """

    def __init__(self, name: str, *types: type) -> None:
        self._name = hashlib.blake2b(name.encode(), digest_size=16).digest()
        self._types = types

    def encode(self, key: Sequence[Any]) -> str:
        values = [value.isoformat() if isinstance(value, date) else value for value in key]
        values = [str(value) if isinstance(value, UUID) else value for value in values]
        payload = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._check(payload) + payload).rstrip(b"=").decode()

    def decode(self, cursor: str | None) -> tuple[Any, ...] | None:
        """The key of a cursor that `encode` made; a 422 for any other text."""
        if cursor is None:
            return None
        try:
            raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            if raw[:6] != self._check(raw[6:]):
                raise _bad_cursor()
            return tuple(_as(kind, value) for kind, value in zip(self._types, json.loads(raw[6:]), strict=True))
        except (ValueError, TypeError):
            raise _bad_cursor() from None

    def page(
        self,
        rows: Sequence[Row],
        paging: PageRequest,
        *,
        key: Callable[[Row], Sequence[Any]],
        item: Callable[[Row], Item],
    ) -> Page[Item]:
        """A page of up to limit + 1 rows: the row too many only says that there is more."""
        shown = rows[: paging.limit]
        more = len(rows) > paging.limit
        return Page(items=[item(row) for row in shown], next=self.encode(key(shown[-1])) if more else None)

    def _check(self, payload: bytes) -> bytes:
        return hashlib.blake2b(payload, digest_size=6, key=self._name).digest()


class Keyset(Cursor):
    """One sort order: columns with their Python types, the last one unique, all ascending or all descending.

    `name` is sealed into cursors: a cursor of another order (or other filters, if you name them) is refused. Columns must
    not be null: a comparison with null is neither true nor false, and the row would be skipped.
    """

    def __init__(self, name: str, *columns: tuple[ColumnElement[Any], type], descending: bool = False) -> None:
        super().__init__(f"{name} {'desc' if descending else 'asc'}", *(python_type for _, python_type in columns))
        self._columns = [column for column, _ in columns]
        self._descending = descending

    @property
    def order_by(self) -> list[UnaryExpression[Any]]:
        return [column.desc() if self._descending else column.asc() for column in self._columns]

    def after(self, key: Sequence[Any] | None) -> ColumnElement[bool]:
        """The condition of the rows behind `key`; all rows without one.

        Written out (a > x or a = x and b > y), with a ≥ x beside it, which is what an index on the columns can start from.
        """
        if key is None:
            return true()
        alternatives = []
        for position, column in enumerate(self._columns):
            equal = [before == key[index] for index, before in enumerate(self._columns[:position])]
            alternatives.append(and_(*equal, self._beyond(column, key[position])))
        first = self._columns[0]
        bound = first <= key[0] if self._descending else first >= key[0]
        return and_(bound, or_(*alternatives))

    def _beyond(self, column: ColumnElement[Any], value: object) -> ColumnElement[bool]:
        return column < value if self._descending else column > value


def _as(kind: type, value: Any) -> Any:
    if kind is datetime or kind is date:
        return kind.fromisoformat(value)
    if kind is UUID:
        return UUID(value)
    if not isinstance(value, kind):
        raise TypeError
    return value


def _bad_cursor() -> Problem:
    return Problem("bad_cursor", status=422, errors=[FieldError("next", "bad_cursor")])
