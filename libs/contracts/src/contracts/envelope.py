"""What every event has in common: the base models, the key it travels under, the progress it reports.

The envelope itself is CloudEvents 1.0 in Kafka binary mode: `ce_id`, `ce_time`, `ce_source` are made when the outbox row is
written (`libs/eventing`); the model says the rest: topic, type, version, key, subject and extension headers.
"""

from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

Minor = Annotated[int, Field(strict=True, ge=-(10**15), le=10**15)]
"""Money in minor units (fen). The bound keeps the sum of 500 lines inside 64 bits with room to spare."""
MinorAmount = Annotated[int, Field(strict=True, ge=0, le=10**15)]
Quantity = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Count = Annotated[int, Field(strict=True, ge=0, le=2_000_000_000)]
Version = Annotated[int, Field(strict=True, ge=0, le=2**53)]
"""Compared as a number: the source's modified time in milliseconds, or its own revision count."""
RateBp = Annotated[int, Field(strict=True, ge=0, le=10_000)]
"""A rate in basis points: 1300 is 13 %."""
Code = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
"""A stable machine word: channels, carriers, reasons, states. Enums on topics are open, so this is all that is checked."""
Id = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""An identifier given by somebody else, kept as text (numbers above 2^53 occur)."""
SkuId = Id
PlaceId = Id
Text = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")]
LongText = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00]*$")]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
RegionCode = Annotated[str, StringConstraints(pattern=r"^[0-9]{6}$")]
"""GB/T 2260: two digits each for province, city and district; zeros where unknown."""
Moment = AwareDatetime


class Contract(BaseModel):
    """Base of everything on a topic. Unknown fields are kept, so that they survive a service that does not know them."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Event(Contract):
    """One message on one topic."""

    TOPIC: ClassVar[str]
    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1

    @property
    def key(self) -> str:
        """Kafka's key: what keeps its order."""
        raise NotImplementedError

    @property
    def subject(self) -> str:
        """`ce_subject`: the thing the event speaks of."""
        return self.key

    def extensions(self) -> dict[str, str]:
        """Further CloudEvents attributes, by name without the `ce_` prefix. Readers may use them without decoding the body."""
        return {}


class Progress(Contract):
    """Where an order stands in the emitting service after this change; copied into the header `ce_progress`.

    The order book (ingest) is built from these alone: per order and service the highest `step` wins.
    """

    step: Annotated[int, Field(strict=True, ge=1)]
    """The service's count of changes of this order, under the root's lock: 1, 2, 3, …"""
    stage: Code
    """The order's state in the emitter's words: received, held, cleared, reserved, routed, allocated, shipped, …"""
    code: Code
    """Why, as a stable reason code with an English and a Chinese text."""
    params: dict[str, Any] = Field(default_factory=dict)
    """What the reason's text names: place, waybill number, amounts. Never personal data. At most 1 KiB as JSON."""
    attempt: Annotated[int, Field(strict=True, ge=0, lt=1000)] = 0
    """The attempt (stock.reserved) that this report belongs to; 0 before there is one. A report of a later attempt outranks all
    of an earlier one, so the book shows an order that came back from a place as reserved, not as routed."""


class OrderEvent(Event):
    """An event about one order: keyed by the root order, so that everything about it arrives in order."""

    root_id: UUID
    order_id: UUID
    progress: Progress
    replaces: list[UUID] = Field(default_factory=list, max_length=100)
    """Orders whose place this one takes, together with its siblings: the parent of a whole split, the parents of a merge.
    Stands on the first event of each new order; copied into the header `ce_replaces`."""

    @property
    def key(self) -> str:
        return str(self.root_id)

    @property
    def subject(self) -> str:
        return str(self.order_id)

    def extensions(self) -> dict[str, str]:
        extensions = {"progress": self.progress.model_dump_json()}
        if self.replaces:
            extensions["replaces"] = ",".join(map(str, self.replaces))
        return extensions


class Compacted(Event):
    """A fact on a compacted topic: the highest `version` per key wins, whatever order it arrives in."""

    version: Version
    deleted: bool = False
    """A tombstone that stays listed: the thing is gone, its id is never used again."""
