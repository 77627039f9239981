"""The base of request bodies."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from webapi.models import StrictModel


class Body(StrictModel):
    name: str
    count: int


def _depth(node: Any) -> int:
    """How often texts are wrapped, one check inside another."""
    if isinstance(node, list | tuple):
        return max((_depth(item) for item in node), default=0)
    if not isinstance(node, dict):
        return 0
    own = 1 if node.get("type") == "function-after" else 0
    return own + max((_depth(item) for name, item in node.items() if name != "metadata"), default=0)


def test_a_schema_that_is_asked_for_again_is_not_wrapped_again() -> None:
    """Fails when each application built in a process nests every text check once more, until recursion ends it."""
    for _ in range(20):
        TypeAdapter(list[Body] | dict[str, Body])
    assert _depth(Body.__pydantic_core_schema__) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"name": "a\x00b", "count": 1}, {"name": "\ud800", "count": 1}, {"name": "a", "count": "1"}, {"name": "a", "count": True}],
)
def test_nothing_is_taken_for_what_it_is_not(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Body.model_validate(wrong)
