"""Looks for names, phones and streets where they must never be in clear: every database, topic, log and file.

    python -m tools.personal_data --stack demo --look-for 张三 13800000000

A text is looked for as it is and as programs write it: JSON escapes, hex (as a dump shows bytes), base64, percent signs.
`channel.orders` is left out, the one topic that carries receivers in clear, as their sources send them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import asyncpg

from contracts.topics import TOPICS
from tools.coherence.__main__ import from_stack
from tools.coherence.topics import KafkaTopics
from tools.paths import stack_folder

IN_CLEAR = frozenset({"channel.orders"})
ROWS = 500
_TABLES = """
    SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2
"""


class Sighting(NamedTuple):
    """Where a text was found. Says which of the texts by its number, for a report may be read by anybody."""

    place: str
    needle: int
    form: str


class Needles:
    """The texts to look for, in every form in which a program may write them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._forms = [(number, form, data) for number, text in enumerate(texts) for form, data in forms_of(text)]

    def find(self, place: str, data: bytes) -> Iterator[Sighting]:
        for number, form, needle in self._forms:
            if needle in data:
                yield Sighting(place, number, form)


def forms_of(text: str) -> list[tuple[str, bytes]]:
    """(name, bytes) of each form. A base64 text has three, by where it begins within three bytes; its ends are cut off."""
    plain = text.encode()
    forms = {"plain": plain, "hex": plain.hex().encode(), "HEX": plain.hex().upper().encode()}
    if not text.isascii():
        escaped = "".join(f"\\u{ord(character):04x}" if ord(character) > 127 else character for character in text)
        forms |= {"json": escaped.encode(), "JSON": escaped.upper().replace("\\U", "\\u").encode()}
        forms |= {"percent": quote(text).encode(), "gbk": text.encode("gbk", errors="ignore")}
    for shift in range(3):
        whole = b64encode(bytes(shift) + plain + bytes((-len(plain) - shift) % 3))
        kept = whole[-(-shift * 4 // 3) : (shift + len(plain)) * 4 // 3]
        if len(kept) >= 8:
            forms[f"base64+{shift}"] = kept
    return list(forms.items())


async def scan(
    needles: Needles, *, database_urls: Mapping[str, str], bootstrap_servers: str, prefix: str, files: Sequence[Path] = ()
) -> tuple[list[Sighting], int]:
    """Everything there is: sightings, and how many tables, topics and files were read."""
    found: list[Sighting] = []
    places = 0
    for service, url in database_urls.items():
        async for table, data in _rows(url):
            if data is None:
                places += 1
            else:
                found += needles.find(f"database {service}, table {table}", data)
    topics = KafkaTopics(bootstrap_servers, prefix)
    for topic in sorted(TOPICS.keys() - IN_CLEAR):
        places += 1
        for message in await topics.messages(topic):
            parts = [
                message.key or b"",
                message.value or b"",
                *(part for name, value in message.headers for part in (name.encode(), value)),
            ]
            found += needles.find(f"topic {topic}", b"\n".join(parts))
    for path in files:
        places += 1
        found += needles.find(f"file {path.name}", path.read_bytes())
    return list(dict.fromkeys(found)), places


async def _rows(url: str) -> AsyncIterator[tuple[str, bytes | None]]:
    """Every row of every table as text, some hundred at once; None where a table begins."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            for table in await connection.fetch(_TABLES):
                name = f'"{table["schema"]}"."{table["name"]}"'
                yield table["name"], None
                rows: list[str] = []
                async for row in connection.cursor(f"SELECT t::text FROM {name} AS t", prefetch=ROWS):  # noqa: S608  from the catalogue
                    rows.append(row[0] or "")
                    if len(rows) == ROWS:
                        yield table["name"], "\n".join(rows).encode()
                        rows.clear()
                yield table["name"], "\n".join(rows).encode()
    finally:
        await connection.close()


def files_of(stack: str) -> list[Path]:
    """A stack's logs and reports."""
    return sorted(path for path in (stack_folder(stack) / "log").rglob("*") if path.is_file())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.personal_data", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stack", required=True, help="the running stack in .local/<name>")
    parser.add_argument(
        "--look-for", nargs="+", required=True, metavar="TEXT", help="names, phones, streets; - reads them from stdin"
    )
    options = parser.parse_args()
    texts = [line.strip() for line in sys.stdin if line.strip()] if options.look_for == ["-"] else options.look_for
    urls, servers, prefix = from_stack(options.stack)
    found, places = asyncio.run(
        scan(Needles(texts), database_urls=urls, bootstrap_servers=servers, prefix=prefix, files=files_of(options.stack))
    )
    for sighting in found:
        print(f"FOUND text {sighting.needle + 1} ({sighting.form}): {sighting.place}")
    print(f"{len(texts)} texts, {places} tables, topics and logs: {len(found) or 'no'} sightings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
