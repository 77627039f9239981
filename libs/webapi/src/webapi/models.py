"""The base of request bodies, and values as they go over the wire."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError


def _tighten(node: Any, owner: type) -> None:
    if isinstance(node, list | tuple):
        for item in node:
            _tighten(item, owner)
    elif isinstance(node, dict):
        kind = node.get("type")
        if kind in ("model", "dataclass") and node.get("cls") is not owner:
            return
        if kind == "function-after" and node["function"].get("function") is _plain_text:
            return  # Done before: pydantic hands out the same schema each time it is asked.
        if kind in ("int", "bool", "float"):
            node["strict"] = True
        elif kind == "str":
            inner = dict(node)
            node.clear()
            node |= {
                "type": "function-after",
                "function": {"type": "no-info", "function": _plain_text},
                "schema": inner,
            }
        else:
            for name, item in node.items():
                if name not in ("metadata", "serialization", "config", "default"):
                    _tighten(item, owner)


def _plain_text(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("nul_in_text", "contains a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise PydanticCustomError("lone_surrogate", "contains half a character") from None
    return text


class StrictModel(BaseModel):
    """A request body: unknown fields are refused, and nothing is taken for what it is not ("3", 3.0 and true are no 3).

    Texts hold no NUL, which Postgres cannot store, and no half of a surrogate pair, which UTF-8 cannot. Times, ids and
    enums are still read from texts, as JSON has no other way (pydantic's own strict mode would refuse them here, where
    FastAPI has parsed the JSON already). Nested models that are not strict keep their own rules.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _tighten(schema, source)
        return schema


Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
"""An integer that a `bigint` column can hold; for paths and queries too."""


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # 0001-01-01T00:00:00+14:00 lies before the calendar begins.
        raise PydanticCustomError("not_a_time", "out of the calendar") from None


UtcTime = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""A moment: any offset is taken, UTC is kept and given (`…Z`)."""
