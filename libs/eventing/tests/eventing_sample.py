"""A small service to test with: it keeps every number it is told, in order, and says each one on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from typing import Any, ClassVar

from sqlalchemy import MetaData, text

import eventing
from contracts import Event
from contracts.envelope import Compacted
from eventing import (
    CompactedRoute,
    Consumer,
    Received,
    Route,
    Runtime,
    RuntimeSettings,
    UnitOfWork,
    Waiting,
)

PARTITIONS = 4
TOPICS = {
    "numbers.told": PARTITIONS,
    "numbers.asked": PARTITIONS,
    "numbers.kept": PARTITIONS,
    "words.known": 2,
    "teller.dlq": 1,
}
SCHEMA = """
    CREATE TABLE kept (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL, number integer NOT NULL,
        kind text NOT NULL, delivery uuid NOT NULL);
    CREATE TABLE word (word text PRIMARY KEY, version bigint NOT NULL)
"""


class NumberTold(Event):
    TOPIC: ClassVar[str] = "numbers.told"
    TYPE: ClassVar[str] = "NumberTold"

    name: str
    number: int
    word: str | None = None
    """A fact that must be known before this can be kept."""
    trouble: str | None = None
    """What the handler is to do about it: raise, die, or a statement to run."""

    @property
    def key(self) -> str:
        return self.name


class NumberAsked(NumberTold):
    TOPIC: ClassVar[str] = "numbers.asked"
    TYPE: ClassVar[str] = "NumberAsked"


class NumberKept(Event):
    TOPIC: ClassVar[str] = "numbers.kept"
    TYPE: ClassVar[str] = "NumberKept"

    name: str
    number: int

    @property
    def key(self) -> str:
        return self.name


class WordKnown(Compacted):
    TOPIC: ClassVar[str] = "words.known"
    TYPE: ClassVar[str] = "WordKnown"

    word: str
    trouble: bool = False

    @property
    def key(self) -> str:
        return self.word


class TroubleError(Exception):
    """What the handler raises when it is asked to."""


def never_mind(asked: Received[NumberAsked], head: Received[None]) -> bool:
    """A number that starts all over, where a told one waits first."""
    return asked.event.number == 0 and head.type == "NumberTold"


class Teller:
    """The handlers; `trouble_is_over` cures the poison."""

    def __init__(self) -> None:
        self.trouble_is_over = False
        self.words_take_seconds = 0.0
        self.calls: list[list[int]] = []

    async def on_number_told(self, received: Sequence[Received[NumberTold]], work: UnitOfWork) -> Sequence[Waiting] | None:
        return await self._keep(received, work, "told")

    async def on_number_asked(self, received: Sequence[Received[NumberAsked]], work: UnitOfWork) -> Sequence[Waiting] | None:
        return await self._keep(received, work, "asked")

    async def apply_words(self, words: Sequence[WordKnown], work: UnitOfWork) -> None:
        await asyncio.sleep(self.words_take_seconds)
        if any(word.trouble for word in words):
            raise TroubleError
        for word in words:
            await work.connection.execute(
                text(
                    "INSERT INTO word AS w VALUES (:word, :version) ON CONFLICT (word) DO UPDATE SET version = excluded.version"
                    " WHERE w.version < excluded.version"
                ),
                {"word": word.word, "version": word.version},
            )
        await work.arrived("word", [word.word for word in words])

    async def _keep(self, received: Sequence[Received[Any]], work: UnitOfWork, kind: str) -> Sequence[Waiting] | None:
        self.calls.append([one.event.number for one in received])
        wanted = {one.event.word for one in received if one.event.word is not None}
        known: set[str] = set()
        if wanted:
            await work.expect("word", wanted)
            rows = await work.connection.execute(
                text("SELECT word FROM word WHERE word = ANY(CAST(:words AS text[]))"), {"words": sorted(wanted)}
            )
            known = set(rows.scalars())
        waiting = [Waiting(one, "word", one.event.word) for one in received if one.event.word not in {None, *known}]
        late = {id(one.received) for one in waiting}
        ready = [one for one in received if id(one) not in late]
        for one in ready:
            if one.event.trouble and not self.trouble_is_over:
                if one.event.trouble == "raise":
                    raise TroubleError
                if one.event.trouble == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                await work.connection.execute(text(one.event.trouble))
        await work.connection.execute(
            text(
                "INSERT INTO kept (key, number, kind, delivery) SELECT key, number, :kind, id FROM unnest("
                "CAST(:keys AS text[]), CAST(:numbers AS integer[]), CAST(:ids AS uuid[])) AS r(key, number, id)"
            ),
            {
                "keys": [one.key for one in ready],
                "numbers": [one.event.number for one in ready],
                "ids": [one.id for one in ready],
                "kind": kind,
            },
        )
        work.emit(NumberKept(name=one.key, number=one.event.number) for one in ready)
        return waiting


def build(teller: Teller | None = None, *, engine: Any, settings: RuntimeSettings | None = None, **options: Any) -> Runtime:
    """Compose the service."""
    teller = teller or Teller()
    return Runtime(
        service="teller",
        engine=engine,
        tables=eventing.tables.define(MetaData()),
        consumers=[
            Consumer(
                "main",
                routes=[
                    Route(NumberTold, teller.on_number_told),
                    Route(NumberAsked, teller.on_number_asked, supersedes=never_mind),
                ],
            )
        ],
        compacted=[CompactedRoute(WordKnown, teller.apply_words)],
        settings=settings,
        **options,
    )
