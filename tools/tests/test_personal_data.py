"""The scanner for personal data: what it must see, in whatever form a program wrote it."""

import json
from base64 import b64encode
from urllib.parse import quote

import pytest

from tools.personal_data import Needles, Sighting

NAME, PHONE = "司马相如", "13812345678"
WRITTEN = {
    "plain": lambda text: f"x{text}y".encode(),
    "json": lambda text: json.dumps({"name": f"x{text}"}).encode(),
    "JSON": lambda text: json.dumps(text).upper().replace("\\U", "\\u").encode(),
    "hex": lambda text: ("ff" + text.encode().hex()).encode(),
    "HEX": lambda text: text.encode().hex().upper().encode(),
    "percent": lambda text: quote(f"姓名={text}").encode(),
    "gbk": lambda text: f"姓名{text}".encode("gbk"),
    "base64 at 0": lambda text: b64encode(text.encode()),
    "base64 at 1": lambda text: b64encode(b"a" + text.encode() + b"tail"),
    "base64 at 2": lambda text: b64encode(b"ab" + text.encode() + b"t"),
}


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("text", [NAME, PHONE])
def test_a_text_is_seen_in_every_form(form: str, text: str) -> None:
    """Fails when a form is not derived: bytes in a dump and escapes in a log would pass unseen."""
    seen = list(Needles(["不相干的人", text]).find("here", WRITTEN[form](text)))
    assert {(sighting.place, sighting.needle) for sighting in seen} == {("here", 1)}


@pytest.mark.parametrize("form", WRITTEN)
def test_another_text_is_not_taken_for_it(form: str) -> None:
    """Fails when a form is cut so short that it is everywhere."""
    assert list(Needles([NAME, PHONE]).find("here", WRITTEN[form]("欧阳修 13912345679"))) == []


def test_a_sighting_does_not_repeat_what_it_saw() -> None:
    """Fails when the report of a leak leaks."""
    assert list(Needles([PHONE]).find("topic order.held", PHONE.encode())) == [Sighting("topic order.held", 0, "plain")]
