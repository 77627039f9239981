"""Settings of fulfilment, from `OMS_FULFILLMENT_*`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from fulfillment.domain import Policy
from webapi.settings import EventSettings, Key, key_bytes

WEEK_SECONDS = 7 * 24 * 3600


class Settings(EventSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_FULFILLMENT_")

    receiver_kek: Key
    """Unwraps the data keys of sealed receivers; ingest has the same. 32 bytes in base64: `openssl rand -base64 32`."""
    receiver_kek_id: Annotated[str, Field(min_length=1, max_length=64)] = "1"
    """Name of the key above, as ingest writes it beside every sealed receiver."""
    receiver_older_keks: dict[str, Key] | None = None
    """Keys that were in use before, by name, as a JSON object: what they sealed stays readable after a change of key."""
    ship_seconds: Annotated[float, Field(ge=0, le=WEEK_SECONDS)] = 0.0
    """How long the automatic connector takes to pick and pack; 0 ships in the transaction that takes the order on."""
    delivery_seconds: Annotated[float, Field(ge=0, le=30 * 24 * 3600)] | None = None
    """When the automatic connector reports delivery, counted from shipping. Unset: never; carriers report it."""
    packaging_grams: Annotated[int, Field(ge=0, le=100_000)] = 150
    """Carton and filling of one parcel: what a small e-commerce carton weighs."""
    freight_first_kg_minor: Annotated[int, Field(ge=0, le=10_000_000)] = 600
    """Freight of the first kilogram where the plan carries no cost: ¥6, a common contract price inside China."""
    freight_next_kg_minor: Annotated[int, Field(ge=0, le=10_000_000)] = 200
    """Freight of each further kilogram begun, likewise."""
    default_carrier: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")] = "sf"
    """Who carries what a plan gave to no carrier: SF Express reaches every county."""

    def policy(self) -> Policy:
        return Policy(
            ship_seconds=self.ship_seconds,
            delivery_seconds=self.delivery_seconds,
            packaging_grams=self.packaging_grams,
            freight_first_kg_minor=self.freight_first_kg_minor,
            freight_next_kg_minor=self.freight_next_kg_minor,
            default_carrier=self.default_carrier,
        )

    def keks(self) -> dict[str, bytes]:
        """All key-encryption keys by name."""
        older = {name: key_bytes(secret) for name, secret in (self.receiver_older_keks or {}).items()}
        return older | {self.receiver_kek_id: key_bytes(self.receiver_kek)}
